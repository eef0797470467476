"""Pictures and files come as paths, open files, bytes, arrays and Pillow images, and all give the same."""

import io
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hpcm
from hpcm.errors import PictureError
from hpcm.image.read import bytes_of, picture_of

PHOTO = Path(__file__).parent / "data" / "kodim23.png"
GOLDEN = Path(__file__).parent / "golden"


def test_a_picture_from_anywhere():
    data = PHOTO.read_bytes()
    expected = np.asarray(Image.open(io.BytesIO(data)))
    with PHOTO.open("rb") as opened:
        sources = [PHOTO, str(PHOTO), data, bytearray(data), memoryview(data), io.BytesIO(data), opened, expected]
        for source in [*sources, Image.open(PHOTO)]:
            assert np.array_equal(picture_of(source).pixels, expected), type(source)


@pytest.mark.parametrize(
    ("shape", "colour"),
    [((5, 4), "grey"), ((5, 4, 1), "grey"), ((5, 4, 2), "grey"), ((5, 4, 3), "rgb"), ((5, 4, 4), "rgb")],
)
@pytest.mark.parametrize(("dtype", "bits"), [(np.uint8, 8), (np.uint16, 16)])
def test_arrays(shape, colour, dtype, bits):
    array = np.arange(np.prod(shape), dtype=dtype).reshape(shape)
    picture = picture_of(array)
    assert (picture.colour, picture.bit_depth) == (colour, bits)
    assert np.array_equal(picture.joined.reshape(shape), array)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4, 3)),
        np.zeros((4, 4, 5), np.uint8),
        np.zeros((4, 4, 3), np.int16),
        np.zeros(4, np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
    ],
)
def test_arrays_that_are_no_pictures(array):
    with pytest.raises(PictureError, match="an array must be uint8"):
        picture_of(array)


@pytest.mark.parametrize("source", [None, 5, [1, 2], io.StringIO("text")])
def test_what_is_no_file(source):
    with pytest.raises(TypeError, match="expected bytes, a path or a file open for reading bytes"):
        bytes_of(source)
    with pytest.raises(TypeError, match="expected bytes"):
        hpcm.compress(source)


def test_bytes_that_are_no_picture():
    with pytest.raises(PictureError, match="no picture that Pillow can read"):
        hpcm.compress(b"bytes")
    with pytest.raises(PictureError, match=r"it is a \.hpcm file already"):
        hpcm.compress(GOLDEN / "nano-1.hpcm")
    with pytest.raises(FileNotFoundError):
        hpcm.compress("there is no such picture.png")


def test_too_many_pixels_leave_no_filter_of_warnings_behind(monkeypatch):
    """Also by several threads at once."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100_000)
    before = list(warnings.filters)
    with warnings.catch_warnings(), ThreadPoolExecutor(4) as pool:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        for found in [pool.submit(picture_of, PHOTO) for _ in range(8)]:
            with pytest.raises(PictureError, match=r"it has more than 100,000 pixels: .* allow more with PIL"):
                found.result()
    assert warnings.filters == before


def test_a_file_from_anywhere(tmp_path):
    path = GOLDEN / "nano-1.hpcm"
    data = path.read_bytes()
    codec = hpcm.load("nano")
    pictures = [codec.decompress(source) for source in (path, str(path), data, io.BytesIO(data), memoryview(data))]
    pictures.append(hpcm.decompress(path))
    pictures.append(hpcm.preview(io.BytesIO(data)))
    assert len({picture.tobytes() for picture in pictures}) == 1
