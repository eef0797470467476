"""One .hpcm file -> pixels: all of it or a box, all scales or the first, whole files or their beginnings.

    container --(each tile)--> symbols --> y_hat --(codec/pixels.py)--> pixels --> picture

What isn't decoded takes its mean: from there on every symbol is 0. Of several tiles, the latents that are known are put
side by side first, so that the means on both sides of a border agree:

    parts of a tile --(steps as coded, the tile alone)--> its known latents --+
    parts of the tiles around it ----------------------> theirs, MARGIN wide -+--(all steps)--> y_hat of the tile
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..engine.choice import Loaded
from ..errors import CorruptError, MismatchError
from ..format.fields import PASSES, Box, Container, Tile
from ..image.metadata.record import Metadata
from ..image.picture import Picture, mode_of, unpack_alpha
from ..model.config import LATENT_STRIDE
from ..model.tables import Tables
from ..nn.arrays import Array
from ..nn.schedule import PERIOD, pass_ends
from .entropy import Decoder, checksum
from .pixels import assemble, reduced, synthesise
from .tiles import Tiling, extent, latents_inside, overlap, place

LOG = logging.getLogger(__name__)
MARGIN = PERIOD  # latents around a tile that tell what its missing ones are; more change nothing (docs/log.md)
Decoded = TypeVar("Decoded")


def decode(
    loaded: Loaded, container: Container, box: Box | None = None, factor: int = 1, scale: int = PASSES
) -> Picture:
    """The picture of a file, or a box of it, one pixel for each `factor` x `factor`. Raises as `Codec.decompress`.

    Tile by tile: symbols -> y_hat -> pixels, of which each is made when the next one asks for it, so that memory holds
    the result and a few rows of tiles.

    Args:
        scale: of a progressive file 1, 2 or 3 scales are decoded.
    """
    LOG.debug("%s at level %d: box %s, 1 / %d", container.model, container.level, box or "all", factor)
    networks, size = loaded.networks, (container.height, container.width)
    tiling = Tiling(networks.config, size, container.tile_side)
    area = box or tiling.whole
    grey, bit_depth = container.colour == "grey", 16 if mode_of(container) == "I;16" else 8

    @cache
    def whole_alpha() -> NDArray[np.uint8]:
        return unpack_alpha(container.alpha or b"", size)

    tiles = TileDecoder(loaded, container, tiling, scale)
    with networks.undisturbed():
        y_hats = map(tiles.y_hat, tiling.needed_for(area))
        pieces = synthesise(networks, tiling, y_hats, area, bit_depth, grey)
        pixels = assemble(pieces, area, factor, whole_alpha if container.alpha is not None else None)
    alpha = None
    if container.alpha is not None:
        left, top, right, bottom = area
        alpha = whole_alpha()[top:bottom, left:right]
        alpha = alpha if factor == 1 else np.rint(reduced(alpha, factor)).astype(np.uint8)
    return Picture(pixels, alpha, notes=(), **Metadata.of(container).present)


class TileDecoder:
    """The tiles of one file: symbols -> y_hat."""

    def __init__(self, loaded: Loaded, container: Container, tiling: Tiling, scale: int = PASSES) -> None:
        self.networks, self.tables, _ = loaded
        self.container, self.tiling, self.scale = container, tiling, scale
        self._ends = pass_ends(self.networks.config)[-container.passes :]
        self._means: dict[tuple[tuple[int, int], tuple[int, int]], Array] = {}  # of tiles of which nothing is known
        self._kept: dict[Box, list[Array]] = {}  # what is known of the tiles in the rows around the one that is decoded
        multiple = self.networks.config.multiple // LATENT_STRIDE
        self.margin = -(-MARGIN // multiple) * multiple

    def y_hat(self, box: Box) -> Array:
        """y_hat [1, M, h, w] of a tile, padded. Raises CorruptError, MismatchError.

        Tiles are asked for row by row: what is kept of one is dropped when those that border on it have been decoded.
        """
        parts, own = self._parts(box), self.tiling.cells(box)
        size, inside = extent(own), latents_inside(box)
        if not parts:
            return self._mean(size, inside)
        around = self.tiling.widened(own, self.margin)
        if len(parts) < self.container.passes and around != own:
            return self._filled(own, around)
        return self._checked(
            parts, box, lambda replay: self.networks.decode(replay.pop, size, self.container.level, inside)
        )

    def _mean(self, size: tuple[int, int], inside: tuple[int, int]) -> Array:
        """y_hat of a tile of which nothing is known; they are alike where their sizes are."""
        if (size, inside) not in self._means:
            self._means[size, inside] = self.networks.decode(_zeros, size, self.container.level, inside)
        return self._means[size, inside]

    def _parts(self, box: Box) -> Tile:
        """The parts of a tile that are to be decoded."""
        side = self.container.tile_side
        columns = -(-self.container.width // side)
        tile = self.container.tiles[box[1] // side * columns + box[0] // side]
        return tile[: self.scale] if self.container.passes > 1 else tile

    def _filled(self, own: Box, around: Box) -> Array:
        """y_hat of a tile of which not all is known, given what is known in a box around it; both boxes in latents.

        Each tile's symbols were coded without its neighbours, so they are decoded without them. But what is missing may
        depend on the neighbours, too: else it would differ on both sides of the tile's border, which would be seen.
        """
        _, top, _, bottom = around
        whole = self.networks.unknown(extent(around))
        for box in self.tiling.touching(around):
            there = self.tiling.cells(box)
            for known, target in zip(self._known(box), whole, strict=False):  # fine scales may be missing
                stride = (bottom - top) // target.shape[2]
                common = overlap(there, around)
                target[place(common, around, stride)] = known[place(common, there, stride)]
        self._kept = {box: known for box, known in self._kept.items() if self.tiling.cells(box)[3] > top}
        return self.networks.fill(whole, self.container.level)[place(own, around)]

    def _known(self, box: Box) -> list[Array]:
        """What the parts of a tile tell, as `Loop.decode_known` gives it; nothing of a tile without parts."""
        tile, size = self._parts(box), extent(self.tiling.cells(box))
        if tile and box not in self._kept:
            steps = self._ends[len(tile) - 1] - 1  # without the hyper latent's
            level, inside = self.container.level, latents_inside(box)
            self._kept[box] = self._checked(
                tile, box, lambda replay: self.networks.decode_known(replay.pop, size, level, inside, steps)
            )
        return self._kept.get(box, [])

    def _checked(self, tile: Tile, box: Box, decode: Callable[[_Replay], Decoded]) -> Decoded:
        """What is decoded from the parts of a tile that are at hand. Raises CorruptError, MismatchError."""
        replay = _Replay(self.tables, tile, self._ends[len(tile) - 1])
        impossible = None
        try:
            decoded = decode(replay)
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
        return decoded


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
