"""The state of a training run, and one step of it.

The crops of a step, their quality levels and the noise of each batch are functions of the seed, the step's number and
the batch's number within the step. So a resumed run needs no random states to go on with the same losses, and a step
is the same whether its batches are taken by one process after another or by several at once.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint as recomputed

from ..errors import TrainingError, UsageError
from ..model import find as weights
from ..model.config import Config
from ..model.file import SYNTHESIS_OF
from ..model.variants import same_network
from ..nn.exact.make_exact import make_floating
from ..nn.hpcm import HPCM
from ..nn.layers import DWConvRB, PConvRB
from ..nn.weights import load_model, save
from . import checkpoint, fsdp
from .checkpoint import State
from .data import Photographs
from .device import choose_precision
from .graph import Batch, StepGraph
from .grow import grow
from .loss import Loss, importances, rate_distortion
from .muon import Muon
from .options import Options
from .own_loss import OwnLoss
from .parts import train_only, trained
from .pool import Draw
from .start import pca_start
from .team import Team

START_CROPS, START_SIDE = 256, 128  # crops for the PCA start, and their side at most
MAX_SKIPPED = 50  # non-finite steps in a row after which a run stops
LEVELS, NOISE, START = 3, 4, 5  # purposes of random numbers, as in archive/dataset.py
# Options that the weights file holds as its provenance:
PROVENANCE = (
    *("loss", "balance", "mix", "crop"),
    *("batch", "accumulate", "optimizer", "rate", "schedule", "average", "seed"),
)


class Deadline(NamedTuple):
    """When a run must end, and when it began with that in view: seconds since 1970."""

    began: float
    until: float

    def progress(self, now: float) -> float:
        """The share of the time that is over; 1 from the deadline on."""
        return (now - self.began) / (self.until - self.began) if now < self.until else 1.0


class Run:
    """Model, average, optimizer and position; from `state`, which a checkpoint holds, or from the start.

    Raises UsageError for options that don't go together.
    """

    def __init__(
        self,
        options: Options,
        config: Config,
        photographs: Photographs,
        team: Team,
        state: State | None = None,
        own_loss: OwnLoss | None = None,
    ) -> None:
        _check(options, team)
        self.config, self.photographs, self.team = config, photographs, team
        self.resumed = state is not None
        self.sharded = options.fsdp and team.size > 1
        bf16, self.precision = choose_precision(options.precision, team.device)
        self.bf16 = bool(*team.agree(bf16))
        self.options = replace(options, precision="bf16" if self.bf16 else "float32")  # a resumed run doesn't measure
        self.step = self.crops = 0
        self.seconds = 0.0
        self.deadline: Deadline | None = None  # the last one it was trained for
        self.skipped, self.in_a_row = torch.zeros((), device=team.device), torch.zeros((), device=team.device)
        self.totals = torch.zeros(4, dtype=torch.float64, device=team.device)  # loss, bpp, mse, batches since a log
        self.failing = False  # whether steps were skipped when `check` last looked
        self.saved: int | None = None  # step of the checkpoint, if there is one
        self.rate = torch.zeros((), device=team.device)  # a tensor, so that a CUDA graph reads each step's
        self.distortion: str | OwnLoss = own_loss or options.loss
        if own_loss is not None:
            own_loss.prepare(options.crop, team.device, config.levels)

        self.loss_before: str | None = None  # what the model of --init was trained for

        # Each of these needs what the ones before it have made.
        self.synthesis_of = ""  # see model/file.py; counts where the synthesis alone is trained
        self.model, self.origin = self._first_model()
        train_only(self.model, options.train, options.freeze)
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self._place()
        self.optimizer = self._optimizer()
        if state is not None:
            self._restore(fsdp.scatter(state, self.model) if self.sharded else state)
        self._adapt_blocks()
        self.parallel = DistributedDataParallel(self.model) if team.size > 1 and not self.sharded else None
        self.network = self.parallel or self.model
        self.graph = self._recorded() if options.graph else None

    def _first_model(self) -> tuple[HPCM, str]:
        """The model with its first weights, and which model it was fine-tuned or has grown from, if any.

        The weights are those of a file (of this or a smaller model), principal components, or torch's own. A
        checkpoint's come later.
        """
        torch.manual_seed(self.options.seed)
        model = HPCM(self.config)
        if self.resumed:
            return model, ""
        if self.options.init:
            return model, self._take_weights(model, self.options.init)
        if self.config.stem == "unshuffle8" and self.config.levels > 1:
            pca_start(model, self._start_crops())
        return model, ""

    def _take_weights(self, model: HPCM, name: str) -> str:
        """Fills the model from a weights file and returns what that is. Raises UsageError."""
        loaded, _, file = load_model(weights.find(name))
        before = make_floating(loaded)
        is_same = same_network(before.config, self.config)
        if not is_same:
            grow(before, model, self._start_crops())
        elif missing := model.load_state_dict(before.state_dict(), strict=False).missing_keys:
            raise UsageError(f"{name} lacks {', '.join(missing[:3])}: it can't be trained further")
        origin = f"{file.name} {file.hash.hex()}"
        if is_same:
            self.synthesis_of = str(file.provenance.get(SYNTHESIS_OF, origin))
        self.loss_before = file.provenance.get("loss")
        return origin

    def _start_crops(self) -> Tensor:
        rng = np.random.default_rng((self.options.seed, START))
        return self.photographs.pool(0).draw(rng, START_CROPS, min(START_SIDE, self.options.crop)).cut().cpu()

    def _place(self) -> None:
        """Brings model and average to the device, or shares them out among the team."""
        for model in (self.model, self.average):
            if self.sharded:
                fsdp.shard(model, self.team)
            else:
                model.to(device=self.team.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _optimizer(self) -> torch.optim.Optimizer:
        if self.options.optimizer == "adam":
            on_gpu = self.team.device.type == "cuda"  # there a graph may hold it ("capturable")
            parameters = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
            return torch.optim.Adam(parameters, self.rate, fused=True, capturable=on_gpu)
        return Muon(self.model, self.rate, torch.bfloat16 if self.bf16 else torch.float32)

    def _adapt_blocks(self) -> None:
        """Changes how blocks compute, not what; called when the parameters are in place."""
        if self.options.recompute:
            _recompute(self.model)
        if self.options.compile:
            _compile(self.model)

    def _recorded(self) -> StepGraph:
        """The step as a CUDA graph. Crops of NaN warm it up: a step whose gradient isn't finite changes nothing."""
        side = self.options.crop
        x = torch.full((self.options.batch, 3, side, side), math.nan, device=self.team.device)
        level = torch.zeros(self.options.batch, device=self.team.device)
        skipped, in_a_row = self.skipped.clone(), self.in_a_row.clone()
        try:
            graph = StepGraph(self.compute_plainly, (x.contiguous(memory_format=torch.channels_last), level))
        except RuntimeError as error:
            if isinstance(self.distortion, str):
                raise
            why = str(error).partition("\n")[0]
            raise UsageError(f"--graph can't record a step with --loss {self.distortion.name}: {why}") from error
        self.skipped.copy_(skipped)
        self.in_a_row.copy_(in_a_row)
        return graph

    # ---- one step ---------------------------------------------------------------------------------------------------

    def learn(self, rate: float) -> None:
        """One step at a learning rate."""
        draw, levels = self.draw()
        self.rate.fill_(rate)
        compute = self.graph or self.compute_plainly
        compute(self.batch(draw, levels, part) for part in range(self.options.accumulate))
        self.advance()

    def draw(self) -> tuple[Draw, Tensor]:
        """The crops of the step, over all processes, and their quality levels."""
        options = self.options
        count = options.batch * options.accumulate * self.team.size
        rng = np.random.default_rng((options.seed, LEVELS, self.step))
        levels = torch.from_numpy(rng.random(count, dtype=np.float32)) * (self.config.levels - 1)
        return self.photographs.draw(self.step, count, options.crop, options.downscale), levels

    def batch(self, draw: Draw, levels: Tensor, part: int) -> Batch:
        """Crops [B, 3, crop, crop] and levels [B] of this process's batch number `part`; seeds the batch's noise."""
        number = part * self.team.size + self.team.rank
        seed = np.random.SeedSequence((self.options.seed, NOISE, self.step, number)).generate_state(1, np.uint64)
        torch.manual_seed(int(seed[0] >> 1))
        mine = slice(number * self.options.batch, (number + 1) * self.options.batch)
        device = self.team.device
        return draw.cut(mine).to(device, non_blocking=True), levels[mine].to(device, non_blocking=True)

    def compute_plainly(self, batches: Iterable[Batch]) -> None:
        """What the device computes in a step: gradients of all batches, and with them the new weights.

        Nothing here waits for the device, and all that changes from step to step are tensors: so a CUDA graph can
        hold it.
        """
        self.optimizer.zero_grad()
        for part, (x, level) in enumerate(batches):
            with self._apart(part):
                loss = self.loss(x, level)
                (loss.total / self.options.accumulate).backward()
            values = torch.stack([*(value.detach() for value in loss), torch.ones_like(loss.total)])
            self.totals += torch.where(torch.isfinite(values).all(), values, 0.0)
        self.update()

    def loss(self, x: Tensor, level: Tensor) -> Loss:
        with torch.autocast(self.team.device.type, torch.bfloat16, enabled=self.bf16):
            out: dict[str, Any] = self.network(x, level)
        weight = self.config.weight_of(level, self.options.loss)
        importance = importances(self.config, level, self.options.balance)
        return rate_distortion(x, out["x_hat"], out["likelihoods"], weight, self.distortion, importance)

    def update(self) -> None:
        """The optimizer's step; a gradient that isn't finite changes nothing."""
        bad = (~torch.isfinite(self._clip())).float()
        self.optimizer.found_inf = bad  # type: ignore[attr-defined]  # read by fused optimizers, as torch.amp.GradScaler sets it
        self.optimizer.step()
        self.skipped += bad
        self.in_a_row.add_(bad).mul_(bad)

    def _clip(self) -> Tensor:
        """Clips the gradient and returns its norm from before."""
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip)
        return norm.full_tensor() if self.sharded else norm  # type: ignore[attr-defined]

    def advance(self) -> None:
        """Counts a step, and takes its weights into the moving average, which soon forgets the first ones.

        Outside of a graph: the share is a number that changes, and to average takes few kernels.
        """
        self.step += 1
        self.crops += self.options.batch * self.options.accumulate * self.team.size
        share = 1 - min(self.options.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.model.parameters()), share)

    def check(self) -> None:
        """Looks whether steps are skipped; raises TrainingError when too many in a row were."""
        self.failing = int(self.in_a_row) > 0
        if self.in_a_row >= MAX_SKIPPED:
            raise self.broken(f"{int(self.in_a_row)} steps in a row had a gradient that isn't finite")

    def broken(self, what: str) -> TrainingError:
        """The error that ends a run, and from where it can go on."""
        if self.saved is None:
            return TrainingError(f"{what}: begin again with a lower --rate")
        return TrainingError(f"{what}: resume with a lower --rate, from the checkpoint of step {self.saved}")

    def is_sound(self) -> bool:
        """Whether the weights are worth keeping: the gradient that the next step would begin with is finite.

        The gradients of the last step are lost. All processes of a team must ask.
        """
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                parameter.grad.zero_()  # in place: a CUDA graph has its address
        self.loss(*self.batch(*self.draw(), 0)).total.backward()
        return bool(torch.isfinite(self._clip()))

    def _apart(self, part: int) -> AbstractContextManager[None]:
        """Processes exchange gradients only after the last batch of a step."""
        if self.parallel is None or part == self.options.accumulate - 1:
            return nullcontext()
        return cast(AbstractContextManager[None], self.parallel.no_sync())

    # ---- what stays -------------------------------------------------------------------------------------------------

    def state(self) -> State:
        """All that a checkpoint holds; where it is sharded, all processes ask and the first one gets it."""
        state = {
            "config": self.config.to_dict(),
            "origin": self.origin,
            "synthesis_of": self.synthesis_of,
            "trained": trained(self.model),
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "position": {
                "step": self.step,
                "crops": self.crops,
                "seconds": self.seconds,
                "deadline": self.deadline and tuple(self.deadline),
                "skipped": int(self.skipped),
                "in_a_row": int(self.in_a_row),
                "totals": self.totals.cpu(),
            },
        }
        return fsdp.gather(state, self.team) if self.sharded else state

    def _restore(self, state: State) -> None:
        if state["trained"] != trained(self.model):
            raise UsageError("the run trains other parts of the model: leave out --train and --freeze")
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        if len(state["optimizer"]["param_groups"]) != len(self.optimizer.param_groups):
            raise UsageError(
                f"the run was trained with another optimizer: leave out --optimizer {self.options.optimizer}"
            )
        settings = [{k: v for k, v in group.items() if k != "params"} for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, own in zip(self.optimizer.param_groups, settings, strict=True):
            group.update(own)  # the rate's tensor, and what suits this device rather than that of the checkpoint
        self.origin, self.synthesis_of = state["origin"], state["synthesis_of"]
        position = state["position"]
        self.step, self.crops, self.seconds = position["step"], position["crops"], position["seconds"]
        self.deadline = position["deadline"] and Deadline(*position["deadline"])
        self.saved = self.step
        self.skipped += position["skipped"]
        self.in_a_row += position["in_a_row"]
        self.totals += position["totals"].to(self.totals)

    def save(self, folder: Path) -> None:
        """The first process writes the checkpoint and the averaged weights, each at once or not at all."""
        self.saved = self.step
        if not (self.team.first or self.sharded):
            return
        state = self.state()
        if not self.team.first:
            return
        checkpoint.write(state, folder)
        provenance = {name: getattr(self.options, name) for name in PROVENANCE}
        provenance |= {"steps": self.step, "crops": self.crops, "seconds": round(self.seconds)}
        provenance |= {name: value for name in ("train", "freeze") if (value := getattr(self.options, name))}
        if self.origin:
            provenance["init"] = self.origin
        if self.synthesis_of and all(name.startswith("g_s.") for name in trained(self.model)):
            provenance[SYNTHESIS_OF] = self.synthesis_of
        average = fsdp.model_of(self.config, state["average"]) if self.sharded else self.average
        save(average, folder / weights.RUN_WEIGHTS, provenance)


def _check(options: Options, team: Team) -> None:
    """Raises UsageError for options that don't go together, or not with this team."""
    sharded = options.fsdp and team.size > 1
    wrong = (
        (sharded and options.compile, "--compile and --fsdp don't go together"),
        (sharded and options.optimizer == "muon", "--fsdp needs --optimizer adam: Muon needs whole matrices"),
        (options.graph and team.device.type != "cuda", "--graph needs a GPU: leave it out"),
        (options.graph and team.size > 1, "--graph needs a single process"),
        (options.graph and options.accumulate > 1, "--graph takes one batch per step: leave out --accumulate"),
        (options.graph and options.compile, "--graph and --compile don't go together"),
        (options.rescan and team.size > 1, "--rescan needs a single process"),
        (
            options.rescan and options.evaluate and options.held_out is None,
            # A resumed run would hold out others, which it has learned from before.
            "--rescan needs pictures for evaluation that don't change: give --held-out DIR or --evaluate 0",
        ),
    )
    for refused, message in wrong:
        if refused:
            raise UsageError(message)


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
