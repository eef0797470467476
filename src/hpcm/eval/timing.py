"""Where the time of a model goes: its transforms, and what codes its latents."""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from copy import copy
from typing import ParamSpec, TypeVar

from ..codec.engine import Engine

P = ParamSpec("P")
R = TypeVar("R")

PARTS = {  # an engine's methods, and what their time counts as
    "analyse": "transforms",
    "synthesise": "transforms",
    "encode": "entropy",
    "decode": "entropy",
}


class Stopwatch:
    """Seconds of parts of a work. Engines give numpy's arrays, so that no device is still at work when they return.

    Several threads may call at once, for several tiles. Then the calls share the time that passes.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._calls: Counter[str] = Counter()  # that are at work, by part
        self._since = 0.0  # when one began or ended last
        self._lock = threading.Lock()

    def timed(self, engine: Engine) -> Engine:
        """The same engine with methods that are timed."""
        methods: dict[str, Callable] = {name: self._timed(getattr(engine, name), part) for name, part in PARTS.items()}
        methods["stoppable"] = lambda check: self.timed(engine.stoppable(check))
        timed = copy(engine)
        for name, method in methods.items():
            setattr(timed, name, method)
        return timed

    def reset(self) -> None:
        self.seconds.clear()

    def _timed(self, work: Callable[P, R], part: str) -> Callable[P, R]:
        def timed(*args: P.args, **kwargs: P.kwargs) -> R:
            self._count(part, 1)
            try:
                return work(*args, **kwargs)
            finally:
                self._count(part, -1)

        return timed

    def _count(self, part: str, change: int) -> None:
        """A call begins (1) or ends (-1): the time since the last change is that of the calls at work until now."""
        with self._lock:
            now = time.perf_counter()
            for each, calls in self._calls.items():
                if calls:
                    self.seconds[each] += (now - self._since) * calls / self._calls.total()
            self._since = now
            self._calls[part] += change
