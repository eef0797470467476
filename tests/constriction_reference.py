"""The entropy coder's stream as constriction writes it: the reference for libhpcm's (core/ans.c)."""

from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any

import numpy as np
from constriction import stream
from numpy.typing import NDArray

from hpcm.model.tables import Tables

WORDS_AT_HAND = 2  # of the state
PRECISION = 24  # bits of a probability in constriction
UNIT = 1 << (PRECISION - 16)  # of a table's frequency, in units of 2^-24
LENGTH_BITS = 5  # an excess has 1 to 32 digits after its first
CHUNK_BITS = 16  # so many digits of an excess are coded at once; must be below PRECISION

Symbols = NDArray[np.int32]
Indexes = NDArray[np.uint8]


class ReferenceEncoder:
    """Collects symbols in decoding order; `finish` turns them into bytes."""

    def __init__(self, tables: Tables) -> None:
        self._radius = tables.radius.tolist()
        self._models = _models(tables)
        self._runs: list[tuple[Any, Symbols]] = []  # (model, symbols) in decoding order
        self._cuts: list[int] = []  # the number of runs before each

    def push(self, symbols: Symbols, indexes: Indexes) -> None:
        """Add symbols (int32 [n]) with their tables' numbers (uint8 [n]), as one later `pop` will ask for them.

        Raises ValueError for other types or shapes, or for a table that doesn't exist.
        """
        order, counts = _group(indexes, len(self._models))
        if symbols.dtype != np.int32 or symbols.shape != indexes.shape:
            raise ValueError(f"symbols must be int32 {indexes.shape}, found {symbols.dtype} {symbols.shape}")
        grouped = symbols.take(order)
        excess = []
        for table, part in _parts(counts):
            radius, run = self._radius[table], grouped[part]
            # -radius..radius become 0..2 radius; whatever is smaller wraps around and is too large as well: an escape.
            codes = (run + radius).view(np.uint32)
            np.minimum(codes, 2 * radius + 1, out=codes)
            self._runs.append((self._models[table], codes.view(np.int32)))
            excess.append(_excess(run[codes == 2 * radius + 1], radius))
        if excess:
            self._push_excess(np.concatenate(excess))

    def cut(self) -> None:
        """A part ends after what was pushed so far."""
        self._cuts.append(len(self._runs))

    def finish(self) -> list[bytes]:
        """The bytes of all pushes, part by part: one more than there are cuts. Codes them last to first."""
        coder, beyond = stream.stack.AnsCoder(), []  # how many words a decoder needs only after each cut
        end = len(self._runs)
        for start in [*self._cuts[::-1], 0]:
            for model, symbols in reversed(self._runs[start:end]):
                coder.encode_reverse(symbols, model)
            beyond.append(max(coder.num_words() - WORDS_AT_HAND, 0))
            end = start
        words = coder.get_compressed()[::-1].astype("<u4")
        stops = [len(words) - later for later in beyond[-2::-1]]
        return [part.tobytes() for part in np.split(words, stops)]

    def _push_excess(self, excess: NDArray[np.int64]) -> None:
        """Add the numbers >= 2 that say how far escaped symbols lie beyond their tables, int64 [escapes]."""
        if not len(excess):
            return
        digits = np.frexp(excess)[1] - 1  # after the first; exact, as the numbers have at most 33 digits
        self._runs.append((_uniform(LENGTH_BITS), digits.astype(np.int32) - 1))
        for count in np.unique(digits).tolist():
            rest = excess[digits == count] - (1 << count)
            for shift, bits in _chunks(count):
                chunk = (rest >> shift) & ((1 << bits) - 1)
                self._runs.append((_uniform(bits), chunk.astype(np.int32)))


def _group(indexes: Indexes, tables: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The order that groups uint8 indexes [n] by table, [n], and how many each table has, [tables].

    numpy sorts bytes stably by counting (radix sort), which takes about 5 ns for each. Raises ValueError.
    """
    if indexes.dtype != np.uint8 or indexes.ndim != 1:
        raise ValueError(f"indexes must be uint8 with 1 dimension, found {indexes.dtype} with {indexes.ndim}")
    counts = np.bincount(indexes, minlength=tables)
    if len(counts) > tables:
        raise ValueError(f"indexes must lie below the number of tables, {tables}, found {len(counts) - 1}")
    return np.argsort(indexes, kind="stable"), counts


def _parts(counts: NDArray[np.intp]) -> Iterator[tuple[int, slice]]:
    """(table, its part of the grouped symbols) for each table that has any."""
    stops = np.cumsum(counts).tolist()
    for table in np.flatnonzero(counts).tolist():
        yield table, slice(stops[table] - int(counts[table]), stops[table])


def _excess(symbols: Symbols, radius: int) -> NDArray[np.int64]:
    """How far symbols lie beyond +-radius, and on which side, as one number >= 2 for each: int64 [n]."""
    wide = symbols.astype(np.int64)
    return 2 * (np.abs(wide) - radius) + (wide < 0)


def _chunks(count: int) -> list[tuple[int, int]]:
    """(shift, bits) of the chunks in which an excess' `count` digits are coded, low ones first."""
    return [(shift, min(CHUNK_BITS, count - shift)) for shift in range(0, count, CHUNK_BITS)]


@cache
def _uniform(bits: int) -> Any:
    """The model of `bits` digits (1 to 16) that are all equally probable."""
    return stream.model.Uniform(1 << bits)


@lru_cache(maxsize=8)
def _models(tables: Tables) -> list[Any]:
    """One constriction model for each table, made once for each Tables object.

    constriction reads weights w_0, w_1, ... of n symbols as floats and lets symbol i begin, in units of 2^-24, at

        i + floor((w_0 + ... + w_(i-1)) * ((2^24 - n) / sum of all w))        (with perfect=False)

    so that each symbol gets at least one unit. Given plain frequencies it would be off by a few units. Given
    w = 256 f - 1 the sum is 2^24 - n, the quotient is 1, every operation is exact, and symbol i begins at exactly
    256 (f_0 + ... + f_(i-1)). lazy=False makes it keep these integers and decode by comparing integers.
    """
    weights = [UNIT * table.astype(np.float64) - 1.0 for table in tables.split()]
    return [stream.model.Categorical(w, perfect=False, lazy=False) for w in weights]
