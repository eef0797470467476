"""Places for requests, and the threads that do their work.

    request --> place, or 503 --> body --> thread (waits for one) --> answer sent --> place is free again

A place is taken before the body is read, and free only when the answer is sent *and* the thread is done. A thread
can't be stopped from outside: when nobody waits for its result any more an event is set, and the work looks at it
between its steps. Until then it holds its picture. So there are never more bodies than places.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from .limits import Limits
from .status import BUSY, TOO_LONG, Refused

T = TypeVar("T")


class Gone(Exception):
    """The client has closed the connection."""


class Pool:
    """Used from one event loop."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.taken = 0  # places
        self.working = 0  # threads
        self._threads = ThreadPoolExecutor(limits.workers, "hpcm")

    def enter(self) -> Place:
        """Raises Refused where all places are taken."""
        if self.taken == self.limits.places:
            raise Refused(BUSY, f"{self.taken} requests are being served already: try again")
        return Place(self)

    async def run(self, place: Place, work: Callable[[threading.Event], T], disconnected: Awaitable[Any]) -> T:
        """Does the work in a thread. Raises what it raises, Refused where it takes too long, Gone.

        Args:
            disconnected: ends when the client has closed the connection.
        """
        stop, begun = threading.Event(), asyncio.Event()
        done = self._submit(partial(work, stop), begun, place)
        begins, disconnects = asyncio.ensure_future(begun.wait()), asyncio.ensure_future(disconnected)
        try:
            if not await self._any(begins, done, disconnects):
                raise Refused(BUSY, "no worker was free for too long: try again")
            if not await self._any(done, disconnects):
                raise Refused(TOO_LONG, f"it takes longer than {self.limits.timeout:g} s")
            if not done.done():
                raise Gone
            return done.result()
        finally:
            stop.set()
            for waiting in (done, begins, disconnects):  # a future that no thread has begun is cancelled with `done`
                waiting.cancel()

    def _submit(self, work: Callable[[], T], begun: asyncio.Event, place: Place) -> asyncio.Future[T]:
        """The result of the work, for which a thread is awaited; `begun` is set when there is one.

        The thread holds the place, too, until it is done.
        """
        loop = asyncio.get_running_loop()

        def job() -> T:
            loop.call_soon_threadsafe(self._begin, begun)
            return work()

        def over(_: Future[T]) -> None:
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._end, begun, place)

        place.holders += 1
        future = self._threads.submit(job)
        future.add_done_callback(over)
        return asyncio.wrap_future(future)

    async def _any(self, *these: asyncio.Future[Any]) -> bool:
        """Waits for the first of these, at most `timeout`; whether there is one."""
        done, _ = await asyncio.wait(these, timeout=self.limits.timeout, return_when=asyncio.FIRST_COMPLETED)
        return bool(done)

    def _begin(self, begun: asyncio.Event) -> None:
        self.working += 1
        begun.set()

    def _end(self, begun: asyncio.Event, place: Place) -> None:
        self.working -= begun.is_set()
        place.release()

    def close(self) -> None:
        """Without waiting for the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class Place:
    """One of a pool's, held by the request and, while it works, by a thread."""

    def __init__(self, pool: Pool) -> None:
        self.pool, self.holders = pool, 1
        pool.taken += 1

    def release(self) -> None:
        self.holders -= 1
        self.pool.taken -= not self.holders
