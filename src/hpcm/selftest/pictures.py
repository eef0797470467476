"""Pictures that are the same on every machine: drawn in integers, without floats and a library's random numbers.

A plane is an array of int64 [h, w], as a rule of values 0..255. What looks random is a hash of the place. Noise with
coarse cells, smoothed and mixed with finer one, looks to a codec as a photograph does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..defaults import TILE_SIDE

Plane = NDArray[np.int64]
Pixels = NDArray[Any]  # uint8 [h, w], [h, w, 3 or 4], or uint16 [h, w]
MASK = (1 << 32) - 1
BLACK, WHITE = 0, 255
CELLS = (64, 32, 16, 8, 4, 2)  # pixels, sides of the cells of a scene's noise


@dataclass(frozen=True)
class Drawing:
    """A picture, and how it is compressed."""

    name: str
    pixels: Callable[[], Pixels]
    tile: int = TILE_SIDE
    progressive: bool = False


# ---- planes ----------------------------------------------------------------------------------------------------------


def grid(height: int, width: int) -> tuple[Plane, Plane]:
    """The numbers of rows [h, 1] and columns [1, w]."""
    return np.arange(height, dtype=np.int64)[:, None], np.arange(width, dtype=np.int64)[None]


def noise(height: int, width: int, seed: int) -> Plane:
    """Values 0..255, each a hash of its place: none depends on the others, or on the plane's size."""
    row, column = grid(height, width)
    n = (row * 73856093 ^ column * 19349663 ^ seed * 83492791) & MASK
    for _ in range(3):  # below 2^32 * 2^27: no product overflows
        n = (n ^ n >> 16) * 0x45D9F3B & MASK
    return (n ^ n >> 16) & 255


def soft_noise(height: int, width: int, cell: int, seed: int) -> Plane:
    """Noise of cells of so many pixels, smoothed over as many."""
    cells = noise(height // cell + 2, width // cell + 2, seed)
    plane = cells.repeat(cell, axis=0).repeat(cell, axis=1)
    for axis in (0, 1):
        plane = np.lib.stride_tricks.sliding_window_view(plane, cell, axis=axis).sum(axis=-1)
    return plane[:height, :width] // cell**2


def scene(height: int, width: int, seed: int, cells: Sequence[int] = CELLS) -> Plane:
    """Soft noise of several scales, the coarse ones strongest, as in a photograph."""
    total = np.zeros((height, width), np.int64)
    for cell in cells:
        total += cell * soft_noise(height, width, cell, seed + cell)
    return clipped((total // sum(cells) - 128) * 2 + 128)


def clipped(plane: Plane) -> Plane:
    return np.clip(plane, BLACK, WHITE)


def checks(height: int, width: int, side: int) -> Plane:
    """Squares of so many pixels, black and white."""
    row, column = grid(height, width)
    return (row // side + column // side & 1) * WHITE


def rings(height: int, width: int) -> Plane:
    """Rings around the corner, finer and finer, down to what pixels can't show."""
    row, column = grid(height, width)
    phase = (row**2 + column**2) // 8 % 512
    return np.minimum(phase, 511 - phase)


def strokes(height: int, width: int, seed: int) -> Plane:
    """Black on white: letters of strokes two pixels wide, in lines, with a gap after some."""
    row, column = grid(height, width)
    bits = noise(height // 2 + 1, width // 2 + 1, seed).repeat(2, axis=0).repeat(2, axis=1)[:height, :width] & 1
    gaps = noise(height // 16 + 1, width // 10 + 1, seed + 1).repeat(16, axis=0).repeat(10, axis=1)[:height, :width]
    inside = (row % 16 < 12) & (column % 10 < 8) & (gaps > 40)
    return np.where(inside & (bits == 1), BLACK, WHITE)


# ---- pictures --------------------------------------------------------------------------------------------------------


def bytes_of(*planes: Plane) -> Pixels:
    """uint8 [h, w], or [h, w, planes] of several."""
    return (planes[0] if len(planes) == 1 else np.stack(planes, axis=-1)).astype(np.uint8)


def flat(height: int, width: int, *colour: int) -> Pixels:
    return bytes_of(*(np.full((height, width), value, np.int64) for value in colour))


def photograph(height: int, width: int, seed: int, cells: Sequence[int] = CELLS) -> Pixels:
    """Colour: one scene in all channels, and weaker and coarser ones between them."""
    light = scene(height, width, seed, cells)
    warm, cold = (scene(height, width, seed + number, (64, 32)) - 128 for number in (100, 200))
    return bytes_of(clipped(light + warm // 2), light, clipped(light + cold // 2))


def gradient(height: int, width: int) -> Pixels:
    """Red across, green down, blue along the diagonal."""
    row, column = grid(height, width)
    down, across = row * 255 // (height - 1) + 0 * column, column * 255 // (width - 1) + 0 * row
    return bytes_of(across, down, (down + across) // 2)


def edges(height: int, width: int, seed: int) -> Pixels:
    """A disc and a slanted half plane of one colour each, in front of a photograph."""
    row, column = grid(height, width)
    picture = photograph(height, width, seed)
    picture[(row - height // 2) ** 2 + (column - width // 3) ** 2 < (height // 3) ** 2] = (250, 220, 30)
    picture[2 * row + 3 * column > 5 * width // 2 + height // 2] = (20, 30, 90)
    return picture


def against(plane: Plane) -> Pixels:
    """Red and blue as the plane is, green against them: the largest numbers inside the networks."""
    return bytes_of(plane, WHITE - plane, plane)


def primaries(height: int, width: int, seed: int) -> Pixels:
    """Each pixel one of the eight colours whose channels are black or white, at random."""
    return bytes_of(*((noise(height, width, seed + channel) >> 7) * WHITE for channel in range(3)))


def see_through(height: int, width: int, seed: int) -> Pixels:
    """A photograph that is wholly transparent in a corner, opaque in another, and between them fades in."""
    row, column = grid(height, width)
    return np.dstack((photograph(height, width, seed), bytes_of(clipped(2 * row + column - 20))))


def deep(height: int, width: int, seed: int) -> Pixels:
    """Grey of 16 bits, the lower ones in use."""
    return (scene(height, width, seed) * 256 + noise(height, width, seed)).astype(np.uint16)


DRAWINGS = (
    Drawing("black", lambda: flat(64, 64, 0, 0, 0)),
    Drawing("white", lambda: flat(40, 100, 255, 255, 255)),
    Drawing("flat", lambda: flat(50, 30, 200, 30, 90)),
    Drawing("pixel", lambda: flat(1, 1, 90, 160, 30)),
    Drawing("gradient", lambda: gradient(96, 160)),
    Drawing("photograph", lambda: photograph(120, 187, 1)),
    Drawing("small", lambda: photograph(61, 59, 2)),
    Drawing("rough", lambda: photograph(40, 700, 3, (16, 8, 4, 2, 1))),
    Drawing("edges", lambda: edges(150, 150, 5)),
    Drawing("text", lambda: bytes_of(*[strokes(90, 300, 6)] * 3)),
    Drawing("checks", lambda: bytes_of(*[checks(33, 433, 1)] * 3)),
    Drawing("clashing", lambda: against(checks(72, 104, 2))),
    Drawing("stripes", lambda: against(checks(1, 70, 4).repeat(70, axis=0))),
    Drawing("primaries", lambda: primaries(70, 70, 7)),
    Drawing("rings", lambda: (rings(110, 110) * 257).astype(np.uint16)),
    Drawing("grey", lambda: bytes_of(scene(77, 131, 8))),
    Drawing("deep", lambda: deep(16, 129, 9), progressive=True),
    Drawing("see-through", lambda: see_through(20, 333, 10), tile=256),
    Drawing("strip", lambda: photograph(17, 297, 11)),
    Drawing("tiles", lambda: edges(260, 270, 12), tile=256, progressive=True),
)
