"""libvips' loader of .hpcm files, built against the installed library: its pixels are those of Python."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hpcm
import installed
from hpcm.format.container import unpack_head
from hpcm.format.fields import MAGIC
from hpcm.format.wire import varint
from hpcm.image.planes import Samples
from profiles import rgb_profile

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
PHOTO = ROOT / "tests" / "data" / "kodim23.png"
BUNDLED = sorted(set(GOLDEN.glob("*.hpcm")) - set(GOLDEN.glob("tiny*")))
package = partial(installed.pkg_config, "vips")

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="modules of other systems have other names"),
    pytest.mark.skipif(package("--exists") is None, reason="needs pkg-config and libvips' headers"),
    pytest.mark.skipif(not (shutil.which("make") and shutil.which("cc")), reason="needs make and a C compiler"),
    pytest.mark.skipif(not shutil.which("vips"), reason="needs libvips' commands"),
]


# ---- vips ------------------------------------------------------------------------------------------------------------


class Vips:
    """The commands of libvips, with the loader as their only module."""

    def __init__(self, prefix: Path, folder: Path) -> None:
        self.environment = os.environ | {
            "VIPSHOME": str(folder),
            "PKG_CONFIG_PATH": str(prefix / "lib" / "pkgconfig"),
            "HPCM_WEIGHTS": str(folder),  # none: they are in the prefix
        }
        # libvips looks below VIPSHOME in a folder that is named as the last of its own.
        series = ".".join(str(package("--modversion")).split(".")[:2])
        modules = folder / Path(str(package("--variable=libdir"))).name / f"vips-modules-{series}"
        flags = ["CFLAGS=-O2 -Werror", f"LDFLAGS=-Wl,-rpath,{prefix / 'lib'}", f"OUT={modules}"]
        self.run("make", "-s", "-C", str(ROOT / "plugins"), "vips", *flags)

    def run(self, *command: str | Path, data: bytes = b"") -> bytes:
        """Standard output of a command that must succeed. Raises `CalledProcessError`."""
        return self.attempt(*command, data=data, check=True).stdout

    def attempt(self, *command: str | Path, data: bytes = b"", check: bool = False) -> subprocess.CompletedProcess:
        return subprocess.run(command, env=self.environment, input=data, capture_output=True, timeout=120, check=check)

    def fields(self, path: Path) -> dict[str, str]:
        """What vipsheader says."""
        lines = self.run("vipsheader", "-a", path).decode().splitlines()[1:]
        return dict(line.split(": ", 1) for line in lines)

    def pixels(self, path: Path, *options: str) -> Samples:
        """What hpcmload gives, [H, W, channels]."""
        raw = path.with_suffix(".v")
        self.run("vips", "hpcmload", path, raw, *options)
        fields = self.fields(raw)
        shape = (int(fields["height"]), int(fields["width"]), int(fields["bands"]))
        kind = {"uchar": np.uint8, "ushort": np.uint16}[fields["format"]]
        header = 64  # bytes, of libvips' own format; a description follows the pixels
        return np.frombuffer(raw.read_bytes(), kind, np.prod(shape), header).reshape(shape)


@pytest.fixture(scope="module")
def vips(tmp_path_factory: pytest.TempPathFactory) -> Vips:
    return Vips(installed.prefix(), tmp_path_factory.mktemp("vips"))


def expected(data: bytes, **how) -> Samples:
    """What Python decodes, as [H, W, channels] of 8 or 16 bits."""
    depth = 8 if unpack_head(data).bit_depth == 8 else 16
    pixels = hpcm.decompress_array(data, bit_depth=depth, **how)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def written(folder: Path, data: bytes) -> Path:
    path = folder / "x.hpcm"
    path.write_bytes(data)
    return path


# ---- pixels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: path.stem)
def test_pixels_are_those_of_python(vips, tmp_path, path):
    data = path.read_bytes()
    assert np.array_equal(vips.pixels(written(tmp_path, data)), expected(data))


@pytest.mark.parametrize(("depth", "channels"), [(16, 1), (10, 2), (16, 3), (12, 4)])
def test_deep_pixels(vips, tmp_path, depth, channels):
    """They have 16 bits, whatever the file's depth."""
    data = hpcm.compress(smooth(channels) >> 16 - depth, bit_depth=depth, model="nano")
    path = written(tmp_path, data)
    fields = vips.fields(path)
    interpretation = "grey16" if channels < 3 else "rgb16"
    assert (fields["format"], fields["bands"], fields["interpretation"]) == ("ushort", str(channels), interpretation)
    assert fields["bits-per-sample"] == str(depth)
    assert np.array_equal(vips.pixels(path), expected(data))


def smooth(channels: int) -> np.ndarray:
    """16 bits, [48, 64, channels], which end with alpha where their number is even."""
    y, x = np.mgrid[:48, :64]
    planes = [1000 * x, 1300 * y, 500 * (x + y), 65535 - 900 * x]
    return np.stack(planes[-channels:], axis=-1).astype(np.uint16)


@pytest.mark.parametrize("lossless", [False, True])
def test_shrink(vips, tmp_path, lossless):
    data = hpcm.compress(smooth(4), model="nano", lossless=lossless)
    for shrink in (2, 8):
        found = vips.pixels(written(tmp_path, data), "--shrink", str(shrink))
        assert np.array_equal(found, expected(data, draft=(64 // shrink, 48 // shrink)))


def test_shrink_by_no_power_of_two(vips):
    assert b"hpcmload: " in vips.attempt("vips", "hpcmload", GOLDEN / "nano-1.hpcm", "x.v", "--shrink", "3").stderr


def test_several_tiles_in_many_threads(vips, tmp_path):
    data = hpcm.compress(Image.open(PHOTO).crop((0, 0, 600, 300)), model="nano", quality=20, tile=256)
    assert np.array_equal(vips.pixels(written(tmp_path, data), "--vips-concurrency=4"), expected(data))


def test_pipe(vips):
    """A source that can't be read twice."""
    data = (GOLDEN / "progressive.hpcm").read_bytes()
    ppm = vips.run("vips", "copy", "stdin", ".ppm", data=data)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(ppm))), expected(data))


BUFFER = """
import ctypes, sys
vips = ctypes.CDLL("libvips.so.42")
vips.vips_init(b"test")
vips.vips_image_new_from_buffer.restype = ctypes.c_void_p
vips.vips_image_write_to_memory.restype = ctypes.c_void_p
data, size = sys.stdin.buffer.read(), ctypes.c_size_t()
image = vips.vips_image_new_from_buffer(data, ctypes.c_size_t(len(data)), b"", None)
pixels = vips.vips_image_write_to_memory(ctypes.c_void_p(image), ctypes.byref(size))
sys.stdout.buffer.write(ctypes.string_at(pixels, size.value))
"""


def test_buffer(vips):
    data = (GOLDEN / "nano-1.hpcm").read_bytes()
    assert vips.run(sys.executable, "-c", BUFFER, data=data) == expected(data).tobytes()


def test_thumbnail(vips, tmp_path):
    path = written(tmp_path, (GOLDEN / "progressive.hpcm").read_bytes())
    vips.run("vipsthumbnail", path, "--size", "100", "-o", tmp_path / "t.png")
    with Image.open(tmp_path / "t.png") as thumbnail:
        assert thumbnail.size == (100, 67)


# ---- what is told beside pixels --------------------------------------------------------------------------------------


def test_fields(vips, tmp_path):
    data = (GOLDEN / "format.hpcm").read_bytes()
    fields = vips.fields(written(tmp_path, data))
    wanted = {
        "interpretation": "srgb",
        "xres": "11.811",
        "vips-loader": "hpcmload",
        "icc-profile-data": "9 bytes of binary data",
        "xmp-data": "12 bytes of binary data",
        "bits-per-sample": "8",
        "hpcm-model": "nano-1",
    }
    assert {name: fields.get(name) for name in wanted} == wanted
    assert fields["exif-ifd0-ImageDescription"].startswith("a description ")
    assert "orientation" not in fields  # pixels are upright


def test_metadata_are_passed_on(vips, tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    profile = rgb_profile()
    image = Image.new("RGB", (40, 30), "red")
    image.save(tmp_path / "x.jpg", exif=exif, icc_profile=profile, xmp=b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>")
    data = hpcm.compress(tmp_path / "x.jpg", model="nano")
    vips.run("vips", "copy", written(tmp_path, data), tmp_path / "y.jpg")
    with Image.open(tmp_path / "y.jpg") as copied:
        assert copied.getexif()[0x010F] == "Maker"
        assert copied.info["icc_profile"] == profile
        assert copied.info["xmp"].startswith(b"<x:xmpmeta")


def test_a_header_needs_no_weights(vips, tmp_path):
    path = written(tmp_path, (GOLDEN / "tiny.hpcm").read_bytes())
    assert vips.fields(path)["hpcm-model"] == "tiny"
    error = vips.attempt("vips", "copy", path, tmp_path / "x.png").stderr.decode()
    assert "the weights of model tiny" in error


# ---- files that are cut short or damaged -----------------------------------------------------------------------------


@pytest.mark.parametrize("end", [428, 1322, 4025])
def test_files_that_are_cut_short(vips, tmp_path, end):
    data = (GOLDEN / "progressive.hpcm").read_bytes()[:end]
    path = written(tmp_path, data)
    image = hpcm.preview(data)
    assert np.array_equal(vips.pixels(path), np.asarray(image))
    failed = vips.attempt("vips", "hpcmload", path, tmp_path / "x.v", "--fail-on", "truncated")
    assert failed.returncode
    assert b"hpcmload: " in failed.stderr


@pytest.mark.parametrize("end", [0, 30, 427])
def test_beginnings_that_show_nothing(vips, tmp_path, end):
    data = (GOLDEN / "progressive.hpcm").read_bytes()[:end]
    assert vips.attempt("vips", "hpcmload", written(tmp_path, data), tmp_path / "x.v").returncode


def test_damage(vips, tmp_path):
    """What is right before it is shown, unless errors are to be told."""
    data = bytearray((GOLDEN / "progressive.hpcm").read_bytes())
    data[2000] ^= 1  # of the last pass
    path = written(tmp_path, bytes(data))
    rough = np.asarray(hpcm.preview(bytes(data[:1322])))
    assert np.array_equal(vips.pixels(path, "--fail-on", "truncated"), rough)
    failed = vips.attempt("vips", "hpcmload", path, tmp_path / "x.v", "--fail-on", "error")
    assert failed.returncode
    assert b"hpcmload: " in failed.stderr


def test_claims(vips, tmp_path):
    """A head that claims 2^31 pixels, in a file of some bytes."""
    data = bytearray((GOLDEN / "nano-1.hpcm").read_bytes())
    head = MAGIC + bytes([2, 0]) + varint(1 << 20) + varint(1 << 11)
    path = written(tmp_path, head + bytes(data[len(MAGIC) + 2 + 3 :]))
    assert vips.attempt("vips", "hpcmload", path, tmp_path / "x.v").returncode
