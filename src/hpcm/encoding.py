"""One picture -> bytes: at a level, or at the level that meets a target of size or quality."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cached_property, lru_cache

import numpy as np

from .coding.arrays import Array
from .coding.drivers import StepSymbols
from .container import CICP, COMMENTS, XMP, Box, Container, Tile, pack
from .engine.choice import Loaded
from .entropy.coder import Encoder, checksum
from .errors import PictureNotice
from .metrics import psnr_of_mse
from .picture import Picture, pack_alpha
from .tiles import Tiling, latents_inside


class Encoding:
    """One picture on its way to bytes; while levels are tried, its latents are computed once."""

    def __init__(self, loaded: Loaded, picture: Picture) -> None:
        self.networks, self.tables, self.weights = loaded
        self.picture = picture
        self.levels = self.networks.config.levels
        self.tiling = Tiling(self.networks, picture.size)
        self._latents: dict[Box, Array] | None = None

    def at(self, level: int) -> bytes:
        """The file at a level."""
        tiles = []
        for box in self.tiling:
            symbols, _ = self._encode(box, level)
            encoder, total = Encoder(self.tables), 0
            for values, scales in symbols:
                encoder.push(values, self.tables.index(scales))
                total = checksum(values, total)
            tiles.append(Tile(encoder.finish(), total))
        picture, weights = self.picture, self.weights
        ancillary = ((CICP, picture.cicp), (COMMENTS, picture.comments), (XMP, picture.xmp))
        container = Container(
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
