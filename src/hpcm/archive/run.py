"""The driver: plans, hands the parts to Ray Data's pool of actors, counts what comes back, and concludes.

sources --plan--> parts --Ray Data--> actors (worker.py) --> outputs and manifest in DST
                                         `--> totals of each part --> progress, summary, page
"""

from __future__ import annotations

import json
import logging
import os
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data

from ..defaults import DEFAULT_MODEL, DEFAULT_QUALITY
from ..errors import UsageError
from ..model.find import find_all
from . import manifest, page
from .places import Place, readable
from .plan import Job, Kept, Part, Plan, input_of, plan, root_of
from .worker import Worker

SETTINGS = f"{manifest.FOLDER}/settings.json"
FOLDERS = "folders"  # in the settings: of each root in DST
DIED = "the actors of a part died again and again"
RETRIES = 200  # of a part whose actor dies, lest a picture that kills it be tried for ever; a restart takes several
OBJECT_STORE = 128 << 20  # bytes of a cluster that is made for the run; no picture passes through it
ALONE = {"address": "local", "include_dashboard": False, "object_store_memory": OBJECT_STORE}
Target = str | os.PathLike[str]
Told = Callable[["Summary"], None]


@dataclass
class Summary:
    """What a run has done so far. Of a set that was done already all but `inputs`, `done` and `errors` is 0."""

    inputs: int = 0  # files and shards of SRC, also those of which it is known that they can't be done
    done: int = 0  # ... that are done, by this run or an earlier one
    pictures: int = 0
    pixels: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    errors: int = 0  # lines of the manifest with an error: of this run, at its end all about SRC
    parts: int = 0  # of the work, that came back
    failed: int = 0  # parts of which something could not be read or written, which a rerun tries again
    failure: str = ""  # the first of them
    skipped: Counter[str] = field(default_factory=Counter)  # files of SRC that are no inputs, by kind: a suffix, ...
    memory: int = 0  # bytes: the most that an actor has had
    seconds: float = 0.0  # from the call on
    begun: float = 0.0  # when Ray was up

    def add(self, row: dict[str, Any]) -> None:
        """Counts a part: a row of worker.totals."""
        for name in ("pictures", "pixels", "bytes_in", "bytes_out", "errors"):
            setattr(self, name, getattr(self, name) + int(row[name]))
        self.parts += 1
        self.done += int(row["inputs"])
        self.memory = max(self.memory, int(row["memory"]))
        self.failed += bool(row["failed"])
        self.failure = self.failure or str(row["failed"])


def compress(
    source: Target | Sequence[Target],
    target: Target,
    *,
    quality: int | None = None,
    bpp: float | None = None,
    psnr: float | None = None,
    model: str | Path = DEFAULT_MODEL,
    effort: int = 0,
    **where: Any,
) -> Summary:
    """Compresses all pictures of folders, tar shards and Parquet files; what is done already is left alone.

    Args:
        source: a folder, a file or a URL that pyarrow or fsspec opens, or several.
        target: a folder or URL. `_hpcm/` in it keeps the manifest and the page of the run.
        quality, bpp, psnr, effort: as for `Codec.compress`.
        model: a name, or a path that every machine has.
        where: `to`, "loose", "tar" or "parquet": what pictures are kept in, by default as in the source.
            `column`: the one of bytes in Parquet, where there are several.
            `verify`: whether to decode each picture before it counts as done, which also measures its PSNR, and to read
            back what was written.
            `shard_size`: loose pictures that become one shard, by default 1,000, or that are a part of the work.
            `address`: of a Ray cluster; by default RAY_ADDRESS, or this machine.
            `threads`: of each worker, by default 1; there are as many workers as the cluster's cores allow.
            `told`: is called with the Summary when Ray is up and after each part.

    Pictures that can't be read are lines of the manifest with an error. Raises UsageError, ModelNotFoundError,
    WeightsError, and OSError where the target can't be written.
    """
    if sum(value is not None for value in (quality, bpp, psnr)) > 1:
        raise UsageError("quality, bpp and psnr exclude one another: give one")
    if effort and not find_spec("torch"):
        raise UsageError(f"effort {effort} needs PyTorch: pip install 'hpcm-codec[torch]'")
    if quality is None and bpp is None and psnr is None:
        quality = DEFAULT_QUALITY
    how = {"quality": quality, "bpp": bpp, "psnr": psnr, "effort": effort or None}
    how = {name: value for name, value in how.items() if value is not None}
    return _run(source, target, {"restore": False, "how": how}, str(model), where)


def restore(
    source: Target | Sequence[Target], target: Target, *, format: str = "png", model: str | None = None, **where: Any
) -> Summary:
    """Makes pictures of all .hpcm files of folders, tar shards and Parquet files. For `where` see `compress`.

    Args:
        format: suffix of the pictures.
        model: instead of the one that each file names.

    Raises as `compress`.
    """
    from ..image.write import picture_format

    picture_format(f".{format}")
    return _run(source, target, {"restore": True, "format": format}, model, where)


def _run(
    source: Target | Sequence[Target], target: Target, what: dict[str, Any], model: str | None, where: dict[str, Any]
) -> Summary:
    began = time.monotonic()
    address, told, shard_size = where.pop("address", None), where.pop("told", None), where.pop("shard_size", None)
    models = find_all(model) if model else []
    for weights in models:  # a name means the same on every machine
        model = str(weights.path) if os.sep in str(model) or str(model).endswith(".safetensors") else str(model)
    try:
        job = Job(_absolute(target), **what, model=model, **where)
    except TypeError:
        raise TypeError(f"{', '.join(where)}: some of these arguments aren't known") from None
    sources = [_absolute(url) for url in ([source] if isinstance(source, (str, os.PathLike)) else source)]
    place = Place(job.target)
    before = manifest.gathered(place)
    hashes = ",".join(weights.hash.hex() for weights in models) or None
    job, planned = _planned(place, job, sources, before, shard_size, hashes)
    if planned.wrong:
        rows = [manifest.line(root, f, 0, readable(f.key), error=f.error, again=True) for root, f in planned.wrong]
        manifest.write(place, "wrong", rows)
    left = sum(len(part.inputs) for part in planned.parts)
    summary = Summary(left + planned.done + len(planned.wrong), planned.done)
    summary.errors = len(planned.wrong)
    summary.skipped = planned.skipped
    if planned.parts:
        with _cluster(address):
            summary.begun = summary.seconds = time.monotonic() - began
            lost = _work(job, planned.parts, summary, told or (lambda _: None))
        _write_lost(place, lost, before)
    place.tidy()
    lines = manifest.merge(place)
    summary.errors = _errors(lines, planned)
    summary.seconds = time.monotonic() - began
    page.write(place, planned.places, job, lines, asdict(summary))
    return summary


def _planned(
    place: Place, job: Job, sources: Sequence[str], before: pa.Table, shard_size: int | None, model_hash: str | None
) -> tuple[Job, Plan]:
    """The plan, and the archive's settings written. Raises UsageError."""
    settings = _settings(place)
    kept = Kept(manifest.done(before), list(manifest.outputs(before)), settings.pop(FOLDERS, {}))
    job = replace(job, folds=bool(settings) and _folds(place))
    planned = plan(sources, job, shard_size=shard_size, kept=kept)
    _settle(place, job, model_hash, settings, planned.folders if planned.folders != kept.folders else None)
    if not settings and _folds(place):  # which is seen only now that there is a file
        job = replace(job, folds=True)
        planned = plan(sources, job, shard_size=shard_size, kept=replace(kept, folders=planned.folders))
    return job, planned


def _work(job: Job, parts: Sequence[Part], summary: Summary, told: Told) -> dict[Part, str]:
    """Has all parts done and counts them. Returns those that have failed as a whole, and why."""
    began = time.monotonic() - summary.begun
    lost = {part.name: (part, DIED) for part in parts}
    told(summary)
    for row in _results(job, parts):
        summary.add(row)
        summary.seconds = time.monotonic() - began
        told(summary)
        part, _ = lost.pop(row["part"])
        if row["failed"] and not row["errors"]:  # without lines of its own
            lost[part.name] = part, row["failed"]
    if missing := len(parts) - summary.parts:
        summary.failed += missing
        summary.failure = summary.failure or DIED
    return dict(lost.values())


def _write_lost(place: Place, lost: Mapping[Part, str], before: pa.Table) -> None:
    """Lines about the inputs of failed parts of which the manifest would know nothing otherwise."""
    known = set(zip(before["root"].to_pylist(), before["input"].to_pylist(), strict=True))
    rows = []
    for part, reason in lost.items():
        root = root_of(Place(part.root))
        for found in part.inputs:
            if input_of(root, found) not in known:
                rows.append(manifest.line(root, found, 0, readable(found.key), error=reason, again=True))
    if rows:
        manifest.write(place, "lost", rows)


def _errors(lines: pa.Table, planned: Plan) -> int:
    """The lines with an error about what is in the sources."""
    wrong = lines.filter(pc.is_valid(lines["error"]))
    count = Counter(zip(wrong["root"].to_pylist(), wrong["input"].to_pylist(), strict=True))
    return sum(count[input_of(root, found)] for root, files in planned.listed.items() for found in files)


def _results(job: Job, parts: Sequence[Part]) -> Iterator[dict[str, Any]]:
    """What the actors tell of each part, in the order in which they are done. Ray restarts what dies."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.max_errored_blocks = -1  # a part whose actors die again and again doesn't end the run
    context.execution_no_progress_timeout_s = -1  # a part may take its time
    context.autoscaling_config.actor_pool_util_upscaling_threshold = 1.0  # of tasks in flight to those allowed
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    if job.threads > max(node["Resources"].get("CPU", 0) for node in ray.nodes() if node["Alive"]):
        raise UsageError(f"threads is {job.threads}: no machine of the cluster has so many cores")
    workers = max(int(ray.cluster_resources().get("CPU", 1)) // job.threads, 1)
    pool = ray.data.ActorPoolStrategy(
        min_size=1,
        initial_size=min(workers, len(parts)),
        max_size=len(parts),  # where machines come up meanwhile
        max_tasks_in_flight_per_actor=1,  # parts are long: none waits behind another while an actor is idle
    )
    data = ray.data.from_items([{"part": part.dumps()} for part in parts], override_num_blocks=len(parts))
    each = {"batch_size": 1, "num_cpus": job.threads, "max_task_retries": RETRIES}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of options beside Ray Data's own: it has none for retries
        data = data.map_batches(Worker, fn_constructor_args=(job,), compute=pool, **each)
    for batch in data.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow"):
        yield from batch.to_pylist()


@contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    """Ray, as the caller has started it, at an address, or on this machine until the run ends."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # of Ray's C++, which tells every restart of an actor
    own = address is None and not os.environ.get("RAY_ADDRESS")
    try:
        where = ALONE if own else {"address": address}
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **where)
    except ConnectionError as error:
        raise UsageError(f"there is no Ray cluster at {address or os.environ.get('RAY_ADDRESS')}: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


def _settings(place: Place) -> dict[str, Any]:
    """What the archive was begun with; nothing of a new one. Raises UsageError."""
    try:
        found = json.loads(place.read(SETTINGS)) if place.exists(SETTINGS) else {}
    except (OSError, ValueError) as error:
        raise UsageError(f"{place.shown}/{SETTINGS} can't be read: {error}") from error
    return dict(found)


def _settle(
    place: Place, job: Job, model_hash: str | None, before: Mapping[str, Any], folders: Mapping[str, str] | None
) -> None:
    """Writes what the archive is made with. Raises UsageError where it was begun otherwise, or can't be written.

    Args:
        before: the settings that it was begun with, without the folders of its roots.
        folders: of its roots, if there are others than before.
    """
    kept = {"restore": job.restore, "to": job.to, "model": job.model, "hash": model_hash, **job.how}
    kept |= {"format": job.format} if job.restore else {}
    if before and before != kept:
        names = sorted({*before, *kept})
        told = [f"{n} {before.get(n)}, not {kept.get(n)}" for n in names if before.get(n) != kept.get(n)]
        raise UsageError(f"{place.shown} was begun with {'; '.join(told)}: take the same or another folder")
    if folders is None:
        return
    try:
        place.write(SETTINGS, json.dumps({**kept, FOLDERS: dict(folders)}).encode())
    except OSError as error:
        raise UsageError(f"{place.shown} can't be written: {error.strerror or error}") from error


def _folds(place: Place) -> bool:
    """Whether the place of an archive, which has settings, takes names for equal that differ in case only."""
    return place.exists(SETTINGS.swapcase())


def _absolute(url: Target) -> str:
    """A source or target in one form, which means the same in another process."""
    text = str(url)
    if "://" not in text:
        return os.path.abspath(text) if text else text
    if text.startswith("file:") and (local := Place(text).local):
        return str(local)
    path, mark, options = text.partition("?")
    return (path if path.endswith("//") else path.rstrip("/")) + mark + options
