"""The driver: plans a run, gives the parts to Ray Data's pool of actors, adds up their totals and merges the manifest.

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
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data

from ..codec.checks import check_appearance, promised_error
from ..codec.lossless import check_model
from ..defaults import DEFAULT_MODEL, DEFAULT_QUALITY
from ..errors import UsageError
from ..model.file import SUFFIX as WEIGHTS_SUFFIX
from ..model.find import find_all
from . import manifest, page
from .plan import ArchiveState, Job, Part, Plan, input_of, plan, root_of
from .store import FileEntry, Store, escape
from .worker import Worker

SETTINGS = f"{manifest.FOLDER}/settings.json"
FOLDERS = "folders"  # in the settings: the folder in DST of each root
DIED = "the actors of a part died again and again"
RETRIES = 200  # of a part whose actor dies: finite, for a picture may kill it; one restart of an actor takes several
OBJECT_STORE = 128 << 20  # bytes, of a cluster that is started for the run; no picture passes through it
LOCAL_CLUSTER = {"address": "local", "include_dashboard": False, "object_store_memory": OBJECT_STORE}
URL = str | os.PathLike[str]
OnProgress = Callable[["Summary"], None]


@dataclass
class Summary:
    """What a run has done so far. If everything was done before, all but `inputs`, `done` and `errors` is 0."""

    inputs: int = 0  # files and shards of SRC, also those that are known to be unusable
    done: int = 0  # inputs that are done, by this run or an earlier one
    pictures: int = 0
    pixels: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    errors: int = 0  # rows of the manifest with an error: of this run, at its end all about SRC
    parts: int = 0  # of the work that have come back
    failed: int = 0  # parts of which something couldn't be read or written, which a rerun tries again
    failure: str = ""  # the reason of the first failed part
    skipped: Counter[str] = field(default_factory=Counter)  # files of SRC that are no inputs, by reason: a suffix, ...
    memory: int = 0  # bytes: the peak of any actor
    seconds: float = 0.0  # since the call
    startup: float = 0.0  # seconds from the call until Ray ran

    def add(self, totals: dict[str, Any]) -> None:
        """Adds those of a part: see worker.totals."""
        for name in ("pictures", "pixels", "bytes_in", "bytes_out", "errors"):
            setattr(self, name, getattr(self, name) + int(totals[name]))
        self.parts += 1
        self.done += int(totals["inputs"])
        self.memory = max(self.memory, int(totals["memory"]))
        self.failed += bool(totals["failure"])
        self.failure = self.failure or str(totals["failure"])


@dataclass(frozen=True)
class RunOptions:
    """Options that `compress` and `restore` share."""

    to: str | None = None  # kind of output: "loose", "tar" or "parquet"; by default that of the source
    column: str | None = None  # of Parquet, where several hold bytes
    verify: bool = False  # decode each picture before it counts as done, measure its PSNR, read back what was written
    shard_size: int | None = None  # loose pictures in a shard, by default 1,000; if they stay loose, in a part
    address: str | None = None  # of a Ray cluster; by default RAY_ADDRESS, or this machine
    device: str = "cpu"  # or "cuda": each worker has a GPU, and there are as many as the cluster has GPUs
    threads: int = 1  # of each worker; there are as many workers as the cluster's cores allow
    on_progress: OnProgress | None = None  # is called when Ray runs, and after each part


def compress(
    source: URL | Sequence[URL],
    target: URL,
    *,
    quality: int | None = None,
    bpp: float | None = None,
    psnr: float | None = None,
    model: str | Path = DEFAULT_MODEL,
    effort: int = 0,
    lossless: bool = False,
    max_error: int | None = None,
    strip: str | None = None,
    icc: str | None = None,
    **options: Any,
) -> Summary:
    """Compresses all pictures of folders, tar shards and Parquet files. Inputs that are done already are left alone.

    Args:
        source: a folder, a file or a URL that pyarrow or fsspec opens, or several.
        target: a folder or URL. `_hpcm/` in it holds the manifest and the report.
        quality, bpp, psnr, effort, lossless, max_error, strip, icc: as for `Codec.compress`.
        model: a name, or a path that every machine has.
        options: fields of RunOptions.

    Pictures that can't be read are rows of the manifest with an error. Raises UsageError, ModelNotFoundError,
    WeightsError, and OSError where the target can't be written.
    """
    max_error = promised_error(lossless, max_error, quality, bpp, psnr)
    if effort and not find_spec("torch"):
        raise UsageError(f"effort {effort} needs PyTorch: pip install 'hpcm-codec[torch]'")
    if max_error is not None:
        lowest = find_all(model)[0]
        check_model(lowest.name, lowest.config)
    given = {"quality": quality, "bpp": bpp, "psnr": psnr, "max_error": max_error, "effort": effort or None}
    codec_options = _present(given)
    if not {"quality", "bpp", "psnr", "max_error"} & {*codec_options}:
        codec_options["quality"] = DEFAULT_QUALITY
    how = {"restore": False, "codec_options": codec_options, "appearance": _appearance(strip, icc)}
    return _run(source, target, how, str(model), RunOptions(**options))


def restore(
    source: URL | Sequence[URL],
    target: URL,
    *,
    format: str = "png",
    model: str | None = None,
    strip: str | None = None,
    icc: str | None = None,
    **options: Any,
) -> Summary:
    """Decodes all .hpcm files of folders, tar shards and Parquet files.

    Args:
        source, target: as for `compress`.
        format: suffix of the pictures.
        model: instead of the one that each file names.
        strip, icc: as for `Codec.decompress`.
        options: fields of RunOptions.

    Raises as `compress`.
    """
    from ..image.write import picture_format

    picture_format(f".{format}")
    how = {"restore": True, "format": format, "appearance": _appearance(strip, icc)}
    return _run(source, target, how, model, RunOptions(**options))


def _appearance(strip: str | None, icc: str | None) -> dict[str, Any]:
    """`strip` and `icc` if they are given. Raises UsageError."""
    check_appearance(strip, icc)
    return _present({"strip": strip, "icc": icc})


def _present(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those that are given."""
    return {name: value for name, value in arguments.items() if value is not None}


def _run(
    source: URL | Sequence[URL], target: URL, how: dict[str, Any], model: str | None, options: RunOptions
) -> Summary:
    began = time.monotonic()
    model, model_hash = _resolved_model(model) if model else (None, None)
    shared = {name: getattr(options, name) for name in ("to", "column", "verify", "device", "threads")}
    job = Job(_absolute(target), **how, model=model, **shared)
    store = Store(job.target)
    rows_before = manifest.read_all(store)
    job, planned = _plan(store, job, _sources(source), rows_before, options.shard_size, model_hash)
    _write_rejected(store, planned.rejected)
    left = sum(len(part.inputs) for part in planned.parts)
    summary = Summary(inputs=left + planned.done + len(planned.rejected), done=planned.done)
    summary.errors = len(planned.rejected)
    summary.skipped = planned.skipped
    if planned.parts:
        with _cluster(options.address):
            summary.startup = summary.seconds = time.monotonic() - began
            failed = _do_parts(job, planned.parts, summary, options.on_progress or (lambda _: None))
        _write_failed(store, failed, rows_before)
    store.remove_abandoned()
    rows = manifest.merge(store)
    summary.errors = _count_errors(rows, planned)
    summary.seconds = time.monotonic() - began
    page.write(store, planned.stores, job, rows, asdict(summary))
    return summary


# ---- before the work ------------------------------------------------------------------------------------------------


def _resolved_model(model: str) -> tuple[str, str]:
    """The model as every machine finds it, a name or the path of a weights file, and the hashes of its weights."""
    models = find_all(model)
    is_path = os.sep in model or model.endswith(WEIGHTS_SUFFIX)
    hashes = ",".join(weights.hash.hex() for weights in models)
    return str(models[-1].path) if is_path else model, hashes


def _sources(source: URL | Sequence[URL]) -> list[str]:
    return [_absolute(url) for url in ([source] if isinstance(source, (str, os.PathLike)) else source)]


def _absolute(url: URL) -> str:
    """A source or target in one form, which means the same in another process."""
    text = str(url)
    if "://" not in text:
        return os.path.abspath(text) if text else text
    if text.startswith("file:") and (path := Store(text).local_path):
        return str(path)
    address, mark, options = text.partition("?")
    return (address if address.endswith("//") else address.rstrip("/")) + mark + options


def _plan(
    store: Store,
    job: Job,
    sources: Sequence[str],
    rows_before: pa.Table,
    shard_size: int | None,
    model_hash: str | None,
) -> tuple[Job, Plan]:
    """The plan, and the job with what is known of DST; writes the archive's settings. Raises UsageError."""
    settings = _read_settings(store)
    folders = settings.pop(FOLDERS, {})
    state = ArchiveState(manifest.done_inputs(rows_before), list(manifest.outputs(rows_before)), folders)
    job = replace(job, case_insensitive=bool(settings) and _is_case_insensitive(store))
    planned = plan(sources, job, state, shard_size)
    _check_settings(store, settings, _settings_of(job, model_hash))
    if planned.folders != folders:
        _write_settings(store, {**_settings_of(job, model_hash), FOLDERS: dict(planned.folders)})
    if not settings and _is_case_insensitive(store):  # a new archive: only now there is a file to test it with
        job = replace(job, case_insensitive=True)
        planned = plan(sources, job, replace(state, folders=planned.folders), shard_size)
    return job, planned


def _is_case_insensitive(store: Store) -> bool:
    """Whether DST ignores case in names: whether the settings, which must exist, have another name, too."""
    return store.exists(SETTINGS.swapcase())


def _settings_of(job: Job, model_hash: str | None) -> dict[str, Any]:
    """The settings that all runs on one archive must share."""
    settings = {"restore": job.restore, "to": job.to, "model": job.model, "hash": model_hash}
    settings |= {**job.codec_options, **job.appearance}
    return settings | ({"format": job.format} if job.restore else {})


def _read_settings(store: Store) -> dict[str, Any]:
    """The settings that the archive was begun with, and FOLDERS; of a new one nothing. Raises UsageError."""
    try:
        settings = json.loads(store.read(SETTINGS)) if store.exists(SETTINGS) else {}
    except (OSError, ValueError) as error:
        raise UsageError(f"{store.display_url}/{SETTINGS} can't be read: {error}") from error
    return dict(settings)


def _check_settings(store: Store, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises UsageError if the archive was begun with other settings."""
    names = sorted({*before, *now}) if before else []
    if different := [name for name in names if before.get(name) != now.get(name)]:
        changes = "; ".join(f"{name} {before.get(name)}, not {now.get(name)}" for name in different)
        raise UsageError(f"{store.display_url} was begun with {changes}: take the same or another folder")


def _write_settings(store: Store, settings: Mapping[str, Any]) -> None:
    try:
        store.write(SETTINGS, json.dumps(settings).encode())
    except OSError as error:
        raise UsageError(f"{store.display_url} can't be written: {error.strerror or error}") from error


def _write_rejected(store: Store, rejected: Collection[tuple[str, FileEntry]]) -> None:
    rows = [_retried_row(root, entry, entry.error) for root, entry in rejected]
    if rows:
        manifest.write(store, "rejected", rows)


def _retried_row(root: str, entry: FileEntry, error: str | None) -> dict[str, Any]:
    """A row about an input that couldn't be processed."""
    return manifest.row(root, entry, 0, escape(entry.key), error=error, retry=True)


# ---- the work -------------------------------------------------------------------------------------------------------


def _do_parts(job: Job, parts: Sequence[Part], summary: Summary, on_progress: OnProgress) -> dict[Part, str]:
    """Has all parts done and adds up their totals. Returns those without rows in the manifest, and why they failed."""
    began = time.monotonic() - summary.startup
    missing = {part.name: part for part in parts}
    failed: dict[Part, str] = {}
    on_progress(summary)
    for totals in _results(job, parts):
        summary.add(totals)
        summary.seconds = time.monotonic() - began
        on_progress(summary)
        part = missing.pop(totals["part"])
        if totals["failure"] and not totals["errors"]:  # it failed as a whole
            failed[part] = totals["failure"]
    if missing:
        summary.failed += len(missing)
        summary.failure = summary.failure or DIED
    return failed | dict.fromkeys(missing.values(), DIED)


def _write_failed(store: Store, failed: Mapping[Part, str], rows_before: pa.Table) -> None:
    """Writes rows about the inputs of failed parts. Those of an earlier run stay, for their outputs are still there."""
    known = set(zip(rows_before["root"].to_pylist(), rows_before["input"].to_pylist(), strict=True))
    rows = []
    for part, reason in failed.items():
        root = root_of(Store(part.root))
        rows += [_retried_row(root, entry, reason) for entry in part.inputs if input_of(root, entry) not in known]
    if rows:
        manifest.write(store, "failed", rows)


def _count_errors(rows: pa.Table, planned: Plan) -> int:
    """The rows with an error about inputs of this run's sources."""
    wrong = rows.filter(pc.is_valid(rows["error"]))
    count = Counter(zip(wrong["root"].to_pylist(), wrong["input"].to_pylist(), strict=True))
    return sum(count[input_of(root, entry)] for root, entries in planned.inputs.items() for entry in entries)


def _results(job: Job, parts: Sequence[Part]) -> Iterator[dict[str, Any]]:
    """The totals of each part, in the order in which they are done. Ray restarts actors that die."""
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = context.print_on_execution_start = False
    context.max_errored_blocks = -1  # a part whose actors die again and again doesn't end the run
    context.execution_no_progress_timeout_s = -1  # none: a part may take hours
    context.autoscaling_config.actor_pool_util_upscaling_threshold = 1.0  # of tasks in flight to those allowed
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    gpus = 0 if job.device == "cpu" else 1  # of each actor; Ray shows it no other
    pool = ray.data.ActorPoolStrategy(
        min_size=1,
        initial_size=min(_workers(job.threads, gpus), len(parts)),
        max_size=len(parts),  # machines may join the cluster later
        max_tasks_in_flight_per_actor=1,  # parts are long: none may wait behind another while an actor is idle
    )
    data = ray.data.from_items([{"part": part.dumps()} for part in parts], override_num_blocks=len(parts))
    each_task = {"batch_size": 1, "num_cpus": job.threads, "num_gpus": gpus, "max_task_retries": RETRIES}
    with warnings.catch_warnings():
        # Ray Data warns of options that it passes on to Ray, but it has none of its own for retries.
        warnings.simplefilter("ignore", DeprecationWarning)
        data = data.map_batches(Worker, fn_constructor_args=(job,), compute=pool, **each_task)
    for batch in data.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow"):
        yield from batch.to_pylist()


def _workers(threads: int, gpus: int) -> int:
    """How many actors of so many cores and GPUs the cluster takes. Raises UsageError where no machine takes one."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if threads > max(machine.get("CPU", 0) for machine in machines):
        raise UsageError(f"threads is {threads}: no machine of the cluster has so many cores")
    if gpus > max(machine.get("GPU", 0) for machine in machines):
        raise UsageError("device is cuda: Ray finds no GPU on any machine of the cluster")
    total = ray.cluster_resources()
    of_cores = max(int(total.get("CPU", 1)) // threads, 1)
    return min(of_cores, int(total["GPU"]) // gpus) if gpus else of_cores


@contextmanager
def _cluster(address: str | None) -> Iterator[None]:
    """Ray: as the caller has initialized it, at an address, or on this machine until the run ends."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # Ray's C++ logs every restart of an actor
    address = address or os.environ.get("RAY_ADDRESS") or None
    cluster = {"address": address} if address else LOCAL_CLUSTER
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **cluster)
    except ConnectionError as error:
        raise UsageError(f"there is no Ray cluster at {address}: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()
