"""`hpcm bench`: size, multiplications and speed of a model, beside the code of others and what the machine can do.

- parameters, kMACs per pixel: see cost.py;
- start: a process of its own that imports hpcm and loads the model, until it has decoded a picture of 64 x 64; the
  median of several. Encoding and decoding don't include it;
- symbols: whether two engines make the same ones, see agreement.py;
- encode, decode: of pictures in memory, as runners.py says; the median of several runs after some to warm up. Pictures
  are smooth noise, so that their symbols cost bits. A batch is several pictures at once: with one picture it is the
  latency that counts, with many the pictures in a second;
- peak: the fastest of several products of two square matrices, in elapsed time, measured in the same process right
  before; on a GPU also in float16. A share is the time that the multiplications of encoding or decoding would take at
  the peak of the type that the model computes in, over the time that they took;
- memory: what tensors took of the GPU at most, weights included;
- split: see split.py.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import product
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from ...codec.api import load
from ...codec.codec import Codec
from ...errors import UsageError
from ...model.config import Config
from ...model.file import WeightsFile
from ...nn.engine import TorchEngine
from ...util.hardware import cores, matrix_speed
from ...util.notes import ignore_note
from ..cost import DECODING, ENCODING, kmacs, parameters
from ..hpcm_codec import HpcmCodec
from ..machine import Gpu, gpu
from . import learned, reference
from .agreement import agreement
from .clock import elapsed, gpu_memory, gpu_peak, reset_gpu_peak
from .forms import Form, floating, forms_of, picture, pictures_of, weights_of
from .runners import QUALITY, OurCodec, Runner, measure
from .split import DecodeSplit, decode_split

SIZE = (768, 512)  # pixels, width and height
STARTS = 3
GEMM_SIDE = {"cpu": 2048, "cuda": 8192}  # of the matrices whose product is the peak, by type of device
PEAKS = {"cpu": ("float32",), "cuda": ("float32", "float16")}  # types

Size = tuple[int, int]  # width and height


@dataclass(frozen=True)
class Row:
    """What a codec takes for a batch of pictures of one size."""

    code: str
    width: int
    height: int
    batch: int
    encode_s: float  # of the whole batch, as the next two
    decode_s: float
    bytes: int
    gpu_bytes: int | None = None  # at most; None on a CPU
    products: str | None = None  # the type of its matrix products; None where shares can't be told, as for the next two
    encode_share: float | None = None  # of the peak
    decode_share: float | None = None


@dataclass(frozen=True)
class Other:
    """A codec of others, without its times."""

    name: str
    parameters: int
    kmacs: float  # per pixel
    weights: str
    untimed: str  # why it has no rows; empty if it has


@dataclass(frozen=True)
class Search:
    """What the encoder takes for a picture with an effort."""

    width: int
    height: int
    effort: int
    encode_s: float
    bytes: int


@dataclass(frozen=True)
class Bench:
    """All about a model."""

    model: str
    device: str
    gpu: Gpu | None
    engine: str
    threads: int
    parameters: int
    kmacs: dict[str, float]  # per pixel, by group
    peaks: dict[str, float]  # GFLOP/s, by type
    start_s: float
    symbols: list[str]  # what was compared, by size
    rows: list[Row]
    splits: list[DecodeSplit]  # of one picture, by size
    searches: list[Search]
    others: list[Other]


@dataclass(frozen=True)
class Setting:
    """How everything is timed, and on what."""

    device: str
    engine: str
    threads: int
    repeats: int
    sizes: Sequence[Size]
    batches: Sequence[int]

    @cached_property
    def peaks(self) -> dict[str, float]:
        """GFLOP/s of matrix products by type."""
        device = torch.device(self.device)
        side, types = GEMM_SIDE[device.type], PEAKS[device.type]
        return {name: matrix_speed(device, getattr(torch, name), side) / 1e9 for name in types}

    def engine_of(self, form: Form) -> str:
        """What computes a model; in floating point nothing but torch can."""
        return self.engine if form.is_exact else "torch"


def bench(
    model: str,
    sizes: Sequence[Size] | None = None,
    device: str = "cpu",
    repeats: int = 5,
    against: Sequence[str] = (),
    *,
    batches: Sequence[int] | None = None,
    engine: str = "auto",
    threads: int | None = None,
    efforts: Sequence[int] = (),
) -> Bench:
    """Measures a model: by name, by weights file, or an architecture with random weights.

    Args:
        sizes: (width, height) of pictures, by default SIZE.
        against: checkouts of the authors' code or of other codecs; see reference.py and learned.py. With any, the model
            is measured exact and in floating point.
        batches: numbers of pictures that are coded at once, by default one.
        efforts: to time the encoder with, once each.
        engine: of an exact model, as for `hpcm.load`; in floating point it is torch.
        threads: of the CPU, by default one for each core; of everything that is timed: the engine, whichever it is,
            torch's matrix product, the search of efforts, and what runs `against`.

    Raises HPCMError as `hpcm.load` does, UsageError for a checkout that can't be used and for a GPU with too little
    memory, and MismatchError where the symbols of two engines differ.
    """
    setting = Setting(device, engine, threads or cores(), repeats, sizes or [SIZE], batches or [1])
    torch.set_num_threads(setting.threads)
    with weights_of(model) as weights:
        codec = load(weights.path, device, engine=engine, threads=threads)  # may refuse the device, or the engine
        config, used = codec.engine.config, "torch" if isinstance(codec.engine, TorchEngine) else "core"
        authors = _authors(against, weights, config, device)
        others = [learned.open_checkout(path, device) for path in map(Path, against) if learned.kind(path)]
        start_s = median(_start(codec, setting) for _ in range(min(repeats, STARTS)))
        searches = [_search(codec, size, effort, device) for size, effort in product(setting.sizes, efforts)]
        del codec  # whatever is timed is loaded anew, so that its memory can be told
        groups = kmacs(config)
        with forms_of(weights, both=bool(against)) as forms:
            symbols = [_agreement(forms[0], setting, size) for size in setting.sizes]
            rows = [row for form in forms for row in _rows(form.label, partial(_ours, setting, form), setting, groups)]
            splits = _splits(forms[0], setting)
        rows += _rows("the authors' code", authors, setting, groups) if authors else []
        for other in others:
            rows += [] if other.untimed else _rows(other.name, other.make, setting)
        return Bench(
            model=weights.name,
            device=device,
            gpu=gpu(device),
            engine=used,
            threads=setting.threads,
            parameters=parameters(config),
            kmacs=groups,
            peaks=setting.peaks,
            start_s=start_s,
            symbols=symbols,
            rows=rows,
            splits=splits,
            searches=searches,
            others=[Other(one.name, one.parameters, one.kmacs, one.weights, one.untimed) for one in others],
        )


def _agreement(form: Form, setting: Setting, size: Size) -> str:
    """What `agreement` says of the largest batch, of two pictures at least."""
    pictures = pictures_of(size, max(2, *setting.batches))
    return agreement(form.weights, setting.device, setting.threads, pictures)


def _splits(form: Form, setting: Setting) -> list[DecodeSplit]:
    """Of a picture of each size."""
    codec = HpcmCodec(str(form.weights.path), setting.device, engine=setting.engine_of(form), threads=setting.threads)
    return [decode_split(codec, picture(size), setting.device, setting.repeats) for size in setting.sizes]


def _ours(setting: Setting, form: Form) -> Runner:
    engine = setting.engine_of(form)
    return OurCodec(load(form.weights.path, setting.device, engine=engine, threads=setting.threads))


def _authors(against: Sequence[str], weights: WeightsFile, config: Config, device: str) -> Callable[[], Runner] | None:
    """What loads the authors' code with a model's weights, if a checkout is none of the other codecs'."""
    rest = [path for path in map(Path, against) if not learned.kind(path)]
    if len(rest) > 1:
        known = learned.either(learned.KNOWN)
        raise UsageError(f"{rest[1]} is no checkout of {known}, and only one can be of the authors' code")
    if not rest:
        return None
    reference.check(rest[0], config)
    return lambda: reference.load(rest[0], floating(weights), device)


def _start(codec: Codec, setting: Setting) -> float:
    """Seconds that a new process takes until it has decoded its first, small, picture."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "small.hpcm")
        path.write_bytes(codec.compress(picture((64, 64)), quality=QUALITY, on_note=ignore_note))
        how = f"engine={setting.engine!r}, threads={setting.threads}"
        call = f"load({str(codec.weights.path)!r}, {setting.device!r}, {how})"
        code = f"import hpcm; hpcm.{call}.decompress(open({str(path)!r}, 'rb').read())"
        start = time.perf_counter()
        subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
        return time.perf_counter() - start


def _search(codec: Codec, size: Size, effort: int, device: str) -> Search:
    """One run of the encoder with an effort."""
    image = picture(size)
    compress = partial(codec.compress, image, quality=QUALITY, effort=effort, on_note=ignore_note)
    seconds, file = elapsed(compress, device)
    return Search(*size, effort, seconds, len(file))


def _rows(
    name: str, make: Callable[[], Runner], setting: Setting, groups: dict[str, float] | None = None
) -> Iterator[Row]:
    """Of a codec, which is loaded for it and given up afterwards.

    Args:
        groups: its kMACs per pixel, as `kmacs` gives them, where its shares of the peak can be told.
    """
    gc.collect()  # the codec before this one may be held by a cycle: its memory isn't this one's
    before = gpu_memory(setting.device)
    runner = make()
    for (width, height), batch in product(setting.sizes, setting.batches):
        reset_gpu_peak(setting.device)
        measured = measure(runner, pictures_of((width, height), batch), setting.repeats, setting.device)
        row = Row(name, width, height, batch, measured.encode_s, measured.decode_s, measured.bytes)
        if (most := gpu_peak(setting.device)) is not None and before is not None:
            row = replace(row, gpu_bytes=most - before)
        if groups is not None:
            at_peak = 2e3 * width * height * batch / (setting.peaks[runner.products] * 1e9)  # for one kMAC per pixel
            encoding, decoding = (sum(groups.get(group, 0) for group in way) for way in (ENCODING, DECODING))
            encode_share, decode_share = encoding * at_peak / row.encode_s, decoding * at_peak / row.decode_s
            row = replace(row, products=runner.products, encode_share=encode_share, decode_share=decode_share)
        yield row
