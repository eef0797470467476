"""Calls of several threads become one batch.

On a GPU one picture alone leaves most of the chip idle. Whoever calls waits until the device is free; the first then
computes for all that wait for the same kind of work, and gives each its result:

    thread 1   work on [1]      work on [2, 3, 4]
    thread 2   waits . . . . .  waits . . . . . .  result
    thread 3   waits . . . . .  waits . . . . . .  result
    thread 4   waits . . . . .  works for all      result

So nobody waits for calls that may never come, and codec/ knows no batches, only threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, TypeVar, cast

Given = TypeVar("Given")
Made = TypeVar("Made")

Work = Callable[[Sequence[Given]], Iterable[Made]]  # what is given by all -> what is made for each


class _Call:
    """A call that waits, and then its result."""

    def __init__(self, given: Any) -> None:
        self.given = given
        self.results: list[Any] = []  # one, as soon as there is a result


class Batches:
    """Joins the calls of several threads, up to `most` at once, and computes one batch at a time."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._device = threading.Lock()  # who has it computes
        self._queue = threading.Lock()  # who has it changes `_waiting`
        self._waiting: dict[Hashable, list[_Call]] = {}  # that nobody computes yet

    def __call__(self, key: Hashable, given: Given, work: Work[Given, Made]) -> Made:
        """What `work` makes of `given`, together with other calls of the same `key`, whose work is the same.

        Raises what `work` raises. Where it raises for several, each is computed alone: what is too much for the device,
        or wrong in one call, is no matter of the others.
        """
        call = _Call(given)
        with self._queue:
            self._waiting.setdefault(key, []).append(call)
        try:
            with self._device:
                if not call.results:
                    self._compute(key, call, work)
        finally:
            self._take(key, call)  # if it still waits, because the caller was interrupted
        return cast(Made, call.results[0])

    def _compute(self, key: Hashable, own: _Call, work: Work[Given, Made]) -> None:
        """Computes a call with those that wait for the same; of another batch, which failed, it is computed alone."""
        calls = [own, *self._waiting_with(key, own)]
        try:
            results = work([call.given for call in calls])
        except Exception:
            if len(calls) == 1:
                raise
            calls, results = [own], work([own.given])  # the others find that they have no result, and do the same
        for call, result in zip(calls, results, strict=True):
            call.results.append(result)

    def _waiting_with(self, key: Hashable, own: _Call) -> list[_Call]:
        """Takes a call and up to `most - 1` others out of those that wait; gives the others."""
        if not self._take(key, own):
            return []
        with self._queue:
            waiting = self._waiting.get(key, [])
            others, left = waiting[: self.most - 1], waiting[self.most - 1 :]
            self._keep(key, left)
        return others

    def _take(self, key: Hashable, call: _Call) -> bool:
        """Takes a call out of those that wait. Gives whether it was among them."""
        with self._queue:
            waiting = self._waiting.get(key, [])
            if call not in waiting:
                return False
            self._keep(key, [other for other in waiting if other is not call])
            return True

    def _keep(self, key: Hashable, waiting: list[_Call]) -> None:
        """Sets those that wait; keys for which nobody does are forgotten."""
        self._waiting.pop(key, None)
        if waiting:
            self._waiting[key] = waiting


def one_by_one(key: Hashable, given: Given, work: Work[Given, Made]) -> Made:
    """Computes each call by itself, and those of several threads side by side: for a CPU."""
    (made,) = work([given])
    return made
