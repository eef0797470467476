"""One picture -> bytes: at a level, or at the level that meets a target of size or quality."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from .coding.arrays import Array
from .coding.drivers import StepSymbols
from .coding.schedule import pass_ends
from .container import pack
from .engine.choice import Loaded
from .entropy.coder import Encoder, checksum
from .errors import PictureNotice
from .fields import PASSES, Box, Container, Part, Tile
from .metrics import psnr_of_mse
from .picture import Picture, pack_alpha
from .tiles import TILE_SIDE, Tiling, latents_inside

LOG = logging.getLogger(__name__)
PROGRESSIVE = 4096  # bytes of a tile, on average, from which on being progressive is worth its 10 to 14 bytes


class Latents(NamedTuple):
    """What a tile is coded from; without z, h_a makes it of y."""

    y: Array
    z: Array | None = None


Refine = Callable[["Encoding", int], Mapping[Box, Latents]]  # to the latents of all tiles at a level


class Encoding:
    """One picture on its way to bytes; while levels are tried, its latents are computed once."""

    def __init__(
        self,
        loaded: Loaded,
        picture: Picture,
        tile: int = TILE_SIDE,
        progressive: bool | None = None,
        refine: Refine | None = None,
    ) -> None:
        """`refine`: see effort.py; without it latents are those of g_a and h_a."""
        self.networks, self.tables, self.weights = loaded
        self.picture = picture
        self.levels = self.networks.config.levels
        self.tiling = Tiling(self.networks, picture.size, tile)
        self.progressive = progressive
        self.refine = refine
        self._latents: Mapping[Box, Latents] = {}

    # ---- what is asked for ------------------------------------------------------------------------------------------

    def at(self, level: int) -> bytes:
        """The file at a level."""
        return self._refined(level).file(level)

    def smaller_than(self, bpp: float) -> bytes:
        """The file at the best level that takes at most `bpp`, or at the lowest, with a notice."""
        self._keep_latents()
        pixels = self.picture.size[0] * self.picture.size[1]
        limit = bpp * pixels / 8
        plain = lru_cache(self.file)
        best = lowest(self.levels, lambda level: len(plain(level)) > limit) - 1
        if best < 0:
            smallest = f"the smallest file has {8 * len(plain(0)) / pixels:.3f} ({len(plain(0)):,} bytes)"
            _note(f"no level takes {bpp:g} bits per pixel or less: {smallest}")
        best = max(best, 0)
        if self.refine is None:
            return plain(best)
        found = min(self.at(best), plain(best), key=len)  # which, as a rule, is the first: a higher level may fit, too
        expected = len(found) / len(plain(best))
        higher = [level for level in range(best + 1, self.levels) if len(plain(level)) * expected <= limit]
        better = self.at(higher[-1]) if higher else found
        return better if len(better) <= limit else found

    def reaching(self, psnr: float) -> bytes:
        """The smallest file that reaches `psnr`, or the best, with a notice."""
        self._keep_latents()
        level = lowest(self.levels, lambda level: self.psnr(level) >= psnr)
        if level == self.levels:
            job = self._refined(level - 1)
            best = f"the best one, {job.psnr(level - 1):.2f} dB, was used"
            _note(f"no level of {self.weights.name} reaches {psnr:g} dB on this picture: {best}")
            return job.file(level - 1)
        return min([self.file(level), *self._refined_reaching(psnr, level)], key=len)

    def _refined_reaching(self, psnr: float, level: int) -> Iterator[bytes]:
        """Refined files that reach `psnr`: from `level` downwards as long as they do, or upwards until one does."""
        direction = 0
        while self.refine is not None and 0 <= level < self.levels:
            job = self._refined(level)
            reached = job.psnr(level) >= psnr
            if reached:
                yield job.file(level)
            if direction == (1 if reached else -1):
                return
            direction = -1 if reached else 1
            level += direction

    # ---- a level ----------------------------------------------------------------------------------------------------

    def latents(self, box: Box) -> Latents:
        """Of a tile; without refinement y as g_a gives it."""
        return self._latents[box] if box in self._latents else Latents(self.tiling.analyse(self.picture, box))

    def file(self, level: int) -> bytes:
        """The file at a level with the latents at hand."""
        tiles = [self.coded(box, level, self.latents(box))[0] for box in self.tiling]
        size = sum(len(part.payload) for tile in tiles for part in tile)
        progressive = size >= PROGRESSIVE * len(tiles) if self.progressive is None else self.progressive
        if not progressive:
            tiles = [(Part(b"".join(part.payload for part in tile), tile[-1].checksum),) for tile in tiles]
        picture, weights = self.picture, self.weights
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
            ancillary=picture.ancillary,
            tiles=tuple(tiles),
        )
        data = pack(container)
        LOG.debug("level %d of %d: %d bytes, %d tiles", level, self.levels - 1, len(data), len(tiles))
        return data

    def coded(self, box: Box, level: int, latents: Latents) -> tuple[Tile, Array]:
        """A tile in as many parts as there are scales, and its y_hat."""
        symbols, y_hat = self._symbols(box, level, latents)
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
        return tuple(map(Part, payloads, [*short, checksums[-1]])), y_hat

    def psnr(self, level: int) -> float:
        """In dB, of what a decoder makes of the file at a level."""
        picture = self.picture
        decoded = self.tiling.synthesise(
            lambda box: self._symbols(box, level, self.latents(box))[1], picture.bit_depth, picture.colour == "grey"
        )
        rows = zip(decoded, picture.pixels, strict=True)  # row by row: no copy of the picture in floats
        error = float(np.mean([np.mean((a.astype(np.float32) - b) ** 2) for a, b in rows]))
        psnr = psnr_of_mse(error, picture.peak)
        LOG.debug("level %d of %d: %.2f dB", level, self.levels - 1, psnr)
        return psnr

    def _symbols(self, box: Box, level: int, latents: Latents) -> tuple[list[StepSymbols], Array]:
        return self.networks.encode(latents.y, level, latents_inside(box), latents.z)

    def _refined(self, level: int) -> Encoding:
        """The same picture with latents that are refined for a level; without `refine` as it is."""
        if self.refine is None:
            return self
        job = copy(self)
        job.refine, job._latents = None, self.refine(self, level)
        return job

    @cached_property
    def _alpha(self) -> bytes | None:
        return None if self.picture.alpha is None else pack_alpha(self.picture.alpha)

    def _keep_latents(self) -> None:
        self._latents = {box: self.latents(box) for box in self.tiling}


def lowest(levels: int, reached: Callable[[int], bool]) -> int:
    """The lowest level for which `reached`, which grows with the level, is true; `levels` if there is none."""
    low, high = 0, levels
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle + 1, high)
    return low


def _note(text: str) -> None:
    warnings.warn(text, PictureNotice, stacklevel=4)
