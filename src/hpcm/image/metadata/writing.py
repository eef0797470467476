"""What a picture file of a format can take of the metadata, and lines that tell the rest."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace

from . import exif, tiff
from .exif import PREFIX, ExifError
from .gather import listing
from .kept import COMMENT, METRE, NAMES, PNG_CHUNKS, Metadata, comments_of, dots_per_inch

PLACES = {  # Pillow's name of a format: the fields that it has a place for
    "PNG": {"icc", "exif", "xmp", "comments", *PNG_CHUNKS},
    "JPEG": {"icc", "exif", "xmp", "comments", "density"},
    "WEBP": {"icc", "exif", "xmp"},
    "AVIF": {"icc", "exif", "xmp"},
    "TIFF": {"icc", "exif", "xmp", "density"},
    "GIF": {"comments"},
    "JPEG2000": {"comments"},
    "BMP": {"density"},
    "DIB": {"density"},
}
BY_EXIF = ("WEBP", "AVIF")  # formats that tell a density in EXIF alone
MAX_SEGMENT = 65533  # bytes of a JPEG's
LIMITS = {  # what may be too long for a format, in bytes
    ("JPEG", "exif"): MAX_SEGMENT,
    ("JPEG", "xmp"): MAX_SEGMENT - len(b"http://ns.adobe.com/xap/1.0/\0"),
    ("JPEG", "comments"): MAX_SEGMENT,
    ("JPEG", "icc"): 255 * (MAX_SEGMENT - 14),
    ("JPEG2000", "comments"): 65531,
}
COLOURS = ("gamma", "chromaticities")  # these don't count beside the others
OVER_COLOURS = ("icc", "cicp", "srgb")
JFIF_UNIT = 13  # where a JPEG that begins with JFIF has the unit, and then x and y, of its density
PER_INCH = 1  # of JFIF
PNG_HEADER = 8 + 25  # bytes: signature and IHDR


def written(metadata: Metadata, name: str, size: tuple[int, int]) -> tuple[Metadata, list[str]]:
    """What goes into a file of a format, for a picture of (height, width), and the notes that it takes."""
    places, notes = PLACES.get(name, set()), []
    if metadata.exif:
        try:  # the file may be a stranger's, and the picture a part of it
            metadata = replace(metadata, exif=exif.upright(metadata.exif, 1, size))
        except ExifError as error:
            notes.append(f"the file's EXIF is damaged and not written: {error}")
            metadata = replace(metadata, exif=None)
    if name in BY_EXIF and metadata.density:
        metadata = _with_density(metadata)
    ignored = ["srgb"]  # a picture without a profile is taken for sRGB
    if any(getattr(metadata, field) for field in OVER_COLOURS):
        ignored += COLOURS
    homeless = [field for field in metadata.present if field not in places]
    if lost := [NAMES[field] for field in homeless if field not in ignored]:
        notes.append(f"{name} has no place for the picture's {listing(lost)}")
    for (format_, field), limit in LIMITS.items():
        data = getattr(metadata, field)
        data = comment(metadata) if data and field == "comments" else data
        if name == format_ and data and len(data) > limit:
            notes.append(f"the picture's {NAMES[field]} of {len(data):,} bytes is not written: {name} takes {limit:,}")
            homeless.append(field)
    return replace(metadata, **dict.fromkeys(homeless)), notes


def _with_density(metadata: Metadata) -> Metadata:
    """Among the tags of EXIF, unless it has other ones; then it has its place, too."""
    if metadata.exif is None and metadata.density:
        block = tiff.laid_out("<", tiff.resolution("<", metadata.density))
        return replace(metadata, exif=PREFIX + block, density=None)
    return replace(metadata, density=None) if exif.has(metadata.exif, exif.X_RESOLUTION) else metadata


def comment(metadata: Metadata) -> bytes:
    """All comments as one, for formats without keywords."""
    texts = comments_of(metadata.comments or b"")
    lines = (text if key == COMMENT else f"{key}: {text}" for key, text in texts.items())
    return "\n".join(lines).encode("utf-8", "replace")


def dpi(metadata: Metadata) -> tuple[float, float] | None:
    """Dots per inch; None where only the ratio is known."""
    x, y, per_metre = struct.unpack(">IIB", metadata.density or bytes(9))
    return (dots_per_inch(x) or x / METRE, dots_per_inch(y) or y / METRE) if per_metre else None


def with_jfif_density(data: bytes, metadata: Metadata) -> bytes:
    """A JPEG of Pillow's, which begins with JFIF."""
    x, y, per_metre = struct.unpack(">IIB", metadata.density or bytes(9))
    if data[6:11] != b"JFIF\0" or not x:
        return data
    values = [round(value / METRE) if per_metre else value for value in (x, y)]
    if not 1 <= min(values) <= max(values) < 1 << 16:
        return data
    place = struct.pack(">BHH", PER_INCH * bool(per_metre), *values)
    return data[:JFIF_UNIT] + place + data[JFIF_UNIT + len(place) :]


def with_png_chunks(data: bytes, metadata: Metadata) -> bytes:
    """A PNG with those of fixed length behind its header; Pillow would leave some of them out."""
    chunks = [kind + metadata.present[name] for name, kind in PNG_CHUNKS.items() if name in metadata.present]
    packed = (struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks)
    return data[:PNG_HEADER] + b"".join(packed) + data[PNG_HEADER:]
