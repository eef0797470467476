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
Shapes: y, y_hat [h, w, M]; samples [h, w, 3] or, for grey, [h, w], uint8 or uint16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..core.coded import Latent
from ..format.fields import Box
from ..image.picture import Picture
from ..image.planes import Samples, rescaled
from ..model.config import LATENT_STRIDE
from ..util.parallel import Check, side_by_side
from .engine import Engine, stoppable
from .tiles import Tiling, cells_of, extent, overlap, pixels_of, relative, slices_of

Piece = tuple[Box, Samples]  # a box of the picture in pixels, and what is in it


def analyse(engine: Engine, tiling: Tiling, picture: Picture, tile: Box) -> Latent:
    """y of a tile, padded to the model's multiple."""
    own = tiling.cells(tile)
    outer = tiling.with_halo(own)
    area = pixels_of(outer)
    y = engine.analyse(cropped(picture, overlap(area, tiling.whole)), picture.peak, extent(area))
    return y[slices_of(own, outer)]


def cropped(picture: Picture, box: Box) -> Samples:
    """The pixels of a box of the picture, [h, w, 3 or 1]."""
    pixels = picture.pixels if picture.pixels.ndim == 3 else picture.pixels[..., None]
    return pixels[slices_of(box, (0, 0, 0, 0))]


def synthesise(
    engine: Engine,
    tiling: Tiling,
    y_hats: Iterable[Latent],
    box: Box,
    bit_depth: int,
    grey: bool,
    check: Check | None = None,
) -> Iterator[Piece]:
    """The pixels of a box, a piece for each tile that it touches, row by row.

    Each y_hat is taken just before it is needed, and dropped when no later piece depends on it: memory holds the
    latents of a few rows of tiles, and of as many pieces as the engine likes to be given at once.

    Args:
        y_hats: of the tiles `tiling.needed_for(box)`, in this order, padded to the model's multiple.
        bit_depth: of the samples, 8 to 16.
        check: ends the work by raising.
    """
    made_depth = 8 if bit_depth == 8 else 16  # what engines make

    def made(given: tuple[Box, Box, Latent], check: Check | None) -> Piece:
        piece, outer, y_hat = given
        crop = relative(piece, pixels_of(outer))
        samples = stoppable(engine, check).synthesise(y_hat, made_depth, grey, crop)
        return piece, rescaled(samples, made_depth, bit_depth)

    threads = min(engine.at_once, len(tiling.within(box)))
    return side_by_side(made, _with_halos(tiling, y_hats, box), threads, check=check)


def _with_halos(tiling: Tiling, y_hats: Iterable[Latent], box: Box) -> Iterator[tuple[Box, Box, Latent]]:
    """The pieces of a box: each in pixels, with its halo in latents, and the y_hat there; as for `synthesise`."""
    needed = tiling.needed_for(box)
    rows = _joined_rows(iter(y_hats), needed)
    held: list[Latent] = []  # rows of tiles, one below the other, [rows, w, M]
    left, top = needed[0][0] // LATENT_STRIDE, needed[0][1] // LATENT_STRIDE  # where they begin, in latents
    bottom = top
    for _, tiles in groupby(tiling.within(box), key=lambda tile: tile[1]):
        pieces = [overlap(tile, box) for tile in tiles]
        _, first, _, end = tiling.with_halo(cells_of(pieces[0]))  # the rows of latents that all these depend on
        while bottom < end:
            held.append(next(rows))
            bottom += len(held[-1])
        while top + len(held[0]) <= first:
            top += len(held.pop(0))
        band = _joined(held, axis=0)[first - top : end - top]
        for piece in pieces:
            outer = tiling.with_halo(cells_of(piece))
            yield piece, outer, band[:, outer[0] - left : outer[2] - left]


def assemble(pieces: Iterable[Piece], box: Box, factor: int = 1, alpha: Callable[[], Samples] | None = None) -> Samples:
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


def reduced(pixels: NDArray[Any], factor: int, alpha: Samples | None = None) -> NDArray[np.float64]:
    """The mean of each `factor` x `factor` pixels [h, w, ...], at the right and the bottom edge of those there are.

    With `alpha` [h, w] pixels count by it, since the colour of a transparent one isn't seen; where all are transparent
    they count alike. Sums are those of integers, so that only the division rounds: means are the same everywhere.
    """
    weights: NDArray[np.uint32] = np.ones(pixels.shape[:2], np.uint32)
    if alpha is not None:
        weights *= alpha
        hidden: NDArray[np.bool_] = _block_sums(weights, factor) == 0
        hidden = hidden.repeat(factor, axis=0).repeat(factor, axis=1)  # back to [h, w], and a little beyond its edge
        weights += hidden[: len(weights), : weights.shape[1]]
    over_channels = (1,) * (pixels.ndim - 2)
    sums = _block_sums(pixels * weights.reshape(weights.shape + over_channels), factor)
    counts = _block_sums(weights, factor)
    return sums / counts.reshape(counts.shape + over_channels)


def _block_sums(values: NDArray[Any], factor: int) -> NDArray[np.int64]:
    """The sum of each `factor` x `factor` block of values [h, w, ...]; at the right and bottom edge of those there are.

    It takes at most 48 bits: 2^16 samples of 16 bits, times an alpha of 16.
    """
    for axis in (0, 1):
        starts = np.arange(0, values.shape[axis], factor)
        values = np.add.reduceat(values, starts, axis=axis, dtype=np.int64)
    return values


def _joined_rows(y_hats: Iterator[Latent], tiles: Sequence[Box]) -> Iterator[Latent]:
    """The latents of one row of tiles after the other, [rows, w, M]; `tiles` are those that y_hats are of."""
    columns = len({left for left, _, _, _ in tiles})
    for _ in range(len(tiles) // columns):
        yield _joined(list(islice(y_hats, columns)), axis=1)


def _joined(arrays: Sequence[Latent], axis: int) -> Latent:
    return np.concatenate(arrays, axis) if len(arrays) > 1 else arrays[0]
