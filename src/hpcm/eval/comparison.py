"""BD-rates of all pairs of codecs, measured and published, by every metric, and what to know of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import permutations

from .bdrate import LEAST_OVERLAP, Curve, Delta, delta, points_of
from .results import METRICS, CodecResult, Results, busy

BUSY = 1.2  # cores for each thread; more than that is no noise of the clock


@dataclass(frozen=True)
class Curves:
    """The curves by one metric."""

    metric: str
    measured: dict[str, Curve]
    published: dict[str, Curve]
    unusable: dict[str, str]  # why there is no curve of a codec

    @classmethod
    def of(cls, results: Results, metric: str) -> Curves:
        measured, published, unusable = {}, {}, {}
        for name, codec in results.codecs.items():
            if points := codec.curve(metric):
                try:
                    measured[name] = Curve(points)
                except ValueError as error:
                    unusable[name] = str(error)
        for name, other in results.published.items():
            if points := points_of(other, metric):
                published[name] = Curve(points)
        return cls(metric, measured, published, unusable)

    def deltas(self) -> dict[str, dict[str, Delta]]:
        """anchor -> test -> BD-rate."""
        curves = self.measured | self.published
        result: dict[str, dict[str, Delta]] = {name: {} for name in curves}
        for anchor, test in permutations(curves, 2):
            result[anchor][test] = delta(curves[anchor], curves[test])
        return result

    def warnings(self) -> Iterator[str]:
        """About single codecs."""
        for name, why in self.unusable.items():
            yield f"{self.metric}, {name}: no BD-rate: {why}"
        for name, curve in self.measured.items():
            if few := curve.few_points():
                yield f"{name}: {few}"


def compared(results: Results) -> Results:
    """The results with the BD-rates of their codecs and published curves, and warnings."""
    by_metric = [Curves.of(results, metric) for metric in METRICS]
    bd_rate = {curves.metric: curves.deltas() for curves in by_metric}
    warnings = [text for curves in by_metric for text in curves.warnings()]
    warnings += [text for codec in results.codecs.values() for text in too_busy(codec)]
    partial = [text for curves in by_metric for text in _partial(curves, bd_rate[curves.metric])]
    return replace(results, bd_rate=bd_rate, warnings=list(dict.fromkeys(warnings)), partial=partial)


def _partial(curves: Curves, deltas: dict[str, dict[str, Delta]]) -> Iterator[str]:
    """The pairs, each once, that are compared over a small part of the qualities; two published curves don't count."""
    names = list(deltas)
    for place, anchor in enumerate(names):
        for test in names[place + 1 :]:
            change = deltas[anchor][test]
            is_measured = anchor in curves.measured or test in curves.measured
            if change.overlap < LEAST_OVERLAP and is_measured:
                yield f"{curves.metric}, {test} against {anchor}: {change.warnings[-1]}"


def too_busy(codec: CodecResult) -> list[str]:
    """A warning about a codec whose times are of more threads than it was given: its library started its own."""
    cores = busy(picture for point in codec.points for picture in point.pictures)
    if cores <= codec.threads * BUSY:
        return []
    threads = f"{codec.threads} thread{'s' * (codec.threads > 1)}"
    return [f"{codec.label} kept {cores:.1f} cores busy: its times aren't of {threads}"]
