"""Lossless and near-lossless files: which pictures can be kept so, which base makes the smallest file, and its proof.

The residual's coder predicts from the neighbours more than from the base, so a better base costs more bytes than it
saves: on photographs the lowest level makes the smallest file (docs/lossless.md). Beside grey a photograph takes still
0.5% less, but then it has no lossy picture; pictures of screens and pages take up to a third less, since pixels that
repeat are copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import MismatchError, PictureError, UsageError
from ..format.container import unpack
from ..format.fields import Residual
from ..image.picture import Picture
from ..image.planes import Samples
from ..util.notes import SampleLoss
from .decoder import decode
from .encoder import Encoding
from .engine import LoadedEngine
from .residual import has_exact_pixels

REPEATING = 0.75  # of two neighbours that are as the pixel, on average, from which on grey is tried: as on screens
WORTH_NO_PICTURE = 0.98  # of the bytes: what a file beside grey may take, which has no lossy picture
FEW_COLOURS = 256
FEW_GREYS = 32
PIXELS_OF_COLOUR = 64  # that each of them has on average
LOOKED_AT = 1 << 20  # pixels, to count colours
SMALL = 1 << 14  # pixels: of fewer, lossless files save nothing that matters


def check_source(picture: Picture, max_error: int) -> None:
    """Raises PictureError where samples were lost when it was read, UsageError for a bound that its depth hasn't."""
    losses = [note for note in picture.notes if isinstance(note, SampleLoss)]
    if losses:
        raise PictureError(f"neither lossless nor max_error can be promised: {'; '.join(losses)}")
    if max_error > picture.peak // 2:
        raise UsageError(
            f"max_error is {max_error}: for samples of {picture.bit_depth} bits it must be 0 to {picture.peak // 2}"
        )


def check_model(name: str, config: Mapping[str, Any]) -> None:
    """Raises UsageError for a model whose pixels nothing may be added to. `config` as for `has_exact_pixels`."""
    if not has_exact_pixels(config):
        raise UsageError(
            f"{name} can't make lossless files: its pixels differ from machine to machine; take an exact model "
            "(`hpcm exact` makes one)"
        )


def smallest_file(job: Encoding, max_error: int, level: int | None) -> bytes:
    """The file whose samples are off by at most `max_error`: it was decoded and compared. Raises MismatchError.

    Args:
        level: of the lossy picture; None: the one that makes the smallest file, or none beside grey.
    """
    file = job.file(level or 0, Residual("samples", max_error))
    if level is None and repeats(job.picture.pixels):
        beside_grey = job.file(0, Residual("samples beside grey", max_error))
        if len(beside_grey) < WORTH_NO_PICTURE * len(file):
            file = beside_grey
    loaded = LoadedEngine(job.engine, job.weights)
    check_decoded(job.picture, decode(loaded, unpack(file), threads=job.threads, check=job.check), max_error)
    return file


def check_decoded(picture: Picture, decoded: Picture, max_error: int) -> None:
    """Raises MismatchError where a decoded picture is further off than it may be."""
    alike = picture.alpha is None or (decoded.alpha is not None and np.array_equal(picture.alpha, decoded.alpha))
    rows = zip(picture.pixels, decoded.pixels, strict=True)  # no copy of the picture in larger integers
    if not alike or any(int(np.abs(a.astype(np.int32) - b).max()) > max_error for a, b in rows):
        raise MismatchError(
            f"the file was decoded, and samples are off by more than {max_error}: this machine computes wrongly; "
            "`hpcm selftest` tells more"
        )


def repeats(pixels: Samples) -> bool:
    """Whether neighbours are often equal, as in pictures of screens and pages (docs/log.md)."""
    channels = pixels if pixels.ndim == 3 else pixels[..., None]
    left = sum(int((row[1:] == row[:-1]).all(axis=1).sum()) for row in channels)
    upper = sum(int((a == b).all(axis=1).sum()) for a, b in zip(channels[1:], channels[:-1], strict=True))
    return left + upper >= REPEATING * channels.shape[0] * channels.shape[1]


def has_few_colours(pixels: Samples) -> bool:
    """Whether a picture is made of few colours; of a large one some rows are looked at."""
    height, width = pixels.shape[:2]
    if height * width < SMALL:
        return False
    rows = pixels[:: max(height * width // LOOKED_AT, 1)]
    most = FEW_GREYS
    if pixels.ndim == 3:
        red, green, blue = (rows[..., i].astype(np.uint64) for i in range(3))
        rows, most = red << 32 | green << 16 | blue, FEW_COLOURS
    return len(np.unique(rows)) <= min(most, rows.size // PIXELS_OF_COLOUR)
