"""What exactness costs a released architecture: our codec, plain and exact, beside the authors' code, on one picture.

    python benchmarks/released.py LIC-HPCM [--arch base] [--repeats 3] [--carriers split float64]

LIC-HPCM is a checkout of the authors' code with its entropy coder compiled, as its README says; without one, only ours
are compared. Weights are those of tests/parity/recipe.py, drawn at random. All take turns on one thread of the CPU, and
the seconds are those of the processor, so that what else the machine does counts little. The least of each is printed.
"""

import argparse
import json
import runpy
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from common import heading
from PIL import Image

import hpcm
from hpcm.convert.official import from_official
from hpcm.eval.bench import reference
from hpcm.eval.bench.runners import measure
from hpcm.eval.measure import read_pixels
from hpcm.nn.exact.make_exact import make_exact
from hpcm.nn.hpcm import HPCM
from hpcm.nn.weights import save

TESTS = Path(__file__).parents[1] / "tests"
CALIBRATION = ((0, 0, 256, 256), (256, 128, 512, 384), (512, 256, 768, 512))  # of kodim20


def weights(arch: str) -> HPCM:
    recipe = runpy.run_path(str(TESTS / "parity" / "recipe.py"))
    manifest = json.loads((TESTS / "parity" / f"manifest_{arch}.json").read_text())
    drawn = recipe["reference_weights"](manifest, seed=1)
    model: HPCM = from_official({name: torch.from_numpy(value) for name, value in drawn.items()}, arch)
    return model.eval().requires_grad_(False)


def batches(model: HPCM) -> list[tuple[torch.Tensor, torch.Tensor]]:
    picture = Image.open(TESTS / "data" / "kodim20.png")
    crops = (np.asarray(picture.crop(box), np.float32) / 255 for box in CALIBRATION)
    return [(torch.from_numpy(crop).permute(2, 0, 1)[None], torch.zeros(1)) for crop in crops]


def timed(work: Callable[[], object], _: str = "cpu") -> tuple[float, object]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, nargs="?")
    parser.add_argument("--arch", default="base")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--carriers", nargs="+", default=["split"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    plain = weights(options.arch)
    models = {"plain": plain} | {kind: make_exact(plain, batches(plain), kind) for kind in options.carriers}
    image = Image.fromarray(read_pixels(TESTS / "data" / "kodim23.png"))
    authors = reference.load(options.checkout, plain, "cpu") if options.checkout else None
    seconds: dict[str, list[tuple[float, float]]] = {}
    sizes = {}
    with TemporaryDirectory() as folder:
        codecs = {}
        for name, model in models.items():
            path = Path(folder, f"{name}.safetensors")
            save(model, path, {}, half=False)
            codecs[name] = hpcm.load(path, engine="torch", threads=1)
        for turn in range(options.repeats + 1):
            for name, codec in codecs.items():
                encode_s, data = timed(lambda codec=codec: codec.compress(image))  # type: ignore[misc]
                decode_s, _ = timed(lambda codec=codec, data=data: codec.decompress(data))  # type: ignore[misc]
                sizes[name] = len(data)  # type: ignore[arg-type]
                seconds.setdefault(name, []).append((encode_s, decode_s))
            if authors and turn:  # it warms up by itself
                speed = measure(authors, [image], 1, "cpu", timed)
                seconds.setdefault("the authors' code", []).append((speed.encode_s, speed.decode_s))
    first = np.min(seconds["the authors' code" if authors else "plain"], 0)
    print(f"{heading(1, 'torch')}, {options.arch}, {image.size}\n")
    ratio_of = "the authors' time" if authors else "the plain model's time"
    print(f"| | bytes | encode | decode | of {ratio_of} |\n|---|--:|--:|--:|---|")
    for name, times in seconds.items():
        least = np.min(times[-options.repeats :], 0)
        ratio = ", ".join(f"{value:.2f}" for value in least / first)
        print(f"| {name} | {sizes.get(name, 0):,} | {least[0]:.2f} s | {least[1]:.2f} s | {ratio} |")


if __name__ == "__main__":
    main()
