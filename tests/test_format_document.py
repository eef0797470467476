"""The specification has every field with its bounds, and docs/format.md walks through a real file, byte by byte."""

import re
from pathlib import Path
from zlib import crc32

from hpcm.format import container as specification
from hpcm.format.container import unpack
from hpcm.format.fields import (
    ANCILLARY,
    ANCILLARY_BIT,
    CHUNKS,
    FLAGS,
    HEADER,
    KNOWN_FLAGS,
    MAGIC,
    MAX_ANCILLARY,
    MAX_METADATA,
    MAX_PIXELS,
    RESERVED_FLAGS,
    VERSION,
    in_words,
)

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\| (\d+) \| `([0-9a-f ]+)`( \.\.\.)? \| (.*) \|$", re.MULTILINE)
DATA = (ROOT / "tests" / "golden" / "progressive.hpcm").read_bytes()


def meaning_of(field):
    """What it is and what is allowed, as both documents word it."""
    return "; ".join(filter(None, (field.meaning, field.bounds)))


def test_the_specification_has_every_field_with_its_bounds():
    text = " ".join(specification.__doc__.split())
    assert f"magic, the bytes {MAGIC.hex(' ')}:" in text
    assert f"version, {VERSION} " in text
    for field in HEADER:
        assert f" {field.size} {field.title}: {meaning_of(field)}" in text
    assert f"width * height <= {in_words(MAX_PIXELS)}" in text
    for flag in FLAGS:
        off, on = flag.values
        assert f"bit {flag.bit} {flag.title} (0: {off}, 1: {on})" in text
    for chunk in CHUNKS:
        assert f"bit {chunk.bit} {chunk.name}" in text
        assert f'"{chunk.kind.decode()}" {chunk.meaning}: {chunk.bounds}' in text
    assert f"bit {ANCILLARY_BIT} ancillary chunks follow" in text
    assert f"one byte, 1 to {MAX_ANCILLARY}," in text
    for kind, chunk in ANCILLARY.items():
        size = {None: "", 1: "the byte of PNG's chunk"}.get(chunk.size, f"the {chunk.size} bytes of PNG's chunk")
        assert re.search(rf'^    "{kind}"      \S.*{size}', specification.__doc__, re.MULTILINE)
    for bit in RESERVED_FLAGS:
        assert re.search(rf"^    bit {bit}    ", specification.__doc__, re.MULTILINE)
    assert KNOWN_FLAGS + sum(1 << bit for bit in RESERVED_FLAGS) == 0xFF  # "all others 0"


def test_the_specification_counts_the_offsets():
    """Of a picture whose sides take two bytes each."""
    at, behind_name = len(MAGIC) + 2, ""  # version and flags take a byte each
    for field in HEADER:
        assert re.search(
            rf"^    {re.escape(f'{at}{behind_name}')} +{re.escape(field.size)} +{field.title}: ",
            specification.__doc__,
            re.MULTILINE,
        )
        at += {"1..4": 2, "1 + n": 1}.get(field.size) or int(field.size)
        behind_name = " + n" if field.name == "model" else behind_name


def test_the_tables_have_every_field_with_its_bounds():
    text = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
    assert f"| magic | {len(MAGIC)} | `{MAGIC.hex(' ')}` |" in text
    assert f"| version | 1 | {VERSION} |" in text
    assert f"| flags | 1 | 0x00 to {KNOWN_FLAGS:#04x}," in text
    for field in HEADER:
        assert f"| {field.title} | {field.size} | {meaning_of(field)}" in text
    assert f"width * height is at most {in_words(MAX_PIXELS)} |" in text
    for flag in FLAGS:
        assert f"| {flag.bit} | {flag.title}: {flag.values[0]} or {flag.values[1]} |" in text
    for chunk in CHUNKS:
        assert f'| {chunk.bit} | a chunk "{chunk.kind.decode()}" follows: {chunk.meaning}, {chunk.bounds} |' in text
    counts = f"1 to {MAX_ANCILLARY} ancillary chunks follow, of up to {in_words(MAX_METADATA)} bytes each"
    assert f"| {ANCILLARY_BIT} | {counts}" in text
    for bit, what in RESERVED_FLAGS.items():
        assert f"| {bit} | reserved: {what}, a chunk " in text


def rows():
    """(offset, bytes that are shown, length, text) of the table's rows."""
    found = ROW.findall((ROOT / "docs" / "format.md").read_text(encoding="utf-8"))
    for offset, shown, more, text in found:
        data = bytes.fromhex(shown)
        size = int(re.search(r"([\d,]+) bytes$", text)[1].replace(",", "")) if more else len(data)
        yield int(offset), data, size, text


def test_the_walk_leaves_out_no_byte():
    at = 0
    for offset, shown, size, text in rows():
        assert offset == at, text
        assert DATA[offset : offset + len(shown)] == shown, text
        at += size
    assert at == len(DATA)


def test_the_walk_says_what_is_read():
    container, walk = unpack(DATA), {offset: (size, text) for offset, _, size, text in rows()}
    for offset, value in (
        (6, container.width),
        (8, container.height),
        (10, container.bit_depth),
        (27, container.tile_side),
    ):
        assert str(value) in walk[offset][1]
    assert container.model in walk[12][1]
    assert f"level {container.level} " in walk[26][1]
    parts = [part for tile in container.tiles for part in tile]
    entries = [text for offset, (_, text) in walk.items() if 28 <= offset < 54]
    assert all(f"{len(part.payload):,} bytes" in text for part, text in zip(parts, entries, strict=True))
    payloads = [size for offset, (size, _) in walk.items() if offset >= 54][::2]
    assert payloads == [len(container.tiles[tile][turn].payload) for turn in range(3) for tile in range(2)]


def test_the_walk_explains_the_crcs():
    container, pieces = unpack(DATA), [DATA[offset : offset + size] for offset, _, size, _ in rows() if offset >= 54]
    crcs = [crc32(DATA[:54])] * 2
    for turn in range(container.passes):
        for tile in range(2):
            payload, crc = pieces[2 * (2 * turn + tile) :][:2]
            crcs[tile] = crc32(payload, crcs[tile])
            assert crc == crcs[tile].to_bytes(4, "little")[: 4 if turn == 2 else 2]


def test_what_the_beginnings_hold():
    text = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
    sizes = re.search(r"The first ([\d,]+) bytes, an eighth .* the first ([\d,]+) bytes, a third", text).groups()
    for parts, size in enumerate(sizes, 1):
        end = int(size.replace(",", ""))
        assert [len(tile) for tile in unpack(DATA[:end], partial=True).tiles] == [parts, parts]
        assert len(unpack(DATA[: end - 1], partial=True).tiles[1]) == parts - 1
