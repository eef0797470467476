"""The codec in the browser against this one: the same files and the same pixels, to the bit.

Its container, tiles and colours are JavaScript; what a tile is coded with is libhpcm, compiled to WebAssembly.

Skipped where Node.js 20 or a compiler for WebAssembly (the package ziglang) is missing.
"""

import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hpcm
from hpcm.codec.api import codec_for
from hpcm.errors import CorruptError, FormatError, MismatchError, PictureError, TruncatedError, UsageError
from hpcm.format.container import pack, unpack
from hpcm.format.fields import Container, Part
from hpcm.model.find import find, find_hash

ROOT = Path(__file__).resolve().parents[1]
WEB = ROOT / "web"
GOLDEN = ROOT / "tests" / "golden"
PHOTO = ROOT / "tests" / "data" / "kodim23.png"
NODE = shutil.which("node")

MOST_PIXELS = 1 << 26  # MAX_PIXELS of web/src/codec.js
CODES = {  # of the same errors in JavaScript
    CorruptError: "corrupt",
    TruncatedError: "truncated",
    FormatError: "format",
    MismatchError: "mismatch",
    PictureError: "picture",
    UsageError: "usage",
}

pytestmark = pytest.mark.skipif(
    NODE is None or find_spec("ziglang") is None,
    reason="needs Node.js 20 and the package ziglang",
)


class Node:
    """web/test/drive.js as a process."""

    def __init__(self, threads: int) -> None:
        self.process = subprocess.Popen(
            [NODE, WEB / "test" / "drive.js", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=WEB,
            text=True,
        )

    def ask(self, **job):
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def decode(self, data: bytes, tmp_path: Path, name: str | None, scale=None, partial: bool = False, box=None):
        """RGBA [H, W, 4], or the code of the error. Without a model's name only files beside grey are decoded."""
        file, out = tmp_path / "in.hpcm", tmp_path / "out.rgba"
        file.write_bytes(data)
        model = name and model_of(name)
        answer = self.ask(do="decode", model=model, file=str(file), scale=scale, partial=partial, box=box, out=str(out))
        if "error" in answer:
            return answer["error"]
        return np.frombuffer(out.read_bytes(), np.uint8).reshape(answer["height"], answer["width"], 4)

    def encode(self, rgba: np.ndarray, levels: list[int], tmp_path: Path, name: str, **how):
        out = self._encode("encode", rgba, tmp_path, name, levels=levels, **how)
        return [Path(f"{out}.{level}").read_bytes() for level in levels]

    def encode_within(self, rgba: np.ndarray, max_error: int, tmp_path: Path, name: str, **how):
        return self._encode("encodeWithin", rgba, tmp_path, name, maxError=max_error, **how).read_bytes()

    def _encode(self, do: str, rgba: np.ndarray, tmp_path: Path, name: str, **how) -> Path:
        source, out = tmp_path / "in.rgba", tmp_path / "out.hpcm"
        source.write_bytes(np.ascontiguousarray(rgba, np.uint8).tobytes())
        height, width = rgba.shape[:2]
        given = {"image": str(source), "width": width, "height": height, "out": str(out)}
        assert self.ask(do=do, model=model_of(name), **given, **how) == {}
        return out


def needs_compiling() -> bool:
    made = [ROOT / "build" / "wasm" / name for name in ("hpcm.wasm", "hpcm-threads.wasm")]
    sources = [*(ROOT / "core").glob("*.*"), *(ROOT / "core" / "kernels").iterdir()]
    changed = max(file.stat().st_mtime for file in sources)
    return not all(file.is_file() and file.stat().st_mtime > changed for file in made)


@pytest.fixture(scope="module", autouse=True)
def compiled():
    if needs_compiling():
        subprocess.run([sys.executable, ROOT / "core" / "build.py", "--wasm"], check=True)


def running(threads: int):
    node = Node(threads)
    yield node
    node.process.communicate(timeout=30)


@pytest.fixture(scope="module")
def node(compiled):
    yield from running(1)


@pytest.fixture(scope="module")
def node_of_three_threads(compiled):
    yield from running(3)


def model_of(name: str) -> str:
    return str(find(name).path)


def same(node, data: bytes, tmp_path, scale: int | None = None, partial: bool = False) -> None:
    container = unpack(data, partial=partial)
    name = find_hash(container.model, container.model_hash).name
    theirs = node.decode(data, tmp_path, name, scale, partial)
    codec = codec_for(container)
    ours = codec.decompress_array(data, bit_depth=8, scale=scale, partial=partial, on_note=lambda note: None)
    assert np.array_equal(theirs, rgba_of(Image.fromarray(ours)))


@pytest.mark.parametrize("bits", [9, 10, 12, 16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_more_than_8_bits_are_shown_with_8(node, tmp_path, channels, bits):
    """Grey without alpha, of which Pillow has 16 bits, by the same rounding."""
    mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[channels]
    image = photo(90, 70, mode[0] if channels == 1 else mode.removesuffix("A"))
    samples = np.asarray(image).reshape(70, 90, -1).astype(np.uint16)
    if channels in (2, 4):
        samples = np.dstack((samples, np.linspace(0, 255, 90 * 70).reshape(70, 90).astype(np.uint16)))
    samples = np.squeeze(samples << (bits - 8) | samples >> (16 - bits))
    data = hpcm.compress(samples, bit_depth=bits, model="nano")
    ours = Image.fromarray(hpcm.decompress_array(data, bit_depth=8))
    assert np.array_equal(node.decode(data, tmp_path, "nano"), rgba_of(ours))


def quality_of(level: int) -> int:
    return 1 + round(level * 79 / 63)


def rgba_of(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGBA"))


def photo(width: int, height: int, mode: str = "RGB") -> Image.Image:
    picture = Image.open(PHOTO).convert("RGB").crop((200, 90, 200 + width, 90 + height)).convert(mode)
    picture.info.clear()  # JavaScript's encoder is given pixels alone
    return picture


@pytest.mark.parametrize("name", [path.stem for path in GOLDEN.glob("*.hpcm") if "tiny" not in path.stem])
def test_golden_files(node, name, tmp_path):
    same(node, (GOLDEN / f"{name}.hpcm").read_bytes(), tmp_path)


@pytest.mark.parametrize("scale", [1, 2, 3])
@pytest.mark.parametrize("size", [(120, 80), (600, 300)])
def test_scales(node, scale, size, tmp_path):
    """Of one tile and of several."""
    data = hpcm.compress(photo(*size), quality=60, model="nano", progressive=True, tile=256)
    same(node, data, tmp_path, scale)


@pytest.mark.parametrize("name", ["nano-1", "lite-1"])
def test_levels(node, name, tmp_path):
    """All of them, there and back."""
    image = photo(70, 50)
    levels = list(range(64))
    codec = hpcm.load(name)
    for level, data in zip(levels, node.encode(rgba_of(image), levels, tmp_path, name), strict=True):
        assert data == codec.compress(image, quality=quality_of(level))
        same(node, data, tmp_path)


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (17, 16), (64, 65), (300, 3)])
def test_sizes(node, size, tmp_path):
    image = photo(*size)
    (data,) = node.encode(rgba_of(image), [40], tmp_path, "nano-1")
    assert data == hpcm.compress(image, quality=quality_of(40), model="nano")
    same(node, data, tmp_path)


def test_several_threads(node_of_three_threads, tmp_path):
    image = photo(300, 200)
    (data,) = node_of_three_threads.encode(rgba_of(image), [40], tmp_path, "nano-1")
    assert data == hpcm.compress(image, quality=quality_of(40), model="nano")
    same(node_of_three_threads, data, tmp_path)


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (250, 100, 270, 130), (0, 0, 600, 300), (511, 255, 600, 300)])
def test_boxes(node, box, tmp_path):
    data = hpcm.compress(photo(600, 300, "L"), quality=50, model="nano", tile=256)
    theirs = node.decode(data, tmp_path, "nano-1", box=box)
    ours = hpcm.decompress(data, box=box).convert("RGBA")
    assert np.array_equal(theirs, ours)


@pytest.mark.parametrize("box", [(0, 0, 0, 1), (-1, 0, 5, 5), (0, 0, 601, 300), (5, 5, 4, 9), (0.5, 0, 5, 5)])
def test_boxes_outside_are_refused(node, box, tmp_path):
    data = hpcm.compress(photo(600, 300), quality=10, model="nano")
    assert node.decode(data, tmp_path, "nano-1", box=box) == "usage"


def test_escapes(node, tmp_path):
    """Noise at a model's best level has symbols beyond the tables."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 2, (64, 96, 3), np.uint8) * 255)
    same(node, hpcm.compress(noise, quality=80, model="nano"), tmp_path)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA"])
def test_grey_and_alpha(node, mode, tmp_path):
    image = photo(100, 60, mode)
    if mode.endswith("A"):
        image.putalpha(Image.radial_gradient("L").resize(image.size))
    same(node, hpcm.compress(image, quality=40, model="nano"), tmp_path)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_files_that_were_cut(node, share, tmp_path):
    whole = hpcm.compress(photo(240, 160), quality=60, model="nano", progressive=True)
    data = whole[: int(share * len(whole))]
    same(node, data, tmp_path, partial=True)
    assert node.decode(data, tmp_path, "nano-1") == "truncated"


def test_damage_anywhere_is_told(node, tmp_path):
    """Each byte of the head and the table, and some of the rest, changed and cut: an error, never a picture."""
    data = (GOLDEN / "progressive.hpcm").read_bytes()
    codes = set()
    for place in [*range(60), *range(60, len(data), 500), len(data) - 1]:
        damaged = bytearray(data)
        damaged[place] ^= 0x55
        codes.add(code := node.decode(bytes(damaged), tmp_path, "nano-1"))
        assert code in ("format", "truncated", "corrupt", "mismatch"), place
        assert node.decode(data[:place], tmp_path, "nano-1") == "truncated"
    assert {"format", "truncated", "corrupt"} <= codes
    assert node.decode(data + b"x", tmp_path, "nano-1") == "format"


def test_another_model_is_told(node, tmp_path):
    assert node.decode((GOLDEN / "lite-1.hpcm").read_bytes(), tmp_path, "lite-mse-1") == "mismatch"


def test_files_of_tiles_with_alpha_made_in_javascript(node, tmp_path):
    image = photo(300, 200).resize((1100, 40))
    rgba = np.asarray(image.convert("RGBA")).copy()
    rgba[..., 3] = np.arange(1100) % 256
    (data,) = node.encode(rgba, [10], tmp_path, "nano-1", progressive=True)
    assert len(unpack(data).tiles) == 2
    assert unpack(data).passes == 3
    same(node, data, tmp_path)
    grey = np.asarray(photo(90, 70, "L").convert("RGBA"))
    (data,) = node.encode(grey, [30], tmp_path, "nano-1")
    assert hpcm.decompress(data).mode == "L"
    same(node, data, tmp_path)


# ---- residual layers -------------------------------------------------------------------------------------------------


def drawing(width: int, height: int) -> Image.Image:
    """Like a screen: areas of one colour, of which most pixels are as their neighbours."""
    rows, columns = np.mgrid[:height, :width]
    squares = (rows // 8 + columns // 8) % 2 * 255
    return Image.fromarray(np.dstack((rows // 16 * 9 % 256, columns // 24 * 31 % 256, squares)).astype(np.uint8))


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA"])
@pytest.mark.parametrize("size", [(1, 1), (17, 16), (70, 50), (300, 3)])
def test_lossless_files(node, size, mode, tmp_path):
    """Of Python in JavaScript, and made in both."""
    image = photo(*size, mode)
    if mode.endswith("A"):
        image.putalpha(Image.radial_gradient("L").resize(image.size))
    data = hpcm.compress(image, lossless=True, model="nano")
    assert np.array_equal(node.decode(data, tmp_path, "nano-1"), rgba_of(image))
    made = node.encode_within(rgba_of(image), 0, tmp_path, "nano-1")
    assert without_alpha(made) == without_alpha(data)
    assert np.array_equal(rgba_of(hpcm.decompress(made)), rgba_of(image))
    if unpack(data).base_parts:
        same(node, data, tmp_path, scale=3)


def without_alpha(data: bytes) -> Container:
    """All that a file says but for its alpha channel, which is a PNG by another compressor."""
    return replace(unpack(data), alpha=None)


@pytest.mark.parametrize(("max_error", "quality"), [(1, None), (0, 1), (0, 50), (7, 80), (127, 20)])
def test_near_lossless_files_and_lossy_pictures_in_them(node, max_error, quality, tmp_path):
    image = photo(90, 60)
    data = hpcm.compress(image, max_error=max_error, quality=quality, model="nano")
    same(node, data, tmp_path)
    level = {} if quality is None else {"level": unpack(data).level}
    assert node.encode_within(rgba_of(image), max_error, tmp_path, "nano-1", **level) == data


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_qualities_above_the_best_level(node, mode, tmp_path):
    """All of them, there and back."""
    image = photo(90, 60, mode)
    qualities = range(81, 101)
    files = node.encode(rgba_of(image), [quality - 17 for quality in qualities], tmp_path, "nano-1")
    for quality, data in zip(qualities, files, strict=True):
        assert data == hpcm.compress(image, quality=quality, model="nano")
        same(node, data, tmp_path)


def test_drawings_are_coded_beside_grey_and_need_no_model(node, tmp_path):
    image = drawing(200, 120)
    data = hpcm.compress(image, lossless=True, model="nano")
    assert unpack(data).base_parts == 0
    assert node.encode_within(rgba_of(image), 0, tmp_path, "nano-1") == data
    for name in ("nano-1", None):
        assert np.array_equal(node.decode(data, tmp_path, name), rgba_of(image))
    assert np.array_equal(node.decode(data, tmp_path, None, scale=1), rgba_of(image))  # it has nothing else


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
def test_residuals_of_several_tiles(request, threads, progressive, tmp_path):
    node = request.getfixturevalue("node" if threads == 1 else "node_of_three_threads")
    image = photo(500, 300)
    data = hpcm.compress(image, lossless=True, model="nano", tile=256, progressive=progressive)
    same(node, data, tmp_path)
    for scale in (1, 2, 3):
        same(node, data, tmp_path, scale=scale)
    for box in [(0, 0, 1, 1), (250, 100, 270, 130), (490, 255, 500, 300), (0, 0, 500, 300)]:
        ours = rgba_of(hpcm.decompress(data, box=box))
        assert np.array_equal(node.decode(data, tmp_path, "nano-1", box=box), ours)


def test_large_lossless_files_are_the_same_with_several_threads(node_of_three_threads, tmp_path):
    image = photo(300, 200).resize((2100, 200))
    data = hpcm.compress(image, lossless=True, model="nano")
    assert len(unpack(data).tiles) == 3
    assert node_of_three_threads.encode_within(rgba_of(image), 0, tmp_path, "nano-1") == data


@pytest.mark.parametrize("bits", [9, 12, 16])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("max_error", [0, 5])
def test_residuals_of_more_than_8_bits(node, tmp_path, max_error, channels, bits):
    samples = np.asarray(photo(90, 70, "RGBA")).astype(np.uint16)[..., :channels]
    samples = np.squeeze(samples << (bits - 8) | samples >> (16 - bits))
    data = hpcm.compress(samples, bit_depth=bits, max_error=max_error, model="nano")
    ours = rgba_of(Image.fromarray(hpcm.decompress_array(data, bit_depth=8)))
    assert np.array_equal(node.decode(data, tmp_path, "nano-1"), ours)


def with_parts(data: bytes, change, tiles=(0,)) -> bytes:
    """The file with the residual's part of some tiles changed."""
    container = unpack(data)
    changed = [(*tile[:-1], change(tile[-1])) if i in tiles else tile for i, tile in enumerate(container.tiles)]
    return pack(replace(container, tiles=tuple(changed)))


@pytest.mark.parametrize("share", [0.001, 0.05, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("progressive", [False, True])
def test_lossless_files_that_were_cut_show_the_lossy_picture(node, progressive, share, tmp_path):
    whole = hpcm.compress(photo(500, 300), lossless=True, quality=30, model="nano", tile=256, progressive=progressive)
    head = len(whole) - sum(len(tile[-1].payload) + 4 for tile in unpack(whole).tiles)
    data = whole[: head + int(share * (len(whole) - head))]
    same(node, data, tmp_path, partial=True)
    same(node, data, tmp_path, partial=True, scale=3)
    assert node.decode(data, tmp_path, "nano-1") == "truncated"


@pytest.mark.parametrize("tile", [0, 1])
def test_a_residual_of_another_base_is_refused(node, tile, tmp_path):
    data = hpcm.compress(photo(500, 200), lossless=True, model="nano", tile=256)
    forged = with_parts(data, lambda part: replace(part, checksum=part.checksum ^ 1), tiles=(tile,))
    assert codes(node, forged, tmp_path) == ("mismatch", "mismatch")
    same(node, forged, tmp_path, scale=3)  # the lossy picture still opens


@pytest.mark.parametrize("payload", [b"", b"\0", b"\2", b"\xff" * 9, bytes(5000)], ids=len)
@pytest.mark.parametrize("beside_grey", [False, True])
def test_forged_residuals_give_the_same_as_in_python(node, beside_grey, payload, tmp_path):
    data = hpcm.compress(drawing(90, 70) if beside_grey else photo(90, 70), lossless=True, model="nano")
    forged = with_parts(data, lambda part: replace(part, payload=payload))
    assert (unpack(forged).base_parts == 0) == beside_grey
    theirs, ours = codes(node, forged, tmp_path)
    assert theirs == ours
    if not ours:
        same(node, forged, tmp_path)


def test_damage_anywhere_in_a_lossless_file_is_told(node, tmp_path):
    data = hpcm.compress(photo(90, 70), lossless=True, model="nano")
    for place in [*range(60), *range(60, len(data), 700), len(data) - 1]:
        damaged = bytearray(data)
        damaged[place] ^= 0x55
        code = node.decode(bytes(damaged), tmp_path, "nano-1")
        assert code in ("format", "truncated", "corrupt", "mismatch"), place
        assert node.decode(data[:place], tmp_path, "nano-1") == "truncated"


# ---- what is refused -------------------------------------------------------------------------------------------------


def codes(node, data: bytes, tmp_path, box=None) -> tuple[str, str]:
    """What is wrong with a file, in JavaScript and in Python; the empty text for nothing."""
    theirs = node.decode(data, tmp_path, "nano-1", box=box)
    try:
        hpcm.decompress(data, box=box, max_pixels=MOST_PIXELS)
    except tuple(CODES) as error:
        return theirs if isinstance(theirs, str) else "", CODES[type(error)]
    return theirs if isinstance(theirs, str) else "", ""


def claiming(**claims) -> bytes:
    """A file whose header says so, of which no tile can be decoded."""
    container = replace(unpack((GOLDEN / "nano-1.hpcm").read_bytes()), **claims)
    tile = (Part(bytes(8), 1),) * container.passes
    return pack(replace(container, tiles=(tile,) * container.tile_count))


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"width": 8192, "height": 8192}, "mismatch"),
        ({"width": 8192, "height": 8193}, "format"),
        ({"width": 1 << 20, "height": 1}, "mismatch"),
        ({"width": 1, "height": 1 << 20}, "mismatch"),
        ({"width": (1 << 20) + 1, "height": 1}, "format"),
        ({"width": 64, "height": (1 << 20) + 1}, "format"),
        ({"width": 1 << 24, "height": 1, "tile_side": 1 << 16}, "format"),
        ({"width": 1 << 16, "height": 1 << 16, "tile_side": 1 << 16}, "format"),
        ({"level": 63}, "mismatch"),
        ({"tile_side": 256}, "mismatch"),
        ({"tile_side": 4096}, "mismatch"),
        ({"tile_side": 8192}, "format"),
        ({"tile_side": 1 << 16}, "format"),
        ({"model_hash": bytes(8)}, "mismatch"),
        ({"alpha": b"no PNG"}, "mismatch"),
    ],
    ids=str,
)
def test_claims_are_refused_as_in_python(node, claims, code, tmp_path):
    if "model_hash" in claims:  # Python looks for the model
        assert node.decode(claiming(**claims), tmp_path, "nano-1") == code
        return
    assert codes(node, claiming(**claims), tmp_path) == (code, code)


@pytest.mark.parametrize("box", [(0, 0, 64, 64), (0, 0, 8192, 8192), (0, 0, 8192, 8193), (0, 0, 1, 1 << 16)])
def test_claims_of_boxes_are_refused_as_in_python(node, box, tmp_path):
    """Of a picture that is too large as a whole; its alpha is decoded as a whole."""
    huge = {"width": 1 << 16, "height": 1 << 16, "tile_side": 4096}
    code = "format" if box[3] == 8193 else "mismatch"
    assert codes(node, claiming(**huge), tmp_path, box) == (code, code)
    assert codes(node, claiming(**huge, alpha=b"no PNG"), tmp_path, box) == ("format", "format")


def png(size: tuple[int, int], mode: str = "L", **how) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size).save(stream, "PNG", **how)
    return stream.getvalue()


ALPHA = png((153, 101))


@pytest.mark.parametrize(
    "alpha",
    [
        b"",
        b"no PNG",
        png((152, 101)),
        png((101, 153)),
        png((100, 154)),  # as many bytes
        png((153, 101), "RGB"),
        png((153, 101), "1"),
        png((153, 101), "I;16"),
        ALPHA[:60],
        ALPHA[:50] + b"x" + ALPHA[51:],
    ],
    ids=range(10),
)
def test_alpha_channels_are_refused_as_in_python(node, alpha, tmp_path):
    whole = unpack((GOLDEN / "nano-1.hpcm").read_bytes())
    assert codes(node, pack(replace(whole, alpha=ALPHA)), tmp_path) == ("", "")
    assert codes(node, pack(replace(whole, alpha=alpha)), tmp_path) == ("corrupt", "corrupt")
