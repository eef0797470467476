"""Pictures as files: reduced, and written with their metadata."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..errors import PictureError, UsageError
from ..format.fields import Container
from ..util.notes import OnNote, log_note
from .metadata import tiff
from .metadata.record import Metadata, unpack_comments
from .metadata.writing import dpi, joined_comments, metadata_for, with_jfif_density, with_png_chunks
from .picture import eight_bits

MAX_KEYWORD = 79  # bytes of a keyword in a PNG
PALETTE_COLOURS = 256
SAVE_OPTIONS: dict[str, dict[str, Any]] = {  # Pillow's, by format: what was decoded shall not be damaged again
    "PNG": {"compress_level": 3},  # a third of the time of Pillow's 6, under a tenth more bytes
    "WEBP": {"lossless": True},
    "JPEG": {"quality": 95, "subsampling": 0},
    "AVIF": {"quality": 100, "subsampling": "4:4:4"},
}

LOSSY = ("AVIF", "JPEG", "WEBP")  # formats that take a quality of 1 to 100

DEEP = ("PNG", "TIFF", "PPM", "JPEG2000")  # formats of 16-bit grey, in Pillow
OPAQUE = ("BMP", "DIB", "GIF", "JPEG", "PPM")  # formats without alpha of 8 bits


def draft_size(container: Container, side: int | None) -> tuple[int, int] | None:
    """Width and height of the picture when its longer side has at most `side` pixels; None without a bound."""
    return None if side is None else _size_within((container.width, container.height), side)


def _size_within(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Width and height, reduced so that the longer one has at most `side` pixels."""
    scale = min(side / max(size), 1)
    width, height = size
    return max(round(width * scale), 1), max(round(height * scale), 1)


def fit_within(image: Image.Image, side: int | None) -> Image.Image:
    """The image, reduced so that its longer side has at most `side` pixels."""
    if side is None or max(image.size) <= side:
        return image
    size = _size_within(image.size, side)
    if image.mode == "I;16":  # which Pillow resizes only as 32-bit integers
        small = image.convert("I").resize(size, Image.Resampling.LANCZOS).convert("I;16")
    else:
        small = image.resize(size, Image.Resampling.LANCZOS)
    small.info = image.info
    return small


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
    image: Image.Image,
    suffix: str,
    quality: int | None = None,
    out: io.BytesIO | None = None,
    on_note: OnNote = log_note,
) -> bytes:
    """The bytes of a picture file, with the picture's metadata as far as the format has a place for it.

    Lossless where the format can be, unless a quality is given; a note where a format has 8 bits and the picture 16,
    or no place for metadata.
    Raises PictureError, also for a transparent picture where the format has no alpha, and UsageError.

    Args:
        out: what is written to, by default a new one; what its `write` raises ends the writing, as a PictureError.
        on_note: is called with each note; see util/notes.py.
    """
    name, options = picture_format(suffix), save_options(suffix, quality)
    if "A" in image.mode and name in OPAQUE:
        if np.asarray(image.getchannel("A")).min() < 255:
            raise PictureError(f"the picture is transparent, and {name} has no room for that; try .png")
        image = image.convert(image.mode.removesuffix("A"))
    if image.mode == "I;16" and name not in DEEP:
        on_note(f"the picture has 16 bits, and {name} 8: the lower ones are lost")
        image = eight_bits(image)
    size = image.height, image.width
    metadata = metadata_for(name, Metadata.of_info(image.info), size, on_note)
    try:
        data = _encode(image, name, metadata, options, io.BytesIO() if out is None else out)
    except MemoryError:
        raise
    except Exception as error:  # "cannot write mode RGBA as JPEG", or a profile that the format can't take
        raise PictureError(f"the picture can't be written as {name}: {error}; try .png") from error
    _note_losses(image, io.BytesIO(data), name, on_note)
    return data


def _note_losses(image: Image.Image, file: io.BytesIO, name: str, on_note: OnNote) -> None:
    """Notes of what the file that was written has less than the picture, by its header."""
    file.seek(0)
    try:
        with Image.open(file, formats=["JPEG" if name == "MPO" else name]) as again:
            size, mode = again.size, again.mode
            transparent = again.has_transparency_data
    except Exception:  # Pillow writes formats that it can't read, such as PDF
        on_note(f"whether {name} holds all of the picture isn't known; .png does")
        return
    if size != image.size:
        on_note(f"{name} holds {size[0]} x {size[1]} pixels: the picture has {image.width} x {image.height}")
    if mode == "P" and image.getcolors(PALETTE_COLOURS) is None:
        on_note(f"{name} holds {PALETTE_COLOURS} colours: the picture's were reduced to them")
    if "A" in image.mode and not transparent:
        on_note(f"{name} has no room for transparency: it is lost")


def _encode(image: Image.Image, name: str, metadata: Metadata, how: dict[str, Any], out: io.BytesIO) -> bytes:
    """The file, written into `out`; `how` are Pillow's options."""
    if name == "TIFF":  # Pillow's writer changes the types and texts of EXIF, and can't compress beside it
        out.write(tiff.build_file(np.asarray(image), metadata))
        return out.getvalue()
    options: dict[str, Any] = {"icc_profile": metadata.icc, "exif": metadata.exif, "xmp": metadata.xmp}
    options = {key: data for key, data in options.items() if data}
    if name == "PNG":
        options["pnginfo"] = _png_info(metadata)
        options.pop("xmp", None)
    elif metadata.comments:
        options["comment"] = joined_comments(metadata)
    if name in ("BMP", "DIB") and (resolution := dpi(metadata)):
        options["dpi"] = resolution
    image.save(out, name, **options, **how)
    finish = {"JPEG": with_jfif_density, "PNG": with_png_chunks}.get(name)
    return finish(out.getvalue(), metadata) if finish else out.getvalue()


def _png_info(metadata: Metadata) -> PngInfo:
    """What Pillow doesn't write into a PNG by itself."""
    chunks = PngInfo()
    if metadata.xmp:
        chunks.add_itxt("XML:com.adobe.xmp", metadata.xmp)
    for keyword, text in unpack_comments(metadata.comments or b"").items():
        chunks.add_text(keyword.encode("latin-1", "replace")[:MAX_KEYWORD], text)
    return chunks
