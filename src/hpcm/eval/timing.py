"""Where the time of a model goes: its networks, timed apart from what is called in between."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from ..nn.arrays import Array
from ..nn.drivers import Pop, StepSymbols
from ..nn.loop import Loop
from ..nn.stoppable import Stoppable


class Stopwatch:
    """Seconds of parts of a work. A part may begin inside another one, which stands still meanwhile.

    Args:
        wait: returns when a device has done what it was given; called before each look at the clock.
    """

    def __init__(self, wait: Callable[[], None] = lambda: None) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._wait = wait

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        already = sum(self.seconds.values())
        begin = self._now()
        yield
        elapsed = self._now() - begin
        inside = sum(self.seconds.values()) - already  # of parts that began and ended in this one
        self.seconds[name] += elapsed - inside

    def reset(self) -> None:
        self.seconds.clear()

    def _now(self) -> float:
        self._wait()
        return time.perf_counter()


class TimedNetworks(Stoppable):
    """The networks of an engine; their work counts as "network", the entropy decoder that they call as "entropy"."""

    def __init__(self, networks: Loop, watch: Stopwatch) -> None:
        super().__init__(networks, check=lambda: None)  # it is never stopped
        self._watch = watch

    def analyse(self, x: Array) -> Array:
        with self._watch.part("network"):
            return self.networks.analyse(x)

    def encode(
        self, y: Array, level: int, inside: tuple[int, int] | None = None, z: Array | None = None
    ) -> tuple[list[StepSymbols], Array]:
        with self._watch.part("network"):
            return self.networks.encode(y, level, inside, z)

    def decode(self, pop: Pop, size: tuple[int, int], level: int, inside: tuple[int, int] | None = None) -> Array:
        with self._watch.part("network"):
            return self.networks.decode(self._timed(pop), size, level, inside)

    def synthesise(self, y_hat: Array) -> Array:
        with self._watch.part("network"):
            return self.networks.synthesise(y_hat)

    def _timed(self, pop: Pop) -> Pop:
        def timed(scales: np.ndarray) -> np.ndarray:
            with self._watch.part("entropy"):
                return pop(scales)

        return timed
