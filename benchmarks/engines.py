"""The two engines side by side: torch and the native library, the same models on the same pictures.

    python benchmarks/engines.py PICTURES [--threads N] [--repeats N] [--base PYTHON]

Prints a table for each model: milliseconds of each of an engine's methods on a picture of 768 x 512 and whether both
give the same, of compressing and decompressing it (the median of several in turn), pictures per second over the folder
in one process, and of whole `hpcm` commands, from nothing to the file on the disk. Commands of the native library run
with PYTHON, the interpreter of an environment that may lack torch.
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
from common import heading, pictures_of
from PIL import Image

import hpcm
from hpcm.codec.codec import Codec
from hpcm.util.hardware import cores

ENGINES = ("torch", "core")
LEVEL, STEPS, SIZE = 40, 12, (32, 48)  # a quality level, coding steps with the hyper latent's, and a latent's size
Run = Callable[[], object]


def methods(codec: Codec, y: np.ndarray, payload: bytes, y_hat: np.ndarray) -> dict[str, Callable[[], np.ndarray]]:
    """An engine's methods on a picture of 768 x 512, each with the same inputs for both engines."""
    engine = codec.engine
    pixels = np.random.default_rng(0).integers(0, 256, (512, 768, 3), np.uint8)
    return {
        "analyse": lambda: engine.analyse(pixels, 255, (512, 768)),
        "encode": lambda: engine.encode(y, LEVEL).y_hat,
        "decode": lambda: engine.decode(payload, STEPS, SIZE, LEVEL).y_hat,
        "synthesise": lambda: engine.synthesise(y_hat, 8, False, (0, 0, 768, 512)),
    }


def seconds(run: Run) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def in_turn(runs: list[Run], repeats: int) -> list[float]:
    """The medians of several, after one of each to warm up."""
    taken = [[seconds(run) for run in runs] for _ in range(repeats + 1)][1:]
    return [median(column) for column in zip(*taken, strict=True)]


def line(what: str, found: list[float], rest: str = "") -> None:
    print(
        f"| {what} | {1000 * found[0]:,.1f} ms | {1000 * found[1]:,.1f} ms | {found[1] / found[0]:.2f} | {rest} |",
        flush=True,
    )


def model(name: str, pictures: list[Image.Image], options: argparse.Namespace) -> None:
    print(f"\n| {name} | torch | native library | ratio | equal |\n|---|--:|--:|--:|---|")
    codecs = [hpcm.load(name, engine=engine, threads=options.threads) for engine in ENGINES]
    y = np.random.default_rng(1).normal(0, 3, (*SIZE, codecs[0].engine.config.M)).astype(np.float32)
    encoded = codecs[0].engine.encode(y, LEVEL)
    both = [methods(codec, y, b"".join(encoded.parts), encoded.y_hat) for codec in codecs]
    for what in both[0]:
        one, other = (np.asarray(each[what](), np.float64) for each in both)
        difference = np.abs(one - other).max() / np.abs(one).max()
        taken = in_turn([each[what] for each in both], options.repeats)
        line(what, taken, "yes" if difference == 0 else f"no ({difference:.0e})")
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
    python = options.base if engine == "core" else sys.executable
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
    print(heading(options.threads, "torch"))
    for name in ("nano", "lite"):
        model(name, pictures, options)


if __name__ == "__main__":
    main()
