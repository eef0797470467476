"""What holds for every request: who may ask, headers, clients that are slow to read, and bodies that nobody reads.

A server that answers before it has read the body and then closes makes the client's system throw the answer away, since
what the client still sends finds nobody. So after a refusal the rest of the body is read for a moment, and dropped.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .callers import Callers
from .pool import Gone
from .refusal import FORBIDDEN, one_line

if TYPE_CHECKING:
    from .pool import Place

HEADERS = [
    (b"cross-origin-opener-policy", b"same-origin"),  # the first two give the page threads
    (b"cross-origin-embedder-policy", b"require-corp"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
]
PIECE = 1 << 18  # bytes that are given to a slow client at a time
LINGER = 2.0  # seconds for which the rest of a refused body is dropped


class SlowReader(Exception):
    """The client takes the answer too slowly."""


class Door:
    """ASGI: around the application, outside everything else."""

    def __init__(self, app: ASGIApp, timeout: float, callers: Callers) -> None:
        self.app, self.timeout, self.callers = app, timeout, callers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        visit = Visit(scope, receive, send, self.timeout)
        scope["visit"] = visit
        try:
            app = self.app
            if refusal := self.callers.refusal(scope["method"], scope["headers"]):
                app = JSONResponse({"error": one_line(refusal)}, FORBIDDEN)
            elif scope["method"] == "HEAD":  # an answer to GET, of which uvicorn sends the headers alone
                scope = {**scope, "method": "GET"}
            await app(scope, visit.receive, visit.send)
        except (SlowReader, ClientDisconnect, Gone):  # uvicorn closes the connection
            pass
        except Exception:  # it is a bug; the client has got its 500
            traceback.print_exc()
        finally:
            if visit.place:
                visit.place.let_go()


class Visit:
    """One request on its way."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, timeout: float) -> None:
        self._receive, self._send, self.timeout = receive, send, timeout
        self.place: Place | None = None  # in the pool
        headers = dict(scope["headers"])
        self.unread = b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
        self._until: float | None = None  # when the answer must have gone, if it holds a place

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            self.unread = False
        return message

    async def gone(self) -> None:
        """Is over when the client has hung up. Only once the body has been read."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def send(self, message: Message) -> None:
        """Raises SlowReader."""
        if message["type"] == "http.response.start":
            closing = [(b"connection", b"close")] if self.unread else []
            await self._send({**message, "headers": [*message.get("headers", ()), *HEADERS, *closing]})
            self._until = time.monotonic() + self.timeout if self.place else None
            return
        for piece in _pieces(message, last=not message.get("more_body") and not self.unread):
            left = self.timeout if self._until is None else self._until - time.monotonic()
            try:
                await asyncio.wait_for(self._send(piece), left)
            except asyncio.TimeoutError:
                raise SlowReader from None
        if self.unread and not message.get("more_body"):
            await self._drop()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _drop(self) -> None:
        """Reads the rest of the body, for a moment."""

        async def rest() -> None:
            while self.unread:
                await self.receive()

        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(rest(), min(self.timeout, LINGER))


def _pieces(message: Message, last: bool) -> Iterator[Message]:
    """A message of a body in parts; the final one ends the answer if it is the `last` message."""
    body = message.get("body", b"")
    for at in range(0, max(len(body), 1), PIECE):
        more = not last or at + PIECE < len(body)
        yield {"type": "http.response.body", "body": body[at : at + PIECE], "more_body": more}
