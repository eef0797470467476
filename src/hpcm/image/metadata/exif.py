"""EXIF, patched in place.

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
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

PREFIX = b"Exif\0\0"
HEADERS = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}  # the last two: BigTIFF, of TIFF files alone
TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
BYTE, SHORT, LONG = 1, 3, 4

ORIENTATION, EXIF, GPS, INTEROP = 274, 34665, 34853, 40965
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 282, 283, 296
SUB_IFDS = 330
XMP_TAG, IPTC_TAG, PHOTOSHOP_TAG = 700, 33723, 34377
COLOUR_SPACE, INTEROP_INDEX = 0xA001, 1  # in the Exif and in the Interop directory
SRGB, ADOBE_RGB = 1, 2  # of COLOUR_SPACE
SRGB_INDEX, ADOBE_INDEX = b"R98\0", b"R03\0"  # of INTEROP_INDEX
# Tags of IFD0 that describe how pixels are stored: they would be wrong in the next file. (The Exif directory has none.)
STORAGE = frozenset(
    (
        *(254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, ORIENTATION, 277, 278, 279, 280, 281, 284),
        *(288, 289, 290, 291, 292, 293, 317, 320, 321, 322, 323, 324, 325, 326, 327, 328, SUB_IFDS, 338, 339),
        *(340, 341, 342, 343, 344, 345, 346, 347, *range(512, 522), 529, 530, 531, 532, 559),
    )
)
WIDTH, HEIGHT = (0xA002, 0x1001), (0xA003, 0x1002)  # of the picture: in the Exif and in the Interop directory
SWAPPED = (
    (X_RESOLUTION, Y_RESOLUTION),
    (0xA20E, 0xA20F),
)  # x and y change places at a quarter turn; the latter: of the focal plane
SUBJECT = (0x9214, 0xA214)  # a point of the picture as it was stored: x, y, and perhaps width and height
QUARTER_TURNS = (5, 6, 7, 8)  # orientations
THUMBNAIL, THUMBNAIL_BYTES = (513, 273), (514, 279)
GEOTIFF = (33550, 33922, 34264, 34735, 34736, 34737)  # which place of a map a pixel is
PLACE = (GPS, XMP_TAG, IPTC_TAG, PHOTOSHOP_TAG, *GEOTIFF)  # what tells the place, or may repeat it

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


def strip_prefix(exif: bytes) -> bytes:
    """The block without the prefix, which some writers put twice."""
    for _ in range(2):
        exif = exif.removeprefix(PREFIX)
    return exif


def orientation_of(exif: bytes) -> int | None:
    """The orientation in IFD0, 1 to 8; None if there is none. Raises ExifError."""
    structure = Structure(strip_prefix(exif))
    for entry in structure.directory(structure.first).entries:
        if entry.tag == ORIENTATION:
            value = structure.number(entry)
            return value if value in range(1, 9) else None
    return None


def has_tag(exif: bytes | None, tag: int) -> bool:
    """Whether IFD0 has a tag."""
    try:
        structure = Structure(strip_prefix(exif or b""))
        return any(entry.tag == tag for entry in structure.directory(structure.first).entries)
    except ExifError:
        return False


def make_upright(exif: bytes, orientation: int, size: tuple[int, int]) -> bytes | None:
    """EXIF of a picture that was turned: without orientation, storage tags and thumbnail; None if nothing else is left.

    Args:
        orientation: 1 to 8, which was applied to the pixels.
        size: height and width of the upright picture.

    Raises ExifError.
    """
    patch = _Patch(strip_prefix(exif))
    patch.move_subject(orientation, size)
    if orientation in QUARTER_TURNS:
        for directory in patch.directories:
            for one, other in SWAPPED:
                patch.swap(directory, one, other)
    patch.set_size(size)
    has_other_tags = patch.remove_storage()
    patch.remove_thumbnail()
    return PREFIX + bytes(patch.data) if has_other_tags else None


def without_place(exif: bytes) -> bytes | None:
    """EXIF without the place where the picture was taken; None if nothing else is left.

    The GPS directory goes with all its values, whose bytes become zeros, or go too where they are the last ones. So do
    the tags of GeoTIFF; and XMP, IPTC and Photoshop's resources, which may repeat the place. Maker's notes stay: only
    makers can read them.

    Raises ExifError where the place can't be taken out: it shares bytes with other tags, or can't be read.
    """
    patch = _Patch(strip_prefix(exif))
    has_other_tags = patch.remove_place()
    return PREFIX + bytes(patch.data) if has_other_tags else None


def has_other_colours(exif: bytes) -> bool:
    """Whether EXIF says that the colours are those of Adobe RGB. Cameras write that instead of an ICC profile."""
    try:
        patch = _Patch(strip_prefix(exif))
    except ExifError:
        return False
    spaces = [patch.structure.number(entry) for entry in patch.entries if entry.tag == COLOUR_SPACE]
    return ADOBE_RGB in spaces or any(patch.value(entry) == ADOBE_INDEX for entry in patch.interop_indices)


def mark_srgb(exif: bytes) -> bytes:
    """EXIF that says, where it names the colour space, that it is sRGB. Raises ExifError."""
    patch = _Patch(strip_prefix(exif))
    for entry in patch.entries:
        if entry.tag == COLOUR_SPACE:
            patch.pack("HIHH", entry.at + 2, SHORT, 1, SRGB, 0)
    for entry in patch.interop_indices:
        patch.data[entry.begin : entry.end] = SRGB_INDEX
    return PREFIX + bytes(patch.data)


class _Patch:
    """A block that is changed in place."""

    def __init__(self, block: bytes) -> None:
        self.data = bytearray(block)
        self.structure = Structure(self.data)
        if self.structure.big:
            raise ExifError("it is a BigTIFF")
        self.main = self.structure.directory(self.structure.first)
        exif = self.structure.below(self.main, EXIF)
        gps = self.structure.below(self.main, GPS)
        self.interop = self.structure.below(exif, INTEROP) if exif else None
        self.directories = [self.main]
        for directory in (exif, gps, self.interop):
            if directory and self._is_apart(directory):
                self.directories.append(directory)

    def _is_apart(self, directory: Directory) -> bool:
        """Whether it overlaps no other directory. Only forged files have one that does: it is left as it is."""
        return all(directory.end <= other.begin or other.end <= directory.begin for other in self.directories)

    @property
    def entries(self) -> Iterator[Entry]:
        """The entries of all directories."""
        for directory in self.directories:
            yield from directory.entries

    @property
    def interop_indices(self) -> list[Entry]:
        """The entries that name the colour space by a code of four bytes."""
        entries = self.interop.entries if self.interop else []
        return [entry for entry in entries if entry.tag == INTEROP_INDEX and entry.end - entry.begin == 4]

    def value(self, entry: Entry) -> bytes:
        return bytes(self.data[entry.begin : entry.end])

    def pack(self, format: str, at: int, *values: int) -> None:
        struct.pack_into(self.structure.order + format, self.data, at, *values)

    def set_size(self, size: tuple[int, int]) -> None:
        """Writes (height, width) into the tags that have it; as LONG where SHORT is too small."""
        for entry in self.entries:
            if entry.tag in WIDTH + HEIGHT:
                value = size[0] if entry.tag in HEIGHT else size[1]
                if entry.type == SHORT and value < 1 << 16:
                    self.pack("HIHH", entry.at + 2, SHORT, 1, value, 0)
                else:
                    self.pack("HII", entry.at + 2, LONG, 1, value)

    def swap(self, directory: Directory, one: int, other: int) -> None:
        """Two tags of a directory, if it has both, swap their types, counts and values: all of an entry but its tag."""
        slots = {entry.tag: slice(entry.at + 2, entry.at + 12) for entry in reversed(directory.entries)}
        if one in slots and other in slots:
            a, b = slots[one], slots[other]
            self.data[a], self.data[b] = self.data[b], self.data[a]

    def move_subject(self, orientation: int, size: tuple[int, int]) -> None:
        """Turns the point that the picture is about, and the area around it: x, y, and perhaps width and height."""
        for entry in self.entries:
            is_point = entry.tag in SUBJECT and entry.type == SHORT and 2 <= entry.count <= 4
            if not is_point or entry.end > len(self.data):
                continue
            format = f"{self.structure.order}{entry.count}H"
            x, y, *area = struct.unpack_from(format, self.data, entry.begin)
            x, y = turn_point(x, y, orientation, size)
            area = area[::-1] if orientation in QUARTER_TURNS else area
            self.pack(f"{entry.count}H", entry.begin, min(x, 65535), min(y, 65535), *area)

    def remove_storage(self) -> bool:
        """Removes tags that describe how pixels are stored from IFD0. Returns whether it has others."""
        return self._remove_tags(self.main, STORAGE)

    def _remove_tags(self, directory: Directory, tags: Collection[int]) -> bool:
        """Removes tags from a directory, but not what they point to. Returns whether it has others."""
        begin, room = directory.begin + 2, directory.end - directory.begin - 2
        kept = [bytes(self.data[e.at : e.at + 12]) for e in directory.entries if e.tag not in tags]
        self.data[begin : begin + room] = bytes(room)  # no next directory, either
        self.data[begin : begin + 12 * len(kept)] = b"".join(kept)
        self.pack("H", directory.begin, len(kept))
        return bool(kept)

    def remove_place(self) -> bool:
        """Removes what tells the place, with its bytes. Returns whether IFD0 has other tags. Raises ExifError."""
        entries = [entry for entry in self.entries if entry.tag in PLACE]
        outside = [entry for entry in entries if entry.end - entry.begin > 4]  # others have their values in themselves
        erased = [(entry.begin, min(entry.end, len(self.data))) for entry in outside]
        if gps := self._gps_directory(entries):
            erased += self._ranges([gps])
        kept = [self._remove_tags(directory, PLACE) for directory in self.directories]
        if not kept[0]:
            return False
        rest = _Patch(bytes(self.data))
        self._erase(erased, merge_ranges([(0, 8), *self._ranges(rest.directories)]))
        return True

    def _gps_directory(self, entries: Iterable[Entry]) -> Directory | None:
        """The one that entries point to. Raises ExifError if it can't be read, or if others have a part in it."""
        offsets = {self.structure.number(entry) for entry in entries if entry.tag == GPS}
        offsets.discard(0)  # some writers leave an entry that points nowhere
        if not offsets:
            return None
        if len(offsets) > 1:  # each of which may be long: to read them could take for ever
            raise ExifError("it has several GPS directories")
        gps = self.structure.directory(offsets.pop() or 0)
        others = [other for other in self.directories if other.begin != gps.begin]
        if not all(gps.end <= other.begin or other.end <= gps.begin for other in others):
            raise ExifError("its GPS directory overlaps another")
        return gps

    def _erase(self, erased: Iterable[Range], kept: list[Range]) -> None:
        """Zeros bytes, and cuts off zeros at the end of the block. Raises ExifError where bytes are kept, too."""
        for begin, end in merge_ranges(each for each in erased if each[0] < each[1]):
            if overlaps(kept, begin, end):
                raise ExifError("its place shares bytes with other tags")
            self.data[begin:end] = bytes(end - begin)
        last = max(end for _, end in kept)
        self.data[last:] = self.data[last:].rstrip(b"\0")

    def remove_thumbnail(self) -> None:
        """Zeros its bytes, and cuts them off at the end of the block."""
        try:
            thumbnail = self.structure.directory(self.main.next)
        except ExifError:
            return
        kept = merge_ranges([(0, 8), *self._ranges(self.directories)])
        for begin, end in merge_ranges(self._thumbnail_ranges(thumbnail)):
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
        """The directory of the thumbnail, its values, and the JPEG or the first strip that it points to."""
        yield from self._ranges([directory])
        numbers = {entry.tag: self.structure.number(entry) or 0 for entry in directory.entries}
        for begin, size in zip(THUMBNAIL, THUMBNAIL_BYTES, strict=True):
            if numbers.get(begin) and numbers[begin] + numbers.get(size, 0) <= len(self.data):
                yield numbers[begin], numbers[begin] + numbers.get(size, 0)


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Height and width of the picture after an orientation was applied."""
    return size[::-1] if orientation in QUARTER_TURNS else size


def turn_point(x: int, y: int, orientation: int, size: tuple[int, int]) -> tuple[int, int]:
    """Where a pixel of the stored picture lies in the upright one of (height, width)."""
    x, y = (y, x) if orientation in QUARTER_TURNS else (x, y)
    mirrored_x, mirrored_y = orientation in (2, 3, 6, 7), orientation in (3, 4, 7, 8)
    x = max(size[1] - 1 - x, 0) if mirrored_x else x
    return x, max(size[0] - 1 - y, 0) if mirrored_y else y


def merge_ranges(ranges: Iterable[Range]) -> list[Range]:
    """The same bytes as sorted ranges of which none touches another."""
    result: list[Range] = []
    for begin, end in sorted(ranges):
        if result and begin <= result[-1][1]:
            last_begin, last_end = result[-1]
            result[-1] = last_begin, max(end, last_end)
        else:
            result.append((begin, end))
    return result


def overlaps(ranges: list[Range], begin: int, end: int) -> bool:
    """Whether a range has bytes in common with one of those, which are merged."""
    at = bisect_right(ranges, (begin, end))
    return (at > 0 and ranges[at - 1][1] > begin) or (at < len(ranges) and ranges[at][0] < end)
