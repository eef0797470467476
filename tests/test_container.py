"""The .hpcm bytes: what goes in comes out, the format never changes by accident, and no damage goes unnoticed."""

import importlib.util
import io
import json
import random
import tracemalloc
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hpcm.errors import CorruptError, FormatError, HPCMError, TruncatedError
from hpcm.format.container import is_hpcm, pack, unpack, unpack_head
from hpcm.format.fields import MAGIC, MAX_METADATA, Container, Part, Residual
from hpcm.format.wire import MAX_VARINT, Reader, chunk, varint

PLAIN = Container(
    passes=1,
    width=300,
    height=200,
    model="lite",
    model_hash=bytes(range(8)),
    level=5,
    colour="rgb",
    bit_depth=8,
    tile_side=512,
    tiles=((Part(b"hello", 0xDEADBEEF),),),
)
FULL = replace(
    PLAIN,
    colour="grey",
    bit_depth=16,
    tile_side=256,
    width=600,
    icc=b"profile of some length",
    exif=b"",
    alpha=bytes(range(40)),
    ancillary=(("c", bytes([9, 16, 0, 1])), ("x", b"<x:xmpmeta/>")),
    tiles=((Part(b"first payload" * 5, 1),), (Part(b"", 2),), (Part(bytes(130), 3),)),
)
PROGRESSIVE = replace(
    FULL,
    passes=3,
    tiles=tuple((Part(bytes([i]) * 7, i), Part(b"second" * i, 0xFFFF), Part(b"third", 1 << 31)) for i in range(3)),
)
LAYERED = replace(
    PROGRESSIVE,
    residual=Residual("samples", 3),
    tiles=tuple((*tile, Part(bytes([9]) * 40, 0xFEDCBA98)) for tile in PROGRESSIVE.tiles),
)
BESIDE_GREY = replace(FULL, residual=Residual("samples beside grey", 0))
GOLDEN = (
    "89485043 02 00 ac02 c801 08 04 6c697465 0001020304050607 05 09"  # magic to tile side
    "05 efbeadde"  # the only tile: length, checksum
    "68656c6c6f c2461dfa"  # payload, CRC
)
GOLDEN_PROGRESSIVE = (
    "89485043 02 02 ac02 c801 08 04 6c697465 0001020304050607 05 09"
    "02 2211 00 4433 01 efbeadde"  # the only tile: length and checksum of each part
    "6865 ffe2 ffe2 6c 918de0bb"  # part, CRC of each
)


HEADS = Path(__file__).parent / "golden" / "heads.json"
FILES = HEADS.with_name("files.json")
VERDICTS = {"format": FormatError, "truncated": TruncatedError, "corrupt": CorruptError}


def head_of(
    width: bytes, height: bytes, *, version: int = 2, flags: int = 0, depth: int = 8, name: bytes = b"lite"
) -> bytes:
    """A header put together by hand, with tiles of 256 pixels, so that it can say what `pack` refuses to."""
    start = MAGIC + bytes([version]) + varint(flags) + width + height + bytes([depth])
    return start + bytes([len(name)]) + name + bytes(8) + bytes([5, 8])


def with_tile(head: bytes, length: bytes = b"\x00") -> bytes:
    """The head's file with one tile of an empty payload, all CRCs right."""
    head += length + bytes(4)
    return head + crc32(head).to_bytes(4, "little")


def with_empty_tiles(head: bytes, count: int, passes: int) -> bytes:
    """The head's file with tiles of empty payloads, in so many passes, all CRCs right."""
    head += (bytes(1 + 2) * (passes - 1) + bytes(1 + 4)) * count
    crc = crc32(head).to_bytes(4, "little")
    return head + crc[:2] * count * (passes - 1) + crc * count


@st.composite
def containers(draw: st.DrawFn) -> Container:
    shape = Container(
        width=draw(st.integers(1, 1500)),
        height=draw(st.integers(1, 1500)),
        model=draw(st.from_regex(r"[a-z0-9][a-z0-9._-]{0,31}", fullmatch=True)),
        model_hash=draw(st.binary(min_size=8, max_size=8)),
        level=draw(st.integers(0, 63)),
        colour=draw(st.sampled_from(["rgb", "grey"])),
        bit_depth=draw(st.integers(8, 16)),
        tile_side=1 << draw(st.integers(8, 16)),
        icc=draw(st.none() | st.binary(max_size=300)),
        exif=draw(st.none() | st.binary(max_size=300)),
        alpha=draw(st.none() | st.binary(max_size=300)),
        ancillary=tuple(sorted(draw(st.dictionaries(st.sampled_from("abcxyz"), st.binary(max_size=50))).items())),
        passes=draw(st.sampled_from([1, 3])),
        tiles=(),
    )
    shape = replace(shape, residual=draw(residuals(shape)))
    payload = draw(st.binary(max_size=300))
    checksum = draw(st.integers(0, 2**32 - 1))
    early = [Part(payload[k:], (checksum ^ k) & 0xFFFF) for k in range(shape.base_parts - 1)]
    last = [Part(payload, checksum)] * (shape.parts - len(early) - 1)
    tiles = [(*early, *last, Part(payload[i:], checksum ^ i)) for i in range(len(shape.tile_boxes()))]
    return replace(shape, tiles=tuple(tiles))


def residuals(shape: Container) -> st.SearchStrategy[Residual | None]:
    """The residual layers that a file may have."""
    errors = st.integers(0, 2 ** (shape.bit_depth - 1) - 1)
    kinds = [
        st.none(),
        st.builds(Residual, st.just("samples"), errors),
        st.builds(Residual, st.just("coefficients"), st.integers(1, 65535)),
    ]
    if shape.passes == 1:
        kinds.append(st.builds(Residual, st.just("samples beside grey"), errors))
    return st.one_of(kinds)


@settings(deadline=None)
@given(containers())
def test_round_trip(container: Container) -> None:
    assert unpack(pack(container)) == container


def test_golden_bytes() -> None:
    assert pack(PLAIN).hex() == GOLDEN.replace(" ", "")
    progressive = (Part(b"he", 0x1122), Part(b"", 0x3344), Part(b"l", 0xDEADBEEF))
    assert pack(replace(PLAIN, passes=3, tiles=(progressive,))).hex() == GOLDEN_PROGRESSIVE.replace(" ", "")


@pytest.mark.parametrize(
    ("residual", "passes", "flags", "data"),
    [
        (Residual("samples", 0), 1, 0x40, b"\x00\x00"),
        (Residual("samples beside grey", 2), 1, 0x40, b"\x01\x02"),
        (Residual("coefficients", 300), 3, 0x42, b"\x02\xac\x02"),
    ],
)
def test_golden_bytes_of_a_residual_layer(residual: Residual, passes: int, flags: int, data: bytes) -> None:
    """Its chunk, and one part more behind all passes; beside grey there is no other part."""
    base = (Part(b"he", 0x1122), Part(b"", 0x3344), Part(b"l", 0xDEADBEEF))[-passes:]
    tile = (*base, Part(b"lo", 0x55667788)) if residual.kind != "samples beside grey" else (Part(b"lo", 0x55667788),)
    file = pack(replace(PLAIN, passes=passes, residual=residual, tiles=(tile,)))
    head = bytes.fromhex(GOLDEN.replace(" ", ""))[:26]
    head = head[:5] + bytes([flags]) + head[6:] + chunk(b"R", data)
    sizes = [2 if part.checksum < 1 << 16 else 4 for part in tile]
    for part, size in zip(tile, sizes, strict=True):
        head += bytes([len(part.payload)]) + part.checksum.to_bytes(size, "little")
    assert file[: len(head)] == head
    rest, payloads = b"", b""
    for part, size in zip(tile, sizes, strict=True):
        payloads += part.payload
        rest += part.payload + crc32(head + payloads).to_bytes(4, "little")[:size]
    assert file[len(head) :] == rest


def test_golden_bytes_of_ancillary_chunks() -> None:
    """Between the other chunks and the table: their number, then type, length, data and CRC of each."""
    data = pack(replace(PLAIN, exif=b"E", ancillary=(("c", b"\x09\x10\x00\x01"), ("x", b"<x/>"))))
    chunks = "4501456712bd96 02 63 04 09100001 fba60bdc 78 04 3c782f3e f8d35190".replace(" ", "")
    head = GOLDEN.replace(" ", "")[:52].replace("89485043" + "02" + "00", "89485043" + "02" + "28")
    assert data.hex()[: len(head + chunks)] == head + chunks


@pytest.mark.parametrize("container", [PLAIN, FULL, PROGRESSIVE, LAYERED, BESIDE_GREY])
def test_the_head_alone(container: Container) -> None:
    """All but the tiles, from a beginning of the file that holds it; whatever follows isn't read."""
    data, head = pack(container), replace(container, tiles=())
    sizes = [size for size in range(len(data) + 1) if tells_head(data[:size])]
    assert unpack_head(data) == unpack_head(data[: sizes[0]] + b"anything") == head
    assert sizes == list(range(sizes[0], len(data) + 1))


def tells_head(data: bytes) -> bool:
    try:
        return unpack_head(data) is not None
    except TruncatedError:
        return False


def test_an_ancillary_chunk_that_is_not_known_is_kept() -> None:
    """A file of a later version that says more: the picture is read, and nothing is lost when it is written again."""
    later = replace(PLAIN, ancillary=(("q", b"something new"),))
    assert unpack(pack(later)) == later


@pytest.mark.parametrize("side", [1, 127, 128, 16383, 16384, 2**24])
def test_extreme_sizes_round_trip(side: int) -> None:
    container = replace(PLAIN, width=side, height=1, tile_side=65536)
    container = replace(container, tiles=((Part(b"", 0),),) * len(container.tile_boxes()))
    assert unpack(pack(container)) == container


def test_tile_boxes_cover_the_picture_row_by_row() -> None:
    boxes = replace(PLAIN, width=600, height=257, tile_side=256).tile_boxes()
    assert boxes == [
        (0, 0, 256, 256),
        (256, 0, 512, 256),
        (512, 0, 600, 256),
        (0, 256, 256, 257),
        (256, 256, 512, 257),
        (512, 256, 600, 257),
    ]


@pytest.mark.parametrize(("payload", "overhead"), [(100, 35), (1000, 36), (1 << 20, 37), (1 << 21, 38)])
def test_overhead(payload: int, overhead: int) -> None:
    container = replace(PLAIN, width=4096, height=4096, tile_side=4096, tiles=((Part(bytes(payload), 0),),))
    assert len(pack(container)) - payload == overhead


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_varints_take_seven_bits_a_byte(size: int) -> None:
    for value in (1 << 7 * (size - 1), (1 << 7 * size) - 1):
        assert len(varint(value)) == size
        assert Reader(varint(value)).varint("it") == value
    assert varint(0) == b"\0"
    assert len(varint(MAX_VARINT)) == 5
    with pytest.raises(FormatError, match="it takes more bytes than a varint"):
        Reader(varint(MAX_VARINT + 1)).varint("it")


def test_what_is_printed_of_a_file_has_no_data_in_it() -> None:
    assert {name for name in ("icc", "exif", "alpha", "ancillary", "payload") if f"{name}=" in repr(FULL)} == set()
    assert repr(Part(b"hello", 7)) == "Part(checksum=7)"


def test_is_hpcm() -> None:
    assert is_hpcm(pack(PLAIN))
    assert is_hpcm(MAGIC)
    assert not is_hpcm(MAGIC[:3])
    assert not is_hpcm(b"\x89PNG\r\n\x1a\n")


# -------------------------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize("container", [PLAIN, FULL, PROGRESSIVE, LAYERED, BESIDE_GREY])
def test_every_truncation_is_noticed(container: Container) -> None:
    data = pack(container)
    for size in range(len(data)):
        with pytest.raises(TruncatedError):
            unpack(data[:size])


@pytest.mark.parametrize(("passes", "partial", "needed"), [(1, False, 9), (1, True, 5), (3, False, 19), (3, True, 11)])
def test_a_head_alone_is_short_by_what_a_tile_takes_at_least(passes: int, partial: bool, needed: int) -> None:
    """Before the table is read: a beginning needs lengths and checksums, a whole file the CRCs too."""
    head = head_of(b"\x80\x04", b"\x01", flags=0x02 if passes == 3 else 0)  # 512 pixels: two tiles
    with pytest.raises(TruncatedError, match=f"{2 * needed} bytes of its 2 tiles expected, 0 left"):
        unpack(head, partial=partial)
    assert unpack(with_empty_tiles(head, 2, passes)).tiles == ((Part(b"", 0),) * passes,) * 2


@pytest.mark.parametrize(("container", "needed"), [(PLAIN, 5 + 4), (PROGRESSIVE, 3 * (7 + 5) + 6 + 12 + 3 * 8)])
def test_a_cut_is_noticed_before_damage(container: Container, needed: int) -> None:
    """Whoever fetches the rest is told of the damage then."""
    data = bytearray(pack(container))
    data[-needed] ^= 1  # in the first payload
    with pytest.raises(CorruptError):
        unpack(bytes(data))
    with pytest.raises(TruncatedError, match=f"{needed} bytes of its tiles expected, {needed - 1} left"):
        unpack(bytes(data[:-1]))


@pytest.mark.parametrize("container", [FULL, PROGRESSIVE, LAYERED, BESIDE_GREY])
def test_every_beginning_has_the_parts_that_are_whole(container: Container) -> None:
    data, parts = pack(container), [tile[turn] for turn in range(container.parts) for tile in container.tiles]
    late = max(container.base_parts - 1, 0) * len(container.tiles)  # from here on CRCs take 4 bytes
    sizes = [len(part.payload) + (2 if i < late else 4) for i, part in enumerate(parts)]
    ends = [len(data) - sum(sizes[i + 1 :]) for i in range(len(parts))]
    for size in range(len(data) + 1):
        there = sum(end <= size for end in ends)
        if there == 0:
            with pytest.raises(TruncatedError):
                unpack(data[:size], partial=True)
            continue
        found = unpack(data[:size], partial=True)
        assert sum(map(len, found.tiles)) == there
        assert all(few == all_[: len(few)] for few, all_ in zip(found.tiles, container.tiles, strict=True))
        assert found.progress == there / len(parts)


def test_trailing_bytes_are_noticed() -> None:
    with pytest.raises(FormatError, match="2 bytes follow the end"):
        unpack(pack(FULL) + b"\x00\x00")


@pytest.mark.parametrize("container", [PLAIN, FULL, PROGRESSIVE, LAYERED, BESIDE_GREY])
def test_every_changed_byte_is_noticed(container: Container) -> None:
    data = bytearray(pack(container))
    for at, byte in enumerate(data):
        for changed in {byte ^ 1 << bit for bit in range(8)} | {0, 0x7F, 0x80, 0xFF, (byte + 1) % 256} - {byte}:
            data[at] = changed
            with pytest.raises(HPCMError):
                unpack(bytes(data))
        data[at] = byte


def test_random_flips_in_a_larger_file_are_noticed() -> None:
    rng = random.Random(1)
    tiles = tuple((Part(rng.randbytes(rng.randrange(2000)), rng.getrandbits(32)),) for _ in range(12))
    large = replace(FULL, width=1000, height=700, icc=rng.randbytes(3000), exif=None, tiles=tiles)
    data = pack(large)
    for _ in range(1000):
        changed = bytearray(data)
        changed[rng.randrange(len(data))] ^= rng.randrange(1, 256)
        with pytest.raises(HPCMError):
            unpack(bytes(changed))


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200), st.integers(0, 60))
def test_noise_is_a_format_error(noise: bytes, kept: int) -> None:
    with pytest.raises(FormatError):
        unpack(pack(FULL)[:kept] + noise)


def test_damage_is_named() -> None:
    data = pack(FULL)
    with pytest.raises(CorruptError, match="icc chunk"):
        unpack(data.replace(b"profile", b"profane"))
    with pytest.raises(CorruptError, match="tile 0 of 3"):
        unpack(data.replace(b"first", b"worst"))


def test_a_tile_of_another_file_is_noticed() -> None:
    other = pack(replace(PLAIN, level=6))
    with pytest.raises(CorruptError):
        unpack(pack(PLAIN)[:-9] + other[-9:])  # 5 bytes of payload, 4 of CRC


# ----------------------------------------------------------------------------------- bytes that no encoder would write


@pytest.mark.parametrize("head", json.loads(HEADS.read_text(encoding="utf-8")), ids=lambda head: head["name"])
def test_heads_within_and_beyond_the_bounds(head: dict) -> None:
    """The same heads that JavaScript reads."""
    data = bytes.fromhex(head["bytes"])
    if head["verdict"] == "valid":
        container = unpack_head(data)
        fields = {name: getattr(container, name) for name in head["fields"]}
        assert {**fields, "model_hash": container.model_hash.hex()} == head["fields"]
    else:
        with pytest.raises(FormatError) as refusal:
            unpack_head(data)
        assert refusal.type is VERDICTS[head["verdict"]]


@pytest.mark.parametrize("way", ["whole", "partial"])
def test_files_whole_cut_and_damaged(way: str) -> None:
    """The same files that JavaScript and the installed library read."""
    for file in json.loads(FILES.read_text(encoding="utf-8")):
        assert verdict_of(bytes.fromhex(file["bytes"]), partial=way == "partial") == file[way], file["name"]
        if file["partial"] == "valid":
            there = sum(map(len, unpack(bytes.fromhex(file["bytes"]), partial=True).tiles))
            assert there == file["parts"], file["name"]


def verdict_of(data: bytes, *, partial: bool) -> str:
    try:
        unpack(data, partial=partial)
    except FormatError as error:
        return next(verdict for verdict, kind in VERDICTS.items() if kind is type(error))
    return "valid"


@pytest.mark.parametrize("table", [HEADS, FILES], ids=lambda path: path.stem)
def test_the_tables_of_verdicts_are_those_of_the_format(table: Path) -> None:
    spec = importlib.util.spec_from_file_location(table.stem, table.with_suffix(".py"))
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    assert table.read_text(encoding="utf-8") == made.document(), f"python tests/golden/{table.stem}.py makes it anew"


def test_the_hand_made_file_is_sound() -> None:
    assert unpack(with_tile(head_of(b"\x01", b"\x01"))).width == 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"GIF89a", "no .hpcm file, but a GIF; `hpcm compress` makes a .hpcm file of a picture"),
        (with_tile(head_of(b"\x01", b"\x01", version=1)), "version 1 found, this hpcm reads version 2; try a newer"),
        (with_tile(head_of(b"\x01", b"\x01", version=0)), "version 0 found"),
        (
            with_tile(head_of(b"\x01", b"\x01", flags=0x80)),
            "the file has a quality map, which this hpcm doesn't read; try a newer",
        ),
        (with_tile(head_of(b"\x01", b"\x01", flags=0x100)), "flags are 0x100; version 2"),
        (with_tile(head_of(b"\x01", b"\x01", depth=7)), "bit depth is 7; a .hpcm file allows 8 to 16"),
        (with_tile(head_of(b"\x81\x00", b"\x01")), "width takes more bytes"),
        (with_tile(head_of(b"\x01", b"\x80\x00")), "height takes more bytes"),
        (with_tile(head_of(b"\xff\xff\xff\xff\xff\x01", b"\x01")), "width takes more bytes"),
        (with_tile(head_of(b"\x01", b"\x01"), b"\x80\x00"), "length of a part takes more bytes"),
        (with_tile(head_of(b"\x00", b"\x01")), "width is 0; a .hpcm file allows 1 to 16777216"),
        (with_tile(head_of(b"\x01", b"\x81\x80\x80\x08")), "height is 16777217"),
        (with_tile(head_of(b"\x80\x80\x80\x08", b"\x81\x02")), "number of pixels"),
        (with_tile(head_of(b"\x01", b"\x01", name=b"")), "model name is ''"),
        (with_tile(head_of(b"\x01", b"\x01", name=b"../x")), "model name is '../x'"),
        (with_tile(head_of(b"\x01", b"\x01", name=b"\xe9")), "model name is"),
        (with_tile(head_of(b"\x01", b"\x01", name=b"a" * 33)), "model name is"),
        (with_tile(head_of(b"\x01", b"\x01", flags=0x04) + b"E"), "icc chunk begins with b'E'"),
        (
            with_tile(head_of(b"\x01", b"\x01", flags=0x04) + b"I\x81\x80\x80\x08"),
            "length of the icc chunk is 16777217",
        ),
        (with_tile(head_of(b"\x01", b"\x01", flags=0x10) + b"A\x83\x08"), "length of the alpha chunk is 1027"),
        (with_tile(head_of(b"\x01", b"\x01", flags=0x20) + b"\x00"), "number of ancillary chunks is 0"),
        (with_tile(head_of(b"\x01", b"\x01", flags=0x20) + b"\x1b"), "number of ancillary chunks is 27"),
        (with_tile(head_of(b"\x01", b"\x01", flags=0x20) + b"\x01X"), r"ancillary chunks are of types \['X'\]"),
        (with_tile(head_of(b"\x01", b"\x01", flags=0x20) + b"\x02" + chunk(b"x", b"") * 2), r"types \['x', 'x'\]"),
        (
            with_tile(head_of(b"\x01", b"\x01", flags=0x20) + b"\x02" + chunk(b"x", b"") + chunk(b"c", b"")),
            r"types \['x', 'c'\]",
        ),
    ],
)
def test_fields_out_of_bounds(data: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        unpack(data)


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": 0},
        {"width": (1 << 24) + 1},
        {"height": 0},
        {"height": (1 << 24) + 1},
        {"width": 1 << 16, "height": (1 << 16) + 1},
        {"model": "Lite"},
        {"model_hash": bytes(7)},
        {"model_hash": bytes(32)},
        {"level": -1},
        {"level": 64},
        {"colour": "cmyk"},
        {"bit_depth": 17},
        {"bit_depth": 7},
        {"tile_side": 128},
        {"tile_side": 384},
        {"tile_side": 1 << 17},
        {"icc": bytes(MAX_METADATA + 1)},
        {"exif": bytes(MAX_METADATA + 1)},
        {"alpha": bytes(2 * 300 * 200 + 1025)},
        {"ancillary": (("x", b""), ("c", b""))},
        {"ancillary": (("x", b""), ("x", b""))},
        {"ancillary": (("X", b""),)},
        {"ancillary": (("xy", b""),)},
        {"ancillary": (("x", bytes(MAX_METADATA + 1)),)},
        {"tiles": ((Part(b"", 1 << 32),),)},
        {"tiles": ((Part(b"", -1),),)},
        {"tiles": ((Part(b"", 0), Part(b"", 0)),)},
        {"passes": 3, "tiles": ((Part(b"", 1 << 16), Part(b"", 0), Part(b"", 0)),)},
        {"passes": 3, "tiles": ((Part(b"", 0), Part(b"", 0), Part(b"", 1 << 32)),)},
        {"passes": 3, "tiles": ((Part(b"", 0), Part(b"", 0)),)},
        {"passes": 2, "tiles": ((Part(b"", 0),) * 2,)},
    ],
)
def test_the_same_bounds_hold_for_writing(wrong: dict) -> None:
    with pytest.raises(FormatError):
        pack(replace(PLAIN, **wrong))


@pytest.mark.parametrize(
    "just",
    [
        {"level": 0},
        {"level": 63},
        {"tile_side": 65536},
        {"icc": bytes(MAX_METADATA)},
        {"alpha": bytes(2 * 300 * 200 + 1024)},
        {"alpha": bytes(4 * 300 * 200 + 1024), "bit_depth": 16},
        {"ancillary": (("x", bytes(MAX_METADATA)),)},
        {"ancillary": tuple((kind, b"") for kind in "abcdefghijklmnopqrstuvwxyz")},
        {"model": "0" + "a" * 31},
        {"tiles": ((Part(b"", (1 << 32) - 1),),)},
        {"passes": 3, "tiles": ((Part(b"", (1 << 16) - 1), Part(b"", 0), Part(b"", (1 << 32) - 1)),)},
    ],
)
def test_what_is_just_allowed_round_trips(just: dict) -> None:
    assert unpack(pack(replace(PLAIN, **just))) == replace(PLAIN, **just)


def test_a_wrong_number_of_tiles_is_refused() -> None:
    with pytest.raises(FormatError, match="2 tiles were given, but tile_boxes\\(\\) has 1"):
        pack(replace(PLAIN, tiles=PLAIN.tiles * 2))


def test_absurd_claims_allocate_nothing() -> None:
    side = b"\x80\x80\x04"  # 65,536 pixels: with both sides 65,536 tiles
    claims = [
        head_of(side, side),
        head_of(side, side, flags=0x10) + b"A\x80\x80\x80\x80\x20",  # 8 GiB of alpha
        head_of(b"\x01", b"\x01") + b"\xff\xff\xff\xff\x0f",  # 4 GiB of payload
    ]
    tracemalloc.start()
    try:
        for claim in claims:
            with pytest.raises(TruncatedError):
                unpack(claim + bytes(8))
        assert tracemalloc.get_traced_memory()[1] < 100_000  # bytes at the peak
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("format_", "name"),
    [
        ("JPEG", "a JPEG"),
        ("PNG", "a PNG"),
        ("GIF", "a GIF"),
        ("WEBP", "a WebP"),
        ("AVIF", "an AVIF"),
        ("TIFF", "a TIFF"),
        ("BMP", "a BMP"),
        ("PPM", "a PPM"),
        ("JPEG2000", "a JPEG 2000"),
    ],
)
def test_a_picture_is_named(format_, name):
    """Whoever takes it for a .hpcm file is told what it is; every beginning of it is refused."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, format_)
    with pytest.raises(FormatError, match=f"^no .hpcm file, but {name}; `hpcm compress` makes a .hpcm file of a pict"):
        unpack(file.getvalue())
    for length in range(5, 20):
        with pytest.raises(FormatError, match=r"^no \.hpcm file"):
            unpack(file.getvalue()[:length])
