"""An engine that says how many tiles it likes to be given at once, and sees how many it is given."""

import itertools
import threading
from collections import Counter
from collections.abc import Callable
from threading import Barrier
from typing import Any

from hpcm.codec.engine import Engine

CALLS = ("analyse", "encode", "decode", "decode_known", "fill", "synthesise")
SECONDS = 60  # that a call waits for others before the test fails


class Watched:
    """An engine that says how many tiles it likes at once, and sees what it is given.

    Args:
        before: is called with the name of a method and its arguments, before it.
    """

    def __init__(self, engine: Engine, at_once: int, before: Callable[..., Any] = lambda *_: None) -> None:
        self.engine, self.at_once, self.before = engine, at_once, before
        self.inside, self.most, self.calls = Counter[str](), Counter[str](), Counter[str]()
        self.checks: list[Callable[[], None]] = []
        self.threads: set[threading.Thread] = set()
        self.lock = threading.Lock()

    @property
    def config(self):
        return self.engine.config

    def stoppable(self, check):
        self.checks.append(check)
        return Stoppable(self, self.engine.stoppable(check))

    def __getattr__(self, name):
        method = getattr(self.engine, name)
        return self.seen(name, method) if name in CALLS else method

    def seen(self, name, method):
        def call(*arguments):
            with self.lock:
                self.calls[name] += 1
                self.inside[name] += 1
                self.most[name] = max(self.most[name], self.inside[name])
                self.threads.add(threading.current_thread())
            try:
                self.before(name, *arguments)
                return method(*arguments)
            finally:
                with self.lock:
                    self.inside[name] -= 1

        return call


class Stoppable:
    """A watched engine whose work a check ends."""

    def __init__(self, watched: Watched, engine: Engine) -> None:
        self.watched, self.engine = watched, engine
        self.config, self.at_once, self.stoppable = watched.config, watched.at_once, watched.stoppable

    def __getattr__(self, name):
        method = getattr(self.engine, name)
        return self.watched.seen(name, method) if name in CALLS else method


def meeting(number: int) -> Callable[..., None]:
    """Makes the first so many calls of each method wait for one another, which they can only do on threads."""
    barriers = {name: Barrier(number, timeout=SECONDS) for name in CALLS}
    left = {name: itertools.repeat(None, number) for name in CALLS}

    def before(name: str, *_: Any) -> None:
        if next(left[name], barriers) is None:
            barriers[name].wait()

    return before
