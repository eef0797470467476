"""Training on one GPU as fast as it goes: the whole step is one CUDA graph, and all pictures are in the GPU's memory.

    python runs/train_gpu.py RUN --photos DIR [--screens DIR] [--init NAME|PATH] [--minutes M] [--rate X] [--batch N]
        [--loss mse|ms-ssim|mixed]

For stretches of minutes on a borrowed GPU. On an H100 LITE trained on 1,750 crops of 256 pixels a second with it, 1.6
times as many as in bfloat16 without a graph (2026-11-26; docs/log.md). There is no --resume: it starts from weights,
with a learning rate that falls to zero over the minutes.

- A step draws crops, levels and noise, computes loss and gradients in bfloat16, and makes the steps of Muon and of the
  average.
- DIR is searched for .tar archives of pictures, again and again: those that are moved in later are used from then on,
  so that training can begin before all data is there.
- RUN/deadline, if it is there, holds the time at which to stop, in seconds since 1970, instead of --minutes.
- RUN/model.safetensors is written every minute or so and at the end: for `--model RUN`, `hpcm exact` and `--init`.

A tenth to a fifth of the photographs' crops (--shrunk) are cut 1.5 times as large and reduced. Without a GPU it runs
too, slowly and without the graph: to try it.
"""

import argparse
import copy
import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import gpu_blur
import numpy as np
import torch
from gpu_data import LARGER, Feed, Pool
from torch import Tensor, nn

from hpcm.defaults import LOSSES
from hpcm.engine.torch import load_model, save
from hpcm.model import find as weights
from hpcm.nn.distortion import distortion
from hpcm.nn.exact.make_exact import make_floating
from hpcm.nn.hpcm import HPCM
from hpcm.train.loss import importances, rate_distortion
from hpcm.train.muon import BETAS, EPSILON, MOMENTUM, RMS, matrices_of, orthogonal

WARMUP, AVERAGE, BALANCE, CLIP = 200, 0.999, 0.5, 1.0  # as for `hpcm train`
PIXELS = 400_000_000  # room in each pool
EVERY = {"tell": 10, "judge": 45, "save": 75}  # seconds
STEPS_AT_ONCE = 10  # between looks at the clock


class Optimizer:
    """hpcm.train.muon's Muon and Adam in few kernels, without waiting for the device: the rate is a tensor."""

    def __init__(self, model: nn.Module, average: nn.Module, device: torch.device) -> None:
        turned = matrices_of(model)
        self.all, self.average = list(model.parameters()), list(average.parameters())
        self.matrices = [p for p in self.all if id(p) in turned]
        self.turned = [turned[id(p)] for p in self.matrices]
        self.others = [p for p in self.all if id(p) not in turned]
        self.momentum = [torch.zeros_like(p) for p in self.matrices]
        self.first, self.second = ([torch.zeros_like(p) for p in self.others] for _ in range(2))
        self.rate, self.count = torch.zeros(2, device=device)
        self.dtype = torch.bfloat16 if device.type == "cuda" else torch.float32

    def state(self) -> list[Tensor]:
        return [*self.all, *self.average, *self.momentum, *self.first, *self.second, self.count]

    @torch.no_grad()
    def step(self) -> Tensor:
        """Changes weights and average by the gradients; their norm."""
        norm = torch.stack(torch._foreach_norm([p.grad for p in self.all])).norm()
        torch._foreach_mul_([p.grad for p in self.all], (CLIP / (norm + 1e-6)).clamp(max=1))
        self._muon([p.grad for p in self.matrices])
        self._adam([p.grad for p in self.others])
        share = (9 / (10 + self.count)).clamp(min=1 - AVERAGE)  # the average soon forgets the first weights
        torch._foreach_add_(self.average, torch._foreach_mul(torch._foreach_sub(self.all, self.average), share))
        return norm

    def _muon(self, grads: list[Tensor]) -> None:
        torch._foreach_lerp_(self.momentum, grads, 1 - MOMENTUM)
        alike = defaultdict(list)
        for p, update, turned in zip(
            self.matrices, torch._foreach_lerp(grads, self.momentum, MOMENTUM), self.turned, strict=True
        ):
            target, update = (t.transpose(0, 1) if turned else t for t in (p, update))
            alike[update.flatten(1).shape].append((target, update.flatten(1)))
        targets, steps = [], []
        for shape, pairs in alike.items():
            made = orthogonal(torch.stack([matrix for _, matrix in pairs]).to(self.dtype)).float()
            made *= self.rate * (RMS * max(shape) ** 0.5)
            targets += [target for target, _ in pairs]
            steps += [step.view(target.shape) for (target, _), step in zip(pairs, made.unbind(), strict=True)]
        torch._foreach_sub_(targets, steps)

    def _adam(self, grads: list[Tensor]) -> None:
        self.count += 1
        torch._foreach_lerp_(self.first, grads, 1 - BETAS[0])
        torch._foreach_mul_(self.second, BETAS[1])
        torch._foreach_addcmul_(self.second, grads, grads, value=1 - BETAS[1])
        root = torch._foreach_div(self.second, 1 - BETAS[1] ** self.count)
        torch._foreach_sqrt_(root)
        torch._foreach_add_(root, EPSILON)
        step = torch._foreach_div(self.first, root)
        torch._foreach_mul_(step, self.rate / (1 - BETAS[0] ** self.count))
        torch._foreach_sub_(self.others, step)


class Trainer:
    """The step, and what it is told."""

    def __init__(self, model: HPCM, loss: str, draws: list[tuple[Pool, int, int]], device: torch.device) -> None:
        self.loss, self.draws, self.device = loss, draws, device
        self.config = model.config
        self.model = model.requires_grad_(True).train().to(device, memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.model).requires_grad_(False).eval()
        self.optimizer = Optimizer(self.model, self.average, device)
        self.totals = torch.zeros(5, dtype=torch.float64, device=device)  # loss, bpp, mse, norm, steps
        self.replay = self._captured() if device.type == "cuda" else self.step

    def step(self) -> None:
        crops = [pool.cut(count, side) for pool, count, side in self.draws if count]
        x = torch.cat(crops).contiguous(memory_format=torch.channels_last)
        level = torch.rand(len(x), device=self.device) * (self.config.levels - 1)
        out = self.forward(self.model, x, level)
        importance = importances(self.config, level, BALANCE)
        weight = self.config.weight_of(level, self.loss)
        loss = rate_distortion(x, out["x_hat"].float(), out["likelihoods"], weight, self.loss, importance)
        for p in self.optimizer.all:
            p.grad = None
        loss.total.backward()
        norm = self.optimizer.step()
        self.totals += torch.stack([value.detach().double() for value in (*loss, norm, torch.ones_like(norm))])

    def forward(self, model: nn.Module, x: Tensor, level: Tensor) -> dict:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            return model(x, level)

    def _captured(self) -> Callable[[], None]:
        """A step as a graph; the weights are then what they were."""
        before = [t.detach().clone() for t in self.optimizer.state()]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):  # kernels are chosen, masks and tables made
                self.step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        for p in self.optimizer.all:
            p.grad = None
        with torch.cuda.graph(graph):
            self.step()
        self.restore(before)
        return graph.replay

    @torch.no_grad()
    def restore(self, state: list[Tensor]) -> None:
        torch._foreach_copy_(self.optimizer.state(), state)
        self.totals.zero_()

    @torch.no_grad()
    def sound(self, before: list[Tensor]) -> list[Tensor]:
        """A copy of the state if all of it is finite; otherwise the state goes back to what it was `before`."""
        if all(bool(torch.isfinite(t).all()) for t in self.optimizer.state()):
            return [t.detach().clone() for t in self.optimizer.state()]
        print("a gradient wasn't finite: back by some seconds", flush=True)
        self.restore(before)
        return before

    def told(self) -> dict[str, float]:
        """Means since the last call."""
        *sums, steps = self.totals.tolist()
        self.totals.zero_()
        loss, bpp, mse, norm = (value / max(steps, 1) for value in sums)
        return {"loss": loss, "bpp": bpp, "psnr": -10 * math.log10(max(mse, 1e-12)), "norm": norm}

    @torch.no_grad()
    def judge(self, pictures: list[np.ndarray]) -> float:
        """Mean log loss of pictures at four levels, by the average."""
        x = torch.from_numpy(np.stack(pictures)).to(self.device).permute(0, 3, 1, 2).float().div(255)
        logs = []
        for share in (1 / 8, 3 / 8, 5 / 8, 7 / 8):
            level = torch.full((len(x),), share * (self.config.levels - 1), device=self.device)
            out = self.forward(self.average, x, level)
            pixels = x.shape[2] * x.shape[3]
            bpp = sum(-torch.log2(p).sum((1, 2, 3)) for p in out["likelihoods"].values()) / pixels
            weight = self.config.weight_of(level, self.loss)
            logs.append((weight * distortion(x, out["x_hat"].float().clamp(0, 1), self.loss) + bpp).log().mean())
        return float(torch.stack(logs).mean())


def main() -> None:
    given = arguments()
    given.run.mkdir(parents=True, exist_ok=True)
    device, feeds, held = prepared(given)
    model = make_floating(load_model(weights.find(given.init)).model)
    run(given, Trainer(model, given.loss, draws(given, feeds), device), feeds, held)


def prepared(given: argparse.Namespace) -> tuple[torch.device, list[Feed], list[np.ndarray]]:
    """The device, the pictures on it (first of photographs), and the photographs that are held out."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.backends.cudnn.benchmark = True
    with suppress(ImportError):  # without Triton a tenth slower
        import gpu_tail

        gpu_tail.install(device)
    gpu_blur.install(device)
    held: list[np.ndarray] = []
    feeds = [Feed(given.photos, Pool(device, PIXELS, given.crop), held)]
    feeds += [Feed(given.screens, Pool(device, PIXELS, given.crop))] if given.screens else []
    for feed in feeds:
        feed.look()
        feed.pool.publish()
        threading.Thread(target=feed.go_on, daemon=True).start()
    return device, feeds, held


def draws(given: argparse.Namespace, feeds: list[Feed]) -> list[tuple[Pool, int, int]]:
    """What a batch consists of: from which pool, how many crops, of which side."""
    shrunk = round(given.batch * given.shrunk)
    screens = round(given.batch * given.share) if given.screens else 0
    photos, crop = feeds[0].pool, given.crop
    larger = round(LARGER * crop)
    return [(photos, given.batch - shrunk - screens, crop), (photos, shrunk, larger), (feeds[-1].pool, screens, crop)]


def run(given: argparse.Namespace, trainer: Trainer, feeds: list[Feed], held: list[np.ndarray]) -> None:
    begin, step = time.time(), 0
    last = dict.fromkeys(EVERY, begin)
    good = [t.detach().clone() for t in trainer.optimizer.state()]
    while (progress := (time.time() - begin) / (deadline(given, begin) - begin)) < 1:
        trainer.optimizer.rate.fill_(given.rate * min(1, (step + 1) / WARMUP) * (1 - progress))
        for _ in range(STEPS_AT_ONCE):
            trainer.replay()
        step += STEPS_AT_ONCE
        float(trainer.totals[0])  # waits for the device, so that the clock is right
        for feed in feeds:
            if feed.fresh:
                feed.fresh = False
                feed.pool.publish()
        due = {what for what, seconds in EVERY.items() if time.time() - last[what] > seconds}
        last |= dict.fromkeys(due, time.time())
        if "tell" in due:
            told = trainer.told()
            speed = step * given.batch / (time.time() - begin)
            print(
                f"{progress:6.1%} step {step} {speed:.0f} crops/s",
                {k: round(v, 4) for k, v in told.items()},
                flush=True,
            )
            good = trainer.sound(good)
        if "judge" in due and held:
            print(
                f"step {step} mean log loss of {len(held)} held-out photographs {trainer.judge(held):.4f}", flush=True
            )
        if "save" in due:
            good = trainer.sound(good)
            keep(given, trainer, step)
    trainer.sound(good)
    keep(given, trainer, step)
    print(f"the end: {step} steps, mean log loss {trainer.judge(held) if held else math.nan:.4f}")


def deadline(given: argparse.Namespace, begin: float) -> float:
    file = given.run / "deadline"
    return float(file.read_text()) if file.exists() else begin + 60 * given.minutes


def keep(given: argparse.Namespace, trainer: Trainer, step: int) -> None:
    told = {"config": trainer.config.name, "loss": given.loss, "balance": BALANCE, "average": AVERAGE}
    told |= {"optimizer": "muon", "rate": given.rate, "crop": given.crop, "batch": given.batch}
    told |= {"steps": step, "crops": step * given.batch}
    file = weights.find(given.init)
    save(trainer.average, given.run / weights.RUN_WEIGHTS, told | {"init": f"{file.name} {file.hash.hex()}"})


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder for the weights")
    parser.add_argument("--photos", type=Path, required=True, help="folder of .tar archives of photographs")
    parser.add_argument("--screens", type=Path, help="folder of .tar archives of screens and pages")
    parser.add_argument("--init", default="lite-mse", help="a model's name, weights file or run")
    parser.add_argument("--loss", choices=LOSSES, default="mse", help="the distortion")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--rate", type=float, default=2e-3, help="learning rate at the beginning")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--crop", type=int, default=256, help="side of the crops in pixels, at most 256")
    parser.add_argument("--share", type=float, default=0.15, help="of the crops that screens have")
    parser.add_argument("--shrunk", type=float, default=0.2, help="share of the crops that are cut larger and reduced")
    return parser.parse_args()


if __name__ == "__main__":
    main()
