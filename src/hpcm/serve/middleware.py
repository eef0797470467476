"""What holds for every request: allowed hosts, headers, clients that are slow to read, and bodies that nobody reads.

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

from .hosts import AllowedHosts
from .pool import Gone
from .status import FORBIDDEN, one_line

if TYPE_CHECKING:
    from .pool import Place

HEADERS = [
    (b"cross-origin-opener-policy", b"same-origin"),  # the first two give the page threads
    (b"cross-origin-embedder-policy", b"require-corp"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
]
END: Message = {"type": "http.response.body", "body": b"", "more_body": False}
PIECE = 1 << 18  # bytes that are given to a slow client at a time
LINGER = 2.0  # seconds for which the rest of a refused body is dropped


class SlowReader(Exception):
    """The client takes the answer too slowly."""


class Middleware:
    """ASGI middleware: around the application, outside everything else."""

    def __init__(self, app: ASGIApp, timeout: float, hosts: AllowedHosts) -> None:
        self.app, self.timeout, self.hosts = app, timeout, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = Exchange(scope, receive, send, self.timeout)
        scope["exchange"] = exchange
        try:
            app = self.app
            if refusal := self.hosts.refusal(scope["method"], scope["headers"]):
                app = JSONResponse({"error": one_line(refusal)}, FORBIDDEN)
            elif scope["method"] == "HEAD":  # an answer to GET, of which uvicorn sends the headers alone
                scope = {**scope, "method": "GET"}
            await app(scope, exchange.receive, exchange.send)
        except (SlowReader, ClientDisconnect, Gone):  # uvicorn closes the connection
            pass
        except Exception:  # it is a bug; the client has got its 500
            traceback.print_exc()
        finally:
            if exchange.place:
                exchange.place.release()


class Exchange:
    """One request and its answer: what the application receives and sends goes through here."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, timeout: float) -> None:
        self._receive, self._send, self.timeout = receive, send, timeout
        self.place: Place | None = None  # in the pool
        headers = dict(scope["headers"])
        self.unread = b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"
        self._until: float | None = None  # when the answer must be sent, if it holds a place

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body"):
            self.unread = False
        return message

    async def disconnected(self) -> None:
        """Ends when the client has closed the connection. Only once the body has been read."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def send(self, message: Message) -> None:
        """Raises SlowReader."""
        if message["type"] == "http.response.start":
            await self._start(message)
            return
        last = not message.get("more_body")
        drops = last and self.unread  # then the answer ends after what is dropped
        for piece in _pieces(message, last=last and not drops):
            await self._send_in_time(piece)
        if drops:
            await self._drop_body()
            await self._send(END)

    async def _start(self, message: Message) -> None:
        """Sends the answer's headers; from now on its time is counted, if it holds a place."""
        closing = [(b"connection", b"close")] if self.unread else []
        await self._send({**message, "headers": [*message.get("headers", ()), *HEADERS, *closing]})
        self._until = time.monotonic() + self.timeout if self.place else None

    async def _send_in_time(self, piece: Message) -> None:
        """Raises SlowReader."""
        left = self.timeout if self._until is None else self._until - time.monotonic()
        try:
            await asyncio.wait_for(self._send(piece), left)
        except asyncio.TimeoutError:
            raise SlowReader from None

    async def _drop_body(self) -> None:
        """Reads the rest of the request's body, for a moment."""

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
