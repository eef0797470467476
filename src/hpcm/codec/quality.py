"""The scale of quality, 1 (smallest) to 100 (best).

    1 .. 80     the levels of a model, evenly
    81 .. 100   its best level and a residual layer of coefficients, whose steps are STEPS, coarse to fine

Models of one level each, as the authors have trained them from a low lambda to a high one, share 1 .. 80: a quality
takes the model whose lambda is nearest to it on a logarithmic scale. Only exact models have a residual layer: others
have their best level from 80 on.
"""

from __future__ import annotations

from numbers import Integral

from ..defaults import BASE_QUALITY, MAX_QUALITY, STEPS
from ..errors import UsageError
from ..format.fields import Residual


def checked(quality: int) -> int:
    """Raises UsageError for what is no quality."""
    if not (isinstance(quality, Integral) and 1 <= quality <= MAX_QUALITY):
        raise UsageError(f"quality is {quality!r}: it must be 1 (smallest) to {MAX_QUALITY} (best)")
    return int(quality)


def share_of(quality: int) -> float:
    """Where a quality lies between a model's lowest level, 0, and its best one, 1."""
    return (min(quality, BASE_QUALITY) - 1) / (BASE_QUALITY - 1)


def residual_of(quality: int) -> Residual | None:
    """The residual layer of a quality, None up to BASE_QUALITY."""
    return Residual("coefficients", STEPS[quality - BASE_QUALITY - 1]) if quality > BASE_QUALITY else None


def quality_of(level: int, levels: int, residual: Residual | None = None) -> int | None:
    """The quality that gives a level of a model of so many, the middle one of several, and a residual layer.

    Of a lossless or near-lossless file it is that of the lossy picture. None for a level or layer that no quality
    gives, where there is no lossy picture, and for a model of one level, which all up to BASE_QUALITY give.
    """
    if residual is not None and residual.kind == "coefficients":
        is_quality = residual.number in STEPS and level == levels - 1
        return BASE_QUALITY + 1 + STEPS.index(residual.number) if is_quality else None
    if levels == 1 or (residual is not None and residual.is_beside_grey):
        return None
    quality = 1 + round(level / (levels - 1) * (BASE_QUALITY - 1))
    return quality if quality <= BASE_QUALITY and round(share_of(quality) * (levels - 1)) == level else None
