"""Makes files.json: small .hpcm files, whole, cut and damaged, and what a reader says of their tables and parts.

python tests/golden/files.py    when the format changes

test_container.py and web/test read the file, so that every reader says the same of a file. Payloads are a few arbitrary
bytes, which no reader of the container decodes. An entry has a name, the bytes in hexadecimal digits, and two verdicts:

    whole    of a reader that wants all of the file
    partial  of one that takes a beginning of it; if that is "valid", `parts` is how many parts are there, of all tiles

A verdict is "valid" or the kind of the refusal: "format" (no such file is allowed), "truncated" (it ends too early) or
"corrupt" (a CRC differs). Heads by themselves are in heads.json.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from hpcm.errors import CorruptError, FormatError, TruncatedError
from hpcm.format.container import pack, unpack
from hpcm.format.fields import Container, Part, Residual, Tile
from hpcm.format.wire import MAX_VARINT, varint

FILE = Path(__file__).with_name("files.json")
PLAIN = Container(
    passes=1,
    width=200,
    height=1,
    model="a",
    model_hash=bytes(range(8)),
    level=5,
    colour="rgb",
    bit_depth=8,
    tile_side=256,
    tiles=((Part(b"hello", 0xDEADBEEF),),),
)
EARLY = (Part(b"he", 0x1122), Part(b"", 0x3344))  # the first two parts of a progressive file's tile
LAST = Part(b"llo", 0xDEADBEEF)
RESIDUAL = Part(b"rest", 0xFEDCBA98)


def of_two_tiles(*tile: Part, **fields: Any) -> Container:
    """A file of this tile and one with other bytes of the same lengths."""
    other = tuple(Part(part.payload.upper(), part.checksum ^ 0x0F0F) for part in tile)
    return replace(PLAIN, width=300, tiles=(tile, other), **fields)


FILES = {
    "one tile": PLAIN,
    "two tiles": of_two_tiles(LAST),
    "progressive": of_two_tiles(*EARLY, LAST, passes=3),
    "lossless": of_two_tiles(LAST, RESIDUAL, residual=Residual("samples", 0)),
    "coefficients": of_two_tiles(*EARLY, LAST, RESIDUAL, passes=3, residual=Residual("coefficients", 300)),
    "beside grey": of_two_tiles(RESIDUAL, residual=Residual("samples beside grey", 0)),
    "every chunk": replace(
        PLAIN, colour="grey", icc=b"I", exif=b"E", alpha=b"A", residual=Residual("samples", 1),
        ancillary=(("q", b"new"), ("x", b"<x/>")), tiles=((LAST, RESIDUAL),),
    ),
}  # fmt: skip

File = dict[str, Any]


class Place(NamedTuple):
    """Where a part lies in a file: its payload, then its CRC."""

    start: int
    crc: int
    end: int


class Layout(NamedTuple):
    """Where things lie in a file."""

    data: bytes
    table: int  # where it begins
    parts: list[Place]  # in the order of the file

    @classmethod
    def of(cls, container: Container) -> Layout:
        data = pack(container)
        parts: list[Place] = []
        at = len(data)
        table = len(data)
        for turn in reversed(range(container.parts)):
            crc_size = 2 if turn < container.base_parts - 1 else 4  # of a checksum, too
            for tile in reversed(container.tiles):
                size = len(tile[turn].payload)
                parts.insert(0, Place(at - crc_size - size, at - crc_size, at))
                at -= size + crc_size
                table -= size + crc_size + len(varint(size)) + crc_size
        return cls(data, table, parts)


def entry(name: str, data: bytes, whole: str, partial: str | int) -> File:
    """`partial` is a verdict, or how many parts are there."""
    said = {"partial": partial} if isinstance(partial, str) else {"partial": "valid", "parts": partial}
    return {"name": name, "bytes": data.hex(), "whole": whole, **said}


def cut(name: str, data: bytes, there: int) -> File:
    """A file that is too short, of which so many parts are there."""
    return entry(name, data, "truncated", there or "truncated")


def files() -> Iterator[File]:
    """All of them."""
    for name, container in FILES.items():
        layout = Layout.of(container)
        yield entry(name, layout.data, "valid", len(layout.parts))
        yield from cuts(name, layout)
        yield from damage(name, layout)
        yield from longer(name, layout)
    yield from exchanged()
    yield from lengths()
    yield from claims()
    yield from flips()


def cuts(name: str, layout: Layout) -> Iterator[File]:
    """Of the table and the parts, at each byte."""
    for size in range(layout.table, len(layout.data)):
        there = sum(part.end <= size for part in layout.parts)
        yield cut(f"{name}, cut after {size} bytes", layout.data[:size], there)


def damage(name: str, layout: Layout) -> Iterator[File]:
    """Of each part: its payload, and the first and the last byte of its CRC; of files that are whole or cut."""
    data = layout.data
    for i, (start, crc, end) in enumerate(layout.parts):
        places = {"first byte of the CRC": crc, "last byte of the CRC": end - 1}
        if start < crc:
            places["payload"] = start
        for what, at in places.items():
            yield entry(f"{name}, part {i}: {what} changed", changed(data, at), "corrupt", "corrupt")
        yield cut(f"{name}, part {i} changed and cut", changed(data, start)[: end - 1], i)
        if end < len(data):
            yield entry(f"{name}, part {i} changed, and cut later", changed(data, start)[:-1], "truncated", "corrupt")


def longer(name: str, layout: Layout) -> Iterator[File]:
    """Bytes behind the end."""
    for what, more in {"a byte": b"\0", "its last CRC again": layout.data[-4:], "another file": layout.data}.items():
        yield entry(f"{name}, {what} behind the end", layout.data + more, "format", "format")


def changed(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def exchanged() -> Iterator[File]:
    """What is right in another place or another file."""
    tiles = Layout.of(FILES["two tiles"])
    data, (first, second) = tiles.data, tiles.parts
    swapped = data[: first.start] + data[second.start :] + data[first.start : first.end]
    yield entry("tiles of equal length exchanged: only checksums of their symbols tell", swapped, "valid", 2)
    middle = (tiles.table + first.start) // 2
    swapped = data[: tiles.table] + data[middle : first.start] + data[tiles.table : middle] + data[first.start :]
    yield entry("entries of the table exchanged", swapped, "corrupt", "corrupt")
    one = Layout.of(PLAIN)
    other = Layout.of(replace(PLAIN, level=6))
    yield entry("the tile of another file", one.data[: one.table] + other.data[other.table :], "corrupt", "corrupt")
    yield entry("quality level changed", changed(one.data, one.table - 2), "corrupt", "corrupt")
    yield entry("checksum in the table changed", changed(one.data, one.table + 1), "corrupt", "corrupt")
    layout = Layout.of(FILES["progressive"])
    start, crc, end = layout.parts[0]
    high = crc32(layout.data[:crc]).to_bytes(4, "little")[2:]
    yield entry("the high half of a CRC", layout.data[:crc] + high + layout.data[end:], "corrupt", "corrupt")
    alone = crc32(layout.data[start:crc]).to_bytes(4, "little")[:2]
    yield entry("a CRC without the head", layout.data[:crc] + alone + layout.data[end:], "corrupt", "corrupt")


def with_lengths(*sizes: bytes, payloads: tuple[bytes, ...] = (), there: int | None = None) -> bytes:
    """A file of one pass with a tile for each length, as these bytes say it, all CRCs right."""
    tiles: tuple[Tile, ...] = ((Part(b"", 0),),) * len(sizes)
    layout = Layout.of(replace(PLAIN, width=256 * len(sizes), tiles=tiles))
    head = layout.data[: layout.table] + b"".join(size + bytes(4) for size in sizes)
    payloads = payloads or (b"",) * len(sizes)
    return head + b"".join(payload + crc32(head + payload).to_bytes(4, "little") for payload in payloads[:there])


def lengths() -> Iterator[File]:
    """What the table says of the lengths of parts."""
    yield entry("a part of no bytes", with_lengths(b"\0"), "valid", 1)
    for size in (127, 128, 300):
        data = with_lengths(varint(size), payloads=(bytes(size),))
        yield entry(f"a part of {size} bytes", data, "valid", 1)
    yield entry("a length in more bytes than it needs", with_lengths(b"\x80\x00"), "format", "format")
    yield entry("a length in six bytes", with_lengths(b"\x81\x80\x80\x80\x80\x01"), "format", "format")
    yield entry("a length in six bytes, cut", with_lengths(b"\x81\x80\x80\x80\x80\x01", there=0), "format", "format")
    most = varint(MAX_VARINT)
    yield cut("the largest length", with_lengths(most), 0)
    yield cut("the largest length of all tiles", with_lengths(most, most, most), 0)
    yield cut("the largest length of the last tile", with_lengths(b"\0", b"\0", most), 2)
    for size in (1 << 31, (1 << 32) - 1, 1 << 32, (1 << 32) - 4, MAX_VARINT - 3):  # where sums of 32 bits overflow
        yield cut(f"a length of {size}", with_lengths(varint(size), b"\0"), 0)
        yield cut(f"a length of {size} behind a tile", with_lengths(b"\0", varint(size)), 1)
    yield cut("a length that is one too long", with_lengths(b"\6", payloads=(b"hello",)), 0)
    yield cut("the last length is one too long", with_lengths(b"\5", b"\6", payloads=(b"hello",) * 2), 1)
    short = with_lengths(b"\4", b"\5", payloads=(b"hello",) * 2)
    yield entry("a length that is one too short", short, "corrupt", "corrupt")
    last = with_lengths(b"\5", b"\4", payloads=(b"hello",) * 2)
    yield entry("the last length is one too short", last, "corrupt", "corrupt")


def claims() -> Iterator[File]:
    """Short files that claim much: a reader takes no memory for it."""
    for width, height, side in ((1 << 24, 256, 256), (257, 16_711_935, 256), (1 << 16, 1 << 16, 1 << 16)):
        layout = Layout.of(replace(PLAIN, width=1, height=1, tile_side=side))
        head = layout.data[: layout.table].replace(b"\x01\x01\x08", varint(width) + varint(height) + b"\x08", 1)
        name = f"{width} x {height} pixels in tiles of {side}"
        yield cut(f"{name}: no table", head, 0)
        yield cut(f"{name}: one entry", head + bytes(5), 0)


def flips() -> Iterator[File]:
    """Each bit of head and table in turn, also where that makes several mistakes. What is said first is recorded."""
    layout = Layout.of(FILES["coefficients"])
    for at in range(layout.parts[0].start):
        for bit in range(8):
            data = layout.data[:at] + bytes([layout.data[at] ^ 1 << bit]) + layout.data[at + 1 :]
            said = [verdict(data, partial) for partial in (False, True)]
            yield entry(f"bit {bit} of byte {at} changed", data, said[0], said[1])


def verdict(data: bytes, partial: bool) -> str:
    """What the package's reader says of a file that no reader may take."""
    try:
        unpack(data, partial=partial)
    except TruncatedError:
        return "truncated"
    except CorruptError:
        return "corrupt"
    except FormatError:
        return "format"
    raise AssertionError(f"a damaged file is read: {data.hex()}")


def document() -> str:
    """What the file holds."""
    lines = ",\n".join(json.dumps(file) for file in files())
    return f"[\n{lines}\n]\n"


if __name__ == "__main__":
    FILE.write_text(document(), encoding="utf-8")
