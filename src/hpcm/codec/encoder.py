"""One picture -> bytes: at a level, or at the level that meets a target of size or quality."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from ..defaults import TILE_SIDE
from ..engine.choice import Loaded
from ..errors import PictureNotice
from ..format.container import check_head, pack
from ..format.fields import PASSES, Box, Container, Part, Tile
from ..image.picture import Picture, pack_alpha
from ..nn.arrays import Array
from ..nn.drivers import StepSymbols
from ..nn.schedule import pass_ends
from ..util.metrics import psnr_of_mse
from .entropy import Encoder, checksum
from .tiles import Tiling, latents_inside

LOG = logging.getLogger(__name__)
PROGRESSIVE = 4096  # bytes of a tile, on average, from which on being progressive is worth its 10 to 14 bytes
BELOW, ABOVE = 5, 1  # levels that are tried beside the result of a bisection
SIZE_FALLS = 16  # bytes by which a file may be larger than one of a higher level: the entropy coder's words have 4
KEPT = 16  # files of levels that are kept while levels are tried: more than are tried as a rule


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
        """`refine`: see codec/search.py; without it latents are those of g_a and h_a."""
        self.networks, self.tables, self.weights = loaded
        self.picture = picture
        self.levels = self.networks.config.levels
        self.tiling = Tiling(self.networks, picture.size, tile)
        self.head = self._head()
        check_head(self.head)  # before work begins
        self.progressive = progressive
        self.refine = refine
        self._latents: Mapping[Box, Latents] = {}

    # ---- what is asked for ------------------------------------------------------------------------------------------

    def at(self, level: int) -> bytes:
        """The file at a level."""
        return self._refined(level).file(level)

    def smaller_than(self, bpp: float) -> bytes:
        """The file at the highest level that takes at most `bpp`, or the smallest file, with a notice."""
        self._keep_latents()
        pixels = self.picture.size[0] * self.picture.size[1]
        limit = bpp * pixels / 8
        plain = lru_cache(KEPT)(self.file)
        from_the_best = range(self.levels - 1, -1, -1)  # smaller and smaller, as a rule
        saved = explored(from_the_best, lambda level: -len(plain(level)), -limit)
        fitting = [level for level, value in saved.items() if value >= -limit]
        best = max(fitting) if fitting else max(saved, key=lambda level: (saved[level], -level))
        file = plain(best)
        if self.refine is not None:
            refined = min(self.at(best), file, key=len)  # which, as a rule, is the first: a higher level may fit, too
            expected = len(refined) / len(file)
            higher = [level for level, value in saved.items() if level > best and -value * expected <= limit]
            better = self.at(max(higher)) if higher else refined
            file = better if len(better) <= limit else refined
        if len(file) > limit:
            smallest = f"the smallest file has {8 * len(file) / pixels:.3f} ({len(file):,} bytes)"
            _note(f"no level takes {bpp:g} bits per pixel or less: {smallest}")
        return file

    def reaching(self, psnr: float) -> bytes:
        """The smallest file that reaches `psnr`, or the best, with a notice."""
        self._keep_latents()
        tried = explored(range(self.levels), self.psnr, psnr)
        reached = sorted(level for level, value in tried.items() if value >= psnr)
        if reached:
            level, file = self._smallest(reached)
            return min([file, *self._refined_reaching(psnr, level)], key=len)
        level = max(tried, key=lambda level: (tried[level], -level))
        job, best = self, tried[level]
        if self.refine is not None:
            refined = self._refined(level)
            job, best = max((job, best), (refined, refined.psnr(level)), key=lambda pair: pair[1])
        if best < psnr:
            used = f"the best one, {best:.2f} dB, was used"
            _note(f"no level of {self.weights.name} reaches {psnr:g} dB on this picture: {used}")
        return job.file(level)

    def _smallest(self, levels: Sequence[int]) -> tuple[int, bytes]:
        """Of rising levels the one with the smallest file, and that file."""
        best, smallest = levels[0], self.file(levels[0])
        for level in levels[1:]:
            file = self.file(level)
            if len(file) > len(smallest) + SIZE_FALLS:
                break
            if len(file) < len(smallest):
                best, smallest = level, file
        return best, smallest

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
        passes = PASSES if progressive else 1
        data = pack(replace(self.head, passes=passes, level=level, tiles=tuple(tiles)))
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

    def _head(self) -> Container:
        """The file but for its tiles, at the highest level."""
        picture, weights = self.picture, self.weights
        return Container(
            passes=1,
            width=picture.size[1],
            height=picture.size[0],
            model=weights.name,
            model_hash=weights.hash,
            level=self.levels - 1,
            colour=picture.colour,
            bit_depth=picture.bit_depth,
            tile_side=self.tiling.side,
            icc=picture.icc,
            exif=picture.exif,
            alpha=None if picture.alpha is None else pack_alpha(picture.alpha),
            ancillary=picture.ancillary,
            tiles=(),
        )

    def _keep_latents(self) -> None:
        self._latents = {box: self.latents(box) for box in self.tiling}


def explored(order: Sequence[int], value: Callable[[int], float], target: float) -> dict[int, float]:
    """The levels that have to be tried to know which of `order` reach a target, and their values.

    Along `order` values rise as a rule. On flat and on tiny pictures they don't: a level may be several dB better than
    the next. So after a bisection the levels around its result are tried, too:

        order    . . . . X X X X X|X X . . . . .      X tried, | the target is reached from here on
                         <- BELOW ->  ABOVE

    Wherever those that were tried don't rise strictly, and before it is said that none reaches the target, all are
    tried. (On 15 pictures, flat ones and noise among them, this found the same as trying all: docs/log.md.)
    """
    values: dict[int, float] = {}

    def tried(place: int) -> float:
        level = order[place]
        if level not in values:
            values[level] = value(level)
        return values[level]

    boundary = lowest(len(order), lambda place: tried(place) >= target)
    for place in range(max(boundary - BELOW, 0), min(boundary + ABOVE + 1, len(order))):
        tried(place)
    along = [values[level] for level in order if level in values]
    rising = all(one < next_one for one, next_one in pairwise(along))
    if boundary == len(order) or not rising:
        for place in range(len(order)):
            tried(place)
    return values


def lowest(places: int, reached: Callable[[int], bool]) -> int:
    """The lowest place for which `reached`, which grows with the place, is true; `places` if there is none."""
    low, high = 0, places
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle + 1, high)
    return low


def _note(text: str) -> None:
    warnings.warn(text, PictureNotice, stacklevel=4)
