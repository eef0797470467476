"""Pillow opens and saves .hpcm files, with all of its habits."""

import copy
import io
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, ImageFile, ImageOps, UnidentifiedImageError

import hpcm
import hpcm.pillow
from hpcm.format.container import pack, unpack

PHOTO, GOLDEN = Path(__file__).parent / "data" / "kodim23.png", Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.open(io.BytesIO(PHOTO.read_bytes())).convert("RGB").crop((50, 60, 450, 310))


@pytest.fixture(scope="module")
def data(photo) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "A. Nonymous"
    image = photo.copy()
    image.info.update(
        exif=exif.tobytes(), icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    )
    return hpcm.compress(image, model="nano", quality=60, progressive=True)


@pytest.fixture
def file(tmp_path, data) -> Path:
    path = tmp_path / "photo.hpcm"
    path.write_bytes(data)
    return path


class Pipe(io.RawIOBase):
    """A file that can't seek."""

    def __init__(self, data: bytes) -> None:
        self.file = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        return self.file.readinto(buffer)


# ---- opening --------------------------------------------------------------------------------------------------------


def test_open(file, data):
    with Image.open(file) as image:
        assert (image.format, image.mode, image.size) == ("HPCM", "RGB", (400, 250))
        assert image.get_format_mimetype() == "image/x-hpcm"
        assert (image.info["model"], image.info["level"]) == (unpack(data).model, unpack(data).level)
        assert image.getexif()[ExifTags.Base.Artist] == "A. Nonymous"
        assert image.resize((40, 25)).size == (40, 25)
        assert np.array_equal(np.asarray(image), np.asarray(hpcm.decompress(data)))
        assert ImageOps.exif_transpose(image).size == (400, 250)
        assert image.copy().tobytes() == image.tobytes()


def test_open_reads_the_head_alone(data, monkeypatch):
    """Without an engine, and without most of the bytes."""
    code = "import sys, hpcm.pillow; from PIL import Image; Image.open(sys.argv[1]).close(); "
    code += "print({'hpcm.codec.engine', 'hpcm.core.library', 'torch'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code, GOLDEN / "nano-1.hpcm"], capture_output=True, check=True)
    assert done.stdout.strip() == b"set()"
    stream = io.BytesIO(data + bytes(1 << 20))
    Image.open(stream)
    assert stream.tell() < len(data)


def test_a_long_head_is_read_to_its_end(photo):
    image = photo.copy()
    image.info["icc_profile"] = bytes(100_000)
    opened = Image.open(io.BytesIO(hpcm.compress(image, model="nano")))
    assert len(opened.info["icc_profile"]) == 100_000
    opened.load()


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "I;16"])
def test_every_mode(photo, mode):
    image = photo.convert("L" if mode == "I;16" else mode)
    image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257) if mode == "I;16" else image
    data = hpcm.compress(image, model="nano")
    opened = Image.open(io.BytesIO(data))
    assert opened.mode == mode
    opened.load()
    assert opened.mode == mode
    assert np.array_equal(np.asarray(opened), np.asarray(hpcm.decompress(data)))


def test_files_that_cant_seek(data):
    assert Image.open(Pipe(data)).tobytes() == hpcm.decompress(data).tobytes()


def test_files_of_fsspec(data):
    fsspec = pytest.importorskip("fsspec")
    with fsspec.open("memory://photo.hpcm", "wb") as target:
        target.write(data)
    with fsspec.open("memory://photo.hpcm", "rb") as source, Image.open(source) as image:
        assert image.tobytes() == hpcm.decompress(data).tobytes()
    with fsspec.open("memory://small.hpcm", "wb") as target:
        Image.open(io.BytesIO(data)).reduce(4).save(target, "HPCM", model="nano")
    with fsspec.open("memory://small.hpcm", "rb") as source:
        assert hpcm.decompress(source).size == (100, 63)


def test_a_file_within_another(data):
    stream = io.BytesIO(b"in front" + data)
    stream.seek(8)
    image = hpcm.pillow.HPCMImageFile(stream)
    assert image.tobytes() == hpcm.decompress(data).tobytes()


def test_a_file_that_is_fed_piece_by_piece(data):
    with ImageFile.Parser() as parser:
        for start in range(0, len(data), 1000):
            parser.feed(data[start : start + 1000])
    assert parser.image.tobytes() == hpcm.decompress(data).tobytes()
    parser = ImageFile.Parser()
    parser.feed(data[:-1])
    with pytest.raises(OSError, match="truncated"):
        parser.close()


def test_many_threads(file, data):
    expected = hpcm.decompress(data).tobytes()
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: Image.open(file).tobytes(), range(8))) == {expected}


def test_the_file_is_closed(file):
    image = Image.open(file)
    image.load()
    file.unlink()
    assert image.fp is None
    assert copy.copy(image).size == image.size


# ---- smaller --------------------------------------------------------------------------------------------------------


def test_thumbnail(data):
    image = Image.open(io.BytesIO(data))
    image.thumbnail((90, 90))
    assert image.size == (90, 56)
    expected = hpcm.decompress(data)
    expected.thumbnail((90, 90))
    assert np.abs(np.asarray(image, int) - np.asarray(expected, int)).max() <= 6


def test_draft(data):
    image = Image.open(io.BytesIO(data))
    assert image.draft("L", (90, 50)) == ("RGB", (0, 0, 100, 62.5))
    assert image.size == (100, 63)
    assert image.draft(None, (10, 10)) is None  # once
    assert image.tobytes() == hpcm.decompress(data, draft=(90, 50)).tobytes()
    assert image.draft(None, (10, 10)) is None
    same = Image.open(io.BytesIO(data))
    assert same.draft(None, (300, 200)) is None
    assert same.draft(None, None) is None
    assert same.size == (400, 250)


# ---- damage ---------------------------------------------------------------------------------------------------------


def test_verify(data):
    Image.open(io.BytesIO(data)).verify()
    for damaged in (data[:-1], data[:-50] + b"x" + data[-49:], data + b"x"):
        with pytest.raises(OSError, match=r"cut short|CRC differs|follow the end"):
            Image.open(io.BytesIO(damaged)).verify()


def test_a_truncated_file(data, monkeypatch):
    with pytest.raises(OSError, match="image file is truncated"):
        Image.open(io.BytesIO(data[:-1])).load()
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    image = Image.open(io.BytesIO(data[:-1]))
    assert image.tobytes() == hpcm.preview(data[:-1]).tobytes()
    assert Image.open(io.BytesIO(data)).tobytes() == hpcm.decompress(data).tobytes()


def test_every_beginning(data):
    """Either Pillow doesn't know it, or it can't be loaded."""
    data = (GOLDEN / "progressive.hpcm").read_bytes()
    for size in range(len(data)):
        try:
            image = Image.open(io.BytesIO(data[:size]))
        except UnidentifiedImageError:
            assert size < 60
            continue
        with pytest.raises(OSError, match="truncated"):
            image.load()


def test_damage_is_an_os_error(data):
    damaged = bytearray(data)
    damaged[-20] ^= 1
    with pytest.raises(OSError, match="CRC differs"):
        Image.open(io.BytesIO(damaged)).load()
    with pytest.raises(UnidentifiedImageError):
        Image.open(io.BytesIO(b"\x89HPC" + bytes(100)))


def test_a_model_that_is_not_at_hand(data):
    image = Image.open(io.BytesIO(pack(replace(unpack(data), model="unheard-of", model_hash=bytes(8)))))
    with pytest.raises(OSError, match="unheard-of"):
        image.load()


# ---- saving ---------------------------------------------------------------------------------------------------------


def test_save(photo, tmp_path, data):
    photo.save(tmp_path / "a.hpcm", quality=60, model="nano")
    assert (tmp_path / "a.hpcm").read_bytes() == hpcm.compress(photo, quality=60, model="nano")
    photo.save(tmp_path / "b.hpcm", bpp=0.5, model="nano", tile=256)
    container = unpack((tmp_path / "b.hpcm").read_bytes())
    assert container.tile_side == 256
    stream = io.BytesIO()
    photo.save(stream, "HPCM", psnr=30, model="nano")
    difference = np.asarray(Image.open(stream), float) - np.asarray(photo)
    assert 10 * np.log10(255**2 / np.mean(difference**2)) >= 30


def test_save_metadata(photo, data):
    image = Image.open(io.BytesIO(data))
    own, other, none = (io.BytesIO() for _ in range(3))
    image.save(own, "HPCM", model="nano")
    assert Image.open(own).info["icc_profile"] == image.info["icc_profile"]
    assert Image.open(own).getexif()[ExifTags.Base.Artist] == "A. Nonymous"
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "Another"
    image.save(other, "HPCM", model="nano", exif=exif, icc_profile=b"profile")
    assert Image.open(other).info["icc_profile"] == b"profile"
    assert Image.open(other).getexif()[ExifTags.Base.Artist] == "Another"
    image.save(none, "HPCM", model="nano", icc_profile=None)
    assert "icc_profile" not in Image.open(none).info
    assert Image.open(none).getexif()[ExifTags.Base.Artist] == "A. Nonymous"


def test_an_orientation_is_applied_once(photo):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    stream = io.BytesIO()
    photo.save(stream, "HPCM", model="nano", exif=exif)
    saved = Image.open(stream)
    assert saved.size == ImageOps.exif_transpose(saved).size == (250, 400)


def test_what_cant_be_saved(photo, tmp_path, caplog):
    with pytest.raises(OSError, match="cannot write mode F as HPCM"):
        photo.convert("F").save(tmp_path / "a.hpcm")
    with pytest.raises(ValueError, match="quality is 0"):
        photo.save(tmp_path / "a.hpcm", quality=0)
    assert not (tmp_path / "a.hpcm").exists()
    photo.convert("P").save(tmp_path / "a.hpcm", model="nano")
    assert "mode P was converted" in caplog.text
