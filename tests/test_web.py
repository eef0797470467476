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
from hpcm.format.fields import Part
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

    def decode(self, data: bytes, tmp_path: Path, name: str, scale: int = 3, partial: bool = False, box=None):
        """RGBA [H, W, 4], or the code of the error."""
        file, out = tmp_path / "in.hpcm", tmp_path / "out.rgba"
        file.write_bytes(data)
        model = model_of(name)
        answer = self.ask(do="decode", model=model, file=str(file), scale=scale, partial=partial, box=box, out=str(out))
        if "error" in answer:
            return answer["error"]
        return np.frombuffer(out.read_bytes(), np.uint8).reshape(answer["height"], answer["width"], 4)

    def encode(self, rgba: np.ndarray, levels: list[int], tmp_path: Path, name: str, **how):
        source, out = tmp_path / "in.rgba", tmp_path / "out.hpcm"
        source.write_bytes(np.ascontiguousarray(rgba, np.uint8).tobytes())
        height, width = rgba.shape[:2]
        size = {"width": width, "height": height}
        answer = self.ask(
            do="encode", model=model_of(name), image=str(source), **size, levels=levels, out=str(out), **how
        )
        assert answer == {}
        return [Path(f"{out}.{level}").read_bytes() for level in levels]


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


def same(node, data: bytes, tmp_path, scale: int = 3, partial: bool = False) -> None:
    container = unpack(data, partial=partial)
    name = find_hash(container.model, container.model_hash).name
    theirs = node.decode(data, tmp_path, name, scale, partial)
    image = hpcm.preview(data) if partial else codec_for(container).decompress(data, scale=scale)
    ours = np.asarray(image.convert("RGBA"))
    assert np.array_equal(theirs, ours)


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
    return 1 + round(level * 99 / 63)


def rgba_of(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGBA"))


def photo(width: int, height: int, mode: str = "RGB") -> Image.Image:
    picture = Image.open(PHOTO).convert("RGB").crop((200, 90, 200 + width, 90 + height)).convert(mode)
    picture.info.clear()  # JavaScript's encoder is given pixels alone
    return picture


@pytest.mark.parametrize("name", ["lite-1", "lite-mse-1", "nano-1", "format"])
def test_golden_files(node, name, tmp_path):
    same(node, (GOLDEN / f"{name}.hpcm").read_bytes(), tmp_path)


def test_tiles(node, tmp_path):
    same(node, (GOLDEN / "progressive.hpcm").read_bytes(), tmp_path)


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
    """Noise at the best level has symbols beyond the tables."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 2, (64, 96, 3), np.uint8) * 255)
    same(node, hpcm.compress(noise, quality=100, model="nano"), tmp_path)


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
