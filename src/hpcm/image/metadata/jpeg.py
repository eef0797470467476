"""The segments of a JPEG, and of the codestream of a JPEG 2000."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from .exif import HEADERS, PREFIX
from .pieces import (
    COMMENT,
    DAMAGED_ICC,
    EXIF,
    ICC,
    IPTC,
    IPTC_RESOURCE,
    ISO_GAIN_MAP,
    JUMBF,
    PHOTOSHOP,
    XMP,
    Piece,
    printable,
    trailing_pieces,
)
from .xmp import EXTENDED_NAME, GAIN_MAP_NAME

SOI, EOI, TEM, COM = 0xD8, 0xD9, 0x01, 0xFE
MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")  # in coded data a byte FF is followed by 00; D0 to D7 restart
APPS = range(0xE0, 0xF0)
XMP_HEAD = b"http://ns.adobe.com/xap/1.0/\0"
APP_NAMES = {  # (number of APPn, how it begins): its name, None for structure
    (0, b"JFIF\0"): None,
    (0, b"JFXX\0"): None,  # a thumbnail
    (1, PREFIX): EXIF,
    (1, XMP_HEAD): XMP,
    (1, b"http://ns.adobe.com/xmp/extension/\0"): EXTENDED_NAME,
    (2, b"ICC_PROFILE\0"): ICC,
    (2, b"MPF\0"): None,  # the offsets of the pictures that follow
    (2, b"FPXR\0"): "FlashPix",
    (2, ISO_GAIN_MAP): GAIN_MAP_NAME,
    (11, b"JP"): JUMBF,
    (14, b"Adobe"): None,  # how colours are coded
}
PHOTOSHOP_HEAD = b"Photoshop 3.0\0"
JP2_COMMENT, JP2_TILE_PART, JP2_END = 0xFF64, 0xFF90, b"\xff\xd9"
ICC_HEAD = 14  # bytes before a part of a profile; the last two: its number, from 1, and how many there are


def pieces(data: bytes) -> Iterator[Piece]:
    """The pieces of a JPEG. EXIF and an ICC profile may be split over several segments; here each is one piece."""
    exif_blocks: list[bytearray] = []  # bytearrays grow in linear time
    profile_parts: list[bytes] = []
    for piece in segments(data):
        if piece.name == EXIF:
            body = piece.data.removeprefix(PREFIX)
            is_continuation = exif_blocks and (body[:4] not in HEADERS or exif_blocks[-1] == PREFIX)
            if is_continuation:
                exif_blocks[-1] += body
            else:
                exif_blocks.append(bytearray(piece.data))
        elif piece.name == ICC:
            profile_parts.append(piece.data)
        else:
            yield piece
    yield from (Piece(EXIF, bytes(block)) for block in exif_blocks)
    if profile_parts:
        yield join_profile(sorted(profile_parts))


def join_profile(parts: list[bytes]) -> Piece:
    """An ICC profile, from the bodies of its segments in their order."""
    numbers = [part[ICC_HEAD - 2 : ICC_HEAD] for part in parts]
    if numbers != [bytes([i, len(parts) & 255]) for i in range(1, len(parts[:255]) + 1)]:
        return Piece(DAMAGED_ICC)
    return Piece(ICC, b"".join(part[ICC_HEAD:] for part in parts))


def segments(data: bytes) -> Iterator[Piece]:
    """The comments and application segments, one by one, and what follows the end of the picture."""
    for kind, begin, end in walk(data):
        if kind == EOI:
            yield from trailing_pieces(data[end:])
        elif kind == COM:
            yield Piece(COMMENT, data[begin:end])
        elif kind in APPS:
            yield from app_pieces(kind - APPS[0], data[begin:end])


def walk(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Each segment: its marker's number, and where its data begin and end. The last one is EOI, the end of the picture.

    Raises struct.error where the file is cut short.
    """
    at = 2
    while marker := MARKER.search(data, at):
        at, kind = marker.end(), marker[0][-1]
        if kind == EOI:
            yield kind, at, at
            return
        if kind in (SOI, TEM):  # markers without a length
            continue
        (size,) = struct.unpack_from(">H", data, at)
        yield kind, at + 2, at + size
        at += max(size, 2)


def app_pieces(number: int, body: bytes) -> Iterator[Piece]:
    """What the segment APPn holds."""
    for (app, head), name in APP_NAMES.items():
        if number == app and body.startswith(head):
            if name:
                yield Piece(name, body)
            return
    if number == 13 and body.startswith(PHOTOSHOP_HEAD):
        yield from photoshop_pieces(body[len(PHOTOSHOP_HEAD) :])
        return
    identifier = body.partition(b"\0")[0]
    yield Piece(f"segment APP{number}" + (f" ({printable(identifier)})" if identifier else ""))


def photoshop_pieces(body: bytes) -> Iterator[Piece]:
    """Resources: "8BIM", number, a name of even length with its own, data of even length."""
    at, names = 0, []
    while body[at : at + 4] == b"8BIM" and at + 12 <= len(body):
        (number,) = struct.unpack_from(">H", body, at + 4)
        at += 6 + (body[at + 6] + 2 & ~1)
        if at + 4 > len(body):
            break
        (size,) = struct.unpack_from(">I", body, at)
        at += 4 + size + size % 2
        names.append(IPTC if number == IPTC_RESOURCE else PHOTOSHOP)
    yield from map(Piece, dict.fromkeys(names or [PHOTOSHOP]))


def codestream(data: bytes) -> Iterator[Piece]:
    """Comments in the main header of a JPEG 2000, and what follows its end."""
    at = 2
    while at + 4 <= len(data):
        kind, size = struct.unpack_from(">HH", data, at)
        if kind == JP2_TILE_PART or size < 2:
            # In coded data a byte FF is followed by less than 90, so the first FF D9 is the end.
            yield from trailing_pieces(data[at:].partition(JP2_END)[2])
            return
        if kind == JP2_COMMENT:
            yield Piece(COMMENT, data[at + 6 : at + 2 + size])
        at += 2 + size
