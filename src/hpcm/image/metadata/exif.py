"""EXIF, patched where it lies.

An EXIF block is a small TIFF file: a header, then directories of entries of 12 bytes, whose values lie in the entry or
anywhere in the block. Maker's notes hold offsets into the block that only their makers know. So nothing is moved: a
value is changed in its slot, an entry is removed by closing the gap in its directory, and all other bytes, types and
texts stay as they are. Only directories are read and values of known tags, each once, so that the work is linear in
the block, whatever its offsets and counts claim.

    header │ IFD0 ──────────► IFD1 (thumbnail)
             ├─ Exif ─► Interop
             └─ GPS
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

PREFIX = b"Exif\0\0"
HEADERS = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}  # the last two: BigTIFF, of TIFF files alone
TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
BYTE, SHORT, LONG = 1, 3, 4

ORIENTATION, EXIF, GPS, INTEROP = 274, 34665, 34853, 40965
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 282, 283, 296
SUB_IFDS = 330
# Tags of IFD0 that tell how pixels are stored: they would be wrong in the next file. (The Exif directory has none.)
STORAGE = frozenset(
    (
        *(254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, ORIENTATION, 277, 278, 279, 280, 281, 284),
        *(288, 289, 290, 291, 292, 293, 317, 320, 321, 322, 323, 324, 325, 326, 327, 328, SUB_IFDS, 338, 339),
        *(340, 341, 342, 343, 344, 345, 346, 347, *range(512, 522), 529, 530, 531, 532, 559),
    )
)
WIDTH, HEIGHT = (0xA002, 0x1001), (0xA003, 0x1002)  # of the picture: in the Exif and in the Interop directory
SIDEWAYS = ((X_RESOLUTION, Y_RESOLUTION), (0xA20E, 0xA20F))  # change places at a quarter turn; the latter: focal plane
SUBJECT = (0x9214, 0xA214)  # a point of the picture as it was stored: x, y, and perhaps width and height
QUARTER_TURNS = (5, 6, 7, 8)  # orientations
THUMBNAIL, THUMBNAIL_BYTES = (513, 273), (514, 279)

Range = tuple[int, int]  # begin, end


class ExifError(ValueError):
    """The block has no directory that can be read."""


@dataclass(frozen=True)
class Entry:
    """One tag of a directory; its value may lie outside of the block."""

    at: int  # where the entry lies
    tag: int
    type: int
    count: int
    begin: int  # where its value lies
    end: int


@dataclass
class Directory:
    begin: int
    end: int
    entries: list[Entry]
    next: int  # offset of the next directory, 0 if there is none


class Structure:
    """A block, or a TIFF file, as directories. Raises ExifError where the header is none."""

    def __init__(self, data: bytes | bytearray) -> None:
        self.data = data
        header = bytes(data[:4])
        if header not in HEADERS:
            raise ExifError(f"it begins with {header!r}")
        self.order = HEADERS[header]
        self.big = b"+" in header
        self.count_format = self.order + ("Q" if self.big else "H")
        self.entry_format = self.order + ("HHQ" if self.big else "HHI")
        self.offset_format = self.order + ("Q" if self.big else "I")
        self.first = self.unpack(self.offset_format, 8 if self.big else 4)

    def unpack(self, format: str, at: int) -> int:
        """One number. Raises ExifError beyond the end."""
        try:
            return int(struct.unpack_from(format, self.data, at)[0])
        except struct.error:
            raise ExifError("it is cut short") from None

    def directory(self, at: int) -> Directory:
        """The directory at an offset. Raises ExifError where it doesn't lie inside the block."""
        count = self.unpack(self.count_format, at) if at >= 8 else 0
        head, slot = struct.calcsize(self.entry_format), struct.calcsize(self.offset_format)
        begin, size = at + struct.calcsize(self.count_format), head + slot
        end = begin + count * size
        if not 1 <= count < 1 << 16 or end > len(self.data):
            raise ExifError(f"it has no directory at {at}")
        entries = [self._entry(place, head, slot) for place in range(begin, end, size)]
        whole = end + slot <= len(self.data)  # some writers leave the last directory's pointer out
        return Directory(at, end + slot * whole, entries, self.unpack(self.offset_format, end) if whole else 0)

    def _entry(self, at: int, head: int, slot: int) -> Entry:
        tag, type_, count = struct.unpack_from(self.entry_format, self.data, at)
        size = TYPE_BYTES.get(type_, 0) * count
        begin = at + head if size <= slot else self.unpack(self.offset_format, at + head)
        return Entry(at, tag, type_, count, begin, begin + size)

    def below(self, directory: Directory, tag: int) -> Directory | None:
        """The directory that a tag points to, if there is one."""
        pointers = [self.number(entry) for entry in directory.entries if entry.tag == tag]
        try:
            return self.directory(pointers[0] or 0) if pointers else None
        except ExifError:
            return None

    def number(self, entry: Entry) -> int | None:
        """The first value, if it is a whole number inside the block."""
        format = {BYTE: "B", SHORT: "H", LONG: "I", 13: "I", 16: "Q", 18: "Q"}.get(entry.type)
        if format is None or not entry.count or entry.end > len(self.data):
            return None
        return self.unpack(self.order + format, entry.begin)


def block_of(exif: bytes) -> bytes:
    """Without what stands before the header; some writers put it twice."""
    for _ in range(2):
        exif = exif.removeprefix(PREFIX)
    return exif


def orientation_of(exif: bytes) -> int | None:
    """What IFD0 tells, 1 to 8. Raises ExifError."""
    structure = Structure(block_of(exif))
    for entry in structure.directory(structure.first).entries:
        if entry.tag == ORIENTATION:
            found = structure.number(entry)
            return found if found in range(1, 9) else None
    return None


def has(exif: bytes | None, tag: int) -> bool:
    """Whether IFD0 has a tag."""
    try:
        structure = Structure(block_of(exif or b""))
        return any(entry.tag == tag for entry in structure.directory(structure.first).entries)
    except ExifError:
        return False


def upright(exif: bytes, orientation: int, size: tuple[int, int]) -> bytes | None:
    """For a picture that was turned: without orientation, storage tags and thumbnail; None if nothing else is left.

    Args:
        orientation: 1 to 8, what was applied to the pixels.
        size: height and width of the upright picture.

    Raises ExifError.
    """
    patch = _Patch(block_of(exif))
    patch.move_subject(orientation, size)
    if orientation in QUARTER_TURNS:
        for directory in patch.directories:
            for one, other in SIDEWAYS:
                patch.exchange(directory, one, other)
    patch.set_size(size)
    left = patch.remove_storage()
    patch.remove_thumbnail()
    return PREFIX + bytes(patch.data) if left else None


class _Patch:
    """A block that is changed in place."""

    def __init__(self, block: bytes) -> None:
        self.data = bytearray(block)
        self.structure = Structure(self.data)
        if self.structure.big:
            raise ExifError("it is a BigTIFF")
        self.main = self.structure.directory(self.structure.first)
        inner = self.structure.below(self.main, EXIF)
        found = [inner, self.structure.below(self.main, GPS)]
        found.append(self.structure.below(inner, INTEROP) if inner else None)
        self.directories = [self.main]
        for directory in found:  # one that lies upon another, which only a forger writes, is left alone
            if directory and all(directory.end <= d.begin or d.end <= directory.begin for d in self.directories):
                self.directories.append(directory)

    def pack(self, format: str, at: int, *values: int) -> None:
        struct.pack_into(self.structure.order + format, self.data, at, *values)

    def set_size(self, size: tuple[int, int]) -> None:
        for entry in (entry for directory in self.directories for entry in directory.entries):
            if entry.tag in WIDTH + HEIGHT:
                value = size[0] if entry.tag in HEIGHT else size[1]
                if entry.type == SHORT and value < 1 << 16:
                    self.pack("HIHH", entry.at + 2, SHORT, 1, value, 0)
                else:
                    self.pack("HII", entry.at + 2, LONG, 1, value)

    def exchange(self, directory: Directory, one: int, other: int) -> None:
        """Two tags of a directory exchange their types and values."""
        places = [[entry.at + 2 for entry in directory.entries if entry.tag == tag] for tag in (one, other)]
        if all(places):
            a, b = (slice(place[0], place[0] + 10) for place in places)
            self.data[a], self.data[b] = self.data[b], self.data[a]

    def move_subject(self, orientation: int, size: tuple[int, int]) -> None:
        """Turns the point, and the area around it, that the picture is about."""
        for entry in (entry for directory in self.directories for entry in directory.entries):
            if entry.tag in SUBJECT and entry.type == SHORT and 2 <= entry.count <= 4 and entry.end <= len(self.data):
                format = f"{self.structure.order}{entry.count}H"
                x, y, *area = struct.unpack_from(format, self.data, entry.begin)
                x, y = turned_point(x, y, orientation, size)
                area = area[::-1] if orientation in QUARTER_TURNS else area
                self.pack(f"{entry.count}H", entry.begin, min(x, 65535), min(y, 65535), *area)

    def remove_storage(self) -> bool:
        """Whether IFD0 has other tags left."""
        begin, room = self.main.begin + 2, self.main.end - self.main.begin - 2
        kept = [bytes(self.data[e.at : e.at + 12]) for e in self.main.entries if e.tag not in STORAGE]
        self.data[begin : begin + room] = bytes(room)  # no next directory, either
        self.data[begin : begin + 12 * len(kept)] = b"".join(kept)
        self.pack("H", self.main.begin, len(kept))
        return bool(kept)

    def remove_thumbnail(self) -> None:
        """Its bytes become 0, or fall away at the end of the block."""
        try:
            thumbnail = self.structure.directory(self.main.next)
        except ExifError:
            return
        kept = merged([(0, 8), *self._ranges(self.directories)])
        for begin, end in merged(self._thumbnail_ranges(thumbnail)):
            if not overlaps(kept, begin, end):
                self.data[begin:end] = bytes(end - begin)
        last = max(end for _, end in kept)
        self.data[last:] = self.data[last:].rstrip(b"\0")

    def _ranges(self, directories: Iterable[Directory]) -> Iterator[Range]:
        """Where directories and their values lie, as far as inside the block."""
        for directory in directories:
            yield directory.begin, directory.end
            for entry in directory.entries:
                if entry.begin < entry.end <= len(self.data):
                    yield entry.begin, entry.end

    def _thumbnail_ranges(self, directory: Directory) -> Iterator[Range]:
        yield from self._ranges([directory])
        numbers = {entry.tag: self.structure.number(entry) or 0 for entry in directory.entries}
        for begin, size in zip(THUMBNAIL, THUMBNAIL_BYTES, strict=True):
            if numbers.get(begin) and numbers[begin] + numbers.get(size, 0) <= len(self.data):
                yield numbers[begin], numbers[begin] + numbers.get(size, 0)


def turned_point(x: int, y: int, orientation: int, size: tuple[int, int]) -> tuple[int, int]:
    """Where a pixel of the stored picture lies in the upright one of (height, width)."""
    x, y = (y, x) if orientation in QUARTER_TURNS else (x, y)
    mirrored_x, mirrored_y = orientation in (2, 3, 6, 7), orientation in (3, 4, 7, 8)
    x = max(size[1] - 1 - x, 0) if mirrored_x else x
    return x, max(size[0] - 1 - y, 0) if mirrored_y else y


def merged(ranges: Iterable[Range]) -> list[Range]:
    """Sorted, and none touches another."""
    found: list[Range] = []
    for begin, end in sorted(ranges):
        if found and begin <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((begin, end))
    return found


def overlaps(ranges: list[Range], begin: int, end: int) -> bool:
    """Whether a range lies upon one of those, which are merged."""
    at = bisect_right(ranges, (begin, end))
    return (at > 0 and ranges[at - 1][1] > begin) or (at < len(ranges) and ranges[at][0] < end)
