"""The table "At a glance" of docs/pictures.md, row by row, from a file to a file by the command line."""

import io
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hpcm.cli import main
from hpcm.image.metadata import ultra_hdr
from hpcm.image.metadata.exif import without_place
from hpcm.image.read import picture_of, read_picture
from hpcm.image.write import save_picture
from pictures import PIXELS, encoded, exif, jpeg, png, tiff
from profiles import rgb_profile, srgb_of_rgb

TESTS = Path(__file__).resolve().parent
Run = Callable[..., tuple[bytes, str]]
DEEP = np.random.default_rng(2).integers(0, 65536, (16, 24, 4), np.uint16)
EXIF = exif([(315, 2, b"Anna\0")], [(0x927C, 7, b"ACME" + bytes(50))], [(1, 2, b"N\0"), (2, 5, bytes(24))])
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"/>'


@pytest.fixture
def run(tmp_path, capsys) -> Run:
    """Compresses a file and decompresses it to another format; returns that file, and all notes and errors."""

    def run(data: bytes, suffix: str = ".png", *options: str, fails: bool = False) -> tuple[bytes, str]:
        source, out = tmp_path / "in", tmp_path / f"out{suffix}"
        source.write_bytes(data)
        failed = main(["compress", str(source), "-o", str(tmp_path / "x.hpcm"), "-f", "--model", "nano", *options])
        failed = failed or main(["decompress", str(tmp_path / "x.hpcm"), "-o", str(out), "-f"])
        assert failed == fails
        said = capsys.readouterr().err
        assert said.count("\n") == said.count("hpcm: note: ") + said.count("hpcm: error: ")
        return (b"" if fails else out.read_bytes()), re.sub("hpcm: note: .* larger than .*\n", "", said)

    return run


def shallow(run: Run) -> None:
    for name in ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "GIF", "BMP"):
        back, said = run(encoded(name))
        assert (read_picture(back).bit_depth, "converted" in said) == (8, name == "GIF")  # which has a palette
    first = Image.fromarray(PIXELS)
    out = io.BytesIO()
    first.save(out, "TIFF", save_all=True, append_images=[first.rotate(180)])
    assert "2 frames: only the current one is kept" in run(out.getvalue())[1]


def deep_files(run: Run) -> None:
    for suffix in (".png", ".tif", ".ppm"):
        data = save_picture(picture_of(DEEP[..., :3]), suffix)
        for other in (".png", ".tif", ".ppm"):
            back, said = run(data, other)
            assert (read_picture(back).bit_depth, said) == (16, "")
        assert "has 16 bits, and WEBP 8 here" in run(data, ".webp")[1]


def deep_photographs(run: Run) -> None:
    imagecodecs, pillow_heif = pytest.importorskip("imagecodecs"), pytest.importorskip("pillow_heif")
    back, said = run(imagecodecs.avif_encode(DEEP[..., :3] >> 6, level=90, bitspersample=10))
    assert (read_picture(back).bit_depth, said) == (10, "")
    out = io.BytesIO()
    pillow_heif.from_bytes(mode="RGB;16", size=(24, 16), data=DEEP[..., :3].tobytes()).save(out)
    back, said = run(out.getvalue())
    assert (read_picture(back).bit_depth, said) == (10, "")


def deep_jpeg2000(run: Run) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    for samples in (DEEP[..., 0], DEEP[..., :3]):
        back, said = run(imagecodecs.jpeg2k_encode(samples, reversible=True, level=0))
        assert (read_picture(back).bit_depth, said) == (16, "")


def inks(run: Run) -> None:
    out = io.BytesIO()
    Image.fromarray(PIXELS).convert("CMYK").save(out, "TIFF")
    back, said = run(out.getvalue())
    assert read_picture(back).colour == "rgb"
    assert "the picture's mode CMYK was converted to RGB" in said


def without_loss(run: Run) -> None:
    for samples in (PIXELS, DEEP[..., :3], DEEP[..., 0]):
        data = save_picture(picture_of(samples), ".png")
        assert np.array_equal(read_picture(run(data, ".png", "--lossless")[0]).pixels, samples)
        near = read_picture(run(data, ".tif", "--max-error", "3")[0]).pixels
        assert 0 < np.abs(near.astype(int) - samples).max() <= 3
    out = io.BytesIO()
    Image.fromarray(PIXELS).convert("CMYK").save(out, "TIFF")
    assert "CMYK" in run(out.getvalue(), ".png", "--lossless", fails=True)[1]


def transparency(run: Run) -> None:
    back, _ = run(save_picture(picture_of(DEEP), ".png"))
    assert np.array_equal(read_picture(back).alpha, DEEP[..., 3])
    assert (
        "the picture is transparent, and JPEG has no room"
        in run(save_picture(picture_of(DEEP), ".png"), ".jpg", fails=True)[1]
    )


def profiles(run: Run) -> None:
    icc = rgb_profile()
    flat = np.full((64, 64, 3), (200, 90, 60), np.uint8)
    data = save_picture(replace(picture_of(flat), icc=icc), ".png")
    assert read_picture(run(data)[0]).icc == icc
    back = read_picture(run(data, ".png", "--icc", "srgb")[0])
    assert back.icc is None
    assert np.abs(back.pixels.mean(axis=(0, 1)) - srgb_of_rgb(flat)[0, 0]).max() < 4


def hdr(run: Run) -> None:
    chunks = {
        b"cICP": bytes([9, 16, 0, 1]),
        b"mDCV": struct.pack(">8H2I", 34000, 16000, 13250, 34500, 7500, 3000, 15635, 16450, 10_000_000, 50),
        b"cLLI": struct.pack(">2I", 10_000_000, 4_000_000),
    }
    back, said = run(png(*chunks.items()))
    assert not said
    assert all(kind + data in back for kind, data in chunks.items())
    assert "has no place for" in run(png(*chunks.items()), ".webp")[1]


def gain_map(run: Run) -> None:
    data = (TESTS / "data" / "gain_maps" / "libultrahdr.jpg").read_bytes()
    back, said = run(data, ".jpg")
    assert ultra_hdr.find(back).iso == ultra_hdr.find(data).iso
    assert not said
    assert "PNG has no place for the picture's HDR gain map" in run(data)[1]


def orientation(run: Run) -> None:
    back, said = run(encoded("JPEG", exif=exif([(274, 3, struct.pack("<H", 6))])))
    assert (read_picture(back).size, said) == ((24, 16), "")
    assert Image.open(io.BytesIO(back)).getexif().get(274, 1) == 1


def exif_and_xmp(run: Run) -> None:
    data = encoded("JPEG", exif=EXIF, xmp=XMP)
    back = read_picture(run(data)[0])
    assert (back.exif, back.xmp) == (EXIF, XMP)
    assert read_picture(run(data, ".png", "--strip", "gps")[0]).exif == without_place(EXIF)
    stripped = read_picture(run(data, ".png", "--strip")[0])
    assert (stripped.exif, stripped.xmp) == (None, None)


def other_metadata(run: Run) -> None:
    photoshop = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x09\x1c\x02\x05\0\x04test\0"
    assert "IPTC is not kept" in run(jpeg((0xED, photoshop)))[1]
    assert "content credentials" in run(png((b"caBX", b"claims")))[1]


def other_pictures(run: Run) -> None:
    assert "behind its end" in run(jpeg(behind=encoded("JPEG")))[1]
    assert "behind its end" in run(png(behind=b"a video"))[1]


def unread(run: Run) -> None:
    floats = np.zeros((16, 24), np.float32)
    out = io.BytesIO()
    Image.fromarray(floats).save(out, "TIFF")
    files = [
        out.getvalue(),
        b"\xff\x0a" + bytes(50),  # JPEG XL
        b"v/1\1" + bytes(50),  # EXR
        tiff((254, 4, struct.pack("<I", 1))),  # a raw photograph's thumbnail
    ]
    for data in files:
        assert run(data, fails=True)[1].count("hpcm: error: ") == 1


ROWS = {
    "JPEG, PNG, WebP, AVIF, TIFF, GIF, BMP of 8 bits": shallow,
    "PNG, TIFF, PPM of 9 to 16 bits": deep_files,
    "AVIF and HEIC of 10 and 12 bits, HEIC at all": deep_photographs,
    "JPEG 2000 of 9 to 16 bits": deep_jpeg2000,
    "CMYK, Lab": inks,
    "any of these with `--lossless` or `--max-error N`": without_loss,
    "transparency": transparency,
    "ICC profile: Display P3, Adobe RGB, ProPhoto": profiles,
    "HDR by PQ or HLG: cICP, mDCV, cLLI": hdr,
    "HDR gain map: Ultra HDR, ISO 21496-1": gain_map,
    "orientation": orientation,
    "EXIF with place and maker's note, XMP": exif_and_xmp,
    "IPTC, Photoshop's resources, content credentials": other_metadata,
    "a motion photo's video, second pictures, depth maps": other_pictures,
    "raw photographs, JPEG XL, EXR, PSD, floating point": unread,
}


def test_every_row_is_tested():
    text = (TESTS.parent / "docs" / "pictures.md").read_text().split("## At a glance")[1].split("\n## ")[0]
    rows = [line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if line.startswith("| ")]
    assert rows[1:] == [*ROWS]


@pytest.mark.parametrize("row", ROWS)
def test_row(row, run):
    ROWS[row](run)
