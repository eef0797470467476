"""One picture -> bytes: at a level, or at the level that meets a target of size or quality."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cached_property, lru_cache

import numpy as np

from .coding.arrays import Array
from .coding.drivers import StepSymbols
from .coding.schedule import pass_ends
from .container import pack
from .engine.choice import Loaded
from .entropy.coder import Encoder, checksum
from .errors import PictureNotice
from .fields import CICP, COMMENTS, PASSES, XMP, Box, Container, Part, Tile
from .metrics import psnr_of_mse
from .picture import Picture, pack_alpha
from .tiles import TILE_SIDE, Tiling, latents_inside

PROGRESSIVE = 4096  # bytes of a tile, on average, from which on being progressive is worth its 10 to 14 bytes


class Encoding:
    """One picture on its way to bytes; while levels are tried, its latents are computed once."""

    def __init__(
        self, loaded: Loaded, picture: Picture, tile: int = TILE_SIDE, progressive: bool | None = None
    ) -> None:
        self.networks, self.tables, self.weights = loaded
        self.picture = picture
        self.levels = self.networks.config.levels
        self.tiling = Tiling(self.networks, picture.size, tile)
        self.progressive = progressive
        self._latents: dict[Box, Array] | None = None

    def at(self, level: int) -> bytes:
        """The file at a level."""
        tiles = [self._tile(box, level) for box in self.tiling]
        size = sum(len(part.payload) for tile in tiles for part in tile)
        progressive = size >= PROGRESSIVE * len(tiles) if self.progressive is None else self.progressive
        if not progressive:
            tiles = [(Part(b"".join(part.payload for part in tile), tile[-1].checksum),) for tile in tiles]
        picture, weights = self.picture, self.weights
        ancillary = ((CICP, picture.cicp), (COMMENTS, picture.comments), (XMP, picture.xmp))
        container = Container(
            passes=PASSES if progressive else 1,
            width=picture.size[1],
            height=picture.size[0],
            model=weights.name,
            model_hash=weights.hash,
            level=level,
            colour=picture.colour,
            bit_depth=picture.bit_depth,
            tile_side=self.tiling.side,
            icc=picture.icc,
            exif=picture.exif,
            alpha=self._alpha,
            ancillary=tuple((kind, data) for kind, data in ancillary if data),
            tiles=tuple(tiles),
        )
        return pack(container)

    def _tile(self, box: Box, level: int) -> Tile:
        """A tile in as many parts as there are scales."""
        symbols, _ = self._encode(box, level)
        encoder, total = Encoder(self.tables), 0
        ends, checksums = pass_ends(self.networks.config), []
        for i, (values, scales) in enumerate(symbols, 1):
            encoder.push(values, self.tables.index(scales))
            total = checksum(values, total)
            if i in ends:
                encoder.cut()
                checksums.append(total)
        payloads = encoder.finish()  # the last is empty: nothing comes after the last cut
        short = [total & 0xFFFF for total in checksums[:-1]]
        return tuple(map(Part, payloads, [*short, checksums[-1]]))

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
        if level == self.levels:
            _note(f"no level of {self.weights.name} reaches {psnr:g} dB on this picture: the best one was used")
        return min(level, self.levels - 1)

    @cached_property
    def _alpha(self) -> bytes | None:
        return None if self.picture.alpha is None else pack_alpha(self.picture.alpha)

    def _keep_latents(self) -> None:
        self._latents = {box: self.tiling.analyse(self.picture, box) for box in self.tiling}

    def _encode(self, box: Box, level: int) -> tuple[list[StepSymbols], Array]:
        y = self.tiling.analyse(self.picture, box) if self._latents is None else self._latents[box]
        return self.networks.encode(y, level, latents_inside(box))

    def _psnr(self, level: int) -> float:
        picture = self.picture
        decoded = self.tiling.synthesise(
            lambda box: self._encode(box, level)[1], picture.bit_depth, picture.colour == "grey"
        )
        rows = zip(decoded, picture.pixels, strict=True)  # row by row: no copy of the picture in floats
        error = float(np.mean([np.mean((a.astype(np.float32) - b) ** 2) for a, b in rows]))
        return psnr_of_mse(error, picture.peak)

    def _lowest(self, reached: Callable[[int], bool]) -> int:
        """The lowest level for which `reached`, which grows with the level, is true; `levels` if there is none."""
        low, high = 0, self.levels
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if reached(middle) else (middle + 1, high)
        return low


def _note(text: str) -> None:
    warnings.warn(text, PictureNotice, stacklevel=4)
