"""The residual of a tile <-> bytes, by libhpcm: the source's samples beside a base that both sides know, such as the
codec's own pixels of the tile.

There are two coders. That of samples is exact, or keeps a bound of the error (core/residual.c describes its stream);
that of coefficients is for the eye (core/residual_dct.c).

Samples are [rows][columns][channels] with 1 or 3 channels, uint8 for a bit depth of 8 and uint16 for 9 to 16, and at
most MAX_SIDE rows and columns. A `check` is called often; what it raises ends the work.
"""

from __future__ import annotations

from collections.abc import Callable
from ctypes import POINTER, byref, c_size_t, c_uint8, string_at
from typing import Any

import numpy as np

from .library import call_checked, library, pointer

MAX_SIDE = 4096
BIT_DEPTHS = range(8, 17)
STEPS_ALLOWED = range(1, 1 << 16)

_Check = Callable[[], None] | None


def encode_residual(
    source: np.ndarray, base: np.ndarray, bit_depth: int = 8, max_error: int = 0, check: _Check = None
) -> bytes:
    """The payload that tells `source` to those who have `base`, a picture of the same shape.

    No decoded sample is off by more than `max_error`, which is below half the range.

    Raises ValueError for other arrays or numbers, and for samples of more bits.
    """
    _check_error(bit_depth, max_error)
    return _encode("hpcm_residual_encode", source, base, bit_depth, max_error, check)


def decode_residual(
    payload: bytes, base: np.ndarray, bit_depth: int = 8, max_error: int = 0, check: _Check = None
) -> np.ndarray:
    """The samples of a payload, of the shape and type of `base`; arguments are those of `encode_residual`.

    Raises CorruptError for some payloads that were damaged; others give wrong samples. ValueError as `encode_residual`.
    """
    _check_error(bit_depth, max_error)
    return _decode("hpcm_residual_decode", payload, base, bit_depth, max_error, check)


def encode_dct(source: np.ndarray, base: np.ndarray, step: int, bit_depth: int = 8, check: _Check = None) -> bytes:
    """The payload that brings those who have `base`, a picture of the same shape, nearer to `source`.

    `step` is that of the coefficients that get the finest one, 1 to 65535, in sixteenths of an 8-bit sample, at any bit
    depth: `defaults.STEPS` has useful ones.

    Raises ValueError for other arrays or numbers, and for samples of more bits.
    """
    _check_step(step)
    return _encode("hpcm_dct_encode", source, base, bit_depth, step, check)


def decode_dct(payload: bytes, base: np.ndarray, step: int, bit_depth: int = 8, check: _Check = None) -> np.ndarray:
    """The samples of a payload, of the shape and type of `base`; arguments are those of `encode_dct`.

    Raises CorruptError for some payloads that were damaged; others give wrong samples. ValueError as `encode_dct`.
    """
    _check_step(step)
    return _decode("hpcm_dct_decode", payload, base, bit_depth, step, check)


def _encode(name: str, source: np.ndarray, base: np.ndarray, bit_depth: int, number: int, check: _Check) -> bytes:
    """number: max_error or step."""
    source, base = _checked(source, bit_depth), _checked(base, bit_depth)
    if source.shape != base.shape:
        raise ValueError(f"source and base must have one shape, found {source.shape} and {base.shape}")
    payload, size = POINTER(c_uint8)(), c_size_t()
    given: tuple[Any, ...] = (pointer(source), pointer(base), *base.shape, bit_depth, number)
    call_checked(name, (*given, byref(payload), byref(size)), check)
    try:
        return string_at(payload, size.value)
    finally:
        library().hpcm_residual_free(payload)


def _decode(name: str, payload: bytes, base: np.ndarray, bit_depth: int, number: int, check: _Check) -> np.ndarray:
    base, payload = _checked(base, bit_depth), bytes(payload)
    pixels = np.empty(base.shape, base.dtype)
    given: tuple[Any, ...] = (payload, len(payload), pointer(base), *base.shape, bit_depth, number)
    call_checked(name, (*given, pointer(pixels)), check)
    return pixels


def _check_error(bit_depth: int, max_error: int) -> None:
    if bit_depth in BIT_DEPTHS and not 0 <= max_error < 1 << (bit_depth - 1):
        raise ValueError(f"max_error must be 0 to {(1 << (bit_depth - 1)) - 1} for {bit_depth} bits, found {max_error}")


def _check_step(step: int) -> None:
    if step not in STEPS_ALLOWED:
        raise ValueError(f"step must be 1 to {STEPS_ALLOWED[-1]}, found {step}")


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
