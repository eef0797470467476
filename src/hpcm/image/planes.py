"""A picture's samples, of any depth: what Pillow's images hold, and what they have no mode for.

Shapes: pixels [H, W, 3] (RGB) or [H, W] (grey), alpha [H, W]. Samples of d bits are 0 to 2^d - 1: uint8 if d is 8, else
uint16.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Samples = NDArray[Any]  # uint8 or uint16

BAND = 256  # rows that are rescaled at once

Turn = Callable[[NDArray[Any]], NDArray[Any]]

UPRIGHT: dict[int, Turn] = {  # EXIF orientation: what makes planes [H, W, ...] upright
    2: lambda planes: planes[:, ::-1],
    3: lambda planes: planes[::-1, ::-1],
    4: lambda planes: planes[::-1],
    5: lambda planes: planes.swapaxes(0, 1),
    6: lambda planes: np.rot90(planes, -1),
    7: lambda planes: planes[::-1, ::-1].swapaxes(0, 1),
    8: lambda planes: np.rot90(planes),
}


@dataclass(frozen=True)
class Planes:
    """Pixels, their alpha if they have one, and the depth of both in bits."""

    pixels: Samples
    bit_depth: int = 8
    alpha: Samples | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height, width."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def colour(self) -> Literal["rgb", "grey"]:
        return "rgb" if self.pixels.ndim == 3 else "grey"

    @property
    def peak(self) -> int:
        """The value of white."""
        return peak_of(self.bit_depth)

    @property
    def joined(self) -> Samples:
        """Pixels with their alpha as the last channel, [H, W] or [H, W, 2, 3 or 4]."""
        return self.pixels if self.alpha is None else np.dstack((self.pixels, self.alpha))


AnyPlanes = TypeVar("AnyPlanes", bound=Planes)


def peak_of(bit_depth: int) -> int:
    """The largest sample of so many bits."""
    return (1 << bit_depth) - 1


def dtype_of(bit_depth: int) -> type[np.uint8] | type[np.uint16]:
    return np.uint8 if bit_depth == 8 else np.uint16


def rescaled(samples: Samples, bit_depth: int, wanted: int) -> Samples:
    """Samples [H, ...] of another depth: black and white stay, the rest is rounded to the nearest."""
    if wanted == bit_depth:
        return samples
    peak, new_peak = np.uint32(peak_of(bit_depth)), np.uint32(peak_of(wanted))
    result = np.empty(samples.shape, dtype_of(wanted))
    for top in range(0, len(samples), BAND):  # no copy of the whole in 32 bits
        band = samples[top : top + BAND].astype(np.uint32)
        result[top : top + BAND] = (band * new_peak + peak // 2) // peak
    return result


def with_depth(planes: AnyPlanes, bit_depth: int) -> AnyPlanes:
    """The same picture with samples of another depth."""
    if planes.bit_depth == bit_depth:
        return planes
    alpha = None if planes.alpha is None else rescaled(planes.alpha, planes.bit_depth, bit_depth)
    return replace(
        planes, pixels=rescaled(planes.pixels, planes.bit_depth, bit_depth), alpha=alpha, bit_depth=bit_depth
    )


def upright(planes: Planes, orientation: int) -> Planes:
    """Planes as a viewer shows them, of a picture with this EXIF orientation."""
    if orientation not in UPRIGHT:
        return planes
    turn = UPRIGHT[orientation]
    alpha = None if planes.alpha is None else np.ascontiguousarray(turn(planes.alpha))
    return replace(planes, pixels=np.ascontiguousarray(turn(planes.pixels)), alpha=alpha)


def split(joined: Samples, bit_depth: int) -> Planes:
    """The reverse of `Planes.joined`; one channel may also be [H, W, 1]."""
    channels = joined.shape[2] if joined.ndim == 3 else 1
    alpha = joined[..., -1] if channels in (2, 4) else None
    pixels = joined[..., :3] if channels >= 3 else joined.reshape(*joined.shape[:2], channels)[..., 0]
    return Planes(pixels, bit_depth, alpha)


def fitting(planes: AnyPlanes, side: int | None) -> AnyPlanes:
    """The picture, reduced so that its longer side has at most `side` pixels. Pixels count by their alpha."""
    if side is None or max(planes.size) <= side:
        return planes
    height, width = size_within(planes.size, side)
    if planes.bit_depth == 8:
        small = Image.fromarray(planes.joined).resize((width, height), Image.Resampling.LANCZOS)
        result = split(np.asarray(small), 8)
    else:
        result = _resized(planes, (width, height))
    return replace(planes, pixels=result.pixels, alpha=result.alpha)


def size_within(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Two sides in proportion, the longer one of at most `side` pixels."""
    scale = min(side / max(size), 1)
    return max(round(size[0] * scale), 1), max(round(size[1] * scale), 1)


def _resized(planes: Planes, size: tuple[int, int]) -> Planes:
    """As Pillow resizes 8 bits, but each channel in floats: it has no mode for more."""

    def resized(channel: NDArray[Any]) -> NDArray[np.float32]:
        return np.asarray(Image.fromarray(channel.astype(np.float32)).resize(size, Image.Resampling.LANCZOS))

    def rounded(values: NDArray[np.float32]) -> NDArray[np.uint16]:
        return np.rint(values).clip(0, planes.peak).astype(np.uint16)

    channels = planes.pixels.reshape(*planes.size, -1)
    weights: NDArray[Any] = np.ones(planes.size, np.float32)
    if planes.alpha is not None:
        weights = planes.alpha / np.float32(planes.peak)
    small = [resized(channels[..., i] * weights) for i in range(channels.shape[2])]
    alpha = None
    if planes.alpha is not None:
        weight = resized(weights)
        small = [np.divide(channel, weight, out=np.zeros_like(channel), where=weight > 0) for channel in small]
        alpha = rounded(weight * planes.peak)
    pixels = rounded(np.stack(small, axis=2))
    return Planes(pixels if planes.pixels.ndim == 3 else pixels[..., 0], planes.bit_depth, alpha)
