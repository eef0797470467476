"""One picture by one model -> bytes: at a quality level. codec/targets.py finds which level meets a target.

picture --(each tile)--> y --(each level)--> bytes of the tile ----------------------------> container
                                      `----> y_hat --> base --> residual of the tile --------^

As many tiles go this way at once as the engine likes to be given, each on a thread of its own; memory holds so many.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import replace
from typing import NamedTuple, TypeVar

import numpy as np

from ..core.coded import Latent
from ..defaults import TILE_SIDE
from ..format.container import check_head, pack
from ..format.fields import PASSES, Box, Container, Part, Residual, Tile
from ..image.picture import Picture, pack_alpha
from ..util.metrics import psnr_of_mse
from ..util.parallel import Check, side_by_side
from . import residual as layer
from .engine import LoadedEngine, stoppable
from .pixels import Piece, analyse, assemble, synthesise
from .tiles import Tiling, latents_inside

LOG = logging.getLogger(__name__)
Made = TypeVar("Made")

PROGRESSIVE = 4096  # bytes of a tile, on average, from which on being progressive is worth its 10 to 14 bytes


class Latents(NamedTuple):
    """What a tile is coded from; without z, h_a makes it of y."""

    y: Latent
    z: Latent | None = None


Refine = Callable[["Encoding", int], Mapping[Box, Latents]]  # to the latents of all tiles at a level


class Encoding:
    """One picture on its way to bytes by one model."""

    def __init__(
        self,
        loaded: LoadedEngine,
        picture: Picture,
        tile: int = TILE_SIDE,
        progressive: bool | None = None,
        refine: Refine | None = None,
        threads: int = 1,
        check: Check | None = None,
    ) -> None:
        """`refine`: see codec/search.py; without it latents are those of g_a and h_a.

        `threads` are those of the residual layer's coder; `check` is as for `Codec.compress`.
        """
        engine, self.weights = loaded
        self.engine = stoppable(engine, check)
        self.picture = picture
        self.levels = self.engine.config.levels
        self.tiling = Tiling(self.engine.config, picture.size, tile)
        self.head = self._head()
        check_head(self.head)  # before work begins
        self.progressive = progressive
        self.refine = refine
        self.threads, self.check = threads, check
        self._latents: Mapping[Box, Latents] = {}
        self._base_of: tuple[int, list[Tile], list[Piece]] | None = None  # of the level that was computed last

    def latents(self, box: Box) -> Latents:
        """What a tile is coded from; without refinement y as g_a gives it."""
        if box in self._latents:
            return self._latents[box]
        return Latents(analyse(self.engine, self.tiling, self.picture, box))

    def keep_latents(self) -> None:
        """Computes the latents of all tiles, once for several levels."""
        if not self._latents:
            self._latents = dict(zip(self.tiling, self._of_tiles(Encoding.latents), strict=True))

    def _of_tiles(self, work: Callable[[Encoding, Box], Made]) -> Iterator[Made]:
        """What `work` makes of each tile, in their order; as many go at once as the engine likes."""

        def stoppable_work(box: Box, check: Check | None) -> Made:
            job = copy(self)
            job.engine = stoppable(self.engine, check)
            return work(job, box)

        threads = min(self.engine.at_once, len(self.tiling))
        return side_by_side(stoppable_work, self.tiling, threads, check=self.check)

    def _coded_tiles(self, level: int) -> Iterator[tuple[Tile, Latent]]:
        """Each tile's parts and its y_hat."""
        return self._of_tiles(lambda job, box: job.coded(box, level, job.latents(box)))

    def file(self, level: int, residual: Residual | None = None) -> bytes:
        """The file at a level, and with a residual layer."""
        residuals: list[Part] = []
        if residual is None:
            tiles = [tile for tile, _ in self._coded_tiles(level)]
        else:
            tiles, base = self._beside_grey() if residual.is_beside_grey else self._base(level)
            given = (residual, self.picture.pixels, base, self.picture.bit_depth)
            residuals = list(layer.encoded(*given, self.threads, self.check))
        progressive = self.progressive
        if progressive is None:
            size = sum(len(part.payload) for tile in tiles for part in tile)
            progressive = size >= PROGRESSIVE * len(tiles)
        passes = PASSES if progressive and any(tiles) else 1
        tiles = tiles if passes > 1 else list(map(_in_one_part, tiles))
        if residuals:
            tiles = [(*tile, part) for tile, part in zip(tiles, residuals, strict=True)]
        data = pack(replace(self.head, passes=passes, level=level, residual=residual, tiles=tuple(tiles)))
        LOG.debug("level %d of %d: %d bytes, %d tiles", level, self.levels - 1, len(data), len(tiles))
        return data

    def _base(self, level: int) -> tuple[list[Tile], Iterable[Piece]]:
        """The parts of the tiles, and what they are decoded to without a residual layer.

        The parts are complete when all pieces have been taken. Both are kept for the next call where latents are: of
        the best level there are as many files as there are residual layers.
        """
        if self._base_of is not None and self._base_of[0] == level:
            return self._base_of[1:]
        tiles: list[Tile] = []

        def y_hats() -> Iterator[Latent]:
            for tile, y_hat in self._coded_tiles(level):
                tiles.append(tile)
                yield y_hat

        picture = self.picture
        wanted = (self.tiling.whole, picture.bit_depth, picture.colour == "grey")
        pieces = synthesise(self.engine, self.tiling, y_hats(), *wanted, self.check)
        if not self._latents:
            return tiles, pieces
        self._base_of = level, tiles, list(pieces)
        return self._base_of[1:]

    def _beside_grey(self) -> tuple[list[Tile], Iterable[Piece]]:
        """The same of a file without a lossy picture."""
        is_grey = self.picture.colour == "grey"
        return [() for _ in self.tiling], layer.grey(self.tiling, self.picture.bit_depth, is_grey)

    def coded(self, box: Box, level: int, latents: Latents) -> tuple[Tile, Latent]:
        """A tile in as many parts as there are scales, and its y_hat."""
        encoded = self.engine.encode(latents.y, level, latents_inside(box), latents.z)
        *earlier, last = encoded.checksums
        short = [checksum & 0xFFFF for checksum in earlier]
        return tuple(map(Part, encoded.parts, [*short, last])), encoded.y_hat

    def psnr(self, level: int, residual: Residual | None = None) -> float:
        """The PSNR in dB of what a decoder makes of the file at a level, and with a residual layer."""
        picture, (_, pieces) = self.picture, self._base(level)
        if residual is not None:
            given = (residual, picture.pixels, pieces, picture.bit_depth)
            pieces = layer.encoded_and_decoded(*given, self.threads, self.check)
        decoded = assemble(pieces, self.tiling.whole)
        rows = zip(decoded, picture.pixels, strict=True)  # row by row: no copy of the picture in floats
        error = float(np.mean([np.mean((a.astype(np.float32) - b) ** 2) for a, b in rows]))
        psnr = psnr_of_mse(error, picture.peak)
        LOG.debug("level %d of %d: %.2f dB", level, self.levels - 1, psnr)
        return psnr

    def refined(self, level: int) -> Encoding:
        """The same picture with latents that are refined for a level; without `refine` as it is."""
        return self if self.refine is None else self.with_latents(self.refine(self, level))

    def with_latents(self, latents: Mapping[Box, Latents]) -> Encoding:
        """The same picture with these latents of its tiles."""
        job = copy(self)
        job.refine, job._latents, job._base_of = None, latents, None
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


def _in_one_part(tile: Tile) -> Tile:
    """A tile of a file that isn't progressive."""
    if not tile:
        return ()
    return (Part(b"".join(part.payload for part in tile), tile[-1].checksum),)
