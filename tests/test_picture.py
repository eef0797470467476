"""What is kept of a picture: every mode of Pillow, alpha, ICC, EXIF and its orientation; what isn't kept is said."""

import io
import warnings
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, ImageOps
from PIL.PngImagePlugin import PngInfo

from hpcm.errors import CorruptError, PictureError
from hpcm.format.fields import MAX_METADATA, Container
from hpcm.image.metadata.record import Metadata, unpack_comments
from hpcm.image.picture import (
    CONVERTED,
    MULTIPLIED,
    PLAIN,
    WIDE,
    Picture,
    from_image,
    info_of,
    mode_of,
    pack_alpha,
    to_image,
    unpack_alpha,
)
from hpcm.image.planes import UPRIGHT
from hpcm.image.read import read_picture
from hpcm.image.write import save_picture

KODIM = Path(__file__).parent / "data" / "kodim23.png"
WIDTH, HEIGHT = 24, 16
RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (HEIGHT, WIDTH), np.uint8)
RGB = RANDOM.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
ALPHA = RANDOM.integers(0, 256, (HEIGHT, WIDTH), np.uint8)
DEEP = RANDOM.integers(0, 65536, (HEIGHT, WIDTH), np.uint16)


def stored(image: Image.Image, format: str, **options) -> Image.Image:
    """As it comes back from a file of that format."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return Image.open(file)


def tags(**values) -> Image.Exif:
    """EXIF from the names of tags."""
    exif = Image.Exif()
    for name, value in values.items():
        exif[ExifTags.Base[name]] = value
    return exif


def there_and_back(image: Image.Image) -> Image.Image:
    return to_image(from_image(image))


# ---- modes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "back"),
    [
        *((mode, mode) for mode in ("RGB", "L", "RGBA", "LA", "I;16")),
        *(("1", "L"), ("RGBX", "RGB"), ("RGBa", "RGBA"), ("La", "LA")),
        *((mode, "I;16") for mode in ("I", "I;16B", "I;16L", "I;16N")),
    ],
)
def test_modes_that_are_kept(mode, back):
    if mode in WIDE:
        image = Image.new(mode, (WIDTH, HEIGHT), 40_000)
        image.putpixel((3, 2), 65_535)
        expected = np.asarray(image).astype(np.uint16)
    else:
        image = Image.fromarray(RGB).convert("RGBA")
        image.putalpha(Image.fromarray(ALPHA))
        image = image.convert("LA" if mode == "La" else "RGBA" if mode == "RGBa" else mode.replace("X", ""))
        expected = np.asarray(image.convert(mode).convert(back))
        image = image.convert(mode)
    result = there_and_back(image)
    assert result.mode == back
    assert np.array_equal(np.asarray(result), expected)


@pytest.mark.parametrize("mode", sorted(CONVERTED))
def test_modes_that_are_converted(mode):
    image = Image.fromarray(RGB)
    if mode == "LAB":
        transform = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
        image = ImageCms.applyTransform(image, transform)
        del image.info["icc_profile"]
    else:
        image = image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)
    picture = from_image(image)
    result = to_image(picture)
    assert f"the picture's mode {mode} was converted to {CONVERTED[mode]}" in picture.notes
    assert result.mode == CONVERTED[mode]
    assert np.array_equal(np.asarray(result), np.asarray(image.convert(CONVERTED[mode])))


def test_every_mode_of_pillow_is_in_the_table():
    known = {"RGB", "RGBA", "L", "LA", *PLAIN, *CONVERTED, *MULTIPLIED, *WIDE}
    assert {*Image.MODES} - known == {"F"}  # and that is refused


@pytest.mark.parametrize("mode", ["F"])
def test_modes_that_are_refused(mode):
    with pytest.raises(PictureError, match="mode F can't be coded: convert them to RGB, grey, or 16-bit grey"):
        from_image(Image.new(mode, (2, 2)))


@pytest.mark.parametrize("value", [-1, 65_536])
def test_values_beyond_16_bits(value):
    with pytest.raises(PictureError, match="has grey values below 0 or above 65,535"):
        from_image(Image.new("I", (2, 2), value))


@pytest.mark.parametrize("size", [(0, 4), (4, 0)])
def test_no_pixels(size):
    with pytest.raises(PictureError, match=r"(4 x 0|0 x 4) pixels: 1 to"):
        from_image(Image.new("RGB", size))


def test_16_bit_grey_is_kept():
    for image in (stored(Image.fromarray(DEEP), format) for format in ("PNG", "TIFF")):
        picture = from_image(image)
        assert (picture.bit_depth, picture.colour, picture.peak) == (16, "grey", 65535)
        assert np.array_equal(np.asarray(to_image(picture)), DEEP)


# ---- transparency ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_lossless(format):
    image = Image.fromarray(np.dstack((RGB, ALPHA)))
    picture = from_image(stored(image, format, lossless=True, exact=True))
    assert np.array_equal(unpack_alpha(pack_alpha(picture.alpha), picture.size, 8), ALPHA)
    assert np.array_equal(np.asarray(to_image(picture)), np.asarray(image))


@pytest.mark.parametrize(
    ("mode", "transparent", "back"), [("RGB", (9, 8, 7), "RGBA"), ("L", 5, "LA"), ("1", 255, "LA")]
)
def test_a_transparent_colour(mode, transparent, back):
    image = Image.fromarray(RGB).convert(mode)
    image.putpixel((3, 2), transparent)
    result = there_and_back(stored(image, "PNG", transparency=1 if mode == "1" else transparent))
    assert result.mode == back
    assert result.getchannel("A").getpixel((3, 2)) == 0
    assert np.array_equal(np.asarray(result.convert("RGB")), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("transparency", [3, bytes(range(0, 256, 2))])
def test_a_palette_with_transparency(transparency):
    image = stored(Image.fromarray(RGB).convert("P"), "PNG", transparency=transparency)
    picture = from_image(image)
    result = to_image(picture)
    assert picture.notes == ("the picture's mode P was converted to RGBA",)
    assert np.array_equal(np.asarray(result), np.asarray(image.convert("RGBA")))


def test_a_transparent_value_of_16_bits():
    """Its alpha is kept, with all bits; a value that no pixel has is no matter."""
    key = int(DEEP[2, 3])
    picture = from_image(stored(Image.fromarray(DEEP), "PNG", transparency=key))
    assert np.array_equal(picture.joined, np.dstack((DEEP, np.where(key == DEEP, 0, 65535))))
    grey, alpha = to_image(picture).split()
    assert np.array_equal(np.asarray(alpha) == 0, key == DEEP)
    assert np.abs(np.asarray(grey) - DEEP / 257).max() <= 0.5
    absent = next(value for value in range(65536) if value not in DEEP)
    assert np.array_equal(np.asarray(there_and_back(stored(Image.fromarray(DEEP), "PNG", transparency=absent))), DEEP)


def test_alpha_of_more_pixels_than_pillow_opens(monkeypatch):
    data = pack_alpha(ALPHA)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert np.array_equal(unpack_alpha(data, ALPHA.shape, 8), ALPHA)


def test_damaged_alpha():
    data = pack_alpha(ALPHA)
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "PNG")
    wrong = {data: (HEIGHT, WIDTH + 1), file.getvalue(): ALPHA.shape}
    for damaged in (b"", b"junk", *(data[:length] for length in range(0, len(data) - 30, 7))):
        wrong[damaged] = ALPHA.shape
    for damaged, size in wrong.items():
        with pytest.raises(CorruptError, match="the alpha plane"):
            unpack_alpha(damaged, size, 8)


# ---- metadata -------------------------------------------------------------------------------------------------------

TAKEN = "2024:02:29 12:00:00"


def full_exif() -> Image.Exif:
    """As a camera writes it, with a tag in each directory and a maker's note."""
    exif = tags(Make="maker", ImageDescription="a picture", XResolution=72.0, Rating=4)
    exif.get_ifd(ExifTags.IFD.Exif).update({0x9003: TAKEN, 0x927C: b"a maker's note"})
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (47.0, 30.0, 1.5)})
    written = Image.Exif()
    written.load(exif.tobytes())
    return written


@pytest.mark.parametrize("loaded", [False, True])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
def test_icc_and_exif_are_carried_along(format, loaded, tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(RGB).save(tmp_path / "picture", format, exif=full_exif(), icc_profile=profile)
    image = Image.open(tmp_path / "picture")
    if loaded:
        image.load()
    picture = from_image(image)
    assert picture.icc == profile
    assert picture.exif.startswith(b"Exif\0\0")
    back = to_image(picture).getexif()
    assert {ExifTags.Base.Make, ExifTags.Base.ImageDescription, ExifTags.Base.Rating} <= {*back}
    assert back.get_ifd(ExifTags.IFD.Exif)[0x9003] == TAKEN
    assert back.get_ifd(ExifTags.IFD.Exif)[0x927C] == b"a maker's note"
    assert back.get_ifd(ExifTags.IFD.GPSInfo)[2] == (47.0, 30.0, 1.5)


def test_the_directory_of_interoperability_lies_within_another():
    exif = full_exif()
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.IFD.Interop] = {1: "R98"}
    back = to_image(from_image(stored(Image.fromarray(RGB), "JPEG", exif=exif.tobytes()))).getexif()
    assert back.get_ifd(ExifTags.IFD.Exif)[0x9003] == TAKEN
    assert back.get_ifd(ExifTags.IFD.Interop) == {1: "R98"}


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
def test_metadata_in_what_is_saved(suffix):
    picture = from_image(stored(Image.fromarray(RGB), "JPEG", exif=full_exif(), icc_profile=b"a profile"))
    saved = Image.open(io.BytesIO(save_picture(picture, suffix)))
    assert saved.info["icc_profile"] == b"a profile"
    assert saved.getexif()[ExifTags.Base.Make] == "maker"
    assert saved.getexif().get_ifd(ExifTags.IFD.Exif)[0x9003] == TAKEN


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP", "JPEG"])
def test_no_metadata(format):
    """Nothing of how a file was stored counts as metadata."""
    picture = from_image(stored(Image.fromarray(GREY), format))
    assert (picture.icc, picture.exif) == (None, None)


def test_how_a_file_was_stored_is_not_kept():
    """In a TIFF file these tags would describe another picture's bytes."""
    exif = tags(ImageWidth=999, ImageLength=7, BitsPerSample=1, Compression=5, StripOffsets=8, Artist="me")
    image = stored(Image.fromarray(RGB), "JPEG", exif=exif)
    for _ in range(2):  # from JPEG, then from TIFF
        result = there_and_back(image)
        assert dict(result.getexif()) == {ExifTags.Base.Artist: "me"}
        image = Image.open(io.BytesIO(save_picture(from_image(result), ".tif")))
        assert image.size == (WIDTH, HEIGHT)
        assert np.array_equal(np.asarray(image), np.asarray(result))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "LA", "I;16", "1"])
def test_orientation(orientation, mode):
    plain = Image.fromarray(DEEP) if mode == "I;16" else Image.fromarray(np.dstack((RGB, ALPHA))).convert(mode)
    image = stored(plain, "PNG", exif=tags(Orientation=orientation, Artist="me"))
    expected = ImageOps.exif_transpose(stored(plain, "PNG", exif=tags(Orientation=orientation)))
    result = there_and_back(image)
    assert np.array_equal(np.asarray(result), np.asarray(expected if mode != "1" else expected.convert("L")))
    assert dict(result.getexif()) == {ExifTags.Base.Artist: "me"}
    assert (orientation in UPRIGHT) == (orientation > 1)


def test_orientation_of_a_photograph():
    """JPEG in, and the picture that was given is left alone."""
    image = stored(Image.open(KODIM).crop((0, 0, 48, 32)), "JPEG", exif=tags(Orientation=6))
    expected = ImageOps.exif_transpose(image)
    picture = from_image(image)
    assert np.array_equal(picture.pixels, np.asarray(expected))
    assert picture.exif is None
    assert image.size == (48, 32)
    assert image.getexif()[ExifTags.Base.Orientation] == 6


@pytest.mark.parametrize("orientation", [0, 9, 99])
def test_no_orientation(orientation):
    assert from_image(stored(Image.fromarray(RGB), "PNG", exif=tags(Orientation=orientation))).size == (HEIGHT, WIDTH)


@pytest.mark.parametrize("exif", [b"Exif\0\0junk", b"Exif\0\0II*\0\x08\0\0\0\xff\xff", b"Exif\0\0", b"x"])
def test_damaged_exif_does_not_cost_the_picture(exif):
    image = Image.fromarray(GREY)
    image.info["exif"] = exif
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, which has found no tags
        picture = from_image(image)
    result = to_image(picture)
    assert result.info == {}
    assert np.array_equal(np.asarray(result), np.asarray(image))
    assert len(picture.notes) == (exif != b"Exif\0\0")
    assert all("EXIF" in note for note in picture.notes)


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" xmp:Rating="4"/></x:xmpmeta>'


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif", ".avif"])
def test_xmp_is_kept(suffix):
    """In and out of every format that has it, with and without EXIF beside it."""
    xmp = XMP.replace(b' tiff:Orientation="6"', b"")
    for exif in (None, full_exif().tobytes()):
        image = Image.fromarray(RGB)
        image.info.update({"xmp": xmp} | ({"exif": exif} if exif else {}))
        stored_by_us = Image.open(io.BytesIO(save_picture(from_image(image), suffix)))
        picture = from_image(stored_by_us)
        assert picture.xmp == xmp
        assert (picture.exif is not None) == (exif is not None)
        assert to_image(picture).info["xmp"] == xmp


def test_the_orientation_of_xmp_is_not_applied_twice():
    image = Image.fromarray(RGB)
    image = stored(image, "JPEG", xmp=XMP, exif=tags(Orientation=6))
    picture = from_image(image)
    assert picture.size == (WIDTH, HEIGHT)
    assert picture.xmp == XMP.replace(b' tiff:Orientation="6"', b"")
    kept = from_image(stored(Image.fromarray(RGB), "JPEG", xmp=XMP.replace(b'"6"', b'"1"')))
    assert b"Orientation" in kept.xmp


def test_cicp_is_kept():
    """Pillow passes over the chunk: the command line reads and writes it."""
    image = Image.fromarray(RGB)
    image.info["cicp"] = bytes([9, 16, 0, 1])  # BT.2020, PQ
    picture = read_picture(save_picture(from_image(image), ".png"))
    assert picture.cicp == bytes([9, 16, 0, 1])
    image.info["cicp"] = b"too long"
    assert from_image(image).cicp is None


@pytest.mark.parametrize(
    ("format", "options", "comments"),
    [
        ("JPEG", {"comment": "a comment"}, {"Comment": "a comment"}),
        ("GIF", {"comment": "a comment"}, {"Comment": "a comment"}),
        ("PNG", {"pnginfo": {"Author": "me", "Title": "ünï"}}, {"Author": "me", "Title": "ünï"}),
    ],
)
def test_comments_are_kept(format, options, comments):
    if format == "PNG":
        chunks = PngInfo()
        for keyword, text in options["pnginfo"].items():
            chunks.add_itxt(keyword, text)
        options = {"pnginfo": chunks}
    image = to_image(from_image(stored(Image.fromarray(RGB), format, **options)))
    assert image.info["comments"] == comments
    back = Image.open(io.BytesIO(save_picture(from_image(image), ".png")))
    back.load()
    assert back.text == comments
    again = Image.open(io.BytesIO(save_picture(from_image(image), ".jpg")))
    named = (text if key == "Comment" else f"{key}: {text}" for key, text in comments.items())
    assert again.info["comment"].decode() == "\n".join(named)


@pytest.mark.parametrize("data", [b"", b"a", b"a\0b\0c", b"\xff\0\xfe", b"\0" * 9])
def test_forged_comments(data):
    assert all(isinstance(text, str) for pair in unpack_comments(data).items() for text in pair)


def test_iptc_is_not_kept():
    image = Image.fromarray(RGB)
    image.info["photoshop"] = {0x0404: b"\x1c\x02x\0\x04word"}
    assert from_image(image).notes == ("the picture's IPTC is not kept",)


def test_metadata_beyond_what_a_file_has_room_for():
    image = Image.fromarray(RGB)
    image.info["icc_profile"] = bytes(MAX_METADATA + 1)
    picture = from_image(image)
    assert "ICC profile of 16,777,217 bytes is not kept: 16,777,216 are allowed" in picture.notes[0]
    assert picture.icc is None


def test_a_profile_of_other_colours_is_not_kept():
    image = stored(Image.fromarray(RGB).convert("CMYK"), "JPEG", icc_profile=b"a profile")
    for source in (image, image.copy()):  # its file is at hand, or not
        picture = from_image(source)
        assert picture.icc is None
        notes = ("the picture's ICC profile is not kept", "the picture's mode CMYK was converted to RGB")
        assert picture.notes == notes


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "LA", "I;16"])
def test_what_a_file_tells_before_it_is_decoded(mode):
    """The mode and the metadata of the image that it will give."""
    image = Image.fromarray(DEEP) if mode == "I;16" else Image.fromarray(np.dstack((RGB, ALPHA))).convert(mode)
    image.info.update(icc_profile=b"a profile", xmp=b"<x:xmpmeta/>", cicp=bytes([9, 16, 0, 1]))
    image.info["exif"] = full_exif().tobytes()
    image.info["comment"] = "a picture"
    picture = from_image(image)
    container = Container(
        passes=1,
        width=WIDTH,
        height=HEIGHT,
        model="lite",
        model_hash=bytes(8),
        level=0,
        colour=picture.colour,
        bit_depth=picture.bit_depth,
        tile_side=256,
        icc=picture.icc,
        exif=picture.exif,
        alpha=None if picture.alpha is None else pack_alpha(picture.alpha),
        ancillary=picture.ancillary,
        tiles=(),
    )
    assert mode_of(container) == to_image(picture).mode == mode
    assert info_of(Metadata.of(container), container.bit_depth) == to_image(picture).info
    kept = {"icc_profile", "exif", "xmp", "cicp", "comments"}
    assert {*to_image(picture).info} - {"bit_depth"} == kept
    bare = replace(container, icc=None, exif=None, ancillary=())
    assert Metadata.of(bare).info() == {}


# ---- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["GIF", "WEBP", "TIFF", "MPO"])
def test_several_frames(format):
    first, second = Image.fromarray(RGB), Image.fromarray(RGB[::-1].copy())
    if format == "GIF":
        first, second = first.quantize(), second.quantize()
    file = io.BytesIO()
    first.save(file, format, save_all=True, append_images=[second, first])
    image = Image.open(file)
    picture = from_image(image)
    assert np.array_equal(picture.pixels, np.asarray(image.convert("RGB")))
    also = ["the picture's mode P was converted to RGB"] if format == "GIF" else []
    assert "3 frames: only the current one is kept" in picture.notes[0]
    assert list(picture.notes[1:]) == also


def test_a_picture_whose_file_is_closed(tmp_path):
    path = tmp_path / "moving.gif"
    Image.fromarray(RGB).quantize().save(path, save_all=True, append_images=[Image.fromarray(ALPHA)])
    with Image.open(path) as image:
        image.load()
    picture = from_image(image)
    assert any("mode P was converted" in note for note in picture.notes)
    assert np.array_equal(picture.pixels, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP"])
def test_a_truncated_file(format):
    file = io.BytesIO()
    Image.open(KODIM).crop((0, 0, 64, 64)).save(file, format)
    length = len(file.getvalue())
    for part in (0.9, 0.6, 0.3):
        try:
            image = Image.open(io.BytesIO(file.getvalue()[: int(part * length)]))
        except (OSError, SyntaxError):
            continue  # not even opened: this is Pillow's error to the caller
        with pytest.raises(PictureError, match="the picture can't be read: "):
            from_image(image)


def test_a_read_only_array():
    """Pillow's arrays are, and nothing may write into them."""
    picture = from_image(Image.fromarray(np.dstack((RGB, ALPHA))))
    assert not picture.pixels.flags.writeable
    copy = {field.name: getattr(picture, field.name) for field in fields(Picture)}
    assert np.array_equal(np.asarray(to_image(Picture(**copy))), np.dstack((RGB, ALPHA)))


# ---- written as files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".bmp", ".gif", ".jpg", ".ppm"])
def test_formats_without_alpha(suffix):
    """What is transparent is refused, and an alpha of 255 everywhere left out."""
    clear = Image.fromarray(np.dstack((RGB, ALPHA)))
    with pytest.raises(PictureError, match=r"is transparent, and .* has no room for that"):
        save_picture(from_image(clear), suffix)
    clear = Image.fromarray(np.dstack((RGB[:8], np.full_like(ALPHA[:8], 255))))  # fewer colours than a GIF's 256
    assert read_picture(save_picture(from_image(clear), suffix)).size == (8, WIDTH)


@pytest.mark.parametrize("suffix", [".webp", ".bmp", ".gif"])
def test_16_bit_grey_in_formats_of_8(suffix):
    notes = []
    data = save_picture(from_image(Image.fromarray(DEEP)), suffix, on_note=notes.append)
    assert "the picture has 16 bits" in notes[0]
    found = np.asarray(to_image(read_picture(data)).convert("L")).astype(int)
    assert np.abs(found - DEEP / 257).max() <= 1


@pytest.mark.parametrize("suffix", [".png", ".tif", ".ppm"])
def test_16_bit_grey_in_formats_of_16(suffix):
    assert np.array_equal(read_picture(save_picture(from_image(Image.fromarray(DEEP)), suffix)).pixels, DEEP)
