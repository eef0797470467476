"""JPEG files with an HDR gain map: a second JPEG behind the end of the first, which several indices point to.

    first JPEG    XMP            hdrgm:Version, and GContainer's directory with the second one's length
                  APP2 ISO       the version of ISO 21496-1
                  APP2 MPF       where both JPEGs begin, and how long they are
    second JPEG   XMP            hdrgm:..., the numbers
                  APP2 ISO       the numbers as ISO 21496-1 has them

Writers leave some of it out: those before ISO 21496-1 have XMP alone, and Apple's have no directory.

    sources     Android, Ultra HDR Image Format v1.1, "Gain map container generation"; ISO 21496-1:2025, Annex C
                CIPA DC-007-2009, Multi-Picture Format: the index IFD
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress

from . import xmp
from .exif import ExifError, Structure
from .gain_map import GainMapError, GainMapMetadata, StoredGainMap
from .jpeg import APPS, COM, EOI, XMP_HEAD, walk
from .pieces import ISO_GAIN_MAP
from .xmp import XMPError

APP1, APP2 = 0xE1, 0xE2
SOI_BYTES = b"\xff\xd8\xff"
ISO_HEAD = ISO_GAIN_MAP + b"\0"
ISO_VERSION = bytes(4)  # minimum and writer's version, which is all of it that the first JPEG has
MPF_HEAD = b"MPF\0"
MPF_VERSION, MPF_COUNT, MPF_ENTRIES = 0xB000, 0xB001, 0xB002  # tags
MPF_ENTRY = struct.Struct("IIIHH")  # attributes, length, offset from the TIFF header, two dependent images
MPF_PRIMARY = 0x030000  # attributes: the baseline MP primary image, a JPEG
MAX_PICTURES = 64  # that an index lists, of which at least one is a gain map

Range = tuple[int, int]  # begin, end in the file


# ---- reading --------------------------------------------------------------------------------------------------------


def find(data: bytes) -> StoredGainMap | None:
    """The gain map of a JPEG file. Raises GainMapError where there is one whose numbers make no sense."""
    for begin, end in _candidates(data):
        file = data[begin:end]
        if begin and file.startswith(SOI_BYTES) and (iso := numbers(file)):
            return StoredGainMap(iso, file, data[:begin] + data[end:])
    return None


def numbers(file: bytes) -> bytes | None:
    """The binary GainMapMetadata in a gain map's own JPEG, or made of its XMP. Raises GainMapError."""
    packets = []
    with suppress(struct.error):  # where it is cut short, which the decoder will notice
        for kind, begin, end in walk(file):
            body = file[begin:end]
            if kind == APP2 and body.startswith(ISO_HEAD) and len(body) > len(ISO_HEAD + ISO_VERSION):
                iso = body.removeprefix(ISO_HEAD)
                GainMapMetadata.from_iso(iso)
                return iso
            if kind == APP1 and body.startswith(XMP_HEAD):
                packets.append(xmp.to_utf8(body.removeprefix(XMP_HEAD)))
    found = (GainMapMetadata.from_xmp(packet) for packet in packets)
    return next((metadata.to_iso() for metadata in found if metadata), None)


def _candidates(data: bytes) -> Iterator[Range]:
    """Where the second JPEG may lie: by MPF, by GContainer's directory, or right behind the first one."""
    packets, picture_end = [], None
    with suppress(struct.error):
        for kind, begin, end in walk(data):
            body = data[begin:end]
            if kind == APP2 and body.startswith(MPF_HEAD):
                at = begin + len(MPF_HEAD)
                yield from _by_index(data[at:end], at)
            elif kind == APP1 and body.startswith(XMP_HEAD):
                packets.append(xmp.to_utf8(body.removeprefix(XMP_HEAD)))
            elif kind == EOI:
                picture_end = end
    if picture_end is None:
        return
    for packet in packets:
        yield from _by_directory(packet, picture_end)
    begin = data.find(SOI_BYTES, picture_end, picture_end + len(SOI_BYTES))
    if begin == picture_end:
        yield begin, begin + picture_bytes(data[begin:])


def _by_index(block: bytes, at: int) -> Iterator[Range]:
    """The pictures behind the first one that an MPF segment lists; `at` is where its TIFF header lies in the file."""
    try:
        structure = Structure(block)
        directory = structure.directory(structure.first)
    except ExifError:
        return
    for entry in directory.entries:
        if entry.tag == MPF_ENTRIES and entry.end <= len(block):
            pictures = struct.iter_unpack(structure.order + MPF_ENTRY.format, _whole(block[entry.begin : entry.end]))
            for _, (_attributes, size, offset, *_) in zip(range(MAX_PICTURES), pictures, strict=False):
                if offset:  # that of the first picture is 0
                    yield at + offset, at + offset + size


def _whole(entries: bytes) -> bytes:
    """As many entries as are there in full."""
    return entries[: len(entries) // MPF_ENTRY.size * MPF_ENTRY.size]


def _by_directory(packet: bytes, picture_end: int) -> Iterator[Range]:
    """The gain maps of GContainer's directory: its items lie one behind the other."""
    at = picture_end
    with suppress(XMPError):
        for index, item in enumerate(xmp.container_items(packet)[:MAX_PICTURES]):
            size, padding = (_length(item.get(name)) for name in ("Length", "Padding"))
            if index == 0:  # the first JPEG, whose end is known
                at += padding
                continue
            if item.get("Semantic") == "GainMap":
                yield at, at + size
            at += size + padding


def _length(text: str | None) -> int:
    return int(text) if text and text.isdecimal() and len(text) < 12 else 0


def picture_bytes(data: bytes) -> int:
    """How long the JPEG is that the data begin with; all of them if it has no end."""
    with suppress(struct.error):
        for kind, _, end in walk(data):
            if kind == EOI:
                return end
    return len(data)


# ---- writing --------------------------------------------------------------------------------------------------------


def gain_map_file(plain: bytes, iso: bytes) -> bytes:
    """A gain map's own JPEG, of one without metadata."""
    packet = GainMapMetadata.from_iso(iso).to_xmp()
    return _with_segments(plain, _segment(APP1, XMP_HEAD + packet) + _segment(APP2, ISO_HEAD + iso))


def join(first: bytes, second: bytes) -> bytes:
    """One file of a picture's JPEG and its gain map's, with the segments by which readers find the second."""
    iso = _segment(APP2, ISO_HEAD + ISO_VERSION)
    at = _app_end(first)
    size = len(first) + len(iso) + len(_segment(APP2, MPF_HEAD + _index(0, 0, 0)))
    header_at = at + len(iso) + 4 + len(MPF_HEAD)  # 4: marker and length
    index = _index(size, len(second), size - header_at)
    return _with_segments(first, iso + _segment(APP2, MPF_HEAD + index)) + second


def _index(first_bytes: int, second_bytes: int, offset: int) -> bytes:
    """The MPF index of two pictures: a TIFF header, a directory of three entries, and the list that one points to."""
    header, directory_at = b"MM\0*", 8
    pictures_at = directory_at + 2 + 3 * 12 + 4
    directory = struct.pack(">H", 3)
    directory += struct.pack(">HHI4s", MPF_VERSION, 7, 4, b"0100")
    directory += struct.pack(">HHII", MPF_COUNT, 4, 1, 2)
    directory += struct.pack(">HHII", MPF_ENTRIES, 7, 2 * MPF_ENTRY.size, pictures_at)
    directory += bytes(4)  # no other directory
    pictures = struct.pack(">" + MPF_ENTRY.format, MPF_PRIMARY, first_bytes, 0, 0, 0)
    pictures += struct.pack(">" + MPF_ENTRY.format, 0, second_bytes, offset, 0, 0)
    return header + struct.pack(">I", directory_at) + directory + pictures


def _with_segments(data: bytes, segments: bytes) -> bytes:
    """A JPEG with segments behind those that it has of applications."""
    at = _app_end(data)
    return data[:at] + segments + data[at:]


def _app_end(data: bytes) -> int:
    """Where the segments of applications end, which come first."""
    for kind, begin, _ in walk(data):
        if kind not in (*APPS, COM):
            return begin - 4  # before its marker and length
    raise GainMapError("the JPEG has no picture")


def _segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body
