"""The two engines side by side: torch and ONNX Runtime, the same models on the same pictures.

    python benchmarks/engines.py PICTURES [--threads N] [--repeats N] [--base PYTHON]

Prints a table for each model: milliseconds of every network on a picture of 768 x 512 and whether the bits are equal,
of compressing and decompressing it (the median of several in turn), pictures per second over the folder in one process,
and of whole `hpcm` commands, from nothing to the file on the disk. Commands of ONNX Runtime run with PYTHON, the
interpreter of an environment that may lack torch.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from common import heading, pictures_of
from PIL import Image

import hpcm
from hpcm.util.hardware import cores

ENGINES = ("torch", "onnx")
LEVEL = 40
Run = Callable[[], object]


class Networks:
    """The networks of a model under one engine, each with inputs of its own for a picture of 768 x 512."""

    def __init__(self, name: str, engine: str, threads: int) -> None:
        self.codec = hpcm.load(name, engine=engine, threads=threads)
        networks = self.codec.networks
        put, M = networks.arrays.put, networks.config.M
        rng = np.random.default_rng(0)
        x, y = (put(rng.random(shape, np.float32)) for shape in ((1, 3, 512, 768), (1, M, 32, 48)))
        z, level = put(rng.normal(0, 9, (1, networks.config.N, 8, 12)).round().astype(np.float32)), np.array([LEVEL])
        context = put(rng.normal(0, 3, (1, 2 * M, 32, 48)).astype(np.float32))
        step = networks.plan((32, 48)).steps[-1]
        self.runs: dict[str, Run] = {
            "g_a + h_a": lambda: networks.hyper_analyse(networks.analyse(x)),
            "h_s": lambda: networks.hyper_synthesise(z),
            "one step of the finest scale": lambda: networks.parameters_of(step, context, y, put(level)),
            "g_s": lambda: networks.synthesise(y),
        }

    def output(self, what: str) -> np.ndarray:
        with torch.inference_mode(), self.codec.networks.exactly():
            return self.codec.networks.arrays.get(self.runs[what]())

    def seconds(self, what: str) -> float:
        with torch.inference_mode():
            return seconds(self.runs[what])


def seconds(run: Run) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def in_turn(runs: list[Run], repeats: int) -> list[float]:
    """The medians of several, after one of each to warm up."""
    taken = [[seconds(run) for run in runs] for _ in range(repeats + 1)][1:]
    return [median(column) for column in zip(*taken, strict=True)]


def line(what: str, medians: list[float], rest: str = "") -> None:
    one, other = medians  # seconds
    print(f"| {what} | {1000 * one:,.1f} ms | {1000 * other:,.1f} ms | {other / one:.2f} | {rest} |", flush=True)


def model(name: str, pictures: list[Image.Image], options: argparse.Namespace) -> None:
    print(f"\n| {name} | torch | ONNX Runtime | ratio | equal bits |\n|---|--:|--:|--:|---|")
    both = [Networks(name, engine, options.threads) for engine in ENGINES]
    for what in both[0].runs:
        one, other = (networks.output(what) for networks in both)
        difference = np.abs(one - other).max() / np.abs(one).max()
        taken = in_turn([lambda n=n, what=what: n.seconds(what) for n in both], options.repeats)
        line(what, taken, "yes" if difference == 0 else f"no ({difference:.0e})")
    codecs = [networks.codec for networks in both]
    data = codecs[0].compress(pictures[0])
    line("compress", in_turn([lambda c=c: c.compress(pictures[0]) for c in codecs], options.repeats))
    line("decompress", in_turn([lambda c=c: c.decompress(data) for c in codecs], options.repeats))
    folder = in_turn([lambda c=c: [c.decompress(c.compress(p)) for p in pictures] for c in codecs], 1)
    line(f"{len(pictures)} pictures there and back", folder)
    with TemporaryDirectory() as temporary:
        here = Path(temporary)
        pictures[0].save(here / "a.png")
        (here / "a.hpcm").write_bytes(data)
        for command, *files in (("compress", "a.png", "b.hpcm"), ("decompress", "a.hpcm", "b.png")):
            runs = [lambda e=e, c=command, f=files: whole(e, c, f, name, here, options) for e in ENGINES]
            line(f"`hpcm {command}`, the whole command", in_turn(runs, options.repeats))


def whole(engine: str, command: str, files: list[str], name: str, folder: Path, options: argparse.Namespace) -> None:
    python = options.base if engine == "onnx" else sys.executable
    rest = ["--engine", engine, "--threads", str(options.threads), "-f", "-o", files[1]]
    rest += ["--model", name] if command == "compress" else []
    subprocess.run([python, "-m", "hpcm", command, files[0], *rest], cwd=folder, check=True, capture_output=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--base", default=sys.executable, metavar="PYTHON")
    options = parser.parse_args()
    pictures = pictures_of(options.pictures)
    print(heading(options.threads, "torch", "onnxruntime"))
    for name in ("nano", "lite"):
        model(name, pictures, options)


if __name__ == "__main__":
    main()
