"""The .hpcm byte format, version 1. This docstring is its specification; docs/format.md walks through a file.

    │ header │ chunks │ table of tiles │ part │ CRC │ part │ CRC │ ... end of file
    └────────────── head ──────────────┘

A beginning of a *progressive* file shows the whole picture coarsely: it has three passes over the tiles, one for each
scale of the coding loop, and each pass adds a *part* to each tile. Other files have one pass, and tiles of one part.

Fixed-width integers are little-endian. A *varint* is LEB128: seven bits per byte, lowest first, the top bit set on all
bytes but the last, at most 5 bytes, and never longer than its value needs. A CRC is the CRC-32 of zlib and PNG. Code
for these lies in format/wire.py.

Header. Offsets are those of a picture whose sides take two bytes each (128 to 16,383 pixels).

    offset   size   field
    0        4      magic, the bytes 89 48 50 43: "HPC" behind a byte that is not ASCII, so that no text file matches
    4        1      version, 1
    5        1      flags: bit 0 colour (0 rgb, 1 grey), bit 1 depth (0: 8 bits, 1: 16 bits),
                    bits 2, 3, 4: a chunk ICC, EXIF, ALPHA follows; bit 5: ancillary chunks follow;
                    bit 6: progressive; bit 7 is reserved and 0
    6        1..4   width in pixels, varint, 1 to 2^24
    8        1..4   height in pixels, varint, 1 to 2^24; width * height <= 2^32
    10       1      n, the length of the model's name, 1 to 32
    11       n      the model's name: a-z 0-9 . _ - only, and a letter or digit first, so that it is never a path
    11+n     8      the first 8 bytes of the SHA-256 of the model's weights file
    19+n     1      quality level, 0 to 63
    20+n     1      t, 8 to 16: tiles are 2^t pixels wide and high

Chunks. Those that the flags announce, in the order of their flags:

    1        type: "I" (ICC profile), "E" (EXIF) or "A" (alpha plane)
    1..5     length of the data, varint: ICC and EXIF up to 2^24 (16 MiB), ALPHA up to twice its raw plane
             (width * height * depth / 8 bytes) and 1,024 bytes more
    length   data; a profile, EXIF and a PNG of the alpha plane, which image/picture.py reads and writes
    4        CRC of type, length and data

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
    "x"      XMP, UTF-8

A reader passes over data of "c" to "s" that have another length. EXIF begins with "Exif", NUL, NUL and has no
orientation: it was applied to the pixels.

Table of tiles. The picture is cut into squares of 2^t pixels from the top left, row by row; those at the right and the
bottom edge may be smaller. Their number, ceil(width / 2^t) * ceil(height / 2^t), is not stored. For each tile, and for
each of its parts:

    1..5     length of the part, varint, 0 to 2^35 - 1
    2 or 4   checksum of all symbols of the tile that its parts so far decode to: the CRC-32 of them as int32, in the
             order in which they are coded. Of the tile's last part all 4 bytes, of the others the low 2

Parts. Pass by pass, in each pass in the order of the table; the last CRC ends the file. For each part:

    length   the entropy coder's bytes (codec/entropy.py). A tile's parts, one behind the other, are one stream
    2 or 4   CRC of the head followed by the tile's parts up to this one; of the last part 4 bytes, of others the low 2

What is coded (nn/loop.py): the hyper latent and the steps of scale 1 in the first pass, those of scale 2 and of
scale 3 in the other two; with one pass, all of that. Latents that touch only padding are left out.

Every file has a tile and every tile's CRC covers the head, so the head needs no CRC of its own: four bytes saved. The
CRC of the head is computed once and goes on over each tile; any tile can be checked and decoded without the others.

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
from typing import Any
from zlib import crc32

from ..errors import CorruptError, FormatError, TruncatedError
from .fields import (
    CHUNKS,
    MAX_METADATA,
    MODEL_HASH_BYTES,
    PASSES,
    VERSION,
    Container,
    Part,
    Tile,
    check_header,
    check_kinds,
    chunk_limit,
)
from .wire import MAX_VARINT, UINT16, UINT32, Reader, check_range, chunk, varint

MAGIC = b"\x89HPC"

_FLAG_GREY, _FLAG_16_BITS = 1 << 0, 1 << 1
_FLAG_ANCILLARY, _FLAG_PROGRESSIVE = 1 << 5, 1 << 6
_KNOWN_FLAGS = 0x7F


LONGEST_START = 12  # bytes by which the files below are told from one another
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


def no_hpcm(start: bytes) -> str:
    """What to say of a file that isn't .hpcm, from its first LONGEST_START bytes."""
    for pattern, name in OTHERS.items():
        if re.match(pattern, start, re.DOTALL):
            return f"no .hpcm file, but {name}; `hpcm compress` makes a .hpcm file of a picture"
    return f"no .hpcm file: it begins with {start[: len(MAGIC)]!r}, and a .hpcm file with {MAGIC!r}"


def pack(container: Container) -> bytes:
    """The bytes of a .hpcm file. Raises `FormatError` for a field out of its bounds or a wrong number of tiles."""
    check_head(container)
    head = _pack_header(container)
    for name, (_, kind) in CHUNKS.items():
        data: bytes | None = getattr(container, name)
        if data is not None:
            head += chunk(kind, data)
    head += _pack_ancillary(container.ancillary)
    if len(container.tiles) != container.tile_count:
        raise FormatError(f"{len(container.tiles)} tiles were given, but tile_boxes() has {container.tile_count}")
    for tile in container.tiles:
        if len(tile) != container.passes:
            raise FormatError(f"a tile has {len(tile)} of its {container.passes} parts: the file was cut")
        for i, part in enumerate(tile):
            short = i + 1 < container.passes
            check_range("length of a part", len(part.payload), 0, MAX_VARINT)
            check_range("checksum of a part", part.checksum, 0, (1 << (16 if short else 32)) - 1)
            head += varint(len(part.payload)) + _seal(part.checksum, short)
    pieces = [bytes(head)]
    crcs = [crc32(head)] * len(container.tiles)
    for turn in range(container.passes):
        for i, tile in enumerate(container.tiles):
            crcs[i] = crc32(tile[turn].payload, crcs[i])
            pieces += [tile[turn].payload, _seal(crcs[i], turn + 1 < container.passes)]
    return b"".join(pieces)


def check_head(container: Container) -> None:
    """All that `pack` checks but the tiles: an encoder asks before it begins. Raises `FormatError`."""
    check_header(container)
    for name in CHUNKS:
        size = len(getattr(container, name) or b"")
        check_range(f"length of the {name} chunk", size, 0, chunk_limit(container, name))
    check_kinds([kind for kind, _ in container.ancillary])
    for kind, data in container.ancillary:
        check_range(f"length of the ancillary chunk {kind!r}", len(data), 0, MAX_METADATA)


def _seal(value: int, short: bool) -> bytes:
    """A checksum or CRC: all of it, or the low half."""
    return UINT16.pack(value & 0xFFFF) if short else UINT32.pack(value)


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
    """Header and chunks."""
    header, flags = _read_header(reader)
    present = [name for name, (flag, _) in CHUNKS.items() if flags & flag]
    chunks: dict[str, Any] = {name: _read_chunk(reader, header, name) for name in present}
    if flags & _FLAG_ANCILLARY:
        chunks["ancillary"] = _read_ancillary(reader)
    return replace(header, **chunks)


def _pack_header(container: Container) -> bytearray:
    flags = _FLAG_GREY * (container.colour == "grey") + _FLAG_16_BITS * (container.bit_depth == 16)
    flags += sum(flag for name, (flag, _) in CHUNKS.items() if getattr(container, name) is not None)
    flags += _FLAG_ANCILLARY * bool(container.ancillary) + _FLAG_PROGRESSIVE * (container.passes == PASSES)
    header = bytearray(MAGIC + bytes([VERSION, flags]) + varint(container.width) + varint(container.height))
    header += bytes([len(container.model)]) + container.model.encode("ascii") + container.model_hash
    header += bytes([container.level, container.tile_side.bit_length() - 1])
    return header


def _pack_ancillary(chunks: tuple[tuple[str, bytes], ...]) -> bytes:
    """Nothing if there are none."""
    count = bytes([len(chunks)]) if chunks else b""
    return count + b"".join(chunk(kind.encode("ascii"), data) for kind, data in chunks)


def _read_header(reader: Reader) -> tuple[Container, int]:
    """The header as a Container that has no chunks and no tiles yet, and its flags."""
    start = bytes(reader.data[: len(MAGIC)])
    if not MAGIC.startswith(start):  # a file that was cut within its magic is truncated, not of another format
        raise FormatError(no_hpcm(bytes(reader.data[:LONGEST_START])))
    reader.take(len(MAGIC), "magic")
    version = reader.byte("version")
    if version != VERSION:
        raise FormatError(f"format version {version} found, this hpcm reads version {VERSION}; try a newer hpcm")
    flags = reader.byte("flags")
    if flags & ~_KNOWN_FLAGS:
        raise FormatError(f"flags are {flags:#04x}; version {VERSION} of the .hpcm format has {_KNOWN_FLAGS:#04x}")
    header = Container(
        passes=PASSES if flags & _FLAG_PROGRESSIVE else 1,
        width=reader.varint("width"),
        height=reader.varint("height"),
        model=str(reader.take(reader.byte("length of the model name"), "model name"), "latin-1"),  # checked below
        model_hash=bytes(reader.take(MODEL_HASH_BYTES, "model hash")),
        level=reader.byte("quality level"),
        colour="grey" if flags & _FLAG_GREY else "rgb",
        bit_depth=16 if flags & _FLAG_16_BITS else 8,
        tile_side=1 << reader.byte("tile side"),
        tiles=(),
    )
    check_header(header)
    return header, flags


def _read_chunk(reader: Reader, header: Container, name: str) -> bytes:
    start = reader.at
    kind = bytes(reader.take(1, f"{name} chunk"))
    if kind != CHUNKS[name][1]:
        raise FormatError(f"the {name} chunk begins with {kind!r} instead of {CHUNKS[name][1]!r}; the file is damaged")
    return reader.chunk(name, start, chunk_limit(header, name))


def _read_ancillary(reader: Reader) -> tuple[tuple[str, bytes], ...]:
    count = reader.byte("number of ancillary chunks")
    check_range("number of ancillary chunks", count, 1, 26)
    chunks: list[tuple[str, bytes]] = []
    for _ in range(count):
        start = reader.at
        kind = str(reader.take(1, "an ancillary chunk"), "latin-1")
        check_kinds([*(known for known, _ in chunks), kind])
        chunks.append((kind, reader.chunk(f"ancillary {kind!r}", start, MAX_METADATA)))
    return tuple(chunks)


def _read_tiles(reader: Reader, header: Container, partial: bool) -> tuple[Tile, ...]:
    """The table and the parts of the tiles, up to the end of the file."""
    count, passes = header.tile_count, header.passes
    smallest = 9 + 5 * (passes - 1)  # bytes of a tile without payload: lengths, checksums, CRCs
    reader.require(count * (smallest - (4 + 2 * (passes - 1) if partial else 0)), f"its {count} tiles")
    table = [[_read_entry(reader, turn + 1 < passes) for turn in range(passes)] for _ in range(count)]
    crcs = [crc32(reader.data[: reader.at])] * count
    tiles: list[list[Part]] = [[] for _ in range(count)]
    if not partial:
        reader.require(sum(size for entries in table for size, _ in entries) + count * (2 * passes + 2), "its tiles")
    for turn in range(passes):
        short = turn + 1 < passes
        for i in range(count):
            size, checksum = table[i][turn]
            if partial and len(reader.data) - reader.at < size + (2 if short else 4):
                if tiles[0]:
                    return tuple(map(tuple, tiles))
                raise TruncatedError("cut short: not even the first part of the picture is there; download more of it")
            payload = bytes(reader.take(size, "a part"))
            crcs[i] = crc32(payload, crcs[i])
            if reader.take(2 if short else 4, "CRC of a part") != _seal(crcs[i], short):
                where = f"tile {i} of {count} or the header"
                raise CorruptError(f"{where} was changed: a CRC differs; fetch the file again")
            tiles[i].append(Part(payload, checksum))
    if reader.at < len(reader.data):
        raise FormatError(f"{len(reader.data) - reader.at} bytes follow the end of the file; cut them off")
    return tuple(map(tuple, tiles))


def _read_entry(reader: Reader, short: bool) -> tuple[int, int]:
    """Length and checksum of a part, from the table."""
    size = reader.varint("length of a part")
    return size, reader.uint16("checksum of a part") if short else reader.uint32("checksum of a part")
