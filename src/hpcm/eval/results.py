"""What an evaluation gives, and its results.json.

    Results
      machine      Machine
      data_set     DataSet that the pictures are of
      codecs       name -> CodecResult
                     points   Point at each setting: means over the pictures
                                pictures   Measurement of each picture
      left_out     metric -> picture -> why the metric's means are without it
      published    name -> PublishedCurve
      bd_rate      metric -> anchor -> test -> Delta

results.json has the same names. A value that is None, because it wasn't measured or doesn't apply, is left out there.
pictures.csv has the Measurement of each picture in a row.
"""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import UsageError
from ..util import atomic
from ..util.metrics import SMALLEST
from .anchors import PublishedCurve, points_of, set_of
from .bdrate import Curve, Delta
from .datasets import DataSet
from .datasets import label_of as set_label
from .machine import Machine
from .metrics import BUTTERAUGLI_SMALLEST, LPIPS_SMALLEST, SSIMULACRA2_SMALLEST, decibels, mse_of, psnr_of
from .protocol import Setting, TimeSplit

FILE = "results.json"
TABLE = "pictures.csv"
IN_TABLE = ("bytes", "bpp", "psnr", "ms_ssim", "ssimulacra2", "butteraugli", "lpips", "encode_s", "decode_s")


class Metric(NamedTuple):
    """How a metric is shown."""

    name: str
    unit: str  # behind a value
    digits: int  # behind the point
    axis: str  # of a plot
    only_published: bool = False  # shown only beside a published curve that has it


METRICS = {  # with BD-rates, a plot and columns in the tables; by the attribute of Point
    "psnr": Metric("PSNR", unit=" dB", digits=2, axis="PSNR in dB, mean over pictures"),
    "ms_ssim_db": Metric("MS-SSIM", unit=" dB", digits=2, axis="MS-SSIM in dB, of the mean over pictures"),
    "ms_ssim_mean_of_db": Metric(
        "MS-SSIM, mean of dB", unit=" dB", digits=2, axis="MS-SSIM in dB, mean over pictures", only_published=True
    ),
    "ssimulacra2": Metric("SSIMULACRA 2", unit="", digits=1, axis="SSIMULACRA 2, mean over pictures"),
    "butteraugli": Metric("Butteraugli", unit="", digits=2, axis="minus Butteraugli's 3-norm, mean over pictures"),
}


@dataclass(frozen=True)
class Measurement:
    """One codec at one setting on one picture."""

    picture: str
    bytes: int
    bpp: float
    psnr: float | None  # dB; None for a picture that came back exactly, whose PSNR is infinite
    ms_ssim: float | None  # this and the others: None for pictures that are too small for them
    encode_s: float
    decode_s: float
    encode_cpu_s: float  # of all threads together
    decode_cpu_s: float
    jobs: int  # processes that measured at once
    lpips: float | None = None
    ssimulacra2: float | None = None
    butteraugli: float | None = None
    encode_split: TimeSplit | None = None  # of models
    decode_split: TimeSplit | None = None

    @classmethod
    def from_json(cls, read: dict[str, Any]) -> Measurement:
        return cls(**{"psnr": None, "ms_ssim": None, **read, **_splits(read)})


class Column(NamedTuple):
    """A value that a codec's points have the mean of."""

    name: str
    of: Callable[[Measurement], float | None]
    lacking: str  # why a picture has no value


def _ms_ssim_in_db(one: Measurement) -> float | None:
    return None if one.ms_ssim is None or one.ms_ssim >= 1 else decibels(one.ms_ssim)


COLUMNS = {  # by the attribute of Point
    "psnr": Column("PSNR", lambda one: one.psnr, "came back exactly, and its PSNR is infinite"),
    "ms_ssim_db": Column("MS-SSIM", lambda one: one.ms_ssim, f"has a side of {SMALLEST} pixels or less"),
    "ms_ssim_mean_of_db": Column(
        "MS-SSIM, mean of dB", _ms_ssim_in_db, f"has a side of {SMALLEST} pixels or less, or came back exactly"
    ),
    "ssimulacra2": Column(
        "SSIMULACRA 2", lambda one: one.ssimulacra2, f"has a side of fewer than {SSIMULACRA2_SMALLEST} pixels"
    ),
    "butteraugli": Column(
        "Butteraugli", lambda one: one.butteraugli, f"has a side of fewer than {BUTTERAUGLI_SMALLEST} pixels"
    ),
    "lpips": Column("LPIPS", lambda one: one.lpips, f"has a side of fewer than {LPIPS_SMALLEST} pixels"),
}


@dataclass(frozen=True)
class Point:
    """One codec at one setting: means of rate and quality over the pictures, medians of the times.

    A quality is None where it wasn't measured, and at a setting that its curve is without (see columns.py).
    """

    setting: Setting
    bpp: float
    encode_s: float
    decode_s: float
    busy: float  # cores
    bpp_of_all_pixels: float  # all bits over all pixels: large pictures count for more
    psnr: float | None = None
    psnr_of_mean_mse: float | None = None  # of the mean over the pictures: bad pictures count for more
    ms_ssim: float | None = None
    ms_ssim_db: float | None = None  # of the mean over the pictures
    ms_ssim_mean_of_db: float | None = None
    lpips: float | None = None
    ssimulacra2: float | None = None
    butteraugli: float | None = None
    rates: dict[str, float] = field(default_factory=dict)  # bpp over a metric's pictures, where some are left out
    encode_split: TimeSplit | None = None
    decode_split: TimeSplit | None = None
    pictures: list[Measurement] = field(default_factory=list)

    @classmethod
    def of(
        cls, setting: Setting, pictures: list[Measurement], left_out: Mapping[str, Collection[str]] | None = None
    ) -> Point:
        """Of what was measured.

        Args:
            left_out: metric -> names of pictures that its mean is without.
        """

        def kept(metric: str) -> list[Measurement]:
            without = (left_out or {}).get(metric, ())
            return [one for one in pictures if one.picture not in without]

        means = {metric: _mean_or_none(map(column.of, kept(metric))) for metric, column in COLUMNS.items()}
        partial = [metric for metric in COLUMNS if 0 < len(kept(metric)) < len(pictures)]
        mse = _mean_or_none(None if one.psnr is None else mse_of(one.psnr) for one in kept("psnr"))
        ms_ssim = means.pop("ms_ssim_db")
        return cls(
            setting=setting,
            bpp=statistics.mean(_values(pictures, "bpp")),
            bpp_of_all_pixels=sum(_values(pictures, "bytes")) / sum(one.bytes / one.bpp for one in pictures),
            encode_s=statistics.median(_values(pictures, "encode_s")),
            decode_s=statistics.median(_values(pictures, "decode_s")),
            busy=busy(pictures),
            psnr_of_mean_mse=None if mse is None else psnr_of(mse),
            ms_ssim=ms_ssim,
            ms_ssim_db=None if ms_ssim is None or ms_ssim >= 1 else decibels(ms_ssim),
            rates={metric: statistics.mean(_values(kept(metric), "bpp")) for metric in partial},
            encode_split=_median_split(_values(pictures, "encode_split")),
            decode_split=_median_split(_values(pictures, "decode_split")),
            pictures=pictures,
            **means,
        )

    def rate(self, metric: str) -> float:
        """Bits per pixel over the pictures of a metric."""
        return self.rates.get(metric, self.bpp)

    @classmethod
    def from_json(cls, read: dict[str, Any]) -> Point:
        pictures = [Measurement.from_json(picture) for picture in read["pictures"]]
        return cls(**{**read, **_splits(read), "pictures": pictures})


@dataclass(frozen=True)
class CodecResult:
    """A codec: what it was, and its points by the order of its settings."""

    label: str
    description: str  # how it is set
    versions: dict[str, str | None]  # of the libraries that its numbers depend on
    threads: int
    points: list[Point]
    weights_sha256: str | None = None  # of models, as the next two
    device: str | None = None
    engine: str | None = None  # the package that computes the model
    peak_mib: float | None = None

    @property
    def is_model(self) -> bool:
        return self.weights_sha256 is not None

    def curve(self, metric: str) -> list[tuple[float, float]] | None:
        """(bits per pixel, quality) of the points, over the same pictures; None where the metric wasn't measured."""
        qualities = [(point.rate(metric), getattr(point, metric)) for point in self.points]
        return [(rate, quality) for rate, quality in qualities if quality is not None] or None

    def quality_at(self, rate: float, metric: str) -> float | None:
        """The quality at a rate in bits per pixel; None where that lies outside the points."""
        points = self.curve(metric)
        if points is None:
            return None
        try:
            return Curve(points).quality_at(rate)
        except ValueError:  # too few points for a curve
            return None

    def median_time(self, name: str) -> float:
        """`encode_s` or `decode_s`: the median over the settings of the medians over the pictures."""
        return statistics.median(getattr(point, name) for point in self.points)

    @classmethod
    def from_json(cls, read: dict[str, Any]) -> CodecResult:
        return cls(**{**read, "points": [Point.from_json(point) for point in read["points"]]})


@dataclass(frozen=True)
class PictureInfo:
    """A picture that was measured with."""

    name: str
    width: int
    height: int
    hash: str  # of its size and its pixels


@dataclass(frozen=True)
class TimedWith:
    """Under what conditions times were taken."""

    jobs: int  # processes that measured at once
    threads: int  # of a codec


@dataclass(frozen=True)
class Results:
    """All of an evaluation."""

    date: str  # ISO 8601
    commit: str | None
    machine: Machine
    versions: dict[str, str | None]
    options: dict[str, Any]  # as they were given to `evaluate`
    timed_with: list[TimedWith]
    pictures: list[PictureInfo]
    codecs: dict[str, CodecResult]
    data_set: DataSet | None = None  # that the pictures look like
    anchor: str | None = None  # the codec or published curve that was asked to be compared with
    left_out: dict[str, dict[str, str]] = field(default_factory=dict)  # metric -> picture -> why
    published: dict[str, PublishedCurve] = field(default_factory=dict)
    bd_rate: dict[str, dict[str, dict[str, Delta]]] = field(default_factory=dict)  # metric -> anchor -> test
    warnings: list[str] = field(default_factory=list)  # about codecs
    partial: list[str] = field(default_factory=list)  # about BD-rates over a part of the qualities only

    @property
    def whole_set(self) -> str | None:
        """The name of the data set that these are all pictures of, as listed; None for other pictures."""
        return self.data_set.name if self.data_set and self.data_set.is_whole else None

    def label_of(self, name: str) -> str:
        """What a codec or a published curve is called; of another data set than the pictures' with that."""
        if name in self.codecs:
            return self.codecs[name].label
        label, over = self.published[name].label, set_of(name)
        return label if over == self.whole_set else f"{label} ({set_label(over)})"

    @property
    def metrics(self) -> list[str]:
        """The metrics of METRICS that are shown: of which there are curves."""
        shown = []
        for name, metric in METRICS.items():
            is_wanted = not metric.only_published or any(points_of(curve, name) for curve in self.published.values())
            if is_wanted and any(codec.curve(name) for codec in self.codecs.values()):
                shown.append(name)
        return shown

    @classmethod
    def from_json(cls, read: dict[str, Any]) -> Results:
        return cls(
            date=read["date"],
            commit=read.get("commit"),
            machine=Machine(**read["machine"]),
            versions=read["versions"],
            options=read["options"],
            timed_with=[TimedWith(**how) for how in read["timed_with"]],
            pictures=[PictureInfo(**picture) for picture in read["pictures"]],
            data_set=DataSet(**read["data_set"]) if "data_set" in read else None,
            anchor=read.get("anchor"),
            left_out=read["left_out"],
            codecs={name: CodecResult.from_json(codec) for name, codec in read["codecs"].items()},
            published={name: PublishedCurve(**curve) for name, curve in read["published"].items()},
            bd_rate={
                metric: {anchor: _deltas(tests) for anchor, tests in anchors.items()}
                for metric, anchors in read["bd_rate"].items()
            },
            warnings=read["warnings"],
            partial=read["partial"],
        )


def save(results: Results, folder: Path) -> None:
    """Writes results.json and pictures.csv."""
    atomic.write(folder / FILE, (json.dumps(to_json(results), indent=1) + "\n").encode())
    atomic.write(folder / TABLE, table(results).encode())


def table(results: Results) -> str:
    """A row for each codec, setting and picture, as CSV; a value that there isn't is empty."""
    file = io.StringIO()
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(["codec", "setting", "picture", "width", "height", *IN_TABLE])
    sizes = {picture.name: (picture.width, picture.height) for picture in results.pictures}
    for name, codec in results.codecs.items():
        for point in codec.points:
            for one in point.pictures:
                rows.writerow([name, point.setting, one.picture, *sizes[one.picture], *_row(one)])
    return file.getvalue()


def _row(one: Measurement) -> list[Any]:
    return [getattr(one, name) for name in IN_TABLE]  # csv writes None as nothing


def load(folder: Path) -> Results:
    """Reads the results.json of a report. Raises UsageError."""
    try:
        return Results.from_json(json.loads((folder / FILE).read_text(encoding="utf-8")))
    except OSError as error:
        raise UsageError(f"{folder} is no report of `hpcm eval`: {error}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UsageError(
            f"{folder / FILE} isn't as this version of hpcm writes it ({error!r}): evaluate again"
        ) from error


def to_json(value: Any) -> dict[str, Any]:
    """A dataclass as JSON's objects; fields that are None are left out."""
    return asdict(value, dict_factory=lambda fields: {name: value for name, value in fields if value is not None})


def busy(measured: Iterable[Measurement]) -> float:
    """The processor's seconds for each second that a codec took: more than its threads means more threads."""
    elapsed = spent = 0.0
    for m in measured:
        elapsed += m.encode_s + m.decode_s
        spent += m.encode_cpu_s + m.decode_cpu_s
    return spent / elapsed if elapsed else 0.0


def _splits(read: dict[str, Any]) -> dict[str, TimeSplit]:
    return {name: TimeSplit(**read[name]) for name in ("encode_split", "decode_split") if read.get(name)}


def _deltas(read: dict[str, Any]) -> dict[str, Delta]:
    return {test: Delta(**{**entry, "warnings": tuple(entry["warnings"])}) for test, entry in read.items()}


def _values(pictures: Sequence[Measurement], name: str) -> list[Any]:
    return [getattr(picture, name) for picture in pictures]


def _mean_or_none(values: Iterable[float | None]) -> float | None:
    """The mean; None where a value is missing or there are none."""
    every = list(values)
    known = [value for value in every if value is not None]
    return statistics.mean(known) if known and len(known) == len(every) else None


def _median_split(splits: Iterable[TimeSplit | None]) -> TimeSplit | None:
    """The median of each part; None where a picture has none."""
    every = list(splits)
    known = [split for split in every if split is not None]
    if not known or len(known) < len(every):
        return None
    return TimeSplit(
        transforms=statistics.median(split.transforms for split in known),
        entropy=statistics.median(split.entropy for split in known),
        file=statistics.median(split.file for split in known),
    )
