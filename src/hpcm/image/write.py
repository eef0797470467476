"""Pictures as files: reduced, and written with their metadata."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..errors import PictureError, UsageError
from ..format.fields import Container
from ..util.notes import OnNote, ignore_note, log_note
from . import png
from .hdr import fitted
from .metadata import tiff, ultra_hdr
from .metadata.record import NAMES, Metadata, unpack_comments
from .metadata.writing import (
    PNG_HEADER,
    announcing,
    dpi,
    joined_comments,
    metadata_for,
    with_jfif_density,
    with_png_chunks,
)
from .picture import Picture, adjusted, to_image
from .planes import fitting, size_within, with_depth

MAX_KEYWORD = 79  # bytes of a keyword in a PNG
PALETTE_COLOURS = 256
SAVE_OPTIONS: dict[str, dict[str, Any]] = {  # Pillow's, by format: what was decoded shall not be damaged again
    "PNG": {"compress_level": 3},  # a third of the time of Pillow's 6, under a tenth more bytes
    "WEBP": {"lossless": True, "exact": True},  # with the colours of transparent pixels
    "JPEG": {"quality": 95, "subsampling": 0},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
}

LOSSY = ("AVIF", "JPEG", "WEBP")  # formats that take a quality of 1 to 100

DEEP = ("PNG", "TIFF", "PPM")  # formats of more than 8 bits
OPAQUE = ("BMP", "DIB", "GIF", "JPEG", "PPM")  # formats without alpha of 8 bits


def draft_size(container: Container, side: int | None) -> tuple[int, int] | None:
    """Width and height of the picture when its longer side has at most `side` pixels; None without a bound."""
    return None if side is None else size_within((container.width, container.height), side)


def thumbnail_of(picture: Picture, side: int) -> Picture:
    """A copy of at most `side` pixels a side, with 8 bits, in sRGB.

    Most programs show thumbnails without heeding a profile. If the colours can't be converted, what describes them is
    kept; of other metadata nothing is.
    """
    return adjusted(with_depth(fitting(picture, side), 8), "all", "srgb", ignore_note)


def picture_format(suffix: str) -> str:
    """Pillow's name of a format that is written with this suffix. Raises UsageError."""
    Image.preinit()  # the usual formats: to import them all takes as long as to decode a picture
    name = Image.EXTENSION.get(suffix.lower()) or Image.registered_extensions().get(suffix.lower())
    if name not in Image.SAVE:
        raise UsageError(f"there is no picture format for {suffix!r}; try .png, .webp, .tif, .ppm or .jpg")
    return name


def save_options(suffix: str, quality: int | None) -> dict[str, Any]:
    """Pillow's options for a format, with a quality of 1 to 100 if one is given. Raises UsageError."""
    name = picture_format(suffix)
    options = SAVE_OPTIONS.get(name, {})
    if quality is None:
        return options
    if name not in LOSSY:
        raise UsageError(f"a quality is for jpg, webp and avif: {name} has none")
    return {**options, "lossless": False, "quality": quality} if name == "WEBP" else {**options, "quality": quality}


def save_picture(
    picture: Picture,
    suffix: str,
    quality: int | None = None,
    out: io.BytesIO | None = None,
    on_note: OnNote = log_note,
) -> bytes:
    """The bytes of a picture file, with the picture's metadata as far as the format has a place for it.

    Lossless where the format can be, unless a quality is given; a note where a format has 8 bits and the picture more,
    or no place for metadata.
    Raises PictureError, also for a transparent picture where the format has no alpha, and UsageError.

    Args:
        out: what is written to, by default a new one; what its `write` raises ends the writing, as a PictureError.
        on_note: is called with each note; see util/notes.py.
    """
    name, options = picture_format(suffix), save_options(suffix, quality)
    if picture.alpha is not None and name in OPAQUE:
        if picture.alpha.min() < picture.peak:
            raise PictureError(f"the picture is transparent, and {name} has no room for that; try .png")
        picture = replace(picture, alpha=None)
    if picture.bit_depth > 8 and not _holds_depth(picture, name):
        on_note(f"the picture has {picture.bit_depth} bits, and {name} 8 here: the lower ones are lost")
        picture = with_depth(picture, 8)
    metadata = metadata_for(name, picture, picture.size, on_note)
    gain_map = _gain_map_file(picture, name, options, on_note)
    if gain_map is not None:
        metadata = announcing(metadata, len(gain_map), on_note)
    out = io.BytesIO() if out is None else out
    try:
        _encode(picture, name, metadata, options, out)
        if gain_map is not None:
            _write_anew(out, ultra_hdr.join(out.getvalue(), gain_map))
    except MemoryError:
        raise
    except Exception as error:  # "cannot write mode RGBA as JPEG", or a profile that the format can't take
        raise PictureError(f"the picture can't be written as {name}: {error}; try .png") from error
    data = out.getvalue()
    _note_losses(picture, io.BytesIO(data), name, on_note)
    return data


def _gain_map_file(picture: Picture, name: str, how: dict[str, Any], on_note: OnNote) -> bytes | None:
    """The gain map as a JPEG with its numbers; None, with a note, in other formats, which have no place for it.

    Args:
        how: Pillow's options.
    """
    if picture.hdr is None:
        return None
    if name != "JPEG":
        on_note(f"{name} has no place for the picture's {NAMES['gain_map']}")
        return None
    height, width = picture.size
    gain_map = fitted(picture.hdr, (width, height), on_note)
    if gain_map is None:
        return None
    file = io.BytesIO()
    own = gain_map.image
    own.save(file, name, icc_profile=own.info.get("icc_profile"), **how)
    return ultra_hdr.gain_map_file(file.getvalue(), gain_map.iso)


def _write_anew(out: io.BytesIO, data: bytes) -> None:
    """Data in place of the shorter ones that were written."""
    out.seek(0)
    out.write(data)


def _holds_depth(picture: Picture, name: str) -> bool:
    """Whether a picture of more than 8 bits can be written in a format, by Pillow or by us."""
    return name in DEEP or (name == "JPEG2000" and picture.colour == "grey" and picture.alpha is None)


def _note_losses(picture: Picture, file: io.BytesIO, name: str, on_note: OnNote) -> None:
    """Notes of what the file that was written has less than the picture, by its header."""
    file.seek(0)
    try:
        with Image.open(file, formats=["JPEG" if name == "MPO" else name]) as again:
            size, mode = again.size, again.mode
            transparent = again.has_transparency_data
    except Exception:  # Pillow writes formats that it can't read, such as PDF
        on_note(f"whether {name} holds all of the picture isn't known; .png does")
        return
    height, width = picture.size
    if size != (width, height):
        on_note(f"{name} holds {size[0]} x {size[1]} pixels: the picture has {width} x {height}")
    if mode == "P" and to_image(picture).getcolors(PALETTE_COLOURS) is None:
        on_note(f"{name} holds {PALETTE_COLOURS} colours: the picture's were reduced to them")
    if picture.alpha is not None and not transparent:
        on_note(f"{name} has no room for transparency: it is lost")


def _encode(picture: Picture, name: str, metadata: Metadata, how: dict[str, Any], out: io.BytesIO) -> None:
    """Writes the file into `out`; `how` are Pillow's options."""
    if name == "TIFF":  # Pillow's writer changes the types and texts of EXIF, and can't compress beside it
        wide = picture if picture.bit_depth == 8 else with_depth(picture, 16)
        out.write(tiff.build_file(wide.joined, metadata))
    elif picture.bit_depth > 8 and name == "PNG":
        _write_deep_png(picture, metadata, out)
    elif picture.bit_depth > 8 and name == "PPM":
        _write_deep_ppm(picture, out)
    else:
        _write_by_pillow(to_image(picture), name, metadata, how, out)


def _write_deep_png(picture: Picture, metadata: Metadata, out: io.BytesIO) -> None:
    """A PNG of 16 bits: Pillow's of a single pixel has the chunks that belong to it."""
    file = io.BytesIO()
    _write_by_pillow(Image.new("L", (1, 1)), "PNG", metadata, {}, file)
    data = file.getvalue()
    png.write(picture, data[PNG_HEADER : data.index(b"IDAT") - 4], out)


def _write_deep_ppm(picture: Picture, out: io.BytesIO) -> None:
    """Two bytes a sample, the upper one first."""
    height, width = picture.size
    kind = "P5" if picture.colour == "grey" else "P6"
    out.write(f"{kind}\n{width} {height}\n{picture.peak}\n".encode())
    out.write(picture.pixels.astype(">u2").tobytes())


def _write_by_pillow(image: Image.Image, name: str, metadata: Metadata, how: dict[str, Any], out: io.BytesIO) -> None:
    options: dict[str, Any] = {"icc_profile": metadata.icc, "exif": metadata.exif, "xmp": metadata.xmp}
    options = {key: data for key, data in options.items() if data}
    if name == "PNG":
        options["pnginfo"] = _png_info(metadata)
        options.pop("xmp", None)
    elif metadata.comments:
        options["comment"] = joined_comments(metadata)
    if name in ("BMP", "DIB") and (resolution := dpi(metadata)):
        options["dpi"] = resolution
    image.info = {}  # Pillow's writers take what they find there
    image.save(out, name, **options, **how)
    finish = {"JPEG": with_jfif_density, "PNG": with_png_chunks}.get(name)
    if finish:
        _write_anew(out, finish(out.getvalue(), metadata))


def _png_info(metadata: Metadata) -> PngInfo:
    """What Pillow doesn't write into a PNG by itself."""
    chunks = PngInfo()
    if metadata.xmp:
        chunks.add_itxt("XML:com.adobe.xmp", metadata.xmp)
    for keyword, text in unpack_comments(metadata.comments or b"").items():
        chunks.add_text(keyword.encode("latin-1", "replace")[:MAX_KEYWORD], text)
    return chunks
