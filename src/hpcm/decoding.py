"""One .hpcm file -> pixels: all of it or a box, all scales or the first, whole files or their beginnings.

What isn't decoded takes its mean: from there on every symbol is 0.
"""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from .coding.arrays import Array
from .coding.schedule import pass_ends
from .engine.choice import Loaded
from .entropy.coder import Decoder, checksum
from .entropy.tables import Tables
from .errors import CorruptError, MismatchError
from .fields import PASSES, Box, Container, Tile
from .picture import Picture, metadata_of, mode_of, unpack_alpha
from .tiles import Tiling, extent, latents_inside, reduced

LOG = logging.getLogger(__name__)


class Decoding:
    """One file on its way to pixels.

    Args:
        scale: of a progressive file 1, 2 or 3 scales are decoded.
    """

    def __init__(self, loaded: Loaded, container: Container, scale: int = PASSES) -> None:
        self.networks, self.tables, _ = loaded
        self.container, self.scale = container, scale
        self.size = (container.height, container.width)
        self.tiling = Tiling(self.networks, self.size, container.tile_side)
        self._ends = pass_ends(self.networks.config)[-container.passes :]
        self._means: dict[tuple[tuple[int, int], tuple[int, int]], Array] = {}  # of tiles of which nothing is known

    def picture(self, box: Box | None, factor: int) -> Picture:
        """The picture or a box of it, one pixel for each `factor` x `factor`. Raises as `Codec.decompress`."""
        container = self.container
        grey = container.colour == "grey"
        depth = 16 if mode_of(container) == "I;16" else 8
        LOG.debug("%s at level %d: box %s, 1 / %d", container.model, container.level, box or "all", factor)
        with self.networks.undisturbed():
            pixels = self.tiling.synthesise(self._latent, depth, grey, box, factor)
        alpha = None
        if container.alpha is not None:
            left, top, right, bottom = box or (0, 0, container.width, container.height)
            alpha = unpack_alpha(container.alpha, self.size)[top:bottom, left:right]
            alpha = alpha if factor == 1 else np.rint(reduced(alpha, factor)).astype(np.uint8)
        return Picture(pixels, alpha, **metadata_of(container))

    def _latent(self, box: Box) -> Array:
        """y_hat [1, M, h, w] of a tile, padded."""
        side = self.container.tile_side
        columns = -(-self.container.width // side)
        tile = self.container.tiles[box[1] // side * columns + box[0] // side]
        tile = tile[: self.scale] if self.container.passes > 1 else tile
        size, inside = self.tiling.padded(extent(box)), latents_inside(box)
        if tile:
            return self._decode(tile, box, size, inside)
        if (size, inside) not in self._means:
            self._means[size, inside] = self.networks.decode(_zeros, size, self.container.level, inside)
        return self._means[size, inside]

    def _decode(self, tile: Tile, box: Box, size: tuple[int, int], inside: tuple[int, int]) -> Array:
        """y_hat from the parts of a tile that are at hand. Raises CorruptError, MismatchError."""
        replay = _Replay(self.tables, tile, self._ends[len(tile) - 1])
        impossible = None
        try:
            y_hat = self.networks.decode(replay.pop, size, self.container.level, inside)
        except CorruptError as error:  # the payload's CRC is right, so that the symbols were asked for wrongly
            impossible = error
        whole = len(tile) == self.container.passes
        if impossible or replay.checksum & (0xFFFFFFFF if whole else 0xFFFF) != tile[-1].checksum:
            raise MismatchError(
                f"the decoded symbols of the tile at {box[:2]} differ from the encoded ones: the model's arithmetic "
                "gave other numbers here; decode on the machine where the file was made"
            ) from impossible
        if whole:
            replay.decoder.finish()
        return y_hat


class _Replay:
    """The symbols of a tile for so many steps, then zeros."""

    def __init__(self, tables: Tables, tile: Tile, steps: int) -> None:
        self.tables, self.steps = tables, steps
        self.decoder = Decoder(tables, b"".join(part.payload for part in tile))
        self.checksum = 0

    def pop(self, scales: NDArray[np.float32]) -> NDArray[np.int32]:
        if not self.steps:
            return _zeros(scales)
        self.steps -= 1
        values = self.decoder.pop(self.tables.index(scales))
        self.checksum = checksum(values, self.checksum)
        return values


def _zeros(scales: NDArray[np.float32]) -> NDArray[np.int32]:
    return np.zeros(len(scales), np.int32)
