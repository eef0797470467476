"""`hpcm bench`: parameters, multiplications and speed of a model, beside what the machine can do at most.

- kMACs per pixel: multiplications with addition in convolutions and matrix products of one forward pass over a picture
  of 256 x 256, counted by torch on the meta device, split by the parts of the network;
- start: a process of its own that imports hpcm and loads the model, until it has decoded a picture of 64 x 64; the
  median of several. Encoding and decoding don't include it;
- encode, decode: a picture in memory to a file's bytes, and back; the median of several runs after one to warm up. The
  picture is smooth noise, so that its symbols cost bits;
- peak: the fastest of several products of two float32 matrices of 2048 x 2048, in elapsed time, measured in the same
  process right before. A share is the time that the multiplications of encoding or decoding would take at the peak,
  over the time that they took.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import cast

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from ..codec.api import load
from ..codec.codec import Codec
from ..errors import ModelNotFoundError, UsageError
from ..model.config import MODELS, Config
from ..model.find import find
from ..nn.engine import TorchEngine
from ..nn.hpcm import HPCM
from ..nn.weights import load_model, save
from ..util.hardware import cores, matrix_speed
from .learned import KNOWN, LearnedBaseline, LearnedCost, kind
from .reference import ReferenceCode

SIDE = 256  # pixels, of the picture that published costs refer to
SIZE = (768, 512)  # pixels, width and height
QUALITY = 40
STARTS = 3
GEMM_SIDE = 2048  # of the matrices whose product is the peak
NETWORKS = {  # attribute of HPCM -> what it is called here
    **{name: name for name in ("g_a", "h_a", "h_s", "g_s")},
    "adaptors": "adaptors",
    "priors": "parameter networks",
    "fusions": "context fusion",
    "context_nets": "context between scales",
}
ENCODING = frozenset(NETWORKS.values()) - {"g_s"}
DECODING = frozenset(NETWORKS.values()) - {"g_a", "h_a"}


@dataclass(frozen=True)
class Speed:
    """Of a picture; seconds are medians."""

    width: int
    height: int
    bytes: int
    encode_s: float
    decode_s: float
    encode_share: float  # of the peak
    decode_share: float
    reference: dict[str, float] | None = None  # the authors' code: encode_s, decode_s
    efforts: dict[int, tuple[float, int]] = field(default_factory=dict)  # seconds of encoding, bytes
    baselines: list[LearnedCost] = field(default_factory=list)


@dataclass(frozen=True)
class Bench:
    """All about a model."""

    model: str
    device: str
    engine: str
    threads: int
    parameters: int
    kmacs: dict[str, float]  # per pixel, by group
    peak: float  # GFLOP/s
    start_s: float
    speeds: list[Speed] = field(default_factory=list)

    def text(self) -> str:
        total = sum(self.kmacs.values())
        lines = [f"  parameters        {self.parameters / 1e6:.3f} M", f"  kMACs per pixel   {total:.3f}"]
        lines += [f"    {name:22} {value:9.3f}  {value / total:4.0%}" for name, value in self.kmacs.items()]
        lines.append(f"  start             {self.start_s:.3f} s, engine {self.engine}")
        lines.append(f"  peak              {self.peak:.0f} GFLOP/s in float32, {self.device}, {self.threads} threads")
        for speed in self.speeds:
            lines += _speed_lines(speed)
        return "\n".join(lines)


def _speed_lines(speed: Speed) -> Iterator[str]:
    """Lines about a picture: the model, the authors' code, efforts, other codecs."""
    yield f"  {speed.width} x {speed.height}, {speed.bytes:,} bytes"
    ways = ("encode", speed.encode_s, speed.encode_share), ("decode", speed.decode_s, speed.decode_share)
    for way, seconds, share in ways:
        pixels = speed.width * speed.height / seconds / 1e6
        line = f"    {way}  {seconds:8.3f} s  {pixels:6.2f} Mpixel/s  {share:4.0%} of the peak"
        if speed.reference:
            theirs = speed.reference[f"{way}_s"]
            line += f"; the authors' code {theirs:.3f} s, {theirs / seconds:.2f} times as long"
        yield line
    for effort, (seconds, size) in speed.efforts.items():
        yield f"    encode  {seconds:8.3f} s  with effort {effort}, {size:,} bytes"
    for baseline in speed.baselines:
        yield from _baseline_lines(baseline, speed)


def _baseline_lines(baseline: LearnedCost, model: Speed) -> Iterator[str]:
    """Lines about another codec; its times also as multiples of the model's."""
    size = f"{baseline.parameters / 1e6:.3f} M parameters, {baseline.kmacs:.2f} kMACs per pixel, random weights"
    if baseline.seconds is None:
        yield f"    {baseline.name}: {size}; not timed: {baseline.untimed}"
        return
    yield f"    {baseline.name}: {size}, {baseline.bytes:,} bytes"
    for way, own in (("encode", model.encode_s), ("decode", model.decode_s)):
        seconds = baseline.seconds[f"{way}_s"]
        yield f"    {way}  {seconds:8.3f} s, {seconds / own:.2f} times as long"


def heading(model: str) -> str:
    """What a model is called in the output; says so if its weights are random."""
    return f"{model}, random weights" if is_random(model) else Path(model).name


def is_random(model: str) -> bool:
    """Whether a name is that of an architecture whose weights aren't installed."""
    try:
        find(model)
    except ModelNotFoundError:
        return model in MODELS
    return False


def bench(
    model: str,
    sizes: Sequence[tuple[int, int]] | None = None,
    device: str = "cpu",
    repeats: int = 5,
    against: Sequence[str] = (),
    *,
    engine: str = "auto",
    threads: int | None = None,
    efforts: Sequence[int] = (),
) -> Bench:
    """Measures a model: by name, by weights file, or an architecture with random weights.

    Args:
        sizes: (width, height) of pictures, by default SIZE.
        against: checkouts of the authors' code or of other codecs; see reference.py and learned.py.
        efforts: to time the encoder with, once each.
        engine: as for `hpcm.load`.
        threads: of the CPU, by default one for each core; of everything that is timed: the engine, whichever it is,
            torch's matrix product, the search of efforts, and what runs `against`.

    Raises HPCMError as `hpcm.load` does, UsageError for a checkout that can't be used.
    """
    threads = threads or cores()
    torch.set_num_threads(threads)
    with opened(model, device, engine, threads) as codec:
        count, groups = cost(codec.engine.config)
        used = "torch" if isinstance(codec.engine, TorchEngine) else "core"
        reference, baselines = _checkouts(against, codec, device)
        peak = matrix_speed(torch.device(device), torch.float32, GEMM_SIDE) / 1e9
        started = median(_start(codec, device, used, threads) for _ in range(min(repeats, STARTS)))
        speeds = [
            _speed(codec, size, groups, peak, repeats, reference, baselines, device, efforts)
            for size in sizes or [SIZE]
        ]
        return Bench(codec.weights.name, device, used, threads, count, groups, peak, started, speeds)


def _checkouts(against: Sequence[str], codec: Codec, device: str) -> tuple[ReferenceCode | None, list[LearnedBaseline]]:
    """The authors' code, if it is among them, and the other codecs."""
    baselines = [LearnedBaseline(path, device) for path in map(Path, against) if kind(path)]
    rest = [path for path in map(Path, against) if not kind(path)]
    if len(rest) > 1:
        raise UsageError(f"{rest[1]} is no checkout of {' or '.join(KNOWN)}, and only one can be of the authors' code")
    if not rest:
        return None, baselines
    return ReferenceCode(rest[0], load_model(codec.weights, device).model, device), baselines


@contextmanager
def opened(model: str, device: str, engine: str = "auto", threads: int | None = None) -> Iterator[Codec]:
    """A codec; with random weights if it names an architecture whose weights aren't installed."""
    if not is_random(model):
        yield load(model, device, engine=engine, threads=threads)
        return
    torch.manual_seed(0)
    with TemporaryDirectory() as folder:
        path = Path(folder, f"{model}.safetensors")
        save(HPCM(MODELS[model]), path, {"weights": "random"})
        yield load(path, device, engine=engine, threads=threads)


def _start(codec: Codec, device: str, engine: str, threads: int) -> float:
    """Seconds that a new process takes until it has decoded its first, small, picture."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "small.hpcm")
        path.write_bytes(codec.compress(picture((64, 64)), quality=QUALITY))
        call = f"load({str(codec.weights.path)!r}, {device!r}, engine={engine!r}, threads={threads})"
        code = f"import hpcm; hpcm.{call}.decompress(open({str(path)!r}, 'rb').read())"
        start = time.perf_counter()
        subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
        return time.perf_counter() - start


def kmacs(config: Config) -> dict[str, float]:
    """kMACs per pixel of a forward pass, by group, in the order of NETWORKS; groups without any are left out."""
    return cost(config)[1]


def cost(config: Config) -> tuple[int, dict[str, float]]:
    """Parameters, and `kmacs`."""
    plain = replace(config, carrier="", transforms="float")  # an exact model convolves as often
    with torch.device("meta"):
        model = HPCM(plain).eval().requires_grad_(False)
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, SIDE, SIDE, device="meta"))
    groups = dict.fromkeys(NETWORKS.values(), 0.0)
    counts = {name: sum(flops.values()) for name, flops in counter.get_flop_counts().items()}
    for name, group in NETWORKS.items():
        part = getattr(model, name)  # a list of networks isn't called itself: its members are
        called = [f"{name}.{k}" for k in range(len(part))] if isinstance(part, torch.nn.ModuleList) else [name]
        groups[group] = sum(counts.get(f"HPCM.{key}", 0) for key in called) / 2 / SIDE**2 / 1000
    count = sum(parameter.numel() for parameter in model.parameters())
    return count, {group: value for group, value in groups.items() if value}


def _speed(
    codec: Codec,
    size: tuple[int, int],
    groups: dict[str, float],
    peak: float,
    repeats: int,
    reference: ReferenceCode | None,
    baselines: Sequence[LearnedBaseline],
    device: str,
    efforts: Sequence[int],
) -> Speed:
    image = picture(size)
    data = codec.compress(image, quality=QUALITY)  # warm up
    codec.decompress(data)
    encode_s = median(_timed(lambda: codec.compress(image, quality=QUALITY), device)[0] for _ in range(repeats))
    decode_s = median(_timed(lambda: codec.decompress(data), device)[0] for _ in range(repeats))
    seconds_at_peak = 2e3 * size[0] * size[1] / (peak * 1e9)  # for one kMAC per pixel
    encoding = sum(value for group, value in groups.items() if group in ENCODING)
    decoding = sum(value for group, value in groups.items() if group in DECODING)
    searched: dict[int, tuple[float, int]] = {}
    for effort in efforts:
        seconds, file = _timed(partial(codec.compress, image, quality=QUALITY, effort=effort), device)
        searched[effort] = seconds, len(cast(bytes, file))
    return Speed(
        width=size[0],
        height=size[1],
        bytes=len(data),
        encode_s=encode_s,
        decode_s=decode_s,
        encode_share=encoding * seconds_at_peak / encode_s,
        decode_share=decoding * seconds_at_peak / decode_s,
        reference=None if reference is None else reference.speed(image, repeats, _timed),
        efforts=searched,
        baselines=[baseline.cost(image, repeats, _timed) for baseline in baselines],
    )


def picture(size: tuple[int, int]) -> Image.Image:
    """Smooth noise; the same every time."""
    width, height = size
    noise = np.random.default_rng(0).integers(0, 256, (-(-height // 8), -(-width // 8), 3), np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def _timed(work: Callable[[], object], device: str) -> tuple[float, object]:
    """Seconds that `work` took, and its result."""
    start = time.perf_counter()
    result = work()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start, result
