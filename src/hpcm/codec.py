"""Codec: picture <-> bytes. The only module that knows both the networks and the file format.

A large picture is coded in tiles of TILE_SIDE pixels whose latents are entropy-coded independently of one another. Its
transforms know no tiles: each piece is analysed and synthesised with a halo of real neighbours as wide as the
transforms reach, so that the result equals that of the whole picture at once, and there are no seams:

      picture        +--------+   g_a    +----+           +----+    g_s   +--------+
      with halo      | +----+ |  ----->  |tile| -> bytes  |tile|  ----->  | +----+ |  of which the inner part is kept
                     | |tile| |          +----+           +----+ and the  | |tile| |
                     | +----+ |                             halo around   | +----+ |
                     +--------+                                           +--------+

Where a picture's side isn't a multiple of the model's own (64 pixels without attention) its last rows and columns are
repeated; latents that touch no real pixel are not coded.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from .container import Container, Tile, pack, unpack
from .entropy.coder import Decoder, Encoder, checksum
from .entropy.tables import Tables
from .errors import FormatError, MismatchError, PictureError, PictureNotice, UsageError
from .model.config import LATENT_STRIDE
from .model.hpcm import HPCM
from .model.transforms import receptive_halo
from .picture import Picture, from_image, pack_alpha, to_image, unpack_alpha
from .weights import DEFAULT_MODEL, WeightsFile, find, find_hash, load_model

TILE_SIDE = 1024  # pixels
QUALITIES = 100  # a quality 1..100 is mapped evenly onto the model's levels
DEFAULT_QUALITY = 50
MAX_PIXELS = 1 << 29  # of a picture to decode: a small file may claim any size

Box = tuple[int, int, int, int]  # left, top, right, bottom; right and bottom exclusive


class Codec:
    """One loaded model that turns pictures into bytes and back.

    Example:
        codec = hpcm.load("nano")
        data = codec.compress(Image.open("photo.jpg"), quality=60)
        codec.decompress(data).save("photo.png")
    """

    def __init__(self, weights: WeightsFile, model: HPCM, tables: Tables) -> None:
        self.weights, self.model, self.tables = weights, model, tables
        self.levels = model.config.levels
        self._halo = receptive_halo(model.config)

    # ---- pictures and bytes -----------------------------------------------------------------------------------------

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
            bpp: the best level whose file takes at most so many bits per pixel.
            psnr: the lowest level that reaches so many dB (RGB, over all pixels).

        Raises PictureError, UsageError. A picture that had to be converted, or a target that no level reaches, gives a
        PictureNotice (a warning).
        """
        if sum(choice is not None for choice in (quality, bpp, psnr)) > 1:
            raise UsageError("quality, bpp and psnr exclude one another: give one")
        picture = from_image(image)
        if picture.pixels.shape[0] * picture.pixels.shape[1] > MAX_PIXELS:
            raise PictureError(f"the picture has more than {MAX_PIXELS} pixels")
        if bpp is None and psnr is None:
            return self._compress(picture, self.level_of(DEFAULT_QUALITY if quality is None else quality))
        latents = {box: self._analyse(picture, box) for box in _boxes(picture.size)}
        if bpp is not None:
            files = lru_cache(partial(self._compress, picture, latents=latents))  # type: ignore[var-annotated]
            pixels = picture.size[0] * picture.size[1]
            level = self._search(lambda level: 8 * len(files(level)) / pixels > bpp) - 1
            if level < 0:
                _note(f"no level takes {bpp:g} bits per pixel or less: the smallest file is {len(files(0))} bytes")
            return files(max(level, 0))
        level = self._search(lambda level: self._psnr(picture, level, latents) >= psnr)
        if level == self.levels:
            _note(f"no level of {self.weights.name} reaches {psnr:g} dB on this picture: the best one was used")
        return self._compress(picture, min(level, self.levels - 1), latents=latents)

    def decompress(self, data: bytes) -> Image.Image:
        """Decodes a .hpcm file made with this model.

        Raises FormatError (TruncatedError, CorruptError) for a damaged file, MismatchError where the decoded symbols
        are not those that were encoded.
        """
        container = unpack(data)
        if container.model_hash != self.weights.hash:
            raise MismatchError(
                f"the file was made with model {container.model!r} of hash {container.model_hash.hex()}, "
                f"this is {self.weights.name!r} of hash {self.weights.hash.hex()}"
            )
        if container.level >= self.levels:
            raise FormatError(f"the file has quality level {container.level}, the model only {self.levels}")
        if container.width * container.height > MAX_PIXELS:
            raise FormatError(f"the file claims {container.width} x {container.height} pixels, over {MAX_PIXELS}")
        size = (container.height, container.width)
        alpha = None if container.alpha is None else unpack_alpha(container.alpha, size)
        y_hat = self._empty_latent(size)
        for box, tile in zip(container.tile_boxes(), container.tiles, strict=True):
            self._place(y_hat, box, self._decode_tile(tile, box, container.level))
        pixels = self._synthesise(y_hat, size, container.bit_depth, container.colour == "grey")
        return to_image(Picture(pixels, alpha, container.icc, container.exif))

    def level_of(self, quality: int) -> int:
        """Quality 1..100 -> level. Raises UsageError."""
        if not 1 <= quality <= QUALITIES:
            raise UsageError(f"quality is {quality}: it must be 1 (smallest) to {QUALITIES} (best)")
        return round((quality - 1) / (QUALITIES - 1) * (self.levels - 1))

    # ---- encoding ---------------------------------------------------------------------------------------------------

    def _compress(self, picture: Picture, level: int, latents: dict[Box, Tensor] | None = None) -> bytes:
        tiles = []
        for box in _boxes(picture.size):
            y = self._analyse(picture, box) if latents is None else latents[box]
            symbols, _ = self._encode(y, box, level)
            encoder, total = Encoder(self.tables), 0
            for values, scales in symbols:
                encoder.push(values, self.tables.index(scales))
                total = checksum(values, total)
            tiles.append(Tile(encoder.finish(), total))
        container = Container(
            width=picture.size[1],
            height=picture.size[0],
            model=self.weights.name,
            model_hash=self.weights.hash,
            level=level,
            colour=picture.colour,
            bit_depth=picture.bit_depth,
            tile_side=TILE_SIDE,
            icc=picture.icc,
            exif=picture.exif,
            alpha=None if picture.alpha is None else pack_alpha(picture.alpha),
            tiles=tuple(tiles),
        )
        return pack(container)

    @torch.inference_mode()
    def _encode(self, y: Tensor, box: Box, level: int):  # type: ignore[no-untyped-def]
        return self.model.encode(y, level, _latents_inside(box))

    @torch.inference_mode()
    def _analyse(self, picture: Picture, box: Box) -> Tensor:
        """y [1, M, h, w] of a tile, padded to the model's multiple."""
        outer, inner = self._outer(box, picture.size)
        x = _tensor(picture, outer, self.model.z_means.device)
        y = self.model.analyse(x.contiguous(memory_format=torch.channels_last))
        return y[:, :, inner[1] : inner[3], inner[0] : inner[2]].contiguous(memory_format=torch.channels_last)

    def _psnr(self, picture: Picture, level: int, latents: dict[Box, Tensor]) -> float:
        y_hat = self._empty_latent(picture.size)
        for box, y in latents.items():
            self._place(y_hat, box, self._encode(y, box, level)[1])
        decoded = self._synthesise(y_hat, picture.size, picture.bit_depth, picture.colour == "grey")
        error = float(np.mean([_squared_error(a, b) for a, b in zip(decoded, picture.pixels, strict=True)]))
        return float("inf") if error == 0 else float(10 * np.log10(picture.peak**2 / error))

    def _search(self, reached: Callable[[int], bool]) -> int:
        """The lowest level for which `reached`, which grows with the level, is true; `levels` if there is none."""
        low, high = 0, self.levels
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if reached(middle) else (middle + 1, high)
        return low

    # ---- decoding ---------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _decode_tile(self, tile: Tile, box: Box, level: int) -> Tensor:
        """y_hat [1, M, h, w] of a tile. Raises CorruptError, MismatchError."""
        decoder = Decoder(self.tables, tile.payload)
        total = 0

        def pop(scales: NDArray[np.float32]) -> NDArray[np.int32]:
            nonlocal total
            values = decoder.pop(self.tables.index(scales))
            total = checksum(values, total)
            return values

        rows, columns = self._padded((box[3] - box[1], box[2] - box[0]))
        y_hat = self.model.decode(pop, (rows, columns), level, _latents_inside(box))
        if total != tile.checksum:
            raise MismatchError(
                f"the decoded symbols of the tile at {box[:2]} are not those that were encoded: the model's arithmetic "
                "gave other numbers on this machine; decode where the file was made, with the same thread count"
            )
        decoder.finish()
        return y_hat

    @torch.inference_mode()
    def _synthesise(self, y_hat: Tensor, size: tuple[int, int], bit_depth: int, grey: bool) -> NDArray:
        """Pixels [H, W, 3] or, for grey, [H, W]."""
        peak = 2**bit_depth - 1
        pixels = np.empty(size if grey else (*size, 3), np.uint8 if bit_depth == 8 else np.uint16)
        for box in _boxes(size):
            outer, inner = self._outer(box, size)
            cells = [side // LATENT_STRIDE for side in outer]
            x_hat = self.model.synthesise(y_hat[:, :, cells[1] : cells[3], cells[0] : cells[2]])
            left, top, right, bottom = box
            down, across = inner[1] * LATENT_STRIDE, inner[0] * LATENT_STRIDE
            x_hat = x_hat[0, :, down : down + bottom - top, across : across + right - left]
            x_hat = x_hat.mean(0) if grey else x_hat.permute(1, 2, 0)
            values = x_hat.mul(peak).round_().clamp_(0, peak)
            pixels[top:bottom, left:right] = values.cpu().numpy().astype(pixels.dtype)
        return pixels

    def _empty_latent(self, size: tuple[int, int]) -> Tensor:
        """Room for y_hat of a whole picture, [1, M, h, w]."""
        shape = (1, self.model.config.M, *self._padded(size))
        return torch.empty(shape, device=self.model.z_means.device, memory_format=torch.channels_last)

    def _place(self, y_hat: Tensor, box: Box, tile: Tensor) -> None:
        left, top = box[0] // LATENT_STRIDE, box[1] // LATENT_STRIDE
        y_hat[:, :, top : top + tile.shape[2], left : left + tile.shape[3]] = tile

    # ---- geometry ---------------------------------------------------------------------------------------------------

    def _padded(self, size: tuple[int, int]) -> tuple[int, int]:
        """Latents of a picture of `size` pixels, padded to the model's multiple."""
        multiple = self.model.config.multiple
        rows, columns = (-(-side // multiple) * multiple // LATENT_STRIDE for side in size)
        return rows, columns

    def _outer(self, box: Box, size: tuple[int, int]) -> tuple[Box, Box]:
        """A tile with its halo, in pixels of the padded picture, and where the tile lies in that, in latents."""
        height, width = self._padded(size)
        left, top = box[0] // LATENT_STRIDE, box[1] // LATENT_STRIDE
        rows, columns = self._padded((box[3] - box[1], box[2] - box[0]))
        x0, y0 = max(left - self._halo, 0), max(top - self._halo, 0)
        x1, y1 = min(left + columns + self._halo, width), min(top + rows + self._halo, height)
        stride = LATENT_STRIDE
        inner = (left - x0, top - y0, left - x0 + columns, top - y0 + rows)
        return (x0 * stride, y0 * stride, x1 * stride, y1 * stride), inner


def _boxes(size: tuple[int, int]) -> list[Box]:
    """The tiles of a picture, row by row."""
    height, width = size
    return [
        (left, top, min(left + TILE_SIDE, width), min(top + TILE_SIDE, height))
        for top in range(0, height, TILE_SIDE)
        for left in range(0, width, TILE_SIDE)
    ]


def _latents_inside(box: Box) -> tuple[int, int]:
    """Rows and columns of latents that touch the tile's pixels."""
    return -(-(box[3] - box[1]) // LATENT_STRIDE), -(-(box[2] - box[0]) // LATENT_STRIDE)


def _tensor(picture: Picture, box: Box, device: torch.device) -> Tensor:
    """The pixels of a box that may reach beyond the picture, there repeating its edge: [1, 3, h, w] in 0..1."""
    left, top, right, bottom = box
    pixels = picture.pixels[top : min(bottom, picture.size[0]), left : min(right, picture.size[1])]
    planes = np.ascontiguousarray(pixels if pixels.ndim == 3 else pixels[..., None])
    x = torch.from_numpy(planes.astype(np.float32)).to(device).permute(2, 0, 1)[None].div_(picture.peak)
    x = F.pad(x, (0, right - left - x.shape[3], 0, bottom - top - x.shape[2]), mode="replicate")
    return x.expand(-1, 3, -1, -1)


def _squared_error(a: NDArray, b: NDArray) -> float:
    return float(np.mean((a.astype(np.float32) - b) ** 2))


def _note(text: str) -> None:
    warnings.warn(text, PictureNotice, stacklevel=3)


# ---- the shortest way ------------------------------------------------------------------------------------------------


def load(name_or_path: str | Path = DEFAULT_MODEL, device: str = "cpu") -> Codec:
    """A model by name (see `hpcm.models()`), by weights file, or by training run. Raises ModelNotFoundError, WeightsError."""
    weights = find(name_or_path)
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
