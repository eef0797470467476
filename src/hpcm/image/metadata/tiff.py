"""TIFF files, whose own directories are their EXIF: read into a block, and written around one.

header │ EXIF block │ strips │ values │ IFD0: the picture's own tags and those of the block
       └ at the offsets that it has by itself, so that whatever it points to stays where it is
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ...format.fields import MAX_METADATA
from . import exif
from .exif import BYTE, LONG, SHORT, Directory, ExifError, Structure
from .kept import CM_IN_METRE, Metadata, dots_per_inch

XMP_TAG, ICC_TAG = 700, 34675
ELSEWHERE = {  # tags that go other ways
    33723: "IPTC",
    34377: "Photoshop resources",
    37724: "Photoshop layers",
    exif.SUB_IFDS: "further pictures (SubIFDs)",
    XMP_TAG: "XMP",
    ICC_TAG: "ICC profile",
}
BELOW: dict[int, tuple[int, ...]] = {0: (exif.EXIF, exif.GPS), exif.EXIF: (exif.INTEROP,)}  # 0: IFD0
NARROW = {16: LONG, 17: 9, 18: 13}  # types of BigTIFF: what they become
POINTERS = (exif.EXIF, exif.GPS, exif.INTEROP)
RATIONAL, UNDEFINED = 5, 7
CM, INCH, NO_UNIT = 3, 2, 1  # of ResolutionUnit
DEFLATE, STRAIGHT_ALPHA = 8, 2
STRIP = 1 << 18  # bytes before compression
MAX_FILE = 1 << 32  # bytes

Value = bytes | list["Tag"]
Tag = tuple[int, int, int, Value]  # tag, type, count, the bytes of its value or the tags of the directory below


def block(data: bytes, at: int | None = None) -> tuple[bytes | None, list[str]]:
    """EXIF of the directory at an offset, by default the first, and the names of what goes other ways or is damaged.

    Raises ExifError.
    """
    structure = Structure(data)
    directory = structure.directory(structure.first if at is None else at)
    names = [ELSEWHERE[entry.tag] for entry in directory.entries if entry.tag in ELSEWHERE]
    tags, damaged = _tags(structure, directory, 0)
    made = laid_out(structure.order, tags) if tags else None
    return made, [*dict.fromkeys(names), *(f"damaged tag {tag}" for tag in damaged)]


def _tags(structure: Structure, directory: Directory, own: int) -> tuple[list[Tag], list[int]]:
    """The tags that an EXIF block has, and the numbers of those that can't be read.

    `own` is the tag that points to the directory; the tree of BELOW, not the file, says how deep this goes.
    """
    tags: dict[int, Tag] = {}
    damaged: list[int] = []
    room = MAX_METADATA
    for entry in directory.entries:
        if entry.tag in tags or (entry.tag in exif.STORAGE and entry.tag != exif.ORIENTATION) or entry.tag in ELSEWHERE:
            continue
        if entry.tag in BELOW.get(own, ()):
            below = structure.below(directory, entry.tag)
            inner, more = _tags(structure, below, entry.tag) if below else ([], [entry.tag])
            tags[entry.tag] = entry.tag, LONG, 1, inner
            damaged += more
        elif (
            entry.tag in POINTERS
            or entry.type not in exif.TYPE_BYTES
            or entry.end > len(structure.data)
            or entry.end - entry.begin > room
        ):
            damaged.append(entry.tag)
        else:
            room -= entry.end - entry.begin
            tags[entry.tag] = narrowed(structure, entry.tag, entry.type, entry.count, entry.begin, entry.end)
    return [tag for tag in tags.values() if tag[3]], damaged


def narrowed(structure: Structure, tag: int, type_: int, count: int, begin: int, end: int) -> Tag:
    """A tag without the types that only BigTIFF has."""
    value = bytes(structure.data[begin:end])
    if type_ in NARROW:
        numbers = struct.unpack(f"{structure.order}{count}Q", value)
        value = struct.pack(f"{structure.order}{count}I", *(number & 0xFFFFFFFF for number in numbers))
    return tag, NARROW.get(type_, type_), count, value


def laid_out(order: str, tags: list[Tag]) -> bytes:
    """A block of these tags, beginning with its header."""
    out = bytearray(b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    _append(out, order, tags)
    return bytes(out)


def _append(out: bytearray, order: str, tags: list[Tag]) -> None:
    """A directory, then its values, then the directories below it."""
    at = len(out) + 2
    out += struct.pack(order + "H", len(tags)) + bytes(12 * len(tags) + 4)
    for i, (tag, type_, count, value) in enumerate(sorted(tags, key=lambda tag: tag[0])):
        if isinstance(value, bytes) and len(value) <= 4:
            slot = value.ljust(4, b"\0")
        else:
            out += bytes(len(out) % 2)
            slot = struct.pack(order + "I", len(out))
            if isinstance(value, bytes):
                out += value
            else:
                _append(out, order, value)
        struct.pack_into(order + "HHI4s", out, at + 12 * i, tag, type_, count, slot)


def resolution(order: str, density: bytes) -> list[Tag]:
    """A density as TIFF has it: per inch if that is a whole number, else per centimetre."""
    x, y, per_metre = struct.unpack(">IIB", density)
    inches = dots_per_inch(x), dots_per_inch(y)
    unit, values = (NO_UNIT, (x, 1, y, 1)) if not per_metre else (CM, (x, CM_IN_METRE, y, CM_IN_METRE))
    if per_metre and inches[0] and inches[1]:
        unit, values = INCH, (inches[0], 1, inches[1], 1)
    return [
        (exif.X_RESOLUTION, RATIONAL, 1, struct.pack(order + "2I", *values[:2])),
        (exif.Y_RESOLUTION, RATIONAL, 1, struct.pack(order + "2I", *values[2:])),
        (exif.RESOLUTION_UNIT, SHORT, 1, struct.pack(order + "H", unit)),
    ]


def file(planes: NDArray[np.uint8] | NDArray[np.uint16], metadata: Metadata) -> bytes:
    """A TIFF file. `planes`: [H, W] grey, [H, W, 2 or 4] with alpha, [H, W, 3]. Raises ExifError."""
    start = exif.block_of(metadata.exif or b"") or b"II*\0\x08\0\0\0"
    order = Structure(start).order
    kept = _entries_of(start) if metadata.exif else []
    out = bytearray(start) + bytes(len(start) % 2)
    own = [*_pixels(out, planes, order), *_profiles(out, metadata, order)]
    if metadata.density and exif.X_RESOLUTION not in {tag for tag, _ in kept}:
        own += [_placed(out, order, *tag) for tag in resolution(order, metadata.density)]
    taken = {tag for tag, _ in own} | exif.STORAGE
    entries = sorted([*own, *((tag, entry) for tag, entry in kept if tag not in taken)])
    struct.pack_into(order + "I", out, 4, len(out))
    out += struct.pack(order + "H", len(entries)) + b"".join(entry for _, entry in entries) + bytes(4)
    if len(out) >= MAX_FILE:
        raise ExifError("a TIFF file has 4 GB at most")
    return bytes(out)


def _entries_of(start: bytes) -> list[tuple[int, bytes]]:
    structure = Structure(start)
    if structure.big:
        raise ExifError("it is a BigTIFF")
    entries = structure.directory(structure.first).entries
    return list({entry.tag: (entry.tag, bytes(start[entry.at : entry.at + 12])) for entry in entries}.values())


def _placed(out: bytearray, order: str, tag: int, type_: int, count: int, value: Value) -> tuple[int, bytes]:
    """A tag's entry; a value that has no room in it goes to the end of the file, at an even place."""
    assert isinstance(value, bytes)
    slot = value.ljust(4, b"\0")
    if len(value) > 4:
        slot = struct.pack(order + "I", len(out))
        out += value + bytes(len(value) % 2)
    return tag, struct.pack(order + "HHI", tag, type_, count) + slot


def _profiles(out: bytearray, metadata: Metadata, order: str) -> Iterator[tuple[int, bytes]]:
    if metadata.xmp:
        yield _placed(out, order, XMP_TAG, BYTE, len(metadata.xmp), metadata.xmp)
    if metadata.icc:
        yield _placed(out, order, ICC_TAG, UNDEFINED, len(metadata.icc), metadata.icc)


def _pixels(out: bytearray, planes: NDArray[np.uint8] | NDArray[np.uint16], order: str) -> list[tuple[int, bytes]]:
    """Appends the strips; the entries that describe them."""
    height, width = planes.shape[:2]
    channels = planes.shape[2] if planes.ndim == 3 else 1
    rows = max(STRIP // (width * channels * planes.itemsize), 1)
    begins, sizes = [], []
    for top in range(0, height, rows):
        strip = planes[top : top + rows]
        data = zlib.compress(strip.astype(strip.dtype.newbyteorder("<" if order == "<" else ">")).tobytes())
        begins.append(len(out))
        sizes.append(len(data))
        out += data + bytes(len(data) % 2)
        if len(out) >= MAX_FILE:
            raise ExifError("a TIFF file has 4 GB at most")

    def numbers(tag: int, type_: int, *values: int) -> tuple[int, bytes]:
        format = f"{order}{len(values)}{'H' if type_ == SHORT else 'I'}"
        return _placed(out, order, tag, type_, len(values), struct.pack(format, *values))

    tags = [
        numbers(256, LONG, width),
        numbers(257, LONG, height),
        numbers(258, SHORT, *(8 * planes.itemsize,) * channels),
        numbers(259, SHORT, DEFLATE),
        numbers(262, SHORT, 2 if channels >= 3 else 1),  # RGB, or grey whose 0 is black
        numbers(273, LONG, *begins),
        numbers(277, SHORT, channels),
        numbers(278, LONG, rows),
        numbers(279, LONG, *sizes),
        numbers(284, SHORT, 1),  # the channels of a pixel lie side by side
    ]
    return [*tags, numbers(338, SHORT, STRAIGHT_ALPHA)] if channels in (2, 4) else tags
