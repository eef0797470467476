"""Short trainings of NANO side by side: learning rates, optimizers, crop sizes, placements of hyper parameters.

    python experiments/compare.py QUESTION PICTURES... --data DIR... --steps N [--seeds K] [--only NAME...]
        [--out FOLDER]

Every variant sees the same number of pixels (N steps of 8 crops of 128 x 128, or as many pixels in other steps) from
the principal components on, and its learning rate falls to zero over the second half. PICTURES is what is measured on:
the estimated rate and the PSNR at five quality levels, in float32. "loss" is the mean logarithm of
lambda * MSE + bpp over pictures and levels, lower is better; BD-rate is against the question's first variant, trained
with the same seed, mean and (for several seeds) standard deviation. "time" counts other work on the machine in. Runs
resume, so that the command may be stopped and given again; other pictures or data need another --out.
"""

import argparse
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch

from hpcm.eval.bdrate import Curve, delta
from hpcm.eval.evaluate import find_pictures
from hpcm.eval.measure import read_pixels
from hpcm.eval.report import markdown
from hpcm.model import find as weights
from hpcm.model.config import LITE, NANO, Config, Prior
from hpcm.nn.hpcm import HPCM
from hpcm.nn.rate import bits
from hpcm.nn.weights import load_model
from hpcm.train.loop import train
from hpcm.train.options import Options

LEVELS = (5, 20, 35, 50, 63)
PIXELS = 8 * 128**2  # of a step
LARGEST = 1024  # pixels a side, of a picture
NAME = "compared"  # of a variant's configuration
MUON = {"optimizer": "muon", "rate": 2e-3}
# Question: {variant: (what differs in the model, what differs in the training)}
QUESTIONS: dict[str, dict[str, tuple[dict[str, Any], dict[str, Any]]]] = {
    "rate": {
        "1e-3": ({}, {}),
        "5e-4": ({}, {"rate": 5e-4}),
        "2e-3": ({}, {"rate": 2e-3}),
        "4e-3": ({}, {"rate": 4e-3}),
    },
    "optimizer": {
        "adam 1e-3": ({}, {}),
        "adam 2e-3": ({}, {"rate": 2e-3}),
        "muon 1e-3": ({}, {"optimizer": "muon"}),
        "muon 2e-3": ({}, {"optimizer": "muon", "rate": 2e-3}),
        "muon 4e-3": ({}, {"optimizer": "muon", "rate": 4e-3}),
    },
    "crops": {
        "8 x 128": ({}, {}),
        "2 x 256": ({}, {"crop": 256, "batch": 2}),
        "4 x 256, half the steps": ({}, {"crop": 256, "batch": 4}),
        "16 x 128, half the steps": ({}, {"batch": 16}),
        "4 x 128, twice the steps": ({}, {"batch": 4}),
    },
    "latents": {"M = 192": ({}, {}), "M = 256": ({"M": 256}, {}), "M = 320": ({"M": 320}, {})},
    "shape": {
        "nano": ({}, MUON),
        "M = 320": ({"M": 320}, MUON),
        "analysis of 6 blocks": ({"analysis": ((6, 128), (0, 192))}, MUON),
        "synthesis of 2 blocks, 160 wide": ({"synthesis": ((0, 192), (2, 160))}, MUON),
        "coarse priors twice as deep": ({"prior_coarse": Prior(2, 2), "prior_fine": Prior(1, 1)}, MUON),
        "fine prior of its own": ({"prior_fine": Prior(1, 1)}, MUON),
    },
    "gains": {"paired": ({}, {}), "separate": ({"interpolation": "separate"}, {})},
    "balance": {"0": ({}, {}), "0.5": ({}, {"balance": 0.5})},
    "model": {"nano": ({}, {}), "lite": ({"size": "lite"}, {})},
    "placement": {"aligned": ({}, {}), "released": ({"hyper_placement": "released"}, {})},
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Short trainings of NANO side by side.")
    parser.add_argument("question", choices=list(QUESTIONS))
    parser.add_argument("pictures", nargs="+", help="pictures or folders to measure on")
    parser.add_argument("--data", nargs="+", required=True, help="folders or archives to train on")
    parser.add_argument("--steps", type=int, required=True, help="of 8 crops of 128 x 128")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each variant (default: 1)")
    parser.add_argument("--only", nargs="+", help="these variants, the first of them as the reference")
    parser.add_argument(
        "--out", type=Path, default=Path("experiments/out/compare"), help="default: experiments/out/compare"
    )
    parser.add_argument("--threads", type=int, help="of torch")
    return parser.parse_args()


def configuration(variant: dict[str, Any]) -> Config:
    """NANO with the differences, with M wherever NANO has its own; or LITE."""
    if variant.get("size") == "lite":
        return replace(LITE, name=NAME)
    M = variant.get("M", NANO.M)
    sizes = {"analysis": (NANO.analysis[0], (0, M)), "synthesis": ((0, M), NANO.synthesis[1])}
    sizes |= {"hyper_analysis": ((1, M), NANO.hyper_analysis[1])}
    sizes |= {"hyper_synthesis": (NANO.hyper_synthesis[0], (0, 2 * M))}
    return replace(NANO, **{"name": NAME, **sizes, **variant})


def measure(model: HPCM, pictures: list[Path]) -> tuple[list[tuple[float, float]], float]:
    """(bpp, dB) of each level, means over the pictures, at most LARGEST a side, and the mean logarithm of the loss."""
    points, losses = [], []
    for level in LEVELS:
        measured = [of_picture(model, read_pixels(path)[:LARGEST, :LARGEST], float(level)) for path in pictures]
        points.append((mean(bpp for bpp, _ in measured), mean(10 * math.log10(255**2 / mse) for _, mse in measured)))
        losses += [math.log(model.config.lambda_of(level) * mse + bpp) for bpp, mse in measured]
    return points, mean(losses)


@torch.no_grad()
def of_picture(model: HPCM, pixels: np.ndarray, level: float) -> tuple[float, float]:
    """Bits per pixel and mean squared error in grey levels of a picture, uint8 [h, w, 3], cut to whole cells."""
    height, width = (side // model.config.multiple * model.config.multiple for side in pixels.shape[:2])
    x = torch.from_numpy(pixels[:height, :width]).permute(2, 0, 1)[None].float() / 255
    out: dict[str, Any] = model(x.contiguous(memory_format=torch.channels_last), torch.tensor([level]))
    rate = sum(float(bits(p)) for p in out["likelihoods"].values()) / (height * width)
    return rate, float((out["x_hat"].clamp(0, 1) - x).square().mean()) * 255**2


def trained(given: argparse.Namespace, name: str, seed: int) -> dict[str, Any]:
    """What a variant came to; trained unless it was before."""
    model, training = QUESTIONS[given.question][name]
    variant = re.sub("[^a-z0-9.]+", "-", f"{given.question} {name}".lower()) if model or training else "reference"
    folder = given.out / f"{given.steps}-{variant}-seed-{seed}"
    file = folder / "measured.json"
    if not file.exists():
        options = replace(Options(configuration(model), decay=0.5, evaluate=0, seed=seed), **training)
        steps = round(given.steps * PIXELS / (options.batch * options.crop**2))
        train(options, given.data, folder, steps=steps, resume=True)
        network = load_model(weights.find(folder)).model
        points, loss = measure(network, find_pictures(given.pictures))
        seconds = weights.find(folder).provenance["seconds"]
        file.write_text(json.dumps({"points": points, "loss": loss, "seconds": seconds}), encoding="utf-8")
    return dict(json.loads(file.read_text(encoding="utf-8")))


def spread(values: list[float], digits: int, unit: str = "") -> str:
    deviation = f" ± {stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{mean(values):+.{digits}f}{unit}{deviation}"


def main() -> None:
    given = arguments()
    if given.threads:
        torch.set_num_threads(given.threads)
    names = given.only or list(QUESTIONS[given.question])
    rows: list[list[str]] = []
    reference: list[dict[str, Any]] = []
    for name in names:
        runs = [trained(given, name, seed) for seed in range(given.seeds)]
        reference = reference or runs
        rates = []
        for anchor, one in zip(reference, runs, strict=True):
            change = delta(Curve(anchor["points"]), Curve(one["points"])).percent
            rates.append(math.nan if change is None else change)
        points = ", ".join(f"{bpp:.3f}: {db:.2f}" for bpp, db in runs[0]["points"])
        seconds = f"{mean(one['seconds'] for one in runs):.0f} s"
        rows.append([name, spread([one["loss"] for one in runs], 4), spread(rates, 2, "%"), seconds, points])
        print(" | ".join(rows[-1]), flush=True)
    print(markdown([given.question, "loss", "BD-rate", "time", "bpp: dB (first seed)"], rows))


if __name__ == "__main__":
    main()
