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

import numpy as np
from numpy.typing import NDArray

from .coding.arrays import Array, namespace
from .coding.config import LATENT_STRIDE, receptive_halo
from .coding.loop import Loop
from .container import Box, tile_boxes
from .picture import Picture

TILE_SIDE = 1024  # pixels

Latent = Callable[[Box], Array]  # a tile's box -> its y_hat, padded to the model's multiple


class Tiling:
    """The tiles of a picture of (height, width) pixels under a model."""

    def __init__(self, networks: Loop, size: tuple[int, int], side: int = TILE_SIDE) -> None:
        self.networks, self.size, self.side = networks, size, side
        self._halo = receptive_halo(networks.config)

    def __iter__(self) -> Iterator[Box]:
        """The boxes of the tiles in pixels, row by row."""
        height, width = self.size
        return tile_boxes(width, height, self.side)

    def analyse(self, picture: Picture, box: Box) -> Array:
        """y of a tile, padded to the model's multiple."""
        outer, inner = self._outer(box)
        y = self.networks.analyse(self.networks.arrays.put(cropped(picture, outer)))
        return y[:, :, inner[1] : inner[3], inner[0] : inner[2]]

    def synthesise(self, latent: Latent, bit_depth: int, grey: bool) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """Pixels [H, W, 3] or, for grey, [H, W].

        `latent` is asked for y_hat of each tile, row by row, just before it is needed: memory holds the latents of a
        few rows of tiles, and none for the pixels before the first row has been decoded.
        """
        rows, pixels = _Rows(self, latent), None
        for box in self:
            outer, inner = self._outer(box)
            cells = [side // LATENT_STRIDE for side in outer]
            x_hat = self.networks.synthesise(rows.between(cells[1], cells[3])[:, :, :, cells[0] : cells[2]])[0]
            if pixels is None:
                pixels = np.empty(self.size if grey else (*self.size, 3), np.uint8 if bit_depth == 8 else np.uint16)
            left, top, right, bottom = box
            down, across = inner[1] * LATENT_STRIDE, inner[0] * LATENT_STRIDE
            x_hat = x_hat[:, down : down + bottom - top, across : across + right - left]
            pixels[top:bottom, left:right] = self._pixels(x_hat, 2**bit_depth - 1, grey)
        assert pixels is not None  # a picture has a tile
        return pixels

    def _pixels(self, x_hat: Array, peak: int, grey: bool) -> NDArray[np.float32]:
        """x_hat [3, h, w] as whole numbers 0..peak, [h, w, 3] or [h, w]."""
        xp = namespace(x_hat)
        x_hat = xp.mean(x_hat, axis=0) if grey else xp.permute_dims(x_hat, (1, 2, 0))
        values = xp.clip(xp.round(x_hat * peak), 0, peak)
        values = xp.where(xp.isnan(values), xp.zeros_like(values), values)  # a forged file may give anything
        return self.networks.arrays.get(values)

    def padded(self, size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of latents of `size` pixels, padded to the model's multiple."""
        multiple = self.networks.config.multiple
        rows, columns = (-(-side // multiple) * multiple // LATENT_STRIDE for side in size)
        return rows, columns

    def _outer(self, box: Box) -> tuple[Box, Box]:
        """A tile with its halo, in pixels of the padded picture, and where the tile lies in that, in latents."""
        height, width = self.padded(self.size)
        left, top = box[0] // LATENT_STRIDE, box[1] // LATENT_STRIDE
        rows, columns = self.padded(extent(box))
        x0, y0 = max(left - self._halo, 0), max(top - self._halo, 0)
        x1, y1 = min(left + columns + self._halo, width), min(top + rows + self._halo, height)
        stride = LATENT_STRIDE
        inner = (left - x0, top - y0, left - x0 + columns, top - y0 + rows)
        return (x0 * stride, y0 * stride, x1 * stride, y1 * stride), inner


class _Rows:
    """y_hat of the rows of tiles that are needed at the moment, of the picture's whole width."""

    def __init__(self, tiling: Tiling, latent: Latent) -> None:
        self.latent, self.waiting = latent, iter(tiling)
        self.last_column = (tiling.size[1] - 1) // tiling.side * tiling.side
        self.held: list[Array] = []  # [1, M, rows, w], one behind the other
        self.top = self.bottom = 0  # the rows of latents that are held
        self.whole: tuple[tuple[int, int], Array] | None = None

    def between(self, top: int, bottom: int) -> Array:
        """Rows of latents, which only ever move down: [1, M, bottom - top, w]."""
        if self.whole is None or self.whole[0] != (top, bottom):
            while self.bottom < bottom:
                self._add()
            while self.top + self.held[0].shape[2] <= top:
                self.top += self.held.pop(0).shape[2]
            whole = _joined(self.held, 2)
            self.whole = (top, bottom), whole[:, :, top - self.top : bottom - self.top]
        return self.whole[1]

    def _add(self) -> None:
        """The next row of tiles."""
        tiles = []
        for box in self.waiting:
            tiles.append(self.latent(box))
            if box[0] == self.last_column:
                break
        self.held.append(_joined(tiles, 3))
        self.bottom += self.held[-1].shape[2]


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
