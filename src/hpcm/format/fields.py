"""What a .hpcm file says: its fields and their bounds. How they lie in the file tells format/container.py."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from ..errors import FormatError, PictureError
from .wire import check_range

VERSION = 1
PASSES = 3  # of progressive files: one for each scale
MAX_SIDE = 1 << 24  # pixels
MAX_PIXELS = 1 << 32
MAX_ENCODED = 1 << 29  # pixels of a picture that is compressed
MAX_LEVEL = 63
MAX_METADATA = 1 << 24  # bytes of a chunk other than alpha
ALPHA_SLACK = 1024  # bytes that an alpha chunk may take beyond twice its raw plane: room for a coder's own header
MODEL_HASH_BYTES = 8
TILE_SIDES = tuple(1 << t for t in range(8, 17))  # 256 to 65,536 pixels

MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
ANCILLARY = {  # type of an ancillary chunk: what it holds
    "c": "cicp",
    "d": "density",
    "g": "gamma",
    "h": "chromaticities",
    "l": "light",
    "m": "mastering",
    "s": "srgb",
    "t": "comments",
    "x": "xmp",
}
CHUNKS = {"icc": (1 << 2, b"I"), "exif": (1 << 3, b"E"), "alpha": (1 << 4, b"A")}  # field: (flag, type), in order
_ANCILLARY_TYPE = re.compile("[a-z]")
Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels; right and bottom exclusive


@dataclass(frozen=True)
class Part:
    """What one pass adds to a tile: the entropy coder's bytes, and a checksum of all the tile's symbols so far.

    The checksum is the low 32 bits, or for all but the tile's last part the low 16 bits.
    """

    payload: bytes = field(repr=False)
    checksum: int


Tile = tuple[Part, ...]  # one square of the picture; fewer parts than the file has passes where it was cut


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

    @property
    def tile_count(self) -> int:
        """The length of `tile_boxes()`, which a damaged header can make long."""
        return -(-self.width // self.tile_side) * -(-self.height // self.tile_side)

    @property
    def progress(self) -> float:
        """How much of the tiles' parts is there, 1 unless the file was cut."""
        return sum(map(len, self.tiles)) / (self.tile_count * self.passes)


def tile_boxes(width: int, height: int, side: int) -> Iterator[Box]:
    """The squares of `side` pixels that a picture is cut into, row by row; the last ones may be smaller."""
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield left, top, min(left + side, width), min(top + side, height)


def check_size(width: int, height: int) -> None:
    """Raise `PictureError` for a picture that can't be compressed. Its header tells, before its pixels are decoded."""
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE and width * height <= MAX_ENCODED):
        allowed = f"1 to {MAX_ENCODED:,} are allowed, and {MAX_SIDE:,} on a side"
        raise PictureError(f"the picture has {width} x {height} pixels: {allowed}")


def check_header(container: Container) -> None:
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
    if container.passes not in (1, PASSES):
        raise FormatError(f"{container.passes} passes were given; a .hpcm file has 1 or {PASSES}")
    if container.tile_side not in TILE_SIDES:
        raise FormatError(f"tile side is {container.tile_side}; a .hpcm file allows {TILE_SIDES}")


def chunk_limit(container: Container, name: str) -> int:
    """The most bytes that the data of a chunk may have."""
    raw_plane = container.width * container.height * container.bit_depth // 8
    return 2 * raw_plane + ALPHA_SLACK if name == "alpha" else MAX_METADATA


def check_kinds(kinds: list[str]) -> None:
    """Raise `FormatError` for types of ancillary chunks that are wrong or out of order."""
    if kinds != sorted(set(kinds)) or not all(map(_ANCILLARY_TYPE.fullmatch, kinds)):
        raise FormatError(f"ancillary chunks are of types {kinds}; allowed is each of a to z once, in this order")
