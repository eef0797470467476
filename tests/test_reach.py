"""Other programs know .hpcm files by what plugins/ has: file, ExifTool and ImageMagick, where they are installed."""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import hpcm
from hpcm.defaults import MIME_TYPE
from hpcm.format.container import unpack
from hpcm.format.fields import MAGIC
from hpcm.format.wire import varint
from profiles import rgb_profile

ROOT = Path(__file__).parents[1]
PLUGINS = ROOT / "plugins"
GOLDEN = ROOT / "tests" / "golden"
XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:format>image/png</dc:format>
</rdf:Description></rdf:RDF></x:xmpmeta>"""


def run(*command: str | Path, **options) -> str:
    """Standard output of a program that must succeed."""
    result = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120, **options)
    return result.stdout


# ---- file ------------------------------------------------------------------------------------------------------------

needs_file = pytest.mark.skipif(not shutil.which("file"), reason="file isn't installed")


def described(*paths: Path) -> list[str]:
    return run("file", "-b", "-m", PLUGINS / "file" / "hpcm.magic", *paths).splitlines()


@needs_file
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lite-1", "153 x 101, 8-bit, model lite-1, quality level 47, RGB"),
        ("progressive", "300 x 201, 8-bit, model nano-1, quality level 47, RGB, progressive"),
        ("format-grey", "80 x 60, 16-bit, model nano-1, quality level 38, grey, progressive"),
        ("format", "1100 x 16, 8-bit, model nano-1, quality level 18, RGB, alpha, progressive"),
        ("near-lossless", "80 x 60, 16-bit, model nano-1, quality level 0, grey, residual layer"),
    ],
)
def test_file(name, expected):
    assert described(GOLDEN / f"{name}.hpcm") == [f"HPCM image data, {expected}"]


def head(width: int, height: int) -> bytes:
    """A header, as a file of this size has it."""
    sides = varint(width) + varint(height)
    return MAGIC + bytes([2, 0]) + sides + b"\x08\x06nano-1" + bytes(8) + bytes([39, 10])


@needs_file
def test_file_tells_every_side_below_16384(tmp_path):
    """The magic has a line for each second byte of a side."""
    sides = [(1, 127)] + [(128 * b + b, 128 * b + 127 - b) for b in range(1, 128)]
    for width, height in sides:
        (tmp_path / f"{width}.hpcm").write_bytes(head(width, height))
    lines = described(*(tmp_path / f"{width}.hpcm" for width, _ in sides))
    assert [line.split(", ")[1] for line in lines] == [f"{width} x {height}" for width, height in sides]


@needs_file
@pytest.mark.parametrize("side", [16384, 2**21 - 1, 2**21, 2**24])
def test_file_passes_over_larger_sides(tmp_path, side):
    (tmp_path / "x").write_bytes(head(side, side))
    expected = "HPCM image data, over 16383 x over 16383, 8-bit, model nano-1, quality level 39, RGB"
    assert described(tmp_path / "x") == [expected]


@needs_file
def test_file_of_another_version(tmp_path):
    (tmp_path / "x").write_bytes(MAGIC + b"\x03" + bytes(40))
    assert described(tmp_path / "x") == ["HPCM image data, version 3"]


@needs_file
def test_file_tells_the_type():
    output = run("file", "-b", "--mime-type", "-m", PLUGINS / "file" / "hpcm.magic", GOLDEN / "lite-1.hpcm")
    assert output.strip() == MIME_TYPE


# ---- ExifTool --------------------------------------------------------------------------------------------------------


def exiftool(path: Path, *options: str) -> dict[str, object]:
    """What ExifTool reads, by group and tag; raises what it prints as an error or a warning of Perl."""
    command = ["exiftool", "-config", PLUGINS / "exiftool" / "hpcm.config", "-j", "-G1", *options, path]
    result = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert result.stderr == ""
    (tags,) = json.loads(result.stdout)
    return tags


@pytest.fixture(scope="module")
def tagged(tmp_path_factory) -> Path:
    """A file with EXIF of a camera and a place, XMP, comments, a profile and alpha."""
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8825).update({1: "N", 2: (52.0, 30.0, 1.5), 3: "E", 4: (13.0, 24.0, 0.0)})
    texts = PngInfo()
    texts.add_itxt("XML:com.adobe.xmp", XMP)
    texts.add_text("Comment", "a text")
    texts.add_itxt("Author Name", "Zoë")
    png = io.BytesIO()
    image = Image.new("RGBA", (200, 20), (200, 90, 9, 128))
    image.save(png, "png", exif=exif, pnginfo=texts, icc_profile=rgb_profile())
    path = tmp_path_factory.mktemp("tagged") / "tagged.hpcm"
    path.write_bytes(hpcm.compress(png.getvalue(), model="nano", quality=60, on_note=lambda note: None))
    return path


needs_exiftool = pytest.mark.skipif(not shutil.which("exiftool"), reason="ExifTool isn't installed")


@needs_exiftool
@pytest.mark.parametrize("suffix", [".hpcm", ""])
def test_exiftool(tagged, suffix):
    path = tagged.with_suffix(suffix)
    path.write_bytes(tagged.read_bytes())
    tags = exiftool(path)
    model = unpack(tagged.read_bytes())
    expected = {
        "File:FileType": "HPCM",
        "File:MIMEType": MIME_TYPE,
        "HPCM:ImageWidth": 200,
        "HPCM:ImageHeight": 20,
        "HPCM:BitDepth": 8,
        "HPCM:ColorType": "RGB with Alpha",
        "HPCM:Progressive": "No",
        "HPCM:ModelName": model.model,
        "HPCM:ModelHash": model.model_hash.hex(),
        "HPCM:QualityLevel": model.level,
        "HPCM:TileSide": 1024,
        "HPCM:Compression": "Lossy",
        "HPCM:Comment": "a text",
        "HPCM:AuthorName": "Zoë",
        "IFD0:Make": "Maker",
        "XMP-dc:Format": "image/png",
        "ICC_Profile:ProfileDescription": "wide",
        "Composite:GPSPosition": """52 deg 30' 1.50\" N, 13 deg 24' 0.00\" E""",
    }
    assert {name: tags.get(name) for name in expected} == expected
    assert "ExifTool:Warning" not in tags


@needs_exiftool
@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("lossless-grey", "Lossless"),
        ("lossless", "Lossless"),
        ("near-lossless", "Near-lossless"),
        ("quality-90", "Lossy, refined"),
    ],
)
def test_exiftool_tells_the_loss(name, loss):
    assert exiftool(GOLDEN / f"{name}.hpcm")["HPCM:Compression"] == loss


@needs_exiftool
def test_exiftool_warns_of_half_heads(tmp_path, tagged):
    data = tagged.read_bytes()
    for size in range(5, len(data), 89):
        path = tmp_path / "cut.hpcm"
        path.write_bytes(data[:size])
        tags = exiftool(path)
        assert tags["File:FileType"] == "HPCM"
        if "HPCM:Compression" not in tags:
            assert tags["ExifTool:Warning"] == "Truncated or damaged head"
    path.write_bytes(MAGIC + b"\x03" + data[5:])
    assert exiftool(path)["ExifTool:Warning"] == "Version 3 of the format, only 2 is known"


# ---- ImageMagick -----------------------------------------------------------------------------------------------------


def image_magick() -> str | None:
    """The command of ImageMagick 7, or of 6."""
    for name in ("magick", "convert"):
        if path := shutil.which(name):
            done = subprocess.run([path, "-version"], capture_output=True, text=True, timeout=60)
            if done.returncode == 0 and "Version: ImageMagick" in done.stdout:  # others may have this name, too
                return path
    return None


@pytest.fixture
def convert(tmp_path):
    """Runs ImageMagick with the delegates in the folder of this user, and this hpcm as the command."""
    program = image_magick()
    if program is None:
        pytest.skip("ImageMagick isn't installed")
    (tmp_path / "config" / "ImageMagick").mkdir(parents=True)
    shutil.copy(PLUGINS / "imagemagick" / "delegates.xml", tmp_path / "config" / "ImageMagick")
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "hpcm"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m hpcm "$@"\n')
    script.chmod(0o755)
    environment = {
        **os.environ,
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        "PATH": f"{script.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
    }
    (tmp_path / "work").mkdir()
    return lambda *arguments: run(program, *arguments, cwd=tmp_path / "work", env=environment)


def deep() -> np.ndarray:
    """16-bit RGBA, [48, 64, 4]."""
    y, x = np.mgrid[:48, :64]
    return np.stack([1000 * x, 1300 * y, 500 * (x + y), 65535 - 900 * x], axis=-1).astype(np.uint16)


def test_image_magick_reads_all_bits(convert, tmp_path):
    """Also of a file whose name says much to a shell."""
    name = """a 'b" $(touch x);&|>y %i.hpcm"""
    (tmp_path / "work" / name).write_bytes(hpcm.compress(deep(), model="nano", lossless=True))
    convert(name, "-depth", "16", "-endian", "LSB", "rgba:out")
    pixels = np.fromfile(tmp_path / "work" / "out", "<u2").reshape(deep().shape)
    np.testing.assert_array_equal(pixels, deep())
    assert {path.name for path in (tmp_path / "work").iterdir()} == {name, "out"}


def test_image_magick_writes(convert, tmp_path):
    name = """a 'b" $(touch x).hpcm"""
    deep().tofile(tmp_path / "work" / "in")
    convert("-size", "64x48", "-depth", "16", "-endian", "LSB", "rgba:in", "-quality", "30", name)
    written = unpack((tmp_path / "work" / name).read_bytes())
    assert (written.width, written.height, written.bit_depth) == (64, 48, 16)
    pixels = hpcm.decompress_array((tmp_path / "work" / name).read_bytes())
    np.testing.assert_array_equal(pixels[..., 3], deep()[..., 3])
    assert written.level == unpack(hpcm.compress(deep(), quality=30)).level
    assert {path.name for path in (tmp_path / "work").iterdir()} == {name, "in"}


def test_image_magick_refuses_half_files(convert, tmp_path):
    (tmp_path / "work" / "half.hpcm").write_bytes((GOLDEN / "nano-1.hpcm").read_bytes()[:300])
    with pytest.raises(subprocess.CalledProcessError) as failed:
        convert("half.hpcm", "out.png")
    assert "cut short or damaged" in failed.value.stderr
    assert not (tmp_path / "work" / "out.png").exists()
