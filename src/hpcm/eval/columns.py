"""Which pictures and settings the mean of each metric is over.

A metric can't be computed of every picture: MS-SSIM takes sides over 160 pixels, and the PSNR of a picture that came
back exactly is infinite. Such a picture is left out of the metric everywhere, for all codecs at all settings, so that a
curve never mixes means over different pictures; rates beside the metric are over the same pictures. The other metrics
keep the picture. A setting at which most of the pictures have no value, such as a lossless one, leaves the curve
instead: else it would take most of the pictures from all others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .results import COLUMNS, METRICS, Column, Point, Results

ALWAYS = ("psnr", "ms_ssim_db", "ms_ssim_mean_of_db")  # measured; the others only if they are asked for
MOST = 0.5  # share of the pictures; a setting at which more than that have no value leaves the curve


@dataclass(frozen=True)
class Row:
    """Which pictures have a value at a setting of a codec."""

    codec: str
    point: Point
    has: dict[str, bool]  # by picture

    def lacks(self, pictures: Sequence[str]) -> list[str]:
        return [picture for picture in pictures if not self.has[picture]]


@dataclass(frozen=True)
class Kept:
    """What a metric's means are over."""

    without: list[str]  # pictures that are left out everywhere
    dropped: list[Row]  # settings that leave their codec's curve


def with_means(results: Results) -> Results:
    """The results with every codec's points as means over the same pictures, and what is left out of them."""
    names = [picture.name for picture in results.pictures]
    kept = {metric: _kept(results, metric) for metric in COLUMNS}
    codecs = {}
    for name, codec in results.codecs.items():
        codecs[name] = replace(codec, points=[_mean(name, point, kept, names) for point in codec.points])
    left_out = {
        metric: dict.fromkeys(one.without, COLUMNS[metric].lacking) for metric, one in kept.items() if one.without
    }
    return replace(results, codecs=codecs, left_out=left_out)


def dropped_settings(results: Results) -> list[str]:
    """Sentences about the settings that a metric's curve is without."""
    names = [picture.name for picture in results.pictures]
    sentences = []
    for metric, column in COLUMNS.items():
        if metric in METRICS and metric not in results.metrics:
            continue
        for row in _kept(results, metric).dropped:
            setting, label = row.point.setting, results.codecs[row.codec].label
            lacking = f"{len(row.lacks(names))} of {len(names)} pictures have none: each {column.lacking}"
            sentences.append(f"{column.name}, {label}: setting {setting} isn't in the curve, {lacking}")
    return sentences


def _mean(name: str, point: Point, kept: dict[str, Kept], names: Sequence[str]) -> Point:
    """A point without what is left out of each metric: of one that drops the setting, everything."""
    without: dict[str, Sequence[str]] = {}
    for metric, one in kept.items():
        is_dropped = any((row.codec, row.point.setting) == (name, point.setting) for row in one.dropped)
        without[metric] = names if is_dropped else one.without
    return Point.of(point.setting, point.pictures, without)


def _kept(results: Results, metric: str) -> Kept:
    """What a metric is left out of, over the codecs that it was measured of."""
    column, names = COLUMNS[metric], [picture.name for picture in results.pictures]
    rows = []
    for name, codec in results.codecs.items():
        of_codec = [_row(name, point, column) for point in codec.points]
        if metric in ALWAYS or any(any(row.has.values()) for row in of_codec):
            rows += of_codec
    if not rows:
        was_asked_for = metric in results.options.get("extra", ())
        return Kept(without=names if was_asked_for else [], dropped=[])
    nowhere = [name for name in names if not any(row.has[name] for row in rows)]
    others = [name for name in names if name not in nowhere]
    dropped = [row for row in rows if len(row.lacks(others)) > MOST * len(others)]
    curves = [row for row in rows if row not in dropped]
    somewhere = [name for name in others if any(not row.has[name] for row in curves)]
    return Kept(nowhere + somewhere, dropped)


def _row(codec: str, point: Point, column: Column) -> Row:
    return Row(codec, point, {one.picture: column.of(one) is not None for one in point.pictures})
