"""Work on several threads whose results come in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")


def side_by_side(
    work: Callable[[Given], Made],
    given: Iterable[Given],
    threads: int,
    waiting: int | None = None,
    on_end: Callable[[], object] = lambda: None,
) -> Iterator[Made]:
    """What `work` makes of each, in their order, on so many threads.

    `given` is read as it is needed: at most `waiting` of them, by default one for each thread, are read before the
    result of the first is taken. With one thread everything happens in the caller's. `on_end` is called before what is
    still at work is waited for, also when the caller is interrupted or takes no more.
    """
    if threads == 1:
        yield from map(work, given)
        return
    with ThreadPoolExecutor(threads) as pool:
        begun: deque[Future[Made]] = deque()
        try:
            for each in given:
                if len(begun) == (waiting or threads):
                    yield begun.popleft().result()
                begun.append(pool.submit(work, each))
            while begun:
                yield begun.popleft().result()
        finally:
            on_end()
            for future in begun:
                future.cancel()
