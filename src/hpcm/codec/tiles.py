"""Large pictures piece by piece: transforms with a halo, so that there are no seams and memory is bounded.

A large picture is coded in tiles of TILE_SIDE pixels whose latents are entropy-coded independently of one another. The
transforms know no tiles: each piece is analysed and synthesised with a halo of real neighbours as wide as the
transforms reach, so that the result equals that of the whole picture at once:

      picture        +--------+   g_a    +----+           +----+    g_s   +--------+
      with halo      | +----+ |  ----->  |tile| -> bytes  |tile|  ----->  | +----+ |  of which the inner part is kept
                     | |tile| |          +----+           +----+ and the  | |tile| |
                     | +----+ |                             halo around   | +----+ |
                     +--------+                                           +--------+

Where a picture's side isn't a multiple of the model's own (64 pixels without attention) its last rows and columns are
repeated. Shapes: y, y_hat [1, M, h, w].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..defaults import TILE_SIDE
from ..format.fields import Box, tile_boxes
from ..image.picture import Picture
from ..model.config import LATENT_STRIDE, receptive_halo
from ..nn.arrays import Array, namespace
from ..nn.loop import Loop

Latent = Callable[[Box], Array]  # a tile's box -> its y_hat, padded to the model's multiple


class Tiling:
    """The tiles of a picture of (height, width) pixels under a model."""

    def __init__(self, networks: Loop, size: tuple[int, int], side: int = TILE_SIDE) -> None:
        self.networks, self.size, self.side = networks, size, side
        self.halo = receptive_halo(networks.config)

    def __iter__(self) -> Iterator[Box]:
        """The boxes of the tiles in pixels, row by row."""
        height, width = self.size
        return tile_boxes(width, height, self.side)

    def analyse(self, picture: Picture, box: Box) -> Array:
        """y of a tile, padded to the model's multiple."""
        left, top, right, bottom = own = self.cells(box)
        outer = self.with_halo(own)
        y = self.networks.analyse(self.networks.arrays.put(cropped(picture, _pixels(outer))))
        return y[:, :, top - outer[1] : bottom - outer[1], left - outer[0] : right - outer[0]]

    def synthesise(
        self,
        latent: Latent,
        bit_depth: int,
        grey: bool,
        box: Box | None = None,
        factor: int = 1,
        alpha: Callable[[], NDArray[np.uint8]] | None = None,
    ) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Pixels [h, w, 3] or, for grey, [h, w]: of the picture or of `box`, or one for each `factor` x `factor`.

        `latent` is asked for y_hat of each tile that is needed, row by row, just before it is: memory holds the latents
        of a few rows of tiles, and none for the pixels before the first row has been decoded.

        Args:
            factor: a power of two up to the tiles' side; with a box it must be 1.
            alpha: gives that of the picture, [H, W], by which pixels count where several become one. It is asked for
                when a tile has been decoded.
        """
        box = box or (0, 0, self.size[1], self.size[0])
        rows, pixels = _Rows(latent, self.touching(self.with_halo(_cells(box)))), None
        for tile in self.touching(_cells(box)):
            left, top, right, bottom = piece = overlap(tile, box)
            outer = self.with_halo(_cells(piece))
            x_hat = self.networks.synthesise(rows.within(outer))[0]
            down, across = top - outer[1] * LATENT_STRIDE, left - outer[0] * LATENT_STRIDE
            values = self._pixels(x_hat[:, down : down + bottom - top, across : across + right - left], bit_depth, grey)
            if pixels is None:
                size = (-(-(box[3] - box[1]) // factor), -(-(box[2] - box[0]) // factor))
                pixels = np.empty(size if grey else (*size, 3), np.uint8 if bit_depth == 8 else np.uint16)
            if factor > 1:
                weights = None if alpha is None else alpha()[top:bottom, left:right]
                values = np.rint(reduced(values, factor, weights))
            down, across = (top - box[1]) // factor, (left - box[0]) // factor
            pixels[down : down + values.shape[0], across : across + values.shape[1]] = values
        assert pixels is not None  # a picture has a tile
        return pixels

    def _pixels(self, x_hat: Array, bit_depth: int, grey: bool) -> NDArray[np.float32]:
        """x_hat [3, h, w] as whole numbers, [h, w, 3] or [h, w]."""
        xp, peak = namespace(x_hat), 2**bit_depth - 1
        x_hat = xp.mean(x_hat, axis=0) if grey else xp.permute_dims(x_hat, (1, 2, 0))
        values = xp.clip(xp.round(x_hat * peak), 0, peak)
        values = xp.where(xp.isnan(values), xp.zeros_like(values), values)  # a forged file may give anything
        return self.networks.arrays.get(values)

    def cells(self, box: Box) -> Box:
        """The box in latents of a tile, padded to the model's multiple."""
        left, top = box[0] // LATENT_STRIDE, box[1] // LATENT_STRIDE
        rows, columns = self.padded(extent(box))
        return left, top, left + columns, top + rows

    def padded(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of latents of `size` pixels, padded to the model's multiple."""
        multiple = self.networks.config.multiple
        rows, columns = (-(-side // multiple) * multiple // LATENT_STRIDE for side in size)
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
        left, top, right, bottom = _pixels(cells)
        return [t for t in self if t[0] < right and t[2] > left and t[1] < bottom and t[3] > top]


class _Rows:
    """y_hat of those rows of tiles that are needed at the moment."""

    def __init__(self, latent: Latent, tiles: Sequence[Box]) -> None:
        self.latent, self.waiting = latent, iter(tiles)
        self.last_column = tiles[-1][0]
        self.held: list[Array] = []  # [1, M, rows, w], one behind the other
        self.left, self.top = tiles[0][0] // LATENT_STRIDE, tiles[0][1] // LATENT_STRIDE  # where they begin, in latents
        self.bottom = self.top
        self.whole: tuple[tuple[int, int], Array] | None = None

    def within(self, cells: Box) -> Array:
        """The latents of a box, which only ever moves down: [1, M, h, w]."""
        left, top, right, bottom = cells
        if self.whole is None or self.whole[0] != (top, bottom):
            while self.bottom < bottom:
                self._add()
            while self.top + self.held[0].shape[2] <= top:
                self.top += self.held.pop(0).shape[2]
            whole = _joined(self.held, 2)
            self.whole = (top, bottom), whole[:, :, top - self.top : bottom - self.top]
        return self.whole[1][:, :, :, left - self.left : right - self.left]

    def _add(self) -> None:
        """The next row of tiles."""
        tiles = []
        for box in self.waiting:
            tiles.append(self.latent(box))
            if box[0] == self.last_column:
                break
        self.held.append(_joined(tiles, 3))
        self.bottom += self.held[-1].shape[2]


def reduced(pixels: NDArray[Any], factor: int, alpha: NDArray[np.uint8] | None = None) -> NDArray[np.float32]:
    """The mean of each `factor` x `factor` pixels [h, w, ...], at the right and the bottom edge of those there are.

    With `alpha` [h, w] pixels count by it, since the colour of a transparent one isn't seen; where all are transparent
    they count alike.
    """
    weights: NDArray[np.float32]
    if alpha is None:
        weights = np.ones(pixels.shape[:2], np.float32)
    else:
        weights = alpha.astype(np.float32)
        hidden: NDArray[np.bool_] = _block_sums(weights, factor) == 0
        hidden = hidden.repeat(factor, axis=0).repeat(factor, axis=1)  # back to [h, w], and a little beyond its edge
        weights += hidden[: len(weights), : weights.shape[1]]
    over_channels = (1,) * (pixels.ndim - 2)
    sums = _block_sums(pixels * weights.reshape(weights.shape + over_channels), factor)
    counts = _block_sums(weights, factor)
    return sums / counts.reshape(counts.shape + over_channels)


def _block_sums(values: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    for axis in (0, 1):
        values = np.add.reduceat(values, np.arange(0, values.shape[axis], factor), axis=axis)
    return values


def _cells(box: Box) -> Box:
    """The latents that a box of pixels touches."""
    left, top, right, bottom = box
    return left // LATENT_STRIDE, top // LATENT_STRIDE, -(-right // LATENT_STRIDE), -(-bottom // LATENT_STRIDE)


def _pixels(cells: Box) -> Box:
    """The pixels of a box of latents."""
    left, top, right, bottom = cells
    return left * LATENT_STRIDE, top * LATENT_STRIDE, right * LATENT_STRIDE, bottom * LATENT_STRIDE


def place(box: Box, inside: Box, stride: int = 1) -> tuple[slice, ...]:
    """Where a box lies in an array [1, C, h, w] of another one, of which one value stands for `stride` x `stride`."""
    left, top, right, bottom = box
    rows = slice((top - inside[1]) // stride, (bottom - inside[1]) // stride)
    columns = slice((left - inside[0]) // stride, (right - inside[0]) // stride)
    return slice(None), slice(None), rows, columns


def overlap(one: Box, other: Box) -> Box:
    """What two boxes have in common."""
    return max(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), min(one[3], other[3])


def extent(box: Box) -> tuple[int, int]:
    """Height and width."""
    return box[3] - box[1], box[2] - box[0]


def latents_inside(box: Box) -> tuple[int, int]:
    """Rows and columns of latents that touch the tile's pixels."""
    height, width = extent(box)
    return -(-height // LATENT_STRIDE), -(-width // LATENT_STRIDE)


def cropped(picture: Picture, box: Box) -> NDArray[np.float32]:
    """The pixels of a box that may reach beyond the picture, there repeating its edge: [1, 3, h, w] in 0..1."""
    left, top, right, bottom = box
    pixels = picture.pixels[top : min(bottom, picture.size[0]), left : min(right, picture.size[1])]
    planes = pixels if pixels.ndim == 3 else pixels[..., None]
    x = planes.transpose(2, 0, 1)[None].astype(np.float32, order="C")
    x /= picture.peak
    beyond = ((0, 0), (0, 0), (0, bottom - top - x.shape[2]), (0, right - left - x.shape[3]))
    return np.broadcast_to(np.pad(x, beyond, mode="edge"), (1, 3, bottom - top, right - left))


def _joined(arrays: Sequence[Array], axis: int) -> Array:
    return namespace(arrays[0]).concat(arrays, axis=axis) if len(arrays) > 1 else arrays[0]
