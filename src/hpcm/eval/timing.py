"""Where the time of a model goes: its transforms, and what codes its latents."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
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
    """Seconds of parts of a work. Engines give numpy's arrays, so that no device is still at work when they return."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def timed(self, engine: Engine) -> Engine:
        """The same engine, whose methods are timed from now on."""
        for name, part in PARTS.items():
            setattr(engine, name, self._timed(getattr(engine, name), part))
        return engine

    def reset(self) -> None:
        self.seconds.clear()

    def _timed(self, work: Callable[P, R], part: str) -> Callable[P, R]:
        def timed(*args: P.args, **kwargs: P.kwargs) -> R:
            start = time.perf_counter()
            result = work(*args, **kwargs)
            self.seconds[part] += time.perf_counter() - start
            return result

        return timed
