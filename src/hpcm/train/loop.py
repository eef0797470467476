"""`hpcm train`: the training loop, readable top to bottom.

A run is a folder: `checkpoint.pt` (model, average, optimizer, random states, position; written atomically every few
minutes), `log.jsonl` (a line every LOG_EVERY steps) and `model.safetensors` (the averaged weights, ready for
`hpcm compress --model RUN`).
"""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import TrainingError, UsageError
from ..model.config import MODELS, Config
from ..model.hpcm import HPCM
from ..weights import save
from .data import Photographs
from .loss import Loss, lambdas, rate_distortion
from .start import pca_start

LOG_EVERY = 100  # steps
CHECKPOINT_EVERY = 180.0  # seconds
START_CROPS = (256, 128)  # crops for the PCA start, and their side
MAX_SKIPPED = 50  # non-finite steps in a row after which a run stops
HELD_OUT = 16  # photographs kept from training, for `validate`


@dataclass(frozen=True)
class Options:
    """What a run is trained with."""

    config: str = "nano"
    crop: int = 128
    batch: int = 8
    rate: float = 1e-3  # of Adam, after the warm-up
    warmup: int = 200  # steps
    decay: float = 0.3  # the last part of the budget, in which the rate falls to zero
    clip: float = 1.0  # norm of the gradient
    average: float = 0.999  # decay of the weights' moving average
    bf16: bool = False  # autocast; the rate stays in float32
    seed: int = 0


class Run:
    """The state of a run: everything that a checkpoint holds."""

    def __init__(self, options: Options, photographs: Photographs) -> None:
        torch.manual_seed(options.seed)
        self.options = options
        self.config: Config = MODELS[options.config]
        self.rng = np.random.default_rng(options.seed)
        self.photographs = photographs
        self.held_out = photographs.hold_out(HELD_OUT)
        self.model = HPCM(self.config)
        if self.config.stem == "unshuffle8":
            pca_start(self.model, photographs.crops(*START_CROPS, self.rng))
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.optimizer = torch.optim.Adam(self.model.parameters(), options.rate, fused=True)
        self.step = self.crops = self.skipped = self.skipped_in_a_row = 0
        self.seconds = 0.0

    def learn(self, rate: float) -> Loss:
        """One step at a learning rate."""
        options = self.options
        x = self.photographs.crops(options.batch, options.crop, self.rng)
        level = torch.rand(options.batch) * (self.config.levels - 1)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16, enabled=options.bf16):
            out: dict[str, Any] = self.model(x, level)
        loss = rate_distortion(x, out["x_hat"], out["likelihoods"], lambdas(self.config, level))
        self.optimizer.zero_grad()
        loss.total.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), options.clip)
        self._update(bool(torch.isfinite(norm)))
        return loss

    def _update(self, finite: bool) -> None:
        self.step += 1
        self.crops += self.options.batch
        if not finite:
            self.skipped += 1
            self.skipped_in_a_row += 1
            if self.skipped_in_a_row > MAX_SKIPPED:
                raise TrainingError(f"{MAX_SKIPPED} steps in a row had a gradient that isn't finite: lower --rate")
            return
        self.skipped_in_a_row = 0
        self.optimizer.step()
        share = 1 - min(self.options.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), share)

    def state(self) -> dict[str, Any]:
        return {
            "options": asdict(self.options),
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": {"torch": torch.get_rng_state(), "numpy": json.dumps(self.rng.bit_generator.state)},
            "position": {"step": self.step, "crops": self.crops, "skipped": self.skipped, "seconds": self.seconds},
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"]["torch"])
        self.rng.bit_generator.state = json.loads(state["random"]["numpy"])
        for name, value in state["position"].items():
            setattr(self, name, value)

    @torch.no_grad()
    def validate(self, levels: Sequence[int] = (8, 24, 40, 56)) -> list[dict[str, float]]:
        """Rate (estimated) and PSNR of the averaged weights on the photographs that were held out, per level."""
        model = self.average.eval()
        rows = []
        for level in levels:
            losses = []
            for x in self.held_out:
                out: dict[str, Any] = model(x, torch.tensor([float(level)]))
                weight = lambdas(self.config, torch.tensor([float(level)]))
                losses.append(rate_distortion(x, out["x_hat"].clamp(0, 1), out["likelihoods"], weight))
            psnr = float(np.mean([-10 * np.log10(float(loss.mse)) for loss in losses]))
            mean = [float(torch.stack(values).mean()) for values in zip(*losses, strict=True)]
            rows.append({"level": level, "bpp": round(mean[1], 4), "psnr": round(psnr, 3), "loss": round(mean[0], 4)})
        return rows

    def save(self, folder: Path) -> None:
        """Writes the checkpoint and the averaged weights, each to a temporary name first."""
        temporary = folder / "checkpoint.pt.part"
        torch.save(self.state(), temporary)
        os.replace(temporary, folder / "checkpoint.pt")
        provenance = {**asdict(self.options), "steps": self.step, "crops": self.crops, "seconds": round(self.seconds)}
        save(self.average, folder / "model.safetensors", provenance)


def learning_rate(options: Options, step: int, progress: float) -> float:
    """Warm-up by step, then constant, then straight down to zero over the last `decay` of the budget."""
    rise = min(1.0, (step + 1) / options.warmup)
    fall = min(1.0, (1 - progress) / options.decay) if options.decay else 1.0
    return options.rate * rise * max(fall, 0.0)


def train(
    options: Options,
    data: Sequence[str | Path],
    folder: str | Path,
    *,
    minutes: float | None = None,
    steps: int | None = None,
    resume: bool = False,
    say: Callable[[str], None] = print,
) -> Run:
    """Trains until the budget (minutes of this call, or steps in all) is used up; see the module's docstring.

    With `resume`, goes on from the folder's checkpoint if there is one. `options` given then replace the saved ones,
    except for the model.
    """
    folder = Path(folder)
    run = Run(options, Photographs(data, options.crop))
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.pt"
    if resume and checkpoint.exists():
        run.restore(torch.load(checkpoint, weights_only=True))
        say(f"resumed at step {run.step}")
    elif checkpoint.exists():
        raise UsageError(f"{checkpoint} exists: go on with --resume or choose another --out")
    begin, saved, before = time.monotonic(), time.monotonic(), run.seconds
    recent: list[Tensor] = []

    def progress() -> float:
        by_time = (time.monotonic() - begin) / (60 * minutes) if minutes else 0.0
        return max(by_time, run.step / steps if steps else 0.0)

    while (done := progress()) < 1:
        loss = run.learn(learning_rate(options, run.step, done))
        recent.append(torch.stack([value.detach() for value in loss]))
        run.seconds = before + time.monotonic() - begin
        if run.step % LOG_EVERY == 0:
            _log(run, recent, done, folder, say)
            recent = []
        if time.monotonic() - saved > CHECKPOINT_EVERY:
            run.save(folder)
            saved = time.monotonic()
    run.save(folder)
    return run


def _log(run: Run, recent: list[Tensor], progress: float, folder: Path, say: Callable[[str], None]) -> None:
    total, bpp, mse = torch.stack(recent).mean(0).tolist()
    row = {"step": run.step, "seconds": round(run.seconds, 1), "loss": total, "bpp": bpp, "mse": mse}
    with (folder / "log.jsonl").open("a") as log:
        log.write(json.dumps({**row, "progress": progress, "skipped": run.skipped}) + "\n")
    say(
        f"step {run.step}  {run.step / max(run.seconds, 1e-9):.1f} steps/s  loss {total:.4f}  bpp {bpp:.4f}  "
        f"mse {mse * 255**2:.1f}  {100 * progress:.0f}%"
    )
