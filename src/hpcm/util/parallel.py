"""Work on several threads whose results come in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from threading import Event
from typing import TypeVar

Check = Callable[[], None]  # raises to end the work
Given = TypeVar("Given")
Made = TypeVar("Made")


def side_by_side(
    work: Callable[[Given, Check | None], Made],
    given: Iterable[Given],
    threads: int,
    *,
    waiting: int | None = None,
    check: Check | None = None,
) -> Generator[Made]:
    """What `work` makes of each, in their order, on so many threads.

    `given` is read as it is needed: at most `waiting` of them, by default one for each thread, are read before the
    result of the first is taken. With one thread everything happens in the caller's.

    Args:
        work: also gets what it is to call again and again: `check`, or on several threads a function that calls it.
            That one also raises when the caller is interrupted or takes no more: what is at work then is waited for.

    Raises what `work` raises, of the first of those that fail.
    """
    if threads == 1:
        for each in given:
            yield work(each, check)
        return
    ended = Event()

    def check_both() -> None:
        if ended.is_set():
            raise CancelledError
        if check is not None:
            check()

    with ThreadPoolExecutor(threads) as pool:
        begun: deque[Future[Made]] = deque()
        try:
            for each in given:
                if len(begun) == (waiting or threads):
                    yield begun.popleft().result()
                begun.append(pool.submit(work, each, check_both))
            while begun:
                yield begun.popleft().result()
        finally:
            ended.set()
            for future in begun:
                future.cancel()
