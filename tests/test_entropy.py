"""The entropy coder: tables, round trips, golden bytes, damaged streams, and how close it comes to the information."""

import threading
import zlib
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcm.core.ans import SymbolDecoder, SymbolEncoder, checksum
from hpcm.errors import CorruptError, WeightsError
from hpcm.model.tables import (
    DEFAULT_SCALES,
    MAX_SCALE,
    SHAPE,
    TAIL,
    TOTAL,
    Tables,
    make_tables,
    probability,
    representatives,
)

TABLES = make_tables()
SMALLEST, LARGEST = -(2**31), 2**31 - 1
Push = tuple[np.ndarray, np.ndarray]  # int32 symbols, uint8 indexes


def encode(pushes: list[Push], tables: Tables = TABLES) -> bytes:
    """All pushes as bytes."""
    encoder = SymbolEncoder(tables)
    for symbols, indexes in pushes:
        encoder.push(symbols, indexes)
    return b"".join(encoder.finish())


def decode(data: bytes, indexes: list[np.ndarray], tables: Tables = TABLES) -> list[np.ndarray]:
    """The symbols of all pushes."""
    decoder = SymbolDecoder(tables, data)
    symbols = [decoder.pop(part) for part in indexes]
    decoder.finish()
    return symbols


def make_push(symbols: list[int], indexes: list[int]) -> Push:
    """A push from plain numbers."""
    return np.array(symbols, np.int32), np.array(indexes, np.uint8)


def draw(count: int, scale: float, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Symbols from the model, int32 [count], and their scales: log-normal around `scale`, `spread` in powers of e."""
    rng = np.random.default_rng(1)
    scales = np.exp(rng.normal(np.log(scale), spread, count)).clip(0.12, 64.0).astype(np.float32)
    values = rng.gamma(1.0 / SHAPE, size=count) ** (1.0 / SHAPE) * scales * rng.choice([-1.0, 1.0], count)
    return np.rint(values).astype(np.int32), scales


def reference_encoder(tables: Tables) -> Any:
    """The encoder that is compared with; constriction has no wheels for Linux on ARM."""
    pytest.importorskip("constriction", reason="needs constriction, of the extra `dev`")
    from constriction_reference import ReferenceEncoder

    return ReferenceEncoder(tables)


@st.composite
def pushes(draw_from: st.DrawFn) -> list[Push]:
    """A few pushes, some empty: mostly small symbols, some anywhere in int32."""
    symbol = st.one_of(st.integers(-4, 4), st.integers(-400, 400), st.integers(SMALLEST, LARGEST))
    pair = st.tuples(symbol | st.sampled_from([SMALLEST, SMALLEST + 1, LARGEST]), st.integers(0, 59))
    parts = draw_from(st.lists(st.lists(pair, max_size=40), max_size=5))
    return [make_push([s for s, _ in part], [t for _, t in part]) for part in parts]


# --- the distribution and its tables


@pytest.mark.parametrize(
    ("symbol", "scale", "expected"),  # from mpmath with 30 digits
    [
        (0, 0.12, 0.9999292789840346),
        (1, 0.12, 3.536050798268563e-05),
        (1, 0.3, 0.029797296133251785),
        (0, 1.0, 0.48349865847735896),
        (-2, 1.0, 0.03824202775230849),
        (5, 1.0, 1.1674332397330194e-05),
        (30, 5.0, 4.6896223020875524e-08),
        (-30, 64.0, 0.00627835652909989),
    ],
)
def test_probability_is_exact(symbol: int, scale: float, expected: float) -> None:
    assert probability(symbol, scale) == pytest.approx(expected, rel=1e-12)


def test_probability_matches_the_incomplete_gamma_function() -> None:
    special = pytest.importorskip("scipy.special")
    symbols = np.arange(-300, 301)
    scales = np.array([0.01, 0.12, 0.2, 0.5, 1.0, 3.0, 20.0, 64.0, 4096.0])[:, None]

    def cdf(value: np.ndarray) -> np.ndarray:
        return (1 + np.sign(value) * special.gammainc(1 / SHAPE, np.abs(value / scales) ** SHAPE)) / 2

    assert np.abs(probability(symbols, scales) - (cdf(symbols + 0.5) - cdf(symbols - 0.5))).max() < 1e-12


def test_tables_are_valid_and_symmetric() -> None:
    TABLES.check()
    assert len(TABLES.scales) == 60
    assert TABLES.scales[[0, -1]].tolist() == [np.float32(0.12), 64.0]
    for table, radius in zip(TABLES.split(), TABLES.radius.tolist(), strict=True):
        assert len(table) == 2 * radius + 2
        assert table.sum() == TOTAL
        assert np.array_equal(table[:-1], table[:-1][::-1])
        assert (np.diff(table[: radius + 1]) >= 0).all()


def test_escapes_hold_the_tails_and_no_more() -> None:
    for scale, radius in zip(representatives(TABLES.scales).tolist(), TABLES.radius.tolist(), strict=True):
        beyond = 2 * probability(np.arange(radius + 1, 1000), scale).sum()
        assert beyond <= TAIL < beyond + 2 * probability(radius, scale)


def test_rounding_is_optimal() -> None:
    """No single step from one pair of symbols to another, or between 0 and a pair, shortens the expected code."""
    for scale, radius, table in zip(
        representatives(TABLES.scales).tolist(), TABLES.radius.tolist(), TABLES.split(), strict=True
    ):
        p, f = probability(np.arange(1, radius + 1), scale), table[radius + 1 : -1].astype(float)
        with np.errstate(divide="ignore"):
            win, loss = p * np.log1p(1 / f), np.where(f > 1, -p * np.log1p(-1 / f), np.inf)
        assert win.max() <= loss.min() * (1 + 1e-9)
        zero = (probability(0, scale), float(table[radius]))
        slack = 1 + 2 / zero[1]  # the sum's parity decides about the last unit
        assert zero[0] * np.log1p(2 / zero[1]) <= 2 * loss.min() * slack
        assert 2 * win.max() <= -zero[0] * np.log1p(-2 / zero[1]) * slack


def test_golden_tables() -> None:
    tables = TABLES.split()
    assert tables[0].tolist() == [2, 65531, 2, 1]
    assert tables[20].tolist() == [1, 11, 194, 2202, 13938, 32843, 13938, 2202, 194, 11, 1, 1]
    assert TABLES.radius[[10, 30, 40, 50, 59]].tolist() == [2, 15, 44, 126, 347]
    assert len(TABLES.frequencies) == 6670
    assert zlib.crc32(TABLES.frequencies.astype("<i4").tobytes()) == 0x59F12A7B


def test_index_counts_smaller_scales() -> None:
    scales = TABLES.scales
    assert TABLES.index(scales).tolist() == list(range(60))
    assert TABLES.index(np.nextafter(scales[:-1], np.float32(100))).tolist() == list(range(1, 60))
    index = TABLES.index(np.array([[0.0, 0.05], [64.5, np.inf]], np.float32))
    assert index.dtype == np.uint8
    assert index.tolist() == [[0, 0], [59, 59]]


def test_tables_of_other_scales() -> None:
    tables = make_tables([0.001, 1.0, MAX_SCALE])
    tables.check()
    push = make_push([0, 3, -20000, 21000, 30000], [0, 1, 2, 2, 2])
    assert np.array_equal(decode(encode([push], tables), [push[1]], tables)[0], push[0])


@pytest.mark.parametrize("scales", [[], [1.0, 1.0], [2.0, 1.0], [0.0, 1.0], [np.nan], [5000.0], [[1.0]], range(1, 258)])
def test_impossible_scales_are_refused(scales: list) -> None:
    with pytest.raises(ValueError, match="ascending"):
        make_tables(scales)


def changed(array: np.ndarray, place: int, value: float) -> np.ndarray:
    """A copy with one other entry."""
    array = array.copy()
    array[place] = value
    return array


@pytest.mark.parametrize(
    "change",
    [
        {"scales": DEFAULT_SCALES.astype(np.float64)},
        {"scales": DEFAULT_SCALES[None]},
        {"scales": DEFAULT_SCALES[:0]},
        {"scales": np.arange(1, 258, dtype=np.float32)},
        {"scales": DEFAULT_SCALES[::-1]},
        {"scales": changed(DEFAULT_SCALES, 3, np.nan)},
        {"scales": changed(DEFAULT_SCALES, -1, np.inf)},
        {"radius": TABLES.radius[:-1]},
        {"radius": TABLES.radius[:-1], "frequencies": TABLES.frequencies[: -(2 * 347 + 2)]},  # which fit each other
        {"radius": TABLES.radius.astype(np.int64)},
        {"radius": changed(TABLES.radius, 5, -1)},
        {"radius": changed(TABLES.radius, 5, LARGEST)},
        {"radius": changed(TABLES.radius, 5, 2)},
        {"frequencies": TABLES.frequencies[:-1]},
        {"frequencies": changed(TABLES.frequencies, 1, 65532)},
        {"frequencies": changed(TABLES.frequencies, 0, 0)},
        {"frequencies": changed(changed(TABLES.frequencies, 0, 0), 1, 65533)},  # which adds up
        {"frequencies": changed(TABLES.frequencies, 7, SMALLEST)},
        {"frequencies": changed(TABLES.frequencies, 7, LARGEST)},
    ],
)
def test_damaged_tables_are_refused(change: dict) -> None:
    with pytest.raises(WeightsError, match="entropy tables"):
        replace(TABLES, **change).check()


def test_tables_do_not_change() -> None:
    """Coders cache what they make of them."""
    with pytest.raises(FrozenInstanceError):
        TABLES.radius = TABLES.radius[:-1]  # type: ignore[misc]


# --- the coder


@settings(deadline=None)
@given(pushes())
def test_round_trip(parts: list[Push]) -> None:
    data = encode(parts)
    assert len(data) % 4 == 0
    for (symbols, _), decoded in zip(parts, decode(data, [indexes for _, indexes in parts]), strict=True):
        assert decoded.dtype == np.int32
        assert np.array_equal(decoded, symbols)


def test_round_trip_of_every_excess_length() -> None:
    magnitudes = np.unique(np.clip([1 << b for b in range(32)] + np.arange(-2, 3)[:, None] + 347, 0, LARGEST))
    symbols = np.concatenate([magnitudes, -magnitudes, [SMALLEST]]).astype(np.int32)
    for table in (0, 59):
        indexes = np.full(len(symbols), table, np.uint8)
        assert np.array_equal(decode(encode([(symbols, indexes)]), [indexes])[0], symbols)


def test_nothing_has_no_bytes() -> None:
    empty = make_push([], [])
    assert encode([]) == encode([empty, empty]) == b""
    assert [len(part) for part in decode(b"", [empty[1], empty[1]])] == [0, 0]


def test_strided_arrays_and_read_only_data() -> None:
    symbols, indexes = np.arange(-50, 40, dtype=np.int32)[::-3], np.arange(60, dtype=np.uint8)[::-2]
    symbols.flags.writeable = indexes.flags.writeable = False
    data = encode([(symbols, indexes)])
    assert np.array_equal(decode(bytearray(data), [indexes])[0], symbols)


def test_arrays_may_change_after_a_push() -> None:
    symbols, indexes = make_push([1, 2, 3], [20, 30, 40])
    encoder = SymbolEncoder(TABLES)
    encoder.push(symbols, indexes)
    symbols[:] = 0
    assert decode(b"".join(encoder.finish()), [indexes])[0].tolist() == [1, 2, 3]
    assert encoder.finish() == encoder.finish()


@pytest.mark.parametrize(
    ("symbols", "indexes"),
    [
        (np.zeros(3, np.int64), np.zeros(3, np.uint8)),
        (np.zeros(3, np.int32), np.zeros(3, np.int64)),
        (np.zeros(3, np.int32), np.zeros(2, np.uint8)),
        (np.zeros((3, 1), np.int32), np.zeros((3, 1), np.uint8)),
        (np.zeros(3, np.int32), np.full(3, 60, np.uint8)),
    ],
)
def test_wrong_arguments_are_refused(symbols: np.ndarray, indexes: np.ndarray) -> None:
    with pytest.raises(ValueError, match="must"):
        SymbolEncoder(TABLES).push(symbols, indexes)


def test_golden_bytes() -> None:
    first = make_push([0, 1, -1, 0, 5, -300, 12, 0, LARGEST, SMALLEST], [0, 10, 20, 30, 40, 59, 50, 5, 1, 59])
    second = make_push([3, -2, 0, 0, 100], [25, 25, 3, 3, 25])
    data = encode([first, second])
    assert data.hex() == "2c0be7ffff69dd482f2f00fffffcf7fec5ffffff00b4ff2c"
    assert [part.tolist() for part in decode(data, [first[1], second[1]])] == [first[0].tolist(), second[0].tolist()]


def test_threads_share_tables() -> None:
    push = make_push([1, 2, 500], [20, 30, 40])
    found: list[bytes] = []
    thread = threading.Thread(target=lambda: found.append(encode([push])))
    thread.start()
    thread.join()
    assert found == [encode([push])]


def test_checksum_runs_over_arrays() -> None:
    assert checksum(np.array([1, -2, 300], np.int32)) == zlib.crc32(bytes.fromhex("01000000feffffff2c010000"))
    symbols = np.arange(-5, 5, dtype=np.int32)
    assert checksum(symbols[4:], checksum(symbols[:4])) == checksum(symbols)
    assert checksum(symbols[:0], 7) == 7
    assert checksum(symbols[::-1]) == checksum(symbols[::-1].copy())


@settings(max_examples=100, deadline=None)
@given(pushes())
def test_the_first_parts_are_the_first_symbols(parts: list[Push]) -> None:
    """A cut after each push: whatever follows isn't needed, and cuts cost nothing."""
    encoder = SymbolEncoder(TABLES)
    for symbols, indexes in parts:
        encoder.push(symbols, indexes)
        encoder.cut()
    pieces = encoder.finish()
    assert len(pieces) == len(parts) + 1
    assert b"".join(pieces) == encode(parts)
    for count in range(len(parts) + 1):
        decoder = SymbolDecoder(TABLES, b"".join(pieces[:count]))
        for symbols, indexes in parts[:count]:
            assert np.array_equal(decoder.pop(indexes), symbols)
    assert not pieces[-1]


def test_a_part_is_no_longer_than_it_must_be() -> None:
    """But for the two words of the state, a part holds what its own symbols are worth."""
    symbols, indexes = np.tile(np.arange(-3, 4, dtype=np.int32), 1000), np.full(7000, 25, np.uint8)
    encoder = SymbolEncoder(TABLES)
    for _ in range(3):
        encoder.push(symbols, indexes)
        encoder.cut()
    sizes = [len(piece) for piece in encoder.finish()]
    alone = len(encode([(symbols, indexes)]))
    assert alone <= sizes[0] <= alone + 8
    assert abs(sizes[1] - alone) <= 8


# --- a plain twin: the coder as its docstring describes it, symbol by symbol, in Python's integers


class PlainDecoder:
    """ANS with a state of 64 bits, words of 32 and frequencies in units of 2^-24."""

    def __init__(self, data: bytes) -> None:
        self.words = np.frombuffer(data, "<u4").tolist()
        self.state = 0
        for _ in range(2):
            self.refill()

    def refill(self) -> None:
        if self.state < 1 << 32 and self.words:
            self.state = self.state << 32 | self.words.pop(0)

    def pop(self, frequencies: list[int]) -> int:
        quantile, start, symbol = self.state % (1 << 24), 0, 0
        while start + frequencies[symbol] <= quantile:
            start += frequencies[symbol]
            symbol += 1
        self.state = frequencies[symbol] * (self.state >> 24) + quantile - start
        self.refill()
        return symbol

    def pop_push(self, indexes: list[int]) -> list[int]:
        symbols, escapes = [0] * len(indexes), []
        for place in sorted(range(len(indexes)), key=lambda place: indexes[place]):
            radius = int(TABLES.radius[indexes[place]])
            symbols[place] = self.pop([256 * f for f in TABLES.split()[indexes[place]].tolist()]) - radius
            if symbols[place] > radius:
                escapes.append(place)
        digits = [self.pop([1 << 19] * 32) + 1 for _ in escapes]
        excess = [1 << count for count in digits]
        for count in sorted(set(digits)):
            for shift in range(0, count, 16):
                bits = min(16, count - shift)
                for i in [i for i in range(len(escapes)) if digits[i] == count]:
                    excess[i] += self.pop([1 << (24 - bits)] * (1 << bits)) << shift
        for place, n in zip(escapes, excess, strict=True):
            magnitude = (n >> 1) + int(TABLES.radius[indexes[place]])
            symbols[place] = -magnitude if n & 1 else magnitude
        return symbols


@settings(max_examples=25, deadline=None)
@given(pushes())
def test_plain_twin_decodes_the_same(parts: list[Push]) -> None:
    plain = PlainDecoder(encode(parts))
    for symbols, indexes in parts:
        assert plain.pop_push(indexes.tolist()) == symbols.tolist()
    assert (plain.state, plain.words) == (0, [])


word = st.integers(0, 2**32 - 1) | st.sampled_from([0, 1, 255, 2**24 - 1, 2**31, 2**32 - 1])  # ones are escapes


@settings(max_examples=100, deadline=None)
@given(st.lists(word, max_size=30), st.lists(st.lists(st.integers(0, 59), max_size=20), min_size=1, max_size=3))
def test_plain_twin_decodes_any_words_the_same(words: list[int], pops: list[list[int]]) -> None:
    """Also those that no encoder writes, and beyond the last: so a checksum fails everywhere or nowhere."""
    data = np.array([1, *words], "<u4").tobytes()  # the first word is never 0
    decoder, plain = SymbolDecoder(TABLES, data), PlainDecoder(data)
    for indexes in pops:
        expected = plain.pop_push(indexes)
        if not all(SMALLEST <= symbol <= LARGEST for symbol in expected):
            with pytest.raises(CorruptError, match="damaged"):
                decoder.pop(np.array(indexes, np.uint8))
            break
        assert decoder.pop(np.array(indexes, np.uint8)).tolist() == expected
        assert decoder.words_left == len(plain.words) + (plain.state > 0) + (plain.state >= 1 << 32)


# --- damaged streams


@pytest.mark.parametrize("data", [b"\0", b"abcde", b"\0\0\0\0", b"\0\0\0\0\1\0\0\0"])
def test_impossible_data_are_refused(data: bytes) -> None:
    with pytest.raises(CorruptError, match="entropy-coded data"):
        SymbolDecoder(TABLES, data)


def test_left_over_data_are_refused() -> None:
    push = make_push([1, 2, 3], [30, 40, 50])
    decoder = SymbolDecoder(TABLES, encode([push, push]))
    decoder.pop(push[1])
    with pytest.raises(CorruptError, match="after the last symbol"):
        decoder.finish()


def test_damaged_streams_give_wrong_symbols_or_corrupt_error() -> None:
    """1,000 flips, truncations and random streams; anything else that is raised, a panic too, fails the test."""
    rng = np.random.default_rng(2)
    indexes = rng.integers(0, 60, 300).astype(np.uint8)
    symbols = np.rint(rng.standard_cauchy(300) * TABLES.scales[indexes]).clip(-1e9, 1e9).astype(np.int32)
    sound = encode([(symbols, indexes)] * 2)
    refused = 0
    for trial in range(1000):
        data = bytearray(sound)
        if trial % 3 == 0:
            for place in rng.integers(0, len(data), rng.integers(1, 9)):
                data[place] ^= 1 << rng.integers(8)
        elif trial % 3 == 1:
            del data[rng.integers(len(data)) :]
        else:
            data = bytearray(rng.bytes(4 * rng.integers(0, 200)))
        try:
            assert [len(part) for part in decode(bytes(data), [indexes, indexes])] == [300, 300]
        except CorruptError:
            refused += 1
    assert refused > 500


def test_a_symbol_beyond_32_bits_is_refused() -> None:
    """The excess of 2^31 on the positive side, which the encoder never writes, pushed by hand."""
    encoder = reference_encoder(TABLES)
    radius = int(TABLES.radius[3])
    encoder.push(*make_push([LARGEST], [3]))
    encoder._runs = encoder._runs[:1]
    encoder._push_excess(np.array([2 * (2**31 - radius)], np.int64))
    with pytest.raises(CorruptError, match="damaged"):
        SymbolDecoder(TABLES, b"".join(encoder.finish())).pop(np.array([3], np.uint8))


# --- the stream


@settings(deadline=None, max_examples=200)
@given(pushes(), st.integers(0, 5))
def test_the_stream_is_constrictions(parts: list[Push], cut: int) -> None:
    encoder, reference = SymbolEncoder(TABLES), reference_encoder(TABLES)
    for number, (symbols, indexes) in enumerate(parts):
        encoder.push(symbols, indexes)
        reference.push(symbols, indexes)
        if number == cut:
            encoder.cut()
            reference.cut()
    assert encoder.finish() == reference.finish()


@pytest.mark.parametrize("spread", [0.3, 2.0])
def test_a_long_stream_is_constrictions(spread: float) -> None:
    symbols, scales = draw(100_000, 1.0, spread)
    symbols[::1000] *= 1000  # escapes
    encoder, reference = SymbolEncoder(TABLES), reference_encoder(TABLES)
    for coder in (encoder, reference):
        coder.push(symbols, TABLES.index(scales))
        coder.cut()
        coder.cut()
        coder.push(symbols[:10], TABLES.index(scales[:10]))
    assert encoder.finish() == reference.finish()


def strange_tables(count: int, seed: int) -> Tables:
    """Tables that `make_tables` doesn't make: uneven, without symmetry, of radius 0 and of the largest one."""
    rng = np.random.default_rng(seed)
    radius = rng.choice([0, 0, 1, 3, 50], count).astype(np.int32)
    radius[rng.integers(count)] = TOTAL // 2 - 1
    frequencies = []
    for size in 2 * radius + 2:
        shares = rng.exponential(size=size) ** 8
        frequencies.append(1 + rng.multinomial(TOTAL - size, shares / shares.sum()))
    scales = np.sort(rng.choice(10_000, count, replace=False)).astype(np.float32) / 100 + np.float32(0.01)
    return Tables(scales, radius, np.concatenate(frequencies).astype(np.int32))


@settings(deadline=None, max_examples=30)
@given(st.sampled_from([1, 2, 9, 256]), st.integers(0, 2**32 - 1), pushes())
def test_the_stream_is_constrictions_with_any_tables(count: int, seed: int, parts: list[Push]) -> None:
    tables = strange_tables(count, seed)
    tables.check()
    rng = np.random.default_rng(seed)
    parts = [(symbols, (5 * indexes.astype(int) % count).astype(np.uint8)) for symbols, indexes in parts]
    near = rng.integers(0, count, 300).astype(np.uint8)
    parts.append((rng.integers(-tables.radius[near] - 1, tables.radius[near] + 2).astype(np.int32), near))
    reference = reference_encoder(tables)
    for symbols, indexes in parts:
        reference.push(symbols, indexes)
    data = encode(parts, tables)
    assert data == b"".join(reference.finish())
    for (symbols, _), decoded in zip(parts, decode(data, [indexes for _, indexes in parts], tables), strict=True):
        assert np.array_equal(decoded, symbols)


# --- the information bound


@pytest.mark.parametrize(("scale", "spread"), [(0.3, 1.0), (0.6, 1.0), (3.0, 1.0), (20.0, 0.5)])
def test_size_is_within_half_a_percent_of_the_information(scale: float, spread: float) -> None:
    """Rounding of frequencies, escapes, and tables for ranges of scales together cost less than 0.5%."""
    symbols, scales = draw(100_000, scale, spread)
    ideal = -np.log2(probability(symbols, scales)).sum()
    size = 8 * len(encode([(symbols, TABLES.index(scales))]))
    assert ideal < size < 1.005 * ideal + 64


def test_size_is_within_a_twentieth_of_a_percent_of_the_tables() -> None:
    """ANS itself costs next to nothing: the size is the information in the integer tables."""
    symbols, scales = draw(100_000, 0.6, 1.0)
    indexes = TABLES.index(scales)
    starts = np.concatenate([[0], np.cumsum(2 * TABLES.radius + 2)[:-1]])
    inside = np.abs(symbols) <= TABLES.radius[indexes]
    places = np.where(inside, symbols + TABLES.radius[indexes], 2 * TABLES.radius[indexes] + 1) + starts[indexes]
    bits = -np.log2(TABLES.frequencies[places] / TOTAL).sum()
    assert bits < 8 * len(encode([(symbols, indexes)])) < 1.0005 * bits + 64
