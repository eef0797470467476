"""Symbols and table indexes <-> bytes: a stack of asymmetric numeral systems (ANS).

ANS keeps a whole message in one big number, the state x. A symbol whose table gives it frequency f of 2^24, with the
frequencies of the symbols before it adding up to c, goes onto the state and comes off again like this:

    push   x <- (x div f) * 2^24 + c + x mod f                 grows by log2(2^24 / f) bits, the symbol's information
    pop    q <- x mod 2^24; the symbol is the one with c <= q < c + f;   x <- f * (x div 2^24) + q - c

The two undo each other exactly. Only the top 64 bits of x are at hand: before a push that would overflow them the lower
32 bits move to a list of words, and come back when a pop leaves x below 2^32. The bytes are words of 32 bits, each
little-endian, in the order in which a decoder needs them: x itself, upper word first, without zero words in front, then
the words of the list, the newest first. An empty state has no bytes.

THE TRAP: a stack is last in, first out. The decoder pops first what was pushed last. So `Encoder.push` only collects,
in the order in which the decoder will ask, and `Encoder.finish` codes everything from the last symbol to the first. An
encoder has no byte to send before its last step; a decoder may stop after any.

A beginning of the bytes decodes to a beginning of the symbols: `Encoder.cut` marks where a *part* ends, and the words
that a decoder has taken by then are the bytes of the parts so far. Parts cost nothing.

One push is laid out like this, in decoding order:

    symbols of table 0 | symbols of table 1 | ... | excess of the escapes
                                                    number of bits of each | their low bits | their high bits

Grouping by table (a stable sort of the indexes, known to both sides) lets compiled code take a whole group with one
model. A symbol beyond the radius of its table goes into its group as an escape; the distance follows after all groups,
when the decoder knows how many there are: n = 2 (|s| - radius) + (1 if s < 0 else 0) >= 2 has k + 1 binary digits, of
which the first is a one; k - 1 is coded with 5 bits, then for k = 1, 2, ... the other k digits of all n of that length,
the low 16 and then the rest. Any int32 is codable.

Everything is integer arithmetic. Tables count in units of 2^-16 and constriction in units of 2^-24: see `_models` for
how it is made to use exactly 256 times a table's frequency.
"""

import zlib
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Any

import numpy as np
from constriction import stream
from numpy.typing import NDArray

from ..errors import CorruptError
from ..model.tables import Tables

WORD_BYTES = 4
WORDS_AT_HAND = 2  # of the state
PRECISION = 24  # bits of a probability in constriction
UNIT = 1 << (PRECISION - 16)  # of a table's frequency, in units of 2^-24
LENGTH_BITS = 5  # an excess has 1 to 32 digits after its first
CHUNK_BITS = 16  # so many digits of an excess are coded at once; must be below PRECISION

Symbols = NDArray[np.int32]
Indexes = NDArray[np.uint8]


class Encoder:
    """Collects symbols in decoding order; `finish` turns them into bytes."""

    def __init__(self, tables: Tables) -> None:
        self._radius = tables.radius.tolist()
        self._models = _models(tables)
        self._runs: list[tuple[Any, Symbols]] = []  # (model, symbols) in decoding order
        self._cuts: list[int] = []  # the number of runs before each

    def push(self, symbols: Symbols, indexes: Indexes) -> None:
        """Add symbols (int32 [n]) with their tables' numbers (uint8 [n]), as one later `Decoder.pop` will ask for them.

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


class Decoder:
    """Gives symbols back in the order in which they were pushed. The first parts alone give their symbols.

    Damaged data gives wrong symbols or CorruptError, nothing else, and memory in proportion to the symbols asked for.
    """

    def __init__(self, tables: Tables, data: bytes) -> None:
        """Raises CorruptError when `data` can't be a stream: it isn't whole words, or begins with a zero word."""
        if len(data) % WORD_BYTES:
            raise CorruptError(f"entropy-coded data must be whole words of {WORD_BYTES} bytes, found {len(data)} bytes")
        words = np.frombuffer(data, "<u4")[::-1].astype(np.uint32, order="C")
        if len(words) and words[-1] == 0:
            raise CorruptError("entropy-coded data never begins with a zero word: it is damaged")
        self._radius = tables.radius.tolist()
        self._models = _models(tables)
        self._coder = stream.stack.AnsCoder(words)

    def pop(self, indexes: Indexes) -> Symbols:
        """The next symbols (int32 [n]) for their tables' numbers (uint8 [n]); asks as one `Encoder.push` was made.

        Raises CorruptError when damaged data gives a number that is no int32, ValueError for wrong indexes.
        """
        order, counts = _group(indexes, len(self._models))
        grouped = np.empty(len(indexes), np.int32)
        escapes = []
        for table, part in _parts(counts):
            radius, run = self._radius[table], grouped[part]
            codes = self._coder.decode(self._models[table], part.stop - part.start)
            np.subtract(codes, radius, out=run)
            escapes.append(part.start + np.flatnonzero(run == radius + 1))
        if escapes:
            self._pop_excess(grouped, np.concatenate(escapes))
        symbols = np.empty_like(grouped)
        symbols[order] = grouped
        return symbols

    @property
    def words_left(self) -> int:
        """Words that no symbol has needed so far, among them what the state holds; 0 after the last symbol."""
        return int(self._coder.num_words())

    def finish(self) -> None:
        """Raise CorruptError if anything is left: the data hold more than was asked for, or are damaged."""
        if left := self.words_left:
            raise CorruptError(f"entropy-coded data go on after the last symbol: {left} words of 4 bytes are left")

    def _pop_excess(self, grouped: Symbols, escapes: NDArray[np.int64]) -> None:
        """Replace escapes, which stand in `grouped` as radius + 1 at the positions `escapes`, by the symbols meant."""
        if not len(escapes):
            return
        digits = self._coder.decode(_uniform(LENGTH_BITS), len(escapes)) + 1
        excess = np.left_shift(1, digits, dtype=np.int64)
        for count in np.unique(digits).tolist():
            places = np.flatnonzero(digits == count)
            for shift, bits in _chunks(count):
                excess[places] += self._coder.decode(_uniform(bits), len(places)).astype(np.int64) << shift
        magnitude = (excess >> 1) + grouped[escapes] - 1
        symbols = np.where(excess & 1, -magnitude, magnitude)
        limits = np.iinfo(np.int32)
        if symbols.min() < limits.min or symbols.max() > limits.max:
            raise CorruptError("entropy-coded data give a symbol that doesn't fit 32 bits: they are damaged")
        grouped[escapes] = symbols


def checksum(symbols: Symbols, start: int = 0) -> int:
    """CRC-32 of symbols as little-endian int32; `start` is the checksum of the arrays before, to run over several."""
    return zlib.crc32(symbols.astype("<i4").tobytes(), start)


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
