"""TIFF files, whose own directories are their EXIF: reads it as a block, and writes a file around a block.

header │ EXIF block │ strips │ values │ IFD0: the picture's own tags and those of the block
       └ at the offsets that it has by itself, so that whatever it points to stays where it is
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...format.fields import MAX_METADATA
from . import exif
from .exif import BYTE, LONG, SHORT, Directory, Entry, ExifError, Structure
from .record import CM_PER_METRE, Metadata, dots_per_inch

XMP_TAG, ICC_TAG = 700, 34675
OTHER_METADATA = {  # tags that aren't EXIF: their names in notes
    33723: "IPTC",
    34377: "Photoshop resources",
    37724: "Photoshop layers",
    exif.SUB_IFDS: "further pictures (SubIFDs)",
    XMP_TAG: "XMP",
    ICC_TAG: "ICC profile",
}
IFD0 = 0  # stands for the tag that points to the first directory, which has none
SUBDIRECTORIES: dict[int, tuple[int, ...]] = {IFD0: (exif.EXIF, exif.GPS), exif.EXIF: (exif.INTEROP,)}
POINTERS = (exif.EXIF, exif.GPS, exif.INTEROP)
BIGTIFF_TYPES = {16: LONG, 17: 9, 18: 13}  # what its types of 8 bytes become
RATIONAL, UNDEFINED = 5, 7
NO_UNIT, INCH, CM = 1, 2, 3  # of ResolutionUnit
DEFLATE, STRAIGHT_ALPHA = 8, 2
BLACK_IS_ZERO, RGB = 1, 2  # of PhotometricInterpretation
INTERLEAVED = 1  # of PlanarConfiguration: the channels of a pixel lie side by side
STRIP = 1 << 18  # bytes before compression
MAX_FILE = 1 << 32  # bytes

ValueTag = tuple[int, int, int, bytes]  # tag, type, count, value
Tag = ValueTag | tuple[int, int, int, "list[Tag]"]  # a value, or the directory that the tag points to


# ---- reading --------------------------------------------------------------------------------------------------------


def read_block(data: bytes, at: int | None = None) -> tuple[bytes | None, list[str]]:
    """EXIF of the directory at an offset, by default the first, and the names of damaged tags and of other metadata.

    Raises ExifError.
    """
    structure = Structure(data)
    directory = structure.directory(structure.first if at is None else at)
    others = [OTHER_METADATA[entry.tag] for entry in directory.entries if entry.tag in OTHER_METADATA]
    tags, damaged = _read_tags(structure, directory, IFD0)
    block = build_block(structure.order, tags) if tags else None
    return block, [*dict.fromkeys(others), *(f"damaged tag {tag}" for tag in damaged)]


def _read_tags(structure: Structure, directory: Directory, parent: int) -> tuple[list[Tag], list[int]]:
    """The tags that an EXIF block has, and the numbers of those that can't be read.

    `parent` is the tag that points to the directory. The tree of SUBDIRECTORIES, not the file, limits the depth.
    """
    tags: dict[int, Tag] = {}
    damaged: list[int] = []
    budget = MAX_METADATA  # bytes: values may overlap, and be larger together than the file
    for entry in directory.entries:
        if entry.tag in tags or not _is_exif(entry.tag):
            continue
        if entry.tag in SUBDIRECTORIES.get(parent, ()):
            subdirectory = structure.below(directory, entry.tag)
            inner, inner_damaged = _read_tags(structure, subdirectory, entry.tag) if subdirectory else ([], [entry.tag])
            tags[entry.tag] = entry.tag, LONG, 1, inner
            damaged += inner_damaged
        elif _is_readable(structure, entry) and entry.end - entry.begin <= budget:
            budget -= entry.end - entry.begin
            tags[entry.tag] = _read_tag(structure, entry)
        else:
            damaged.append(entry.tag)
    return [tag for tag in tags.values() if tag[3]], damaged


def _is_exif(tag: int) -> bool:
    """Whether a tag describes the picture, not how its pixels are stored, and isn't other metadata."""
    is_storage = tag in exif.STORAGE and tag != exif.ORIENTATION
    return not is_storage and tag not in OTHER_METADATA


def _is_readable(structure: Structure, entry: Entry) -> bool:
    """Whether its value lies in the file, and is no pointer to a directory, which would point nowhere in a block."""
    is_inside = entry.end <= len(structure.data)
    return is_inside and entry.type in exif.TYPE_BYTES and entry.tag not in POINTERS


def _read_tag(structure: Structure, entry: Entry) -> ValueTag:
    """A tag without the types that only BigTIFF has."""
    value = bytes(structure.data[entry.begin : entry.end])
    if entry.type in BIGTIFF_TYPES:
        numbers = struct.unpack(f"{structure.order}{entry.count}Q", value)
        value = struct.pack(f"{structure.order}{entry.count}I", *(number & 0xFFFFFFFF for number in numbers))
    return entry.tag, BIGTIFF_TYPES.get(entry.type, entry.type), entry.count, value


# ---- a block --------------------------------------------------------------------------------------------------------


def build_block(order: str, tags: Sequence[Tag]) -> bytes:
    """An EXIF block of these tags, beginning with its header. `order`: "<" or ">"."""
    out = bytearray(b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 8)
    _append_directory(out, order, tags)
    return bytes(out)


def _append_directory(out: bytearray, order: str, tags: Sequence[Tag]) -> None:
    """A directory, then its values, then the directories that it points to."""
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
                _append_directory(out, order, value)
        struct.pack_into(order + "HHI4s", out, at + 12 * i, tag, type_, count, slot)


def resolution_tags(order: str, density: bytes) -> list[ValueTag]:
    """A density as TIFF has it: per inch if that is a whole number, else per centimetre."""
    x, y, per_metre = struct.unpack(">IIB", density)
    x_dpi, y_dpi = dots_per_inch(x), dots_per_inch(y)
    if not per_metre:
        unit, x_resolution, y_resolution = NO_UNIT, (x, 1), (y, 1)
    elif x_dpi and y_dpi:
        unit, x_resolution, y_resolution = INCH, (x_dpi, 1), (y_dpi, 1)
    else:
        unit, x_resolution, y_resolution = CM, (x, CM_PER_METRE), (y, CM_PER_METRE)
    return [
        (exif.X_RESOLUTION, RATIONAL, 1, struct.pack(order + "2I", *x_resolution)),
        (exif.Y_RESOLUTION, RATIONAL, 1, struct.pack(order + "2I", *y_resolution)),
        (exif.RESOLUTION_UNIT, SHORT, 1, struct.pack(order + "H", unit)),
    ]


# ---- writing --------------------------------------------------------------------------------------------------------


def build_file(planes: NDArray[np.uint8] | NDArray[np.uint16], metadata: Metadata) -> bytes:
    """A TIFF file. `planes`: [H, W] grey, [H, W, 2 or 4] with alpha, [H, W, 3]. Raises ExifError."""
    block = exif.strip_prefix(metadata.exif or b"") or b"II*\0\x08\0\0\0"
    block_entries = _entries_of(block) if metadata.exif else {}
    writer = _Writer(block)
    writer.add_pixels(planes)
    writer.add_profiles(metadata)
    if metadata.density and exif.X_RESOLUTION not in block_entries:
        for tag, type_, count, value in resolution_tags(writer.order, metadata.density):
            writer.add(tag, type_, count, value)
    for tag, entry in block_entries.items():
        if tag not in exif.STORAGE:
            writer.entries.setdefault(tag, entry)
    return writer.finish()


def _entries_of(block: bytes) -> dict[int, bytes]:
    """The entries of its first directory, by tag; of equal tags the last one."""
    structure = Structure(block)
    if structure.big:
        raise ExifError("it is a BigTIFF")
    entries = structure.directory(structure.first).entries
    return {entry.tag: bytes(block[entry.at : entry.at + 12]) for entry in entries}


class _Writer:
    """A TIFF file that begins with a block: values are appended, and their entries collected for the directory."""

    def __init__(self, block: bytes) -> None:
        self.order = Structure(block).order
        self.out = bytearray(block) + bytes(len(block) % 2)
        self.entries: dict[int, bytes] = {}  # by tag

    def add(self, tag: int, type_: int, count: int, value: bytes) -> None:
        """A tag; a value that has no room in its entry goes to the end of the file, at an even place."""
        slot = value.ljust(4, b"\0")
        if len(value) > 4:
            slot = struct.pack(self.order + "I", len(self.out))
            self.out += value + bytes(len(value) % 2)
        self.entries[tag] = struct.pack(self.order + "HHI", tag, type_, count) + slot

    def add_numbers(self, tag: int, type_: int, *numbers: int) -> None:
        format = f"{self.order}{len(numbers)}{'H' if type_ == SHORT else 'I'}"
        self.add(tag, type_, len(numbers), struct.pack(format, *numbers))

    def add_pixels(self, planes: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
        """The strips, and the tags that describe them. Raises ExifError where the file becomes too large."""
        height, width = planes.shape[:2]
        channels = planes.shape[2] if planes.ndim == 3 else 1
        rows = max(STRIP // (width * channels * planes.itemsize), 1)
        offsets, sizes = [], []
        for top in range(0, height, rows):
            strip = planes[top : top + rows]
            data = zlib.compress(strip.astype(strip.dtype.newbyteorder("<" if self.order == "<" else ">")).tobytes())
            offsets.append(len(self.out))
            sizes.append(len(data))
            self.out += data + bytes(len(data) % 2)
            self._check_size()
        self.add_numbers(256, LONG, width)
        self.add_numbers(257, LONG, height)
        self.add_numbers(258, SHORT, *(8 * planes.itemsize,) * channels)  # bits per sample
        self.add_numbers(259, SHORT, DEFLATE)
        self.add_numbers(262, SHORT, RGB if channels >= 3 else BLACK_IS_ZERO)
        self.add_numbers(273, LONG, *offsets)
        self.add_numbers(277, SHORT, channels)
        self.add_numbers(278, LONG, rows)
        self.add_numbers(279, LONG, *sizes)
        self.add_numbers(284, SHORT, INTERLEAVED)
        if channels in (2, 4):
            self.add_numbers(338, SHORT, STRAIGHT_ALPHA)

    def add_profiles(self, metadata: Metadata) -> None:
        if metadata.xmp:
            self.add(XMP_TAG, BYTE, len(metadata.xmp), metadata.xmp)
        if metadata.icc:
            self.add(ICC_TAG, UNDEFINED, len(metadata.icc), metadata.icc)

    def finish(self) -> bytes:
        """The file, with its directory at the end. Raises ExifError where it becomes too large."""
        struct.pack_into(self.order + "I", self.out, 4, len(self.out))
        entries = (self.entries[tag] for tag in sorted(self.entries))
        self.out += struct.pack(self.order + "H", len(self.entries)) + b"".join(entries) + bytes(4)
        self._check_size()
        return bytes(self.out)

    def _check_size(self) -> None:
        if len(self.out) >= MAX_FILE:
            raise ExifError("a TIFF file has 4 GB at most")
