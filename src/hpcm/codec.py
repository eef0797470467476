"""Codec: picture <-> bytes. The only module that knows both the networks and the file format.

    compress:    picture -> tiles -> y -> symbols, step by step -> bytes of each tile -> container
    decompress:  container -> symbols, step by step -> y_hat of each tile -> y_hat of the picture -> picture

Latents that touch no real pixel, only padding, are not coded.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from .container import Container, Tile, pack, unpack
from .entropy.coder import Decoder, Encoder, checksum
from .entropy.tables import Tables
from .errors import CorruptError, FormatError, MismatchError, PictureNotice, UsageError
from .model.drivers import Symbols
from .model.hpcm import HPCM
from .picture import MAX_PIXELS, Picture, from_image, pack_alpha, to_image, unpack_alpha
from .tiles import Box, Tiling, extent, latents_inside
from .weights import DEFAULT_MODEL, WeightsFile, find, find_hash, load_model

QUALITIES = 100  # a quality 1..100 is mapped evenly onto the model's levels
DEFAULT_QUALITY = 50
MAX_TILE_SIDE = 4096  # pixels; a tile is decoded at once, so its size bounds the memory. Ours have TILE_SIDE


class Codec:
    """One loaded model that turns pictures into bytes and back.

    Example:
        codec = hpcm.load("nano")
        data = codec.compress(Image.open("photo.jpg"), quality=60)
        codec.decompress(data).save("photo.png")

    Several threads may use one Codec at once. What the process has set up in torch, such as gradients, autocast or
    another default dtype, has no influence.
    """

    def __init__(self, weights: WeightsFile, model: HPCM, tables: Tables) -> None:
        self.weights, self.model, self.tables = weights, model, tables
        self.hash = weights.hash  # read now: a training run writes its weights anew
        self.levels = model.config.levels

    def compress(
        self,
        image: Image.Image,
        *,
        quality: int | None = None,
        bpp: float | None = None,
        psnr: float | None = None,
    ) -> bytes:
        """Compresses a Pillow image to a .hpcm file.

        Args:
            quality: 1 (smallest) to 100 (best); DEFAULT_QUALITY unless one of the others is given.
            bpp: the best level whose file, all included, takes at most so many bits per pixel.
            psnr: the lowest level that reaches so many dB (RGB or grey, over all pixels).

        Raises PictureError, UsageError. A picture that had to be converted, or a target that no level reaches, gives a
        PictureNotice (a warning).
        """
        if sum(choice is not None for choice in (quality, bpp, psnr)) > 1:
            raise UsageError("quality, bpp and psnr exclude one another: give one")
        for name, target in (("bpp", bpp), ("psnr", psnr)):
            if target is not None and not 0 < target < float("inf"):
                raise UsageError(f"{name} is {target}: it must be a positive number")
        level = self.level_of(DEFAULT_QUALITY if quality is None else quality)
        job = _Job(self, from_image(image))
        with _undisturbed(self.model):
            if bpp is not None:
                return job.smaller_than(bpp)
            return job.at(level) if psnr is None else job.at(job.level_for(psnr))

    def decompress(self, data: bytes) -> Image.Image:
        """Decodes a .hpcm file made with this model.

        Raises FormatError (TruncatedError, CorruptError) for a damaged file, MismatchError where the decoded symbols
        are not those that were encoded.
        """
        container = unpack(data)
        self._check(container)
        size = (container.height, container.width)
        alpha = None if container.alpha is None else unpack_alpha(container.alpha, size)
        grey = container.colour == "grey"
        depth = container.bit_depth if grey and alpha is None else 8  # Pillow has no more for the others
        tiling = Tiling(self.model, size, container.tile_side)
        with _undisturbed(self.model):
            y_hat = tiling.empty_latent()
            for box, tile in zip(tiling, container.tiles, strict=True):
                tiling.place(y_hat, box, self._decode_tile(tile, box, tiling.padded(extent(box)), container.level))
            pixels = tiling.synthesise(y_hat, depth, grey)
        return to_image(Picture(pixels, alpha, container.icc, container.exif))

    def level_of(self, quality: int) -> int:
        """Quality 1..100 -> level. Raises UsageError."""
        if not 1 <= quality <= QUALITIES:
            raise UsageError(f"quality is {quality}: it must be 1 (smallest) to {QUALITIES} (best)")
        return round((quality - 1) / (QUALITIES - 1) * (self.levels - 1))

    def _check(self, container: Container) -> None:
        """Whether this model may decode a file, and the memory that it claims is bounded. Raises as `decompress`."""
        if container.model_hash != self.hash:
            raise MismatchError(
                f"the file was made with model {container.model!r} of hash {container.model_hash.hex()}, "
                f"this is {self.weights.name!r} of hash {self.hash.hex()}"
            )
        if container.level >= self.levels:
            raise FormatError(f"the file has quality level {container.level}, the model only {self.levels}")
        if container.width * container.height > MAX_PIXELS:
            raise FormatError(f"the file claims {container.width} x {container.height} pixels, over {MAX_PIXELS:,}")
        if container.tile_side > MAX_TILE_SIDE:
            raise FormatError(f"the file has tiles of {container.tile_side} pixels, this hpcm reads {MAX_TILE_SIDE}")

    def _decode_tile(self, tile: Tile, box: Box, size: tuple[int, int], level: int) -> Tensor:
        """y_hat [1, M, h, w] of a tile. Raises CorruptError, MismatchError."""
        decoder = Decoder(self.tables, tile.payload)
        total, impossible = 0, None

        def pop(scales: NDArray[np.float32]) -> NDArray[np.int32]:
            nonlocal total
            values = decoder.pop(self.tables.index(scales))
            total = checksum(values, total)
            return values

        try:
            y_hat = self.model.decode(pop, size, level, latents_inside(box))
        except CorruptError as error:  # the payload's CRC is right, so that the symbols were asked for wrongly
            impossible = error
        if impossible or total != tile.checksum:
            raise MismatchError(
                f"the decoded symbols of the tile at {box[:2]} are not those that were encoded: the model's arithmetic "
                "gave other numbers here; decode on the machine where the file was made"
            ) from impossible
        decoder.finish()
        return y_hat


class _Job:
    """One picture on its way to bytes; while levels are tried, its latents are computed once."""

    def __init__(self, codec: Codec, picture: Picture) -> None:
        self.codec, self.picture = codec, picture
        self.tiling = Tiling(codec.model, picture.size)
        self._latents: dict[Box, Tensor] | None = None

    def at(self, level: int) -> bytes:
        """The file at a level."""
        tiles = []
        for box in self.tiling:
            symbols, _ = self._encode(box, level)
            encoder, total = Encoder(self.codec.tables), 0
            for values, scales in symbols:
                encoder.push(values, self.codec.tables.index(scales))
                total = checksum(values, total)
            tiles.append(Tile(encoder.finish(), total))
        picture, weights = self.picture, self.codec.weights
        container = Container(
            width=picture.size[1],
            height=picture.size[0],
            model=weights.name,
            model_hash=self.codec.hash,
            level=level,
            colour=picture.colour,
            bit_depth=picture.bit_depth,
            tile_side=self.tiling.side,
            icc=picture.icc,
            exif=picture.exif,
            alpha=self._alpha,
            tiles=tuple(tiles),
        )
        return pack(container)

    def smaller_than(self, bpp: float) -> bytes:
        """The file at the best level that takes at most `bpp`, or at the lowest, with a notice."""
        self._keep_latents()
        limit = bpp * self.picture.size[0] * self.picture.size[1] / 8
        at = lru_cache(self.at)
        best = self._lowest(lambda level: len(at(level)) > limit) - 1
        if best < 0:
            _note(f"no level takes {bpp:g} bits per pixel or less: the smallest file has {len(at(0))} bytes")
        return at(max(best, 0))

    def level_for(self, psnr: float) -> int:
        """The lowest level that reaches `psnr`, or the best, with a notice."""
        self._keep_latents()
        level = self._lowest(lambda level: self._psnr(level) >= psnr)
        if level == self.codec.levels:
            _note(f"no level of {self.codec.weights.name} reaches {psnr:g} dB on this picture: the best one was used")
        return min(level, self.codec.levels - 1)

    @cached_property
    def _alpha(self) -> bytes | None:
        return None if self.picture.alpha is None else pack_alpha(self.picture.alpha)

    def _keep_latents(self) -> None:
        self._latents = {box: self.tiling.analyse(self.picture, box) for box in self.tiling}

    def _encode(self, box: Box, level: int) -> tuple[list[Symbols], Tensor]:
        y = self.tiling.analyse(self.picture, box) if self._latents is None else self._latents[box]
        return self.codec.model.encode(y, level, latents_inside(box))

    def _psnr(self, level: int) -> float:
        y_hat = self.tiling.empty_latent()
        for box in self.tiling:
            self.tiling.place(y_hat, box, self._encode(box, level)[1])
        picture = self.picture
        decoded = self.tiling.synthesise(y_hat, picture.bit_depth, picture.colour == "grey")
        rows = zip(decoded, picture.pixels, strict=True)  # row by row: no copy of the picture in floats
        error = float(np.mean([np.mean((a.astype(np.float32) - b) ** 2) for a, b in rows]))
        return float("inf") if error == 0 else float(10 * np.log10(picture.peak**2 / error))

    def _lowest(self, reached: Callable[[int], bool]) -> int:
        """The lowest level for which `reached`, which grows with the level, is true; `levels` if there is none."""
        low, high = 0, self.codec.levels
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if reached(middle) else (middle + 1, high)
        return low


@contextmanager
def _undisturbed(model: HPCM) -> Iterator[None]:
    """Without gradients, and without an autocast that the caller may have switched on: it changes the numbers.

    Nor is it an inference mode, whoever set it: masks that are made here are cached, and training may use them later.
    """
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(model.z_means.device.type, enabled=False):
        yield


def _note(text: str) -> None:
    warnings.warn(text, PictureNotice, stacklevel=3)


# ---- the shortest way ------------------------------------------------------------------------------------------------


def load(name_or_path: str | Path = DEFAULT_MODEL, device: str = "cpu") -> Codec:
    """A model by name (see `hpcm.models()`), by weights file, or by a training run's folder.

    Raises ModelNotFoundError, WeightsError, and UsageError for a device that can't be used.
    """
    weights = find(name_or_path)
    try:
        torch.empty(1, device=device)
    except (AssertionError, RuntimeError) as error:  # a torch without CUDA, CUDA without a GPU, no name of a device
        raise UsageError(f"device {device} can't be used: {error}") from error
    return Codec(weights, *load_model(weights, device))


@lru_cache(maxsize=4)
def _cached(path: Path, modified: int, device: str) -> Codec:
    return load(path, device)


def _codec(weights: WeightsFile, device: str) -> Codec:
    """Loads a model once per process; a file that was written anew is loaded anew."""
    return _cached(weights.path, weights.path.stat().st_mtime_ns, device)


def load_for(data: bytes, device: str = "cpu") -> Codec:
    """The model that a .hpcm file names, loaded once per process. Raises FormatError, ModelNotFoundError."""
    container = unpack(data)
    return _codec(find_hash(container.model, container.model_hash), device)


def compress(
    image: Image.Image,
    *,
    quality: int | None = None,
    bpp: float | None = None,
    psnr: float | None = None,
    model: str | Path = DEFAULT_MODEL,
) -> bytes:
    """Compresses a Pillow image; see `Codec.compress`. The model is loaded once per process."""
    return _codec(find(model), "cpu").compress(image, quality=quality, bpp=bpp, psnr=psnr)


def decompress(data: bytes, *, model: str | Path | None = None) -> Image.Image:
    """Decodes a .hpcm file with the model that it names, or with `model`; see `Codec.decompress`."""
    codec = load_for(data) if model is None else _codec(find(model), "cpu")
    return codec.decompress(data)
