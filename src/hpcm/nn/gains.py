"""Gains: learned per-channel factors that depend on the quality level.

With several levels the factors are learned at KNOTS evenly spaced levels and interpolated linearly.

Shapes: knots [KNOTS or 1, C]; level [B] in 0..levels-1; factors [B, C, 1, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

KNOTS = 6


class Gain(nn.Module):
    """Learned factors of C channels, one set or a set that depends on the quality level."""

    def __init__(self, levels: int, channels: int) -> None:
        super().__init__()
        self.levels = levels
        self.knots = nn.Parameter(torch.ones(KNOTS if levels > 1 else 1, channels))

    def forward(self, level: Tensor) -> Tensor:
        """level [B] in 0..levels-1 -> factors [B, C, 1, 1]."""
        return between(self.knots, level, self.levels)


def widened(x: Tensor) -> Tensor:
    """x as float32, or as float64 if it is: sixteen bits are too few for latents and the rate."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def between(knots: Tensor, level: Tensor, levels: int) -> Tensor:
    """The factors at `level`, not in 16 bits; with one level they are the one set of knots."""
    knots = widened(knots)
    if levels == 1:
        return knots[:, :, None, None]
    place = level.to(knots.dtype) * ((KNOTS - 1) / (levels - 1))
    low = place.floor().clamp(0, KNOTS - 2)
    share = (place - low)[:, None]
    index = low.long()
    lower, upper = knots.index_select(0, index), knots.index_select(0, index + 1)
    return (lower * (1 - share) + upper * share)[:, :, None, None]


def pair(gain: Gain, inverse: Gain, level: Tensor, interpolation: str) -> tuple[Tensor, Tensor]:
    """A gain and its learned inverse at `level`.

    Args:
        interpolation: "separate" interpolates gain and inverse each by itself, so that between knots their product is
            several percent larger than at them; "paired" interpolates the gain and the product, and the inverse is
            their ratio.
    """
    factor = gain(level)
    if interpolation == "paired":
        return factor, between(widened(inverse.knots) * widened(gain.knots), level, gain.levels) / factor
    return factor, inverse(level)
