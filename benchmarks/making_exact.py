"""What making the authors' models exact takes: time, memory, and what exactness costs in rate; then one picture.

    python benchmarks/making_exact.py [ARCH...] [--checkpoints FOLDER] [--photos N] [--threads N]

By default all four architectures, with weights of tests/parity/recipe.py, or with checkpoints ARCH.pth of a folder.
What exactness costs with trained weights isn't known from the recipe's, though their latents spread as those of trained
ones do. Each is made in a process of its own from a checkpoint file, exactly as `hpcm models --get` does it, and one of
the package's photographs, 256 x 256, goes there and back in another. Times are the processor's, of all threads: with
one, the default, those of a quiet machine. Prints a table.
"""

import argparse
import json
import os
import resource
import runpy
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from common import heading

import hpcm
from hpcm.convert import install
from hpcm.convert.catalogue import published
from hpcm.convert.official import ARCHS
from hpcm.model.file import describe

PARITY = Path(__file__).resolve().parents[1] / "tests" / "parity"
PHOTOS = "PHOTOS"  # environment variable: how many
COLUMNS = ["model", "parameters", "sums", "made in", "memory", "file", "exactness costs", "load", "compress"]
COLUMNS += ["decompress", "memory"]


def draw(arch: str, folder: Path) -> None:
    """Writes a checkpoint of the official shapes."""
    manifest = json.loads((PARITY / f"manifest_{arch}.json").read_text())
    weights = runpy.run_path(str(PARITY / "recipe.py"))["reference_weights"](manifest, 1)
    torch.save({name: torch.from_numpy(value) for name, value in weights.items()}, folder / f"{arch}.pth")


def make(arch: str, folder: Path) -> None:
    """Makes a checkpoint exact and prints the cells about it."""
    one = next(one for one in published() if one.arch == arch)
    output, begin = folder / f"{arch}.safetensors", time.process_time()
    install.make(one, folder / f"{arch}.pth", install.photos_of(None)[: int(os.environ.get(PHOTOS, 6))], output, None)
    seconds, made = time.process_time() - begin, describe(output)
    provenance = made.provenance
    size = f"{output.stat().st_size / 1e9:.2f} GB"
    parameters = f"{provenance['parameters'] / 1e6:.1f} M"
    exact, costs = provenance["exact"], provenance["exactness costs"]
    print(json.dumps([arch, parameters, exact, f"{seconds:.0f} s", peak(), size, costs]))


def use(arch: str, folder: Path) -> None:
    """Prints the cells about one picture there and back."""
    times = [time.process_time()]
    codec = hpcm.load(folder / f"{arch}.safetensors", threads=torch.get_num_threads())
    times.append(time.process_time())
    data = codec.compress(install.photos_of(None)[1])
    times.append(time.process_time())
    codec.decompress(data)
    times.append(time.process_time())
    print(json.dumps([*(f"{after - before:.1f} s" for before, after in pairwise(times)), peak()]))


def peak() -> str:
    """The largest memory of this process until now."""
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9:.1f} GB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archs", nargs="*", metavar="ARCH", help=f"by default {' '.join(ARCHS)}")
    parser.add_argument("--checkpoints", type=Path)
    parser.add_argument("--photos", type=int, default=6, metavar="N", help="to calibrate on, by default all 6")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--only", choices=("draw", "make", "use"), help=argparse.SUPPRESS)  # in a process of its own
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.only:
        {"draw": draw, "make": make, "use": use}[options.only](options.archs[0], options.checkpoints)
        return
    os.environ[PHOTOS] = str(options.photos)
    print(f"{heading(options.threads, 'torch')}, {options.photos} photographs\n")
    print(f"| {' | '.join(COLUMNS)} |\n|---|{'--:|' * (len(COLUMNS) - 1)}", flush=True)
    for arch in options.archs or ARCHS:
        with TemporaryDirectory() as temporary:
            cells: list[str] = []
            for step in ("draw", "make", "use"):
                if step == "draw" and options.checkpoints:
                    Path(temporary, f"{arch}.pth").symlink_to((options.checkpoints / f"{arch}.pth").resolve())
                    continue
                command = [sys.executable, __file__, arch, "--only", step, "--checkpoints", temporary]
                command += ["--threads", str(options.threads)]
                printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                cells += json.loads(printed or "[]")
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
