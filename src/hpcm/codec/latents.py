"""What the latents of a .hpcm file are, and how many bits each takes: `hpcm.latents`, for research.

    file --(each tile)--> symbols, means, scales of z and y --> arrays of the whole picture

Symbols, means and scales are in units of the quantisation step:

    symbol = round(y * gain - mean)        y_hat = (symbol + mean) * inverse

with the gains of the quality level, which are 1 in models of one level.

It computes in torch, so it is for every model: exact or not, with attention or without.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError
from ..format.fields import Container
from ..model.config import LATENT_STRIDE, LATENTS_PER_Z
from ..model.tables import Tables
from ..nn.engine import Observed, TorchEngine
from .checks import check_claims
from .codec import Codec
from .decoder import TileDecoder, decodable
from .tiles import Tiling, extent, latents_inside, latents_of_size


class CodedLatent(NamedTuple):
    """A latent of a file, [C, h, w], in torch's order of axes.

    decoded: y_hat or z_hat, as the synthesis takes it.
    symbols, means, scales: in units of the quantisation step.
    bits: what the entropy coder takes for each symbol.
    """

    decoded: NDArray[np.float32]
    symbols: NDArray[np.int32]
    means: NDArray[np.float32]
    scales: NDArray[np.float32]
    bits: NDArray[np.float32]


class FileLatents(NamedTuple):
    """The latents of a file of H x W pixels: y [M, H/16, W/16] and z [N, H/64, W/64], rounded up.

    Padding is left out: it has no symbols.
    """

    y: CodedLatent
    z: CodedLatent

    @property
    def y_hat(self) -> NDArray[np.float32]:
        """[M, H/16, W/16]."""
        return self.y.decoded

    @property
    def z_hat(self) -> NDArray[np.float32]:
        """[N, H/64, W/64]."""
        return self.z.decoded

    @property
    def bit_map(self) -> NDArray[np.float64]:
        """The bits of each 16 x 16 pixels, [H/16, W/16]: those of y over all channels, and an even share of z's."""
        of_y = self.y.bits.sum(0, dtype=np.float64)
        of_z = self.z.bits.sum(0, dtype=np.float64)
        rows, columns = (_cells(length) for length in of_y.shape)
        shares = of_z / np.outer(np.bincount(rows), np.bincount(columns))
        return of_y + shares[np.ix_(rows, columns)]


def _cells(length: int) -> NDArray[np.int64]:
    """Which row (or column) of z each of `length` rows of y belongs to."""
    return np.arange(length) // LATENTS_PER_Z


def latents_of(codec: Codec, container: Container) -> FileLatents:
    """The latents of a file, by a codec whose engine is torch; see `hpcm.latents`."""
    if not container.base_parts:
        raise UsageError("the file has no lossy picture, and so no latents")
    engine = cast(TorchEngine, codec.model_of(container).engine)
    config = engine.config
    check_claims(container, config, None, codec.max_pixels)
    tiling = Tiling(config, (container.height, container.width), container.tile_side)
    tiles = TileDecoder(engine, container, tiling)
    rows, columns = latents_of_size(tiling.size)
    y = _empty(config.M, rows, columns)
    z = _empty(config.N, -(-rows // LATENTS_PER_Z), -(-columns // LATENTS_PER_Z))
    for box in tiling:
        parts, inside = tiles.parts(box), latents_inside(box)
        size = extent(tiling.cells(box))
        with decodable(box):
            of_z, of_y, checksum = engine.observe(*tiles.coded(parts), size, container.level, inside)
        tiles.check(parts, checksum, box)
        left, top = box[0] // LATENT_STRIDE, box[1] // LATENT_STRIDE
        _put(y, of_y, engine.tables, top, left)
        _put(z, of_z, engine.tables, top // LATENTS_PER_Z, left // LATENTS_PER_Z)
    return FileLatents(y, z)


def _empty(channels: int, rows: int, columns: int) -> CodedLatent:
    shape = (channels, rows, columns)
    decoded, means, scales, bits = (np.empty(shape, np.float32) for _ in range(4))
    return CodedLatent(decoded, np.empty(shape, np.int32), means, scales, bits)


def _put(whole: CodedLatent, tile: Observed, tables: Tables, top: int, left: int) -> None:
    """Writes what a tile has, but for its padding at the right and bottom edge of the picture, into the whole."""
    values: tuple[NDArray[Any], ...] = (*tile, tables.bits(tile.symbols, tile.scales))
    for array, of_tile in zip(whole, values, strict=True):
        _, rows, columns = array.shape
        inside = of_tile[: rows - top, : columns - left].transpose(2, 0, 1)
        array[:, top : top + inside.shape[1], left : left + inside.shape[2]] = inside
