"""One codec at one setting on one picture; cached, so that an evaluation can be stopped and resumed.

A measurement is a small JSON file in the cache's folder, named after the codec, the picture, the setting, and a key:
the hash of everything that its numbers depend on (the picture's pixels, the versions of the libraries, the weights and
the code). Times are those of the first measurement; `threads` and `jobs` in the file say under which conditions.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .. import atomic
from ..hardware import cores, end_with_parent
from .machine import code_digest, peak_memory, versions
from .metrics import EXTRA, decibels, ms_ssim, psnr
from .rivals import CODECS, Codec, Setting

FORMAT = 1  # of a measurement; another one is measured anew
Row = dict[str, Any]
Prepare = Callable[[], None]


@dataclass(frozen=True)
class Subject:
    """A codec to measure: the name of a conventional one, or a model's with its weights file."""

    name: str
    weights: str | None = None
    weights_hash: str | None = None
    device: str = "cpu"
    effort: int = 0


@dataclass(frozen=True)
class Source:
    """A picture to measure with."""

    path: Path
    hash: str  # of its size and its pixels as 8-bit RGB
    width: int
    height: int


@dataclass(frozen=True)
class Task:
    subject: Subject
    setting: Setting
    source: Source
    extra: tuple[str, ...] = ()  # metrics of EXTRA

    def identity(self) -> dict[str, Any]:
        """Everything that the numbers depend on."""
        codec, subject = describe(self.subject), self.subject
        own = {"weights": subject.weights_hash, "code": code_digest(), "device": subject.device}
        return {
            "format": FORMAT,
            "codec": subject.name,
            "said": codec["said"],
            "setting": self.setting,
            "picture": self.source.hash,
            "versions": codec["versions"],
            **(own if subject.weights else {}),
            **({"effort": subject.effort} if subject.effort else {}),
            **dict.fromkeys(self.extra, True),
        }

    def file(self, cache: Path) -> Path:
        key = hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()[:16]
        return cache / self.subject.name / f"{self.source.path.stem}-{self.setting}-{key}.json"


@lru_cache(maxsize=2)
def open_codec(subject: Subject) -> Codec:
    """A codec, warmed up. Raises UsageError if a package or program is missing."""
    if subject.weights is None:
        codec = CODECS[subject.name]()
    else:
        from .ours import Ours

        codec = Ours(subject.weights, subject.device, subject.effort)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8))
    codec.decompress(codec.compress(noise, codec.settings[len(codec.settings) // 2]))
    return codec


@lru_cache(maxsize=64)
def describe(subject: Subject) -> dict[str, Any]:
    """What a report says of a codec."""
    codec = open_codec(subject)
    used = {name: versions().get(name) for name in codec.libraries}
    return {"label": codec.label, "said": codec.said, "versions": used, "settings": tuple(codec.settings)}


def read_source(path: Path) -> Source:
    pixels = read_pixels(path)
    height, width = pixels.shape[:2]
    return Source(path, hashlib.sha256(f"{width}x{height}".encode() + pixels.tobytes()).hexdigest(), width, height)


@lru_cache(maxsize=1)
def read_pixels(path: Path) -> np.ndarray:
    """A picture as 8-bit RGB, [H, W, 3]."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


# ---- measuring ------------------------------------------------------------------------------------------------------


def measure(task: Task, cache: Path, jobs: int = 1) -> Row:
    """The numbers of a task, from the cache if they are there."""
    file = task.file(cache)
    if (row := _cached(file)) is not None:
        return row
    row = {**_measured(task), "jobs": jobs, "threads": threads()}
    atomic.write(file, json.dumps({**task.identity(), "row": row}, indent=1).encode())
    return row


def is_cached(task: Task, cache: Path) -> bool:
    return _cached(task.file(cache)) is not None


def _cached(file: Path) -> Row | None:
    try:
        return dict(json.loads(file.read_bytes())["row"])
    except (OSError, ValueError, KeyError):
        return None


def _measured(task: Task) -> Row:
    codec, original = open_codec(task.subject), read_pixels(task.source.path)
    clock: Any = codec if task.subject.weights else None  # only ours knows its parts
    image = Image.fromarray(original)
    start = time.perf_counter()
    data = codec.compress(image, task.setting)
    encode_s = time.perf_counter() - start
    split = {"encode_split": clock.encode_split(data, encode_s)} if clock and not task.subject.effort else {}
    start = time.perf_counter()
    decoded = codec.decompress(data)
    decode_s = time.perf_counter() - start
    if clock:
        split["decode_split"] = clock.decode_split(decode_s)
    pixels = np.asarray(decoded)
    row: Row = {"bytes": len(data), "bpp": 8 * len(data) / (image.width * image.height)}
    row |= {"psnr": psnr(original, pixels), "ms_ssim": ms_ssim(original, pixels)}
    row |= {"encode_s": encode_s, "decode_s": decode_s, **split}
    return row | {name: EXTRA[name](original, pixels) for name in task.extra}


def memory(task: Task, cache: Path) -> float:
    """Peak memory in MiB of a new process that compresses and decompresses one picture, the interpreter included."""
    file = task.file(cache).with_suffix(".memory.json")
    if (row := _cached(file)) is not None:
        return float(row["mib"])
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        mib = pool.submit(_memory, task).result()
    atomic.write(file, json.dumps({**task.identity(), "row": {"mib": mib}}).encode())
    return mib


def _memory(task: Task) -> float:
    codec = open_codec(task.subject)
    codec.decompress(codec.compress(Image.fromarray(read_pixels(task.source.path)), task.setting))
    return peak_memory()


# ---- many ------------------------------------------------------------------------------------------------------------


def spread(work: Callable[..., Any], given: Iterable[tuple], jobs: int, prepare: Prepare | None) -> Iterator[Any]:
    """The results of `work(*arguments)` for all the arguments given, as they are done, in `jobs` processes.

    An exception in the caller, such as an interruption, ends the processes; measurements are written whole or not.
    """
    if jobs == 1:
        yield from (work(*arguments) for arguments in given)
        return
    each, others = max(1, threads() // jobs), active_children()
    with ProcessPoolExecutor(jobs, get_context("spawn"), _begin, (each, prepare)) as pool:
        futures = [pool.submit(work, *arguments) for arguments in given]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BaseException:
            for child in active_children():
                if child not in others:
                    child.terminate()
            pool.shutdown(cancel_futures=True)
            raise


def _begin(count: int, prepare: Prepare | None) -> None:
    os.environ["OMP_NUM_THREADS"] = str(count)  # before torch is imported
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is the parent's, which then ends this process; but not
    # SIG_IGN, which the encoders that are started here would inherit
    end_with_parent()
    if prepare:
        prepare()


def threads() -> int:
    """The threads that torch uses, as OpenMP finds them out."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdecimal() and int(wanted) else cores()


def point(setting: Setting, rows: Sequence[Row]) -> Row:
    """A codec's point at a setting: means over the pictures of rate and quality, medians of the times."""
    similarities = [row["ms_ssim"] for row in rows]
    known = None not in similarities
    result: Row = {
        "setting": setting,
        "bpp": statistics.mean(row["bpp"] for row in rows),
        "psnr": statistics.mean(row["psnr"] for row in rows),
        "ms_ssim": statistics.mean(similarities) if known else None,
        "ms_ssim_db": decibels(statistics.mean(similarities)) if known else None,
        "ms_ssim_mean_of_db": statistics.mean(map(decibels, similarities)) if known else None,
    }
    for name in EXTRA:
        if all(name in row for row in rows):
            result[name] = statistics.mean(row[name] for row in rows)
    result |= {key: statistics.median(row[key] for row in rows) for key in ("encode_s", "decode_s")}
    for key in ("encode_split", "decode_split"):
        if all(key in row for row in rows):
            result[key] = {part: statistics.median(row[key][part] for row in rows) for part in rows[0][key]}
    return result
