"""Ladder: models of one quality level each, from a low lambda to a high one, as one codec. `load`: a name -> a codec.

    quality   1                                                       100
              |-----------|-----------|-----------|-----------|-----------|
    rung      base-0018   base-0035   base-0067   base-0130   base-0250   base-0483

A quality takes the rung whose lambda is nearest to it on a logarithmic scale; bpp and psnr search among the rungs. A
file names the model that it was made with, a single one, so decoding knows nothing of ladders.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from ..engine.choice import load as load_model
from ..errors import MismatchError, UsageError
from ..format.fields import Container
from ..image.picture import from_image
from ..image.read import Source, image_of
from ..model.find import DEFAULT_MODEL, WeightsFile, rungs
from ..nn.loop import Loop
from ..nn.stoppable import Check
from .codec import DEFAULT_QUALITY, MAX_DECODED, Codec, check_target, share_of
from .encoder import Encoding, explored
from .tiles import TILE_SIDE


class Ladder(Codec):
    """Several models as one codec. A rung is loaded when it is needed and takes the place of the one before.

    A search by bpp or psnr keeps those that it has tried.

    Args:
        models: of one quality level, by rising lambda.
        where: device, engine, threads and wrap, as for `engine.choice.load`.
    """

    def __init__(self, models: Sequence[WeightsFile], max_pixels: int = MAX_DECODED, **where: Any) -> None:
        self.models = list(models)
        self.max_pixels = max_pixels
        self.levels = len(self.models)
        self._where = where
        self._rungs: dict[int, Codec] = {}
        self._loading = threading.Lock()

    def compress(
        self,
        image: Source,
        *,
        quality: int | None = None,
        bpp: float | None = None,
        psnr: float | None = None,
        **how: Any,
    ) -> bytes:
        """Compresses a picture with one of the models; see `Codec.compress`."""
        check_target(quality, bpp, psnr)
        if bpp is None and psnr is None:
            level = self.level_of(DEFAULT_QUALITY if quality is None else quality)
            return self.rung(level).compress(image, **how)
        picture = image_of(image)
        form = how.get("tile", TILE_SIDE), how.get("progressive")
        level, found = self._search(picture, bpp, psnr, *form, check=how.get("check"))
        if found is None or how.get("effort"):
            return self.rung(level, keep=True).compress(picture, bpp=bpp, psnr=psnr, **how)
        return found

    def level_of(self, quality: int) -> int:
        """Quality 1..100 -> the rung whose lambda is nearest, 0 for the lowest. Raises UsageError."""
        places = [math.log(model.lmbda or 1) for model in self.models]
        wanted = places[0] + share_of(quality) * (places[-1] - places[0])
        return min(range(self.levels), key=lambda level: abs(places[level] - wanted))

    def rung(self, level: int, keep: bool = False) -> Codec:
        """The codec of one model; unless they are to be kept, the others are given up when it is loaded."""
        with self._loading:
            if level not in self._rungs:
                if not keep:
                    self._rungs.clear()
                self._rungs[level] = Codec(load_model(self.models[level], **self._where), self.max_pixels)
            return self._rungs[level]

    def _search(
        self,
        image: Image.Image,
        bpp: float | None,
        psnr: float | None,
        tile: int,
        progressive: bool | None,
        check: Check | None = None,
    ) -> tuple[int, bytes | None]:
        """The rung that meets a target and its file, or the one that comes nearest and None."""
        picture = from_image(image)
        limit = (bpp or 0) * picture.size[0] * picture.size[1] / 8

        @lru_cache(maxsize=self.levels)
        def tried(level: int) -> tuple[bytes, float]:
            """The file, and its PSNR where that is asked for."""
            codec = self.rung(level, keep=True)
            codec.tell_if_inexact()
            job = Encoding(codec.checked(check), picture, tile, progressive)
            with codec.networks.undisturbed():
                return job.at(0), math.nan if psnr is None else job.psnr(0)

        if psnr is None:
            target = -limit
            values = explored(range(self.levels - 1, -1, -1), lambda level: -len(tried(level)[0]), target)
        else:
            target = psnr
            values = explored(range(self.levels), lambda level: tried(level)[1], target)
        met = sorted(level for level, value in values.items() if value >= target)
        if not met:
            return max(values, key=lambda level: (values[level], -level)), None
        level = met[-1] if psnr is None else min(met, key=lambda level: len(tried(level)[0]))
        return level, tried(level)[0]

    def _decoded(self, container: Container, *part: Any) -> Image.Image:
        by_name = sorted(range(self.levels), key=lambda level: self.models[level].name != container.model)
        for level in by_name:  # hashing takes time
            if self.models[level].hash == container.model_hash:
                return self.rung(level)._decoded(container, *part)
        names = ", ".join(model.name for model in self.models)
        made_with = f"{container.model!r} of hash {container.model_hash.hex()}"
        raise MismatchError(f"the file was made with model {made_with}, which is none of {names}")


def load(
    name_or_path: str | Path = DEFAULT_MODEL,
    device: str = "cpu",
    *,
    engine: str = "auto",
    threads: int | None = None,
    max_pixels: int = MAX_DECODED,
) -> Codec:
    """A model by name (see `hpcm.models()`), by weights file, or by a training run's folder; or a `Ladder` by its name.

    A string is a name unless it has a separator or ends in .safetensors.

    Args:
        device: "cpu", or one of torch's, such as "cuda".
        engine: "onnx" (ONNX Runtime: exact models on the CPU), "torch", or "auto": the first where it can, which starts
            faster and needs no torch. Files are the same: either opens the other's.
        threads: of the CPU; by default one for each core. Torch's are the whole process's.
        max_pixels: of files that are decoded.

    Raises ModelNotFoundError, WeightsError, and UsageError for a device, engine or threads that can't be used.
    """
    return codec_of(rungs(name_or_path), device, engine, threads, max_pixels)


def codec_of(
    models: Sequence[WeightsFile],
    device: str = "cpu",
    engine: str = "auto",
    threads: int | None = None,
    max_pixels: int = MAX_DECODED,
    wrap: Callable[[Loop], Loop] | None = None,
) -> Codec:
    """What `find.rungs` has found, as a codec; see `load`, and `engine.choice.load` for `wrap`."""
    if threads is not None and threads < 1:
        raise UsageError(f"threads is {threads}: it must be 1 or more, or None for one on each core")
    where: dict[str, Any] = {"device": device, "engine": engine, "threads": threads, "wrap": wrap}
    if len(models) > 1:
        return Ladder(models, max_pixels, **where)
    return Codec(load_model(models[0], **where), max_pixels)
