"""The parts that libhpcm's reader of files is made of, by ctypes: each gives what Python's own gives."""

import ctypes
import hashlib
import io
import runpy
import struct
import subprocess
import zlib
from collections.abc import Iterator
from ctypes import POINTER, c_int, c_size_t, c_void_p
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hpcm.core import library as c
from hpcm.errors import CorruptError
from hpcm.image.picture import pack_alpha, unpack_alpha
from hpcm.image.planes import Planes
from hpcm.image.png import chunk, write

ROOT = Path(__file__).parents[1]
core = SimpleNamespace(**runpy.run_path(str(ROOT / "core" / "build.py")))
CORRUPT = 10  # hpcm_status
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))  # Adam7's
FAST = settings(max_examples=60, deadline=None)


@pytest.fixture(scope="module")
def parts() -> Iterator[Any]:
    """All sources of core and core/file as one library that shows all functions."""
    with TemporaryDirectory() as folder:
        made = Path(folder, "parts.so")
        sources = [*core._sources(), *sorted((core.CORE / "file").glob("*.c"))]
        flags = ["-O1", "-w", "-shared", "-fvisibility=default", '-DHPCM_DATA_FOLDER="/nowhere/hpcm"', '-DHPCM_VERSION="0"']
        line = [
            *core.find_compiler(),
            *core.FLAGS,
            *flags,
            "-I.",
            *map(str, sources),
            "-o",
            str(made),
            "-pthread",
            "-lm",
        ]
        subprocess.run(line, cwd=core.CORE, check=True)
        yield ctypes.CDLL(str(made))


# ---- SHA-256 ---------------------------------------------------------------------------------------------------------


@FAST
@given(data=st.binary(max_size=300))
def test_sha256(parts: Any, data: bytes) -> None:
    digest = ctypes.create_string_buffer(32)
    parts.hpcm_sha256(data, c_size_t(len(data)), digest)
    assert digest.raw == hashlib.sha256(data).digest()


# ---- PNG -------------------------------------------------------------------------------------------------------------


def read_png(parts: Any, data: bytes, size: tuple[int, int], bit_depth: int) -> tuple[int, NDArray[Any], str]:
    """The status, the plane and the message."""
    rows, columns = size
    plane = np.zeros(size, np.uint8 if bit_depth == 8 else np.uint16)
    message = ctypes.create_string_buffer(c.MESSAGE_BYTES)
    status = parts.hpcm_read_png(
        data, c_size_t(len(data)), columns, rows, bit_depth, c_void_p(c.pointer(plane)), message
    )
    return status, plane, message.value.decode()


def png(
    size: tuple[int, int], bits: int, stream: bytes, *, interlaced: int = 0, more: bytes = b"", colour: int = 0
) -> bytes:
    """A PNG of a zlib stream, with `more` chunks before it."""
    header = struct.pack(">IIBBBBB", size[1], size[0], bits, colour, 0, 0, interlaced)
    end = chunk(b"IDAT", stream) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + more + end


def raw_rows(plane: NDArray[Any]) -> bytes:
    """Rows, each with the filter "none" in front."""
    return b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in plane)


def interlaced_rows(plane: NDArray[Any]) -> bytes:
    passes = (plane[top::down, left::across] for left, top, across, down in PASSES)
    return b"".join(raw_rows(each) for each in passes if each.size)


@st.composite
def planes(draw: st.DrawFn) -> tuple[NDArray[Any], int]:
    """Smooth, noisy or flat ones, and their bit depth."""
    rows, columns, bit_depth = draw(st.integers(1, 40)), draw(st.integers(1, 40)), draw(st.sampled_from((8, 10, 16)))
    dtype = np.uint8 if bit_depth == 8 else np.uint16
    noise = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 1 << bit_depth, (rows, columns))
    slope = np.add.outer(np.arange(rows), np.arange(columns)) % (1 << bit_depth)
    return draw(st.sampled_from((noise, slope, slope * 0))).astype(dtype), bit_depth


@FAST
@given(drawn=planes())
def test_png_of_both_writers(parts: Any, drawn: tuple[NDArray[Any], int]) -> None:
    plane, bit_depth = drawn
    written = [pack_alpha(plane)]
    if bit_depth == 16:
        out = io.BytesIO()
        write(Planes(plane, 16, None), b"", out)  # chooses among all filters
        written.append(out.getvalue())
    for data in written:
        status, read, message = read_png(parts, data, plane.shape, bit_depth)
        assert (status, message) == (0, "")
        assert np.array_equal(read, plane)


@FAST
@given(drawn=planes(), level=st.integers(0, 9), strategy=st.integers(0, 4), cut=st.integers(1, 50))
def test_png_of_any_stream(parts: Any, drawn: tuple[NDArray[Any], int], level: int, strategy: int, cut: int) -> None:
    """Blocks of all kinds, interlaced, in several chunks, behind others."""
    plane, bit_depth = drawn
    packer = zlib.compressobj(level, wbits=9 + level % 7, strategy=strategy)
    stream = packer.compress(interlaced_rows(plane)) + packer.flush()
    pieces = [stream[at : at + cut] for at in range(0, len(stream), cut)]
    chunks = b"".join(chunk(b"IDAT", piece) for piece in [*pieces[:-1], b""])
    others = chunk(b"tEXt", b"a\0b") + chunk(b"PLTE", b"abc")
    data = png(plane.shape, 8 if bit_depth == 8 else 16, pieces[-1], interlaced=1, more=others + chunks)
    status, read, message = read_png(parts, data, plane.shape, bit_depth)
    assert (status, message) == (0, "")
    assert np.array_equal(read, plane)
    assert np.array_equal(unpack_alpha(data, plane.shape, bit_depth), plane)


@FAST
@given(
    drawn=planes(), place=st.integers(0, 10_000), bits=st.integers(1, 255), cut=st.booleans(), interlaced=st.booleans()
)
def test_damaged_png(
    parts: Any, drawn: tuple[NDArray[Any], int], place: int, bits: int, cut: bool, interlaced: bool
) -> None:
    """What is read is what Pillow reads; what Pillow refuses is refused."""
    plane, bit_depth = drawn
    rows = interlaced_rows(plane) if interlaced else raw_rows(plane)
    whole = png(plane.shape, 8 if bit_depth == 8 else 16, zlib.compress(rows), interlaced=interlaced)
    place %= len(whole)
    data = whole[:place] if cut else whole[:place] + bytes([whole[place] ^ bits]) + whole[place + 1 :]
    status, read, message = read_png(parts, data, plane.shape, bit_depth)
    try:
        expected = unpack_alpha(data, plane.shape, bit_depth)
    except CorruptError:
        assert status == CORRUPT
    if status:
        assert status == CORRUPT
        assert message
    else:
        assert np.array_equal(read, expected)
        assert np.array_equal(read, plane)


SQUARE = np.arange(12, dtype=np.uint8).reshape(3, 4)
ROWS = raw_rows(SQUARE)
STREAM = zlib.compress(ROWS)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the alpha plane is no PNG"),
        (b"\x89PNG\r\n\x1a\n", "the header of the alpha plane is damaged"),
        (png((3, 5), 8, STREAM), "the alpha plane is 5 x 3, not 4 x 3"),
        (png((3, 4), 16, STREAM), "isn't grey of 8 bits"),
        (png((3, 4), 8, STREAM, colour=2), "isn't grey of 8 bits"),
        (png((3, 4), 8, STREAM, interlaced=2), "isn't grey of 8 bits"),
        (png((3, 4), 8, STREAM, more=b"\0\0\0\1tEXta\0\0\0\0"), "a chunk of the alpha plane is damaged"),
        (png((3, 4), 8, STREAM)[:33], "no samples"),
        (png((3, 4), 8, zlib.compress(b"\5" + ROWS[1:])), "filter of number 5"),
        (png((3, 4), 8, zlib.compress(ROWS[:-1])), "cut short or damaged"),
        (png((3, 4), 8, zlib.compress(ROWS[:-5])), "cut short or damaged"),  # Pillow fills it up with zeros
        (png((3, 4), 8, zlib.compress(ROWS + b"0")), "doesn't end where it should"),  # Pillow stops before
        (png((3, 4), 8, STREAM[:-1] + b"0"), "doesn't end where it should"),
        (png((3, 4), 8, STREAM[:-4]), "doesn't end where it should"),  # Pillow stops before
        (png((3, 4), 8, b"\x78\x02" + STREAM[2:]), "cut short or damaged"),
    ],
)
def test_refused_png(parts: Any, data: bytes, reason: str) -> None:
    status, _, message = read_png(parts, data, (3, 4), 8)
    assert status == CORRUPT
    assert reason in message


def test_png_with_a_value_too_large(parts: Any) -> None:
    plane = np.array([[1023, 1024]], np.uint16)
    status, _, message = read_png(parts, pack_alpha(plane), plane.shape, 10)
    assert (status, message) == (CORRUPT, "the alpha plane has a value above 1023")
    assert read_png(parts, pack_alpha(plane), plane.shape, 11)[0] == 0


MORE = ctypes.CFUNCTYPE(c_int, c_void_p, POINTER(c_void_p), POINTER(c_size_t))  # hpcm_more
INFLATE_BYTES = 1 << 17  # more than an hpcm_inflate takes


def inflate(parts: Any, stream: bytes, size: int) -> bytes | None:
    """The `size` bytes of a stream that comes byte by byte; None where it hasn't as many, is damaged, or goes on."""
    at = 0
    kept = ctypes.create_string_buffer(stream, len(stream) + 1)

    @MORE
    def more(_user: Any, data: Any, count: Any) -> int:
        nonlocal at
        data[0], count[0] = ctypes.addressof(kept) + at, 1
        at += 1
        return int(at <= len(stream))

    state, made = ctypes.create_string_buffer(INFLATE_BYTES), ctypes.create_string_buffer(size + 1)
    parts.hpcm_inflate_begin(state, more, None)
    is_whole = parts.hpcm_inflate_read(state, made, c_size_t(size)) and parts.hpcm_inflate_end(state)
    return made.raw[:size] if is_whole else None


@FAST
@given(seed=st.integers(0, 10_000))
def test_inflates_as_zlib(parts: Any, seed: int) -> None:
    """Also a stream that is damaged where it describes its codes: the same bytes, or none."""
    rng = np.random.default_rng(seed)
    plain = rng.integers(0, 1 + seed % 7, seed % 3000, np.uint8).tobytes()
    strategy = (zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY, zlib.Z_FIXED, zlib.Z_RLE)[seed % 4]
    packer = zlib.compressobj(strategy=strategy, wbits=-15)
    bare = bytearray(packer.compress(plain) + packer.flush())
    for place in rng.integers(0, min(len(bare), 100), seed % 3):
        bare[place] ^= 1 << rng.integers(8)
    unpacker = zlib.decompressobj(-15)
    try:
        expected = unpacker.decompress(bytes(bare))
    except zlib.error:
        assert inflate(parts, b"\x78\x01" + bytes(bare), 1) is None
        return
    used = bytes(bare[: len(bare) - len(unpacker.unused_data)])
    stream = b"\x78\x01" + used + struct.pack(">I", zlib.adler32(expected))
    if unpacker.eof:
        assert inflate(parts, stream, len(expected)) == expected
        assert inflate(parts, stream, len(expected) + 1) is None
        assert inflate(parts, stream[:-1], len(expected)) is None
    else:
        assert inflate(parts, b"\x78\x01" + used, len(expected)) is None
