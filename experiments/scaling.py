"""How good a larger model would be, or one that is trained for longer: runs of four sizes, and a law.

    python experiments/scaling.py train OUT --photos DIR --held-out DIR [--only NAME...] [--steps 600 2400]
        [--batch 64] [--crop 256]
    python experiments/scaling.py fit [OUT] [--figure docs/scaling.svg]

As "Scaling Learned Image Compression Models up to 1 Billion" (arXiv 2508.09075) does it for its models, with minutes
instead of weeks. The loss is lambda * 255^2 * MSE + bits per pixel of 16 photographs that no model was trained on: the
geometric mean over them and four levels. The law is a sum of powers of the size and of what was seen in training (as
Hoffmann et al., arXiv 2203.15556, section 3.3, with multiplications instead of parameters, and without a constant):

    loss = A / kMACs^alpha + B / megapixels^beta

It is fitted to models that were trained for MSE and to those runs in OUT that saw enough. `train` begins with
principal components, and its learning rate falls to zero from the first step on; with a GPU a step is a CUDA graph.
Each run appends a line to OUT/losses.jsonl; what is there already isn't trained again.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from compare import of_picture
from matplotlib.figure import Figure
from scipy.optimize import least_squares

from hpcm.eval.cost import kmacs
from hpcm.eval.report import markdown
from hpcm.model import find as weights
from hpcm.model.config import LITE, NANO, Config, Prior
from hpcm.nn.hpcm import HPCM
from hpcm.nn.weights import load_model
from hpcm.train.data import middles
from hpcm.train.index import scan
from hpcm.train.loop import train
from hpcm.train.options import Options

SHARES = (1 / 8, 3 / 8, 5 / 8, 7 / 8)  # of the levels, at which the loss is measured
LEAST = 1000  # megapixels that a run must have seen to be fitted
SPEED = 61e12  # FLOP a second of LITE's training on an H100 (1,750 crops a second, 2026-11-26)
FASTEST = 2870  # crops a second, NANO's there
HOURS = (1, 10, 100)  # on it, for which the law is asked
# Models trained for MSE, all on the same 16 photographs: megapixels of their training (MODEL_CARD.md), loss, and
# bits against VTM's on Kodak. What the early NANO saw from which LITE has grown isn't counted for LITE.
MEASURED = [
    {"name": "nano", "model": "nano of 2026-11-22", "kmacs": 16.19, "megapixels": 7_212, "loss": 0.5993, "vtm": 1.517},
    {"name": "nano", "model": "nano of 2026-11-24", "kmacs": 16.19, "megapixels": 12_069, "loss": 0.5891, "vtm": 1.477},
    {"name": "nano", "model": "nano-1", "kmacs": 16.19, "megapixels": 75_487, "loss": 0.5619, "vtm": 1.364},
    {"name": "lite", "model": "lite of 2026-11-22", "kmacs": 88.75, "megapixels": 1_635, "loss": 0.5762, "vtm": 1.445},
    {"name": "lite", "model": "lite of 2026-11-24", "kmacs": 88.75, "megapixels": 4_584, "loss": 0.5482, "vtm": 1.324},
    {"name": "lite", "model": "lite-mse-1", "kmacs": 88.75, "megapixels": 64_059, "loss": 0.5044, "vtm": 1.154},
]


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


def run_all(given: argparse.Namespace) -> None:
    held_out, _ = middles(scan([given.held_out], 1).entries)
    settings = {"batch": given.batch, "crop": given.crop}
    done = {(row["name"], row["steps"]) for row in rows(given.run) if row | settings == row}
    for config, steps in product(SIZES, given.steps):
        if (config.name, steps) in done or (given.only and config.name not in given.only):
            continue
        folder = given.run / f"{config.name}-{steps}-{given.batch}x{given.crop}"
        model, seconds = trained(config, steps, given, folder)
        row = {"name": config.name, "kmacs": sizes()[config.name], "steps": steps} | settings
        row |= {"loss": loss_of(model, held_out), "seconds": seconds}
        print(row, flush=True)
        with (given.run / "losses.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def trained(config: Config, steps: int, given: argparse.Namespace, folder: Path) -> tuple[HPCM, float]:
    """The model after so many steps, and the seconds that they took."""
    options = Options(
        config=config,
        optimizer="muon",
        rate=given.rate,
        warmup=min(Options.warmup, max(steps // 5, 1)),
        decay=1.0,
        balance=0.5,
        batch=given.batch,
        crop=given.crop,
        graph=torch.cuda.is_available(),
        held_out=str(given.held_out),
        evaluate=0,
    )
    run = train(options, [given.photos], folder, steps=steps, resume=True)
    return load_model(weights.find(folder)).model, run.seconds


def loss_of(model: HPCM, pictures: Sequence[np.ndarray]) -> float:
    """The geometric mean of lambda * MSE + bits per pixel over pictures and levels."""
    logs = []
    for share, picture in product(SHARES, pictures):
        level = share * (model.config.levels - 1)
        bpp, mse = of_picture(model, picture, level)
        logs.append(math.log(model.config.lambda_of(level) * mse + bpp))
    return math.exp(mean(logs))


def rows(run: Path) -> list[dict]:
    """What runs came to, with the megapixels that they saw."""
    file = run / "losses.jsonl"
    runs = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
    return [row | {"megapixels": row["steps"] * row["batch"] * row["crop"] ** 2 / 1e6} for row in runs]


# ---- the law ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Law:
    """A / kMACs^alpha + B / megapixels^beta."""

    A: float
    alpha: float
    B: float
    beta: float

    def __call__(self, kmacs, megapixels):
        return self.A * np.power(kmacs, -self.alpha) + self.B * np.power(megapixels, -self.beta)


def fitted(runs: Sequence[dict]) -> Law:
    """The law with the least squares of relative errors, from many starts."""
    kmacs, megapixels, loss = np.array([(row["kmacs"], row["megapixels"], row["loss"]) for row in runs]).T

    def errors(logs: np.ndarray) -> np.ndarray:
        return np.log(Law(*np.exp(logs))(kmacs, megapixels) / loss)

    starts = np.log(list(product((0.3, 1), (0.05, 0.2, 0.6), (0.3, 1), (0.2, 0.6))))
    best = min((least_squares(errors, start) for start in starts), key=lambda result: result.cost)
    return Law(*np.exp(best.x).tolist())


def vtm_by_loss(loss: float) -> float:
    """Bits against VTM's on Kodak, by the line through those models in logarithms."""
    losses, rates = np.log([(row["loss"], row["vtm"]) for row in MEASURED]).T
    return float(np.exp(np.polyval(np.polyfit(losses, rates, 1), np.log(loss))))


def fit(given: argparse.Namespace) -> None:
    runs = rows(given.run) if given.run else []
    law = fitted([*MEASURED, *(row for row in runs if row["megapixels"] >= LEAST)])
    print(f"loss = {law.A:.4f} / kMACs^{law.alpha:.4f} + {law.B:.4f} / megapixels^{law.beta:.4f}\n")
    table = []
    for row in sorted([*MEASURED, *runs], key=lambda row: (row["kmacs"], row["megapixels"])):
        predicted = law(row["kmacs"], row["megapixels"])
        seen = f"{row['megapixels']:,.0f}" + " (not fitted)" * (row["megapixels"] < LEAST)
        cells = [f"{row['loss']:.4f}", f"{predicted:.4f}", f"{100 * (predicted / row['loss'] - 1):+.1f}%"]
        table.append([row.get("model", row["name"]), f"{row['kmacs']:.1f}", seen, *cells])
    print(markdown(["model", "kMACs", "megapixels", "loss", "law", "law is off by"], table))
    table = []
    for name, size in sizes().items():
        cells = []
        for hours in HOURS:
            crops = 3600 * hours * min(SPEED / (6e3 * size * 256**2), FASTEST)
            loss = law(size, crops * 256**2 / 1e6)
            cells.append(f"{loss:.3f}, {100 * (vtm_by_loss(loss) - 1):+.0f}% ({crops / 1e6:.1f} M crops)")
        table.append([name, f"{size:.0f}", *cells])
    print(markdown(["size", "kMACs", *(f"{hours} h of an H100" for hours in HOURS)], table))
    if given.figure:
        shown(law, runs).savefig(given.figure, bbox_inches="tight", metadata={"Date": None})


@cache
def sizes() -> dict[str, float]:
    return {config.name: sum(kmacs(config).values()) for config in SIZES}


def shown(law: Law, runs: Sequence[dict]) -> Figure:
    """The loss against training compute, a line for each size, and against multiplications, a line for each budget."""
    figure = Figure(figsize=(10, 4))
    left, right = figure.subplots(1, 2, sharey=True)
    points = [*MEASURED, *runs]
    seen = np.geomspace(min(row["megapixels"] for row in points) / 2, 1e8, 100)
    for name, size in sizes().items():
        (line,) = left.plot(6e9 * size * seen, law(size, seen), label=f"{name}, {size:.0f} kMACs")
        for row in (row for row in points if row["name"] == name):
            face = line.get_color() if row["megapixels"] >= LEAST else "none"
            place = 6e9 * size * row["megapixels"], row["loss"]
            left.plot(*place, "o", mec=line.get_color(), mfc=face)
    across = np.geomspace(8, 1000, 100)
    for crops in (1e6, 1e7, 1e8):
        right.plot(across, law(across, crops * 256**2 / 1e6), label=f"{crops / 1e6:.0f} million crops")
    for row in (row for row in MEASURED if row["megapixels"] > 5e4):
        right.plot(row["kmacs"], row["loss"], "o", color="tab:blue")
        right.annotate(row["model"], (row["kmacs"], row["loss"]), xytext=(5, 5), textcoords="offset points")
    left.set(xscale="log", xlabel="training, FLOP", ylabel="loss of photographs held out")
    right.set(xscale="log", xlabel="kMACs per pixel", ylim=(0.4, 1.1))
    for axes in (left, right):
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    training = commands.add_parser("train")
    training.add_argument("run", type=Path, help="folder for the losses")
    training.add_argument("--photos", type=Path, required=True, help="folder of photographs to train on")
    training.add_argument("--held-out", type=Path, required=True, help="folder of photographs to measure on")
    training.add_argument("--only", nargs="+", choices=[config.name for config in SIZES], help="these sizes")
    training.add_argument("--steps", type=int, nargs="+", default=[600, 2400])
    training.add_argument("--batch", type=int, default=64)
    training.add_argument("--crop", type=int, default=256)
    training.add_argument("--rate", type=float, default=3e-3, help="learning rate at the beginning")
    training.set_defaults(do=run_all)
    fitting = commands.add_parser("fit")
    fitting.add_argument("run", type=Path, nargs="?", help="folder with the losses of runs")
    fitting.add_argument("--figure", type=Path, help="a picture to write")
    fitting.set_defaults(do=fit)
    given = parser.parse_args()
    given.do(given)


if __name__ == "__main__":
    main()
