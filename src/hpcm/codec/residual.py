"""The residual layer of a file: what its decoded picture lacks, tile by tile. core/residual.py codes it.

    encode:  pieces of the base, and of the source  -> a part for each
    decode:  pieces of the base, and their parts    -> pieces of the picture

A piece is a whole tile: its residual is coded beside all of the tile's base. Tiles are independent of one another and
coded on several threads, while those that come next are made.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from zlib import crc32

import numpy as np

from ..core.residual import decode_dct, decode_residual, encode_dct, encode_residual
from ..errors import CorruptError, MismatchError
from ..format.fields import Box, Container, Part, Residual
from ..image.planes import Samples, dtype_of
from ..util.parallel import Check, side_by_side
from .pixels import Piece
from .tiles import Tiling, extent, overlap, slices_of


def has_exact_pixels(config: Mapping[str, Any]) -> bool:
    """Whether a model's pixels are the same on every CPU: only to those may something be added.

    `config` are the fields of its Config, as its weights file has them.
    """
    return bool(config.get("carrier")) and config.get("transforms") == "int32"


RESULT_BYTES = 4  # of a part, behind its coder's: the CRC-32 of the samples with the layer


def grey(tiles: Iterable[Box], bit_depth: int, is_grey: bool) -> Iterator[Piece]:
    """The base of a file that has no lossy picture."""
    for box in tiles:
        shape = extent(box) if is_grey else (*extent(box), 3)
        yield box, np.full(shape, 1 << bit_depth - 1, dtype_of(bit_depth))


# ---- encoding --------------------------------------------------------------------------------------------------------


def encoded(
    residual: Residual, source: Samples, base: Iterable[Piece], bit_depth: int, threads: int, check: Check | None = None
) -> Iterator[Part]:
    """The part of each tile. `source` is the whole picture, `base` are its tiles in their order."""

    def code(piece: Piece, check: Check | None) -> Part:
        box, samples = piece
        return _coded(residual, source[slices_of(box, (0, 0, 0, 0))], samples, bit_depth, check)[0]

    return side_by_side(code, base, threads, check=check)


def encoded_and_decoded(
    residual: Residual, source: Samples, base: Iterable[Piece], bit_depth: int, threads: int, check: Check | None = None
) -> Iterator[Piece]:
    """The tiles as a decoder makes them of what `encoded` gives."""

    def code(piece: Piece, check: Check | None) -> Piece:
        box, samples = piece
        return box, _coded(residual, source[slices_of(box, (0, 0, 0, 0))], samples, bit_depth, check)[1]

    return side_by_side(code, base, threads, check=check)


def _coded(
    residual: Residual, source: Samples, base: Samples, bit_depth: int, check: Check | None
) -> tuple[Part, Samples]:
    """The part of a tile, and the samples that a decoder makes of it."""
    payload = _encode(residual, source, base, bit_depth, check)
    decoded = source if residual.max_error == 0 else _decode(residual, payload, base, bit_depth, check)
    return Part(payload + checksum(decoded).to_bytes(RESULT_BYTES, "little"), checksum(base)), decoded


def _encode(residual: Residual, source: Samples, base: Samples, bit_depth: int, check: Check | None) -> bytes:
    source, base = _with_channels(source), _with_channels(base)
    if residual.kind == "coefficients":
        return encode_dct(source, base, residual.number, bit_depth, check)
    return encode_residual(source, base, bit_depth, residual.number, check)


# ---- decoding --------------------------------------------------------------------------------------------------------


def added(
    container: Container, tiling: Tiling, base: Iterable[Piece], area: Box, threads: int, check: Check | None = None
) -> Iterator[Piece]:
    """The pieces of `area`, of whole tiles of the base. A tile whose part isn't there stays as it is.

    Raises MismatchError where the base or the result isn't that of the encoder, CorruptError for a part that can't be
    decoded.
    """
    residual = container.residual
    assert residual is not None
    columns = -(-container.width // tiling.side)

    def refine(piece: Piece, check: Check | None) -> Piece:
        box, samples = piece
        tile = container.tiles[box[1] // tiling.side * columns + box[0] // tiling.side]
        if len(tile) == container.parts:
            if checksum(samples) != tile[-1].checksum:
                raise _mismatch(box, "decoded picture", "isn't the one that its residual was made for")
            payload, result = tile[-1].payload[:-RESULT_BYTES], tile[-1].payload[-RESULT_BYTES:]
            try:
                samples = _decode(residual, payload, samples, container.bit_depth, check)
            except CorruptError as error:
                raise CorruptError(f"the residual of the tile at {box[:2]} can't be decoded: {error}") from error
            if checksum(samples).to_bytes(RESULT_BYTES, "little") != result:
                raise _mismatch(box, "residual", "decodes to other samples than it was made of")
        wanted = overlap(box, area)
        return wanted, samples[slices_of(wanted, box)]

    return side_by_side(refine, base, threads, check=check)


def _decode(residual: Residual, payload: bytes, base: Samples, bit_depth: int, check: Check | None) -> Samples:
    channels = _with_channels(base)
    if residual.kind == "coefficients":
        return decode_dct(payload, channels, residual.number, bit_depth, check).reshape(base.shape)
    return decode_residual(payload, channels, bit_depth, residual.number, check).reshape(base.shape)


def checksum(samples: Samples) -> int:
    """The CRC-32 of samples, row by row, those of two bytes little-endian."""
    return crc32(np.ascontiguousarray(samples, samples.dtype.newbyteorder("<")).data)


def _mismatch(box: Box, what: str, how: str) -> MismatchError:
    return MismatchError(
        f"the {what} of the tile at {box[:2]} {how}: this machine computes other samples than the encoder's. `hpcm "
        "selftest` tells whether this one is wrong, and which kernels; HPCM_KERNELS chooses others. The lossy picture "
        "opens (--preview 3)"
    )


def _with_channels(samples: Samples) -> Samples:
    """As the coders take them: [h, w, 3 or 1]."""
    return samples if samples.ndim == 3 else samples[..., None]
