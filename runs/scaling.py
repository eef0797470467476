"""How good a larger model would be, or one that was trained for longer: four sizes trained on equal crops, and a law.

    python runs/scaling.py train OUT --photos DIR [--only NAME...] [--steps 150 600] [--batch 64] [--crop 256]
    python runs/scaling.py fit OUT [--figure docs/scaling.png]

As "Scaling Learned Image Compression Models up to 1 Billion" (arXiv 2508.09075) does it for its models, with minutes
instead of weeks. All sizes start from principal components, with one learning rate that falls to zero over the steps.
The loss is lambda * 255^2 * MSE + bits per pixel of held-out photographs: the geometric mean over pictures and levels.
The law is that of Hoffmann et al. (arXiv 2203.15556, section 3.3), with multiplications instead of parameters:

    loss = E + A / kMACs^alpha + B / crops^beta

`train` takes some minutes on an H100; on one core of a CPU, with `--batch 8 --crop 128`, about an hour and a half.
Every run appends a line to OUT/losses.jsonl; those that are there already aren't trained again.
"""

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
import train_gpu
from matplotlib.figure import Figure
from scipy.optimize import least_squares

from hpcm.coding.config import LITE, NANO, Config, Prior
from hpcm.eval.bench import kmacs
from hpcm.eval.report import markdown
from hpcm.model.hpcm import HPCM
from hpcm.train.start import pca_start

WARMUP = 200  # steps, but no more than a fifth of all
STARTS = 256  # crops for the principal components
CROPS = (1e6, 1e7, 6.4e7)  # of 256 pixels, for which the law is asked; the published models were trained on the last
SPEED = 61e12  # FLOP a second of LITE's training on an H100 (train_gpu.py, 1,750 crops a second)
# What the released models came to, on the same pictures: kMACs, crops of 256 pixels, loss (see MODEL_CARD.md).
REACHED = {"nano": (16.19, 1.27e6, 0.562), "lite": (88.75, 1.0e6, 0.504)}


def sized(name: str, width: int, latents: int, hyper: int, ratio: int, fine: Prior) -> Config:
    """LITE with other widths."""
    return replace(
        LITE,
        name=name,
        M=latents,
        N=hyper,
        analysis=((4, width), (0, latents)),
        synthesis=((0, latents), (4, width)),
        hyper_analysis=((1, latents), (1, hyper)),
        hyper_synthesis=((2, hyper), (0, 2 * latents)),
        ratio=ratio,
        prior_width=width,
        prior_fine=fine,
    )


SIZES = (NANO, sized("small", 192, 224, 96, 2, Prior(1, 1)), LITE, sized("large", 384, 320, 192, 3, Prior(2, 1)))


# ---- training --------------------------------------------------------------------------------------------------------


def train(given: argparse.Namespace) -> None:
    given.run.mkdir(parents=True, exist_ok=True)
    device, feeds, held = train_gpu.prepared(given)
    drawn = train_gpu.draws(given, feeds)
    used = [(pool, side) for pool, count, side in drawn if count]
    crops = torch.cat([pool.cut(STARTS // len(used), side).cpu() for pool, side in used])
    settings = {"batch": given.batch, "crop": given.crop}
    done = {(row["name"], row["steps"]) for row in rows(given.run) if row | settings == row}
    for config in SIZES:
        missing = [steps for steps in given.steps if (config.name, steps) not in done]
        if not missing or (given.only and config.name not in given.only):
            continue
        torch.manual_seed(0)
        model = HPCM(config)
        pca_start(model, crops)
        trainer = train_gpu.Trainer(model, "mse", drawn, device)
        first = [t.detach().clone() for t in trainer.optimizer.state()]
        for steps in missing:
            trainer.restore(first)
            begin = time.time()
            told = trained(trainer, steps, given.rate)
            seconds = time.time() - begin
            row = {"name": config.name, "kmacs": sum(kmacs(config).values()), "steps": steps} | settings
            row |= {"loss": math.exp(trainer.judge(held)), "seconds": seconds}
            print(row, told, flush=True)
            with (given.run / "losses.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        del trainer, first, model
        torch.cuda.empty_cache()


def trained(trainer: train_gpu.Trainer, steps: int, rate: float) -> dict[str, float]:
    warmup = min(WARMUP, max(steps // 5, 1))
    for step in range(steps):
        trainer.optimizer.rate.fill_(rate * min(1, (step + 1) / warmup) * (1 - step / steps))
        trainer.replay()
    return trainer.told()


def rows(run: Path) -> list[dict]:
    file = run / "losses.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []


# ---- the law ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Law:
    """E + A / kMACs^alpha + B / megapixels^beta."""

    E: float
    A: float
    alpha: float
    B: float
    beta: float

    def __call__(self, kmacs, megapixels):
        return self.E + self.A * np.power(kmacs, -self.alpha) + self.B * np.power(megapixels, -self.beta)


def megapixels(row: dict) -> float:
    return row["steps"] * row["batch"] * row["crop"] ** 2 / 1e6


def fitted(found: Sequence[dict]) -> Law:
    """The law with the least squares of relative errors, from many starts."""
    kmacs, seen, loss = np.array([(row["kmacs"], megapixels(row), row["loss"]) for row in found]).T

    def errors(logs: np.ndarray) -> np.ndarray:
        return np.log(Law(*np.exp(logs))(kmacs, seen) / loss)

    starts = np.log(list(product((0.1, 0.4), (0.3, 1), (0.2, 0.6), (0.3, 1), (0.2, 0.6))))
    best = min((least_squares(errors, start) for start in starts), key=lambda result: result.cost)
    return Law(*np.exp(best.x).tolist())


def fit(given: argparse.Namespace) -> None:
    found = rows(given.run)
    law = fitted(found)
    print(f"loss = {law.E:.4f} + {law.A:.4f} / kMACs^{law.alpha:.3f} + {law.B:.4f} / megapixels^{law.beta:.3f}\n")
    table = []
    for row in found:
        told = law(row["kmacs"], megapixels(row))
        table.append([row["name"], f"{row['kmacs']:.1f}", str(row["steps"]), f"{megapixels(row):.1f}"])
        table[-1] += [f"{row['loss']:.4f}", f"{told:.4f}", f"{told / row['loss'] - 1:+.1%}"]
    print(markdown(["size", "kMACs", "steps", "megapixels", "loss", "law", "off by"], table))
    table = []
    for config in SIZES:
        size = sum(kmacs(config).values())
        cells = [f"{law(size, crops * 0.256**2):.3f}" for crops in CROPS]
        hours = CROPS[-1] * 6e3 * size * 256**2 / SPEED / 3600
        table.append([config.name, f"{size:.1f}", *cells, f"{law(size, math.inf):.3f}", f"{hours:.1f} h"])
    print(markdown(["size", "kMACs", *(f"{crops / 1e6:g} M crops" for crops in CROPS), "no end", "H100, last"], table))
    for name, (size, crops, loss) in REACHED.items():
        print(f"{name}: {loss:.3f} after {crops / 1e6:.2f} M crops; the law says {law(size, crops * 0.256**2):.3f}")
    if given.figure:
        shown(law, found).savefig(given.figure, bbox_inches="tight", dpi=110)


def shown(law: Law, found: Sequence[dict]) -> Figure:
    """The loss against training compute, a line for each size, and against multiplications, a line for each budget."""
    figure = Figure(figsize=(10, 4))
    left, right = figure.subplots(1, 2, sharey=True)
    seen = np.geomspace(megapixels(min(found, key=megapixels)) / 2, CROPS[-1] * 0.256**2, 100)
    for config in SIZES:
        size = sum(kmacs(config).values())
        (line,) = left.plot(6e9 * size * seen, law(size, seen), label=f"{config.name}, {size:.0f} kMACs")
        mine = [row for row in found if row["name"] == config.name]
        left.plot([6e9 * size * megapixels(r) for r in mine], [r["loss"] for r in mine], "o", color=line.get_color())
        if config.name in REACHED:
            _, crops, loss = REACHED[config.name]
            left.plot(6e9 * size * crops * 0.256**2, loss, "*", ms=12, color=line.get_color())
    sizes = np.geomspace(8, 1000, 100)
    for budget in (*sorted({megapixels(row) for row in found}), *(crops * 0.256**2 for crops in CROPS)):
        (line,) = right.plot(sizes, law(sizes, budget), label=f"{budget:.3g} megapixels")
        mine = [row for row in found if megapixels(row) == budget]
        right.plot([row["kmacs"] for row in mine], [row["loss"] for row in mine], "o", color=line.get_color())
    left.set(xscale="log", yscale="log", xlabel="training, FLOP", ylabel="loss of held-out photographs")
    right.set(xscale="log", xlabel="multiplications for each pixel, in thousands")
    for axes in (left, right):
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    training = commands.add_parser("train")
    training.add_argument("run", type=Path, help="folder for the losses")
    training.add_argument("--photos", type=Path, required=True, help="folder of .tar archives of photographs")
    training.add_argument("--only", nargs="+", choices=[config.name for config in SIZES], help="these sizes")
    training.add_argument("--steps", type=int, nargs="+", default=[150, 600])
    training.add_argument("--batch", type=int, default=64)
    training.add_argument("--crop", type=int, default=256)
    training.add_argument("--rate", type=float, default=3e-3, help="learning rate at the beginning")
    training.set_defaults(do=train, screens=None, share=0.0, shrunk=0.2)
    fitting = commands.add_parser("fit")
    fitting.add_argument("run", type=Path, help="folder with the losses")
    fitting.add_argument("--figure", type=Path, help="a picture to write")
    fitting.set_defaults(do=fit)
    given = parser.parse_args()
    given.do(given)


if __name__ == "__main__":
    main()
