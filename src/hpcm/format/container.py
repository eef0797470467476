"""The .hpcm byte format, version 2. This docstring is its specification; docs/format.md walks through a file.

    │ header │ chunks │ table of tiles │ part │ CRC │ part │ CRC │ ... end of file
    └────────────── head ──────────────┘

A beginning of a *progressive* file shows the whole picture coarsely: it has three passes over the tiles, one for each
scale of the coding loop, and each pass adds a *part* to each tile. Other files have one pass, and tiles of one part.

Fixed-width integers are little-endian. A *varint* is LEB128: seven bits per byte, lowest first, the top bit set on all
bytes but the last, at most 5 bytes, and never longer than its value needs. A CRC is the CRC-32 of zlib and PNG. Code
for these lies in format/wire.py.

Header. Offsets are those of a picture whose sides take two bytes each (128 to 16,383 pixels).

    offset   size    field
    0        4       magic, the bytes 89 48 50 43: "HPC" behind a byte that is not ASCII, so that no text file matches
    4        1       version, 2
    5        1       flags, a varint: bit 0 colour (0: rgb, 1: grey)
                                     bit 1 number of passes (0: 1, 1: 3): progressive if 3
                                     bit 2 icc, bit 3 exif, bit 4 alpha, bit 6 residual: such a chunk follows
                                     bit 5 ancillary chunks follow
                                     bit 7 see Reserved; all others 0
    6        1..4    width: pixels, a varint; 1 to 2^24
    8        1..4    height: pixels, a varint; 1 to 2^24. Besides, width * height <= 2^32
    10       1       bit depth: of each sample, alpha's too; 8 to 16
    11       1 + n   model name: n in one byte, then n letters; 1 to 32 of a-z 0-9 ._- and no ._- in front, so that it
                     is never a path
    12 + n   8       model hash: the beginning of the SHA-256 of the model's weights file; 8 bytes
    20 + n   1       quality level: 0 to 63
    21 + n   1       tile side: pixels, a power of two, stored as its exponent; 2^8 to 2^16

Chunks. Those that the flags announce, in the order of their flags:

    1        type, a letter
    1..5     length of the data, varint; its bound depends on the type
    length   data, which image/picture.py reads and writes
    4        CRC of type, length and data

    type   data
    "I"    ICC profile: up to 2^24 bytes
    "E"    EXIF: up to 2^24 bytes
    "A"    alpha plane: up to twice its raw plane and 1,024 bytes more. A PNG of grey samples, not interlaced, of 8
           bits if the bit depth is 8, else of 16 bits, of which the values are 0 to 2^depth - 1. The raw plane has a
           byte or two for each sample
    "R"    residual layer: 2 to 4 bytes, kind and number

Residual layer. What the decoded picture lacks: each tile has one more part, its last, which is coded beside samples of
the tile that both sides know, the *base*. Kind is a byte, number a varint:

    0    samples (core/residual.c) beside the decoded picture. The number is the largest error of a sample, 0 for
         lossless, below 2^(depth - 1)
    1    the same beside grey, samples of 2^(depth - 1). The tiles have no other parts, and the file has one pass
    2    coefficients (core/residual_dct.c) beside the decoded picture. The number is their step, 1 to 65,535, in
         sixteenths of an 8-bit sample

The part's checksum in the table is the CRC-32 of the base, row by row, samples of two bytes little-endian: a reader
adds the part to no other samples. The part ends with 4 bytes that its coder knows nothing of, the same CRC-32 of the
samples that come out: a reader shows no others. A tile's base depends on the latents of the tiles around it, but its
residual on the tile alone. A reader that wants less than the whole picture, such as a thumbnail, may leave the layer
out.

Ancillary chunks. If the flags announce them: their number, one byte, 1 to 26, then so many chunks of the form above,
with data of up to 16 MiB. Their types are lower-case letters, each at most once, in alphabetical order. The picture is
decoded the same without them: a reader skips a type that it doesn't know, and keeps it where it writes the file again.

    "c"      cICP, the 4 bytes of PNG's chunk: colour primaries, transfer, matrix (ITU-T H.273), full range
    "d"      pHYs, the 9 bytes of PNG's chunk: pixels per unit in x and in y, unit (1: metre, 0: only the ratio counts)
    "g"      gAMA, the 4 bytes of PNG's chunk
    "h"      cHRM, the 32 bytes of PNG's chunk
    "l"      cLLI, the 8 bytes of PNG's chunk
    "m"      mDCV, the 24 bytes of PNG's chunk
    "s"      sRGB, the byte of PNG's chunk: the rendering intent
    "t"      comments: keyword, NUL, text, NUL, keyword, ...; UTF-8
    "u"      HDR gain map: n, a varint, 1 to 1,024; n bytes of GainMapMetadata (ISO 21496-1, Annex C); a .hpcm file of
             its picture, grey or rgb, 8 bits, without alpha, "u" and other metadata than an ICC profile, and with no
             more pixels than this picture has
    "x"      XMP, UTF-8

A reader passes over data of "c" to "s" that have another length, and over a gain map that breaks a bound. EXIF begins
with "Exif", NUL, NUL and has no orientation: it was applied to the pixels.

Table of tiles. The picture is cut into squares of 2^t pixels from the top left, row by row; those at the right and the
bottom edge may be smaller. Their number, ceil(width / 2^t) * ceil(height / 2^t), is not stored. For each tile, and for
each of its parts:

    1..5     length of the part, varint, 0 to 2^35 - 1
    2 or 4   checksum of all symbols of the tile that its parts so far decode to: the CRC-32 of them as int32, in the
             order in which they are coded. Of the last pass all 4 bytes, of the others the low 2. Of a residual: see
             there; 4 bytes

Parts. Pass by pass, in each pass in the order of the table; the last CRC ends the file. For each part:

    length   the entropy coder's bytes (core/ans.c). A tile's parts, one behind the other, are one stream
    2 or 4   CRC of the head followed by the tile's parts up to this one; of the last pass 4 bytes, of others the low 2

Behind all passes come the residuals of the tiles, in the order of the table, each with a CRC of 4 bytes as above.

What is coded (nn/hpcm.py): the hyper latent and the steps of scale 1 in the first pass, those of scale 2 and of
scale 3 in the other two; with one pass, all of that. Latents that touch only padding are left out.

Every file has a tile and every tile's CRC covers the head, so the head needs no CRC of its own: four bytes saved. The
CRC of the head is computed once and goes on over each tile; any tile can be checked and decoded without the others.

Samples of d bits are 0 to 2^d - 1, black to white. The networks see sample / (2^d - 1). A decoder makes samples of 8 or
16 bits of what they give, and of those of 16 bits, s, all of 9 to 15 bits: (s * (2^d - 1) + 32767) // 65535.

Reserved. Readers of today refuse a file with this flag, by what it has. Its chunk comes behind "R".

    bit 7    quality map, chunk "Q": a byte e, 6 to 10, then for each square of 2^e pixels, row by row, its quality
             level as a byte, all of them as one stream of zlib

What is detected: a file that is cut is always too short for what its head announces, and one with bytes after its last
CRC is too long. A changed byte breaks a bound, moves fields, or leaves all of them in place; a CRC notices the last for
certain, and wider damage but for one case in 2^32. A preview, which has the short CRCs alone, misses one case in 2^16.
A CRC is no signature, so each field is checked against its bound before anything depends on it, and `unpack` takes
memory in proportion to its input. The picture's size stays a claim: 2^32 pixels fit in 40 bytes, so whoever decodes the
files of strangers sets a lower limit of their own.

Cost of a plain RGB picture of 4096x4096 in one tile, by a model with a name of four letters: 25 bytes of header, 4 + 4
in the table (one less if the part is under 2 MiB), 4 of CRC; 37 bytes in all besides the parts. Being progressive costs
a tile 10 to 14 bytes more: two lengths, two short checksums, two short CRCs.
"""

import re
from dataclasses import replace
from typing import Any, NamedTuple
from zlib import crc32

from ..errors import CorruptError, FormatError, TruncatedError
from .fields import (
    ANCILLARY_BIT,
    CHUNKS,
    FLAGS,
    HEADER,
    KNOWN_FLAGS,
    MAGIC,
    MAX_ANCILLARY,
    MAX_METADATA,
    RESERVED_FLAGS,
    RESIDUAL_KINDS,
    VERSION,
    Chunk,
    Container,
    Part,
    Residual,
    Tile,
    check_header,
    check_kinds,
    check_pixels,
    chunk_limit,
)
from .wire import CRC_BYTES, MAX_VARINT, UINT32, Reader, check_range, chunk, varint

LONGEST_START = 12  # bytes that distinguish the files below
OTHERS = {  # what people take for a .hpcm file: its first bytes, what it is
    rb"\xff\xd8\xff": "a JPEG",
    rb"\x89PNG": "a PNG",
    rb"GIF8": "a GIF",
    rb"RIFF....WEBP": "a WebP",
    rb"....ftypavi[fs]": "an AVIF",
    rb"....ftyp(hei|hev|mif1)": "a HEIC",
    rb"II\*\0|MM\0\*": "a TIFF",
    rb"BM": "a BMP",
    rb"P[1-7]\s": "a PPM",
    rb"\0\0\0\x0cJXL |\xff\x0a": "a JPEG XL",
    rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51": "a JPEG 2000",
}


def is_hpcm(data: bytes) -> bool:
    """Whether `data` begins like a .hpcm file of any version. Four bytes are enough to tell."""
    return data[: len(MAGIC)] == MAGIC


def picture_kind(start: bytes) -> str | None:
    """What kind of picture a file is by its first LONGEST_START bytes, such as "a JPEG"; None for an unknown one."""
    return next((name for pattern, name in OTHERS.items() if re.match(pattern, start, re.DOTALL)), None)


def no_hpcm(start: bytes) -> str:
    """What to say of a file that isn't .hpcm, from its first LONGEST_START bytes."""
    if name := picture_kind(start):
        return f"no .hpcm file, but {name}; `hpcm compress` makes a .hpcm file of a picture"
    return f"no .hpcm file: it begins with {start[: len(MAGIC)]!r}, and a .hpcm file with {MAGIC!r}"


# ---- writing ---------------------------------------------------------------------------------------------------------


def pack(container: Container) -> bytes:
    """The bytes of a .hpcm file. Raises `FormatError` for a field out of its bounds or a wrong number of tiles."""
    check_head(container)
    _check_tiles(container)
    head = _pack_head(container) + _pack_table(container)
    pieces = [head]
    crcs = [crc32(head)] * len(container.tiles)  # each goes on over the parts of its tile
    for turn, crc_size in enumerate(_crc_sizes(container)):
        for i, tile in enumerate(container.tiles):
            payload = tile[turn].payload
            crcs[i] = crc32(payload, crcs[i])
            pieces += [payload, _low_bytes(crcs[i], crc_size)]
    return b"".join(pieces)


def check_head(container: Container) -> None:
    """All that `pack` checks but the tiles: an encoder asks before it begins. Raises `FormatError`."""
    check_header(container)
    for part in CHUNKS:
        size = len(_chunk_data(container, part) or b"")
        check_range(f"length of the {part.name} chunk", size, 0, chunk_limit(container, part))
    check_kinds([kind for kind, _ in container.ancillary])
    for kind, data in container.ancillary:
        check_range(f"length of the ancillary chunk {kind!r}", len(data), 0, MAX_METADATA)


def _check_tiles(container: Container) -> None:
    if len(container.tiles) != container.tile_count:
        raise FormatError(f"{len(container.tiles)} tiles were given, but tile_boxes() has {container.tile_count}")
    crc_sizes = _crc_sizes(container)
    for tile in container.tiles:
        if len(tile) != len(crc_sizes):
            raise FormatError(f"a tile has {len(tile)} of its {len(crc_sizes)} parts: the file was cut")
        for part, crc_size in zip(tile, crc_sizes, strict=True):
            check_range("length of a part", len(part.payload), 0, MAX_VARINT)
            check_range("checksum of a part", part.checksum, 0, (1 << 8 * crc_size) - 1)


def _pack_head(container: Container) -> bytes:
    """Header and chunks."""
    flags = sum(1 << flag.bit for flag in FLAGS if getattr(container, flag.name) == flag.values[1])
    flags += sum(1 << part.bit for part in CHUNKS if getattr(container, part.name) is not None)
    flags += bool(container.ancillary) << ANCILLARY_BIT
    head = bytearray(MAGIC + bytes([VERSION]) + varint(flags))
    for field in HEADER:
        head += field.codec.write(getattr(container, field.name))
    for part in CHUNKS:
        data = _chunk_data(container, part)
        if data is not None:
            head += chunk(part.kind, data)
    if container.ancillary:
        head += bytes([len(container.ancillary)])
        for kind, data in container.ancillary:
            head += chunk(kind.encode("ascii"), data)
    return bytes(head)


def _chunk_data(container: Container, part: Chunk) -> bytes | None:
    """The data of a chunk; None if the file has none."""
    value: bytes | Residual | None = getattr(container, part.name)
    if isinstance(value, Residual):
        return bytes([RESIDUAL_KINDS.index(value.kind)]) + varint(value.number)
    return value


def _pack_table(container: Container) -> bytes:
    """The table of tiles."""
    table = bytearray()
    for tile in container.tiles:
        for part, crc_size in zip(tile, _crc_sizes(container), strict=True):
            table += varint(len(part.payload)) + _low_bytes(part.checksum, crc_size)
    return bytes(table)


def _crc_sizes(container: Container) -> list[int]:
    """Bytes of the checksum and of the CRC of each part of a tile: half of a CRC-32 before the last pass, then all."""
    before = max(container.base_parts - 1, 0)
    return [CRC_BYTES // 2] * before + [CRC_BYTES] * (container.parts - before)


def _low_bytes(crc: int, size: int) -> bytes:
    return UINT32.pack(crc)[:size]


# ---- reading ---------------------------------------------------------------------------------------------------------


def unpack(data: bytes, *, partial: bool = False) -> Container:
    """What a .hpcm file says. Every byte of `data` is accounted for; `pack` of the result gives `data` again.

    Args:
        partial: `data` may be the beginning of a file; tiles then have the parts that are there as a whole.

    Raises `TruncatedError` if `data` ends before the file does (or, if `partial`, before its first part does),
    `CorruptError` if a CRC differs, and `FormatError` if it is no .hpcm file, has another version or a field out of its
    bounds, or goes on after the end.
    """
    reader = Reader(data)
    header = _read_head(reader)
    return replace(header, tiles=_read_tiles(reader, header, partial))


def unpack_head(data: bytes) -> Container:
    """The same without the tiles, of the beginning of a file. Raises as `unpack` does."""
    return _read_head(Reader(data))


def unpack_left(data: bytes) -> Container:
    """What is left of a file that may be cut short: as `unpack` with `partial`, or without tiles the head alone.

    A head alone has been checked against its bounds, but no CRC covers it. Raises as `unpack` does where the head isn't
    whole.
    """
    try:
        return unpack(data, partial=True)
    except TruncatedError:
        return unpack_head(data)


def _read_head(reader: Reader) -> Container:
    """Header and chunks, without tiles."""
    flags = _read_start(reader)
    fields: dict[str, Any] = {flag.name: flag.values[flags >> flag.bit & 1] for flag in FLAGS}
    for field in HEADER:
        fields[field.name] = field.codec.read(reader, field.title)
        field.check(fields[field.name])
    check_pixels(fields["width"], fields["height"])
    header = Container(**fields, tiles=())
    chunks: dict[str, Any] = {part.name: _read_chunk(reader, header, part) for part in CHUNKS if flags >> part.bit & 1}
    if "residual" in chunks:
        chunks["residual"] = _residual_of(chunks["residual"], header)
    if flags >> ANCILLARY_BIT & 1:
        chunks["ancillary"] = _read_ancillary(reader)
    return replace(header, **chunks)


def _residual_of(data: bytes, header: Container) -> Residual:
    """What the chunk of the residual layer says. Raises FormatError."""
    reader = Reader(data)
    try:
        kind, number = reader.byte("kind of the residual layer"), reader.varint("number of the residual layer")
    except TruncatedError as error:
        raise FormatError(f"the residual chunk has {len(data)} bytes, which is too short") from error
    if reader.left:
        raise FormatError(f"the residual chunk has {len(data)} bytes, which is too long")
    check_range("kind of the residual layer", kind, 0, len(RESIDUAL_KINDS) - 1)
    residual = Residual(RESIDUAL_KINDS[kind], number)
    residual.check(header.bit_depth, header.passes)
    return residual


def _read_start(reader: Reader) -> int:
    """What says whether this program reads the rest: magic, version and flags. Returns the flags."""
    start = bytes(reader.data[: len(MAGIC)])
    if not MAGIC.startswith(start):  # a file that was cut within its magic is truncated, not of another format
        raise FormatError(no_hpcm(bytes(reader.data[:LONGEST_START])))
    reader.take(len(MAGIC), "magic")
    version = reader.byte("version")
    if version != VERSION:
        raise FormatError(f"format version {version} found, this hpcm reads version {VERSION}; try a newer hpcm")
    flags = reader.varint("flags")
    for bit, what in RESERVED_FLAGS.items():
        if flags >> bit & 1:
            raise FormatError(f"the file has {what}, which this hpcm doesn't read; try a newer hpcm")
    if flags & ~KNOWN_FLAGS:
        raise FormatError(f"flags are {flags:#04x}; version {VERSION} of the .hpcm format has {KNOWN_FLAGS:#04x}")
    return flags


def _read_chunk(reader: Reader, header: Container, part: Chunk) -> bytes:
    start = reader.at
    kind = bytes(reader.take(1, f"{part.name} chunk"))
    if kind != part.kind:
        raise FormatError(f"the {part.name} chunk begins with {kind!r} instead of {part.kind!r}; the file is damaged")
    return reader.chunk(part.name, start, chunk_limit(header, part))


def _read_ancillary(reader: Reader) -> tuple[tuple[str, bytes], ...]:
    count = reader.byte("number of ancillary chunks")
    check_range("number of ancillary chunks", count, 1, MAX_ANCILLARY)
    chunks: list[tuple[str, bytes]] = []
    for _ in range(count):
        start = reader.at
        kind = str(reader.take(1, "an ancillary chunk"), "latin-1")
        check_kinds([*(before for before, _ in chunks), kind])
        chunks.append((kind, reader.chunk(f"ancillary {kind!r}", start, MAX_METADATA)))
    return tuple(chunks)


class _Entry(NamedTuple):
    """What the table says of a part."""

    size: int  # bytes
    checksum: int


def _read_tiles(reader: Reader, header: Container, partial: bool) -> tuple[Tile, ...]:
    """The table and the parts of the tiles, up to the end of the file, or as far as a partial one goes."""
    table = _read_table(reader, header, partial)
    crcs = [crc32(reader.data[: reader.at])] * len(table)  # each goes on over the parts of its tile
    tiles: list[list[Part]] = [[] for _ in table]
    for turn, crc_size in enumerate(_crc_sizes(header)):
        for i, entries in enumerate(table):
            size, checksum = entries[turn]
            if partial and reader.left < size + crc_size:
                return _beginnings(tiles)
            payload = bytes(reader.take(size, "a part"))
            crcs[i] = crc32(payload, crcs[i])
            if reader.take(crc_size, "CRC of a part") != _low_bytes(crcs[i], crc_size):
                where = f"tile {i} of {len(table)} or the header"
                raise CorruptError(f"{where} was changed: a CRC differs; fetch the file again")
            tiles[i].append(Part(payload, checksum))
    if reader.left:
        raise FormatError(f"{reader.left} bytes follow the end of the file; cut them off")
    return tuple(map(tuple, tiles))


def _read_table(reader: Reader, header: Container, partial: bool) -> list[list[_Entry]]:
    """The entries of each tile. The file must be long enough for what they announce, or if `partial` for themselves.

    Each requirement comes before memory is taken for what it is about.
    """
    count, crc_sizes = header.tile_count, _crc_sizes(header)
    crcs = 0 if partial else sum(crc_sizes)  # bytes behind a tile's parts
    entries = sum(1 + crc_size for crc_size in crc_sizes)  # at least: a length of 0 takes one byte
    reader.require(count * (entries + crcs), f"its {count} tiles")
    table = [[_read_entry(reader, crc_size) for crc_size in crc_sizes] for _ in range(count)]
    if not partial:
        payloads = sum(entry.size for tile in table for entry in tile)
        reader.require(payloads + count * crcs, "its tiles")
    return table


def _read_entry(reader: Reader, crc_size: int) -> _Entry:
    size = reader.varint("length of a part")
    return _Entry(size, int.from_bytes(reader.take(crc_size, "checksum of a part"), "little"))


def _beginnings(tiles: list[list[Part]]) -> tuple[Tile, ...]:
    """What there is of the tiles where a file was cut. Raises TruncatedError where that shows nothing."""
    if not tiles[0]:
        raise TruncatedError("cut short: not even the first part of the picture is there; download more of it")
    return tuple(map(tuple, tiles))
