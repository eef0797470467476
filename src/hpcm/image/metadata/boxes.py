"""The boxes of HEIF, which AVIF and HEIC are, and of JPEG 2000 (ISO/IEC 14496-12, 23008-12 and 15444-1)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from ...format.fields import MAX_METADATA
from .gain_map import GainMapError, GainMapMetadata, StoredGainMap
from .jpeg import codestream
from .pieces import EXIF, ICC, IPTC, XMP, Piece, printable, trailing_pieces
from .record import NAMES, PER_METRE, pack_density
from .xmp import DEPTH_NAME, GAIN_MAP_NAME

Box = tuple[bytes, int, int]  # type, where its content begins and ends
Range = tuple[int, int]  # begin, end in the file

# ---- HEIF
TOP_STRUCTURE = (b"ftyp", b"meta", b"mdat", b"free", b"skip", b"moov", b"moof", b"sidx")
CODED_ITEMS = (b"av01", b"hvc1", b"hev1", b"vvc1", b"jpeg", b"unci", b"grid", b"iden", b"iovl")  # pictures
XMP_TYPE = b"application/rdf+xml"
AUXILIARY_NAMES = {  # what the type of an auxiliary picture ends with: its name
    b"depth": DEPTH_NAME,
    b":aux:2": DEPTH_NAME,  # HEVC's number of a depth map
    b":auxid:2": DEPTH_NAME,
    b"hdrgainmap": GAIN_MAP_NAME,
}
PROPERTY_NAMES = {
    b"amve": "viewing light (amve)",
    b"clap": "crop (clap)",
}
AVIF_BRANDS = (b"avif", b"avis")  # of a file as a whole
LIGHT = struct.Struct(">2H")  # the property clli: the highest and the mean luminance, in candela per square metre
MASTERING = struct.Struct(">4s4s4s4s8s")  # mdcv: three primaries and white, x and y each; two luminances
CANDELA = 10_000  # units of PNG's cLLI in a candela per square metre; mDCV has the same units as mdcv
PROPERTY_STRUCTURE = (b"ispe", b"pixi", b"av1C", b"hvcC", b"lsel", b"a1op", b"a1lx", b"auxC", b"irot", b"imir")
SRGB = (1, 13)  # primaries, transfer: what a picture without a profile is taken for
UNKNOWN_COLOUR = 2  # as primaries or as transfer
HIDDEN = 1  # in the flags of an item: it isn't shown by itself
IN_IDAT = 1  # construction method of an item that lies in the box `idat`
RGB_FULL_RANGE = (0, 1)  # matrix, range: what the decoder gives, whatever is in the file

# ---- JPEG 2000
JP2_STRUCTURE = (b"jP  ", b"ftyp", b"jp2c", b"ihdr", b"bpcc", b"pclr", b"cmap", b"cdef", b"free")
JP2_PARENTS = ((0, b"jp2h"), (1, b"res "))  # boxes of boxes, and how deep they lie
JP2_ENUMERATED, JP2_PROFILES = 1, (2, 3)  # methods of a colour space: a number; an ICC profile, restricted or any
UUIDS = {
    bytes.fromhex("be7acfcb97a942e89c71999491e3afac"): XMP,
    b"JpgTiffExif->JP2": EXIF,
    bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38"): IPTC,
}


def walk(data: bytes, at: int, end: int) -> Iterator[Box]:
    """The boxes between two places, as far as they are whole."""
    while at + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, at)
        begin = at + 8
        if size == 1 and at + 16 <= end:  # a size of 8 bytes follows the type
            (size,) = struct.unpack_from(">Q", data, begin)
            begin += 8
        stop = end if size == 0 else at + size
        if stop < begin or stop > end:
            return
        yield kind, begin, stop
        at = stop


def pixel_aspect(x: int, y: int) -> Iterator[Piece]:
    """A density of which only the ratio is known; nothing for square pixels."""
    if x != y and (density := pack_density(x, y, 0)):
        yield Piece(NAMES["density"], density)


# ---- HEIF: pieces ---------------------------------------------------------------------------------------------------


@dataclass
class Meta:
    """What the box `meta` says of the items of a file."""

    primary: int = 0  # the item that is the picture
    kinds: dict[int, bytes] = field(default_factory=dict)  # item: its type
    content_types: dict[int, bytes] = field(default_factory=dict)  # item of type "mime": the type of its content
    extents: dict[int, list[Range]] = field(default_factory=dict)  # item: where its parts lie
    properties: list[Box] = field(default_factory=list)  # of all items
    associations: dict[int, list[int]] = field(default_factory=dict)  # item: its properties in that list, from 1
    derived_from: dict[int, list[int]] = field(default_factory=dict)  # item: those that it is made of
    primary_at: Range = (0, 0)  # where the number of the primary item lies in the file
    flags_at: dict[int, int] = field(default_factory=dict)  # item: where the last byte of its flags lies

    @property
    def primary_properties(self) -> list[Box]:
        """The properties of the picture."""
        indices = self.associations.get(self.primary, [])
        return [self.properties[i - 1] for i in indices if 0 < i <= len(self.properties)]


def heif(data: bytes) -> Iterator[Piece]:
    end = 0
    for kind, begin, end in walk(data, 0, len(data)):
        if kind == b"meta":
            meta = read_meta(data, begin + 4, end)
            yield from item_pieces(data, meta)
            yield from auxiliary_pieces(data, meta)
            for box in meta.primary_properties:
                yield from property_pieces(data, box)
        elif kind not in TOP_STRUCTURE:
            yield Piece(f"box {printable(kind)}")
    yield from trailing_pieces(data[end:])


def is_heif(data: bytes) -> bool:
    return data[4:8] == b"ftyp"


def find_gain_map(data: bytes) -> StoredGainMap | None:
    """The gain map of a file with an item `tmap`, which is derived from the picture and the gain map (ISO 21496-1, C).

    The gain map is an item as the picture is one: in the same file with another primary item, it is the picture, which
    whatever reads HEIF can decode. Raises GainMapError where the numbers make no sense.
    """
    try:
        begin, end = next((begin, end) for kind, begin, end in walk(data, 0, len(data)) if kind == b"meta")
        meta = read_meta(data, begin + 4, end)
    except (StopIteration, struct.error, IndexError):
        return None
    for item, kind in meta.kinds.items():
        sources = meta.derived_from.get(item, [])
        if kind != b"tmap" or len(sources) != 2 or sources[0] != meta.primary:
            continue
        body = item_data(data, meta, item)
        if body[:1] != b"\0":
            raise GainMapError(f"its item tmap is of version {body[:1].hex() or '?'}, and 0 is known")
        GainMapMetadata.from_iso(body[1:])
        return StoredGainMap(body[1:], with_primary_item(data, meta, sources[1]), data)
    return None


def with_primary_item(data: bytes, meta: Meta, item: int) -> bytes:
    """The file with another item as its picture, which isn't hidden then. Raises GainMapError where it can't be."""
    changed = bytearray(data)
    begin, end = meta.primary_at
    try:
        changed[begin:end] = item.to_bytes(end - begin, "big")
    except OverflowError:
        raise GainMapError(f"its picture is item {item}, which can't be the picture of a file") from None
    if item in meta.flags_at:
        changed[meta.flags_at[item]] &= ~HIDDEN
    return bytes(changed)


def item_pieces(data: bytes, meta: Meta) -> Iterator[Piece]:
    """EXIF, XMP and whatever else lies beside the pictures."""
    for item, kind in meta.kinds.items():
        content_type = meta.content_types.get(item)
        if kind == b"Exif":
            body = item_data(data, meta, item)
            header_offset = int.from_bytes(body[:4], "big")
            yield Piece(EXIF, body[4 + header_offset :])
        elif content_type == XMP_TYPE:
            yield Piece(XMP, item_data(data, meta, item))
        elif content_type is not None:
            yield Piece(f"item of type {printable(content_type)}")
        elif kind == b"tmap":
            yield Piece(GAIN_MAP_NAME)
        elif kind not in CODED_ITEMS:
            yield Piece(f"item {printable(kind)}")


def item_data(data: bytes, meta: Meta, item: int) -> bytes:
    """An item's parts, joined; no more than is needed to notice that it is too long."""
    parts = (data[begin:end] for begin, end in meta.extents.get(item, []))
    return b"".join(parts)[: MAX_METADATA + 4]


def auxiliary_pieces(data: bytes, meta: Meta) -> Iterator[Piece]:
    """Pictures that belong to another one, by the property that gives their type."""
    for kind, begin, end in meta.properties:
        if kind == b"auxC":
            auxiliary_type = data[begin + 4 : end].partition(b"\0")[0]
            yield from (Piece(name) for tail, name in AUXILIARY_NAMES.items() if auxiliary_type.endswith(tail))


def property_pieces(data: bytes, box: Box) -> Iterator[Piece]:
    """A property of the picture."""
    kind, begin, end = box
    if kind == b"pasp":
        width, height = struct.unpack_from(">II", data, begin)  # of a pixel
        yield from pixel_aspect(height, width)
    elif kind == b"colr":
        yield from colour_pieces(data, begin, end)
    elif kind == b"clli" and end - begin == LIGHT.size:
        yield Piece(NAMES["light"], struct.pack(">2I", *(CANDELA * level for level in LIGHT.unpack_from(data, begin))))
    elif kind == b"mdcv" and end - begin == MASTERING.size:
        green, blue, red, white, luminances = MASTERING.unpack_from(data, begin)  # in HEVC's order
        yield Piece(NAMES["mastering"], red + green + blue + white + luminances)
    elif kind == b"clap" and data[8:12] not in AVIF_BRANDS:
        pass  # libheif crops; Pillow's libavif gives the whole picture
    elif kind not in PROPERTY_STRUCTURE:
        yield Piece(PROPERTY_NAMES.get(kind, f"property {printable(kind)}"))


def colour_pieces(data: bytes, begin: int, end: int) -> Iterator[Piece]:
    """The property `colr`: numbers of ITU-T H.273, or an ICC profile."""
    if data[begin : begin + 4] != b"nclx" or end - begin < 11:
        yield Piece(ICC, data[begin + 4 : end])
        return
    primaries, transfer = struct.unpack_from(">HH", data, begin + 4)
    is_known = UNKNOWN_COLOUR not in (primaries, transfer) and max(primaries, transfer) < 256
    if is_known and (primaries, transfer) != SRGB:
        yield Piece(NAMES["cicp"], bytes([primaries, transfer, *RGB_FULL_RANGE]))


# ---- HEIF: the box `meta` -------------------------------------------------------------------------------------------


def read_meta(data: bytes, at: int, end: int) -> Meta:
    """Raises struct.error or IndexError where it is cut short."""
    boxes = {kind: (begin, stop) for kind, begin, stop in walk(data, at, end)}
    meta = Meta()
    if b"pitm" in boxes:
        meta.primary_at = primary_item_range(data, boxes[b"pitm"][0])
        meta.primary = int.from_bytes(data[slice(*meta.primary_at)], "big")
    if b"iref" in boxes:
        meta.derived_from = read_derivations(data, *boxes[b"iref"])
    if b"iinf" in boxes:
        meta.kinds, meta.content_types, meta.flags_at = read_item_types(data, *boxes[b"iinf"])
    if b"iprp" in boxes:
        for kind, begin, stop in walk(data, *boxes[b"iprp"]):
            if kind == b"ipco":
                meta.properties = list(walk(data, begin, stop))
            elif kind == b"ipma":
                meta.associations |= read_associations(data, begin)
    if b"iloc" in boxes:
        begin, stop = boxes[b"iloc"]
        idat, _ = boxes.get(b"idat", (0, 0))
        meta.extents = read_extents(data[begin:stop], idat)
    return meta


def primary_item_range(data: bytes, at: int) -> Range:
    """The box `pitm`: where the number of the item lies that is the picture."""
    version = data[at]
    return at + 4, at + (8 if version else 6)


def read_derivations(data: bytes, at: int, end: int) -> dict[int, list[int]]:
    """The box `iref`: the items that each derived item is made of, in their order."""
    item_format = "I" if data[at] else "H"
    derivations = {}
    for kind, begin, _ in walk(data, at + 4, end):
        if kind == b"dimg":
            item, count = struct.unpack_from(f">{item_format}H", data, begin)
            begin += struct.calcsize(f">{item_format}H")
            derivations[item] = list(struct.unpack_from(f">{count}{item_format}", data, begin))
    return derivations


def read_item_types(data: bytes, at: int, end: int) -> tuple[dict[int, bytes], dict[int, bytes], dict[int, int]]:
    """The box `iinf`: the type of each item, of those of type "mime" the type of their content, where flags end."""
    kinds, content_types, flags_at = {}, {}, {}
    version = data[at]
    first_entry = at + (8 if version else 6)
    for kind, begin, stop in walk(data, first_entry, end):
        if kind != b"infe" or data[begin] < 2:
            continue
        number_bytes = 4 if data[begin] == 3 else 2
        item = int.from_bytes(data[begin + 4 : begin + 4 + number_bytes], "big")
        type_at = begin + 6 + number_bytes  # after the number of a protection scheme, 2 bytes
        kinds[item] = data[type_at : type_at + 4]
        flags_at[item] = begin + 3
        if kinds[item] == b"mime":  # then come its name and the type of its content
            _name, _, rest = data[type_at + 4 : stop].partition(b"\0")
            content_types[item] = rest.partition(b"\0")[0]
    return kinds, content_types, flags_at


def read_associations(data: bytes, at: int) -> dict[int, list[int]]:
    """The box `ipma`: the indices, from 1, of each item's properties."""
    version, has_wide_indices = data[at], data[at + 3] & 1
    item_format, item_bytes = (">I", 4) if version else (">H", 2)
    index_format, index_bytes = ("H", 2) if has_wide_indices else ("B", 1)
    index_mask = 0x7FFF if has_wide_indices else 0x7F  # the highest bit: it is essential
    (count,) = struct.unpack_from(">I", data, at + 4)
    at += 8
    associations = {}
    for _ in range(count):
        (item,) = struct.unpack_from(item_format, data, at)
        number = data[at + item_bytes]
        at += item_bytes + 1
        indices = struct.unpack_from(f">{number}{index_format}", data, at)
        associations[item] = [index & index_mask for index in indices]
        at += number * index_bytes
    return associations


@dataclass
class NumberReader:
    """Reads big-endian numbers of any width, one after the other. Raises struct.error at the end of the data."""

    data: bytes
    at: int

    def number(self, size: int) -> int:
        begin, self.at = self.at, self.at + size
        if self.at > len(self.data):
            raise struct.error("cut short")
        return int.from_bytes(self.data[begin : self.at], "big")


def read_extents(box: bytes, idat: int) -> dict[int, list[Range]]:
    """The box `iloc`: where the parts of items lie in the file.

    Args:
        idat: where the content of the box `idat` begins, in which some items lie.
    """
    version = box[0]
    offset_bytes, length_bytes = box[4] >> 4, box[4] & 15
    base_bytes, index_bytes = box[5] >> 4, box[5] & 15 if version else 0
    item_bytes = 4 if version == 2 else 2
    reader = NumberReader(box, at=6)
    extents: dict[int, list[Range]] = {}
    for _ in range(reader.number(item_bytes)):
        item = reader.number(item_bytes)
        construction_method = reader.number(2) & 15 if version else 0
        reader.number(2)  # in which file: this one
        base = reader.number(base_bytes) + (idat if construction_method == IN_IDAT else 0)
        for _ in range(reader.number(2)):
            reader.number(index_bytes)
            begin = base + reader.number(offset_bytes)
            end = begin + reader.number(length_bytes)
            extents.setdefault(item, []).append((begin, end))
            if not offset_bytes + length_bytes:  # the loops could go on for long without reading a byte
                return extents
    return extents


# ---- JPEG 2000 ------------------------------------------------------------------------------------------------------


def jp2(data: bytes) -> Iterator[Piece]:
    end = 0
    for box in walk(data, 0, len(data)):
        yield from jp2_pieces(data, box)
        _, _, end = box
    yield from trailing_pieces(data[end:])


def jp2_pieces(data: bytes, box: Box, depth: int = 0) -> Iterator[Piece]:
    """A box and, for `jp2h` and `res `, those in it."""
    kind, begin, end = box
    if (depth, kind) in JP2_PARENTS:
        for inner in walk(data, begin, end):
            yield from jp2_pieces(data, inner, depth + 1)
    elif kind == b"uuid":
        identifier = data[begin : begin + 16]
        yield Piece(UUIDS.get(identifier, f"box uuid {identifier.hex()}"), data[begin + 16 : end])
    elif kind in (b"resc", b"resd"):  # of the camera or scanner, and of the display
        yield from jp2_density(data[begin:end])
    elif kind == b"colr":
        yield from jp2_colour(data, begin, end)
    elif kind == b"jp2c":
        yield from codestream(data[begin:end])
    elif kind not in JP2_STRUCTURE:
        yield Piece(f"box {printable(kind)}")


def jp2_colour(data: bytes, begin: int, end: int) -> Iterator[Piece]:
    """The colour space: nothing if it is a number, which the decoder knows."""
    method = data[begin]
    if method in JP2_PROFILES:
        yield Piece(ICC, data[begin + 3 : end])
    elif method != JP2_ENUMERATED:
        yield Piece(f"colour space of method {method}")


def jp2_density(body: bytes) -> Iterator[Piece]:
    """Pixels per metre, y and x: numerators and denominators, then powers of ten."""
    y_numerator, y_denominator, x_numerator, x_denominator, y_power, x_power = struct.unpack(">4H2b", body[:10])
    if not (x_denominator and y_denominator):
        return
    x = x_numerator / x_denominator * 10.0**x_power
    y = y_numerator / y_denominator * 10.0**y_power
    if 1 <= round(max(x, y)) < 1 << 32:
        yield Piece(NAMES["density"], pack_density(x, y, PER_METRE))
