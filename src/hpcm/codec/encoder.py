"""One picture by one model -> bytes: at a quality level. codec/targets.py finds which level meets a target.

picture --(each tile)--> y --(each level)--> bytes of the tile --> container
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..core.coded import Latent
from ..defaults import TILE_SIDE
from ..format.container import check_head, pack
from ..format.fields import PASSES, Box, Container, Part, Tile
from ..image.picture import Picture, pack_alpha
from ..util.metrics import psnr_of_mse
from .engine import LoadedEngine
from .pixels import analyse, assemble, synthesise
from .tiles import Tiling, latents_inside

LOG = logging.getLogger(__name__)
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
    ) -> None:
        """`refine`: see codec/search.py; without it latents are those of g_a and h_a."""
        self.engine, self.weights = loaded
        self.picture = picture
        self.levels = self.engine.config.levels
        self.tiling = Tiling(self.engine.config, picture.size, tile)
        self.head = self._head()
        check_head(self.head)  # before work begins
        self.progressive = progressive
        self.refine = refine
        self._latents: Mapping[Box, Latents] = {}

    def latents(self, box: Box) -> Latents:
        """What a tile is coded from; without refinement y as g_a gives it."""
        if box in self._latents:
            return self._latents[box]
        return Latents(analyse(self.engine, self.tiling, self.picture, box))

    def keep_latents(self) -> None:
        """Computes the latents of all tiles, once for several levels."""
        if not self._latents:
            self._latents = {box: self.latents(box) for box in self.tiling}

    def file(self, level: int) -> bytes:
        """The file at a level."""
        tiles = [self.coded(box, level, self.latents(box))[0] for box in self.tiling]
        progressive = self.progressive
        if progressive is None:
            size = sum(len(part.payload) for tile in tiles for part in tile)
            progressive = size >= PROGRESSIVE * len(tiles)
        passes = PASSES if progressive else 1
        tiles = tiles if progressive else list(map(_in_one_part, tiles))
        data = pack(replace(self.head, passes=passes, level=level, tiles=tuple(tiles)))
        LOG.debug("level %d of %d: %d bytes, %d tiles", level, self.levels - 1, len(data), len(tiles))
        return data

    def coded(self, box: Box, level: int, latents: Latents) -> tuple[Tile, Latent]:
        """A tile in as many parts as there are scales, and its y_hat."""
        encoded = self.engine.encode(latents.y, level, latents_inside(box), latents.z)
        *earlier, last = encoded.checksums
        short = [checksum & 0xFFFF for checksum in earlier]
        return tuple(map(Part, encoded.parts, [*short, last])), encoded.y_hat

    def psnr(self, level: int) -> float:
        """The PSNR in dB of what a decoder makes of the file at a level."""
        picture = self.picture
        whole, grey = self.tiling.whole, picture.colour == "grey"
        y_hats = (self.coded(box, level, self.latents(box))[1] for box in self.tiling)
        pieces = synthesise(self.engine, self.tiling, y_hats, whole, picture.bit_depth, grey)
        decoded = assemble(pieces, whole)
        rows = zip(decoded, picture.pixels, strict=True)  # row by row: no copy of the picture in floats
        error = float(np.mean([np.mean((a.astype(np.float32) - b) ** 2) for a, b in rows]))
        psnr = psnr_of_mse(error, picture.peak)
        LOG.debug("level %d of %d: %.2f dB", level, self.levels - 1, psnr)
        return psnr

    def refined(self, level: int) -> Encoding:
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


def _in_one_part(tile: Tile) -> Tile:
    """A tile of a file that isn't progressive."""
    return (Part(b"".join(part.payload for part in tile), tile[-1].checksum),)
