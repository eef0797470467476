"""The state of a training run, and one step of it.

The crops of a step, their quality levels and the noise of each batch are functions of the seed, the step's number and
the batch's number within the step. So a resumed run needs no random states to go on with the same losses, and a step
is the same whether its batches are taken by one process after another or by several at once.
"""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint as recomputed

from ..engine.torch import load_model, save
from ..errors import TrainingError, UsageError
from ..model import find as weights
from ..model.config import Config
from ..nn.exact.make_exact import make_floating
from ..nn.hpcm import HPCM
from ..nn.layers import DWConvRB, PConvRB
from . import checkpoint, fsdp
from .checkpoint import State
from .data import Photographs
from .device import choose_precision
from .grow import grow
from .loss import Loss, importances, rate_distortion
from .muon import Muon
from .options import Options
from .pool import Draw
from .start import pca_start
from .team import Team

START_CROPS, START_SIDE = 256, 128  # crops for the PCA start, and their side at most
MAX_SKIPPED = 50  # non-finite steps in a row after which a run stops
LEVELS, NOISE, START = 3, 4, 5  # purposes of random numbers, as in archive/dataset.py
# Options that the weights file tells as its provenance:
WHAT, HOW = ("config", "loss", "balance", "mix", "crop"), ("batch", "accumulate", "optimizer", "rate", "schedule")
TOLD = (*WHAT, *HOW, "average", "seed")


class Run:
    """Model, average, optimizer and position; from `state`, which a checkpoint holds, or from the start."""

    def __init__(
        self, options: Options, config: Config, photographs: Photographs, team: Team, state: State | None = None
    ) -> None:
        torch.manual_seed(options.seed)
        self.options, self.config, self.photographs, self.team = options, config, photographs, team
        self.model = HPCM(config)
        self.resumed = state is not None
        self.origin = ""  # the model that was fine-tuned or has grown
        if state is None:
            self._start()
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.shared_out = options.fsdp and team.size > 1
        for model in (self.model, self.average):
            if self.shared_out:
                fsdp.shard(model, team)
            else:
                model.to(device=team.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.step = self.crops = 0
        self.seconds = 0.0
        self.skipped, self.in_a_row = torch.zeros((), device=team.device), torch.zeros((), device=team.device)
        self.totals = torch.zeros(4, dtype=torch.float64, device=team.device)  # loss, bpp, mse, batches since a log
        bf16, self.precision = choose_precision(options.precision, team.device)
        self.bf16 = bool(*team.agree(bf16))
        self.options = replace(options, precision="bf16" if self.bf16 else "float32")  # a resumed run doesn't measure
        self.optimizer = self._optimizer()
        if state is not None:
            self._restore(fsdp.scatter(state, self.model) if self.shared_out else state)
        if options.recompute:
            _recompute(self.model)
        if options.compile:
            if self.shared_out:
                raise UsageError("--compile and --fsdp don't go together")
            _compile(self.model)
        self.parallel = DistributedDataParallel(self.model) if team.size > 1 and not self.shared_out else None
        self.network = self.parallel or self.model

    def _start(self) -> None:
        """The first weights: of a weights file (of this or a smaller model), principal components, or torch's own."""
        options = self.options
        if options.init:
            model, _, file = load_model(weights.find(options.init))
            self.origin = f"{file.name} {file.hash.hex()}"
            model = make_floating(model)
            if model.config.name != self.config.name:
                grow(model, self.model, self._start_crops())
                return
            missing = self.model.load_state_dict(model.state_dict(), strict=False).missing_keys
            if missing:
                raise UsageError(f"{options.init} lacks {', '.join(missing[:3])}: it can't be trained further")
        elif self.config.stem == "unshuffle8" and self.config.levels > 1:
            pca_start(self.model, self._start_crops())

    def _optimizer(self) -> torch.optim.Optimizer:
        if self.options.optimizer == "adam":
            return torch.optim.Adam(self.model.parameters(), self.options.rate, fused=True)
        if self.shared_out:
            raise UsageError("--fsdp needs --optimizer adam: Muon needs whole matrices")
        return Muon(self.model, self.options.rate, torch.bfloat16 if self.bf16 else torch.float32)

    def _start_crops(self) -> Tensor:
        rng = np.random.default_rng((self.options.seed, START))
        return self.photographs.pool(0).draw(rng, START_CROPS, min(START_SIDE, self.options.crop)).cut().cpu()

    # ---- one step ---------------------------------------------------------------------------------------------------

    def learn(self, rate: float) -> None:
        """One step at a learning rate."""
        draw, levels = self.draw()
        self.optimizer.zero_grad()
        for part in range(self.options.accumulate):
            x, level = self.batch(draw, levels, part)
            with self._apart(part):
                loss = self.loss(x, level)
                (loss.total / self.options.accumulate).backward()
            values = torch.stack([*(value.detach() for value in loss), torch.ones_like(loss.total)])
            self.totals += torch.where(torch.isfinite(values).all(), values, 0.0)
        self.update(rate)

    def draw(self) -> tuple[Draw, Tensor]:
        """The crops of the step, over all processes, and their quality levels."""
        options = self.options
        count = options.batch * options.accumulate * self.team.size
        rng = np.random.default_rng((options.seed, LEVELS, self.step))
        levels = torch.from_numpy(rng.random(count, dtype=np.float32)) * (self.config.levels - 1)
        return self.photographs.draw(self.step, count, options.crop, options.downscale), levels

    def batch(self, draw: Draw, levels: Tensor, part: int) -> tuple[Tensor, Tensor]:
        """Crops [B, 3, crop, crop] and levels [B] of this process's batch number `part`; seeds the batch's noise."""
        number = part * self.team.size + self.team.rank
        seed = np.random.SeedSequence((self.options.seed, NOISE, self.step, number)).generate_state(1, np.uint64)
        torch.manual_seed(int(seed[0] >> 1))
        mine = slice(number * self.options.batch, (number + 1) * self.options.batch)
        device = self.team.device
        return draw.cut(mine).to(device, non_blocking=True), levels[mine].to(device, non_blocking=True)

    def loss(self, x: Tensor, level: Tensor) -> Loss:
        with torch.autocast(self.team.device.type, torch.bfloat16, enabled=self.bf16):
            out: dict[str, Any] = self.network(x, level)
        weight = self.config.weight_of(level, self.options.loss)
        importance = importances(self.config, level, self.options.balance)
        return rate_distortion(x, out["x_hat"], out["likelihoods"], weight, self.options.loss, importance)

    def update(self, rate: float) -> None:
        """The optimizer and the moving average; a gradient that isn't finite changes nothing.

        With Adam no device waits for that.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip)
        if self.shared_out:
            norm = norm.full_tensor()  # type: ignore[attr-defined]
        bad = (~torch.isfinite(norm)).float()
        self.optimizer.found_inf = bad  # type: ignore[attr-defined]  # as torch.amp.GradScaler tells a fused optimizer
        self.optimizer.step()
        self.skipped += bad
        self.in_a_row = (self.in_a_row + bad) * bad
        self.step += 1
        self.crops += self.options.batch * self.options.accumulate * self.team.size
        share = 1 - min(self.options.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), share)

    def check(self) -> None:
        """Raises TrainingError when too many steps in a row were skipped."""
        if self.in_a_row > MAX_SKIPPED:
            raise TrainingError(
                f"{int(self.in_a_row)} steps in a row had a gradient that isn't finite: resume with a lower --rate"
            )

    def _apart(self, part: int) -> AbstractContextManager[None]:
        """Processes exchange gradients only after the last batch of a step."""
        if self.parallel is None or part == self.options.accumulate - 1:
            return nullcontext()
        return cast(AbstractContextManager[None], self.parallel.no_sync())

    # ---- what stays -------------------------------------------------------------------------------------------------

    def state(self) -> State:
        """All that a checkpoint holds; where it is shared out, all processes ask and the first one gets it."""
        state = {
            "config": self.config.to_dict(),
            "origin": self.origin,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "position": {
                "step": self.step,
                "crops": self.crops,
                "seconds": self.seconds,
                "skipped": int(self.skipped),
                "in_a_row": int(self.in_a_row),
                "totals": self.totals.cpu(),
            },
        }
        return fsdp.gather(state, self.team) if self.shared_out else state

    def _restore(self, state: State) -> None:
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        if len(state["optimizer"]["param_groups"]) != len(self.optimizer.param_groups):
            raise UsageError(
                f"the run was trained with another optimizer: leave out --optimizer {self.options.optimizer}"
            )
        self.optimizer.load_state_dict(state["optimizer"])
        self.origin = state["origin"]
        position = state["position"]
        self.step, self.crops, self.seconds = position["step"], position["crops"], position["seconds"]
        self.skipped += position["skipped"]
        self.in_a_row += position["in_a_row"]
        self.totals += position["totals"].to(self.totals)

    def save(self, folder: Path) -> None:
        """The first process writes the checkpoint and the averaged weights, each at once or not at all."""
        if not (self.team.first or self.shared_out):
            return
        state = self.state()
        if not self.team.first:
            return
        checkpoint.write(state, folder)
        provenance = {name: getattr(self.options, name) for name in TOLD}
        provenance |= {"steps": self.step, "crops": self.crops, "seconds": round(self.seconds)}
        if self.origin:
            provenance["init"] = self.origin
        average = fsdp.model_of(self.config, state["average"]) if self.shared_out else self.average
        save(average, folder / weights.RUN_WEIGHTS, provenance)


def _compile(model: HPCM) -> None:
    """Compiles the networks; the loop over coding steps between them stays as it is."""
    for part in (model.g_a, model.g_s, model.h_a, model.h_s, *model.priors):
        part.compile()


def _recompute(model: HPCM) -> None:
    """Keeps only the inputs of residual blocks for the backward pass: less memory, a third more time."""
    for block in model.modules():
        if isinstance(block, (PConvRB, DWConvRB)):
            forward = partial(recomputed, block.forward, use_reentrant=False, preserve_rng_state=False)
            block.forward = forward  # type: ignore[method-assign]
