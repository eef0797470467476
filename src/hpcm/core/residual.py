"""The residual of a tile <-> bytes, by libhpcm; core/residual.c describes the stream.

The source's samples, exact or within a bound, beside a base that both sides know: the codec's own pixels of the tile.
"""

from __future__ import annotations

from ctypes import POINTER, byref, c_size_t, c_uint8, c_void_p, string_at
from typing import Any

import numpy as np

from .library import Check, check_status, library, pointer

MAX_SIDE = 4096
BIT_DEPTHS = range(8, 17)


def encode_residual(source: np.ndarray, base: np.ndarray, bit_depth: int = 8, max_error: int = 0) -> bytes:
    """The payload that tells `source` to those who have `base`.

    Both are [rows][columns][channels] with 1 or 3 channels, uint8 for a bit depth of 8 and uint16 for 9 to 16, and at
    most MAX_SIDE rows and columns. No decoded sample is off by more than `max_error`, which is below half the range.

    Raises ValueError for other arrays or numbers, and for samples of more bits.
    """
    arguments = _arguments(base, bit_depth, max_error)
    source = _checked(source, bit_depth)
    if source.shape != base.shape:
        raise ValueError(f"source and base must have one shape, found {source.shape} and {base.shape}")
    payload, size = POINTER(c_uint8)(), c_size_t()
    given = (pointer(source), *arguments, byref(payload), byref(size))
    check_status(library().hpcm_residual_encode(*given, Check(), c_void_p()))
    try:
        return string_at(payload, size.value)
    finally:
        library().hpcm_residual_free(payload)


def decode_residual(payload: bytes, base: np.ndarray, bit_depth: int = 8, max_error: int = 0) -> np.ndarray:
    """The samples of a payload, of the shape and type of `base`; arguments are those of `encode_residual`.

    Raises CorruptError for some payloads that were damaged; others give wrong samples. ValueError as `encode_residual`.
    """
    arguments = _arguments(base, bit_depth, max_error)
    pixels = np.empty(base.shape, base.dtype)
    given = (bytes(payload), len(payload), *arguments, pointer(pixels))
    check_status(library().hpcm_residual_decode(*given, Check(), c_void_p()))
    return pixels


def _arguments(base: np.ndarray, bit_depth: int, max_error: int) -> tuple[Any, ...]:
    """What both functions of the library are given, the base's array among it."""
    base = _checked(base, bit_depth)
    if not 0 <= max_error < 1 << (bit_depth - 1):
        raise ValueError(f"max_error must be 0 to {(1 << (bit_depth - 1)) - 1} for {bit_depth} bits, found {max_error}")
    return (base.ctypes.data_as(c_void_p), *base.shape, bit_depth, max_error)  # data_as keeps the array


def _checked(samples: np.ndarray, bit_depth: int) -> np.ndarray:
    if bit_depth not in BIT_DEPTHS:
        raise ValueError(f"bit_depth must be 8 to 16, found {bit_depth}")
    dtype = np.uint8 if bit_depth == BIT_DEPTHS[0] else np.uint16
    if samples.dtype != dtype or samples.ndim != 3 or samples.shape[2] not in (1, 3):
        raise ValueError(
            f"samples of {bit_depth} bits must be {np.dtype(dtype)} [rows][columns][1 or 3], "
            f"found {samples.dtype} {samples.shape}"
        )
    if not all(0 < side <= MAX_SIDE for side in samples.shape[:2]):
        raise ValueError(f"rows and columns must be 1 to {MAX_SIDE}, found {samples.shape[:2]}")
    if int(samples.max()) >> bit_depth:
        raise ValueError(f"samples of {bit_depth} bits must lie below {1 << bit_depth}, found {samples.max()}")
    return np.ascontiguousarray(samples)
