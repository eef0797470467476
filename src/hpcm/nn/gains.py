"""Gains: learned per-channel factors that depend on the quality level.

With several levels the factors are learned at KNOTS evenly spaced levels and interpolated linearly.

Shapes: knots [KNOTS or 1, C]; level [B] in 0..levels-1; factors [B, C, 1, 1].
"""

from __future__ import annotations

from .arrays import Array, namespace

KNOTS = 6


def between(knots: Array, level: Array, levels: int) -> Array:
    """The factors at `level`; one set of knots serves them all."""
    if levels == 1:
        return knots[:, :, None, None]
    xp = namespace(knots)
    place = xp.astype(level, knots.dtype) * ((KNOTS - 1) / (levels - 1))
    low = xp.clip(xp.floor(place), 0, KNOTS - 2)
    share = (place - low)[:, None]
    index = xp.astype(low, xp.int64)
    lower, upper = xp.take(knots, index, axis=0), xp.take(knots, index + 1, axis=0)
    return (lower * (1 - share) + upper * share)[:, :, None, None]


def pair(gain: Array, inverse: Array, level: Array, levels: int, interpolation: str) -> tuple[Array, Array]:
    """A gain and its learned inverse at `level`.

    `interpolation` "separate": of both by themselves, by which the two multiply to several percent more between the
    knots than at them; "paired": of the gain and of the product of both.
    """
    factor = between(gain, level, levels)
    if interpolation == "paired":
        return factor, between(inverse * gain, level, levels) / factor
    return factor, between(inverse, level, levels)
