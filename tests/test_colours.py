"""Colours by their profile: converted rightly, or left as they are with what describes them; thumbnails look right."""

import base64
import io
import struct
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageCms

import hpcm
from hpcm import cli
from hpcm.errors import UsageError
from hpcm.image import deep
from hpcm.image.metadata.record import Metadata
from hpcm.image.picture import Picture, adjusted, from_image
from hpcm.image.read import picture_of, read_picture
from hpcm.image.write import save_picture, thumbnail_of
from hpcm.util.notes import ignore_note
from pictures import exif, png, png_chunk, tags_of
from profiles import GAMMA, PAPER, SRGB, cmyk_profile, grey_profile, rgb_profile, srgb_of_lab, srgb_of_rgb

RNG = np.random.default_rng(5)
COLOURS = RNG.integers(0, 256, (24, 32, 3), np.uint8)
CLOSE = 2  # levels: littleCMS computes with tables
WIDE = (200, 90, 60)  # a colour whose numbers differ between the profile's space and sRGB


def stored(image: Image.Image, format: str = "PNG", **options) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def converted(data: bytes) -> Picture:
    return read_picture(data, icc="srgb")


def differ(a, b) -> int:
    return int(abs(np.asarray(a).astype(int) - np.asarray(b).astype(int)).max())


def test_the_profile_of_these_tests_is_wide():
    """Without a conversion the colours would be far from right."""
    assert differ(COLOURS, srgb_of_rgb(COLOURS)) > 20


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF"])
def test_rgb(format):
    image = Image.fromarray(COLOURS)
    options = {"lossless": True} if format == "WEBP" else {}
    data = stored(image, format, icc_profile=rgb_profile(), **options)
    decoded = read_picture(data)  # JPEG and AVIF change the pixels
    picture = converted(data)
    assert differ(picture.pixels, srgb_of_rgb(decoded.pixels)) <= CLOSE
    assert picture.icc is None
    assert not picture.notes
    assert decoded.icc == rgb_profile()


def test_alpha_stays():
    alpha = RNG.integers(0, 256, (24, 32), np.uint8)
    image = Image.fromarray(np.dstack((COLOURS, alpha)))
    picture = converted(stored(image, icc_profile=rgb_profile()))
    assert differ(picture.pixels, srgb_of_rgb(COLOURS)) <= CLOSE
    assert np.array_equal(picture.alpha, alpha)


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_grey(mode):
    values = np.arange(256, dtype=np.uint8)[None].repeat(2, axis=0)
    image = Image.fromarray(values).convert(mode)
    picture = converted(stored(image, icc_profile=grey_profile(gamma=1.0)))
    linear = values / 255
    expected = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 255
    assert picture.colour == "grey"
    assert picture.icc is None
    assert differ(picture.pixels, expected.round()) <= CLOSE
    assert (picture.alpha is None) == (mode == "L")


def test_grey_with_a_profile_for_colours():
    values = np.arange(256, dtype=np.uint8)[None]
    picture = converted(stored(Image.fromarray(values), icc_profile=rgb_profile()))
    assert picture.colour == "grey"
    assert differ(picture.pixels, srgb_of_rgb(np.dstack([values] * 3))[..., 1]) <= CLOSE


def test_palette():
    image = Image.fromarray(COLOURS).quantize(16)
    picture = converted(stored(image, icc_profile=rgb_profile()))
    assert differ(picture.pixels, srgb_of_rgb(np.asarray(image.convert("RGB")))) <= CLOSE
    assert picture.notes == ("the picture's mode P was converted to RGB",)


@pytest.mark.parametrize("format", ["TIFF", "JPEG"])
@pytest.mark.parametrize("ink", PAPER)
def test_cmyk(format, ink):
    values = [255 if name == ink else 0 for name in "CMYK"]
    options = {"quality": 100} if format == "JPEG" else {}
    data = stored(Image.new("CMYK", (32, 24), tuple(values)), format, icc_profile=cmyk_profile(), **options)
    picture = converted(data)
    assert differ(picture.pixels, srgb_of_lab(PAPER[ink])) <= 4  # the table has 8 bits
    assert picture.icc is None
    assert not picture.notes
    plain = read_picture(data)
    assert differ(plain.pixels, picture.pixels) > 20  # what comes of it without the profile
    assert plain.notes[-1].startswith("the picture's mode CMYK was converted")


def test_lab():
    image = Image.fromarray(COLOURS).convert("LAB")
    data = stored(image, "TIFF")
    assert abs(converted(data).pixels.astype(int) - COLOURS).mean() < 1  # a few of them need more than Lab's 8 bits
    assert not converted(data).notes


def test_srgb_by_name_changes_no_pixel():
    """Each colour of all that this profile has would be rounded once more."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = converted(stored(Image.fromarray(COLOURS), icc_profile=profile))
    assert np.array_equal(picture.pixels, COLOURS)
    assert picture.icc is None


def test_cicp_comes_before_a_profile():
    """By the specification of PNG; here it says that the colours are those of sRGB."""
    plain = stored(Image.fromarray(COLOURS), icc_profile=rgb_profile())
    picture = converted(plain[:33] + png_chunk(b"cICP", bytes([1, 13, 0, 1])) + plain[33:])
    assert np.array_equal(picture.pixels, COLOURS)
    assert not picture.present


def test_nothing_to_convert():
    for data in (stored(Image.fromarray(COLOURS)), png((b"gAMA", struct.pack(">I", 45455))), png((b"sRGB", b"\0"))):
        picture = converted(data)
        assert not picture.notes
        assert np.array_equal(picture.pixels, read_picture(data).pixels)


DEEP = RNG.integers(0, 65536, (24, 32), np.uint16)
DEEP_COLOURS = RNG.integers(0, 65536, (24, 32, 3), np.uint16)
STAY = {
    "cicp": (png((b"cICP", bytes([12, 13, 0, 1]))), "cICP describes them"),
    "gamma": (png((b"gAMA", struct.pack(">I", 100_000))), "gAMA and cHRM describe them"),
    "16 bits": (stored(Image.fromarray(DEEP), icc_profile=b"a profile"), "can't be applied"),
    "16 bits, other space": (
        save_picture(replace(picture_of(DEEP_COLOURS), icc=grey_profile()), ".png"),
        "for GRAY, and the picture is rgb",
    ),
    "damaged": (stored(Image.fromarray(COLOURS), icc_profile=b"a profile"), "can't be applied"),
    "other space": (stored(Image.fromarray(COLOURS), icc_profile=grey_profile()), "for GRAY, and the picture is RGB"),
    "Adobe RGB": (
        stored(Image.fromarray(COLOURS), "JPEG", exif=exif([], [(0xA001, 3, struct.pack("<H", 2))])),
        "Adobe RGB by the picture's EXIF",
    ),
}


@pytest.mark.parametrize("bits", [10, 12, 16])
@pytest.mark.parametrize("channels", [3, 4])
def test_deep_colours(bits, channels):
    """To the depth that they have, closer than 8 bits could; alpha stays."""
    pytest.importorskip("imagecodecs")
    samples = RNG.integers(0, 2**bits, (300, 8, channels), np.uint16)  # of two bands
    source = replace(picture_of(samples, bits), icc=rgb_profile())
    picture = adjusted(source, None, "srgb", pytest.fail)
    assert (picture.bit_depth, picture.icc) == (bits, None)
    assert np.array_equal(picture.joined[..., 3:], samples[..., 3:])
    peak = 2**bits - 1
    expected = srgb_of_rgb(samples[..., :3] * (255 / peak))  # rounded to 255ths
    assert np.abs(picture.pixels * (255 / peak) - expected).max() <= 1
    assert len(np.unique(picture.pixels)) > 256


@pytest.mark.parametrize("profile", [grey_profile(gamma=1.0), rgb_profile(np.array(SRGB))])
def test_deep_grey(profile):
    pytest.importorskip("imagecodecs")
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    source = replace(picture_of(values), icc=profile)
    picture = adjusted(source, None, "srgb", pytest.fail)
    linear = (values / 65535) ** (1.0 if profile == grey_profile(gamma=1.0) else GAMMA)
    expected = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055) * 65535
    assert (picture.colour, picture.icc) == ("grey", None)
    assert np.abs(picture.pixels - expected).max() < 65535 / 1000


def test_deep_colours_of_srgb_stay():
    pytest.importorskip("imagecodecs")
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for samples in (DEEP, DEEP_COLOURS):
        picture = adjusted(replace(picture_of(samples), icc=icc), None, "srgb", pytest.fail)
        assert picture.icc is None
        assert np.array_equal(picture.pixels, samples)


def test_deep_colours_without_the_package(monkeypatch):
    monkeypatch.setattr(deep, "find_spec", lambda name: None)
    notes: list[str] = []
    source = replace(picture_of(DEEP_COLOURS), icc=rgb_profile())
    assert adjusted(source, None, "srgb", notes.append) == source
    assert notes == [
        "the picture's colours are not converted to sRGB: those of more than 8 bits are with: "
        "pip install 'hpcm-codec[photos]'"
    ]


@pytest.mark.parametrize("name", STAY)
def test_what_cant_be_converted_stays(name):
    data, reason = STAY[name]
    picture, plain = converted(data), read_picture(data)
    (note,) = picture.notes
    assert note.startswith("the picture's colours are not converted to sRGB: ")
    assert reason in note
    assert np.array_equal(picture.pixels, plain.pixels)
    assert picture.present == plain.present


def test_a_profile_that_fits_no_inks():
    data = stored(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "TIFF", icc_profile=rgb_profile())
    picture = converted(data)
    assert picture.icc is None
    assert [note.partition(":")[0] for note in picture.notes] == [
        "the picture's colours are not converted to sRGB",
        "the picture's ICC profile is not kept",
        "the picture's mode CMYK was converted to RGB",
    ]


def test_what_names_the_old_colours_is_changed():
    block = exif([(271, 2, b"Maker\0")], [(0xA001, 3, struct.pack("<H", 65535))])
    packet = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<r:Description xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" photoshop:ICCProfile="P3" '
        b'photoshop:City="Rome"/></r:RDF></x:xmpmeta>'
    )
    chunks = png_chunk(b"gAMA", struct.pack(">I", 50_000))
    plain = stored(Image.fromarray(COLOURS), icc_profile=rgb_profile(), exif=block)
    picture = read_picture(plain[:33] + chunks + plain[33:], icc="srgb")
    assert picture.gamma is None
    assert tags_of(picture.exif) == {(271,): (2, 6, b"Maker\0"), (34665, 0xA001): (3, 1, struct.pack("<H", 1))}
    picture = converted(stored(Image.fromarray(COLOURS), "JPEG", icc_profile=rgb_profile(), xmp=packet))
    assert b"P3" not in picture.xmp
    assert b"Rome" in picture.xmp


# ---- ways to it ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wide() -> bytes:
    """A picture file of one colour of a wide space."""
    return stored(Image.new("RGB", (96, 64), WIDE), icc_profile=rgb_profile())


def looks(image: Image.Image) -> np.ndarray:
    """The colour in the middle in sRGB, as a program that heeds profiles shows it."""
    pixel = np.asarray(image.convert("RGB"))[image.height // 2, image.width // 2]
    profile = image.info.get("icc_profile")
    assert profile in (None, rgb_profile())
    return pixel if profile is None else srgb_of_rgb(pixel[None])[0]


RIGHT = srgb_of_rgb(np.array([WIDE]))[0]
ALIKE = 12  # levels that the codec may change


def test_compress_and_decompress(wide):
    kept = hpcm.compress(wide, model="nano", on_note=ignore_note)
    file = hpcm.compress(wide, model="nano", icc="srgb", on_note=ignore_note)
    for data, options in ((kept, {}), (kept, {"icc": "srgb"}), (file, {})):
        image = hpcm.decompress(data, **options)
        assert ("icc_profile" in image.info) == (data is kept and not options)
        assert differ(looks(image), RIGHT) <= ALIKE
    assert differ(looks(hpcm.preview(kept, icc="srgb")), RIGHT) <= ALIKE


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "avif", "tif"])
def test_the_command_line(tmp_path, monkeypatch, wide, suffix):
    """Reduced or not, with the profile or converted: the colour looks the same."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.png").write_bytes(wide)
    assert cli.main(["compress", "in.png", "-q", "--model", "nano"]) == 0
    for options in ([], ["--max-size", "32"], ["--icc", "srgb"], ["--icc", "srgb", "--max-size", "32"]):
        assert cli.main(["decompress", "in.hpcm", "-qf", "-o", f"out.{suffix}", *options]) == 0
        with Image.open(f"out.{suffix}") as image:
            assert ("icc_profile" in image.info) == ("--icc" not in options)
            assert differ(looks(image), RIGHT) <= ALIKE
    assert cli.main(["compress", "in.png", "-qf", "--icc", "srgb", "--model", "nano"]) == 0
    assert hpcm.decompress("in.hpcm").info.get("icc_profile") is None


def test_thumbnails_are_srgb(tmp_path, monkeypatch, wide):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.hpcm").write_bytes(hpcm.compress(wide, model="nano", on_note=ignore_note))
    assert cli.main(["thumbnail", "in.hpcm", "out.png", "32"]) == 0
    with Image.open("out.png") as image:
        assert "icc_profile" not in image.info
        assert differ(looks(image), RIGHT) <= ALIKE


def test_a_thumbnail_that_cant_be_converted_keeps_what_describes_it(tmp_path, monkeypatch):
    """And nothing else."""
    monkeypatch.chdir(tmp_path)
    chunks = (b"cICP", bytes([12, 13, 0, 1])), (b"tEXt", b"Comment\0secret")
    (tmp_path / "in.hpcm").write_bytes(hpcm.compress(png(*chunks), model="nano", on_note=ignore_note))
    assert cli.main(["thumbnail", "in.hpcm", "out.png", "32"]) == 0
    data = (tmp_path / "out.png").read_bytes()
    assert png_chunk(b"cICP", bytes([12, 13, 0, 1])) in data
    assert b"secret" not in data


def test_thumbnail_of_16_bits_with_a_profile():
    image = Image.fromarray(np.full((8, 8), 128 * 257, np.uint16))
    image.info["icc_profile"] = grey_profile(gamma=1.0)
    small = thumbnail_of(from_image(image), 4)
    assert (small.bit_depth, small.size) == (8, (4, 4))
    assert differ(small.pixels, 188) <= CLOSE
    assert not small.present
    assert image.info["icc_profile"]
    assert image.mode == "I;16"


@pytest.fixture
def webp() -> Callable[[Picture], str]:
    """What makes the thumbnails of an archive's report."""
    pytest.importorskip("pyarrow")
    pytest.importorskip("jinja2")
    from hpcm.archive import page

    return page._webp


@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_the_report_of_an_archive(wide, webp, mode):
    picture, expected = read_picture(wide), RIGHT
    if mode == "CMYK":
        data = stored(Image.new("CMYK", (32, 24), (255, 0, 0, 0)), "TIFF", icc_profile=cmyk_profile())
        picture, expected = read_picture(data, icc="srgb"), srgb_of_lab(PAPER["C"])
    with Image.open(io.BytesIO(base64.b64decode(webp(picture)))) as shown:
        assert differ(looks(shown), expected) <= ALIKE


def test_a_report_without_a_conversion(webp):
    """The profile is in the thumbnail then."""
    image = Image.fromarray(COLOURS)
    image.info |= {"icc_profile": grey_profile()}
    with Image.open(io.BytesIO(base64.b64decode(webp(from_image(image))))) as shown:
        assert shown.info["icc_profile"] == grey_profile()


def test_pillow_keeps_the_profile(tmp_path, wide):
    import hpcm.pillow  # noqa: F401 (registers the format)

    with Image.open(io.BytesIO(wide)) as image:
        image.save(tmp_path / "kept.hpcm", model="nano")
        image.save(tmp_path / "converted.hpcm", model="nano", icc="srgb")
    for name in ("kept", "converted"):
        with Image.open(tmp_path / f"{name}.hpcm") as image:
            image.thumbnail((32, 32))
            assert ("icc_profile" in image.info) == (name == "kept")
            assert differ(looks(image), RIGHT) <= ALIKE


def test_wrong_options():
    data = hpcm.compress(COLOURS, model="nano")
    for option in ({"icc": "p3"}, {"strip": "some"}):
        with pytest.raises(UsageError, match=f"{next(iter(option))} is"):
            hpcm.compress(COLOURS, model="nano", **option)
        with pytest.raises(UsageError, match=f"{next(iter(option))} is"):
            hpcm.decompress(data, **option)


def test_a_picture_stays_what_it_is():
    picture = read_picture(stored(Image.fromarray(COLOURS), icc_profile=rgb_profile()))
    before = picture.pixels.copy()
    assert adjusted(picture, None, "srgb", pytest.fail).icc is None
    assert np.array_equal(picture.pixels, before)
    assert Metadata(icc=rgb_profile()).present == picture.present
