"""Every failure as JSON with one line, {"error": "..."}."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from ..errors import HPCMError
from .refusal import BROKEN, WRONG, Refused, one_line, refusal

METHOD = 405
Handler = Callable[[Request, Any], Coroutine[Any, Any, Response]]


async def _refused(_: Request, error: Refused) -> Response:
    return JSONResponse({"error": one_line(error)}, error.status, error.headers)


async def _failed(request: Request, error: HPCMError | MemoryError) -> Response:
    return await _refused(request, refusal(error))


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    """FastAPI's findings about parameters."""
    found = [f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors()]
    return await _refused(request, Refused(WRONG, "; ".join(found)))


async def _misled(request: Request, error: HTTPException) -> Response:
    """A URL that isn't there, or another method."""
    path = request.url.path
    text = f"{request.method} is not for {path}" if error.status_code == METHOD else f"there is nothing at {path}"
    return JSONResponse({"error": one_line(text)}, error.status_code, error.headers)


async def _broken(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": "the server has failed at this; its log says more"}, BROKEN)


HANDLERS: dict[int | type[Exception], Handler] = {
    Refused: _refused,
    HPCMError: _failed,
    MemoryError: _failed,
    RequestValidationError: _invalid,
    HTTPException: _misled,
    Exception: _broken,
}
