"""imageio opens and saves .hpcm files, with all bits."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hpcm

iio = pytest.importorskip("imageio.v3", reason="the plugin of imageio needs imageio")
plugin = pytest.importorskip("hpcm.imageio")

PHOTO = Path(__file__).parent / "data" / "kodim23.png"
SHAPES = [(40, 56), (40, 56, 3), (40, 56, 2), (40, 56, 4)]


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.asarray(Image.open(PHOTO).convert("RGB"))[90:218, 130:322]


@pytest.mark.parametrize("bit_depth", [8, 10, 16])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_shape_and_depth(shape, bit_depth, tmp_path):
    dtype = np.uint8 if bit_depth == 8 else np.uint16
    array = np.random.default_rng(0).integers(0, 1 << bit_depth, shape, dtype)
    path = tmp_path / "a.hpcm"
    iio.imwrite(path, array, model="nano", lossless=True, bit_depth=bit_depth)
    read, properties = iio.imread(path), iio.improps(path)
    assert read.dtype == properties.dtype == dtype
    assert read.shape == properties.shape == shape
    assert np.array_equal(read, array)
    assert (properties.n_images, properties.is_batch) == (None, False)


def test_options_go_to_the_codec(photo, tmp_path):
    path = tmp_path / "a.hpcm"
    iio.imwrite(path, photo, model="nano", quality=30)
    assert path.read_bytes() == hpcm.compress(photo, model="nano", quality=30)
    box = (10, 20, 74, 52)
    assert np.array_equal(iio.imread(path, box=box), hpcm.decompress_array(path, box=box))
    assert iio.imread(path, bit_depth=16).dtype == np.uint16


def test_bytes_open_files_and_zips(photo, tmp_path):
    data = iio.imwrite("<bytes>", photo, extension=".hpcm", model="nano")
    assert data == hpcm.compress(photo, model="nano")
    pixels = hpcm.decompress_array(data)
    assert np.array_equal(iio.imread(data, extension=".hpcm"), pixels)
    assert np.array_equal(iio.imread(io.BytesIO(data), extension=".hpcm"), pixels)
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as file:
        file.writestr("photo.hpcm", data)
    assert np.array_equal(iio.imread(tmp_path / "photos.zip" / "photo.hpcm"), pixels)


def test_what_the_file_says(tmp_path):
    image = Image.fromarray(np.zeros((16, 24), np.uint8))
    (tmp_path / "a.hpcm").write_bytes(hpcm.compress(image, model="nano", quality=30))
    image.info["icc_profile"] = b"profile"
    (tmp_path / "b.hpcm").write_bytes(hpcm.compress(image, model="nano", quality=30))
    assert iio.immeta(tmp_path / "a.hpcm") == {"model": "nano-1", "level": 23}
    assert iio.immeta(tmp_path / "b.hpcm")["icc_profile"] == b"profile"


def test_it_is_one_picture(photo, tmp_path):
    path = tmp_path / "a.hpcm"
    iio.imwrite(path, photo, model="nano")
    batch, properties = iio.imread(path, index=...), iio.improps(path, index=...)
    assert batch.shape == properties.shape == (1, *photo.shape)
    assert (properties.n_images, properties.is_batch) == (1, True)
    assert [frame.shape for frame in iio.imiter(path)] == [photo.shape]
    with pytest.raises(ValueError, match="has one picture, 0; 1 was asked for"):
        iio.imread(path, index=1)


def test_other_files_are_left_to_other_plugins(photo, tmp_path):
    iio.imwrite(tmp_path / "a.png", photo)
    (tmp_path / "a.png").rename(tmp_path / "png.hpcm")
    assert np.array_equal(iio.imread(tmp_path / "png.hpcm"), photo)
    with pytest.raises(OSError, match="`hpcm` can not handle the given uri") as refusal:
        iio.imread(tmp_path / "png.hpcm", plugin=plugin.NAME)
    assert "no .hpcm file, but a PNG" in str(refusal.value.__cause__)
    with pytest.raises(OSError, match="can not handle") as refusal:
        iio.imwrite(tmp_path / "a.png", photo, plugin=plugin.NAME)
    assert "'.png' isn't '.hpcm'" in str(refusal.value.__cause__)


def test_what_cant_be_coded_leaves_the_file_as_it_was(photo, tmp_path):
    path = tmp_path / "a.hpcm"
    path.write_bytes(b"before")
    with pytest.raises(hpcm.HPCMError, match="an array must be uint8 or uint16"):
        iio.imwrite(path, photo.astype(float))
    assert path.read_bytes() == b"before"


def test_a_cut_file_is_an_error(photo, tmp_path):
    path = tmp_path / "a.hpcm"
    path.write_bytes(hpcm.compress(photo, model="nano")[:-1])
    with pytest.raises(hpcm.HPCMError, match="cut short"):
        iio.imread(path)
