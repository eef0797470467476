"""hpcm.load, compress, decompress, decompress_array and preview: from a model's name to a codec.

    name or path --(model/find.py)--> weights files --(codec/engine.py)--> engine --> Codec

`load` gives a codec to keep. The others keep theirs: each model is loaded once per process.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..defaults import DEFAULT_MODEL, MAX_DECODED
from ..format.container import unpack
from ..format.fields import Container
from ..image.planes import Samples
from ..image.read import File, Source, bytes_of
from ..model.file import WeightsFile, describe
from ..model.find import find_all, find_hash
from .codec import Codec

if TYPE_CHECKING:
    from .latents import FileLatents

_loading = threading.Lock()  # lru_cache alone lets every thread load that asks before the first is done


def load(
    name_or_path: str | Path = DEFAULT_MODEL,
    device: str = "cpu",
    *,
    engine: str = "auto",
    threads: int | None = None,
    max_pixels: int = MAX_DECODED,
) -> Codec:
    """A model by name (see `hpcm.models()`), by weights file, or by a training run's folder.

    A string is a name unless it has a separator or ends in .safetensors. A name may stand for several models of one
    quality level each.

    Args:
        device: "cpu", or one of torch's, such as "cuda".
        engine: "core" (the native library: exact models on the CPU, without attention), "torch", or "auto": the first
            where it can, which starts faster and needs no torch. Files are the same: either opens the other's.
        threads: of the CPU; by default one for each core. Torch's are the whole process's.
        max_pixels: of files that are decoded.

    Raises ModelNotFoundError, WeightsError, and UsageError for a device, engine or threads that can't be used.
    """
    return Codec(find_all(name_or_path), device, engine=engine, threads=threads, max_pixels=max_pixels)


def compress(image: Source, *, model: str | Path = DEFAULT_MODEL, **how: Any) -> bytes:
    """Compresses a picture with a model that is loaded once per process; for the rest see `Codec.compress`."""
    return _kept(find_all(model)).compress(image, **how)


def decompress(data: File, *, model: str | Path | None = None, **how: Any) -> Image.Image:
    """Decodes a .hpcm file with the model that it names, or with `model`; for the rest see `Codec.decompress`."""
    container = unpack(bytes_of(data))
    return _named(container, model).decompress(container, **how)


def decompress_array(data: File, *, model: str | Path | None = None, **how: Any) -> Samples:
    """Decodes a .hpcm file to an array, with all its bits; for the rest see `Codec.decompress_array`."""
    container = unpack(bytes_of(data))
    return _named(container, model).decompress_array(container, **how)


def preview(data: File, *, model: str | Path | None = None, **how: Any) -> Image.Image:
    """The picture that the beginning of a .hpcm file allows; for the rest see `Codec.preview`."""
    container = unpack(bytes_of(data), partial=True)
    return _named(container, model).preview(container, **how)


def latents(data: File, *, model: str | Path | None = None, device: str = "cpu") -> FileLatents:
    """The latents of a .hpcm file, with what they were decoded from and their bits; it needs torch.

    Args:
        data, model: as for `decompress`.
        device: one of torch's.

    Raises as `Codec.decompress`, and UsageError for a file without a lossy picture, or without torch.
    """
    container = unpack(bytes_of(data))
    codec = _named(container, model, device, "torch")
    from .latents import latents_of  # which imports torch

    return latents_of(codec, container)


def codec_for(container: Container, device: str = "cpu", *, engine: str = "auto", threads: int | None = None) -> Codec:
    """The codec of the model that a .hpcm file names, loaded once per process. Raises ModelNotFoundError."""
    return _kept([find_hash(container.model, container.model_hash)], device, engine, threads)


def _named(container: Container, model: str | Path | None, device: str = "cpu", engine: str = "auto") -> Codec:
    if model is None:
        return codec_for(container, device, engine=engine)
    return _kept(find_all(model), device, engine)


def _kept(
    models: Sequence[WeightsFile], device: str = "cpu", engine: str = "auto", threads: int | None = None
) -> Codec:
    """The codec of some models, loaded once per process; a file that was written anew is loaded anew."""
    versions = tuple((weights.path, weights.path.stat().st_mtime_ns) for weights in models)
    with _loading:
        return _loaded_once(versions, device, engine, threads)


@lru_cache(maxsize=4)
def _loaded_once(versions: tuple[tuple[Path, int], ...], device: str, engine: str, threads: int | None) -> Codec:
    return Codec([describe(path) for path, _ in versions], device, engine=engine, threads=threads)
