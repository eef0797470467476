"""All of an evaluation: pictures and codecs -> results.json and report.html in a folder, with a cache beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from ..codec.codec import inexact
from ..errors import UsageError
from ..model.find import find_all
from ..util.notes import log_note
from . import measure
from .anchors import chosen, published, whole_name
from .baselines import BASELINES
from .comparison import compared
from .datasets import DataSet, recognised
from .machine import commit, machine, versions
from .measure import CodecSpec, Prepare, Source, Task
from .protocol import Setting
from .report import write_report
from .results import CodecResult, PictureInfo, Point, Results, TimedWith, save
from .side_by_side import SideBySide, side_by_side

PICTURES = frozenset([".png", ".ppm", ".bmp", ".tif", ".tiff", ".webp"])  # that are looked for in folders


@dataclass(frozen=True)
class Options:
    """What is evaluated, and how."""

    models: Sequence[str] = ()
    codecs: Sequence[str] = ("jpeg", "webp", "avif", "jxl")  # baselines
    settings: dict[str, Sequence[Setting]] = field(default_factory=dict)  # of baselines; else their own
    qualities: Sequence[Setting] = ()  # of models; else their own
    efforts: Sequence[int] = (0,)  # of models
    device: str = "cpu"
    engine: str = "auto"  # of models
    threads: int = 1  # of each codec, as far as it can use them
    jobs: int = 1  # processes that measure at once
    side_by_side: int = 3  # pictures
    extra: tuple[str, ...] = ()  # further metrics: "lpips", "ssimulacra2", "butteraugli"
    anchors: Sequence[str] | None = None  # published curves to compare with; None: the usual ones of the data set
    anchor: str | None = None  # the codec or published curve of the summary's BD-rates; None: the first of ANCHORS


@dataclass(frozen=True)
class Watcher:
    """Is called as the work goes on: with the number of steps, and after every step."""

    begin: Callable[[int], None] = lambda steps: None
    step: Callable[[str], None] = lambda what: None


@dataclass(frozen=True)
class Series:
    """A codec with the settings and the pictures that it is measured at."""

    spec: CodecSpec
    settings: Sequence[Setting]
    sources: Sequence[Source]
    extra: tuple[str, ...]

    def at(self, setting: Setting) -> list[Task]:
        return [Task(self.spec, setting, source, self.extra) for source in self.sources]

    def tasks(self) -> Iterator[Task]:
        for setting in self.settings:
            yield from self.at(setting)

    def memory_task(self) -> Task:
        """The largest picture at the setting in the middle."""
        largest = max(self.sources, key=lambda source: source.width * source.height)
        return Task(self.spec, self.settings[len(self.settings) // 2], largest)


def evaluate(
    pictures: Sequence[Path],
    folder: Path,
    options: Options,
    *,
    watcher: Watcher | None = None,
    prepare: Prepare | None = None,
) -> Results:
    """Measures what isn't measured yet, writes results.json, pictures.csv, report.html and the plots; the results.

    Args:
        pictures: files of pictures without losses.
        prepare: called first in every process.

    Raises HPCMError: UsageError for unknown codecs and curves or missing packages, ModelNotFoundError, WeightsError.
    """
    watcher = watcher or Watcher()
    cache = folder / "cache"
    specs = codec_specs(options)
    _note_inexact(options.models)
    sources = _sources(pictures)
    comparison = _comparison(options, recognised(sources), [spec.name for spec in specs])
    every = [Series(spec, settings_of(spec, options), sources, options.extra) for spec in specs]
    pending = [task for series in every for task in series.tasks() if not measure.is_cached(task, cache)]
    chosen = _evenly(sources, options.side_by_side)
    watcher.begin(len(pending) + len(every) + len(chosen))

    work = [(task, cache, options.jobs) for task in pending]
    for _ in measure.spread(measure.measure, work, options.jobs, prepare, options.threads):
        watcher.step("measuring")
    codecs = {}
    for series in every:
        codecs[series.spec.name] = _codec_result(series, cache)
        watcher.step("peak memory")
    results = _results(options, comparison, sources, codecs)
    shown: list[SideBySide] = []
    for source in chosen:
        shown.append(side_by_side(source, specs, codecs, cache))
        watcher.step("side by side")

    folder.mkdir(parents=True, exist_ok=True)
    save(results, folder)
    write_report(results, shown, folder)
    return results


def find_pictures(inputs: Sequence[str | Path]) -> list[Path]:
    """The pictures that are named, and those in the folders that are. Raises UsageError."""
    pictures: list[Path] = []
    for path in map(Path, inputs):
        inside = sorted(p for p in path.glob("*") if p.suffix.lower() in PICTURES) if path.is_dir() else [path]
        if not inside or not inside[0].exists():
            raise UsageError(f"{path}: no such picture, or a folder without {', '.join(sorted(PICTURES))}")
        pictures += inside
    return list(dict.fromkeys(pictures))


def _sources(pictures: Sequence[Path]) -> list[Source]:
    """Raises UsageError, PictureError."""
    sources = [measure.read_source(path) for path in pictures]
    if len({source.name for source in sources}) < len(sources):
        raise UsageError("two pictures have the same name: the report couldn't tell them apart")
    return sources


def _evenly(sources: Sequence[Source], count: int) -> Sequence[Source]:
    """So many of the pictures, from all over them."""
    return sources[:: max(1, len(sources) // count)][:count] if count else []


# ---- codecs ----------------------------------------------------------------------------------------------------------


def codec_specs(options: Options) -> list[CodecSpec]:
    """The codecs, each with a name of its own. Raises UsageError, ModelNotFoundError, WeightsError."""
    if unknown := [name for name in [*options.codecs, *options.settings] if name not in BASELINES]:
        raise UsageError(f"unknown codec {', '.join(unknown)}: choose from {', '.join(BASELINES)}")
    specs = [CodecSpec(name, threads=options.threads) for name in options.codecs]
    for model in options.models:
        for effort in dict.fromkeys(options.efforts):
            specs.append(_model_spec(model, effort, options, taken={spec.name for spec in specs}))
    if not specs:
        raise UsageError("nothing to evaluate: name codecs or models")
    return specs


def _note_inexact(models: Iterable[str]) -> None:
    """A note about each model that isn't exact, once."""
    every = [weights for model in models for weights in find_all(model)]
    for name in dict.fromkeys(weights.name for weights in every if not weights.config.get("carrier")):
        log_note(inexact(name))


def _model_spec(model: str, effort: int, options: Options, taken: set[str]) -> CodecSpec:
    """A model at an effort; if its name is taken, a part of its hash is added."""
    models = find_all(model)
    if len(models) == 1:
        name, path, digest = models[0].name, str(models[0].path.resolve()), models[0].digest.hex()
    else:  # a family of models: its name stands for all of them
        name = path = str(model)
        digest = hashlib.sha256("-".join(weights.digest.hex() for weights in models).encode()).hexdigest()
    if effort:
        name += f"-e{effort}"
    if name in taken:
        name += f"-{digest[:6]}"
    return CodecSpec(name, path, digest, options.device, effort, options.engine, options.threads)


def settings_of(spec: CodecSpec, options: Options) -> tuple[Setting, ...]:
    """The settings to measure, without repetitions."""
    own = measure.describe(spec).settings
    if spec.weights is None:
        given = options.settings.get(spec.name, ())
    else:
        given = options.qualities if own != (1,) else ()  # a model of one level has one quality
    return tuple(dict.fromkeys(given or own))


# ---- what codecs are compared with -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """What the codecs are compared with, by whole names."""

    data_set: DataSet | None
    curves: list[str]  # published ones
    anchor: str | None


def _comparison(options: Options, data_set: DataSet | None, codecs: Sequence[str]) -> Comparison:
    """Raises UsageError for curves that aren't there."""
    whole_set = data_set.name if data_set and data_set.is_whole else None
    curves, anchor = chosen(options.anchors, whole_set), options.anchor
    if anchor is not None and anchor not in codecs:
        try:
            anchor = whole_name(anchor, whole_set)
        except UsageError as error:
            raise UsageError(f"{options.anchor} is none of the codecs here, {', '.join(codecs)}; {error}") from error
        curves = list(dict.fromkeys([*curves, anchor]))
    return Comparison(data_set, curves, anchor)


# ---- results ---------------------------------------------------------------------------------------------------------


def _codec_result(series: Series, cache: Path) -> CodecResult:
    """A codec's points, from the cache, and its peak memory."""
    spec, info = series.spec, measure.describe(series.spec)
    points = []
    for setting in series.settings:
        points.append(Point.of(setting, [measure.measure(task, cache) for task in series.at(setting)]))
    return CodecResult(
        label=info.label,
        description=info.description,
        versions=info.versions,
        threads=info.threads,
        points=points,
        weights_sha256=spec.weights_hash,
        device=spec.device if spec.weights else None,
        engine=info.engine,
        peak_mib=measure.memory(series.memory_task(), cache),
    )


def _results(
    options: Options, comparison: Comparison, sources: Sequence[Source], codecs: dict[str, CodecResult]
) -> Results:
    results = Results(
        date=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        commit=commit(),
        machine=machine(),
        versions=versions(),
        options={**asdict(options), "models": [Path(model).name for model in options.models]},
        timed_with=_timed_with(codecs.values()),
        pictures=[PictureInfo(s.name, s.width, s.height, s.hash) for s in sources],
        data_set=comparison.data_set,
        codecs=codecs,
        anchor=comparison.anchor,
        published={name: published()[name] for name in comparison.curves},
    )
    return compared(results)


def _timed_with(codecs: Iterable[CodecResult]) -> list[TimedWith]:
    """Every combination of processes and threads that times were taken with."""
    pairs = set()
    for codec in codecs:
        for point in codec.points:
            pairs |= {(measured.jobs, codec.threads) for measured in point.pictures}
    return [TimedWith(jobs, threads) for jobs, threads in sorted(pairs)]
