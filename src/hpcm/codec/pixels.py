"""Pixels <-> latents, tile by tile, without seams and in bounded memory.

The transforms know no tiles: each piece is analysed and synthesised with a halo of real neighbours as wide as the
transforms reach, so that the result equals that of the whole picture at once:

      picture        +--------+   g_a    +----+           +----+    g_s   +--------+
      with halo      | +----+ |  ----->  |tile| -> bytes  |tile|  ----->  | +----+ |  of which the inner part is kept
                     | |tile| |          +----+           +----+ and the  | |tile| |
                     | +----+ |                             halo around   | +----+ |
                     +--------+                                           +--------+

    analyse:    picture, tile -> y
    synthesise: y_hat of tile after tile -> pieces, each a box and its samples;   assemble: pieces -> picture

Where a picture's side isn't a multiple of the model's own its last rows and columns are repeated.
Shapes: x [1, 3, H, W] in 0..1; y, y_hat [1, M, h, w]; samples [h, w, 3] or, for grey, [h, w], uint8 or uint16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..format.fields import Box
from ..image.picture import Picture
from ..model.config import LATENT_STRIDE
from ..nn.arrays import Array, namespace
from ..nn.loop import Loop
from .tiles import Tiling, cells_of, extent, overlap, pixels_of, place

Samples = NDArray[np.uint8] | NDArray[np.uint16]
Piece = tuple[Box, Samples]  # a box of the picture in pixels, and what is in it


def analyse(networks: Loop, tiling: Tiling, picture: Picture, tile: Box) -> Array:
    """y of a tile, padded to the model's multiple."""
    own = tiling.cells(tile)
    outer = tiling.with_halo(own)
    y = networks.analyse(networks.arrays.put(cropped(picture, pixels_of(outer))))
    return y[place(own, outer)]


def cropped(picture: Picture, box: Box) -> NDArray[np.float32]:
    """The pixels of a box that may reach beyond the picture, there repeating its edge: [1, 3, h, w] in 0..1."""
    left, top, right, bottom = box
    pixels = picture.pixels[top : min(bottom, picture.size[0]), left : min(right, picture.size[1])]
    planes = pixels if pixels.ndim == 3 else pixels[..., None]
    x = planes.transpose(2, 0, 1)[None].astype(np.float32, order="C")
    x /= picture.peak
    beyond = ((0, 0), (0, 0), (0, bottom - top - x.shape[2]), (0, right - left - x.shape[3]))
    return np.broadcast_to(np.pad(x, beyond, mode="edge"), (1, 3, bottom - top, right - left))


def synthesise(
    networks: Loop, tiling: Tiling, y_hats: Iterable[Array], box: Box, bit_depth: int, grey: bool
) -> Iterator[Piece]:
    """The pixels of a box, a piece for each tile that it touches, row by row.

    Each y_hat is taken just before it is needed, and dropped when no later piece depends on it: memory holds the
    latents of a few rows of tiles.

    Args:
        y_hats: of the tiles `tiling.needed_for(box)`, in this order, padded to the model's multiple.
    """
    needed = tiling.needed_for(box)
    rows = _joined_rows(iter(y_hats), needed)
    held: list[Array] = []  # rows of tiles, one below the other, [1, M, rows, w]
    left, top = needed[0][0] // LATENT_STRIDE, needed[0][1] // LATENT_STRIDE  # where they begin, in latents
    bottom = top
    for _, tiles in groupby(tiling.touching(cells_of(box)), key=lambda tile: tile[1]):
        pieces = [overlap(tile, box) for tile in tiles]
        _, first, _, end = tiling.with_halo(cells_of(pieces[0]))  # the rows of latents that all these depend on
        while bottom < end:
            held.append(next(rows))
            bottom += held[-1].shape[2]
        while top + held[0].shape[2] <= first:
            top += held.pop(0).shape[2]
        band = _joined(held, 2)[:, :, first - top : end - top]
        for piece in pieces:
            outer = tiling.with_halo(cells_of(piece))
            x_hat = networks.synthesise(band[:, :, :, outer[0] - left : outer[2] - left])
            inner = x_hat[place(piece, pixels_of(outer))][0]
            yield piece, _samples(networks, inner, bit_depth, grey)


def assemble(
    pieces: Iterable[Piece], box: Box, factor: int = 1, alpha: Callable[[], NDArray[np.uint8]] | None = None
) -> Samples:
    """The picture of a box, or one pixel for each `factor` x `factor`, from its pieces.

    Memory for it is taken when the first piece has come: a forged file's claims alone cost none.

    Args:
        factor: a power of two up to the tiles' side; unless it is 1, `box` is the whole picture.
        alpha: gives that of the picture, [H, W], by which pixels count where several become one. It is asked for
            when a piece has come.
    """
    pixels: Samples | None = None
    for (left, top, right, bottom), samples in pieces:
        if pixels is None:
            rows, columns = (-(-side // factor) for side in extent(box))
            pixels = np.empty((rows, columns, *samples.shape[2:]), samples.dtype)
        values: NDArray[Any] = samples
        if factor > 1:
            weights = None if alpha is None else alpha()[top:bottom, left:right]
            values = np.rint(reduced(samples, factor, weights))
        down, across = (top - box[1]) // factor, (left - box[0]) // factor
        pixels[down : down + values.shape[0], across : across + values.shape[1]] = values
    assert pixels is not None  # a box has a pixel
    return pixels


def _samples(networks: Loop, x_hat: Array, bit_depth: int, grey: bool) -> Samples:
    """x_hat [3, h, w] as whole numbers, [h, w, 3] or [h, w]."""
    xp, peak = namespace(x_hat), 2**bit_depth - 1
    x_hat = xp.mean(x_hat, axis=0) if grey else xp.permute_dims(x_hat, (1, 2, 0))
    values = xp.clip(xp.round(x_hat * peak), 0, peak)
    values = xp.where(xp.isnan(values), xp.zeros_like(values), values)  # a forged file may give anything
    samples = networks.arrays.get(values)
    return samples.astype(np.uint8) if bit_depth == 8 else samples.astype(np.uint16)


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


def _joined_rows(y_hats: Iterator[Array], tiles: Sequence[Box]) -> Iterator[Array]:
    """The latents of one row of tiles after the other, [1, M, rows, w]; `tiles` are those that y_hats are of."""
    columns = len({left for left, _, _, _ in tiles})
    for _ in range(len(tiles) // columns):
        yield _joined(list(islice(y_hats, columns)), 3)


def _joined(arrays: Sequence[Array], axis: int) -> Array:
    return namespace(arrays[0]).concat(arrays, axis=axis) if len(arrays) > 1 else arrays[0]
