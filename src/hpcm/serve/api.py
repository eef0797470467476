"""The HTTP application: operations for programs, and the files of the page."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from .. import __version__
from ..defaults import MIME_TYPE
from .handlers import HANDLERS, METHOD
from .limits import Limits
from .middleware import Exchange
from .models import Models
from .pool import Pool
from .queries import CompressQuery, DecompressQuery
from .site import INDEX, Asset
from .upload import body_of
from .work import Answer, Worker

ALL_KINDS = "image/*"
PICTURES = ("image/png", "image/webp", "image/jpeg")


class Problem(BaseModel):
    error: str


ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "the body is damaged, or of a kind that isn't taken"},
    408: {"model": Problem, "description": "the body arrives too slowly"},
    413: {"model": Problem, "description": "too many bytes or pixels"},
    415: {"model": Problem, "description": "the body is a form, or compressed"},
    422: {"model": Problem, "description": "a parameter is wrong, or doesn't suit the picture"},
    503: {"model": Problem, "description": "too many requests at once; Retry-After says when to try again"},
    504: {"model": Problem, "description": "the work takes too long"},
}


def application(models: Models, limits: Limits, files: dict[str, Asset]) -> FastAPI:
    """What is behind the middleware; `state.pool` does the work."""
    app = FastAPI(
        title="hpcm",
        version=__version__,
        description="A learned image codec. A body is a file as it is, without a form.",
        docs_url=None,  # FastAPI's pages load scripts from elsewhere, which the browser refuses here
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers=HANDLERS,
    )
    app.state.pool = Pool(limits)
    _add_work(app, app.state.pool, Worker(models, limits))
    _add_facts(app, app.state.pool, models)
    app.router.default = _Files(files)
    return app


def _add_work(app: FastAPI, pool: Pool, worker: Worker) -> None:
    @app.post("/compress", summary="A picture to a .hpcm file", **_described(ALL_KINDS, MIME_TYPE))
    async def compress(request: Request, query: Annotated[CompressQuery, Query()]) -> Response:
        """The answer's headers X-Hpcm-Model and X-Hpcm-Bpp name the model and the bits per pixel, and X-Hpcm-Notice
        says what of the picture was converted or left out."""
        weights = worker.models.encoder(query.model)
        work = partial(worker.compress, weights=weights, how=query.how(), appearance=query.appearance())
        return _response(await _done(request, pool, work))

    @app.post("/decompress", summary="A .hpcm file to a picture", **_described(MIME_TYPE, *PICTURES))
    async def decompress(request: Request, query: Annotated[DecompressQuery, Query()]) -> Response:
        """The file's own model decodes it."""
        return _response(await _done(request, pool, partial(worker.decompress, **query.how())))

    @app.post("/info", summary="What a .hpcm file says", **_described(MIME_TYPE, "application/json"))
    async def info(request: Request) -> Response:
        """All checksums are tried; nothing is decoded. A progress below 1 means that the file was cut short."""
        return JSONResponse(await _done(request, pool, worker.info))


def _add_facts(app: FastAPI, pool: Pool, models: Models) -> None:
    @app.get("/health", summary="Whether the server is up, and how busy")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "requests": pool.taken, "places": pool.limits.places, "working": pool.working}

    @app.get("/models", name="models", summary="The models, which all decode, and which of them compress")
    async def list_models() -> dict[str, Any]:
        return {"default": models.default.name, "models": models.listed()}


class _Files:
    """ASGI: what answers a URL that is no operation. For GET and HEAD, which the middleware makes a GET."""

    def __init__(self, files: dict[str, Asset]) -> None:
        self.files = files

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = await run_in_threadpool(self.answer, Request(scope))
        await answer(scope, receive, send)

    def answer(self, request: Request) -> Response:
        asset = self.files.get(request.url.path.removeprefix("/") or INDEX)
        if asset is None:
            raise HTTPException(404)
        if request.method != "GET":
            raise HTTPException(METHOD, headers={"Allow": "GET"})
        try:
            etag = asset.etag()
        except OSError:  # it was deleted
            raise HTTPException(404) from None
        headers = {"ETag": etag, "Cache-Control": asset.cache}
        known = [name.strip().removeprefix("W/") for name in request.headers.get("if-none-match", "").split(",")]
        if etag in known or known == ["*"]:
            return Response(status_code=304, headers=headers)
        if isinstance(asset.source, bytes) or asset.packed:
            return Response(asset.read(), media_type=asset.kind, headers=headers)
        return FileResponse(asset.source, media_type=asset.kind, headers=headers)


async def _done(request: Request, pool: Pool, work: Any) -> Any:
    """The result of `work` on the request's body, in a thread of the pool."""
    exchange: Exchange = request.scope["exchange"]
    job = partial(work, await body_of(request, exchange, pool))
    assert exchange.place is not None  # body_of has taken it
    return await pool.run(exchange.place, job, exchange.disconnected())


def _response(answer: Answer) -> Response:
    return Response(answer.body, media_type=answer.kind, headers=answer.headers)


def _described(takes: str, *gives: str) -> dict[str, Any]:
    """For the schema: kinds of the body and of the answer."""
    raw = {"schema": {"type": "string", "format": "binary"}}
    content = {kind: {} if kind == "application/json" else raw for kind in gives}
    body = {"required": True, "content": {takes: raw}}
    answers: dict[int | str, dict[str, Any]] = {200: {"content": content, "description": "the result"}, **ERRORS}
    return {"openapi_extra": {"requestBody": body}, "responses": answers, "response_class": Response}
