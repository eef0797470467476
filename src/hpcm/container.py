"""The .hpcm byte format, version 1. This docstring is its specification.

    │ header │ chunks │ table of tiles │ payload 0 │ CRC │ payload 1 │ CRC │ ... end of file
    └────────────── head ──────────────┘

Fixed-width integers are little-endian. A *varint* is LEB128: seven bits per byte, lowest first, the top bit set on all
bytes but the last, at most 5 bytes, and never longer than its value needs. A CRC is the CRC-32 of zlib and PNG. Code
for these lies in wire.py.

Header. Offsets are those of a picture whose sides take two bytes each (128 to 16,383 pixels).

    offset   size   field
    0        4      magic, the bytes 89 48 50 43: "HPC" behind a byte that is not ASCII, so that no text file matches
    4        1      version, 1
    5        1      flags: bit 0 colour (0 rgb, 1 grey), bit 1 depth (0: 8 bits, 1: 16 bits),
                    bits 2, 3, 4: a chunk ICC, EXIF, ALPHA follows; bit 5: ancillary chunks follow;
                    bits 6 and 7 are reserved and 0
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
    length   data; a profile, EXIF and a PNG of the alpha plane, which picture.py reads and writes
    4        CRC of type, length and data

Ancillary chunks. If the flags announce them: their number, one byte, 1 to 26, then so many chunks of the form above,
with data of up to 16 MiB. Their types are lower-case letters, each at most once, in alphabetical order. The picture is
decoded the same without them: a reader skips a type that it doesn't know, and keeps it where it writes the file again.

    "c"      cICP, the 4 bytes of PNG's chunk: colour primaries, transfer, matrix (ITU-T H.273), full range
    "t"      comments: keyword, NUL, text, NUL, keyword, ...; UTF-8
    "x"      XMP, UTF-8

Table of tiles. The picture is cut into squares of 2^t pixels from the top left, row by row; those at the right and the
bottom edge may be smaller. Their number, ceil(width / 2^t) * ceil(height / 2^t), is not stored. For each tile:

    1..5     length of the payload, varint, 0 to 2^35 - 1
    4        checksum of the symbols that the payload decodes to, as the codec defines it

Payloads. In the order of the table; the last CRC ends the file. For each tile:

    length   payload, the entropy coder's bytes
    4        CRC of the head followed by this payload

Every file has a tile and every tile's CRC covers the head, so the head needs no CRC of its own: four bytes saved. The
CRC of the head is computed once and goes on over each payload; any tile can be checked and decoded without the others.

What is detected: a file that is cut is always too short for what its head announces, and one with bytes after its last
CRC is too long. A changed byte breaks a bound, moves fields, or leaves all of them in place; a CRC notices the last for
certain, and wider damage but for one case in 2^32. A CRC is no signature, so each field is checked against its bound
before anything depends on it, and `unpack` takes memory in proportion to its input. The picture's size stays a claim:
2^32 pixels fit in 40 bytes, so whoever decodes the files of strangers sets a lower limit of their own.

Cost of a plain RGB picture of 4096x4096 in one tile, by a model with a name of four letters: 25 bytes of header, 4 + 4
in the table (one less if the payload is under 2 MiB), 4 of CRC; 37 bytes in all besides the payload.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from zlib import crc32

from .errors import CorruptError, FormatError
from .wire import MAX_VARINT, UINT32, Reader, check_range, chunk, varint

MAGIC = b"\x89HPC"
VERSION = 1
MAX_SIDE = 1 << 24  # pixels
MAX_PIXELS = 1 << 32
MAX_LEVEL = 63
MAX_METADATA = 1 << 24  # bytes of a chunk other than alpha
ALPHA_SLACK = 1024  # bytes that an alpha chunk may take beyond twice its raw plane: room for a coder's own header
MODEL_HASH_BYTES = 8
TILE_SIDES = tuple(1 << t for t in range(8, 17))  # 256 to 65,536 pixels

MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
CICP, COMMENTS, XMP = "c", "t", "x"  # types of ancillary chunks

_SMALLEST_TILE_BYTES = 1 + 4 + 4  # of an empty payload: length, checksum, CRC
_FLAG_GREY, _FLAG_16_BITS = 1 << 0, 1 << 1
_FLAG_ANCILLARY = 1 << 5
_CHUNKS = {"icc": (1 << 2, b"I"), "exif": (1 << 3, b"E"), "alpha": (1 << 4, b"A")}  # field: (flag, type), in order
_KNOWN_FLAGS = _FLAG_GREY | _FLAG_16_BITS | _FLAG_ANCILLARY | sum(flag for flag, _ in _CHUNKS.values())
_ANCILLARY_TYPE = re.compile("[a-z]")
Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels; right and bottom exclusive


@dataclass(frozen=True)
class Tile:
    """One square of the picture: the entropy coder's bytes and the checksum (uint32) of the symbols they decode to."""

    payload: bytes = field(repr=False)
    checksum: int


@dataclass(frozen=True, kw_only=True)
class Container:
    """All that a .hpcm file says, before any of it is decoded. Bounds are checked by `pack` and `unpack`."""

    width: int  # pixels
    height: int  # pixels
    model: str
    model_hash: bytes  # the first 8 bytes of the SHA-256 of the weights file
    level: int
    colour: Literal["rgb", "grey"]
    bit_depth: Literal[8, 16]
    tile_side: int  # pixels, a power of two
    icc: bytes | None = field(default=None, repr=False)
    exif: bytes | None = field(default=None, repr=False)
    alpha: bytes | None = field(default=None, repr=False)
    ancillary: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)  # (type, data), by type
    tiles: tuple[Tile, ...]

    def tile_boxes(self) -> list[Box]:
        """Where each tile lies, row by row."""
        return list(tile_boxes(self.width, self.height, self.tile_side))


def tile_boxes(width: int, height: int, side: int) -> Iterator[Box]:
    """The squares of `side` pixels that a picture is cut into, row by row; the last ones may be smaller."""
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield left, top, min(left + side, width), min(top + side, height)


def is_hpcm(data: bytes) -> bool:
    """Whether `data` begins like a .hpcm file of any version. Four bytes are enough to tell."""
    return data[: len(MAGIC)] == MAGIC


def pack(container: Container) -> bytes:
    """The bytes of a .hpcm file. Raises `FormatError` for a field out of its bounds or a wrong number of tiles."""
    _check_header(container)
    head = _pack_header(container)
    for name, (_, kind) in _CHUNKS.items():
        data: bytes | None = getattr(container, name)
        if data is not None:
            check_range(f"length of the {name} chunk", len(data), 0, _chunk_limit(container, name))
            head += chunk(kind, data)
    head += _pack_ancillary(container.ancillary)
    if len(container.tiles) != _tile_count(container):
        raise FormatError(f"{len(container.tiles)} tiles were given, but tile_boxes() has {_tile_count(container)}")
    for tile in container.tiles:
        check_range("length of a payload", len(tile.payload), 0, MAX_VARINT)
        check_range("checksum of a tile", tile.checksum, 0, (1 << 32) - 1)
        head += varint(len(tile.payload)) + UINT32.pack(tile.checksum)
    head_crc = crc32(head)
    parts = [bytes(head)]
    for tile in container.tiles:
        parts += [tile.payload, UINT32.pack(crc32(tile.payload, head_crc))]
    return b"".join(parts)


def unpack(data: bytes) -> Container:
    """What a .hpcm file says. Every byte of `data` is accounted for; `pack` of the result gives `data` again.

    Raises `TruncatedError` if `data` ends before the file does, `CorruptError` if a CRC differs, and `FormatError` if
    it is no .hpcm file, has another version or a field out of its bounds, or goes on after the end.
    """
    reader = Reader(data)
    header, flags = _read_header(reader)
    present = [name for name, (flag, _) in _CHUNKS.items() if flags & flag]
    chunks: dict[str, Any] = {name: _read_chunk(reader, header, name) for name in present}
    if flags & _FLAG_ANCILLARY:
        chunks["ancillary"] = _read_ancillary(reader)
    return replace(header, **chunks, tiles=_read_tiles(reader, _tile_count(header)))


def _check_header(container: Container) -> None:
    """Raise `FormatError` for a field of the header that is out of its bounds."""
    check_range("width", container.width, 1, MAX_SIDE)
    check_range("height", container.height, 1, MAX_SIDE)
    check_range("number of pixels", container.width * container.height, 1, MAX_PIXELS)
    check_range("quality level", container.level, 0, MAX_LEVEL)
    check_range("length of the model hash", len(container.model_hash), MODEL_HASH_BYTES, MODEL_HASH_BYTES)
    if not MODEL_NAME.fullmatch(container.model):
        raise FormatError(f"model name is {container.model!r}; allowed are 1 to 32 of a-z 0-9 ._- and no ._- in front")
    if container.colour not in ("rgb", "grey") or container.bit_depth not in (8, 16):
        found = f"{container.colour!r} of {container.bit_depth} bits"
        raise FormatError(f"the picture is {found}; a .hpcm file allows 'rgb' and 'grey' of 8 and 16 bits")
    if container.tile_side not in TILE_SIDES:
        raise FormatError(f"tile side is {container.tile_side}; a .hpcm file allows {TILE_SIDES}")


def _chunk_limit(container: Container, name: str) -> int:
    """The most bytes that the data of a chunk may have."""
    raw_plane = container.width * container.height * container.bit_depth // 8
    return 2 * raw_plane + ALPHA_SLACK if name == "alpha" else MAX_METADATA


def _tile_count(container: Container) -> int:
    """The length of `tile_boxes()`, which a damaged header can make long."""
    return -(-container.width // container.tile_side) * -(-container.height // container.tile_side)


def _pack_header(container: Container) -> bytearray:
    flags = _FLAG_GREY * (container.colour == "grey") + _FLAG_16_BITS * (container.bit_depth == 16)
    flags += sum(flag for name, (flag, _) in _CHUNKS.items() if getattr(container, name) is not None)
    flags += _FLAG_ANCILLARY * bool(container.ancillary)
    header = bytearray(MAGIC + bytes([VERSION, flags]) + varint(container.width) + varint(container.height))
    header += bytes([len(container.model)]) + container.model.encode("ascii") + container.model_hash
    header += bytes([container.level, container.tile_side.bit_length() - 1])
    return header


def _pack_ancillary(chunks: tuple[tuple[str, bytes], ...]) -> bytes:
    """Nothing if there are none."""
    kinds = [kind for kind, _ in chunks]
    _check_kinds(kinds)
    for kind, data in chunks:
        check_range(f"length of the ancillary chunk {kind!r}", len(data), 0, MAX_METADATA)
    count = bytes([len(chunks)]) if chunks else b""
    return count + b"".join(chunk(kind.encode("ascii"), data) for kind, data in chunks)


def _check_kinds(kinds: list[str]) -> None:
    if kinds != sorted(set(kinds)) or not all(map(_ANCILLARY_TYPE.fullmatch, kinds)):
        raise FormatError(f"ancillary chunks are of types {kinds}; allowed is each of a to z once, in this order")


def _read_header(reader: Reader) -> tuple[Container, int]:
    """The header as a Container that has no chunks and no tiles yet, and its flags."""
    start = bytes(reader.data[: len(MAGIC)])
    if not MAGIC.startswith(start):  # a file that was cut within its magic is truncated, not of another format
        raise FormatError(f"no .hpcm file: it begins with {start!r}, and a .hpcm file with {MAGIC!r}")
    reader.take(len(MAGIC), "magic")
    version = reader.byte("version")
    if version != VERSION:
        raise FormatError(f"format version {version} found, this hpcm reads version {VERSION}; try a newer hpcm")
    flags = reader.byte("flags")
    if flags & ~_KNOWN_FLAGS:
        raise FormatError(f"flags are {flags:#04x}; version {VERSION} of the .hpcm format has {_KNOWN_FLAGS:#04x}")
    header = Container(
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
    _check_header(header)
    return header, flags


def _read_chunk(reader: Reader, header: Container, name: str) -> bytes:
    start = reader.at
    kind = bytes(reader.take(1, f"{name} chunk"))
    if kind != _CHUNKS[name][1]:
        raise FormatError(f"the {name} chunk begins with {kind!r} instead of {_CHUNKS[name][1]!r}; the file is damaged")
    return reader.chunk(name, start, _chunk_limit(header, name))


def _read_ancillary(reader: Reader) -> tuple[tuple[str, bytes], ...]:
    count = reader.byte("number of ancillary chunks")
    check_range("number of ancillary chunks", count, 1, 26)
    chunks: list[tuple[str, bytes]] = []
    for _ in range(count):
        start = reader.at
        kind = str(reader.take(1, "an ancillary chunk"), "latin-1")
        _check_kinds([*(known for known, _ in chunks), kind])
        chunks.append((kind, reader.chunk(f"ancillary {kind!r}", start, MAX_METADATA)))
    return tuple(chunks)


def _read_tiles(reader: Reader, count: int) -> tuple[Tile, ...]:
    """The table and the payloads of `count` tiles, up to the end of the file."""
    reader.require(count * _SMALLEST_TILE_BYTES, f"its {count} tiles")
    table = [(reader.varint("length of a payload"), reader.uint32("checksum of a tile")) for _ in range(count)]
    head_crc = crc32(reader.data[: reader.at])
    tiles = []
    reader.require(sum(size + 4 for size, _ in table), "its payloads")
    for i, (size, checksum) in enumerate(table):
        payload = bytes(reader.take(size, "payload"))
        if reader.uint32("CRC of a tile") != crc32(payload, head_crc):
            raise CorruptError(f"tile {i} of {count} or the header was changed: a CRC differs; fetch the file again")
        tiles.append(Tile(payload, checksum))
    if reader.at < len(reader.data):
        raise FormatError(f"{len(reader.data) - reader.at} bytes follow the end of the file; cut them off")
    return tuple(tiles)
