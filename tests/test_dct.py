"""The coder of coefficients: round trips, golden bytes, damaged payloads, its plain twin, what a step is worth."""

import hashlib
import math
from ctypes import POINTER, byref, c_size_t, c_uint8, c_void_p

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dct_reference import decode_dct_plainly
from hpcm.core.library import BAD_ARGUMENT, Check, library, pointer
from hpcm.core.residual import decode_dct, encode_dct
from hpcm.defaults import STEPS
from hpcm.errors import CorruptError
from tiles import KINDS, PICTURES, make_base, make_integers, make_picture

GOLDEN = {  # (channels, bit depth, step): the beginnings of SHA-256 of the payloads and samples
    (3, 8, 20): ["ab58323765e219ec", "45fca1e7cab5fb8f", "aacaf53655315879"],
    (3, 8, 1): ["4712bfe64b213fd2", "29e29257b78cf9c1", "97a5f7622304ab7f"],
    (1, 12, 30): ["f1359be3558d7f22", "db530efcca69191f", "fd25a31c31f69e62"],
    (3, 16, 200): ["aac4f4432cbe19ba", "0b892583f7856f3b", "fc88fde3be9d09bf"],
}
LARGEST_STEP = 65535
EVERY_STEP = st.one_of(st.integers(1, 100), st.integers(1, LARGEST_STEP))


def photograph() -> tuple[np.ndarray, np.ndarray]:
    """A picture and a blurred one, uint8 [256][384][3]."""
    with Image.open("tests/data/kodim23.png") as picture:
        source = picture.convert("RGB").crop((128, 128, 512, 384))
    base = source.reduce(4).resize(source.size, Image.Resampling.BICUBIC)
    return np.asarray(source), np.asarray(base)


def squared_error(a: np.ndarray, b: np.ndarray) -> float:
    return float(((a.astype(float) - b) ** 2).sum())


@settings(max_examples=60, deadline=None)
@given(PICTURES, EVERY_STEP, st.booleans())
def test_samples_come_back_near_the_source(picture: tuple, step: int, has_base: bool) -> None:
    """core/test/fuzz_dct.c says where the bound is from."""
    source, (rows, columns, channels, bit_depth, seed) = make_picture(*picture), picture[1:]
    base = make_base(source, bit_depth, seed) if has_base else make_picture("noise", *picture[1:])
    payload = encode_dct(source, base, step, bit_depth)
    decoded = decode_dct(payload, base, step, bit_depth)
    assert decoded.dtype == source.dtype
    assert not (decoded.astype(int) >> bit_depth).any()
    samples = (rows + 7) * (columns + 7) * channels
    assert squared_error(decoded, source) <= (10 * step**2 + 1) * 4 ** (bit_depth - 8) * samples
    assert encode_dct(source, base, step, bit_depth) == payload


@settings(max_examples=60, deadline=None)
@given(PICTURES, st.binary(max_size=400), EVERY_STEP)
def test_any_bytes_decode_or_are_refused(picture: tuple, payload: bytes, step: int) -> None:
    base, bit_depth = make_picture(*picture), picture[4]
    payload = b"\0" + payload
    try:
        decoded = decode_dct(payload, base, step, bit_depth)
    except CorruptError:
        return
    assert not (decoded.astype(int) >> bit_depth).any()
    assert np.array_equal(decode_dct(payload, base, step, bit_depth), decoded)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_damaged_payloads_decode_or_are_refused(data: st.DataObject) -> None:
    source = make_picture(data.draw(st.sampled_from(KINDS)), 33, 47, 3, 8, 5)
    base = make_base(source, 8, 5)
    payload = bytearray(encode_dct(source, base, 5))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(payload[: data.draw(st.integers(0, len(payload)))])
    for damaged in (bytes(payload), cut):
        try:
            decode_dct(damaged, base, 5)
        except CorruptError:
            continue


def test_bytes_that_no_encoder_gives_are_refused() -> None:
    source = make_picture("smooth", 20, 30, 3, 8, 1)
    base = make_base(source, 8, 1)
    payload = encode_dct(source, base, 4)
    for wrong in (b"", b"\1" + payload[1:], payload + b"\0", payload + bytes(100) + b"\1"):
        with pytest.raises(CorruptError):
            decode_dct(wrong, base, 4)


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.integers(1, 20),
    st.integers(1, 30),
    st.sampled_from((1, 3)),
    st.integers(8, 16),
    st.integers(0, 2**32 - 1),
    EVERY_STEP,
)
def test_the_plain_decoder_gives_the_same(
    kind: str, rows: int, columns: int, channels: int, bit_depth: int, seed: int, step: int
) -> None:
    source = make_picture(kind, rows, columns, channels, bit_depth, seed)
    base = make_base(source, bit_depth, seed)
    payload = encode_dct(source, base, step, bit_depth)
    decoded = decode_dct(payload, base, step, bit_depth)
    assert np.array_equal(decode_dct_plainly(payload, base, bit_depth, step), decoded)
    damaged = payload[:1] + bytes(255 - byte for byte in payload[1 : len(payload) // 2]) + b"\1"
    try:
        decoded = decode_dct(damaged, base, step, bit_depth)
    except CorruptError:
        return
    assert np.array_equal(decode_dct_plainly(damaged, base, bit_depth, step), decoded)


@pytest.mark.parametrize(("channels", "bit_depth", "step"), [(3, 8, 20), (3, 8, 1), (1, 12, 30), (3, 16, 200)])
def test_payloads_and_samples_stay_the_same(channels: int, bit_depth: int, step: int) -> None:
    hashes = []
    for source in (make_integers(kind, channels, bit_depth) for kind in range(3)):
        base = np.roll(source, 1, axis=1)
        payload = encode_dct(source, base, step, bit_depth)
        decoded = decode_dct(payload, base, step, bit_depth).astype("<u2")
        hashes.append(hashlib.sha256(payload + decoded.tobytes()).hexdigest()[:16])
    assert hashes == GOLDEN[channels, bit_depth, step]


def test_samples_at_the_ends_of_the_range_are_clamped() -> None:
    """A step of nearly half the range: what is added goes beyond it."""
    source = make_picture("extremes", 40, 40, 3, 8, 2)
    base = np.full_like(source, 128)
    decoded = decode_dct(encode_dct(source, base, 200), base, 200)
    assert {0, 255} <= set(decoded.ravel().tolist())
    assert squared_error(decoded, source) < squared_error(base, source) / 4


def test_a_base_that_says_all_costs_nothing() -> None:
    noise = make_picture("noise", 64, 64, 3, 8, 3)
    assert len(encode_dct(noise, noise, 1)) < 100
    assert np.array_equal(decode_dct(encode_dct(noise, noise, 1), noise, 1), noise)


def test_the_finest_step_is_nearly_exact_at_any_depth() -> None:
    for bit_depth in (8, 12, 16):
        source = make_picture("smooth", 40, 50, 3, bit_depth, 4)
        base = np.full_like(source, 1 << (bit_depth - 1))
        decoded = decode_dct(encode_dct(source, base, 1, bit_depth), base, 1, bit_depth)
        away = np.abs(decoded.astype(float) - source) / (1 << (bit_depth - 8))
        assert away.max() < 2.5


def test_each_step_is_larger_and_better_than_the_one_before() -> None:
    source, base = photograph()
    assert len(STEPS) == 20
    last_size, last_error = 0, math.inf
    for step in STEPS:
        payload = encode_dct(source, base, step)
        error = squared_error(decode_dct(payload, base, step), source)
        assert len(payload) > last_size
        assert error < last_error
        last_size, last_error = len(payload), error


def test_beyond_the_picture_nothing_is_coded() -> None:
    """One column more than whole blocks costs less than a column of blocks."""
    source, base = photograph()
    whole, more = (len(encode_dct(source[:, :columns], base[:, :columns], 20)) for columns in (160, 161))
    assert more - whole < whole / 20 / 2


@pytest.mark.parametrize("wrong", ["depth", "type", "channels", "shape", "sample", "step", "no step", "size"])
def test_wrong_arguments_are_refused(wrong: str) -> None:
    source = np.zeros((4, 5, 3), np.uint16)
    base, bit_depth, step = source.copy(), 10, 9
    if wrong == "depth":
        bit_depth = 17
    elif wrong == "type":
        source = source.astype(np.uint8)
    elif wrong == "channels":
        source = base = np.zeros((4, 5, 2), np.uint16)
    elif wrong == "shape":
        source = source[1:]
    elif wrong == "sample":
        base[1, 2, 0] = 1024
    elif wrong == "step":
        step = LARGEST_STEP + 1
    elif wrong == "no step":
        step = 0
    else:
        source = base = np.zeros((1, 4097, 3), np.uint16)
    with pytest.raises(ValueError, match="must"):
        encode_dct(source, base, step, bit_depth)


def test_the_library_refuses_wrong_arguments_itself() -> None:
    samples = np.full((4, 4, 3), 1024, np.uint16)
    payload, size = POINTER(c_uint8)(), c_size_t()
    rest = (byref(payload), byref(size), Check(), c_void_p())
    for rows, channels, bit_depth, step in ((0, 3, 11, 1), (4, 2, 11, 1), (4, 3, 7, 1), (4, 3, 10, 1), (4, 3, 11, 0)):
        numbers = (pointer(samples), rows, 4, channels, bit_depth, step)
        assert library().hpcm_dct_encode(pointer(samples), *numbers, *rest) == BAD_ARGUMENT
        result = (pointer(samples.copy()), Check(), c_void_p())
        assert library().hpcm_dct_decode(b"\0", 1, *numbers, *result) == BAD_ARGUMENT
