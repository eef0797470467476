"""What a model or its training might do otherwise, for compare.py: each variant is a `Run` that differs in one point.

Those that change the network take the first weights of the model that they change, so that both begin as one function
where that is possible.

Shapes: as in hpcm.nn.hpcm; N, M, W: channels of z, of y, and of the first stage.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hpcm.model.config import CELL, PICTURE_CHANNELS
from hpcm.model.find import find
from hpcm.model.order import Step
from hpcm.nn.drivers import Driver
from hpcm.nn.estimating import Estimating
from hpcm.nn.exact.make_exact import make_floating
from hpcm.nn.gains import KNOTS, between
from hpcm.nn.hpcm import HPCM, HYPER_STEP, size_of
from hpcm.nn.rate import likelihood, round_through
from hpcm.nn.schedule import Plan
from hpcm.nn.weights import load_model
from hpcm.train.loss import Loss, importances, rate_distortion
from hpcm.train.muon import matrices_of
from hpcm.train.own_loss import OwnLoss
from hpcm.train.run import Run
from hpcm.train.start import UNIT

CELL_NUMBERS = PICTURE_CHANNELS * CELL**2
HALF = CELL // 2
TEACHER = "lite-mse"
OF_TEACHER = 0.5  # share of the teacher's picture in what a distilled model is compared with
OF_LATENTS = 0.25  # weight of the distance of latents, as an error of pixels


class Changed(Run):
    """A run of another network."""

    network_type: type[HPCM] = HPCM

    def _first_model(self) -> tuple[HPCM, str]:
        first, origin = super()._first_model()
        model = self.network_type(self.config)
        model.load_state_dict(first.state_dict(), strict=False)
        take = getattr(model, "take", None)
        if take:
            take(first)
        return model, origin


# ---- resampling -----------------------------------------------------------------------------------------------------


def haar_matrix() -> Tensor:
    """The orthonormal Haar transform of the cells of PixelUnshuffle, three octaves, [192, 192]."""
    octave = torch.tensor([[1.0, 1.0], [1.0, -1.0]]) / 2**0.5
    rows = torch.eye(CELL)
    length = CELL
    while length > 1:
        low_and_high = torch.zeros(length, length)
        for k in range(length // 2):
            low_and_high[k, 2 * k : 2 * k + 2] = octave[0]
            low_and_high[length // 2 + k, 2 * k : 2 * k + 2] = octave[1]
        rows[:length] = low_and_high @ rows[:length]
        length //= 2
    return torch.kron(torch.eye(PICTURE_CHANNELS), torch.kron(rows, rows))


class Haar(HPCM):
    """The cells go through a fixed Haar transform before the first convolution, and after the last one.

    Muon's steps don't change under an orthogonal transform of a convolution's channels, so only the biases, which Adam
    trains, can make a difference beyond rounding.
    """

    def take(self, first: HPCM) -> None:
        haar = haar_matrix()[:, :, None, None]
        self.register_buffer("haar", haar)
        stem, head = first.g_a[1], first.g_s[-2]
        with torch.no_grad():
            self.g_a[1].weight.copy_(F.conv2d(stem.weight, haar))  # W H^T: its inputs are H x now
            self.g_s[-2].weight.copy_(F.conv2d(head.weight.transpose(0, 1), haar).transpose(0, 1))
            self.g_s[-2].bias.copy_(haar[:, :, 0, 0] @ head.bias)

    def analyse(self, x: Tensor) -> Tensor:
        cells = F.conv2d(self.g_a[0](x), self.haar)
        return self.g_a[1:](cells).float()

    def synthesise(self, y_hat: Tensor) -> Tensor:
        cells = F.conv2d(self.g_s[:-1](y_hat), self.haar.transpose(0, 1))
        return self.g_s[-1](cells).float()


class LappedAnalysis(nn.Module):
    """Convolves windows of 16x16 pixels around each 8x8 cell: a 2x2 convolution of cells that are shifted by half."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.Conv2d(CELL_NUMBERS, width, 2)

    def take(self, stem: nn.Conv2d) -> None:
        with torch.no_grad():
            self.project.weight.copy_(of_shifted_cells(stem.weight[:, :, 0, 0]))
            self.project.bias.copy_(stem.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(F.pixel_unshuffle(F.pad(x, (HALF,) * 4, mode="replicate"), CELL))


class LappedSynthesis(nn.Module):
    """The transpose of it: each cell adds a window of 16x16 pixels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.project = nn.ConvTranspose2d(width, CELL_NUMBERS, 2)

    def take(self, head: nn.Conv2d) -> None:
        bias = head.bias.reshape(PICTURE_CHANNELS, CELL, CELL).roll((HALF, HALF), (1, 2))
        with torch.no_grad():
            self.project.weight.copy_(of_shifted_cells(head.weight[:, :, 0, 0].T))
            self.project.bias.copy_(bias.flatten())

    def forward(self, y: Tensor) -> Tensor:
        return F.pixel_shuffle(self.project(y), CELL)[:, :, HALF:-HALF, HALF:-HALF]


def of_shifted_cells(cells: Tensor) -> Tensor:
    """Weights of a cell [W, 192], with zeros around it, as those of four cells shifted by half, [W, 192, 2, 2]."""
    width = cells.shape[0]
    windows = F.pad(cells.reshape(width, PICTURE_CHANNELS, CELL, CELL), (HALF,) * 4)
    return windows.reshape(width, PICTURE_CHANNELS, 2, CELL, 2, CELL).permute(0, 1, 3, 5, 2, 4).reshape(width, -1, 2, 2)


class LappedCells(HPCM):
    """The first and the last layer overlap by half a cell on each side."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.g_a = nn.Sequential(LappedAnalysis(config.analysis[0][1]), *self.g_a[2:])
        self.g_s = nn.Sequential(*self.g_s[:-2], LappedSynthesis(config.synthesis[-1][1]))

    def take(self, first: HPCM) -> None:
        self.g_a = nn.Sequential(self.g_a[0], *first.g_a[2:])
        self.g_s = nn.Sequential(*first.g_s[:-2], self.g_s[-1])
        self.g_a[0].take(first.g_a[1])
        self.g_s[-1].take(first.g_s[-2])


class LappedLatents(HPCM):
    """The layers between 8x8 cells and latents are 4x4 instead of 2x2, so that they overlap."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        (_, wide), (_, M) = config.analysis
        (_, _), (_, wide_out) = config.synthesis
        self.squeeze, self.spread = self._places()
        self.g_a[self.squeeze] = nn.Conv2d(wide, M, 4, stride=2, padding=1)
        self.g_s[self.spread] = nn.ConvTranspose2d(M, wide_out, 4, stride=2, padding=1)

    def _places(self) -> tuple[int, int]:
        """Where the two layers are in g_a and in g_s."""
        down = max(k for k, layer in enumerate(self.g_a) if isinstance(layer, nn.Conv2d))
        up = next(k for k, layer in enumerate(self.g_s) if isinstance(layer, nn.ConvTranspose2d))
        return down, up

    def load_state_dict(self, state: Any, strict: bool = True, assign: bool = False) -> Any:
        """Weights of 2x2 become the middle of 4x4."""
        wide = {}
        for name in (f"g_a.{self.squeeze}.weight", f"g_s.{self.spread}.weight"):
            wide[name] = F.pad(state[name], (1, 1, 1, 1)) if state[name].shape[-1] == 2 else state[name]
        return super().load_state_dict({**state, **wide}, strict, assign)


# ---- entropy model --------------------------------------------------------------------------------------------------


class LevelPrior(HPCM):
    """The distribution of z depends on the quality level by more than its gain."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.z_shifts = nn.Parameter(torch.zeros(KNOTS, config.N))
        self.z_stretches = nn.Parameter(torch.ones(KNOTS, config.N))

    def hyper_decode(self, drive: Driver, size: tuple[int, int], level: Tensor) -> Tensor:
        gain, inverse = self.gains_of("z", level)
        shape = (level.shape[0], self.config.N, *size)
        shift, stretch = (between(knots, level, self.config.levels) for knots in (self.z_shifts, self.z_stretches))
        means, scales = (self.z_means + shift) * gain, self.z_scales * stretch * gain
        return self.hyper_synthesise(drive(HYPER_STEP, means.expand(shape), scales.expand(shape)) * inverse)


class HyperScales(HPCM):
    """Scales are those of the hyper path at every step; the context gives means alone."""

    def _code_latent(self, plan: Plan, hyper: Tensor, drive: Driver, level: Tensor, steps: int | None) -> Tensor:
        hypers = plan.hyper_pyramid(hyper)
        gain, _ = self.gains_of("y", level)

        def by_hyper(step: Step, means: Tensor, _: Tensor) -> Tensor:
            return drive(step, means, hypers[step.scale][:, : self.config.M] * gain)

        return super()._code_latent(plan, hyper, by_hyper, level, steps)


class RoundedRate(HPCM):
    """The rate in training is that of rounded latents, with straight-through gradients, not of noisy ones."""

    def forward(self, x: Tensor, level: Tensor | float | None = None) -> dict[str, Any]:
        assert isinstance(level, Tensor)
        y = self.analyse(x)
        z = self.gains_of("z", level)[0] * self.hyper_analyse(y)
        size = size_of(y)
        places, plan = self.places(size), self.plan(size)
        estimates = {
            "y": Estimating(plan.pyramid(self.gains_of("y", level)[0] * y), places.latent, plan),
            "z": Estimating([z], places.hyper),
        }
        y_hat = self.code(estimates["z"], estimates["y"], size, level)
        rounded = {
            name: likelihood(round_through(estimate.pyramid[-1] - estimate.means), estimate.scales)
            for name, estimate in estimates.items()
        }
        return {"x_hat": self.synthesise(y_hat), "likelihoods": rounded}


# ---- training -------------------------------------------------------------------------------------------------------


class SOAP(Run):
    """SOAP (Vyas et al., arXiv 2409.11321) instead of Muon; `pip install --no-deps pytorch-optimizer`."""

    def _optimizer(self) -> torch.optim.Optimizer:
        from pytorch_optimizer import SOAP as Optimizer

        matrices = matrices_of(self.model)
        return Both(
            Optimizer([p for p in self.model.parameters() if id(p) in matrices], lr=self.rate, weight_decay=0.0),
            torch.optim.Adam([p for p in self.model.parameters() if id(p) not in matrices], self.rate, fused=True),
        )


class Both(torch.optim.Optimizer):
    """Two optimizers as one; the rate is a tensor of the run."""

    def __init__(self, first: torch.optim.Optimizer, second: torch.optim.Optimizer) -> None:
        self.both = first, second
        super().__init__([group for one in self.both for group in one.param_groups], {})

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        soap, adam = self.both
        for group in soap.param_groups:
            group["lr"] = float(adam.param_groups[0]["lr"])  # the package takes no tensor
        soap.step()
        adam.step()


class DistilledModel(HPCM):
    """A student, with a linear map of its latents to the teacher's, which only training needs."""

    def __init__(self, config: Any, teacher_width: int) -> None:
        super().__init__(config)
        self.to_teacher = nn.Conv2d(config.M, teacher_width, 1)


class Distilled(Run):
    """Learns from the picture that a larger model decodes at the same level, besides the original."""

    of_latents = 0.0

    def _first_model(self) -> tuple[HPCM, str]:
        loaded = load_model(find(TEACHER)).model
        self.teacher = make_floating(loaded).eval().requires_grad_(False).to(memory_format=torch.channels_last)
        first, origin = super()._first_model()
        model = DistilledModel(self.config, self.teacher.config.M)
        model.load_state_dict(first.state_dict(), strict=False)
        return model, origin

    def loss(self, x: Tensor, level: Tensor) -> Loss:
        kept: list[Tensor] = []
        both = (self.model.g_s, self.teacher.g_s)
        hooks = [synthesis.register_forward_pre_hook(lambda _, given: kept.append(given[0])) for synthesis in both]
        with torch.autocast(self.team.device.type, torch.bfloat16, enabled=self.bf16):
            out: dict[str, Any] = self.model(x, level)
            with torch.no_grad():
                shown = self.teacher(x, level)["x_hat"].float()
        for hook in hooks:
            hook.remove()
        pixels = x.shape[2] * x.shape[3]
        mse, of_teacher = ((out["x_hat"] - one).square().mean((1, 2, 3)) for one in (x, shown))
        distorted = (1 - OF_TEACHER) * mse + OF_TEACHER * of_teacher
        if self.of_latents:
            ours, theirs = kept
            distance = (self.model.to_teacher(ours) - theirs).square().sum((1, 2, 3)) * UNIT**2
            distorted = distorted + self.of_latents * distance / (PICTURE_CHANNELS * pixels)
        weight = self.config.weight_of(level, self.options.loss)
        importance = importances(self.config, level, self.options.balance)
        distortion = OwnLoss(lambda *_: 255**2 * distorted)
        return rate_distortion(x, out["x_hat"], out["likelihoods"], weight, distortion, importance)


class DistilledLatents(Distilled):
    """Learns from the teacher's latents, too."""

    of_latents = OF_LATENTS


def run_of(network: type[HPCM]) -> type[Run]:
    """The run that trains a network of this class."""
    return type(network.__name__, (Changed,), {"network_type": network})
