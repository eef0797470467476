"""Bjontegaard's delta rate: how many percent of the rate a codec saves at equal quality.

A curve is log10(rate) over quality, interpolated by PCHIP through a codec's points. The delta is the mean difference of
two curves over the qualities that both have, d, as 10^d - 1; nothing is extrapolated. Points above MAX_BPP are left
out, as are points that a smaller rate equals or beats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import UsageError

MAX_BPP = 2.6
FEWEST_POINTS = 4
LEAST_OVERLAP = 0.75  # of the qualities of the shorter curve
GRID = 4001  # places at which a curve is inverted

RatePoint = tuple[float, float]  # rate in bits per pixel, quality


class Curve:
    """A codec's rates over qualities. Raises ValueError if fewer than two points remain."""

    def __init__(self, points: Sequence[RatePoint]) -> None:
        measured = sorted(p for p in points if p[0] <= MAX_BPP)
        kept = [p for i, p in enumerate(measured) if all(p[1] > q for _, q in measured[:i])]
        if len(kept) < 2:
            raise ValueError(f"a curve takes two points, there are {len(kept)}")
        self.rates, self.qualities = zip(*kept, strict=True)
        self.low, self.high = self.qualities[0], self.qualities[-1]
        # the delta of a curve against itself hands out the interpolant that the package uses
        own = (self.rates, self.qualities)
        self.log_rate = _package().bd_rate(*own, *own, "pchip", interpolators=True, min_overlap=0)[1]

    def few_points(self) -> str:
        """A warning where there are fewer than a BD-rate takes; else empty."""
        count = len(self.rates)
        return f"a curve has only {count} points, {FEWEST_POINTS} are the least for a BD-rate" * (count < FEWEST_POINTS)

    def quality_at(self, rate: float) -> float | None:
        """The quality at a rate; None outside the measured points."""
        if not self.rates[0] <= rate <= self.rates[-1]:
            return None
        grid = np.linspace(self.low, self.high, GRID)
        return float(np.interp(math.log10(rate), self.log_rate(grid), grid))


@dataclass(frozen=True)
class Delta:
    """How the rate of a codec differs from an anchor's; None if the two have no quality in common."""

    low: float  # the qualities between which the curves were compared
    high: float
    overlap: float  # their share of the qualities of the shorter curve
    warnings: tuple[str, ...] = ()
    percent: float | None = None


def delta(anchor: Curve, test: Curve) -> Delta:
    """BD-rate of `test` against `anchor`, over all qualities that the two have in common."""
    low, high = max(anchor.low, test.low), min(anchor.high, test.high)
    if not low < high:
        return Delta(low, high, overlap=0.0, warnings=("the curves have no quality in common",))
    shorter = min(anchor.high - anchor.low, test.high - test.low)
    overlap = (high - low) / shorter
    warnings = []
    if few := anchor.few_points() or test.few_points():
        warnings.append(few)
    if overlap < LEAST_OVERLAP:
        warnings.append(f"only {overlap:.0%} of the qualities are compared, {low:.1f} to {high:.1f}")
    difference = float(test.log_rate.integrate(low, high) - anchor.log_rate.integrate(low, high)) / (high - low)
    return Delta(low, high, overlap, tuple(warnings), percent=100 * (10**difference - 1))


def _package() -> Any:
    try:
        import bjontegaard
    except ImportError as error:
        raise UsageError("BD-rates need another package: pip install 'hpcm-codec[eval]'") from error
    return bjontegaard
