"""What is asked of a codec and what a file claims: refused where it makes no sense."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..defaults import BASE_QUALITY, ICC_SPACES, MAX_TILE_SIDE, STRIPS
from ..errors import FormatError, UsageError
from ..format.fields import Box, Container
from ..model.config import LATENT_STRIDE, Config
from .tiles import Tiling, extent, latents_of_size

MAX_NARROW = 1 << 22  # pixels that a picture may have with its padding, even if `max_pixels` is less


def promised_error(
    lossless: bool, max_error: int | None, quality: int | None, bpp: float | None, psnr: float | None
) -> int | None:
    """The largest error of a sample that is asked for, None for any; arguments as for `Codec.compress`.

    Raises UsageError where they make no sense or exclude one another.
    """
    if not isinstance(lossless, bool):
        raise UsageError(f"lossless is {lossless!r}: it must be True or False")
    check_target(quality, bpp, psnr)
    max_error = 0 if lossless and max_error is None else max_error
    if max_error is None:
        return None
    if isinstance(max_error, bool) or not (isinstance(max_error, Integral) and max_error >= 0):
        raise UsageError(f"max_error is {max_error!r}: it must be 0 (lossless) or a larger whole number")
    if lossless and max_error > 0:
        raise UsageError("lossless and max_error exclude one another: give one")
    if bpp is not None or psnr is not None:
        raise UsageError("lossless and max_error exclude bpp and psnr: the size follows from the picture")
    if quality is not None and quality > BASE_QUALITY:
        raise UsageError(
            f"quality is {quality}: that of the lossy picture in a lossless file is at most {BASE_QUALITY}"
        )
    return int(max_error)


def check_target(quality: int | None, bpp: float | None, psnr: float | None) -> None:
    """Raises UsageError where what a file is to be like makes no sense."""
    if sum(choice is not None for choice in (quality, bpp, psnr)) > 1:
        raise UsageError("quality, bpp and psnr exclude one another: give one")
    for name, target in (("bpp", bpp), ("psnr", psnr)):
        if target is not None and not (isinstance(target, Real) and 0 < target < float("inf")):
            raise UsageError(f"{name} is {target!r}: it must be a positive number")


def check_appearance(strip: str | None, icc: str | None) -> None:
    """Raises UsageError for a choice that there isn't."""
    for name, value, choices in (("strip", strip, STRIPS), ("icc", icc, ICC_SPACES)):
        if value is not None and value not in choices:
            raise UsageError(f"{name} is {value!r}: it must be {' or '.join(choices)}, or None")


def checked_box(box: Box, size: tuple[int, int]) -> Box:
    """A box inside a picture of (width, height), in Python's integers. Raises UsageError."""
    if len(box) != 4 or not all(isinstance(side, Integral) for side in box):
        raise UsageError(f"box is {box!r}: it must be four whole numbers, left, top, right, bottom")
    left, top, right, bottom = map(int, box)
    width, height = size
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        inside = f"inside the picture of {width} x {height} pixels"
        raise UsageError(f"box is {(left, top, right, bottom)}: it must be {inside}")
    return left, top, right, bottom


def checked_map(quality_map: NDArray[Any], size: tuple[int, int]) -> NDArray[np.float32]:
    """A quality map of a picture of (height, width) as float32. Raises UsageError."""
    try:
        given = np.asarray(quality_map)
        if np.iscomplexobj(given):
            raise TypeError("they are complex")
        values = given.astype(np.float32)
    except (TypeError, ValueError, RuntimeError) as error:  # torch's for a tensor that has a gradient
        raise UsageError(f"the quality map is no array of numbers: {error}") from error
    rows, columns = latents_of_size(size)
    if values.shape != (rows, columns):
        shape = f"[{rows}, {columns}], a number for each {LATENT_STRIDE} x {LATENT_STRIDE} pixels"
        raise UsageError(f"the quality map has the shape {list(values.shape)}: it must be {shape}")
    if not ((values >= 0) & (values <= 1)).all():
        raise UsageError("the quality map has numbers outside 0 to 1")
    return values


def check_claims(container: Container, config: Config, box: Box | None, max_pixels: int) -> None:
    """Raises FormatError where a file claims what its model doesn't have, or more memory than is allowed."""
    if container.level >= config.levels:
        raise FormatError(f"the file has quality level {container.level}, the model only {config.levels}")
    width, height = container.width, container.height
    if box is not None and container.alpha is None:  # alpha is decoded whole
        reach = Tiling(config, (height, width), container.tile_side).of_whole_tiles(box) if container.residual else box
        height, width = extent(reach)
    # A picture that is narrower than the model's multiple takes as long as one that is so wide.
    padded = max(width, config.multiple) * max(height, config.multiple)
    if width * height > max_pixels or padded > max(max_pixels, MAX_NARROW):
        raise FormatError(
            f"the file claims {width} x {height} pixels, over {max_pixels:,}: allow more if you trust it "
            f"(max_pixels, --max-pixels); a side counts as at least {config.multiple}"
        )
    if container.tile_side > MAX_TILE_SIDE:
        raise FormatError(f"the file has tiles of {container.tile_side} pixels, this hpcm reads {MAX_TILE_SIDE}")
