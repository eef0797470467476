"""Short trainings of NANO side by side: learning rates, optimizers, crop sizes, and what variants.py has.

    python experiments/compare.py QUESTION PICTURES... --data DIR... --steps N [--seeds K] [--jobs N] [--init MODEL]
        [--only NAME...] [--out FOLDER]

Every variant sees the same number of pixels (N steps of 8 crops of 128 x 128, or as many pixels in other steps) from
the principal components on, or with --init from the weights of a model, and its learning rate falls to zero over the
second half. Runs of one seed see the same crops in the same order.

PICTURES (folders, archives or files) are what is measured on, in their middles of at most 512 pixels a side: the
estimated rate, the PSNR and SSIMULACRA 2 at five quality levels, in float32. "loss" is the mean logarithm of
lambda * MSE + bpp over pictures and levels, and "change" its difference from the question's first variant with the same
seed; lower is better. BD-rates are against the same variant, at equal PSNR and at equal SSIMULACRA 2, the means of each
picture's. They have their standard error: the root of the sum of the squares of that over seeds and that over pictures.
What lies within two of them is "no conclusion". A variant that is finished isn't trained again when the command is
repeated; other pictures or data need another --out.

On a CPU, two runs of one thread each train more steps a second than one run of two: --jobs is the number of runs at a
time.
"""

import argparse
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
import variants
from torch.utils.flop_counter import FlopCounterMode

from hpcm.eval.bdrate import Curve, delta
from hpcm.eval.cost import SIDE, per_pixel
from hpcm.eval.report import markdown
from hpcm.model.config import LITE, NANO, Config, Prior
from hpcm.nn import ssimulacra2
from hpcm.nn.hpcm import HPCM
from hpcm.nn.rate import bits
from hpcm.train.data import Photographs, evenly_spread, middles
from hpcm.train.index import scan
from hpcm.train.options import Options, learning_rate
from hpcm.train.run import Run
from hpcm.train.team import join
from hpcm.util import atomic
from hpcm.util.hardware import end_with_parent, keep_pages
from hpcm.util.metrics import psnr_of_mse

LEVELS = (5, 20, 35, 50, 63)
PIXELS = 8 * 128**2  # of a step
NAME = "compared"  # of a variant's configuration
CHECK_EVERY = 50  # steps after which a run looks for non-finite ones
CELLS = NANO.multiple  # pixels, side of the smallest picture
MUON = {"optimizer": "muon", "rate": 2e-3}
LARGE_CROPS = MUON | {"balance": 0.5, "crop": 256, "batch": 2}
BALANCED = MUON | {"balance": 0.5}  # as `hpcm train` does by default


@dataclass(frozen=True)
class Variant:
    """What differs in the configuration, in the options of training, and in what neither can say."""

    config: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    run: type[Run] = Run


QUESTIONS: dict[str, dict[str, Variant]] = {
    "rate": {
        "1e-3": Variant(),
        "5e-4": Variant(training={"rate": 5e-4}),
        "2e-3": Variant(training={"rate": 2e-3}),
        "4e-3": Variant(training={"rate": 4e-3}),
    },
    "optimizer": {
        "adam 1e-3": Variant(),
        "adam 2e-3": Variant(training={"rate": 2e-3}),
        "muon 1e-3": Variant(training={"optimizer": "muon"}),
        "muon 2e-3": Variant(training={"optimizer": "muon", "rate": 2e-3}),
        "muon 4e-3": Variant(training={"optimizer": "muon", "rate": 4e-3}),
    },
    "crops": {
        "8 x 128": Variant(),
        "2 x 256": Variant(training={"crop": 256, "batch": 2}),
        "4 x 256, half the steps": Variant(training={"crop": 256, "batch": 4}),
        "16 x 128, half the steps": Variant(training={"batch": 16}),
        "4 x 128, twice the steps": Variant(training={"batch": 4}),
    },
    "latents": {"M = 192": Variant(), "M = 256": Variant({"M": 256}), "M = 320": Variant({"M": 320})},
    "shape": {
        "nano": Variant({}, MUON),
        "M = 320": Variant({"M": 320}, MUON),
        "analysis of 6 blocks": Variant({"analysis": ((6, 128), (0, 192))}, MUON),
        "synthesis of 2 blocks, 160 wide": Variant({"synthesis": ((0, 192), (2, 160))}, MUON),
        "coarse priors twice as deep": Variant({"prior_coarse": Prior(2, 2), "prior_fine": Prior(1, 1)}, MUON),
        "fine prior of its own": Variant({"prior_fine": Prior(1, 1)}, MUON),
    },
    "gains": {"paired": Variant(), "separate": Variant({"interpolation": "separate"})},
    "balance": {"0": Variant(), "0.5": Variant(training={"balance": 0.5})},
    "model": {"nano": Variant(), "lite": Variant({"size": "lite"})},
    "looks": {
        "mse": Variant({}, LARGE_CROPS),
        "mixed": Variant({}, LARGE_CROPS | {"loss": "mixed"}),
        "ssimulacra2": Variant({}, LARGE_CROPS | {"loss": "ssimulacra2"}),
    },
    "placement": {"aligned": Variant(), "released": Variant({"hyper_placement": "released"})},
    "choices": {
        "nano": Variant({}, BALANCED),
        "SOAP 1e-3": Variant({}, BALANCED | {"rate": 1e-3}, variants.SOAP),
        "SOAP 3e-3": Variant({}, BALANCED | {"rate": 3e-3}, variants.SOAP),
        "Haar cells": Variant({}, BALANCED, variants.run_of(variants.Haar)),
        "lapped cells": Variant({}, BALANCED, variants.run_of(variants.LappedCells)),
        "lapped latents": Variant({}, BALANCED, variants.run_of(variants.LappedLatents)),
        "prior of z by level": Variant({}, BALANCED, variants.run_of(variants.LevelPrior)),
        "scales by hyper path": Variant({}, BALANCED, variants.run_of(variants.HyperScales)),
        "rounding in the rate": Variant({}, BALANCED, variants.run_of(variants.RoundedRate)),
        "lite-mse's pictures": Variant({}, BALANCED, variants.Distilled),
        "lite-mse's pictures, latents": Variant({}, BALANCED, variants.DistilledLatents),
    },
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Short trainings of NANO side by side.")
    parser.add_argument("question", choices=list(QUESTIONS))
    parser.add_argument("pictures", nargs="+", help="folders, archives or pictures to measure on")
    parser.add_argument("--data", nargs="+", required=True, help="folders or archives to train on")
    parser.add_argument("--steps", type=int, required=True, help="of 8 crops of 128 x 128")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each variant (default: 1)")
    parser.add_argument("--only", nargs="+", help="these variants, the first of them as the reference")
    parser.add_argument("--init", help="weights to start from, instead of the principal components")
    parser.add_argument("--rate", type=float, help="learning rate of all variants, instead of their own")
    parser.add_argument("--precision", default="auto", help="bf16, float32 or auto (default)")
    parser.add_argument("--measured", type=int, default=24, help="pictures to measure on, at most (default: 24)")
    parser.add_argument(
        "--out", type=Path, default=Path("experiments/out/compare"), help="default: experiments/out/compare"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at a time (default: 1)")
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


# ---- one run --------------------------------------------------------------------------------------------------------


def file_of(given: argparse.Namespace, name: str, seed: int) -> Path:
    """Where a run's measurements are."""
    variant = QUESTIONS[given.question][name]
    changed = variant != Variant()
    words = re.sub("[^a-z0-9.]+", "-", f"{given.question} {name}".lower()) if changed else "reference"
    start = f"-from-{Path(given.init).name}" if given.init else ""
    start += f"-at-{given.rate:g}" if given.rate else ""
    return Path(given.out / f"{given.steps}{start}-{words}-seed-{seed}.json")


def train_one(name: str, seed: int, threads: int, given: argparse.Namespace) -> None:
    """Trains and measures a variant, unless that was done before."""
    file = file_of(given, name, seed)
    if file.exists():
        return
    torch.set_num_threads(threads)
    variant = QUESTIONS[given.question][name]
    options = replace(Options(configuration(variant.config), decay=0.5, seed=seed), **variant.training)
    options = replace(options, precision=given.precision, init=given.init, rate=given.rate or options.rate)
    steps = round(given.steps * PIXELS / (options.batch * options.crop**2))
    with join("cpu") as team:
        photographs = Photographs(given.data, options.crop, seed=seed)
        run = variant.run(options, options.config, photographs, team)
        while run.step < steps:
            run.learn(learning_rate(options, run.step, run.step / steps))
            if run.step % CHECK_EVERY == 0:
                run.check()
        photographs.close()
    result = measure(run.average.eval(), held_out(given.pictures, given.measured)) | {"kmacs": kmacs_of(run.model)}
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic.write(file, json.dumps(result).encode())


def held_out(sources: Sequence[str], count: int) -> list[np.ndarray]:
    """The middles of evenly spread pictures, uint8 [h, w, 3]."""
    entries = scan([sources], CELLS).entries
    return middles(entries[place] for place in evenly_spread(len(entries), count))[0]


def measure(model: HPCM, pictures: Sequence[np.ndarray]) -> dict[str, Any]:
    """(bpp, dB, SSIMULACRA 2) at each level, for each picture, and the mean logarithm of the loss."""
    points = [[of_picture(model, pixels, float(level)) for level in LEVELS] for pixels in pictures]
    losses = [
        math.log(model.config.lambda_of(level) * 255**2 / 10 ** (db / 10) + bpp)
        for curve in points
        for level, (bpp, db, _) in zip(LEVELS, curve, strict=True)
    ]
    return {"points": points, "loss": mean(losses)}


@torch.no_grad()
def of_picture(model: HPCM, pixels: np.ndarray, level: float) -> tuple[float, float, float]:
    """Bits per pixel, PSNR and SSIMULACRA 2 of a picture, uint8 [h, w, 3], cut to whole cells of z."""
    height, width = (side // model.config.multiple * model.config.multiple for side in pixels.shape[:2])
    x = torch.from_numpy(pixels[:height, :width]).permute(2, 0, 1)[None].float() / 255
    out: dict[str, Any] = model(x.contiguous(memory_format=torch.channels_last), torch.tensor([level]))
    rate = sum(float(bits(p)) for p in out["likelihoods"].values()) / (height * width)
    x_hat = out["x_hat"].clamp(0, 1)
    return rate, psnr_of_mse(float((x_hat - x).square().mean())), float(ssimulacra2.score(x_hat, x))


@torch.no_grad()
def kmacs_of(model: HPCM) -> float:
    """Thousands of multiplications per pixel, of encoding and decoding."""
    with FlopCounterMode(display=False) as counter:
        model.eval()(torch.rand(1, 3, SIDE, SIDE), torch.tensor([0.0]))
    return per_pixel(counter.get_total_flops())


# ---- the table ------------------------------------------------------------------------------------------------------


def table(given: argparse.Namespace, names: Sequence[str], seeds: int) -> str:
    """A row for each variant, from its runs with the first `seeds` seeds."""
    rows = []
    reference = results(given, names[0], seeds)
    for name in names:
        runs = results(given, name, seeds)
        losses = [one["loss"] - anchor["loss"] for one, anchor in zip(runs, reference, strict=True)]
        pairs = list(zip(reference, runs, strict=True))
        rates = [np.array([bd_rates(anchor, one, quality) for anchor, one in pairs]) for quality in (1, 2)]
        rows.append([name, f"{runs[0]['kmacs']:.1f}", f"{runs[0]['loss']:.4f}"])
        rows[-1] += [""] * 5 if name == names[0] else [spread(losses), *summary(rates[0]), *summary(rates[1])]
    heads = ["kMACs/px", "loss, seed 0", "change", "BD-rate, PSNR", "", "BD-rate, SSIMULACRA 2", ""]
    return markdown([given.question, *heads], rows)


def results(given: argparse.Namespace, name: str, seeds: int) -> list[dict[str, Any]]:
    return [json.loads(file_of(given, name, seed).read_text(encoding="utf-8")) for seed in range(seeds)]


def bd_rates(anchor: dict[str, Any], test: dict[str, Any], quality: int) -> list[float]:
    """Of each picture, in per cent; NaN where the curves don't overlap. `quality`: its place in a point."""
    return [bd_rate(a, b, quality) for a, b in zip(anchor["points"], test["points"], strict=True)]


def bd_rate(anchor: Sequence[Sequence[float]], test: Sequence[Sequence[float]], quality: int) -> float:
    try:
        curves = [Curve([(point[0], point[quality]) for point in points]) for points in (anchor, test)]
        change = delta(*curves).percent
    except ValueError:  # too few points, where hardly anything was trained
        return math.nan
    return math.nan if change is None else change


def standard_error(values: Sequence[float]) -> float:
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def spread(values: Sequence[float]) -> str:
    """The mean and its standard error, of one value for each seed."""
    return f"{mean(values):+.4f}" + (f" ± {standard_error(values):.4f}" if len(values) > 1 else "")


def summary(rates: np.ndarray) -> tuple[str, str]:
    """The mean of BD-rates [seeds, pictures] with its standard error, and what follows from them."""
    middle = float(rates.mean())
    error = math.hypot(standard_error(rates.mean(1).tolist()), standard_error(rates.mean(0).tolist()))
    if math.isnan(error):  # one seed, one picture, or a curve without overlap
        return f"{middle:+.2f}%", "no conclusion"
    verdict = "no conclusion" if abs(middle) <= 2 * error else "more bits" if middle > 0 else "fewer bits"
    return f"{middle:+.2f} ± {error:.2f}%", verdict


def main() -> None:
    given = arguments()
    keep_pages()
    threads = max(1, torch.get_num_threads() // given.jobs)
    names = given.only or list(QUESTIONS[given.question])
    spawning = get_context("spawn")  # torch's threads don't survive a fork
    with spawning.Pool(given.jobs, initializer=end_with_parent, maxtasksperchild=1) as pool:
        runs = [
            [pool.apply_async(train_one, (name, seed, threads, given)) for name in names] for seed in range(given.seeds)
        ]
        for seeds, trained in enumerate(runs, 1):
            for name, run in zip(names, trained, strict=True):
                run.get()
                print(f"{name}, seed {seeds - 1}: trained", flush=True)
            print(table(given, names, seeds), flush=True)


if __name__ == "__main__":
    main()
