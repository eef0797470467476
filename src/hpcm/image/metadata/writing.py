"""The metadata that a picture file of a format has a place for, and notes of the rest."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import replace

from ...util.notes import OnNote
from ..png import chunk
from . import exif, tiff, xmp
from .exif import PREFIX, ExifError
from .gather import listing
from .jpeg import ICC_HEAD, XMP_HEAD
from .record import BLOCKS, COMMENT, INCHES_PER_METRE, NAMES, PNG_CHUNKS, Metadata, dots_per_inch, unpack_comments
from .xmp import XMPError

PLACES = {  # Pillow's name of a format: the fields that it has a place for
    "PNG": {*BLOCKS, "comments", *PNG_CHUNKS},
    "JPEG": {*BLOCKS, "comments", "density"},
    "WEBP": {*BLOCKS},
    "AVIF": {*BLOCKS},
    "TIFF": {*BLOCKS, "density"},
    "GIF": {"comments"},
    "JPEG2000": {"comments"},
    "BMP": {"density"},
    "DIB": {"density"},
}
DENSITY_IN_EXIF = ("WEBP", "AVIF")  # formats that have no other place for it
MAX_SEGMENT = 65533  # bytes of a JPEG's
LIMITS = {  # format: the most bytes of a field
    "JPEG": {
        "exif": MAX_SEGMENT,
        "xmp": MAX_SEGMENT - len(XMP_HEAD),
        "comments": MAX_SEGMENT,
        "icc": 255 * (MAX_SEGMENT - ICC_HEAD),
    },
    "JPEG2000": {"comments": 65531},
}
COLOURS = ("gamma", "chromaticities")  # readers ignore these beside one of the next
OVERRIDING_COLOURS = ("icc", "cicp", "srgb")
JFIF_UNIT = 13  # where a JPEG that begins with JFIF has the unit, and then x and y, of its density
JFIF_PER_INCH = 1
PNG_HEADER = 8 + 25  # bytes: signature and IHDR


def metadata_for(format: str, metadata: Metadata, size: tuple[int, int], on_note: OnNote) -> Metadata:
    """The metadata that go into a file of a format, for a picture of (height, width)."""
    if metadata.exif:
        metadata = replace(metadata, exif=_exif_for(metadata.exif, size, on_note))
    if format in DENSITY_IN_EXIF and metadata.density:
        metadata = _with_density_in_exif(metadata, metadata.density)
    metadata = _drop_homeless(format, metadata, on_note)
    return _drop_too_long(format, metadata, on_note)


def _exif_for(block: bytes, size: tuple[int, int], on_note: OnNote) -> bytes | None:
    """EXIF that fits a picture of this size: it may come from a file by others, and the picture be a part of it."""
    try:
        return exif.make_upright(block, 1, size)
    except ExifError as error:
        on_note(f"the file's EXIF is damaged and not written: {error}")
        return None


def _with_density_in_exif(metadata: Metadata, density: bytes) -> Metadata:
    """With the density as EXIF if there is none, and without it if EXIF has one. Else nothing has a place for it."""
    if metadata.exif is None:
        block = tiff.build_block("<", tiff.resolution_tags("<", density))
        return replace(metadata, exif=PREFIX + block, density=None)
    return replace(metadata, density=None) if exif.has_tag(metadata.exif, exif.X_RESOLUTION) else metadata


def _drop_homeless(format: str, metadata: Metadata, on_note: OnNote) -> Metadata:
    """Without what the format has no place for."""
    homeless = [field for field in metadata.present if field not in PLACES.get(format, ())]
    needless = ["srgb"]  # a picture without a profile is taken for sRGB
    if any(getattr(metadata, field) for field in OVERRIDING_COLOURS):
        needless += COLOURS
    if lost := [NAMES[field] for field in homeless if field not in needless]:
        on_note(f"{format} has no place for the picture's {listing(lost)}")
    return _without(metadata, homeless)


def _drop_too_long(format: str, metadata: Metadata, on_note: OnNote) -> Metadata:
    """Without what is too long for the format."""
    too_long = []
    for field, limit in LIMITS.get(format, {}).items():
        data = joined_comments(metadata) if field == "comments" else getattr(metadata, field)
        size = len(data or b"")
        if size > limit:
            on_note(f"the picture's {NAMES[field]} of {size:,} bytes is not written: {format} takes {limit:,}")
            too_long.append(field)
    return _without(metadata, too_long)


def announcing(metadata: Metadata, size: int, on_note: OnNote) -> Metadata:
    """The metadata of a JPEG with XMP that announces a gain map, whose own JPEG has so many bytes.

    Where there is no room for that, ISO 21496-1 and MPF alone announce it, with a note.
    """
    try:
        packet = xmp.announce_gain_map(metadata.xmp, size)
        limit = LIMITS["JPEG"]["xmp"]
        if len(packet) <= limit:
            return replace(metadata, xmp=packet)
        reason = f"it would take {len(packet):,} bytes, and JPEG takes {limit:,}"
    except XMPError as error:
        reason = f"it can't be read: {error}"
    on_note(
        f"the picture's XMP doesn't tell of its HDR gain map, which readers of ISO 21496-1 alone will see: {reason}"
    )
    return metadata


def _without(metadata: Metadata, fields: Iterable[str]) -> Metadata:
    return replace(metadata, **dict.fromkeys(fields))


def joined_comments(metadata: Metadata) -> bytes:
    """All comments as one, for formats without keywords."""
    texts = unpack_comments(metadata.comments or b"")
    lines = (text if key == COMMENT else f"{key}: {text}" for key, text in texts.items())
    return "\n".join(lines).encode("utf-8", "replace")


def dpi(metadata: Metadata) -> tuple[float, float] | None:
    """Dots per inch; None where only the ratio is known."""
    x, y, per_metre = struct.unpack(">IIB", metadata.density or bytes(9))
    return (dots_per_inch(x) or x / INCHES_PER_METRE, dots_per_inch(y) or y / INCHES_PER_METRE) if per_metre else None


def with_jfif_density(data: bytes, metadata: Metadata) -> bytes:
    """A JPEG of Pillow's, which begins with JFIF, with the density there."""
    x, y, per_metre = struct.unpack(">IIB", metadata.density or bytes(9))
    if data[6:11] != b"JFIF\0" or not x:
        return data
    values = [round(value / INCHES_PER_METRE) if per_metre else value for value in (x, y)]
    if not 1 <= min(values) <= max(values) < 1 << 16:
        return data
    density = struct.pack(">BHH", JFIF_PER_INCH if per_metre else 0, *values)
    return data[:JFIF_UNIT] + density + data[JFIF_UNIT + len(density) :]


def with_png_chunks(data: bytes, metadata: Metadata) -> bytes:
    """A PNG with chunks of fixed length after its header; Pillow would leave some of them out."""
    present = metadata.present
    chunks = b"".join(chunk(kind, present[field]) for field, kind in PNG_CHUNKS.items() if field in present)
    return data[:PNG_HEADER] + chunks + data[PNG_HEADER:]
