"""What an evaluation gives, and its results.json.

    Results
      machine      Machine
      codecs       name -> CodecResult
                     points   Point at each setting: means over the pictures
                                pictures   Measurement of each picture
      published    name -> PublishedCurve
      bd_rate      metric -> anchor -> test -> Delta

results.json has the same names. A value that is None, because it wasn't measured or doesn't apply, is left out there.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import UsageError
from ..util import atomic
from .bdrate import Curve, Delta, PublishedCurve
from .machine import Machine
from .metrics import decibels
from .protocol import Setting, TimeSplit

FILE = "results.json"


class Metric(NamedTuple):
    """How a metric is shown."""

    name: str
    unit: str  # behind a value
    digits: int  # behind the point
    axis: str  # of a plot


METRICS = {  # with BD-rates, a plot and columns in the tables; by the attribute of Point
    "psnr": Metric("PSNR", unit=" dB", digits=2, axis="PSNR in dB, mean over pictures"),
    "ms_ssim_db": Metric("MS-SSIM", unit=" dB", digits=2, axis="MS-SSIM in dB"),
    "ssimulacra2": Metric("SSIMULACRA 2", unit="", digits=1, axis="SSIMULACRA 2"),
}


@dataclass(frozen=True)
class Measurement:
    """One codec at one setting on one picture."""

    picture: str
    bytes: int
    bpp: float
    psnr: float  # dB
    ms_ssim: float | None  # None for pictures that are too small for it
    encode_s: float
    decode_s: float
    encode_cpu_s: float  # of all threads together
    decode_cpu_s: float
    jobs: int  # processes that measured at once
    lpips: float | None = None
    ssimulacra2: float | None = None
    encode_split: TimeSplit | None = None  # of models
    decode_split: TimeSplit | None = None

    @classmethod
    def from_json(cls, read: dict[str, Any]) -> Measurement:
        return cls(**{"ms_ssim": None, **read, **_splits(read)})


@dataclass(frozen=True)
class Point:
    """One codec at one setting: means of rate and quality over the pictures, medians of the times."""

    setting: Setting
    bpp: float
    psnr: float
    encode_s: float
    decode_s: float
    busy: float  # cores
    ms_ssim: float | None = None
    ms_ssim_db: float | None = None  # of the mean over the pictures
    ms_ssim_mean_of_db: float | None = None
    lpips: float | None = None
    ssimulacra2: float | None = None
    encode_split: TimeSplit | None = None
    decode_split: TimeSplit | None = None
    pictures: list[Measurement] = field(default_factory=list)

    @classmethod
    def of(cls, setting: Setting, pictures: list[Measurement]) -> Point:
        ms_ssim = _all_or_none(picture.ms_ssim for picture in pictures)
        return cls(
            setting=setting,
            bpp=statistics.mean(_values(pictures, "bpp")),
            psnr=statistics.mean(_values(pictures, "psnr")),
            encode_s=statistics.median(_values(pictures, "encode_s")),
            decode_s=statistics.median(_values(pictures, "decode_s")),
            busy=busy(pictures),
            ms_ssim=_mean(ms_ssim),
            ms_ssim_db=None if ms_ssim is None else decibels(statistics.mean(ms_ssim)),
            ms_ssim_mean_of_db=None if ms_ssim is None else statistics.mean(map(decibels, ms_ssim)),
            lpips=_mean(_all_or_none(_values(pictures, "lpips"))),
            ssimulacra2=_mean(_all_or_none(_values(pictures, "ssimulacra2"))),
            encode_split=_median_split(_values(pictures, "encode_split")),
            decode_split=_median_split(_values(pictures, "decode_split")),
            pictures=pictures,
        )

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
        """(bits per pixel, quality) of the points; None where the metric wasn't measured everywhere."""
        qualities = _all_or_none(getattr(point, metric) for point in self.points)
        if qualities is None:
            return None
        return [(point.bpp, quality) for point, quality in zip(self.points, qualities, strict=True)]

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
    is_kodak: bool  # all of Kodak's 24 pictures and no others
    codecs: dict[str, CodecResult]
    published: dict[str, PublishedCurve] = field(default_factory=dict)
    bd_rate: dict[str, dict[str, dict[str, Delta]]] = field(default_factory=dict)  # metric -> anchor -> test
    warnings: list[str] = field(default_factory=list)  # about codecs
    partial: list[str] = field(default_factory=list)  # about BD-rates over a part of the qualities only

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
            is_kodak=read["is_kodak"],
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
    """Writes results.json."""
    atomic.write(folder / FILE, (json.dumps(to_json(results), indent=1) + "\n").encode())


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


def _all_or_none(values: Iterable[float | None]) -> list[float] | None:
    """The values; None where one is missing or there are none."""
    every = list(values)
    known = [value for value in every if value is not None]
    return known if known and len(known) == len(every) else None


def _mean(values: Sequence[float] | None) -> float | None:
    return None if values is None else statistics.mean(values)


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
