"""One codec at one setting on one picture; cached, so that an evaluation can be stopped and resumed.

A measurement is a small JSON file in the cache's folder, named after the codec, the picture, the setting, and a key:
the hash of everything that its numbers depend on (the picture's pixels, the versions of the libraries, the number of
threads, the engine, the weights and the code). Times are those of the first measurement; `jobs` in the file says how
many processes measured at once, and `encode_cpu_s` and `decode_cpu_s` what all threads of the codec took together.
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
from functools import lru_cache, partial
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import PictureError
from ..image.picture import from_image, rgb_of
from ..image.read import open_picture
from ..util import atomic
from ..util.hardware import end_with_parent
from ..util.notes import ignore_note
from .machine import code_digest, peak_memory, versions
from .metrics import EXTRA, decibels, ms_ssim, psnr
from .rivals import CODECS, Codec, Setting

FORMAT = 2  # of a measurement; another one is measured anew
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
    engine: str = "auto"
    threads: int = 1


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
        own |= {"engine": codec["engine"]}
        return {
            "format": FORMAT,
            "codec": subject.name,
            "said": codec["said"],
            "setting": self.setting,
            "picture": self.source.hash,
            "versions": codec["versions"],
            "threads": codec["threads"],
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
        codec = CODECS[subject.name](threads=subject.threads)
    else:
        from .ours import Ours

        engine, threads = subject.engine, subject.threads
        codec = Ours(subject.weights, subject.device, subject.effort, engine=engine, threads=threads)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8))
    codec.decompress(codec.compress(noise, codec.settings[len(codec.settings) // 2]))
    return codec


@lru_cache(maxsize=64)
def describe(subject: Subject) -> dict[str, Any]:
    """What a report says of a codec; the engine, a package, is None for conventional ones."""
    codec = open_codec(subject)
    used = {name: versions().get(name) for name in codec.libraries}
    how = {"threads": codec.threads, "engine": getattr(codec, "engine", None)}
    return {"label": codec.label, "said": codec.said, "versions": used, **how, "settings": tuple(codec.settings)}


def read_source(path: Path) -> Source:
    pixels = read_pixels(path)
    height, width = pixels.shape[:2]
    return Source(path, hashlib.sha256(f"{width}x{height}".encode() + pixels.tobytes()).hexdigest(), width, height)


@lru_cache(maxsize=1)
def read_pixels(path: Path) -> np.ndarray:
    """A picture as 8-bit RGB, [H, W, 3], read as the codec reads it: upright, and 16-bit grey brought to 8 bits.

    Raises PictureError for what it can't read, and for a picture that is transparent somewhere: what its pixels are
    there is nobody's concern, and not all codecs keep it.
    """
    try:
        picture = from_image(open_picture(path.read_bytes(), on_note=ignore_note))  # metadata isn't measured
        if picture.alpha is not None and picture.alpha.min() < 255:
            raise PictureError("it is transparent, and only opaque pictures can be compared")
    except PictureError as error:
        raise PictureError(f"{path}: {error}") from error
    return rgb_of(Image.fromarray(picture.pixels))


# ---- measuring ------------------------------------------------------------------------------------------------------


def measure(task: Task, cache: Path, jobs: int = 1) -> Row:
    """The numbers of a task, from the cache if they are there."""
    file = task.file(cache)
    if (row := _cached(file)) is not None:
        return row
    row = {**_measured(task), "jobs": jobs}
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
    data, encode_s, encode_cpu_s = _timed(partial(codec.compress, image, task.setting))
    split = {"encode_split": clock.encode_split(data, encode_s)} if clock and not task.subject.effort else {}
    decoded, decode_s, decode_cpu_s = _timed(partial(codec.decompress, data))
    if clock:
        split["decode_split"] = clock.decode_split(decode_s)
    pixels = np.asarray(decoded)
    row: Row = {"bytes": len(data), "bpp": 8 * len(data) / (image.width * image.height)}
    row |= {"psnr": psnr(original, pixels), "ms_ssim": ms_ssim(original, pixels)}
    row |= {"encode_s": encode_s, "decode_s": decode_s, **split}
    row |= {"encode_cpu_s": encode_cpu_s, "decode_cpu_s": decode_cpu_s}
    return row | {name: EXTRA[name](original, pixels) for name in task.extra}


def _timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """The result, the seconds that it took, and the processor's seconds of all threads and of programs run for it."""
    start, before = time.perf_counter(), _processor_seconds()
    result = work()
    return result, time.perf_counter() - start, _processor_seconds() - before


def _processor_seconds() -> float:
    times = os.times()
    return time.process_time() + times.children_user + times.children_system


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


def spread(
    work: Callable[..., Any], given: Iterable[tuple], jobs: int, prepare: Prepare | None, threads: int = 1
) -> Iterator[Any]:
    """The results of `work(*arguments)` for all the arguments given, as they are done, in `jobs` processes.

    `threads` is what OpenMP takes in each of several, for metrics: codecs are told theirs when they are opened.
    An exception in the caller, such as an interruption, ends the processes; measurements are written whole or not.
    """
    if jobs == 1:
        yield from (work(*arguments) for arguments in given)
        return
    others = active_children()
    with ProcessPoolExecutor(jobs, get_context("spawn"), _begin, (threads, prepare)) as pool:
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


def _begin(threads: int, prepare: Prepare | None) -> None:
    os.environ["OMP_NUM_THREADS"] = str(threads)  # before torch is imported
    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is the parent's, which then ends this process; but not
    # SIG_IGN, which the encoders that are started here would inherit
    end_with_parent()
    if prepare:
        prepare()


def busy(rows: Iterable[Row]) -> float:
    """The processor's seconds for each second that a codec took: more than its threads means more threads."""
    elapsed = spent = 0.0
    for row in rows:
        elapsed += row["encode_s"] + row["decode_s"]
        spent += row["encode_cpu_s"] + row["decode_cpu_s"]
    return spent / elapsed


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
    result["busy"] = busy(rows)
    for key in ("encode_split", "decode_split"):
        if all(key in row for row in rows):
            result[key] = {part: statistics.median(row[key][part] for row in rows) for part in rows[0][key]}
    return result
