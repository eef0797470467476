"""The paper's ablation table at a small scale: each trained alike at NANO's widths, BD-rate beside the published one.

    python experiments/ablations.py PICTURES --data DIR... --steps N [--seeds N] [--jobs N] [--out FOLDER]

PICTURES is what is evaluated on (Kodak's folder, say), DIR what is trained on. The reference is NANO with Base's window
attention and 1x1 convolutions between scales; an ablation is one `replace` of it, as of Base in the paper. All see the
same number of crops of 256 x 256, which attention needs. A few thousand steps rank the larger effects at best: the
paper's models took two million.

Every ablation is trained once for each seed, and compared with the reference of the same seed: both see the same crops
in the same order. The table has the mean of the seeds' BD-rates and its standard error; a mean within two of them of
zero is "no conclusion". Runs resume, so that the command may be stopped and given again.

On a CPU, two runs of one thread each train more steps a second than one run of two threads: --jobs is the number of
runs at a time. A seed is evaluated while the next one is trained.
"""

import argparse
import math
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, stdev

import torch

from hpcm.eval.cost import kmacs
from hpcm.eval.evaluate import Options as Evaluation
from hpcm.eval.evaluate import evaluate, find_pictures
from hpcm.eval.report import markdown
from hpcm.model.config import NANO, Config
from hpcm.train.loop import train
from hpcm.train.options import Options
from hpcm.util.hardware import end_with_parent, keep_pages

REFERENCE = replace(NANO, name="reference", fusion="attention", context_net=True)
# Name: (configuration, the paper's BD-rate against Base; arXiv 2507.19125)
ABLATIONS: dict[str, tuple[Config, str]] = {
    "reference": (REFERENCE, "0"),
    "no-hierarchy": (replace(REFERENCE, hierarchy=False), "+1.07%"),
    "steps-2-3-3": (replace(REFERENCE, steps=(2, 3, 3)), "+2.39%"),
    "steps-2-3-12": (replace(REFERENCE, steps=(2, 3, 12)), "-2.55%"),
    "steps-4-3-6": (replace(REFERENCE, steps=(4, 3, 6)), "+0.35%"),
    "psi": (replace(REFERENCE, fusion="psi"), "+1.17%"),
    "no-progress": (replace(REFERENCE, fusion="none"), "+4.71%"),
}
CROP = 256  # pixels; a multiple of what attention without hierarchy or with it needs
QUALITIES = (9, 24, 40, 56, 72)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The paper's ablations at NANO's widths.")
    parser.add_argument("pictures", nargs="+", help="pictures or folders to evaluate on")
    parser.add_argument("--data", nargs="+", required=True, help="folders or archives to train on")
    parser.add_argument("--steps", type=int, required=True, help="of each training run")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each ablation (default: 3)")
    parser.add_argument("--batch", type=int, default=4, help="crops per step (default: 4)")
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="runs at a time, which share the cores (default: 1)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("experiments/out/ablations"), help="default: experiments/out/ablations"
    )
    return parser.parse_args()


def main() -> None:
    given = arguments()
    keep_pages()
    torch.set_num_threads(max(1, torch.get_num_threads() // given.jobs))
    changes: dict[str, list[float]] = {name: [] for name in ABLATIONS}  # of each seed; BD-rates in per cent
    spawning = get_context("spawn")  # torch's threads don't survive a fork
    # A process for each run: its pictures and models leave memory with it.
    with spawning.Pool(given.jobs, initializer=end_with_parent, maxtasksperchild=1) as pool:
        runs = [
            [pool.apply_async(train_one, (name, seed, torch.get_num_threads(), given)) for name in ABLATIONS]
            for seed in range(given.seeds)
        ]
        for seed, trained in enumerate(runs):
            for run in trained:
                run.get()
            for name, percent in changes_of(seed, given).items():
                changes[name].append(percent)
            print(table(changes, given.steps), flush=True)


def train_one(name: str, seed: int, threads: int, given: argparse.Namespace) -> None:
    """Trains one ablation with one seed, or goes on with it."""
    torch.set_num_threads(threads)
    config = replace(ABLATIONS[name][0], name=name)
    options = Options(config, crop=CROP, batch=given.batch, evaluate=0, seed=seed)
    train(options, given.data, given.out / f"seed-{seed}" / name, steps=given.steps, resume=True)


def changes_of(seed: int, given: argparse.Namespace) -> dict[str, float]:
    """The BD-rates of the models of one seed against its reference, where the curves overlap."""
    folder = given.out / f"seed-{seed}"
    models = [str(folder / name) for name in ABLATIONS]
    evaluation = Evaluation(models=models, codecs=(), qualities=QUALITIES, side_by_side=0)
    results = evaluate(find_pictures(given.pictures), folder / "report", evaluation)
    found = results.bd_rate["psnr"].get("reference", {})
    return {name: found[name].percent for name in ABLATIONS if name in found}


def table(changes: dict[str, list[float]], steps: int) -> str:
    """A row for each ablation, from the BD-rates of its seeds."""
    seeds = max(map(len, changes.values()))
    heads = ["ablation", "kMACs/px", f"BD-rate after {steps} steps, {seeds} seeds", "", "published"]
    rows = []
    for name, percents in changes.items():
        config, published = ABLATIONS[name]
        cost = f"{sum(kmacs(config).values()):.2f}"
        rows.append([name, cost, *summary(percents), published] if name != "reference" else [name, cost, "", "", "0"])
    return markdown(heads, rows)


def summary(percents: list[float]) -> tuple[str, str]:
    """The mean and its standard error, and what follows from them."""
    if len(percents) < 2:
        return (f"{percents[0]:+.2f}%" if percents else "-", "no conclusion")
    middle, error = mean(percents), stdev(percents) / math.sqrt(len(percents))
    verdict = "no conclusion" if abs(middle) <= 2 * error else "more bits" if middle > 0 else "fewer bits"
    return f"{middle:+.2f} ± {error:.2f}%", verdict


if __name__ == "__main__":
    main()
