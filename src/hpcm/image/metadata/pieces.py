"""What a picture file has besides its pixels, as a list of pieces, and the names that file formats share."""

from __future__ import annotations

from typing import NamedTuple

from .record import NAMES
from .xmp import GAIN_MAP_NAME, VIDEO_NAME

EXIF, XMP, ICC, COMMENT = NAMES["exif"], NAMES["xmp"], NAMES["icc"], NAMES["comments"]
IPTC, PHOTOSHOP = "IPTC", "Photoshop resources"
JUMBF = "content credentials (JUMBF)"
MORE_PICTURES = "further pictures behind its end"
DAMAGED_ICC = "damaged ICC profile"
IPTC_RESOURCE = 0x0404  # its number among the resources of Photoshop
ISO_GAIN_MAP = b"urn:iso:std:iso:ts:21496:-1"
GAIN_MAP_MARKS = (b"http://ns.adobe.com/hdr-gain-map/", ISO_GAIN_MAP, b"http://ns.apple.com/HDRGainMap/")
PICTURE_SIGNATURES = (b"\xff\xd8\xff", *(b"P%d\n" % kind for kind in range(1, 8)))  # JPEG and PNM, which may be joined


class Piece(NamedTuple):
    """One segment, chunk, block or box of a picture file."""

    name: str  # in notes
    data: bytes = b""
    keyword: str = ""  # of a comment in a PNG


def printable(identifier: bytes) -> str:
    """The first 32 bytes of an identifier; "_" stands for what isn't printable ASCII."""
    return "".join(chr(c) if 32 < c < 127 else "_" for c in identifier[:32])


def trailing_pieces(data: bytes) -> list[Piece]:
    """What follows the end of the picture: other pictures, a video, or unknown data. Zeros are padding."""
    if not data.strip(b"\0"):
        return []
    names = []
    if any(mark in data for mark in GAIN_MAP_MARKS):
        names.append(GAIN_MAP_NAME)
    elif data.startswith(PICTURE_SIGNATURES):
        names.append(MORE_PICTURES)
    if b"ftyp" in data:  # the first box of an MP4
        names.append(VIDEO_NAME)
    return [Piece(name) for name in names or [f"data behind its end ({len(data):,} bytes)"]]
