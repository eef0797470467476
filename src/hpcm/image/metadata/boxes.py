"""The boxes of HEIF, which AVIF and HEIC are, and of JPEG 2000."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from ...format.fields import MAX_METADATA
from .jpeg import codestream
from .kept import NAMES, PER_METRE, density
from .pieces import EXIF, ICC, IPTC, XMP, Piece, behind, shown
from .xmp import DEPTH_NAME, GAIN_MAP_NAME

Box = tuple[bytes, int, int]  # type, where its content begins and ends
TOP = (b"ftyp", b"meta", b"mdat", b"free", b"skip", b"moov", b"moof", b"sidx")
CODED = (b"av01", b"hvc1", b"hev1", b"vvc1", b"jpeg", b"unci", b"grid", b"iden", b"iovl")  # of pictures
AUXILIARY = {b"depth": DEPTH_NAME, b"hdrgainmap": GAIN_MAP_NAME}  # what the type of an auxiliary picture ends with
PROPERTIES = {  # of the picture, and what is told of them; None: how its pixels are coded
    b"clli": "HDR light levels (clli)",
    b"mdcv": "HDR mastering display (mdcv)",
    b"amve": "viewing light (amve)",
    b"clap": "crop (clap)",  # the decoder gives the whole picture
    **dict.fromkeys((b"ispe", b"pixi", b"av1C", b"hvcC", b"lsel", b"a1op", b"a1lx", b"auxC", b"irot", b"imir")),
}
XMP_TYPE = b"application/rdf+xml"
SRGB = (1, 13)  # primaries, transfer: what a picture without a profile is taken for
UNKNOWN = 2
UUIDS = {
    bytes.fromhex("be7acfcb97a942e89c71999491e3afac"): XMP,
    b"JpgTiffExif->JP2": EXIF,
    bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38"): IPTC,
}
JP2_AROUND = ((0, b"jp2h"), (1, b"res "))  # boxes that hold others, and how deep they lie
JP2_STRUCTURE = (b"jP  ", b"ftyp", b"jp2c", b"ihdr", b"bpcc", b"pclr", b"cmap", b"cdef", b"free")
ENUMERATED, JP2_PROFILES = (
    1,
    (2, 3),
)  # methods of a colour space: a number that the decoder knows; an ICC profile, restricted or any


def walk(data: bytes, at: int, end: int) -> Iterator[Box]:
    """The boxes between two places, as far as they are whole."""
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, at)
        begin = at + 8
        if size == 1 and at + 16 <= end:
            (size,) = struct.unpack_from(">Q", data, begin)
            begin += 8
        stop = end if size == 0 else at + size
        if stop < begin or stop > end:
            return
        yield kind, begin, stop
        at = stop


# ---- HEIF -----------------------------------------------------------------------------------------------------------


@dataclass
class _Meta:
    """What the box `meta` tells of the items of a file."""

    primary: int = 0
    kinds: dict[int, bytes] = field(default_factory=dict)  # item: its type
    contents: dict[int, bytes] = field(default_factory=dict)  # item of type "mime": the type of its content
    extents: dict[int, list[tuple[int, int]]] = field(default_factory=dict)  # item: (begin, end) in the file
    properties: list[Box] = field(default_factory=list)
    owned: dict[int, list[int]] = field(default_factory=dict)  # item: places of its properties in that list, from 1


def heif(data: bytes) -> Iterator[Piece]:
    at = 0
    for kind, begin, at in walk(data, 0, len(data)):
        if kind == b"meta":
            yield from meta_pieces(data, read_meta(data, begin + 4, at))
        elif kind not in TOP:
            yield Piece(f"box {shown(kind)}")
    yield from behind(data[at:])


def meta_pieces(data: bytes, meta: _Meta) -> Iterator[Piece]:
    for item, kind in meta.kinds.items():
        content = meta.contents.get(item)
        if kind == b"Exif" or content == XMP_TYPE:
            body = b"".join(data[begin:end] for begin, end in meta.extents.get(item, []))[: MAX_METADATA + 4]
            if kind == b"Exif":
                body = body[4 + int.from_bytes(body[:4], "big") :]  # behind the offset of its header
            yield Piece(EXIF if kind == b"Exif" else XMP, body)
        elif content is not None:
            yield Piece(f"item of type {shown(content)}")
        elif kind == b"tmap":
            yield Piece(GAIN_MAP_NAME)
        elif kind not in CODED:
            yield Piece(f"item {shown(kind)}")
    for kind, begin, end in meta.properties:
        name = data[begin + 4 : end].partition(b"\0")[0]
        yield from (Piece(told) for tail, told in AUXILIARY.items() if kind == b"auxC" and name.endswith(tail))
        if kind == b"auxC" and name.endswith((b":aux:2", b":auxid:2")):  # HEVC's number of a depth map
            yield Piece(DEPTH_NAME)
    own = [meta.properties[i - 1] for i in meta.owned.get(meta.primary, []) if 0 < i <= len(meta.properties)]
    for kind, begin, end in own:
        if kind == b"pasp":
            horizontal, vertical = struct.unpack_from(">II", data, begin)  # a pixel's width and height
            yield from ratio(vertical, horizontal)
        elif kind != b"colr" and (told := PROPERTIES.get(kind, f"property {shown(kind)}")):
            yield Piece(told)
        elif kind == b"colr" and data[begin : begin + 4] == b"nclx" and end - begin >= 11:
            primaries, transfer = struct.unpack_from(">HH", data, begin + 4)
            if (
                UNKNOWN not in (primaries, transfer)
                and (primaries, transfer) != SRGB
                and max(primaries, transfer) < 256
            ):
                yield Piece(NAMES["cicp"], bytes([primaries, transfer, 0, 1]))  # the decoder makes RGB of full range
        elif kind == b"colr":
            yield Piece(ICC, data[begin + 4 : end])


def ratio(x: int, y: int) -> Iterator[Piece]:
    """A density of which only the ratio is known, if the two differ."""
    if x != y and (found := density(x, y, 0)):
        yield Piece(NAMES["density"], found)


def read_meta(data: bytes, at: int, end: int) -> _Meta:
    """Raises struct.error where it is cut short."""
    meta, items = _Meta(), b""
    found = {kind: (begin, stop) for kind, begin, stop in walk(data, at, end)}
    if b"pitm" in found:
        begin, stop = found[b"pitm"]
        meta.primary = int.from_bytes(data[begin + 4 : begin + (8 if data[begin] else 6)], "big")
    if b"iinf" in found:
        begin, stop = found[b"iinf"]
        for kind, entry, last in walk(data, begin + (8 if data[begin] else 6), stop):
            if kind == b"infe" and data[entry] >= 2:
                wide = 4 if data[entry] == 3 else 2
                number = int.from_bytes(data[entry + 4 : entry + 4 + wide], "big")
                meta.kinds[number] = data[entry + 6 + wide : entry + 10 + wide]
                if meta.kinds[number] == b"mime":  # then come its name and the type of its content
                    meta.contents[number] = data[entry + 10 + wide : last].partition(b"\0")[2].partition(b"\0")[0]
    if b"iprp" in found:
        for kind, begin, stop in walk(data, *found[b"iprp"]):
            if kind == b"ipco":
                meta.properties = list(walk(data, begin, stop))
            elif kind == b"ipma":
                meta.owned |= read_owned(data, begin)
    if b"iloc" in found:
        items = data[slice(*found[b"iloc"])]
        meta.extents = read_extents(items, found.get(b"idat", (0, 0))[0])
    return meta


def read_owned(data: bytes, at: int) -> dict[int, list[int]]:
    """The box `ipma`."""
    version, wide = data[at], data[at + 3] & 1
    (count,) = struct.unpack_from(">I", data, at + 4)
    owned, at = {}, at + 8
    for _ in range(count):
        (item,) = struct.unpack_from(">I" if version else ">H", data, at)
        at += 4 if version else 2
        number, at = data[at], at + 1
        format = f">{number}{'H' if wide else 'B'}"
        owned[item] = [index & (0x7FFF if wide else 0x7F) for index in struct.unpack_from(format, data, at)]
        at += number * (2 if wide else 1)
    return owned


def read_extents(box: bytes, idat: int) -> dict[int, list[tuple[int, int]]]:
    """The box `iloc`: where items lie in the file."""
    version, sizes = box[0], [box[4] >> 4, box[4] & 15, box[5] >> 4, box[5] & 15]
    offset_size, length_size, base_size, index_size = sizes
    at = 6

    def number(size: int) -> int:
        nonlocal at
        if at + size > len(box):
            raise struct.error("cut short")
        at += size
        return int.from_bytes(box[at - size : at], "big")

    extents: dict[int, list[tuple[int, int]]] = {}
    for _ in range(number(4 if version == 2 else 2)):
        item = number(4 if version == 2 else 2)
        method = number(2) & 15 if version else 0
        number(2)  # which file: this one
        base = number(base_size) + (idat if method == 1 else 0)
        for _ in range(number(2)):
            number(index_size if version else 0)
            begin = base + number(offset_size)
            extents.setdefault(item, []).append((begin, begin + number(length_size)))
            if not offset_size + length_size:
                return extents
    return extents


# ---- JPEG 2000 ------------------------------------------------------------------------------------------------------


def jp2(data: bytes) -> Iterator[Piece]:
    at = 0
    for box in walk(data, 0, len(data)):
        yield from jp2_pieces(data, box)
        at = box[2]
    yield from behind(data[at:])


def jp2_pieces(data: bytes, box: Box, depth: int = 0) -> Iterator[Piece]:
    kind, begin, stop = box
    if kind == b"uuid":
        identifier = data[begin : begin + 16]
        yield Piece(UUIDS.get(identifier) or f"box uuid {identifier.hex()}", data[begin + 16 : stop])
    elif (depth, kind) in JP2_AROUND:
        for inner in walk(data, begin, stop):
            yield from jp2_pieces(data, inner, depth + 1)
    elif kind in (b"resc", b"resd"):  # of the camera or scanner, and of the display
        yield from jp2_density(data[begin:stop])
    elif kind == b"colr" and data[begin] in JP2_PROFILES:
        yield Piece(ICC, data[begin + 3 : stop])
    elif kind == b"colr" and data[begin] != ENUMERATED:
        yield Piece(f"colour space of method {data[begin]}")
    elif kind == b"jp2c":
        yield from codestream(data[begin:stop])
    elif kind not in (*JP2_STRUCTURE, b"colr"):
        yield Piece(f"box {shown(kind)}")


def jp2_density(body: bytes) -> Iterator[Piece]:
    """Pixels per metre, y and x: numerator, denominator, and power of ten."""
    numbers = struct.unpack(">4H2b", body[:10])
    if 0 not in numbers[1:4:2]:
        y, x = (numbers[2 * i] / numbers[2 * i + 1] * 10.0 ** numbers[4 + i] for i in (0, 1))
        if 1 <= round(max(x, y)) < 1 << 32:
            yield Piece(NAMES["density"], density(x, y, PER_METRE))
