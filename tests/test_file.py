"""libhpcm's reader of files beside Python's: the same verdicts, and the same samples to the bit."""

import ctypes
import json
import random
import re
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import hpcm
import installed
from hpcm.codec.api import codec_for
from hpcm.format.container import pack, unpack
from hpcm.format.fields import Container
from hpcm.model.find import ASSETS
from installed import LOSSLESS, LOSSY, NEAR_LOSSLESS, REFINED, Failure, File

GOLDEN = Path(__file__).parent / "golden"
KODIM = Path(__file__).parent / "data" / "kodim23.png"
STATUSES = {"format": "BAD_FORMAT", "truncated": "TRUNCATED", "corrupt": "CORRUPT", "valid": "OK"}
FILES = sorted(file.name for file in GOLDEN.glob("*.hpcm") if not file.name.startswith("tiny"))
Request = dict[str, Any]


def codec_of(container: Container) -> hpcm.Codec:
    return codec_for(container)


def decoded(codec: hpcm.Codec, container: Container, **how: Any) -> NDArray[Any]:
    """[h, w, channels] by Python."""
    samples = codec.decompress_array(container, on_note=lambda note: None, **how)
    return samples if samples.ndim == 3 else samples[..., None]


def assert_alike(file: File, codec: hpcm.Codec, container: Container, request: Request) -> None:
    """What libhpcm and Python make of the same request."""
    how: dict[str, Any] = {name: value for name, value in request.items() if name in ("scale", "bit_depth") and value}
    if "right" in request:
        how["box"] = tuple(request[side] for side in ("left", "top", "right", "bottom"))
    if request.get("reduction", 1) > 1:
        size = (container.width, container.height)
        how["draft"] = tuple(max(side // request["reduction"], 1) for side in size)
    expected = decoded(codec, container, partial=bool(request.get("partial")), **how)
    samples = file.read(**request)
    assert samples.dtype == expected.dtype
    assert np.array_equal(samples, expected), request


def in_pieces(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        size = sizes[at % len(sizes)]
        yield data[at : at + size]
        at += size


# ---- verdicts -------------------------------------------------------------------------------------------------------


def test_heads() -> None:
    """By the table that Python and JavaScript are tested with, at once and byte by byte."""
    for head in json.loads((GOLDEN / "heads.json").read_text()):
        data = bytes.fromhex(head["bytes"])
        with File.open_memory(data) as whole, File.open_stream() as stream:
            refused = False
            for byte in in_pieces(data, [1]):
                try:
                    stream.append(byte)
                except Failure:
                    refused = True
                    break
            assert not (refused and head["verdict"] in ("valid", "truncated")), head["name"]
            for file in (whole, stream):
                assert _verdict(file) == STATUSES[head["verdict"]], head["name"]
                if head["verdict"] == "valid":
                    assert _fields(file) == head["fields"], head["name"]


def _verdict(file: File) -> str:
    try:
        file.info()
    except Failure as failure:
        return failure.status
    return "OK"


def _fields(file: File) -> dict[str, Any]:
    info = file.info()
    return {
        **{name: getattr(info, name) for name in ("width", "height", "bit_depth", "level", "tile_side")},
        "model": info.model.decode(),
        "model_hash": bytes(info.model_hash).hex(),
        "colour": "grey" if info.channels < 3 else "rgb",
        "passes": 3 if info.is_progressive else 1,
    }


def test_files() -> None:
    """Whole files, cut and damaged ones: the table of all readers."""
    for entry in json.loads((GOLDEN / "files.json").read_text()):
        data = bytes.fromhex(entry["bytes"])
        with File.open_memory(data) as file:
            assert file.status == STATUSES[entry["whole"]], entry["name"]
        with File.open_stream() as file:
            assert _beginning(file, data) == (STATUSES[entry["partial"]], entry.get("parts", 0)), entry["name"]


def _beginning(file: File, data: bytes, sizes: tuple[int, ...] = (1, 7, 3)) -> tuple[str, int]:
    """The verdict on a beginning of a file that comes piece by piece, and how many of its parts are there."""
    for piece in in_pieces(data, list(sizes)):
        try:
            file.append(piece)
        except Failure as failure:
            return failure.status, 0
    there = file.info().parts_there if _verdict(file) == "OK" else 0
    return ("OK", there) if there else ("TRUNCATED", 0)


@settings(max_examples=300)
@given(name=st.sampled_from(FILES), seed=st.integers(0, 2**32 - 1))
def test_damaged_files(name: str, seed: int) -> None:
    """Any change of any file: Python's verdict, of the whole and of a beginning."""
    draw = random.Random(seed)
    data = bytearray((GOLDEN / name).read_bytes())
    for _ in range(draw.randrange(3)):
        data[draw.randrange(min(len(data), draw.choice((60, 300, 1 << 20))))] = draw.randrange(256)
    if draw.random() < 0.5:
        del data[draw.randrange(len(data)) :]
    if draw.random() < 0.1:
        data += bytes(draw.randrange(4))
    damaged = bytes(data)
    with File.open_memory(damaged) as whole, File.open_stream() as stream:
        assert whole.status == _python_verdict(damaged)
        assert _beginning(stream, damaged, (4096, 1, 70)) == _python_beginning(damaged)


def _python_verdict(data: bytes, **how: Any) -> str:
    try:
        unpack(data, **how)
    except hpcm.HPCMError as error:
        kinds = {"TruncatedError": "TRUNCATED", "CorruptError": "CORRUPT", "FormatError": "BAD_FORMAT"}
        return kinds[type(error).__name__]
    return "OK"


def _python_beginning(data: bytes) -> tuple[str, int]:
    verdict = _python_verdict(data, partial=True)
    return verdict, sum(map(len, unpack(data, partial=True).tiles)) if verdict == "OK" else 0


# ---- samples --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_golden_files(name: str) -> None:
    """All that the format knows: whole, boxes, reductions, scales, depths, cut short."""
    data = (GOLDEN / name).read_bytes()
    container = unpack(data)
    codec, width, height = codec_of(container), container.width, container.height
    box = {"left": width // 3, "top": height // 4, "right": width - 5, "bottom": height - 7}
    requests: list[Request] = [{}, box, {"bit_depth": 8}, {"bit_depth": 16}, {"reduction": 2}, {"reduction": 8}]
    requests += [{"scale": scale} for scale in (1, 2, 3)]
    with File.open(GOLDEN / name, weights=ASSETS) as file:
        assert file.status == "OK"
        for request in requests:
            assert_alike(file, codec, container, request)
    for share in (0.5, 0.8, 0.99):
        beginning = data[: int(len(data) * share)]
        if _python_verdict(beginning, partial=True) == "OK":
            with File.open_memory(beginning, weights=ASSETS) as file:
                assert_alike(file, codec, unpack(beginning, partial=True), {"partial": 1})


@st.composite
def pictures(draw: Any) -> tuple[NDArray[Any], int]:
    """A piece of a photograph of any size, depth and number of channels; and its bit depth."""
    width, height = draw(st.integers(1, 600)), draw(st.integers(1, 400))
    seed = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    photo = np.asarray(Image.open(KODIM).convert("RGB"))[:height, :width]
    bit_depth = draw(st.sampled_from((8, 8, 12, 16)))
    if bit_depth > 8:
        photo = photo.astype(np.uint16) << bit_depth - 8
        photo |= seed.integers(0, 1 << bit_depth - 8, photo.shape, np.uint16)
    if draw(st.booleans()):
        photo = photo[..., :1]
    if draw(st.booleans()):
        alpha = seed.integers(0, 1 << bit_depth, (height, width, 1)).astype(photo.dtype)
        alpha[:, : width // 2] = 0
        photo = np.concatenate((photo, alpha), axis=2)
    return photo[..., 0] if photo.shape[2] == 1 else photo, bit_depth


@pytest.fixture(scope="module")
def nano() -> hpcm.Codec:
    return hpcm.load("nano", threads=1)


WAYS: tuple[dict[str, Any], ...] = ({}, {}, {"lossless": True}, {"max_error": 2}, {"quality": 90}, {"quality": 10})


@settings(max_examples=12, deadline=None)
@given(picture=pictures(), how=st.sampled_from(WAYS), progressive=st.booleans(), seed=st.integers(0, 2**32 - 1))
def test_pictures_of_many_tiles(
    nano: hpcm.Codec, picture: tuple[NDArray[Any], int], how: dict[str, Any], progressive: bool, seed: int
) -> None:
    """Boxes, reductions and scales across tiles, whole and cut short: as Python decodes them."""
    draw = random.Random(seed)
    samples, bit_depth = picture
    given_depth = {"bit_depth": bit_depth} if bit_depth > 8 else {}
    data = nano.compress(samples, tile=256, progressive=progressive, on_note=lambda note: None, **given_depth, **how)
    container = unpack(data)
    with File.open_memory(data, weights=ASSETS, threads=draw.choice((1, 3))) as file:
        for request in ({}, _box(draw, container), _reduction(draw, container)):
            asked = request | {"scale": draw.choice((0, 0, 1, 3)), "bit_depth": draw.choice((0, 8, 10, 16))}
            assert_alike(file, nano, container, asked)
    cut = data[: draw.randrange(len(data))]
    if _python_verdict(cut, partial=True) == "OK":
        with File.open_memory(cut, weights=ASSETS) as file:
            for request in ({}, _box(draw, container), _reduction(draw, container)):
                assert_alike(file, nano, unpack(cut, partial=True), request | {"partial": 1})


def _box(draw: random.Random, container: Container) -> Request:
    left, top = draw.randrange(container.width), draw.randrange(container.height)
    right, bottom = draw.randint(left + 1, container.width), draw.randint(top + 1, container.height)
    return {"left": left, "top": top, "right": right, "bottom": bottom}


def _reduction(draw: random.Random, container: Container) -> Request:
    least = min(container.width, container.height)
    return {"reduction": draw.choice([factor for factor in (1, 2, 8, 64) if factor <= least])}


def test_channels_that_are_wanted() -> None:
    with File.open(GOLDEN / "format-grey.hpcm", weights=ASSETS) as grey:
        samples = grey.read()
        assert grey.info().channels in (1, 2)
        for channel in range(3):
            assert np.array_equal(grey.read(channels=3)[..., channel], samples[..., 0])
    with File.open(GOLDEN / "nano-1.hpcm", weights=ASSETS) as file:
        samples = file.read(channels=4)
        assert np.array_equal(samples[..., :3], file.read())
        assert (samples[..., 3] == 255).all()
        assert (file.read(channels=4, bit_depth=16)[..., 3] == 65535).all()


def test_rows_may_lie_apart() -> None:
    with File.open(GOLDEN / "nano-1.hpcm", weights=ASSETS) as file:
        assert np.array_equal(file.read(gap=14), file.read())


def test_progress() -> None:
    """A file that comes bit by bit: each pass is there when its last part is, and shows what Python shows."""
    data = (GOLDEN / "progressive.hpcm").read_bytes()
    codec = codec_of(unpack(data))
    seen = []
    with File.open_stream(weights=ASSETS) as file:
        for end in range(100, len(data) + 100, 100):
            file.append(data[end - 100 : end])
            info = file.info()
            if info.parts_there and (not seen or info.scales_there > seen[-1]):
                seen.append(info.scales_there)
                assert_alike(file, codec, unpack(data[:end], partial=True), {"partial": 1})
        assert info.parts_there == info.parts
        assert_alike(file, codec, unpack(data), {})
    assert seen == [0, 1, 2, 3]


# ---- what a file says -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "loss", "max_error"),
    [
        ("nano-1.hpcm", LOSSY, -1),
        ("quality-90.hpcm", REFINED, -1),
        ("near-lossless.hpcm", NEAR_LOSSLESS, None),
        ("lossless.hpcm", LOSSLESS, 0),
    ],
)
def test_loss(name: str, loss: int, max_error: int | None) -> None:
    residual = unpack((GOLDEN / name).read_bytes()).residual
    expected = residual.max_error if residual and max_error is None else max_error
    with File.open(GOLDEN / name) as file:
        assert (file.info().loss, file.info().max_error) == (loss, expected)


def test_metadata_without_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HPCM_WEIGHTS", str(tmp_path))
    data = (GOLDEN / "format.hpcm").read_bytes()
    container = unpack(data)
    with File.open(GOLDEN / "format.hpcm") as file:
        assert file.metadata("I") == container.icc
        assert file.metadata("E") == container.exif
        for kind, content in container.ancillary:
            assert file.metadata(kind) == content
        assert file.metadata("q") is None


def test_reductions() -> None:
    with File.open(GOLDEN / "progressive.hpcm") as file:  # 300 x 201
        assert [file.reduction_for(*size) for size in ((300, 201), (150, 101), (150, 100), (37, 25), (1, 1))] == [
            *(1, 1, 2, 8),
            128,
        ]
        assert file.size(reduction=8) == (38, 26)


# ---- what can be wrong ----------------------------------------------------------------------------------------------


def test_no_weights_says_where_they_were_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HPCM_WEIGHTS", str(tmp_path / "user"))
    monkeypatch.setenv("XDG_DATA_DIRS", str(tmp_path / "system"))
    with File.open(GOLDEN / "tiny.hpcm", weights=tmp_path / "given") as file:
        assert file.status == "OK"
        with pytest.raises(Failure) as raised:
            file.read()
    assert raised.value.status == "NO_MODEL"
    for place in ("tiny", "given", "user", "system/hpcm"):
        assert place in raised.value.message


def test_pictures_beside_grey_need_no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network is run for them."""
    screen = np.zeros((40, 50, 3), np.uint8)
    screen[10:20, 5:30] = (200, 10, 30)
    data = hpcm.compress(screen, lossless=True, model="nano")
    container = unpack(data)
    assert container.base_parts == 0
    copy = pack(replace(container, model_hash=bytes(8)))  # of a model that nobody has
    monkeypatch.setenv("HPCM_WEIGHTS", str(tmp_path))
    with File.open_memory(copy) as file:
        assert file.status == "OK", file.message
        assert np.array_equal(file.read(), screen)


def test_claims() -> None:
    with File.open(GOLDEN / "progressive.hpcm", weights=ASSETS, max_pixels=10_000) as file:
        with pytest.raises(Failure, match=r"TOO_LARGE: the file claims 300 x 201 pixels, over 10,?000"):
            file.read()
        assert file.read(left=10, top=10, right=60, bottom=40).shape == (30, 50, 3)


def test_wrong_weights_of_the_right_name(tmp_path: Path) -> None:
    (tmp_path / "tiny.safetensors").write_bytes((GOLDEN / "tiny-base.safetensors").read_bytes())
    with File.open(GOLDEN / "tiny.hpcm", weights=tmp_path) as file, pytest.raises(Failure, match="NO_MODEL"):
        file.read()


@pytest.mark.parametrize(
    "request_",
    [
        {"left": 1},
        {"left": 5, "right": 5, "bottom": 5},
        {"right": 1000, "bottom": 5},
        {"left": -1, "right": 5, "bottom": 5},
        {"reduction": 3},
        {"reduction": 512},
        {"reduction": -2},
        {"reduction": 2, "right": 5, "bottom": 5},
        {"scale": 4},
        {"scale": -1},
        {"bit_depth": 7},
        {"bit_depth": 17},
        {"channels": 1},
    ],
)
def test_requests_that_make_no_sense(request_: Request) -> None:
    with File.open(GOLDEN / "nano-1.hpcm", weights=ASSETS) as file:
        with pytest.raises(Failure, match="BAD_ARGUMENT"):
            file.read(**request_)
        assert file.read().shape == (101, 153, 3)


def test_half_a_file_is_read_only_where_that_is_wanted() -> None:
    data = (GOLDEN / "progressive.hpcm").read_bytes()[:2000]
    with File.open_memory(data, weights=ASSETS) as file:
        assert file.status == "TRUNCATED"
        with pytest.raises(Failure, match="TRUNCATED"):
            file.read()
        assert file.read(partial=1).shape == (201, 300, 3)
    with File.open_memory(data[:60], weights=ASSETS) as file, pytest.raises(Failure, match="TRUNCATED"):
        file.read(partial=1)


def test_what_was_right_before_the_damage_can_be_read() -> None:
    data = bytearray((GOLDEN / "progressive.hpcm").read_bytes())
    data[-10] ^= 1
    with File.open_memory(bytes(data), weights=ASSETS) as file:
        assert file.status == "CORRUPT"
        with pytest.raises(Failure, match="CORRUPT"):
            file.read()
        assert file.info().parts_there == 5
        assert_alike(file, hpcm.load("nano"), unpack(bytes(data[:-1]), partial=True), {"partial": 1})
        with pytest.raises(Failure, match="CORRUPT"):
            file.append(b"more")


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    for path in (tmp_path / "none.hpcm", tmp_path):
        with File.open(path) as file:
            assert file.status == "UNREADABLE"
            assert file.message.startswith("the file can't be")


@pytest.mark.parametrize("name", ["quality-90.hpcm", "lossless.hpcm", "nano-1.hpcm"])
def test_another_decoder_is_noticed(name: str) -> None:
    """A file with right CRCs, but another checksum of the symbols, or of the base, than this library computes."""
    container = unpack((GOLDEN / name).read_bytes())
    ((*before, last),) = container.tiles
    changed = replace(container, tiles=((*before, replace(last, checksum=last.checksum ^ 1)),))
    with File.open_memory(pack(changed), weights=ASSETS) as file:
        assert file.status == "OK"
        with pytest.raises(Failure, match="MISMATCH"):
            file.read()


def test_work_ends_when_the_caller_says_so() -> None:
    calls = []

    def stop(user: Any) -> int:
        calls.append(threading.get_ident())
        return len(calls) > 3

    with File.open(GOLDEN / "progressive.hpcm", weights=ASSETS, threads=2) as file:
        with pytest.raises(Failure, match="STOPPED"):
            file.read(check=installed.Check(stop))
        assert set(calls) == {threading.get_ident()}
        assert file.read().shape == (201, 300, 3)


def test_structs_of_other_releases() -> None:
    """A shorter struct leaves the rest as by default, a longer one is read as far as it is known; 0 is refused."""
    library = installed.library()
    with File.open(GOLDEN / "nano-1.hpcm", weights=ASSETS) as file:
        short = installed.Info(size=installed.Info.width.offset + 4)
        assert library.hpcm_get_info(file._handle, ctypes.byref(short)) == 0
        assert (short.width, short.height) == (153, 0)
        columns, rows = ctypes.c_int32(), ctypes.c_int32()
        request = installed.Request(size=installed.Request.reduction.offset, reduction=3)
        sizes = (ctypes.byref(columns), ctypes.byref(rows))
        assert library.hpcm_get_size(file._handle, ctypes.byref(request), *sizes) == 0
        request.size = ctypes.sizeof(request) + 64
        request.reduction = 2
        assert library.hpcm_get_size(file._handle, ctypes.byref(request), *sizes) == 0
        assert (columns.value, rows.value) == (77, 51)
        request.size = 0
        status = library.hpcm_get_size(file._handle, ctypes.byref(request), *sizes)
        assert installed.STATUSES[status] == "BAD_ARGUMENT"
        assert "HPCM_REQUEST" in file.message


def test_several_files_at_once() -> None:
    """Each thread has its own file; the model is one."""
    expected = {}
    for name in ("nano-1.hpcm", "progressive.hpcm", "quality-90.hpcm"):
        with File.open(GOLDEN / name, weights=ASSETS) as file:
            expected[name] = file.read()
    wrong = []

    def work(name: str) -> None:
        for _ in range(3):
            with File.open(GOLDEN / name, weights=ASSETS, threads=2) as file:
                if not np.array_equal(file.read(), expected[name]):
                    wrong.append(name)

    threads = [threading.Thread(target=work, args=(name,)) for name in [*expected] * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_any_number_of_threads() -> None:
    """As libvips has more than are used."""
    path = GOLDEN / "nano-1.hpcm"
    with File.open(path, weights=ASSETS) as one, File.open(path, weights=ASSETS, threads=1000) as many:
        assert many.status == "OK"
        assert np.array_equal(one.read(), many.read())
    with File.open(path, threads=-1) as none:
        assert none.status == "BAD_ARGUMENT"


@pytest.mark.skipif(sys.platform != "linux", reason="the system tells which signals a thread handles")
def test_threads_handle_no_signals_of_the_program() -> None:
    """Else a handler might run in one of them, which the program knows nothing of."""

    def threads() -> set[Path]:
        return set(Path("/proc/self/task").iterdir())

    before = threads()
    with File.open(GOLDEN / "nano-1.hpcm", weights=ASSETS, threads=5) as file:
        file.read()  # no other test has a model with so many
        started = threads() - before
        assert len(started) == 4
        for thread in started:
            (blocked,) = re.findall(r"^SigBlk:\s*(\w+)", (thread / "status").read_text(), re.MULTILINE)
            for number in (signal.SIGINT, signal.SIGALRM, signal.SIGTERM, signal.SIGCHLD):
                assert int(blocked, 16) >> number - 1 & 1
