"""All of an evaluation: pictures and codecs -> results.json and report.html in a folder, with a cache beside them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from itertools import combinations
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..model.find import find_all
from ..util import atomic
from . import measure
from .bdrate import COLUMNS, LEAST_OVERLAP, RATES, Curve, delta, points_of, published
from .machine import commit, machine, versions
from .measure import Prepare, Source, Subject, Task
from .report import write_report
from .rivals import CODECS, Setting
from .shown import side_by_side

PICTURES = frozenset([".png", ".ppm", ".bmp", ".tif", ".tiff", ".webp"])  # that are looked for in folders
BUSY = 1.2  # cores for each thread; more than that is no noise of the clock
QUALITIES = ("psnr", "ms_ssim_db", "ssimulacra2")
KODAK = {f"kodim{k:02}" for k in range(1, 25)}
KODAK_PIXELS = 768 * 512
RIVALS = ("vtm", "bpg", "av1", "elic2022-mse", "hpcm-base-mse", "hpcm-large-mse")  # published curves that are compared


@dataclass(frozen=True)
class Options:
    """What is evaluated, and how."""

    models: Sequence[str] = ()
    codecs: Sequence[str] = ("jpeg", "webp", "avif", "jxl")
    settings: dict[str, Sequence[Setting]] = field(default_factory=dict)  # of conventional codecs; else their own
    qualities: Sequence[Setting] = ()  # of models; else their own
    efforts: Sequence[int] = (0,)  # of models
    device: str = "cpu"
    engine: str = "auto"  # of models
    threads: int = 1  # of each codec, as far as it can use them
    jobs: int = 1  # processes that measure at once
    shown: int = 3  # pictures side by side
    extra: tuple[str, ...] = ()  # further metrics: "lpips", "ssimulacra2"
    published: bool | None = None  # compare with published curves; None: if the pictures are Kodak's


@dataclass(frozen=True)
class Watcher:
    """Is told what is going on: how many steps there will be, and every step that is done."""

    begin: Callable[[int], None] = lambda steps: None
    step: Callable[[str], None] = lambda what: None


def evaluate(
    pictures: Sequence[Path],
    folder: Path,
    options: Options,
    *,
    watcher: Watcher | None = None,
    prepare: Prepare | None = None,
) -> dict[str, Any]:
    """Measures what isn't measured yet, writes results.json, report.html and the plots, and returns the results.

    Args:
        pictures: files of pictures without losses.
        prepare: called first in every process.

    Raises HPCMError: UsageError for unknown codecs or missing packages, ModelNotFoundError, WeightsError.
    """
    watcher = watcher or Watcher()
    subjects = subjects_of(options)
    sources = [measure.read_source(path) for path in pictures]
    if len({source.path.stem for source in sources}) < len(sources):
        raise UsageError("two pictures have the same name: the report couldn't tell them apart")
    settings = {subject: settings_of(subject, options) for subject in subjects}
    tasks = [
        Task(subject, setting, source, options.extra)
        for subject in subjects
        for setting in settings[subject]
        for source in sources
    ]
    cache = folder / "cache"
    pending = [(task, cache, options.jobs) for task in tasks if not measure.is_cached(task, cache)]
    shown = sources[:: max(1, len(sources) // options.shown)][: options.shown] if options.shown else []
    watcher.begin(len(pending) + len(subjects) + len(shown))
    for _ in measure.spread(measure.measure, pending, options.jobs, prepare, options.threads):
        watcher.step("measuring")
    results = _results(sources, subjects, settings, options, cache)
    for subject in subjects:
        middle = settings[subject][len(settings[subject]) // 2]
        largest = max(sources, key=lambda source: source.width * source.height)
        results["codecs"][subject.name]["peak_mib"] = measure.memory(Task(subject, middle, largest), cache)
        watcher.step("peak memory")
    compared = []
    for source in shown:
        compared.append(side_by_side(source, subjects, results["codecs"], cache))
        watcher.step("side by side")
    folder.mkdir(parents=True, exist_ok=True)
    atomic.write(folder / "results.json", (json.dumps(results, indent=1) + "\n").encode())
    write_report(results, compared, folder)
    return results


def find_pictures(inputs: Sequence[str | Path]) -> list[Path]:
    """The pictures that are named, and those in the folders that are. Raises UsageError."""
    found: list[Path] = []
    for path in map(Path, inputs):
        inside = sorted(p for p in path.glob("*") if p.suffix.lower() in PICTURES) if path.is_dir() else [path]
        if not inside or not inside[0].exists():
            raise UsageError(f"{path}: no such picture, or a folder without {', '.join(sorted(PICTURES))}")
        found += inside
    return list(dict.fromkeys(found))


def subjects_of(options: Options) -> list[Subject]:
    """The codecs, each with a name of its own. Raises UsageError, ModelNotFoundError, WeightsError."""
    if unknown := [name for name in options.codecs if name not in CODECS]:
        raise UsageError(f"unknown codec {', '.join(unknown)}: choose from {', '.join(CODECS)}")
    subjects = [Subject(name, threads=options.threads) for name in options.codecs]
    for model in options.models:
        models = find_all(model)
        ladder = len(models) > 1
        digest = "-".join(weights.digest.hex() for weights in models)
        digest = hashlib.sha256(digest.encode()).hexdigest() if ladder else digest
        taken = {subject.name for subject in subjects}
        for effort in dict.fromkeys(options.efforts):
            name = (str(model) if ladder else models[0].name) + (f"-e{effort}" if effort else "")
            name = f"{name}-{digest[:6]}" if name in taken else name
            path = str(model) if ladder else str(models[0].path.resolve())
            where = options.device, effort, options.engine, options.threads
            subjects.append(Subject(name, path, digest, *where))
    if not subjects:
        raise UsageError("nothing to evaluate: name codecs or models")
    return subjects


def settings_of(subject: Subject, options: Options) -> tuple[Setting, ...]:
    """The settings to measure, without repetitions."""
    own = measure.describe(subject)["settings"]
    given = options.settings.get(subject.name) if subject.weights is None else options.qualities if own != (1,) else ()
    return tuple(dict.fromkeys(given or own))


# ---- results ---------------------------------------------------------------------------------------------------------


def _results(
    sources: Sequence[Source],
    subjects: Sequence[Subject],
    settings: dict[Subject, tuple[Setting, ...]],
    options: Options,
    cache: Path,
) -> dict[str, Any]:
    """Everything that results.json holds, but for peak memory."""
    codecs: dict[str, Any] = {}
    conditions = set()
    for subject in subjects:
        described = measure.describe(subject)
        points = []
        for setting in settings[subject]:
            tasks = [Task(subject, setting, source, options.extra) for source in sources]
            rows = [measure.measure(task, cache) for task in tasks]
            conditions |= {(row["jobs"], described["threads"]) for row in rows}
            pictures = [{"picture": s.path.stem, **row} for s, row in zip(sources, rows, strict=True)]
            points.append({**measure.point(setting, rows), "pictures": pictures})
        model = {"weights_sha256": subject.weights_hash, "device": subject.device} if subject.weights else {}
        model |= {"engine": described["engine"]} if subject.weights else {}
        kept = {key: described[key] for key in ("label", "said", "versions", "threads")}
        codecs[subject.name] = {**kept, **model, "points": points}
    is_kodak = {s.path.stem for s in sources} == KODAK and all(s.width * s.height == KODAK_PIXELS for s in sources)
    rivals = RIVALS if (is_kodak if options.published is None else options.published) else ()
    compared = comparisons(codecs, rivals)
    compared["warnings"] += [text for codec in codecs.values() for text in too_busy(codec)]
    given = {**asdict(options), "models": [Path(model).name for model in options.models]}
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": machine(),
        "versions": versions(),
        "options": given,
        "timed_with": [{"jobs": jobs, "threads": threads} for jobs, threads in sorted(conditions)],
        "pictures": [{"name": s.path.stem, "width": s.width, "height": s.height, "hash": s.hash} for s in sources],
        "codecs": codecs,
        "published": {name: published()[name] for name in rivals},
        "is_kodak": is_kodak,
        **compared,
    }


def too_busy(codec: dict[str, Any]) -> list[str]:
    """A warning about a codec whose times are of more threads than it was given: its library started its own."""
    busy = measure.busy(row for point in codec["points"] for row in point["pictures"])
    if busy <= codec["threads"] * BUSY:
        return []
    threads = f"{codec['threads']} thread{'s' * (codec['threads'] > 1)}"
    return [f"{codec['label']} kept {busy:.1f} cores busy: its times aren't of {threads}"]


def comparisons(codecs: dict[str, Any], rivals: Sequence[str]) -> dict[str, Any]:
    """BD-rates of all pairs in every quality, qualities at COLUMNS, BD-rates against JPEG, and what to know of them.

    "warnings" are about codecs, one each; "partial" are the BD-rates over a part of the qualities.
    """
    bd: dict[str, Any] = {}
    warnings: list[str] = []
    partial: list[str] = []
    for quality in QUALITIES:
        curves = _curves(codecs, rivals, quality, warnings)
        bd[quality] = {name: {} for name in curves}
        for anchor, test in combinations(curves, 2):
            there, back = delta(curves[anchor], curves[test]), delta(curves[test], curves[anchor])
            bd[quality][anchor][test], bd[quality][test][anchor] = asdict(there), asdict(back)
            if there.overlap < LEAST_OVERLAP and not {anchor, test} <= set(rivals):
                partial += [f"{quality}, {test} against {anchor}: {there.warnings[-1]}"]
        for name in [name for name in codecs if name in curves]:
            if few := curves[name].few_points():
                warnings.append(f"{name}: {few}")
            at = {str(rate): curves[name].quality_at(rate) for rate in COLUMNS}
            codecs[name].setdefault("at", {})[quality] = at
            if "jpeg" in curves and name != "jpeg":
                versus = asdict(delta(curves["jpeg"], curves[name], RATES))
                codecs[name].setdefault("vs_jpeg", {})[quality] = versus
    return {"bd_rate": bd, "warnings": list(dict.fromkeys(warnings)), "partial": partial}


def _curves(codecs: dict[str, Any], rivals: Sequence[str], quality: str, warnings: list[str]) -> dict[str, Curve]:
    points = {name: [(p["bpp"], p.get(quality)) for p in codec["points"]] for name, codec in codecs.items()}
    points |= {name: points_of(published()[name], quality) for name in rivals}
    curves = {}
    for name, measured in points.items():
        if not measured or any(value is None for _, value in measured):
            continue  # pictures too small for MS-SSIM, nothing published, or not asked for
        try:
            curves[name] = Curve(measured)
        except ValueError as error:
            warnings.append(f"{quality}, {name}: no BD-rate: {error}")
    return curves
