"""A request's body, bounded in bytes and in time."""

from __future__ import annotations

import asyncio
import io

from starlette.requests import Request

from .middleware import Exchange
from .pool import Pool
from .status import MALFORMED, TIMEOUT, TOO_LARGE, UNSUPPORTED, Refused

RAW = "send the file itself as the body: curl --data-binary @FILE"


async def body_of(request: Request, exchange: Exchange, pool: Pool) -> bytes:
    """Takes a place, then reads. Raises Refused, and ClientDisconnect."""
    if request.headers.get("content-type", "").lower().startswith("multipart/"):
        raise Refused(UNSUPPORTED, f"forms are not taken; {RAW}")
    encodings = ",".join(request.headers.getlist("content-encoding")).lower().split(",")
    if any(encoding.strip() not in ("", "identity") for encoding in encodings):
        raise Refused(UNSUPPORTED, "compressed bodies are not taken")
    most = pool.limits.max_bytes
    if int(request.headers.get("content-length", "0")) > most:
        raise Refused(TOO_LARGE, f"the body has over {most:,} bytes")
    exchange.place = pool.enter()
    try:
        data = await asyncio.wait_for(_read(request, most), pool.limits.timeout)
    except asyncio.TimeoutError:
        raise Refused(TIMEOUT, f"the body didn't arrive within {pool.limits.timeout:g} s") from None
    if not data:
        raise Refused(MALFORMED, f"the body is empty; {RAW}")
    return data


async def _read(request: Request, most: int) -> bytes:
    data = io.BytesIO()  # whose value takes no second copy
    async for chunk in request.stream():
        if data.tell() + len(chunk) > most:
            raise Refused(TOO_LARGE, f"the body has over {most:,} bytes")
        data.write(chunk)
    return data.getvalue()
