"""The tiles of a picture: where each lies, in pixels and in latents. Geometry alone; codec/pixels.py computes.

A large picture is coded in tiles of TILE_SIDE pixels whose latents are entropy-coded independently of one another. Each
tile's latents are those of its pixels, padded to the model's multiple (64 pixels without attention); only tiles at the
picture's right and bottom edge have padding. The *halo* is how far the transforms reach, in latents.

Boxes are (left, top, right, bottom), right and bottom exclusive: in pixels, or in latents, of which one stands for
LATENT_STRIDE x LATENT_STRIDE pixels. Sizes are (height, width).
"""

from __future__ import annotations

from collections.abc import Iterator

from ..defaults import TILE_SIDE
from ..format.fields import Box, tile_boxes
from ..model.config import LATENT_STRIDE, Config, receptive_halo


class Tiling:
    """The tiles of a picture of (height, width) pixels under a model."""

    def __init__(self, config: Config, size: tuple[int, int], side: int = TILE_SIDE) -> None:
        self.size, self.side = size, side
        self.multiple = config.multiple
        self.halo = receptive_halo(config)

    def __iter__(self) -> Iterator[Box]:
        """The boxes of the tiles in pixels, row by row."""
        height, width = self.size
        return tile_boxes(width, height, self.side)

    def __len__(self) -> int:
        height, width = self.size
        return -(-height // self.side) * -(-width // self.side)

    @property
    def whole(self) -> Box:
        """The picture's box in pixels."""
        height, width = self.size
        return 0, 0, width, height

    def cells(self, tile: Box) -> Box:
        """The box in latents of a tile, padded to the model's multiple."""
        left, top = tile[0] // LATENT_STRIDE, tile[1] // LATENT_STRIDE
        rows, columns = self.padded(extent(tile))
        return left, top, left + columns, top + rows

    def padded(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of latents of `size` pixels, padded to the model's multiple."""
        rows, columns = (-(-side // self.multiple) * self.multiple // LATENT_STRIDE for side in size)
        return rows, columns

    def with_halo(self, cells: Box) -> Box:
        """A box in latents, widened by what its pixels depend on, as far as there are latents."""
        return self.widened(cells, self.halo)

    def widened(self, cells: Box, by: int) -> Box:
        """A box in latents, wider by so many on each side, as far as there are latents."""
        height, width = self.padded(self.size)
        left, top, right, bottom = cells
        return max(left - by, 0), max(top - by, 0), min(right + by, width), min(bottom + by, height)

    def touching(self, cells: Box) -> list[Box]:
        """The tiles that a box in latents touches, row by row."""
        return self.within(pixels_of(cells))

    def within(self, box: Box) -> list[Box]:
        """The tiles that a box of pixels touches, row by row."""
        left, top, right, bottom = box
        return [t for t in self if t[0] < right and t[2] > left and t[1] < bottom and t[3] > top]

    def of_whole_tiles(self, box: Box) -> Box:
        """A box of pixels, widened to the tiles that it touches."""
        tiles = self.within(box)
        return *tiles[0][:2], *tiles[-1][2:]

    def needed_for(self, box: Box) -> list[Box]:
        """The tiles whose latents the pixels of a box depend on, row by row."""
        return self.touching(self.with_halo(cells_of(box)))


def cells_of(box: Box) -> Box:
    """The latents that a box of pixels touches."""
    left, top, right, bottom = box
    return left // LATENT_STRIDE, top // LATENT_STRIDE, -(-right // LATENT_STRIDE), -(-bottom // LATENT_STRIDE)


def pixels_of(cells: Box) -> Box:
    """The pixels of a box of latents."""
    left, top, right, bottom = cells
    return left * LATENT_STRIDE, top * LATENT_STRIDE, right * LATENT_STRIDE, bottom * LATENT_STRIDE


def latents_inside(tile: Box) -> tuple[int, int]:
    """Rows and columns of latents that touch the tile's pixels."""
    return latents_of_size(extent(tile))


def latents_of_size(size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of latents that touch (height, width) pixels."""
    height, width = size
    return -(-height // LATENT_STRIDE), -(-width // LATENT_STRIDE)


def slices_of(box: Box, inside: Box, stride: int = 1) -> tuple[slice, slice]:
    """The rows and columns of a box in an array [h, w, C] of another one; a value stands for `stride` x `stride`."""
    left, top, right, bottom = box
    rows = slice((top - inside[1]) // stride, (bottom - inside[1]) // stride)
    columns = slice((left - inside[0]) // stride, (right - inside[0]) // stride)
    return rows, columns


def relative(box: Box, inside: Box) -> Box:
    """A box as it lies in another one."""
    left, top, right, bottom = box
    return left - inside[0], top - inside[1], right - inside[0], bottom - inside[1]


def overlap(one: Box, other: Box) -> Box:
    """What two boxes have in common."""
    return max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3])


def extent(box: Box) -> tuple[int, int]:
    """Height and width."""
    return box[3] - box[1], box[2] - box[0]
