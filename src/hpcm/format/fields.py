"""What a .hpcm file says: its fields, what each may be, and how it lies in the file.

`HEADER`, `FLAGS`, `CHUNKS` and `ANCILLARY` describe each field once. format/container.py walks through the first three
to write a file, to read it and to check its bounds; the specification there, the table in docs/format.md and the heads
in tests/golden/heads.json, which JavaScript reads too, are tested against them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ..errors import FormatError, PictureError
from .wire import BYTE, LOG2, TEXT, VARINT, Codec, check_range, fixed

MAGIC = b"\x89HPC"
VERSION = 2
PASSES = 3  # of progressive files: one for each scale
MAX_SIDE = 1 << 24  # pixels
MAX_PIXELS = 1 << 32
MAX_ENCODED = 1 << 29  # pixels of a picture that is compressed
MAX_LEVEL = 63
BIT_DEPTHS = range(8, 17)  # of a sample
MAX_METADATA = 1 << 24  # bytes of a chunk other than alpha
MAX_ANCILLARY = 26  # chunks: each letter once
MAX_RESIDUAL_STEP = (1 << 16) - 1  # of coefficients, in sixteenths of an 8-bit sample
MAX_RESIDUAL_BYTES = 4  # of its chunk
ALPHA_SLACK = 1024  # bytes that an alpha chunk may take beyond twice its raw plane: room for a coder's own header
MODEL_HASH_BYTES = 8
TILE_SIDES = tuple(1 << t for t in range(8, 17))  # 256 to 65,536 pixels

MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
MODEL_NAME_IN_WORDS = "1 to 32 of a-z 0-9 ._- and no ._- in front"
_ANCILLARY_TYPE = re.compile("[a-z]")


# ---- the table -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Field:
    """One field of the header behind magic, version and flags.

    `allowed` bounds numbers by their value, and bytes by their length; text has to match it.
    """

    name: str  # in `Container`
    title: str  # in messages and in the specification
    size: str  # bytes, for the specification
    codec: Codec
    allowed: range | tuple[int, ...] | re.Pattern[str]
    meaning: str = ""  # for the specification

    @property
    def bounds(self) -> str:
        """What is allowed, as the specification words it."""
        if isinstance(self.allowed, re.Pattern):
            return MODEL_NAME_IN_WORDS
        low, high = self.allowed[0], self.allowed[-1]
        return f"{in_words(low)} to {in_words(high)}" if low < high else f"{low} bytes"

    def check(self, value: Any) -> None:
        """Raises FormatError for a value that isn't allowed."""
        if isinstance(self.allowed, re.Pattern):
            if not self.allowed.fullmatch(value):
                raise FormatError(f"{self.title} is {value!r}; allowed are {MODEL_NAME_IN_WORDS}")
        elif isinstance(self.allowed, tuple):
            if value not in self.allowed:
                raise FormatError(f"{self.title} is {value}; a .hpcm file allows {self.allowed}")
        elif isinstance(value, bytes):
            check_range(f"length of the {self.title}", len(value), self.allowed[0], self.allowed[-1])
        else:
            check_range(self.title, value, self.allowed[0], self.allowed[-1])


@dataclass(frozen=True)
class Flag:
    """A bit of the flags that is a field of the picture by itself."""

    bit: int
    name: str  # in `Container`
    title: str
    values: tuple[Any, Any]  # where the bit is 0, and where it is 1

    def check(self, value: Any) -> None:
        """Raises FormatError for a value that no bit stands for."""
        if value not in self.values:
            off, on = self.values
            raise FormatError(f"{self.title} is {value!r}; a .hpcm file allows {off!r} and {on!r}")


@dataclass(frozen=True)
class Chunk:
    """A chunk that a bit of the flags announces."""

    bit: int
    name: str  # in `Container`
    kind: bytes  # its type
    meaning: str
    bounds: str  # of the length of its data, as the specification words it; `chunk_limit` is the number


@dataclass(frozen=True)
class AncillaryChunk:
    """A chunk without which the picture is decoded the same."""

    name: str  # of what it holds
    size: int | None = None  # bytes of its data; None: any number up to MAX_METADATA

    def accepts(self, data: bytes) -> bool:
        """Whether data have the chunk's length. A reader passes over those that don't."""
        return self.size is None or len(data) == self.size


def in_words(number: int) -> str:
    """Large powers of two as such: 16777216 is 2^24."""
    exponent = number.bit_length() - 1
    return f"2^{exponent}" if exponent >= 8 and number == 1 << exponent else str(number)


HEADER = (
    Field("width", "width", "1..4", VARINT, range(1, MAX_SIDE + 1), "pixels, a varint"),
    Field("height", "height", "1..4", VARINT, range(1, MAX_SIDE + 1), "pixels, a varint"),
    Field("bit_depth", "bit depth", "1", BYTE, BIT_DEPTHS, "of each sample, alpha's too"),
    Field("model", "model name", "1 + n", TEXT, MODEL_NAME, "n in one byte, then n letters"),
    Field(
        "model_hash",
        "model hash",
        "8",
        fixed(MODEL_HASH_BYTES),
        range(MODEL_HASH_BYTES, MODEL_HASH_BYTES + 1),
        "the beginning of the SHA-256 of the model's weights file",
    ),
    Field("level", "quality level", "1", BYTE, range(MAX_LEVEL + 1)),
    Field("tile_side", "tile side", "1", LOG2, TILE_SIDES, "pixels, a power of two, stored as its exponent"),
)
FLAGS = (
    Flag(0, "colour", "colour", ("rgb", "grey")),
    Flag(1, "passes", "number of passes", (1, PASSES)),
)
CHUNKS = (  # in their order in the file
    Chunk(2, "icc", b"I", "ICC profile", f"up to {in_words(MAX_METADATA)} bytes"),
    Chunk(3, "exif", b"E", "EXIF", f"up to {in_words(MAX_METADATA)} bytes"),
    Chunk(4, "alpha", b"A", "alpha plane", f"up to twice its raw plane and {ALPHA_SLACK:,} bytes more"),
    Chunk(6, "residual", b"R", "residual layer", "2 to 4 bytes"),
)
ANCILLARY_BIT = 5  # of the flags: ancillary chunks follow
ANCILLARY = {  # by type
    "c": AncillaryChunk("cicp", 4),
    "d": AncillaryChunk("density", 9),
    "g": AncillaryChunk("gamma", 4),
    "h": AncillaryChunk("chromaticities", 32),
    "l": AncillaryChunk("light", 8),
    "m": AncillaryChunk("mastering", 24),
    "s": AncillaryChunk("srgb", 1),
    "t": AncillaryChunk("comments"),
    "u": AncillaryChunk("gain_map"),
    "x": AncillaryChunk("xmp"),
}
KNOWN_FLAGS = sum(1 << part.bit for part in (*FLAGS, *CHUNKS)) + (1 << ANCILLARY_BIT)
RESERVED_FLAGS = {  # bit: what it announces, in the words of a refusal; format/container.py specifies it
    7: "a quality map",
}
ResidualKind = Literal["samples", "samples beside grey", "coefficients"]
RESIDUAL_KINDS: tuple[ResidualKind, ...] = get_args(ResidualKind)  # by the first byte of the chunk


# ---- a file's values -------------------------------------------------------------------------------------------------

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels; right and bottom exclusive


@dataclass(frozen=True)
class Part:
    """What one pass adds to a tile: the entropy coder's bytes, and a checksum of all the tile's symbols so far.

    The checksum is the low 32 bits, or for all but the tile's last part the low 16 bits.
    """

    payload: bytes = field(repr=False)
    checksum: int


Tile = tuple[Part, ...]  # one square of the picture; fewer parts than `Container.parts` where the file was cut


@dataclass(frozen=True)
class Residual:
    """The residual layer of a file: what its tiles' last parts hold, and beside which samples, the *base*.

    kind                    base                  number
    "samples"               the decoded picture   the largest error of a sample; 0: lossless
    "samples beside grey"   2^(bit depth - 1)     the same; the tiles have no other parts
    "coefficients"          the decoded picture   the step, in sixteenths of an 8-bit sample
    """

    kind: ResidualKind
    number: int

    @property
    def is_beside_grey(self) -> bool:
        return self.kind == "samples beside grey"

    @property
    def max_error(self) -> int | None:
        """No sample is off by more; None where nothing is promised."""
        return None if self.kind == "coefficients" else self.number

    def check(self, bit_depth: int, passes: int) -> None:
        """Raises FormatError for what no file has."""
        if self.kind not in RESIDUAL_KINDS:
            raise FormatError(f"residual layer is {self.kind!r}; a .hpcm file allows {RESIDUAL_KINDS}")
        if self.kind == "coefficients":
            check_range("step of the residual layer", self.number, 1, MAX_RESIDUAL_STEP)
        else:
            most = (1 << bit_depth - 1) - 1
            check_range("largest error of the residual layer", self.number, 0, most)
        if self.is_beside_grey and passes > 1:
            raise FormatError("the file has a residual layer beside grey and is progressive; it can't be both")


@dataclass(frozen=True, kw_only=True)
class Container:
    """All that a .hpcm file says, before any of it is decoded. Bounds are checked by `pack` and `unpack`."""

    passes: int  # 1, or 3: progressive
    width: int  # pixels
    height: int  # pixels
    model: str
    model_hash: bytes  # the first 8 bytes of the SHA-256 of the weights file
    level: int
    colour: Literal["rgb", "grey"]
    bit_depth: int  # of each sample, alpha's too, 8 to 16
    tile_side: int  # pixels, a power of two
    icc: bytes | None = field(default=None, repr=False)
    exif: bytes | None = field(default=None, repr=False)
    alpha: bytes | None = field(default=None, repr=False)
    residual: Residual | None = None
    ancillary: tuple[tuple[str, bytes], ...] = field(default=(), repr=False)  # (type, data), by type
    tiles: tuple[Tile, ...]

    def tile_boxes(self) -> list[Box]:
        """Where each tile lies, row by row."""
        return list(tile_boxes(self.width, self.height, self.tile_side))

    @property
    def tile_count(self) -> int:
        """The length of `tile_boxes()`, which a damaged header can make long."""
        return -(-self.width // self.tile_side) * -(-self.height // self.tile_side)

    @property
    def base_parts(self) -> int:
        """How many parts each tile has before that of the residual layer."""
        return 0 if self.residual is not None and self.residual.is_beside_grey else self.passes

    @property
    def parts(self) -> int:
        """How many parts each tile has."""
        return self.base_parts + (self.residual is not None)

    @property
    def progress(self) -> float:
        """How much of the tiles' parts is there, 1 unless the file was cut."""
        return sum(map(len, self.tiles)) / (self.tile_count * self.parts)


def tile_boxes(width: int, height: int, side: int) -> Iterator[Box]:
    """The squares of `side` pixels that a picture is cut into, row by row; the last ones may be smaller."""
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield left, top, min(left + side, width), min(top + side, height)


def check_size(width: int, height: int) -> None:
    """Raise `PictureError` for a picture that can't be compressed: known from its header, before it is decoded."""
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE and width * height <= MAX_ENCODED):
        allowed = f"1 to {MAX_ENCODED:,} are allowed, and {MAX_SIDE:,} on a side"
        raise PictureError(f"the picture has {width} x {height} pixels: {allowed}")


def check_header(container: Container) -> None:
    """Raise `FormatError` for a field of the header that is out of its bounds."""
    for part in (*HEADER, *FLAGS):
        part.check(getattr(container, part.name))
    check_pixels(container.width, container.height)
    if container.residual is not None:
        container.residual.check(container.bit_depth, container.passes)


def check_pixels(width: int, height: int) -> None:
    """Raise `FormatError` for sides that are allowed each, but not together."""
    check_range("number of pixels", width * height, 1, MAX_PIXELS)


def chunk_limit(container: Container, chunk: Chunk) -> int:
    """The most bytes that the data of a chunk may have."""
    if chunk.name == "residual":
        return MAX_RESIDUAL_BYTES
    if chunk.name != "alpha":
        return MAX_METADATA
    raw_plane = container.width * container.height * sample_bytes(container.bit_depth)
    return 2 * raw_plane + ALPHA_SLACK


def sample_bytes(bit_depth: int) -> int:
    """How many bytes a sample takes in memory: 1 up to 8 bits, else 2."""
    return 1 if bit_depth == 8 else 2


def check_kinds(kinds: list[str]) -> None:
    """Raise `FormatError` for types of ancillary chunks that are wrong or out of order."""
    if kinds != sorted(set(kinds)) or not all(map(_ANCILLARY_TYPE.fullmatch, kinds)):
        raise FormatError(f"ancillary chunks are of types {kinds}; allowed is each of a to z once, in this order")
