"""What a picture file has besides its pixels, piece by piece, and the names that its families share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .kept import NAMES
from .xmp import GAIN_MAP_NAME, VIDEO_NAME

EXIF, XMP, ICC, COMMENT = NAMES["exif"], NAMES["xmp"], NAMES["icc"], NAMES["comments"]
IPTC, PHOTOSHOP = "IPTC", "Photoshop resources"
JUMBF = "content credentials (JUMBF)"
MORE_PICTURES = "further pictures behind its end"
PICTURES = (b"\xff\xd8\xff", *(b"P%d\n" % kind for kind in range(1, 8)))  # how those begin that follow one another
DAMAGED_ICC = "damaged ICC profile"
ISO_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1"
GAIN_MAP_MARKS = (b"http://ns.adobe.com/hdr-gain-map/", ISO_GAIN_MAP, b"http://ns.apple.com/HDRGainMap/")
IPTC_RESOURCE = 0x0404  # among the resources of Photoshop


class Piece(NamedTuple):
    name: str
    data: bytes = b""
    keyword: str = ""  # of a comment in a PNG


def shown(identifier: bytes) -> str:
    """An identifier as it can stand in a message."""
    return "".join(chr(c) if 32 < c < 127 else "_" for c in identifier[:32])


def behind(data: bytes) -> Iterator[Piece]:
    """What lies behind the end of the picture: other pictures, a film, or something else; zeros are padding."""
    if not data.strip(b"\0"):
        return
    known = False
    if any(mark in data for mark in GAIN_MAP_MARKS):
        known = True
        yield Piece(GAIN_MAP_NAME)
    elif data.startswith(PICTURES):
        known = True
        yield Piece(MORE_PICTURES)
    if b"ftyp" in data:
        known = True
        yield Piece(VIDEO_NAME)
    if not known:
        yield Piece(f"data behind its end ({len(data):,} bytes)")
