"""Makes heads.json from the table of fields: heads of .hpcm files, allowed and not, and what a reader says of each.

python tests/golden/heads.py    when format/fields.py changes

test_container.py and web/test read the file, so that every reader has the same bounds. An entry has a name, the bytes
in hexadecimal digits, and a verdict: "valid", with the fields that are read, or the kind of the refusal: "format" (a
field is out of its bounds), "truncated" or "corrupt" (a CRC differs).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpcm.format.fields import (
    ANCILLARY_BIT,
    CHUNKS,
    FLAGS,
    HEADER,
    KNOWN_FLAGS,
    MAGIC,
    MAX_ANCILLARY,
    MAX_METADATA,
    MAX_PIXELS,
    MAX_RESIDUAL_STEP,
    PASSES,
    VERSION,
    Container,
    chunk_limit,
)
from hpcm.format.wire import chunk, varint

FILE = Path(__file__).with_name("heads.json")
PLAIN = Container(
    passes=1,
    width=1,
    height=1,
    model="lite",
    model_hash=bytes(range(8)),
    level=5,
    colour="rgb",
    bit_depth=8,
    tile_side=256,
    tiles=(),
)
NAMES = ("a", "0" + "z._-" * 7 + "9zz")  # the shortest, the longest
NO_NAMES = ("", "a" * 33, "Lite", ".lite", "_lite", "-lite", "../x", "a b", "a/b", "lite\n", "l\0te", "lit\xe9")
LOSSLESS = b"\x00\x00"  # data of a residual chunk
LATER = bytes(64)  # what follows a head; a refusal doesn't depend on it

Head = dict[str, Any]


def head_of(container: Container, *, flags: int = 0, version: int = VERSION, **raw: bytes) -> bytes:
    """The bytes of a header; `raw` are those of fields, also such as no container holds."""
    head = MAGIC + bytes([version]) + varint(flags)
    for field in HEADER:
        head += raw.get(field.name) or field.codec.write(getattr(container, field.name))
    return head


def valid(name: str, container: Container, head: bytes) -> Head:
    read = {part.name: getattr(container, part.name) for part in (*HEADER, *FLAGS)}
    return {
        "name": name,
        "bytes": head.hex(),
        "verdict": "valid",
        "fields": {**read, "model_hash": read["model_hash"].hex()},
    }


def refused(name: str, head: bytes, verdict: str = "format") -> Head:
    return {"name": name, "bytes": head.hex(), "verdict": verdict}


def heads() -> Iterator[Head]:
    """All of them."""
    yield valid("plain", PLAIN, head_of(PLAIN))
    yield from starts()
    for field in HEADER:
        yield from bounds_of(field)
    yield from sizes()
    yield from flags()
    for announced in CHUNKS:
        yield from chunks(announced)
    yield from ancillary()
    whole = head_of(PLAIN)
    for size in range(len(whole)):
        yield refused(f"cut after {size} bytes", whole[:size], "truncated")


def starts() -> Iterator[Head]:
    """Magic and version."""
    yield refused("no magic", b"\x89PNG" + head_of(PLAIN)[len(MAGIC) :])
    for version in (0, VERSION + 1, 255):
        yield refused(f"version {version}", head_of(PLAIN, version=version))


def bounds_of(field: Any) -> Iterator[Head]:
    """A field at both ends of its bounds, and one step beyond each."""
    if isinstance(field.allowed, re.Pattern):
        for text in NAMES:
            container = replace(PLAIN, **{field.name: text})
            yield valid(f"{field.title} {text!r}", container, head_of(container))
        for text in NO_NAMES:
            letters = text.encode("latin-1")
            yield refused(f"{field.title} {text!r}", head_of(PLAIN, **{field.name: bytes([len(letters)]) + letters}))
        return
    if isinstance(getattr(PLAIN, field.name), bytes):
        return  # of a fixed size, and all values are allowed
    low, high = field.allowed[0], field.allowed[-1]
    for value in dict.fromkeys((low, high)):
        container = replace(PLAIN, **{field.name: value})
        yield valid(f"{field.title} {value}", container, head_of(container))
    step = (low // 2, 2 * high) if isinstance(field.allowed, tuple) else (low - 1, high + 1)
    for value in step:
        if value >= 0:
            yield refused(f"{field.title} {value}", head_of(PLAIN, **{field.name: field.codec.write(value)}))


def sizes() -> Iterator[Head]:
    """Width and height together, and varints that are longer than their value needs or than any may be."""
    side = 1 << 16
    container = replace(PLAIN, width=side, height=MAX_PIXELS // side)
    yield valid("as many pixels as are allowed", container, head_of(container))
    yield refused("more pixels than are allowed", head_of(replace(container, height=container.height + 1)))
    for name in ("width", "height"):
        yield refused(f"{name} in more bytes than it needs", head_of(PLAIN, **{name: b"\x81\x00"}))
        yield refused(f"{name} in six bytes", head_of(PLAIN, **{name: b"\x81\x80\x80\x80\x80\x01"}) + LATER)


def flags() -> Iterator[Head]:
    """The bits that are fields, and those that nobody knows."""
    for flag in FLAGS:
        container = replace(PLAIN, **{flag.name: flag.values[1]})
        yield valid(f"{flag.title} {flag.values[1]}", container, head_of(container, flags=1 << flag.bit))
    yield refused("flags in more bytes than they need", MAGIC + bytes([VERSION, 0x80, 0x00]) + LATER)
    for bit in range(35):
        if not KNOWN_FLAGS >> bit & 1:
            yield refused(f"flag {bit}", head_of(PLAIN, flags=1 << bit))


def chunks(announced: Any) -> Iterator[Head]:
    """A chunk that a flag announces: there, missing, of another type, damaged, cut, longer than is allowed."""
    data = LOSSLESS if announced.name == "residual" else b"data"
    head, body = head_of(PLAIN, flags=1 << announced.bit), chunk(announced.kind, data)
    title = f"{announced.name} chunk"
    limit = chunk_limit(PLAIN, announced)
    yield valid(title, PLAIN, head + body)
    if announced.name == "residual":
        yield from residuals(announced)
    else:
        yield valid(f"{title} without data", PLAIN, head + chunk(announced.kind, b""))
    yield refused(f"{title} missing", head, "truncated")
    yield refused(f"{title} of another type", head + chunk(b"Q", b"data"))
    yield refused(f"{title} damaged", head + body[:-1] + bytes([body[-1] ^ 1]), "corrupt")
    yield refused(f"{title} cut", head + body[:-1], "truncated")
    yield refused(f"{title} of the largest size, cut", head + announced.kind + varint(limit), "truncated")
    yield refused(f"{title} too long", head + announced.kind + varint(limit + 1))


def residuals(announced: Any) -> Iterator[Head]:
    """What the chunk of the residual layer says, within its bounds and beyond."""

    def residual_head(data: bytes, container: Container = PLAIN, progressive: bool = False) -> bytes:
        flags = 1 << announced.bit | progressive << FLAGS[1].bit
        return head_of(container, flags=flags) + chunk(announced.kind, data)

    deep = replace(PLAIN, bit_depth=16)
    for kind in (0, 1):
        for container, most in ((PLAIN, 127), (deep, 32767)):
            name = f"residual of kind {kind}, {container.bit_depth} bits"
            yield valid(f"{name}, {most}", container, residual_head(bytes([kind]) + varint(most), container))
            yield refused(f"{name}, {most + 1}", residual_head(bytes([kind]) + varint(most + 1), container))
    for step in (1, MAX_RESIDUAL_STEP):
        yield valid(f"residual of step {step}", PLAIN, residual_head(b"\x02" + varint(step)))
    for step in (0, MAX_RESIDUAL_STEP + 1):
        yield refused(f"residual of step {step}", residual_head(b"\x02" + varint(step)))
    progressive = replace(PLAIN, passes=PASSES)
    yield valid("residual of a progressive file", progressive, residual_head(LOSSLESS, progressive=True))
    yield refused("residual beside grey in a progressive file", residual_head(b"\x01\x00", progressive=True))
    yield refused("residual of an unknown kind", residual_head(b"\x03\x01"))
    for data in (b"", b"\x00", b"\x00\x80"):
        yield refused(f"residual chunk of {len(data)} bytes, too short", residual_head(data))
    yield refused("residual chunk too long", residual_head(LOSSLESS + b"\x00"))
    yield refused("residual number in more bytes than it needs", residual_head(b"\x00\x80\x00"))


def ancillary() -> Iterator[Head]:
    """Chunks that a reader may pass over."""
    head = head_of(PLAIN, flags=1 << ANCILLARY_BIT)
    letters = [bytes([byte]) for byte in range(ord("a"), ord("z") + 1)]
    yield valid("one ancillary chunk", PLAIN, head + b"\x01" + chunk(b"x", b"<x/>"))
    yield valid("an ancillary chunk that nobody knows", PLAIN, head + b"\x01" + chunk(b"q", b"new"))
    every = b"".join(chunk(letter, b"") for letter in letters)
    yield valid("all ancillary chunks", PLAIN, head + bytes([MAX_ANCILLARY]) + every)
    yield refused("no ancillary chunk", head + b"\x00")
    yield refused("too many ancillary chunks", head + bytes([MAX_ANCILLARY + 1]) + every)
    yield refused("an ancillary chunk of a capital letter", head + b"\x01" + chunk(b"X", b""))
    yield refused("an ancillary chunk twice", head + b"\x02" + chunk(b"x", b"") * 2)
    yield refused("ancillary chunks out of order", head + b"\x02" + chunk(b"x", b"") + chunk(b"c", b""))
    yield refused("an ancillary chunk damaged", head + b"\x01" + chunk(b"x", b"data")[:-1] + b"\x00", "corrupt")
    yield refused("an ancillary chunk too long", head + b"\x01x" + varint(MAX_METADATA + 1))


def document() -> str:
    """What the file holds."""
    lines = ",\n".join(json.dumps(head) for head in heads())
    return f"[\n{lines}\n]\n"


if __name__ == "__main__":
    FILE.write_text(document(), encoding="utf-8")
