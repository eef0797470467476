"""How good a larger model would be: four sizes trained on equal crops.

    python runs/scaling.py train OUT --photos DIR [--screens DIR] [--steps 250 1000]     on a GPU: minutes

As "Scaling Learned Image Compression Models up to 1 Billion" (arXiv 2508.09075) does it for its models, with minutes
instead of weeks. All sizes start from principal components, with one learning rate that falls to zero over the steps.
The loss is lambda * 255^2 * MSE + bits per pixel of held-out photographs: the geometric mean over pictures and levels.
"""

import argparse
import json
import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import train_gpu

from hpcm.coding.config import LITE, NANO, Config, Prior
from hpcm.eval.bench import kmacs
from hpcm.model.hpcm import HPCM
from hpcm.train.start import pca_start

RATE, WARMUP = 3e-3, 200
STARTS = 256  # crops for the principal components


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
    device, feeds, held = train_gpu.prepared(given)
    ladder(given, device, feeds, held)


def ladder(given: argparse.Namespace, device: torch.device, feeds: list, held: list[np.ndarray]) -> None:
    """Trains each size for each number of steps and appends what came to OUT/losses.jsonl."""
    drawn = train_gpu.draws(given, feeds)
    crops = torch.cat([pool.cut(STARTS // len(drawn), side).cpu() for pool, count, side in drawn if count])
    for config in SIZES:
        torch.manual_seed(0)
        model = HPCM(config)
        pca_start(model, crops)
        trainer = train_gpu.Trainer(model, "mse", drawn, device)
        first = [t.detach().clone() for t in trainer.optimizer.state()]
        for steps in given.steps:
            trainer.restore(first)
            begin = time.time()
            told = trained(trainer, steps)
            seconds = time.time() - begin
            row = {"name": config.name, "kmacs": sum(kmacs(config).values()), "crops": steps * given.batch}
            row |= {"loss": math.exp(trainer.judge(held)), "crops_per_second": row["crops"] / seconds}
            print(row, told, flush=True)
            with (given.run / "losses.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
        del trainer, first, model
        torch.cuda.empty_cache()


def trained(trainer: train_gpu.Trainer, steps: int) -> dict[str, float]:
    for step in range(steps):
        trainer.optimizer.rate.fill_(RATE * min(1, (step + 1) / WARMUP) * (1 - step / steps))
        trainer.replay()
    return trainer.told()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    training = commands.add_parser("train")
    training.add_argument("run", type=Path, help="folder for the losses")
    training.add_argument("--photos", type=Path, required=True, help="folder of .tar archives of photographs")
    training.add_argument("--screens", type=Path, help="folder of .tar archives of screens and pages")
    training.add_argument("--steps", type=int, nargs="+", default=[250, 1000])
    training.add_argument("--batch", type=int, default=64)
    training.set_defaults(do=train, share=0.15, shrunk=0.2)
    given = parser.parse_args()
    given.do(given)


if __name__ == "__main__":
    main()
