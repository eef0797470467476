"""Bjontegaard's delta rate: how many percent of the rate a codec saves at equal quality, and published curves.

A curve is log10(rate) over quality, interpolated by PCHIP through a codec's points. The delta is the mean difference of
two curves over the qualities that both have, d, as 10^d - 1; nothing is extrapolated. Points above MAX_BPP are left
out, as are points that a smaller rate equals or beats.

`anchors.json` holds curves over Kodak's 24 pictures that others published, and some that we measured with a source
build of a codec, each with its source. Two conventions meet in it: most MS-SSIM are those of the mean over pictures in
dB, as ours are; HPCM's are the mean of the pictures' dB.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UsageError

ANCHORS = Path(__file__).with_name("anchors.json")
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


@dataclass(frozen=True)
class PublishedCurve:
    """Of another codec, over Kodak's 24 pictures."""

    label: str
    kind: str
    source: str
    points: list[tuple[str, float, float, float | None]]  # setting, bits per pixel, PSNR, MS-SSIM in dB


def published() -> dict[str, PublishedCurve]:
    """The curves of anchors.json by name."""
    read = json.loads(ANCHORS.read_text(encoding="utf-8"))["codecs"]
    return {name: PublishedCurve(**curve) for name, curve in read.items()}


def points_of(curve: PublishedCurve, metric: str) -> list[RatePoint]:
    """Points of a published curve in terms of "psnr" or "ms_ssim_db"; none if it has no such metric."""
    columns = {"psnr": 2, "ms_ssim_db": 3}
    if metric not in columns:
        return []
    qualities: list[tuple[float, Any]] = [(point[1], point[columns[metric]]) for point in curve.points]
    return [(rate, quality) for rate, quality in qualities if quality is not None]


def _package() -> Any:
    try:
        import bjontegaard
    except ImportError as error:
        raise UsageError("BD-rates need another package: pip install 'hpcm-codec[eval]'") from error
    return bjontegaard
