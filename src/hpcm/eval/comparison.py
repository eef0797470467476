"""BD-rates of all pairs of codecs, measured and published, by every metric, and what to know of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import permutations

from .anchors import points_of, set_of
from .bdrate import LEAST_OVERLAP, Curve, Delta, delta
from .columns import dropped_settings, with_means
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
    """The results with means over the same pictures, BD-rates of codecs and published curves, and warnings."""
    results = with_means(results)
    by_metric = [Curves.of(results, metric) for metric in results.metrics]
    bd_rate = {curves.metric: curves.deltas() for curves in by_metric}
    warnings = dropped_settings(results)
    warnings += [text for curves in by_metric for text in curves.warnings()]
    warnings += [text for curves in by_metric for text in _fewer_pictures(results, curves)]
    warnings += [f"{results.label_of(name)} is over other pictures: don't compare" for name in elsewhere(results)]
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


def elsewhere(results: Results) -> list[str]:
    """The published curves over other pictures than those that were measured."""
    return [name for name in results.published if set_of(name) != results.whole_set]


def _fewer_pictures(results: Results, curves: Curves) -> Iterator[str]:
    """A warning where published curves are over pictures that the metric leaves out here."""
    if curves.published and (without := results.left_out.get(curves.metric)):
        kept = len(results.pictures) - len(without)
        yield f"{METRICS[curves.metric].name}: the published curves are over all pictures, the others over {kept}"


def too_busy(codec: CodecResult) -> list[str]:
    """A warning about a codec whose times are of more threads than it was given: its library started its own."""
    cores = busy(picture for point in codec.points for picture in point.pictures)
    if cores <= codec.threads * BUSY:
        return []
    threads = f"{codec.threads} thread{'s' * (codec.threads > 1)}"
    return [f"{codec.label} kept {cores:.1f} cores busy: its times aren't of {threads}"]
