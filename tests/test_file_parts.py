"""The parts that libhpcm's reader of files is made of, by ctypes: each gives what Python's own gives."""

import ctypes
import hashlib
import io
import json
import math
import os
import runpy
import struct
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from ctypes import POINTER, byref, c_double, c_int, c_int64, c_size_t, c_void_p
from dataclasses import MISSING, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hpcm.codec.engine import load_engine
from hpcm.core import library as c
from hpcm.errors import CorruptError, UsageError, WeightsError
from hpcm.image.picture import pack_alpha, unpack_alpha
from hpcm.image.planes import Planes
from hpcm.image.png import chunk, write
from hpcm.model.config import Config
from hpcm.model.file import describe
from hpcm.model.find import ASSETS

ROOT = Path(__file__).parents[1]
core = SimpleNamespace(**runpy.run_path(str(ROOT / "core" / "build.py")))
BAD_ARGUMENT, BAD_MODEL, BAD_FORMAT, CORRUPT, NO_MODEL = 3, 4, 8, 10, 12  # hpcm_status
FAST = settings(max_examples=60, deadline=None)


@pytest.fixture(scope="module")
def parts() -> Iterator[Any]:
    """All sources of core and core/file as one library that shows all functions."""
    if made := os.environ.get("HPCM_TEST_READER"):  # `make check-sanitized` names another build
        yield ctypes.CDLL(made)
        return
    with TemporaryDirectory() as folder:
        built = Path(folder, "parts.so")
        try:
            core.build_files(built, flags=["-O1"])
        except FileNotFoundError as error:  # there is no compiler
            pytest.skip(str(error))
        yield ctypes.CDLL(str(built))


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
    """Blocks of all kinds, in several chunks, behind others."""
    plane, bit_depth = drawn
    packer = zlib.compressobj(level, wbits=9 + level % 7, strategy=strategy)
    stream = packer.compress(raw_rows(plane)) + packer.flush()
    pieces = [stream[at : at + cut] for at in range(0, len(stream), cut)]
    chunks = b"".join(chunk(b"IDAT", piece) for piece in [*pieces[:-1], b""])
    others = chunk(b"tEXt", b"a\0b") + chunk(b"PLTE", b"abc")
    data = png(plane.shape, 8 if bit_depth == 8 else 16, pieces[-1], more=others + chunks)
    status, read, message = read_png(parts, data, plane.shape, bit_depth)
    assert (status, message) == (0, "")
    assert np.array_equal(read, plane)
    assert np.array_equal(unpack_alpha(data, plane.shape, bit_depth), plane)


@FAST
@given(drawn=planes(), place=st.integers(0, 10_000), bits=st.integers(1, 255), cut=st.booleans())
def test_damaged_png(parts: Any, drawn: tuple[NDArray[Any], int], place: int, bits: int, cut: bool) -> None:
    """What is read is what Python reads; what Python refuses is refused."""
    plane, bit_depth = drawn
    whole = png(plane.shape, 8 if bit_depth == 8 else 16, zlib.compress(raw_rows(plane)))
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
        (png((3, 4), 8, STREAM, interlaced=1), "isn't grey of 8 bits"),
        (png((3, 4), 8, STREAM, more=b"\0\0\0\1tEXta\0\0\0\0"), "a chunk of the alpha plane is damaged"),
        (png((3, 4), 8, STREAM)[:33], "no samples"),
        (png((3, 4), 8, STREAM, more=chunk(b"IEND", b"")), "no samples"),
        (png((3, 4), 8, STREAM, more=png((3, 4), 8, STREAM)[8:33]), "no samples"),  # two headers
        (png((3, 4), 8, zlib.compress(b"\5" + ROWS[1:])), "filter of number 5"),
        (png((3, 4), 8, zlib.compress(ROWS[:-1])), "cut short or damaged"),
        (png((3, 4), 8, zlib.compress(ROWS[:-5])), "cut short or damaged"),
        (png((3, 4), 8, zlib.compress(ROWS + b"0")), "doesn't end where it should"),
        (png((3, 4), 8, STREAM[:-1] + b"0"), "doesn't end where it should"),
        (png((3, 4), 8, STREAM[:-4]), "doesn't end where it should"),
        (png((3, 4), 8, b"\x78\x02" + STREAM[2:]), "cut short or damaged"),
    ],
)
def test_refused_png(parts: Any, data: bytes, reason: str) -> None:
    status, _, message = read_png(parts, data, (3, 4), 8)
    assert status == CORRUPT
    assert reason in message
    with pytest.raises(CorruptError, match="the alpha plane"):
        unpack_alpha(data, (3, 4), 8)


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

    def more(_user: Any, data: Any, count: Any) -> int:
        nonlocal at
        data[0], count[0] = ctypes.addressof(kept) + at, 1
        at += 1
        return int(at <= len(stream))

    state, made, called = ctypes.create_string_buffer(INFLATE_BYTES), ctypes.create_string_buffer(size + 1), MORE(more)
    parts.hpcm_inflate_begin(state, called, None)
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


# ---- JSON ------------------------------------------------------------------------------------------------------------


class JsonText(ctypes.Structure):
    """hpcm_json_text."""

    _fields_ = [("bytes", c_void_p), ("size", c_size_t)]


class JsonItems(ctypes.Structure):
    _fields_ = [("first", c_void_p), ("count", c_size_t)]


class JsonContent(ctypes.Union):
    _fields_ = [("whole", c_int64), ("real", c_double), ("text", JsonText), ("items", JsonItems)]


class JsonValue(ctypes.Structure):
    """hpcm_json_value."""

    _fields_ = [("kind", c_int), ("content", JsonContent), ("name", JsonText), ("next", c_void_p)]


class Json(ctypes.Structure):
    """hpcm_json."""

    _fields_ = [("root", POINTER(JsonValue)), ("texts", c_void_p)]


def text_of(text: JsonText) -> str:
    return ctypes.string_at(text.bytes, text.size).decode()


def items_of(value: JsonValue) -> list[tuple[str, Any]]:
    items, at = [], value.content.items.first
    while at:
        item = JsonValue.from_address(at)
        items.append((text_of(item.name), python_of(item)))
        at = item.next
    assert len(items) == value.content.items.count
    return items


def python_of(value: JsonValue) -> Any:
    content = value.content
    makers = (
        lambda: None,
        lambda: False,
        lambda: True,
        lambda: content.whole,
        lambda: content.real,
        lambda: text_of(content.text),
        lambda: [item for _, item in items_of(value)],
        lambda: dict(items_of(value)),
    )  # as hpcm_json_kind has them
    return makers[value.kind]()


def read_json(parts: Any, data: bytes) -> Any:
    """Raises ValueError where it isn't JSON."""
    made = Json()
    if status := parts.hpcm_json_read(data, c_size_t(len(data)), byref(made)):
        assert status == BAD_FORMAT
        raise ValueError("no JSON")
    value = python_of(made.root.contents)
    parts.hpcm_json_free(byref(made))
    return value


def are_equal(read: Any, expected: Any) -> bool:
    """Numbers to 13 digits; whole ones beyond int64 are read as floats."""
    if isinstance(expected, dict):
        are_alike = isinstance(read, dict) and list(read) == list(expected)
        return are_alike and all(are_equal(read[name], expected[name]) for name in expected)
    if isinstance(expected, list):
        return isinstance(read, list) and len(read) == len(expected) and all(map(are_equal, read, expected))
    if isinstance(expected, float) or (isinstance(expected, int) and abs(expected) >= 1 << 63):
        return isinstance(read, float) and math.isclose(read, expected, rel_tol=1e-13)
    return type(read) is type(expected) and bool(read == expected)


def python_json(data: bytes) -> Any:
    """Raises ValueError for anything but JSON in UTF-8, and for half of a surrogate pair."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    value = json.loads(data.decode(), parse_constant=refuse)
    json.dumps(value, ensure_ascii=False).encode()
    return value


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from((1 << 63, (1 << 63) - 1, -1 << 63, 10**30, 0))
    | st.floats(-1e307, 1e307, allow_subnormal=False)
    | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
)


@FAST
@given(value=JSON, ascii_only=st.booleans(), indent=st.sampled_from((None, 1)))
def test_json(parts: Any, value: Any, ascii_only: bool, indent: int | None) -> None:
    data = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode()
    assert are_equal(read_json(parts, data), json.loads(data))


@FAST
@given(value=JSON, places=st.lists(st.integers(0, 9999), max_size=3), put=st.sampled_from('"\\u[]{},:.e-0 \x80\xff\n'))
def test_damaged_json(parts: Any, value: Any, places: list[int], put: str) -> None:
    data = bytearray(json.dumps(value, ensure_ascii=len(places) == 1).encode())
    for place in places:
        data[place % len(data)] = ord(put)
    check_as_python(parts, bytes(data))


def check_as_python(parts: Any, data: bytes) -> None:
    try:
        expected = python_json(data)
    except ValueError:
        with pytest.raises(ValueError, match="no JSON"):
            read_json(parts, data)
    else:
        assert are_equal(read_json(parts, data), expected)


JSON_LINES = r"""
1 2
[1,]
[,1]
{,}
{"a"}
{"a":}
{"a":1,}
{1:2}
[1
"a
nul
truefalse
[true false]
[NaN]
Infinity
[1}
{"a": 1, "a": 2}
01
-
+1
1.
.5
1e
1e+
-01
0x1
1.e1
0.0e-0
-0
1E5
1e400
-1e-400
123456789012345678901e-20
9.999e307
"\"
"\u"
"\u12"
"\x"
"\u0000"
"\/"
"\ud800"
"\ud800\u0041"
"\udc00"
"\ud83d\ude00"
"\uD83D\uDE00\u00e9"
"\ud83d\ud83d"
"""
LONG_NUMBERS = ["1" * 300, "1" + "0" * 400 + "e-400", "0." + "0" * 400 + "1e401"]
OTHERS = [" ", "\ufeff1", "\x0b1", '"\t"', '"\x7f"']


@pytest.mark.parametrize("text", [*JSON_LINES.splitlines(), *LONG_NUMBERS, *OTHERS])
def test_json_at_its_edges(parts: Any, text: str) -> None:
    check_as_python(parts, text.encode())


@pytest.mark.parametrize(
    "data",
    [
        b'"\xc0\x80"',
        b'"\xc3"',
        b'"\xe0\x80\x80"',
        b'"\xed\xa0\x80"',
        b'"\xf0\x80\x80\x80"',
        b'"\xf4\x90\x80\x80"',
        b"\xff",
    ],
)
def test_json_that_is_not_utf8(parts: Any, data: bytes) -> None:
    check_as_python(parts, data)


def test_json_may_nest_64_deep(parts: Any) -> None:
    assert read_json(parts, b"[" * 64 + b"]" * 64)
    for data in (b"[" * 65 + b"]" * 65, b"[" * 1_000_000, b'{"a":' * 1_000_000):
        with pytest.raises(ValueError, match="no JSON"):
            read_json(parts, data)


# ---- weights ---------------------------------------------------------------------------------------------------------

GOLDEN = ROOT / "tests" / "golden"
TINY = (GOLDEN / "tiny.safetensors").read_bytes()


class Model:
    """A model of the library's, freed with this object; `status` and `message` say why there is none."""

    def __init__(self, parts: Any, data: bytes) -> None:
        self.parts, self.handle = parts, c_void_p()
        message = ctypes.create_string_buffer(c.MESSAGE_BYTES)
        self.status = parts.hpcm_load_weights(data, c_size_t(len(data)), 1, byref(self.handle), message)
        self.message = message.value.decode()

    def __del__(self) -> None:
        self.parts.hpcm_model_free(self.handle)

    def decode(
        self, payload: bytes, steps: int, size: tuple[int, int], level: int, channels: int
    ) -> NDArray[np.float32]:
        y_hat, decoded = np.empty((*size, channels), np.float32), c.Decoded()
        pointer = c_void_p(c.pointer(y_hat))
        coding = (payload, c_size_t(len(payload)), steps, *size, level, *size)
        assert self.parts.hpcm_decode(self.handle, *coding, pointer, byref(decoded), None, None) == 0
        return y_hat


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the tensors' bytes of a weights file."""
    size = struct.unpack_from("<Q", data)[0]
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def joined(header: Any, tensors: bytes, *, padding: int = 0) -> bytes:
    text = json.dumps(header, separators=(",", ":")).encode() + b" " * padding
    return struct.pack("<Q", len(text)) + text + tensors


def with_config(change: Callable[[dict[str, Any]], Any]) -> bytes:
    """The tiny model's file with another configuration."""
    header, tensors = split(TINY)
    config = json.loads(header["__metadata__"]["config"])
    change(config)
    header["__metadata__"]["config"] = json.dumps(config)
    return joined(header, tensors)


def python_status(data: bytes, folder: Path) -> int:
    """HPCM_OK or HPCM_BAD_MODEL, as the package has it with the native library."""
    path = folder / "weights.safetensors"
    path.write_bytes(data)
    try:
        load_engine(describe(path), "core", threads=1)
    except (WeightsError, UsageError):
        return BAD_MODEL
    return 0


@pytest.mark.parametrize(
    "file", [GOLDEN / "tiny.safetensors", ASSETS / "nano-1.safetensors"], ids=lambda file: file.stem
)
@pytest.mark.parametrize("padding", range(4))  # tensors then lie at any places
def test_a_model_decodes_as_pythons(parts: Any, file: Path, padding: int) -> None:
    engine = load_engine(describe(file), "core", threads=1).engine
    y = np.random.default_rng(0).normal(0, 4, (8, 4, engine.config.M)).astype(np.float32)
    payload = b"".join(engine.encode(y, 30).parts)
    model = Model(parts, joined(*split(file.read_bytes()), padding=padding))
    assert (model.status, model.message) == (0, "")
    decoded = model.decode(payload, 12, (8, 4), 30, engine.config.M)
    assert np.array_equal(decoded, engine.decode(payload, 12, (8, 4), 30).y_hat)


CHANGES: list[Callable[[dict[str, Any]], Any]] = [
    lambda config: config.pop("N"),
    lambda config: config.pop("prior_fine"),
    lambda config: config.update(unknown=1),
    lambda config: config.update(name="A"),
    lambda config: config.update(name=7),
    lambda config: config.update(stem="conv8"),
    lambda config: config.update(hierarchy=1),
    lambda config: config.update(levels=65),
    lambda config: config.update(levels=True),
    lambda config: config.update(M=16.0),
    lambda config: config.update(M=20),
    lambda config: config.update(steps=[2, 3, 5]),
    lambda config: config.update(steps=[2, 3]),
    lambda config: config.update(windows=[4, 8, 17]),
    lambda config: config.update(heads=0),
    lambda config: config.update(lambda_max=0),
    lambda config: config.update(lambda_min="0.1"),
    lambda config: config.update(lambda_min=float("inf")),
    lambda config: config.update(prior_coarse={"before": 1}),
    lambda config: config.update(prior_coarse={"before": 1, "after": 1, "more": 1}),
    lambda config: config.update(prior_coarse=None),
    lambda config: config.update(prior_coarse=[1, 1, 0]),
    lambda config: config.update(prior_fine={"before": 1, "after": 65}),
    lambda config: config.update(analysis=[[1, 16], [0, 16], [0, 16]]),
    lambda config: config.update(analysis=[[1, 16, 1], [0, 16]]),
    lambda config: config.update(analysis=[]),
    lambda config: config.update(ratio=8192, analysis=[[1, 8192], [0, 16]]),
    lambda config: config.update(partial=17),
    lambda config: config.update(likelihood="gauss"),
    lambda config: config.update(transforms="float"),
    lambda config: config.update(carrier=""),
    lambda config: config.update(carrier="", transforms="float"),
    lambda config: config.update(carrier="split"),
    lambda config: config.update(fusion="attention"),
    lambda config: config.update(fusion="none"),  # fits the same weights
    lambda config: config.pop("lambda_max"),  # they have defaults
    lambda config: config.update(prior_coarse={"before": 1, "after": 1}),
]


@pytest.mark.parametrize("change", CHANGES, ids=range(len(CHANGES)))
def test_configurations_are_refused_as_by_python(parts: Any, change: Callable[..., Any], tmp_path: Path) -> None:
    data = with_config(change)
    model = Model(parts, data)
    assert model.status == python_status(data, tmp_path)
    assert bool(model.message) == bool(model.status)


def test_every_field_of_a_configuration_is_known(parts: Any) -> None:
    """A field that is new in Config belongs into core/file/config.c, too."""
    defaults = {field.name: field.default for field in fields(Config) if field.default is not MISSING}
    assert Model(parts, with_config(lambda config: config.update(defaults | config))).status == 0


ANYTHING: st.SearchStrategy[Any] = st.sampled_from(
    (0, 1, 2, 8, 16, 64, -1, 8193, 1 << 40, 0.5, 1.0, None, True, "", "psi", "1", [], [1, 2, 4], {})
)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), value=ANYTHING | st.lists(st.lists(ANYTHING, max_size=3), max_size=4))
def test_changed_configurations(
    parts: Any, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, value: Any
) -> None:
    config = json.loads(split(TINY)[0]["__metadata__"]["config"])
    name = data.draw(st.sampled_from(sorted(config)))
    if name.startswith("lambda") and value is True:
        return  # Python takes it for 1
    changed = with_config(lambda config: config.update({name: value}))
    assert Model(parts, changed).status == python_status(changed, tmp_path_factory.getbasetemp())


def change_header(change: Callable[[dict[str, Any]], Any]) -> bytes:
    header, tensors = split(TINY)
    change(header)
    return joined(header, tensors)


def move(header: dict[str, Any], name: str, begin: int, end: int) -> None:
    offsets = header[name]["data_offsets"]
    header[name]["data_offsets"] = [offsets[0] + begin, offsets[1] + end]


def metadata(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda header: header["__metadata__"].update(changes)


def empty_tensor() -> dict[str, Any]:
    return {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}


FORGED = {
    "empty": (b"", "no weights file"),
    "cut in its size": (TINY[:7], "no weights file"),
    "cut in its header": (TINY[:1000], "cut short"),
    "cut in its tensors": (TINY[:-1], "a tensor lies outside of the file"),
    "longer": (TINY + b"0", "something behind its tensors"),
    "a huge header": (b"\xff" * 8 + TINY[8:], "cut short"),
    "no JSON": (TINY[:8] + b"!" + TINY[9:], "its header isn't JSON"),
    "no object": (joined([1], b""), "of format 1"),
    "no metadata": (change_header(lambda header: header.pop("__metadata__")), "of format 1"),
    "another format": (change_header(metadata(hpcm="2")), "of format 1"),
    "a number for the format": (change_header(metadata(hpcm=1)), "of format 1"),
    "no configuration": (
        change_header(lambda header: header["__metadata__"].pop("config")),
        "its metadata have no config",
    ),
    "no provenance": (change_header(lambda header: header["__metadata__"].pop("provenance")), "have no provenance"),
    "provenance in pieces": (change_header(metadata(provenance="{")), "provenance of its metadata isn't"),
    "a list of layers": (change_header(metadata(layers="[]")), "layers of its metadata isn't"),
    "a configuration of numbers": (change_header(metadata(config="[1]")), "config of its metadata isn't"),
    "a number in the metadata": (change_header(metadata(more=1)), "its metadata aren't texts"),
    "a name that is a path": (change_header(metadata(name="../x")), "a name that no model can have"),
    "an unknown type": (change_header(lambda header: header["z_means"].update(dtype="F8")), "a type that isn't known"),
    "a type of another size": (change_header(lambda header: header["z_means"].update(dtype="I8")), "another size"),
    "a tensor without a shape": (change_header(lambda header: header["z_means"].pop("shape")), "no shape"),
    "five dimensions": (change_header(lambda header: header["z_means"].update(shape=[1, 8, 1, 1, 1])), "than 4 dim"),
    "a negative side": (change_header(lambda header: header["z_means"].update(shape=[-1, -8, 1, 1])), "isn't known"),
    "a side that is no whole number": (
        change_header(lambda header: header["z_means"].update(shape=[1.0])),
        "isn't known",
    ),
    "an overflow": (change_header(lambda header: header["z_means"].update(shape=[1 << 62, 4, 1 << 62])), "larger than"),
    "another shape": (change_header(lambda header: header["z_means"].update(shape=[8])), "z_means has another shape"),
    "no offsets": (change_header(lambda header: header["z_means"].update(data_offsets=[0])), "lies outside"),
    "overlapping": (change_header(lambda header: move(header, "z_means", -4, -4)), "overlap"),
    "outside": (change_header(lambda header: move(header, "z_means", 1 << 40, 1 << 40)), "lies outside"),
    "before": (change_header(lambda header: move(header, "z_means", -(1 << 40), -(1 << 40))), "lies outside"),
    "turned round": (change_header(lambda header: header["z_means"]["data_offsets"].reverse()), "lies outside"),
    "one too many": (change_header(lambda header: header.update(more=empty_tensor())), "doesn't ask for"),
    "a zero in a name": (change_header(lambda header: header.update({"a\0": empty_tensor()})), "has a zero in it"),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_weights(parts: Any, name: str, tmp_path: Path) -> None:
    data, reason = FORGED[name]
    model = Model(parts, data)
    assert model.status == BAD_MODEL
    assert reason in model.message
    assert python_status(data, tmp_path) == BAD_MODEL


def test_models_that_need_torch(parts: Any) -> None:
    model = Model(parts, (GOLDEN / "tiny-base.safetensors").read_bytes())
    assert (model.status, model.message) == (BAD_MODEL, "it needs PyTorch: it has attention")


# ---- where weights are -----------------------------------------------------------------------------------------------

HASH = hashlib.sha256(TINY).digest()[:8]


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty folder where weights are looked for alone."""
    monkeypatch.delenv("HPCM_WEIGHTS", raising=False)
    for name, folder in (("HOME", "home"), ("XDG_DATA_HOME", "data"), ("XDG_DATA_DIRS", "one")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    return tmp_path


def find(parts: Any, hash: bytes = HASH, where: Path | None = None, threads: int = 1, name: str = "tiny") -> Any:
    """The status, the model as a number, and the message."""
    model, message = c_void_p(), ctypes.create_string_buffer(c.MESSAGE_BYTES)
    place = str(where).encode() if where else None
    status = parts.hpcm_find_model(name.encode(), hash, place, threads, byref(model), message)
    return status, model.value, message.value.decode()


def forget(parts: Any) -> None:
    """Makes the library keep another model than any that tests look for."""
    _, model, _ = find(parts, where=GOLDEN, threads=3)
    put(parts, model)


def put(parts: Any, model: int) -> None:
    parts.hpcm_put_model(c_void_p(model))


@pytest.mark.parametrize(
    ("variable", "value", "folder"),
    [
        ("HPCM_WEIGHTS", "own", "own"),
        ("XDG_DATA_HOME", "data", "data/hpcm"),
        ("XDG_DATA_HOME", "", "home/.local/share/hpcm"),
        ("XDG_DATA_DIRS", "one:two", "one/hpcm"),
        ("XDG_DATA_DIRS", "one::two", "two/hpcm"),
    ],
)
def test_places_of_weights(
    parts: Any, nowhere: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, folder: str
) -> None:
    monkeypatch.setenv(variable, ":".join(part and str(nowhere / part) for part in value.split(":")) if value else "")
    forget(parts)
    assert find(parts)[0] == NO_MODEL
    (nowhere / folder).mkdir(parents=True)
    (nowhere / folder / "tiny.safetensors").write_bytes(TINY)
    status, model, message = find(parts)
    assert (status, message) == (0, "")
    put(parts, model)


def test_a_weights_file_by_its_path(parts: Any, nowhere: Path) -> None:
    (nowhere / "any name").write_bytes(TINY)
    forget(parts)
    status, model, _ = find(parts, where=nowhere / "any name")
    assert status == 0
    put(parts, model)


def test_reasons_name_all_places(parts: Any, nowhere: Path) -> None:
    forget(parts)
    folder = nowhere / "one" / "hpcm"
    folder.mkdir(parents=True)
    (folder / "tiny.safetensors").write_bytes(TINY + b"0")
    status, model, message = find(parts, where=Path("x"))
    assert (status, model) == (NO_MODEL, None)
    whole = (
        f"the weights of model tiny (hash {HASH.hex()}) aren't found: looked for in x, {nowhere}/data/hpcm, "
        f"{folder} (the file there has another hash), /nowhere/hpcm"
    )
    most = c.MESSAGE_BYTES - 1
    assert message == (whole if len(whole) <= most else whole[: most - 3] + "...")


def test_a_long_reason_ends_with_dots(parts: Any, nowhere: Path) -> None:
    forget(parts)
    for shift in range(4):
        _, _, message = find(parts, where=Path("x" * shift + "\u20ac" * 400))
        assert message.endswith("\u20ac...")
        assert c.MESSAGE_BYTES - 3 <= len(message.encode()) + 1 <= c.MESSAGE_BYTES


def test_weights_of_the_right_hash_that_make_no_model(parts: Any, nowhere: Path) -> None:
    hash = hashlib.sha256((GOLDEN / "tiny-base.safetensors").read_bytes()).digest()[:8]
    reason = "model tiny-base can't be used: it needs PyTorch: it has attention"
    assert find(parts, hash, GOLDEN, name="tiny-base") == (BAD_MODEL, None, reason)


@pytest.mark.parametrize("name", ["", "../tiny", "a/b", "Tiny", ".tiny", "a" * 33])
def test_names_that_no_model_has(parts: Any, name: str) -> None:
    assert find(parts, where=GOLDEN, name=name)[0] == BAD_ARGUMENT


def test_the_last_model_is_kept_and_shared(parts: Any, nowhere: Path) -> None:
    forget(parts)
    _, first, _ = find(parts, where=GOLDEN)
    put(parts, first)
    assert find(parts)[:2] == (0, first)  # though no folder has it
    assert find(parts)[:2] == (0, first)
    forget(parts)
    assert find(parts)[:2] == (0, first)  # it is still used, twice
    forget(parts)
    for _ in range(3):
        put(parts, first)
    assert find(parts)[0] == NO_MODEL


def test_threads_share_a_model(parts: Any, nowhere: Path) -> None:
    forget(parts)
    with ThreadPoolExecutor(4) as pool:
        models = [model for _, model, _ in pool.map(lambda _: find(parts, where=GOLDEN), range(16))]
    assert len(set(models)) == 1
    for model in models:
        put(parts, model)
    put(parts, find(parts)[1])
    forget(parts)
    assert find(parts)[0] == NO_MODEL
