"""PNG files beyond Pillow: 16-bit samples, of which it writes grey alone, and whether all rows are there.

Source: PNG specification, third edition.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import IO

import numpy as np
from numpy.typing import NDArray

from .metadata.scan import PNG_SIGNATURE, png_chunks
from .planes import Planes, with_depth

COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # channels: grey, grey with alpha, RGB, RGB with alpha
SAMPLE_BYTES = 2
LEVEL = 3  # of zlib, as for 8 bits (image/write.py)
PIECE = 1 << 20  # bytes that are decompressed at once
ROWS = 64  # that are filtered and compressed at once


def chunk(kind: bytes, data: bytes) -> bytes:
    """Length, type, data and CRC."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def holds_all_rows(data: bytes, size: tuple[int, int], sample_bytes: int) -> bool:
    """Whether a grey PNG of (height, width), not interlaced, has one header and its rows, no more. Raises zlib.error.

    Pillow fills missing rows up with zeros, and takes the last of several headers.
    """
    height, width = size
    chunks = list(png_chunks(data))
    if [kind for kind, _, _ in chunks].count(b"IHDR") != 1:
        return False
    packed = b"".join(data[begin:end] for kind, begin, end in chunks if kind == b"IDAT")
    left, unpacker = height * (1 + width * sample_bytes), zlib.decompressobj()
    while packed and left >= 0 and not unpacker.eof:
        left -= len(unpacker.decompress(packed, PIECE))
        packed = unpacker.unconsumed_tail
    return left == 0 and unpacker.eof


def write(planes: Planes, chunks: bytes, out: IO[bytes]) -> None:
    """Writes a PNG of 16 bits. If the picture has fewer, sBIT tells how many, and a reader shifts them back.

    Args:
        chunks: others that belong before the pixels, whole.
    """
    samples = with_depth(planes, 8 * SAMPLE_BYTES).joined
    height, width = samples.shape[:2]
    channels = samples.shape[2] if samples.ndim == 3 else 1
    header = struct.pack(">IIBBBBB", width, height, 8 * SAMPLE_BYTES, COLOUR_TYPES[channels], 0, 0, 0)
    out.write(PNG_SIGNATURE + chunk(b"IHDR", header) + chunks)
    if planes.bit_depth < 8 * SAMPLE_BYTES:
        out.write(chunk(b"sBIT", bytes([planes.bit_depth] * channels)))
    for data in _compressed(samples.reshape(height, -1), channels * SAMPLE_BYTES):
        out.write(chunk(b"IDAT", data))
    out.write(chunk(b"IEND", b""))


def _compressed(samples: NDArray[np.uint16], step: int) -> Iterator[bytes]:
    """The filtered rows [H, samples of a row], compressed, in pieces. `step`: bytes of a pixel."""
    packer = zlib.compressobj(LEVEL)
    above = np.zeros((1, SAMPLE_BYTES * samples.shape[1]), np.uint8)
    for top in range(0, len(samples), ROWS):
        rows = samples[top : top + ROWS].astype(">u2").view(np.uint8)
        if data := packer.compress(_filtered(rows, above, step).tobytes()):
            yield data
        above = rows[-1:]
    yield packer.flush()


def _filtered(rows: NDArray[np.uint8], above: NDArray[np.uint8], step: int) -> NDArray[np.uint8]:
    """Each row [bytes] by the filter of the least sum of magnitudes, with the filter's number in front.

    The heuristic is the specification's (12.7). `above`: the row before them, zeros if there is none.
    """
    x = rows.astype(np.int16)
    b = np.concatenate((above, rows[:-1])).astype(np.int16)  # the byte above
    a, c = (np.pad(values, ((0, 0), (step, 0)))[:, : x.shape[1]] for values in (x, b))  # those one pixel to the left
    candidates = np.stack((x, x - a, x - b, x - (a + b) // 2, x - _paeth(a, b, c))).astype(np.uint8)
    costs = np.abs(candidates.view(np.int8).astype(np.int16)).sum(axis=2, dtype=np.int64)
    best = costs.argmin(axis=0)
    chosen = candidates[best, np.arange(len(rows))]
    return np.concatenate((best[:, None].astype(np.uint8), chosen), axis=1)


def _paeth(a: NDArray[np.int16], b: NDArray[np.int16], c: NDArray[np.int16]) -> NDArray[np.int16]:
    """Of a, b and c the one nearest to a + b - c, in this order where two are as near."""
    to_a, to_b, to_c = abs(b - c), abs(a - c), abs(a + b - 2 * c)
    return np.where((to_a <= to_b) & (to_a <= to_c), a, np.where(to_b <= to_c, b, c))
