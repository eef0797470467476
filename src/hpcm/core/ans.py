"""Symbols and table indexes <-> bytes, by libhpcm; core/ans.c describes the stream.

A stack of asymmetric numeral systems is last in, first out, so `SymbolEncoder.push` only collects, in the order in
which the decoder will ask, and `finish` codes everything from the last symbol to the first. A beginning of the bytes
decodes to a beginning of the symbols: `cut` marks where a *part* ends, and the bytes that a decoder has taken by then
are the parts so far. Any int32 is codable.
"""

from __future__ import annotations

import weakref
from ctypes import POINTER, byref, c_size_t, c_uint8, c_void_p, string_at
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import CorruptError
from ..model.tables import Tables
from .library import check_status, library, pointer

Symbols = NDArray[np.int32]
Indexes = NDArray[np.uint8]
WORD_BYTES = 4


class _Owned:
    """A handle of the library's, freed with this object."""

    def __init__(self, create: str, free: str, *arguments: Any) -> None:
        self.handle = c_void_p()
        check_status(getattr(library(), create)(*arguments, byref(self.handle)))
        weakref.finalize(self, getattr(library(), free), self.handle).atexit = False  # a thread may still use it


@lru_cache(maxsize=8)
def _tables(tables: Tables) -> _Owned:
    """The library's form of tables, made once for each Tables object."""
    scales, radius, frequencies = (
        np.ascontiguousarray(array) for array in (tables.scales, tables.radius, tables.frequencies)
    )
    numbers = (pointer(scales), pointer(radius), len(scales), pointer(frequencies), len(frequencies))
    return _Owned("hpcm_tables_create", "hpcm_tables_free", *numbers)


class SymbolEncoder:
    """Collects symbols in decoding order; `finish` turns them into bytes."""

    def __init__(self, tables: Tables) -> None:
        self._tables = _tables(tables)  # must outlive the encoder
        self._count = len(tables.scales)
        self._coder = _Owned("hpcm_encoder_create", "hpcm_encoder_free", self._tables.handle)
        self._cuts = 0

    def push(self, symbols: Symbols, indexes: Indexes) -> None:
        """Add symbols (int32 [n]) with their tables' numbers (uint8 [n]), as one later `pop` will ask for them.

        Raises ValueError for other types or shapes, or for a table that doesn't exist.
        """
        indexes = _checked(indexes, self._count)
        if symbols.dtype != np.int32 or symbols.shape != indexes.shape:
            raise ValueError(f"symbols must be int32 {indexes.shape}, found {symbols.dtype} {symbols.shape}")
        symbols = np.ascontiguousarray(symbols)
        check_status(library().hpcm_encoder_push(self._coder.handle, pointer(symbols), pointer(indexes), len(symbols)))

    def cut(self) -> None:
        """A part ends after what was pushed so far."""
        check_status(library().hpcm_encoder_cut(self._coder.handle))
        self._cuts += 1

    def finish(self) -> list[bytes]:
        """The bytes of all pushes, part by part: one more than there are cuts. Codes them last to first."""
        data, sizes = POINTER(c_uint8)(), (c_size_t * (self._cuts + 1))()
        check_status(library().hpcm_encoder_finish(self._coder.handle, byref(data), sizes))
        whole = string_at(data, sum(sizes))
        ends = np.cumsum(list(sizes)).tolist()
        return [whole[end - size : end] for end, size in zip(ends, sizes, strict=True)]


class SymbolDecoder:
    """Gives symbols back in the order in which they were pushed. The first parts alone give their symbols.

    Damaged data gives wrong symbols or CorruptError, nothing else, and memory in proportion to the symbols asked for.
    """

    def __init__(self, tables: Tables, data: bytes) -> None:
        """Raises CorruptError when `data` can't be a stream: it isn't whole words, or begins with a zero word."""
        if len(data) % WORD_BYTES:
            raise CorruptError(f"entropy-coded data must be whole words of {WORD_BYTES} bytes, found {len(data)} bytes")
        if data and not any(data[:WORD_BYTES]):
            raise CorruptError("entropy-coded data never begins with a zero word: it is damaged")
        self._tables = _tables(tables)  # must outlive the decoder
        self._count = len(tables.scales)
        self._coder = _Owned("hpcm_decoder_create", "hpcm_decoder_free", self._tables.handle, bytes(data), len(data))

    def pop(self, indexes: Indexes) -> Symbols:
        """The next symbols (int32 [n]) for their tables' numbers (uint8 [n]); asks as one `push` was made.

        Raises CorruptError when damaged data gives a number that is no int32, ValueError for wrong indexes.
        """
        indexes = _checked(indexes, self._count)
        symbols = np.empty(len(indexes), np.int32)
        check_status(library().hpcm_decoder_pop(self._coder.handle, pointer(indexes), len(indexes), pointer(symbols)))
        return symbols

    @property
    def words_left(self) -> int:
        """Words of 4 bytes that no symbol has needed."""
        return int(library().hpcm_decoder_words_left(self._coder.handle))

    def finish(self) -> None:
        """Raise CorruptError if anything is left: the data hold more than was asked for, or are damaged."""
        if left := self.words_left:
            raise CorruptError(f"entropy-coded data go on after the last symbol: {left} words of 4 bytes are left")


def checksum(symbols: Symbols, start: int = 0) -> int:
    """CRC-32 of symbols as little-endian int32; `start` is the checksum of the arrays before, to run over several."""
    symbols = np.ascontiguousarray(symbols, np.int32)
    return int(library().hpcm_checksum(pointer(symbols), symbols.size, start))


def _checked(indexes: Indexes, tables: int) -> Indexes:
    if indexes.dtype != np.uint8 or indexes.ndim != 1:
        raise ValueError(f"indexes must be uint8 with 1 dimension, found {indexes.dtype} with {indexes.ndim}")
    if len(indexes) and indexes.max() >= tables:
        raise ValueError(f"indexes must lie below the number of tables, {tables}, found {indexes.max()}")
    return np.ascontiguousarray(indexes)
