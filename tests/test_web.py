"""The codec in JavaScript against this one: either opens what the other has made, with the very same symbols.

Skipped where Node.js 20 or the packages of web/ (`npm ci` there) are missing.
"""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hpcm
from hpcm.codec import decoder as decoding
from hpcm.codec.api import codec_for
from hpcm.core.ans import Decoder
from hpcm.format.container import pack, unpack
from hpcm.model.find import find, find_hash

ROOT = Path(__file__).resolve().parents[1]
WEB = ROOT / "web"
GOLDEN = ROOT / "tests" / "golden"
PHOTO = ROOT / "tests" / "data" / "kodim23.png"
NODE = shutil.which("node")

pytestmark = pytest.mark.skipif(
    NODE is None or not (WEB / "node_modules" / "onnxruntime-web").exists(),
    reason="needs Node.js 20, and `npm ci` in web/",
)


class Node:
    """web/test/drive.js as a process."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [NODE, WEB / "test" / "drive.js"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=WEB, text=True
        )

    def ask(self, **job):
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def decode(self, data: bytes, tmp_path: Path, name: str, scale: int = 3, partial: bool = False):
        """RGBA [H, W, 4] and the symbols, or the code of the error."""
        file, out = tmp_path / "in.hpcm", tmp_path / "out.rgba"
        file.write_bytes(data)
        model = model_of(name)
        answer = self.ask(do="decode", model=model, file=str(file), scale=scale, partial=partial, out=str(out))
        if "error" in answer:
            return answer["error"]
        rgba = np.frombuffer(out.read_bytes(), np.uint8).reshape(answer["height"], answer["width"], 4)
        return rgba, np.frombuffer(Path(f"{out}.symbols").read_bytes(), "<i4")

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


@pytest.fixture(scope="module")
def node():
    node = Node()
    yield node
    node.process.communicate(timeout=30)


def model_of(name: str) -> str:
    return str(find(name).path)


def decoded(data: bytes, monkeypatch, **how) -> tuple[np.ndarray, np.ndarray]:
    """The same by this package: RGBA and the symbols."""
    symbols = []

    class Listening(Decoder):
        def pop(self, indexes):
            symbols.append(super().pop(indexes))
            return symbols[-1]

    with monkeypatch.context() as patch:
        patch.setattr(decoding, "Decoder", Listening)
        image = (
            hpcm.preview(data) if how.get("partial") else codec_for(unpack(data)).decompress(data, scale=how["scale"])
        )
    return np.asarray(image.convert("RGBA")), np.concatenate(symbols)


def same(node, data: bytes, tmp_path, monkeypatch, scale: int = 3, partial: bool = False) -> None:
    container = unpack(data, partial=partial)
    name = find_hash(container.model, container.model_hash).name
    theirs, their_symbols = node.decode(data, tmp_path, name, scale, partial)
    ours, our_symbols = decoded(data, monkeypatch, scale=scale, partial=partial)
    assert np.array_equal(their_symbols, our_symbols)
    assert theirs.shape == ours.shape
    assert np.abs(theirs.astype(int) - ours).max() <= 1
    assert np.array_equal(theirs[..., 3], ours[..., 3])


def photo(width: int, height: int, mode: str = "RGB") -> Image.Image:
    picture = Image.open(PHOTO).convert("RGB").crop((200, 90, 200 + width, 90 + height)).convert(mode)
    picture.info.clear()  # JavaScript's encoder is given pixels alone
    return picture


@pytest.mark.parametrize("name", ["lite-1", "lite-mse-1", "nano-1", "format"])
def test_golden_files(node, name, tmp_path, monkeypatch):
    same(node, (GOLDEN / f"{name}.hpcm").read_bytes(), tmp_path, monkeypatch)


def test_tiles(node, tmp_path, monkeypatch):
    same(node, (GOLDEN / "progressive.hpcm").read_bytes(), tmp_path, monkeypatch)


@pytest.mark.parametrize("scale", [1, 2, 3])
def test_scales(node, scale, tmp_path, monkeypatch):
    """Of one tile: of several, the page fills in what is missing tile by tile, this package with their neighbours."""
    data = hpcm.compress(photo(120, 80), quality=60, model="nano", progressive=True)
    same(node, data, tmp_path, monkeypatch, scale)


@pytest.mark.parametrize("quality", [1, 2, 17, 33, 50, 68, 84, 100])
def test_levels(node, quality, tmp_path, monkeypatch):
    same(node, hpcm.compress(photo(120, 80), quality=quality, model="nano"), tmp_path, monkeypatch)


def test_escapes(node, tmp_path, monkeypatch):
    """Noise at the best level has symbols beyond the tables."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 2, (64, 96, 3), np.uint8) * 255)
    same(node, hpcm.compress(noise, quality=100, model="nano"), tmp_path, monkeypatch)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA"])
def test_grey_and_alpha(node, mode, tmp_path, monkeypatch):
    image = photo(100, 60, mode)
    if mode.endswith("A"):
        image.putalpha(Image.radial_gradient("L").resize(image.size))
    same(node, hpcm.compress(image, quality=40, model="nano"), tmp_path, monkeypatch)


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_files_that_were_cut(node, share, tmp_path, monkeypatch):
    whole = hpcm.compress(photo(240, 160), quality=60, model="nano", progressive=True)
    data = whole[: int(share * len(whole))]
    same(node, data, tmp_path, monkeypatch, partial=True)
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


@pytest.mark.parametrize(("name", "levels"), [("nano-1", [0, 1, 20, 41, 63]), ("lite-1", [30])])
def test_files_made_in_javascript(node, name, levels, tmp_path, monkeypatch):
    image = photo(150, 100)
    for level, data in zip(levels, node.encode(np.asarray(image.convert("RGBA")), levels, tmp_path, name), strict=True):
        container = unpack(data)
        assert pack(container) == data
        assert (container.model, container.level, container.colour) == (name, level, "rgb")
        ours = hpcm.compress(image, quality=1 + round(level * 99 / 63), model=name)
        assert unpack(ours).level == level
        assert abs(len(data) - len(ours)) <= 0.01 * len(ours) + 8  # g_a is in plain floats: a symbol may differ
        same(node, data, tmp_path, monkeypatch)


def test_files_of_tiles_with_alpha_made_in_javascript(node, tmp_path, monkeypatch):
    image = photo(300, 200).resize((1100, 40))
    rgba = np.asarray(image.convert("RGBA")).copy()
    rgba[..., 3] = np.arange(1100) % 256
    (data,) = node.encode(rgba, [10], tmp_path, "nano-1", progressive=True)
    assert len(unpack(data).tiles) == 2
    assert unpack(data).passes == 3
    same(node, data, tmp_path, monkeypatch)
    grey = np.asarray(photo(90, 70, "L").convert("RGBA"))
    (data,) = node.encode(grey, [30], tmp_path, "nano-1")
    assert hpcm.decompress(data).mode == "L"
    same(node, data, tmp_path, monkeypatch)
