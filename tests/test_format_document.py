"""docs/format.md walks through a real file: its table has every byte, and what it says is what the code reads."""

import re
from pathlib import Path
from zlib import crc32

from hpcm.format.container import unpack

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\| (\d+) \| `([0-9a-f ]+)`( \.\.\.)? \| (.*) \|$", re.MULTILINE)
DATA = (ROOT / "tests" / "golden" / "progressive.hpcm").read_bytes()


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
    for offset, value in ((6, container.width), (8, container.height), (26, container.tile_side)):
        assert str(value) in walk[offset][1]
    assert container.model in walk[11][1]
    assert f"level {container.level} " in walk[25][1]
    parts = [part for tile in container.tiles for part in tile]
    entries = [text for offset, (_, text) in walk.items() if 27 <= offset < 53]
    assert all(f"{len(part.payload):,} bytes" in text for part, text in zip(parts, entries, strict=True))
    payloads = [size for offset, (size, _) in walk.items() if offset >= 53][::2]
    assert payloads == [len(container.tiles[tile][turn].payload) for turn in range(3) for tile in range(2)]


def test_the_walk_explains_the_crcs():
    container, pieces = unpack(DATA), [DATA[offset : offset + size] for offset, _, size, _ in rows() if offset >= 53]
    crcs = [crc32(DATA[:53])] * 2
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
