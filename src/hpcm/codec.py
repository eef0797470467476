"""Codec: picture <-> bytes. The only module that knows both the networks and the file format.

    compress:    picture -> tiles -> y -> symbols, step by step -> bytes of each tile -> container
    decompress:  container -> symbols, step by step -> y_hat of each tile -> y_hat of the picture -> picture

Latents that touch no real pixel, only padding, are not coded.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .coding.arrays import Array
from .container import CICP, COMMENTS, XMP, Box, Container, Tile, unpack
from .encoding import Encoding
from .engine.choice import Loaded
from .engine.choice import load as load_model
from .entropy.coder import Decoder, checksum
from .errors import CorruptError, FormatError, MismatchError, PictureNotice, UsageError
from .picture import Picture, from_image, to_image, unpack_alpha
from .tiles import Tiling, extent, latents_inside
from .weights import DEFAULT_MODEL, WeightsFile, find, find_hash

QUALITIES = 100  # a quality 1..100 is mapped evenly onto the model's levels
DEFAULT_QUALITY = 50
MAX_TILE_SIDE = 4096  # pixels; a tile is decoded at once, so its size bounds the memory. Ours have TILE_SIDE
MAX_DECODED = 1 << 28  # pixels of a picture that is decoded, unless the caller says otherwise: 0.8 GB as 8-bit RGB


class Codec:
    """One loaded model that turns pictures into bytes and back.

    Example:
        codec = hpcm.load("nano")
        data = codec.compress(Image.open("photo.jpg"), quality=60)
        codec.decompress(data).save("photo.png")

    Several threads may use one Codec at once. What the process has set up in torch, such as gradients, autocast or
    another default dtype, has no influence.
    """

    def __init__(self, loaded: Loaded, max_pixels: int = MAX_DECODED) -> None:
        self.loaded = loaded
        self.networks, self.tables, self.weights = loaded
        self.max_pixels = max_pixels
        self.levels = self.networks.config.levels
        self._told = bool(self.networks.config.carrier)  # that files may not decode elsewhere

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

        Raises PictureError, UsageError. A picture that had to be converted, a target that no level reaches, or a model
        that isn't exact gives a PictureNotice (a warning).
        """
        if self.weights.decodes_only:
            raise UsageError(f"{self.weights.name} is a retired model, of which only the decoder is left: take another")
        if sum(choice is not None for choice in (quality, bpp, psnr)) > 1:
            raise UsageError("quality, bpp and psnr exclude one another: give one")
        for name, target in (("bpp", bpp), ("psnr", psnr)):
            if target is not None and not 0 < target < float("inf"):
                raise UsageError(f"{name} is {target}: it must be a positive number")
        level = self.level_of(DEFAULT_QUALITY if quality is None else quality)
        job = Encoding(self.loaded, from_image(image))
        if not self._told:
            self._told = True
            warnings.warn(
                f"{self.weights.name} isn't exact: its files may not decode on another machine, and only with these "
                "very weights, which training replaces; `hpcm exact` makes a model to keep",
                PictureNotice,
                stacklevel=2,
            )
        with self.networks.undisturbed():
            if bpp is not None:
                return job.smaller_than(bpp)
            return job.at(level) if psnr is None else job.at(job.level_for(psnr))

    def decompress(self, data: bytes | Container, *, max_pixels: int | None = None) -> Image.Image:
        """Decodes a .hpcm file made with this model.

        Args:
            data: the file's bytes, or what `container.unpack` has made of them.
            max_pixels: a file that claims more is refused; by default what the codec was loaded with.

        Memory is taken for what was decoded and found right, row of tiles by row of tiles, not for what a file claims.
        Raises FormatError (TruncatedError, CorruptError) for a damaged file, MismatchError where the decoded symbols
        are not those that were encoded.
        """
        container = data if isinstance(data, Container) else unpack(data)
        self._check(container, self.max_pixels if max_pixels is None else max_pixels)
        size = (container.height, container.width)
        tiling = Tiling(self.networks, size, container.tile_side)
        tiles = iter(container.tiles)

        def latent(box: Box) -> Array:
            return self._decode_tile(next(tiles), box, tiling.padded(extent(box)), container.level)

        grey = container.colour == "grey"
        depth = container.bit_depth if grey and container.alpha is None else 8  # Pillow has no more for the others
        with self.networks.undisturbed():
            pixels = tiling.synthesise(latent, depth, grey)
        alpha = None if container.alpha is None else unpack_alpha(container.alpha, size)
        extra = dict(container.ancillary)
        extras = (extra.get(kind) for kind in (XMP, CICP, COMMENTS))
        return to_image(Picture(pixels, alpha, container.icc, container.exif, *extras))

    def level_of(self, quality: int) -> int:
        """Quality 1..100 -> level. Raises UsageError."""
        if not 1 <= quality <= QUALITIES:
            raise UsageError(f"quality is {quality}: it must be 1 (smallest) to {QUALITIES} (best)")
        return round((quality - 1) / (QUALITIES - 1) * (self.levels - 1))

    def _check(self, container: Container, max_pixels: int) -> None:
        """Whether this model may decode a file, and the memory that it claims is bounded. Raises as `decompress`."""
        if container.model_hash != self.weights.hash:
            raise MismatchError(
                f"the file was made with model {container.model!r} of hash {container.model_hash.hex()}, "
                f"this is {self.weights.name!r} of hash {self.weights.hash.hex()}"
            )
        if container.level >= self.levels:
            raise FormatError(f"the file has quality level {container.level}, the model only {self.levels}")
        if container.width * container.height > max_pixels:
            raise FormatError(
                f"the file claims {container.width} x {container.height} pixels, over {max_pixels:,}: "
                "allow more (max_pixels, --max-pixels) if you trust it"
            )
        if container.tile_side > MAX_TILE_SIDE:
            raise FormatError(f"the file has tiles of {container.tile_side} pixels, this hpcm reads {MAX_TILE_SIDE}")

    def _decode_tile(self, tile: Tile, box: Box, size: tuple[int, int], level: int) -> Array:
        """y_hat [1, M, h, w] of a tile. Raises CorruptError, MismatchError."""
        decoder = Decoder(self.tables, tile.payload)
        total, impossible = 0, None

        def pop(scales: NDArray[np.float32]) -> NDArray[np.int32]:
            nonlocal total
            values = decoder.pop(self.tables.index(scales))
            total = checksum(values, total)
            return values

        try:
            y_hat = self.networks.decode(pop, size, level, latents_inside(box))
        except CorruptError as error:  # the payload's CRC is right, so that the symbols were asked for wrongly
            impossible = error
        if impossible or total != tile.checksum:
            raise MismatchError(
                f"the decoded symbols of the tile at {box[:2]} are not those that were encoded: the model's arithmetic "
                "gave other numbers here; decode on the machine where the file was made"
            ) from impossible
        decoder.finish()
        return y_hat


# ---- the shortest way ------------------------------------------------------------------------------------------------


def load(
    name_or_path: str | Path = DEFAULT_MODEL,
    device: str = "cpu",
    *,
    engine: str = "auto",
    threads: int | None = None,
    max_pixels: int = MAX_DECODED,
) -> Codec:
    """A model by name (see `hpcm.models()`), by weights file, or by a training run's folder.

    A string is a name unless it has a separator or ends in .safetensors.

    Args:
        device: "cpu", or one of torch's, such as "cuda".
        engine: "onnx" (ONNX Runtime: exact models on the CPU), "torch", or "auto": the first where it can, which starts
            faster and needs no torch. Files are the same: either opens the other's.
        threads: of the CPU; by default one for each core. Torch's are the whole process's.
        max_pixels: of files that are decoded.

    Raises ModelNotFoundError, WeightsError, and UsageError for a device or engine that can't be used.
    """
    return Codec(load_model(find(name_or_path), engine, device, threads), max_pixels)


@lru_cache(maxsize=4)
def _cached(path: Path, modified: int, device: str, engine: str, threads: int | None) -> Codec:
    return load(path, device, engine=engine, threads=threads)


def _codec(weights: WeightsFile, device: str = "cpu", engine: str = "auto", threads: int | None = None) -> Codec:
    """Loads a model once per process; a file that was written anew is loaded anew."""
    return _cached(weights.path, weights.path.stat().st_mtime_ns, device, engine, threads)


def load_for(container: Container, device: str = "cpu", *, engine: str = "auto", threads: int | None = None) -> Codec:
    """The model that a .hpcm file names, loaded once per process. Raises ModelNotFoundError."""
    return _codec(find_hash(container.model, container.model_hash), device, engine, threads)


def compress(
    image: Image.Image,
    *,
    quality: int | None = None,
    bpp: float | None = None,
    psnr: float | None = None,
    model: str | Path = DEFAULT_MODEL,
) -> bytes:
    """Compresses a Pillow image; see `Codec.compress`. The model is loaded once per process."""
    return _codec(find(model)).compress(image, quality=quality, bpp=bpp, psnr=psnr)


def decompress(data: bytes, *, model: str | Path | None = None, max_pixels: int = MAX_DECODED) -> Image.Image:
    """Decodes a .hpcm file with the model that it names, or with `model`; see `Codec.decompress`."""
    container = unpack(data)
    codec = load_for(container) if model is None else _codec(find(model))
    return codec.decompress(container, max_pixels=max_pixels)
