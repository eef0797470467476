"""The shortest way: pictures to bytes and back in one call, with models that are loaded once per process."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from ..defaults import DEFAULT_MODEL
from ..format.container import unpack
from ..format.fields import Container
from ..image.read import File, Source, bytes_of
from ..model.file import WeightsFile, describe
from ..model.find import find_all, find_hash
from .codec import Codec
from .ladder import codec_of


@lru_cache(maxsize=4)
def _cached(versions: tuple[tuple[Path, int], ...], device: str, engine: str, threads: int | None) -> Codec:
    return codec_of([describe(path) for path, _ in versions], device, engine, threads)


def _codec(models: list[WeightsFile], device: str = "cpu", engine: str = "auto", threads: int | None = None) -> Codec:
    """Loads a model, or a ladder of them, once per process; a file that was written anew is loaded anew."""
    versions = tuple((weights.path, weights.path.stat().st_mtime_ns) for weights in models)
    return _cached(versions, device, engine, threads)


def load_for(container: Container, device: str = "cpu", *, engine: str = "auto", threads: int | None = None) -> Codec:
    """The model that a .hpcm file names, loaded once per process. Raises ModelNotFoundError."""
    return _codec([find_hash(container.model, container.model_hash)], device, engine, threads)


def compress(image: Source, *, model: str | Path = DEFAULT_MODEL, **how: Any) -> bytes:
    """Compresses a picture with a model that is loaded once per process; for the rest see `Codec.compress`."""
    return _codec(find_all(model)).compress(image, **how)


def decompress(data: File, *, model: str | Path | None = None, **how: Any) -> Image.Image:
    """Decodes a .hpcm file with the model that it names, or with `model`; for the rest see `Codec.decompress`."""
    container = unpack(bytes_of(data))
    return _named(container, model).decompress(container, **how)


def preview(data: File, *, model: str | Path | None = None, **how: Any) -> Image.Image:
    """The picture that the beginning of a .hpcm file allows; for the rest see `Codec.preview`."""
    container = unpack(bytes_of(data), partial=True)
    return _named(container, model).preview(container, **how)


def _named(container: Container, model: str | Path | None) -> Codec:
    return load_for(container) if model is None else _codec(find_all(model))
