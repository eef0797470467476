"""Metadata that are left out because somebody wants them left out.

"all"   everything but what the colours need: the ICC profile, cICP, gAMA, cHRM, sRGB, mDCV, cLLI; of the density
        the ratio of a pixel's sides where they differ
"gps"   the place alone: the GPS directory of EXIF, coordinates and names of places in XMP, coordinates in a PNG's
        texts. What can't be read may hold it, so it goes as a whole
"""

from __future__ import annotations

import math
import struct
from dataclasses import fields, replace
from typing import TypeVar

from ...util.notes import OnNote
from . import exif, xmp
from .exif import ExifError
from .record import PNG_CHUNKS, Metadata, pack_comments, pack_density, unpack_comments
from .xmp import XMPError

COLOURS = {"icc", *PNG_CHUNKS} - {"density"}  # fields without which a picture looks different
LOOK = ("ICC profile", "damaged ICC profile", "HDR", "colour space", "viewing light", "crop", "text upon the picture")

AnyMetadata = TypeVar("AnyMetadata", bound=Metadata)


def stripped(metadata: AnyMetadata, strip: str | None, on_note: OnNote) -> AnyMetadata:
    """The metadata without what `strip` names; None takes nothing away."""
    if strip == "all":
        return _without_all(metadata)
    return _without_place(metadata, on_note) if strip == "gps" else metadata


def concerns_look(name: str) -> bool:
    """Whether a picture without what a note names looks different."""
    return name.removeprefix("second ").startswith(LOOK)


def _without_all(metadata: AnyMetadata) -> AnyMetadata:
    others = [field.name for field in fields(Metadata) if field.name not in COLOURS]
    return replace(metadata, **{**dict.fromkeys(others), "density": _aspect(metadata.density)})


def _aspect(density: bytes | None) -> bytes | None:
    """The ratio of a pixel's sides; None for square ones."""
    x, y, _ = struct.unpack(">IIB", density or bytes(9))
    divisor = math.gcd(x, y)
    return pack_density(x // divisor, y // divisor, 0) if x != y else None


def _without_place(metadata: AnyMetadata, on_note: OnNote) -> AnyMetadata:
    block, packet = metadata.exif, metadata.xmp
    try:
        block = exif.without_place(block) if block else None
    except ExifError as error:
        on_note(f"the picture's EXIF is not kept, because the place can't be taken out of it: {error}")
        block = None
    try:
        packet = xmp.without_place(packet) if packet else None
    except XMPError as error:
        on_note(f"the picture's XMP is not kept, because it can't be read and may tell the place: {error}")
        packet = None
    texts = unpack_comments(metadata.comments or b"").items()
    comments = pack_comments([(key, text) for key, text in texts if not _is_coordinate(key)])
    return replace(metadata, exif=block, xmp=packet, comments=comments)


def _is_coordinate(keyword: str) -> bool:
    """Whether the keyword of a text is that of a coordinate, as ImageMagick writes EXIF: exif:GPSLatitude."""
    return xmp.COORDINATES.search(keyword.rpartition(":")[2]) is not None
