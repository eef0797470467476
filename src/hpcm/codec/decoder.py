"""One .hpcm file -> pixels: all of it or a box, all scales or the first, whole files or their beginnings.

    container --(each tile)--> symbols --> y_hat --(codec/pixels.py)--> pixels --> picture

What isn't decoded takes its mean: from there on every symbol is 0. Of several tiles, the latents that are known are put
side by side first, so that the means on both sides of a border agree:

    parts of a tile --(steps as coded, the tile alone)--> its known latents --+
    parts of the tiles around it ----------------------> theirs, MARGIN wide -+--(all steps)--> y_hat of the tile
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import numpy as np

from ..core.coded import Latent
from ..errors import CorruptError, MismatchError
from ..format.fields import PASSES, Box, Container, Tile
from ..image.metadata.record import Metadata
from ..image.picture import Picture, picture_of_planes, unpack_alpha
from ..image.planes import Planes, Samples
from ..model.config import LATENT_STRIDE
from ..model.order import PERIOD, pass_ends
from ..util.parallel import Check, side_by_side
from . import residual as layer
from .engine import Engine, LoadedEngine, Size, stoppable
from .pixels import assemble, reduced, synthesise
from .tiles import Tiling, extent, latents_inside, overlap, slices_of

LOG = logging.getLogger(__name__)
COARSE = 8  # the reduction from which the lossy picture of a lossless file will do (docs/lossless.md)
MARGIN = PERIOD  # latents around a tile that tell what its missing ones are; more change nothing (docs/log.md)


def decode(
    loaded: LoadedEngine,
    container: Container,
    box: Box | None = None,
    factor: int = 1,
    scale: int | None = None,
    threads: int = 1,
    check: Check | None = None,
) -> Picture:
    """The picture of a file, or a box of it, one pixel for each `factor` x `factor`. Raises as `Codec.decompress`.

    Tile by tile: symbols -> y_hat -> pixels, of which each is made when the next one asks for it, and as many of each
    at once as the engine likes to be given. So memory holds the result, a few rows of tiles, and twice so many tiles.

    Args:
        scale: of a progressive file 1, 2 or 3 scales are decoded, without a residual layer; None: all that is there.
        threads: of the residual layer's coder.
        check: as for `Codec.compress`.
    """
    LOG.debug("%s at level %d: box %s, 1 / %d", container.model, container.level, box or "all", factor)
    engine, size = stoppable(loaded.engine, check), (container.height, container.width)
    tiling = Tiling(engine.config, size, container.tile_side)
    area = box or tiling.whole
    grey, bit_depth = container.colour == "grey", container.bit_depth

    @cache
    def whole_alpha() -> Samples:
        return unpack_alpha(container.alpha or b"", size, bit_depth)

    with_residual = needs_residual(container, factor, scale)
    reach = tiling.of_whole_tiles(area) if with_residual else area
    if container.base_parts:
        tiles = TileDecoder(engine, container, tiling, scale or PASSES)
        y_hats = tiles.y_hats(tiling.needed_for(reach), check)
        pieces = synthesise(engine, tiling, y_hats, reach, bit_depth, grey, check)
    else:
        pieces = layer.grey(tiling.within(reach), bit_depth, grey)
    if with_residual:
        pieces = layer.added(container, tiling, pieces, area, threads, check)
    pixels = assemble(pieces, area, factor, whole_alpha if container.alpha is not None else None)
    alpha = None
    if container.alpha is not None:
        left, top, right, bottom = area
        alpha = whole_alpha()[top:bottom, left:right]
        alpha = alpha if factor == 1 else np.rint(reduced(alpha, factor)).astype(alpha.dtype)
    return picture_of_planes(Planes(pixels, bit_depth, alpha), Metadata.of(container))


def needs_residual(container: Container, factor: int, scale: int | None) -> bool:
    """Whether what is asked for takes the residual layer.

    Coarse pictures do without, and reduced ones, if the lossy picture is good enough: that of a model's best level is.
    """
    residual = container.residual
    if residual is None or residual.is_beside_grey:
        return residual is not None
    return scale is None and factor < (2 if residual.kind == "coefficients" else COARSE)


class TileDecoder:
    """The tiles of one file: their parts -> y_hat."""

    def __init__(self, engine: Engine, container: Container, tiling: Tiling, scale: int = PASSES) -> None:
        self.engine, self.container, self.tiling, self.scale = engine, container, tiling, scale
        self._ends = pass_ends(engine.config)[-container.passes :]
        self._means: dict[tuple[Size, Size], Latent] = {}  # of tiles of which nothing is known
        self._kept: dict[Box, list[Latent]] = {}  # what is known of the tiles in the rows around the one being decoded
        multiple = engine.config.multiple // LATENT_STRIDE
        self.margin = -(-MARGIN // multiple) * multiple

    def y_hats(self, boxes: Sequence[Box], check: Check | None = None) -> Iterator[Latent]:
        """y_hat [h, w, M] of tiles, padded, in their order, which is row by row. Raises CorruptError, MismatchError.

        Whole tiles are independent of one another: as many are decoded at once as the engine likes. Where one isn't
        whole, they are decoded one after the other, because what is missing may depend on the neighbours.
        """
        if all(len(self.parts(box)) == self.container.passes for box in boxes):
            return side_by_side(self._alone, boxes, min(self.engine.at_once, len(boxes)), check=check)
        return map(self._among_others, boxes)

    def _among_others(self, box: Box) -> Latent:
        """y_hat of a tile that may not be whole.

        Tiles are asked for row by row: what is kept of one is dropped when those that border on it have been decoded.
        """
        parts, own = self.parts(box), self.tiling.cells(box)
        if not parts:
            return self._mean(extent(own), latents_inside(box))
        around = self.tiling.widened(own, self.margin)
        if len(parts) < self.container.passes and around != own:
            return self._filled(own, around)
        return self._alone(box)

    def _alone(self, box: Box, check: Check | None = None) -> Latent:
        """y_hat of a tile from its parts alone."""
        parts, size, inside = self.parts(box), extent(self.tiling.cells(box)), latents_inside(box)
        with decodable(box):
            engine = stoppable(self.engine, check)
            decoded = engine.decode(*self.coded(parts), size, self.container.level, inside)
        self.check(parts, decoded.checksum, box)
        if len(parts) == self.container.passes and decoded.words_left:
            left = f"{decoded.words_left} words of 4 bytes are left"
            raise CorruptError(f"entropy-coded data go on after the last symbol: {left}")
        return decoded.y_hat

    def _mean(self, size: Size, inside: Size) -> Latent:
        """y_hat of a tile of which nothing is known; they are alike where their sizes are."""
        if (size, inside) not in self._means:
            self._means[size, inside] = self.engine.decode(b"", 0, size, self.container.level, inside).y_hat
        return self._means[size, inside]

    def parts(self, box: Box) -> Tile:
        """The parts of a tile that are to be decoded."""
        side = self.container.tile_side
        columns = -(-self.container.width // side)
        tile = self.container.tiles[box[1] // side * columns + box[0] // side]
        return tile[: self.scale if self.container.passes > 1 else 1]

    def _filled(self, own: Box, around: Box) -> Latent:
        """y_hat of a tile of which not all is known, given what is known in a box around it; both boxes in latents.

        Each tile's symbols were coded without its neighbours, so they are decoded without them. But what is missing may
        depend on the neighbours, too: else it would differ on both sides of the tile's border, which would be seen.
        """
        _, top, _, bottom = around
        whole = self.engine.unknown(extent(around))
        for box in self.tiling.touching(around):
            there = self.tiling.cells(box)
            for known, target in zip(self._known(box), whole, strict=False):  # fine scales may be missing
                stride = (bottom - top) // len(target)
                common = overlap(there, around)
                target[slices_of(common, around, stride)] = known[slices_of(common, there, stride)]
        self._kept = {box: known for box, known in self._kept.items() if self.tiling.cells(box)[3] > top}
        return self.engine.fill(whole, self.container.level)[slices_of(own, around)]

    def _known(self, box: Box) -> list[Latent]:
        """What the parts of a tile tell, as `Engine.decode_known` gives it; nothing of a tile without parts."""
        parts = self.parts(box)
        if parts and box not in self._kept:
            size, inside = extent(self.tiling.cells(box)), latents_inside(box)
            with decodable(box):
                known, checksum = self.engine.decode_known(*self.coded(parts), size, self.container.level, inside)
            self.check(parts, checksum, box)
            self._kept[box] = known
        return self._kept.get(box, [])

    def coded(self, parts: Tile) -> tuple[bytes, int]:
        """The bytes of a tile's parts, and how many steps they hold."""
        return b"".join(part.payload for part in parts), self._ends[len(parts) - 1]

    def check(self, parts: Tile, checksum: int, box: Box) -> None:
        """Raises MismatchError where the symbols of a tile's parts have another checksum than was written."""
        whole = len(parts) == self.container.passes
        if checksum & (0xFFFFFFFF if whole else 0xFFFF) != parts[-1].checksum:
            raise _mismatch(box)


@contextmanager
def decodable(box: Box) -> Iterator[None]:
    """The payload's CRC is right: if it can't be decoded, it was asked for other symbols than those encoded."""
    try:
        yield
    except CorruptError as error:
        raise _mismatch(box) from error


def _mismatch(box: Box) -> MismatchError:
    return MismatchError(
        f"the decoded symbols of the tile at {box[:2]} differ from the encoded ones: the model's arithmetic "
        "gave other numbers here; decode on the machine where the file was made"
    )
