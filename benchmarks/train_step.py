"""Where the time of a training step goes: data, forward, backward, optimizer; and what the rate's formula costs.

    python benchmarks/train_step.py DATA... [--config nano] [--batch 8] [--crop 128] [--precision auto]
        [--device auto] [--threads N] [--steps 30] [--output FILE]

What is measured, in one process, mean over the steps after five that are not counted; a GPU is waited for after each
part, so that the sum is a little more than a step of `hpcm train` takes:

- data: drawing and cutting the crops, and their way to the device
- forward: the network and the loss;  rate: of these, the likelihoods of y and z
- backward: all gradients
- optimizer: clipping, Muon or Adam, and the moving average

Time is processor time on the CPU (other programs then matter less) and elapsed time on a GPU.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from unittest.mock import patch

import torch

from hpcm.model.config import MODELS
from hpcm.nn.estimating import Estimating
from hpcm.train.data import Photographs
from hpcm.train.device import flops_per_crop, matrix_peak
from hpcm.train.options import config_of, defaults
from hpcm.train.run import Run
from hpcm.train.team import join
from hpcm.util.hardware import keep_pages

WARM_UP = 5  # steps
RATE = 1e-5
PARTS = ("data", "forward", "backward", "optimizer")


class Stopwatch:
    """Adds up the time of parts."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = {}

    def now(self) -> float:
        if self.device.type != "cuda":
            return time.process_time()
        torch.cuda.synchronize(self.device)
        return time.perf_counter()

    @contextmanager
    def part(self, name):
        begin = self.now()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + self.now() - begin

    def watched(self, name: str, function: Callable) -> Callable:
        def watched(*args):
            with self.part(name):
                return function(*args)

        return watched


def measure(run: Run, steps: int) -> dict[str, float]:
    """Seconds per step of each part."""
    watch = Stopwatch(run.team.device)
    with patch.object(Estimating, "likelihoods", watch.watched("rate", Estimating.likelihoods)):
        for step in range(WARM_UP + steps):
            if step == WARM_UP:
                watch.seconds.clear()
            with watch.part("data"):
                x, level = run.batch(*run.draw(), 0)
            with watch.part("forward"):
                loss = run.loss(x, level)
            with watch.part("backward"):
                run.optimizer.zero_grad()
                loss.total.backward()
            with watch.part("optimizer"):
                run.rate.fill_(RATE)
                run.update()
                run.advance()
    return {name: seconds / steps for name, seconds in watch.seconds.items()}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="+", help="folders or tar archives of photographs")
    parser.add_argument("--config", choices=list(MODELS), default="nano")
    parser.add_argument("--batch", type=int)
    parser.add_argument("--crop", type=int)
    parser.add_argument("--precision", choices=("auto", "bf16", "float32"), default="auto")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--output", type=Path, help="a JSON file for the result")
    return parser.parse_args()


def main() -> None:
    given = arguments()
    keep_pages()
    if given.threads:
        torch.set_num_threads(given.threads)
    options = replace(defaults(MODELS[given.config]), precision=given.precision, device=given.device)
    options = replace(options, batch=given.batch or options.batch, crop=given.crop or options.crop)
    with join(options.device) as team:
        photographs = Photographs(given.data, options.crop, device=team.device)
        run = Run(options, config_of(options), photographs, team)
        seconds = measure(run, given.steps)
        peak = matrix_peak(team.device, run.bf16)
    total = sum(seconds[name] for name in PARTS)
    print(f"{given.config}, {options.batch} x {options.crop} x {options.crop}, {team.device.type}; {run.precision}")
    for name, value in seconds.items():
        print(f"{name:>10} {1000 * value:8.2f} ms {100 * value / total:5.1f}%" + "  (of forward)" * (name == "rate"))
    used = flops_per_crop(run.config, options.crop) * options.batch / total
    print(
        f"{'step':>10} {1000 * total:8.2f} ms, {options.batch / total:.1f} crops/s, {100 * used / peak:.0f}% of the",
        end="",
    )
    print(f" {peak / 1e9:.0f} GFLOP/s that matrix products reach")
    if given.output:
        device = torch.cuda.get_device_name() if team.device.type == "cuda" else platform.processor()
        result = {"date": datetime.now(timezone.utc).isoformat(), "device": device, "torch": torch.__version__}
        result |= {"threads": torch.get_num_threads(), "config": given.config, "batch": options.batch}
        result |= {"crop": options.crop, "bf16": run.bf16, "seconds": seconds, "share_of_peak": used / peak}
        given.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
