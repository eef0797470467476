"""One codec at one setting on one picture; cached, so that an evaluation can be stopped and resumed.

A measurement is a small JSON file in the cache's folder, named after the codec, the picture, the setting, and a key:
the hash of everything that its numbers depend on (the picture's pixels, the versions of the libraries, the number of
threads, the engine, the weights and the code). Times are those of the first measurement; `jobs` in the file is how many
processes measured at once, and `encode_cpu_s` and `decode_cpu_s` what all threads of the codec took together.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from ..errors import PictureError
from ..image.picture import rgb_of, to_image
from ..image.planes import with_depth
from ..image.read import read_picture
from ..util import atomic
from ..util.hardware import end_with_parent
from .baselines import BASELINES
from .machine import code_digest, peak_memory, versions
from .metrics import EXTRA, ms_ssim, psnr
from .protocol import Codec, LearnedCodec, Setting
from .results import Measurement, to_json

FORMAT = 4  # of a measurement; another one is measured anew
Prepare = Callable[[], None]
Result = TypeVar("Result")


@dataclass(frozen=True)
class CodecSpec:
    """Which codec to measure: a baseline by its name, or a model with its weights file."""

    name: str
    weights: str | None = None
    weights_hash: str | None = None
    device: str = "cpu"
    effort: int = 0
    engine: str = "auto"
    threads: int = 1


@dataclass(frozen=True)
class CodecInfo:
    """What a report says of a codec."""

    label: str
    description: str
    versions: dict[str, str | None]
    threads: int
    engine: str | None  # the package that computes a model
    settings: tuple[Setting, ...]


@dataclass(frozen=True)
class Source:
    """A picture to measure with."""

    path: Path
    hash: str  # of its size and its pixels as 8-bit RGB
    width: int
    height: int
    mode: str = "RGB"  # of Pillow: "L" for grey, which codecs may write in fewer bytes

    @property
    def name(self) -> str:
        return self.path.stem


@dataclass(frozen=True)
class Task:
    codec: CodecSpec
    setting: Setting
    source: Source
    extra: tuple[str, ...] = ()  # metrics of EXTRA

    def identity(self) -> dict[str, Any]:
        """Everything that the numbers depend on."""
        spec, info = self.codec, describe(self.codec)
        identity: dict[str, Any] = {
            "format": FORMAT,
            "codec": spec.name,
            "description": info.description,
            "setting": self.setting,
            "picture": self.source.hash,
            "mode": self.source.mode,
            "versions": info.versions,
            "threads": info.threads,
        }
        if spec.weights:
            identity |= {
                "weights": spec.weights_hash,
                "code": code_digest(),
                "device": spec.device,
                "engine": info.engine,
            }
        if spec.effort:
            identity["effort"] = spec.effort
        return identity | dict.fromkeys(self.extra, True)

    def file(self, cache: Path) -> Path:
        key = hashlib.sha256(json.dumps(self.identity(), sort_keys=True).encode()).hexdigest()[:16]
        return cache / self.codec.name / f"{self.source.name}-{self.setting}-{key}.json"


@lru_cache(maxsize=2)
def open_codec(spec: CodecSpec) -> Codec:
    """A codec, warmed up. Raises UsageError if a package or program is missing."""
    codec: Codec
    if spec.weights is None:
        codec = BASELINES[spec.name](threads=spec.threads)
    else:
        from .hpcm_codec import HpcmCodec  # imports torch, which would count as memory of the baselines

        codec = HpcmCodec(spec.weights, spec.device, spec.effort, engine=spec.engine, threads=spec.threads)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8))
    codec.decompress(codec.compress(noise, codec.settings[len(codec.settings) // 2]))
    return codec


@lru_cache(maxsize=64)
def describe(spec: CodecSpec) -> CodecInfo:
    codec = open_codec(spec)
    return CodecInfo(
        label=codec.label,
        description=codec.description,
        versions={name: versions().get(name) for name in codec.libraries},
        threads=codec.threads,
        engine=codec.engine if isinstance(codec, LearnedCodec) else None,
        settings=tuple(codec.settings),
    )


def read_source(path: Path) -> Source:
    image = read_image(path)
    digest = hashlib.sha256(f"{image.width}x{image.height}".encode() + rgb_of(image).tobytes()).hexdigest()
    return Source(path, digest, image.width, image.height, image.mode)


def read_pixels(path: Path) -> np.ndarray:
    """A picture as 8-bit RGB, [H, W, 3]. Raises PictureError as read_image does."""
    return rgb_of(read_image(path))


@lru_cache(maxsize=1)
def read_image(path: Path) -> Image.Image:
    """A picture as codecs get it, in 8 bits: grey ("L") or RGB, read as hpcm reads it: upright, without metadata.

    Raises PictureError for what it can't read, and for a picture that is transparent somewhere: what its pixels are
    there is nobody's concern, and not all codecs keep it.
    """
    try:
        picture = read_picture(path.read_bytes())  # metadata isn't measured
        if picture.alpha is not None and picture.alpha.min() < 255:
            raise PictureError("it is transparent, and only opaque pictures can be compared")
    except PictureError as error:
        raise PictureError(f"{path}: {error}") from error
    image = to_image(replace(with_depth(picture, 8), alpha=None))
    pixels = np.asarray(image) if image.mode == "L" else rgb_of(image)
    return Image.fromarray(pixels)  # `image.info` stays behind: Pillow would write the profile in there to files


# ---- measuring ------------------------------------------------------------------------------------------------------


def measure(task: Task, cache: Path, jobs: int = 1) -> Measurement:
    """The numbers of a task, from the cache if they are there."""
    file = task.file(cache)
    if (measured := cached(file)) is not None:
        return Measurement.from_json(measured)
    new = _measured(task, jobs)
    _keep(file, task, to_json(new))
    return new


def is_cached(task: Task, cache: Path) -> bool:
    return cached(task.file(cache)) is not None


def cached(file: Path) -> dict[str, Any] | None:
    """What a file of the cache holds; None if it isn't there or isn't whole."""
    try:
        return dict(json.loads(file.read_bytes())["row"])
    except (OSError, ValueError, KeyError):
        return None


def _keep(file: Path, task: Task, row: dict[str, Any]) -> None:
    atomic.write(file, json.dumps({**task.identity(), "row": row}, indent=1).encode())


def _measured(task: Task, jobs: int) -> Measurement:
    codec, image = open_codec(task.codec), read_image(task.source.path)
    original = rgb_of(image)
    data, encode_s, encode_cpu_s = timed(partial(codec.compress, image, task.setting))
    encode_split = codec.encode_split(encode_s) if isinstance(codec, LearnedCodec) else None
    decoded, decode_s, decode_cpu_s = timed(partial(codec.decompress, data))
    decode_split = codec.decode_split(decode_s) if isinstance(codec, LearnedCodec) else None
    pixels = rgb_of(decoded)
    return Measurement(
        picture=task.source.name,
        bytes=len(data),
        bpp=8 * len(data) / (image.width * image.height),
        psnr=psnr(original, pixels),
        ms_ssim=ms_ssim(original, pixels),
        encode_s=encode_s,
        decode_s=decode_s,
        encode_cpu_s=encode_cpu_s,
        decode_cpu_s=decode_cpu_s,
        jobs=jobs,
        encode_split=encode_split,
        decode_split=decode_split,
        **{name: EXTRA[name](original, pixels) for name in task.extra},
    )


def timed(work: Callable[[], Result]) -> tuple[Result, float, float]:
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
    if (measured := cached(file)) is not None:
        return float(measured["mib"])
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        mib = pool.submit(_memory, task).result()
    _keep(file, task, {"mib": mib})
    return mib


def _memory(task: Task) -> float:
    codec = open_codec(task.codec)
    codec.decompress(codec.compress(read_image(task.source.path), task.setting))
    return peak_memory()


# ---- many ------------------------------------------------------------------------------------------------------------


def spread(
    work: Callable[..., Any], given: Iterable[tuple], jobs: int, prepare: Prepare | None, threads: int = 1
) -> Iterator[Any]:
    """The results of `work(*arguments)` for all the arguments given, as they are done, in `jobs` processes.

    `threads` is OpenMP's in each process, for metrics: codecs get theirs when they are opened.
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
