"""Pictures of more than 8 bits from a file to a file: by the command line, by Pillow, over the network's formats."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

import hpcm
import hpcm.pillow
from hpcm.cli import main
from hpcm.format.container import unpack
from hpcm.image.picture import from_image, picture_of_planes
from hpcm.image.planes import fitting, rescaled, split, upright, with_depth
from hpcm.image.png import chunk
from hpcm.image.png import write as write_png
from hpcm.image.read import picture_of, read_picture
from hpcm.image.write import save_picture

RANDOM = np.random.default_rng(5)
HDR = {  # what an HDR picture says of its colours, by PNG's chunks: BT.2020 and PQ, the display, the light
    b"cICP": bytes([9, 16, 0, 1]),
    b"mDCV": struct.pack(">8H2I", 34000, 16000, 13250, 34500, 7500, 3000, 15635, 16450, 10_000_000, 50),
    b"cLLI": struct.pack(">2I", 10_000_000, 4_000_000),
}


def smooth(height: int = 60, width: int = 80, channels: int = 3, bits: int = 16) -> np.ndarray:
    """Slow waves, a phase for each channel."""
    y, x = np.mgrid[:height, :width] / 20
    planes = np.stack([np.sin(x + i) * np.cos(y - i) for i in range(channels)], axis=2)
    samples = np.rint((planes / 2 + 0.5) * (2**bits - 1)).astype(np.uint16)
    return samples[..., 0] if channels == 1 else samples


def file_of(samples: np.ndarray, bits: int, suffix: str = ".png") -> bytes:
    return save_picture(picture_of_planes(split(samples, bits)), suffix)


def chunks_of(png: bytes) -> dict[bytes, bytes]:
    found, at = {}, 8
    while at < len(png):
        size, kind = struct.unpack_from(">I4s", png, at)
        found[kind] = png[at + 8 : at + 8 + size]
        at += 12 + size
    return found


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("suffix", [".png", ".ppm", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_from_a_file_to_a_file(tmp_path, channels, suffix, bits):
    """What the command line writes is what the decoder gives, sample by sample."""
    if suffix == ".ppm" and channels == 4:
        pytest.skip("PPM has no alpha")
    source, middle, out = tmp_path / f"in{suffix}", tmp_path / "in.hpcm", tmp_path / f"out{suffix}"
    samples = smooth(channels=channels, bits=bits)
    source.write_bytes(file_of(samples, bits, suffix))
    assert main(["compress", str(source), "-q", "--model", "nano", "--quality", "95"]) == 0
    kept = 16 if suffix == ".tif" else bits  # a TIFF has samples of whole bytes
    assert unpack(middle.read_bytes()).bit_depth == kept
    assert main(["decompress", str(middle), "-q", "-o", str(out)]) == 0
    written = read_picture(out.read_bytes())
    assert written.bit_depth == kept
    assert np.array_equal(written.joined, hpcm.decompress_array(middle.read_bytes()))
    error = written.joined / (2**kept - 1) - samples / (2**bits - 1)
    assert np.sqrt(np.mean(error**2)) < 0.02


def test_what_says_that_a_picture_is_hdr_is_kept(tmp_path):
    """In and out, beside samples of 16 bits and a profile."""
    out = io.BytesIO()
    write_png(split(smooth(), 16), b"", out)
    plain = out.getvalue()
    chunks = b"".join(chunk(kind, data) for kind, data in HDR.items())
    (tmp_path / "hdr.png").write_bytes(plain[:33] + chunks + plain[33:])
    assert main(["compress", str(tmp_path / "hdr.png"), "-q", "--model", "nano"]) == 0
    assert main(["decompress", str(tmp_path / "hdr.hpcm"), "-q", "-o", str(tmp_path / "back.png")]) == 0
    found = chunks_of((tmp_path / "back.png").read_bytes())
    assert {kind: found.get(kind) for kind in HDR} == HDR
    assert found[b"IHDR"][8] == 16


def test_pngs_of_16_bits_are_read_by_others():
    """By libpng, of the package imagecodecs; every filter occurs."""
    imagecodecs = pytest.importorskip("imagecodecs")
    for channels in (1, 2, 3, 4):
        for samples in (smooth(channels=channels), RANDOM.integers(0, 65536, (9, 7, channels), np.uint16)):
            data = file_of(samples, 16)
            assert np.array_equal(imagecodecs.png_decode(data).reshape(samples.shape), samples)


def test_a_png_of_few_bits_says_so():
    data = file_of(smooth(bits=10), 10)
    assert chunks_of(data)[b"sBIT"] == bytes([10, 10, 10])
    assert read_picture(data).notes == ()


def test_pillow_opens_what_it_has_modes_for():
    data = hpcm.compress(smooth(bits=10), bit_depth=10, model="nano")
    with Image.open(io.BytesIO(data)) as image:
        assert (image.mode, image.info["bit_depth"]) == ("RGB", 10)
        assert np.array_equal(np.asarray(image), hpcm.decompress_array(data, bit_depth=8))
    grey = hpcm.compress(smooth(channels=1, bits=12), bit_depth=12, model="nano")
    with Image.open(io.BytesIO(grey)) as image:
        assert (image.mode, image.info["bit_depth"]) == ("I;16", 12)
        assert np.array_equal(np.asarray(image), hpcm.decompress_array(grey, bit_depth=16))


@pytest.mark.parametrize("suffix", [".png", ".ppm", ".tif"])
def test_what_pillow_has_read_before(tmp_path, suffix):
    """All bits as long as the file is there and the image has its pixels; else 8, and a note tells."""
    path = tmp_path / f"deep{suffix}"
    path.write_bytes(file_of(smooth(), 16, suffix))
    note = (
        "the picture had 16 bits a sample, and 8 are kept, which Pillow's image of it has: give its file or an array",
    )
    assert from_image(Image.open(path)).bit_depth == 16
    loaded = Image.open(path)
    loaded.load()
    picture = from_image(loaded)
    assert (picture.bit_depth, picture.notes) == (16, ())
    assert np.array_equal(picture.pixels, smooth())
    Image.open(path).save(tmp_path / "saved.hpcm", model="nano", xmp=b"<x/>")
    assert unpack((tmp_path / "saved.hpcm").read_bytes()).bit_depth == 16
    loaded.putpixel((1, 1), (1, 2, 3))
    picture = from_image(loaded)
    assert (picture.bit_depth, picture.notes) == (8, note)
    decoded = hpcm.decompress((tmp_path / "saved.hpcm").read_bytes())
    assert from_image(decoded).notes == note
    shallow = tmp_path / "shallow.png"
    Image.fromarray(smooth(bits=8).astype(np.uint8)).save(shallow)
    loaded = Image.open(shallow)
    loaded.load()
    assert from_image(loaded).notes == ()


def test_arrays_of_either_byte_order():
    """Readers of big-endian files give such arrays."""
    samples = smooth()
    assert np.array_equal(picture_of(samples.astype(">u2")).pixels, picture_of(samples.astype("<u2")).pixels)


def test_a_box_and_a_draft():
    data = hpcm.compress(smooth(120, 160, 4), model="nano")
    whole = hpcm.decompress_array(data)
    assert np.array_equal(hpcm.decompress_array(data, box=(10, 20, 90, 70)), whole[20:70, 10:90])
    half = hpcm.decompress_array(data, draft=(80, 60))
    assert half.shape == (60, 80, 4)
    means = whole.astype(float).reshape(60, 2, 80, 2, 4).mean(axis=(1, 3))
    assert np.abs(half[..., 3] - means[..., 3]).max() <= 1


# ---- planes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", range(8, 17))
def test_depths_keep_black_white_and_order(bits):
    for wanted in range(8, 17):
        values = np.arange(2**bits).astype(np.uint8 if bits == 8 else np.uint16)[None]
        scaled = rescaled(values, bits, wanted)[0].astype(int)
        assert (scaled[0], scaled[-1]) == (0, 2**wanted - 1)
        assert (np.diff(scaled) >= 0).all()
        assert np.abs(scaled / (2**wanted - 1) - values[0] / (2**bits - 1)).max() <= 0.5001 / (2**wanted - 1)
        if wanted >= bits:
            back = rescaled(rescaled(values, bits, wanted), wanted, bits)
            assert np.array_equal(back, values)


@pytest.mark.parametrize("orientation", range(10))
def test_upright_as_pillow_turns(orientation):
    image = Image.fromarray(RANDOM.integers(0, 256, (5, 7, 4), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.info["exif"] = exif.tobytes()
    expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(upright(split(np.asarray(image), 8), orientation).joined, expected)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_reduced_as_pillow_reduces(channels):
    """To within a level of 8 bits, which Pillow rounds in between."""
    shallow = smooth(64, 80, channels, 8).astype(np.uint8)
    deep = with_depth(split(shallow, 8), 16)
    expected = fitting(split(shallow, 8), 20).joined.astype(int)
    found = with_depth(fitting(deep, 20), 8).joined.astype(int)
    opaque = expected[..., -1:] > 16 if channels in (2, 4) else np.full_like(expected, True)
    assert np.abs((found - expected) * opaque).max() <= (2 if channels in (1, 3) else 12)
