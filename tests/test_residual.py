"""The coder of residuals: round trips, bounds of the error, golden bytes, damaged payloads, and its plain twin."""

import hashlib
import io
from ctypes import POINTER, byref, c_int, c_size_t, c_uint8, c_void_p

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hpcm.core.library import OK, STOPPED, Check, library, pointer
from hpcm.core.residual import decode_residual, encode_residual
from hpcm.errors import CorruptError
from residual_reference import decode_plainly
from tiles import KINDS, PICTURES, make_base, make_integers, make_picture

GOLDEN = {  # (channels, bit depth, largest error): the beginnings of SHA-256 of the payloads
    (3, 8, 0): ["4a8e1d8433a7c247", "cfe066eabe7c134c", "51b187cfcd0b4690"],
    (3, 8, 3): ["205ee4da92568a63", "cfe066eabe7c134c", "0ce5af74eb9fa42d"],
    (1, 12, 0): ["d3857070c336057b", "5470c13be86f6c4f", "1119a1b83966fb06"],
    (3, 16, 40): ["761bc47d11299793", "cfe066eabe7c134c", "cd6274503f762e78"],
}


def photograph() -> np.ndarray:
    """uint8 [256][384][3]."""
    with Image.open("tests/data/kodim23.png") as picture:
        return np.asarray(picture.convert("RGB").crop((128, 128, 512, 384)))


@settings(max_examples=60, deadline=None)
@given(PICTURES, st.integers(0, 20), st.booleans())
def test_samples_come_back_within_the_bound(picture: tuple, max_error: int, has_base: bool) -> None:
    source = make_picture(*picture)
    bit_depth, seed = picture[4:]
    base = make_base(source, bit_depth, seed) if has_base else make_picture("noise", *picture[1:])
    payload = encode_residual(source, base, bit_depth, max_error)
    decoded = decode_residual(payload, base, bit_depth, max_error)
    assert decoded.dtype == source.dtype
    assert np.abs(decoded.astype(int) - source).max() <= max_error
    assert encode_residual(source, base, bit_depth, max_error) == payload


@settings(max_examples=60, deadline=None)
@given(PICTURES, st.binary(max_size=400), st.integers(0, 127))
def test_any_bytes_decode_or_are_refused(picture: tuple, payload: bytes, max_error: int) -> None:
    bit_depth = picture[4]
    base = make_picture(*picture)
    try:
        decoded = decode_residual(payload, base, bit_depth, max_error)
    except CorruptError:
        return
    assert not (decoded.astype(int) >> bit_depth).any()
    assert np.array_equal(decode_residual(payload, base, bit_depth, max_error), decoded)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_damaged_payloads_decode_or_are_refused(data: st.DataObject) -> None:
    source = make_picture(data.draw(st.sampled_from(KINDS)), 33, 47, 3, 8, 5)
    base = make_base(source, 8, 5)
    payload = bytearray(encode_residual(source, base))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(payload[: data.draw(st.integers(0, len(payload)))])
    for damaged in (bytes(payload), cut):
        try:
            decode_residual(damaged, base)
        except CorruptError:
            continue


def test_bytes_that_no_encoder_gives_are_refused() -> None:
    source = make_picture("smooth", 20, 30, 3, 8, 1)
    base = make_base(source, 8, 1)
    payload = encode_residual(source, base)
    for wrong in (b"", b"\2" + payload[1:], payload + b"\0", payload + bytes(100) + b"\1"):
        with pytest.raises(CorruptError):
            decode_residual(wrong, base)


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.integers(1, 9),
    st.integers(1, 20),
    st.sampled_from((1, 3)),
    st.integers(8, 16),
    st.integers(0, 2**32 - 1),
    st.integers(0, 5),
)
def test_the_plain_decoder_gives_the_same(
    kind: str, rows: int, columns: int, channels: int, bit_depth: int, seed: int, max_error: int
) -> None:
    source = make_picture(kind, rows, columns, channels, bit_depth, seed)
    base = make_base(source, bit_depth, seed)
    payload = encode_residual(source, base, bit_depth, max_error)
    decoded = decode_residual(payload, base, bit_depth, max_error)
    assert np.array_equal(decode_plainly(payload, base, bit_depth, max_error), decoded)
    damaged = payload[:1] + bytes(255 - byte for byte in payload[1 : len(payload) // 2]) + b"\1"
    try:
        decoded = decode_residual(damaged, base, bit_depth, max_error)
    except CorruptError:
        return
    assert np.array_equal(decode_plainly(damaged, base, bit_depth, max_error), decoded)


@pytest.mark.parametrize(("channels", "bit_depth", "max_error"), [(3, 8, 0), (3, 8, 3), (1, 12, 0), (3, 16, 40)])
def test_payloads_stay_the_same(channels: int, bit_depth: int, max_error: int) -> None:
    made = [
        encode_residual(source, source >> 3 << 3, bit_depth, max_error)
        for source in (make_integers(kind, channels, bit_depth) for kind in range(3))
    ]
    hashes = [hashlib.sha256(payload).hexdigest()[:16] for payload in made]
    assert hashes == GOLDEN[channels, bit_depth, max_error]


def test_all_kernels_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    source = photograph()[:48, :100]
    base = make_base(source, 8, 1)
    payloads = set()
    for name in library().hpcm_kernels().decode().split():
        monkeypatch.setenv("HPCM_KERNELS", name)
        payloads.add(encode_residual(source, base))
    assert len(payloads) == 1


def test_a_base_makes_noise_cheap_to_tell() -> None:
    """What the base knows costs nothing: noise that it has in full, a few bytes."""
    noise = make_picture("noise", 64, 64, 3, 8, 3)
    assert len(encode_residual(noise, noise)) < 64 * 64 * 3 / 8
    assert len(encode_residual(noise, np.full_like(noise, 128))) < 64 * 64 * 3 * 1.05


def test_photographs_take_fewer_bytes_than_webp() -> None:
    source, webp = photograph(), io.BytesIO()
    base = np.asarray(Image.fromarray(source).reduce(4).resize(source.shape[1::-1], Image.Resampling.BICUBIC))
    Image.fromarray(source).save(webp, "webp", lossless=True, quality=100, method=6)
    assert len(encode_residual(source, base)) < 0.95 * len(webp.getvalue())


def test_a_check_ends_the_work() -> None:
    source = make_picture("noise", 50, 20, 3, 8, 1)
    calls = []

    def check(_: object) -> int:
        calls.append(1)
        return int(len(calls) == 20)

    payload, size = POINTER(c_uint8)(), c_size_t(5)
    numbers = (pointer(source), 50, 20, 3, 8, 0)
    encode, decode = library().hpcm_residual_encode, library().hpcm_residual_decode
    assert encode(pointer(source), *numbers, byref(payload), byref(size), Check(check), c_void_p()) == STOPPED
    assert not payload
    assert (size.value, len(calls)) == (0, 20)
    whole, pixels = encode_residual(source, source), np.empty_like(source)
    calls.clear()
    assert decode(whole, len(whole), *numbers, pointer(pixels), Check(check), c_void_p()) == STOPPED
    assert decode(whole, len(whole), *numbers, pointer(pixels), Check(), c_void_p()) == OK
    assert np.array_equal(pixels, source)


@pytest.mark.parametrize("wrong", ["depth", "type", "channels", "shape", "sample", "error", "size"])
def test_wrong_arguments_are_refused(wrong: str) -> None:
    source = np.zeros((4, 5, 3), np.uint16)
    base, bit_depth, max_error = source.copy(), 10, 0
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
    elif wrong == "error":
        max_error = 512
    else:
        source = base = np.zeros((1, 4097, 3), np.uint16)
    with pytest.raises(ValueError, match="must"):
        encode_residual(source, base, bit_depth, max_error)


def test_the_library_refuses_wrong_arguments_itself() -> None:
    bad, samples = 3, np.full((4, 4, 3), 1024, np.uint16)
    payload, size = POINTER(c_uint8)(), c_size_t()
    for rows, channels, bit_depth, max_error in (
        (0, 3, 11, 0),
        (4, 2, 11, 0),
        (4, 3, 7, 0),
        (4, 3, 10, 0),
        (4, 3, 11, 1024),
    ):
        numbers = (pointer(samples), rows, 4, channels, bit_depth, max_error)
        rest = (byref(payload), byref(size), Check(), c_void_p())
        status: c_int = library().hpcm_residual_encode(pointer(samples), *numbers, *rest)
        assert status == bad
        assert library().hpcm_residual_decode(b"\0", 1, *numbers, pointer(samples.copy()), Check(), c_void_p()) == bad
