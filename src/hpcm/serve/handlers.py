"""FastAPI's exception handlers: every failure as JSON with one line, {"error": "..."}."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from ..errors import HPCMError
from .queries import parameters
from .status import BROKEN, WRONG, Refused, one_line, refusal

NO_CONTENT, METHOD = 204, 405
LONGEST_INPUT = 40  # characters of it that a message repeats
ALLOWED = {  # by pydantic's type of an error
    **dict.fromkeys(["int_parsing", "int_type"], "one whole number"),
    **dict.fromkeys(["float_parsing", "float_type", "finite_number"], "one finite number"),
    "bool_parsing": "true or false",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "{ge} or more",
    "less_than": "less than {lt}",
    "less_than_equal": "{le} or less",
    "literal_error": "{expected}",
    "string_too_long": "a text of at most {max_length} characters",
    "string_pattern_mismatch": "LEFT,TOP,RIGHT,BOTTOM in pixels",  # only `box` has a pattern
}
Handler = Callable[[Request, Any], Coroutine[Any, Any, Response]]


async def _refused(_: Request, error: Refused) -> Response:
    return JSONResponse({"error": one_line(error)}, error.status, error.headers)


async def _failed(request: Request, error: HPCMError | MemoryError) -> Response:
    return await _refused(request, refusal(error))


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    """Wrong parameters, of which FastAPI has a list."""
    return await _refused(request, Refused(WRONG, "; ".join(_message(request, each) for each in error.errors())))


def _message(request: Request, error: dict[str, Any]) -> str:
    """What a parameter is and what is allowed, from one of pydantic's errors."""
    name = ".".join(map(str, error["loc"][1:]))
    if error["type"] == "extra_forbidden":
        return f"{name}: there is no such parameter; there are {', '.join(parameters(request.url.path))}"
    if error["type"] not in ALLOWED:
        return f"{name}: {error['msg']}"
    allowed = ALLOWED[error["type"]].format(**error.get("ctx", {}))
    return f"{name}: {str(error['input'])[:LONGEST_INPUT]!r} was given; allowed is {allowed}"


async def _misled(request: Request, error: HTTPException) -> Response:
    """A URL that isn't there, or another method; OPTIONS, which asks for the methods, is answered by them."""
    path = request.url.path
    if error.status_code != METHOD:
        return JSONResponse({"error": one_line(f"there is nothing at {path}")}, error.status_code)
    headers = {"Allow": allowed_methods((error.headers or {}).get("Allow", ""))}
    if request.method == "OPTIONS":
        return Response(status_code=NO_CONTENT, headers=headers)
    text = f"{request.method} is not for {path}, which takes {headers['Allow']}"
    return JSONResponse({"error": one_line(text)}, METHOD, headers)


def allowed_methods(routed: str) -> str:
    """The methods that a URL takes, from those that are routed: the middleware answers HEAD wherever there is GET."""
    methods = {method.strip() for method in routed.split(",")}
    return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))


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
