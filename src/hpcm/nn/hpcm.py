"""HPCM in torch: the networks, of any model on any device, and THE loop over coding steps.

    x --g_a--> y --h_a--> z --(code)--> z_hat --h_s--> hyper --(code_latent: step by step)--> y_hat --g_s--> x_hat

What y is at each step the loop asks a driver: `Recording` rounds a y and keeps the symbols, `Replaying` takes them from
a bitstream, `Estimating` (in training) adds up bits. So learning, encoding and decoding are the same lines.

Shapes: x [B, 3, H, W] in 0..1 with H, W multiples of `config.multiple`; y [B, M, H/16, W/16]; z [B, N, H/64, W/64];
hyper, context, psi [B, 2M, ...] (scales first, then means); level [B].

Types: the networks compute in the type of the weights, or in autocast's; latents, context, rate and x_hat are float32
also where that is a 16-bit type, and float64 where the weights are.

Units: with several quality levels the networks see y in the same units at every level. Only for rounding it is
multiplied by the level's gain; the rounded values are multiplied by a learned inverse of the gain right away.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..model.config import LATENTS_PER_Z, Config
from ..model.layers import TRANSFORMS
from ..model.order import Step, steps_of
from .context import Adaptor, ParameterNet, WindowAttention
from .drivers import Driver, Places, hyper_places, latent_places
from .estimating import Estimating
from .exact import grid
from .exact.torch_switches import arithmetic
from .gains import Gain, pair, widened
from .inputs import check_pictures, levels_of
from .schedule import Plan, plan_for
from .transforms import analysis, hyper_analysis, hyper_synthesis, synthesis

HYPER_STEP = Step(index=0, scale=0, begins_scale=True)  # what z is coded in


class AllPlaces(NamedTuple):
    """What the steps of a latent code: the one of z, and those of y."""

    hyper: list[Places]
    latent: list[Places]


class HPCM(nn.Module):
    """An HPCM model of any size; `config` decides."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.g_a, self.g_s = analysis(config), synthesis(config)
        self.h_a, self.h_s = hyper_analysis(config), hyper_synthesis(config)
        self.z_means = nn.Parameter(torch.zeros(1, config.N, 1, 1))
        self.z_scales = nn.Parameter(torch.ones(1, config.N, 1, 1))
        # Step 0 codes with the hyper parameters themselves; every later one has an adaptor and a gain.
        later = steps_of(config)[1:]
        self.adaptors = nn.ModuleList(Adaptor(config, step.scale) for step in later)
        self.gains = nn.ModuleList(Gain(config.levels, config.prior_width) for _ in later)
        self.priors = nn.ModuleList([ParameterNet(config, config.prior_coarse)])
        if config.prior_fine is not None:
            self.priors.append(ParameterNet(config, config.prior_fine))
        width = 2 * config.M  # of the context: scales and means
        attended = config.windows if config.fusion == "attention" else ()
        self.fusions = nn.ModuleList(WindowAttention(width, window, config.heads) for window in attended)
        changes = 2 if config.context_net else 0  # of the scale: from 1 to 2, from 2 to 3
        self.context_nets = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(changes))
        if config.levels > 1:
            self.y_gain = Gain(config.levels, config.M)
            self.y_inverse = Gain(config.levels, config.M)
            self.z_gain = Gain(config.levels, config.N)
            self.z_inverse = Gain(config.levels, config.N)
        self.products = "float32"  # what exact sums of 24 bits are computed in; see nn/exact/products.py
        if config.carrier:
            grid.attach(self)

    def entropy_path(self) -> Iterator[tuple[str, nn.Module]]:
        """The networks that lead from z_hat to means and scales, by name: those that must be exact."""
        for name in ("h_s", "adaptors", "priors", "context_nets", "fusions"):
            yield name, getattr(self, name)

    def transforms(self) -> Iterator[tuple[str, nn.Module]]:
        """The networks that lead from a picture to its latents and back, by name: those that may be exact."""
        for name in TRANSFORMS:
            yield name, getattr(self, name)

    def arrays_by_name(self) -> dict[str, np.ndarray]:
        """All parameters and buffers, float32."""
        return {name: value.detach().cpu().float().numpy() for name, value in self.state_dict().items()}

    @property
    def device(self) -> torch.device:
        return self.z_means.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.z_means.dtype

    # ---- pictures and latents ---------------------------------------------------------------------------------------

    def forward(self, x: Tensor, level: Tensor | float | None = None) -> dict[str, Tensor | dict[str, Tensor]]:
        """Reconstruction and likelihoods, in CompressAI's convention.

        Args:
            x: [B, 3, H, W] in 0..1, of the weights' type; H and W multiples of `config.multiple`.
            level: a number in 0..levels-1, or a tensor [B] of them; by default the middle one. Training draws it per
                picture, between whole levels too.

        Returns {"x_hat": [B, 3, H, W], not clamped, "likelihoods": {"y": [B, M, H/16, W/16], "z": [B, N, H/64, W/64]}}.
        In training mode the rate is that of y plus uniform noise, in evaluation mode that of the rounded y. Raises
        ValueError.
        """
        check_pictures(x, self.z_means, self.config)
        level = levels_of(level, x, self.config.levels)
        y = self.analyse(x)
        z = self.gains_of("z", level)[0] * self.hyper_analyse(y)
        size = size_of(y)
        places, plan = self.places(size), self.plan(size)
        estimate_z = Estimating([z], places.hyper)
        estimate_y = Estimating(plan.pyramid(self.gains_of("y", level)[0] * y), places.latent, plan)
        y_hat = self.code(estimate_z, estimate_y, size, level)
        estimates = {"y": estimate_y, "z": estimate_z}
        formula = self.config.likelihood
        likelihoods = {key: estimate.likelihoods(self.training, formula) for key, estimate in estimates.items()}
        return {"x_hat": self.synthesise(y_hat), "likelihoods": likelihoods}

    # ---- the networks -----------------------------------------------------------------------------------------------

    def analyse(self, x: Tensor) -> Tensor:
        """g_a: x [B, 3, 16h, 16w] in 0..1 -> y [B, M, h, w]."""
        return widened(self.g_a(x))

    def hyper_analyse(self, y: Tensor) -> Tensor:
        """h_a: y [B, M, h, w] -> z [B, N, h/4, w/4]."""
        return widened(self.h_a(y.to(self.dtype)))

    def hyper_synthesise(self, z_hat: Tensor) -> Tensor:
        """h_s: z_hat [B, N, h/4, w/4] -> hyper [B, 2M, h, w]."""
        return widened(self.h_s(z_hat.to(self.dtype)))

    def parameters_of(self, step: Step, context: Tensor, y_hat: Tensor, level: Tensor) -> Tensor:
        """psi [B, 2M, ...] of a step after the first, from the context and what is decoded so far."""
        later = step.index - 1
        adapted = self.adaptors[later](torch.cat((context, y_hat), 1).to(self.dtype))
        prior = self.priors[-1 if step.scale == 2 else 0]  # scale 3, which may have one of its own
        psi = widened(prior(adapted, self.gains[later](level).to(self.dtype)))
        return context + psi if self.config.refine else psi

    def between_scales(self, scale: int, context: Tensor) -> Tensor:
        """The context that was brought to the scale of index 1 or 2, on its way into the next step."""
        return widened(self.context_nets[scale - 1](context.to(self.dtype)))

    def fuse(self, step: Step, psi: Tensor, context: Tensor) -> Tensor:
        """The context of the next step (the paper's progressive context fusion)."""
        if self.config.fusion == "attention":
            return widened(self.fusions[step.scale](psi.to(self.dtype), context.to(self.dtype)))
        return psi if self.config.fusion == "psi" else context

    def synthesise(self, y_hat: Tensor) -> Tensor:
        """g_s: y_hat [B, M, h, w] -> x_hat [B, 3, 16h, 16w], not clamped."""
        return widened(self.g_s(y_hat.to(self.dtype)))

    def gains_of(self, latent: str, level: Tensor) -> tuple[Tensor | float, Tensor | float]:
        """The gain of "y" or "z" at `level`, and its learned inverse, [B, C, 1, 1] each."""
        if self.config.levels == 1:
            return 1.0, 1.0
        gain, inverse = getattr(self, f"{latent}_gain"), getattr(self, f"{latent}_inverse")
        return pair(gain, inverse, level, self.config.interpolation)

    # ---- the loop ---------------------------------------------------------------------------------------------------

    def plan(self, size: tuple[int, int]) -> Plan:
        """The coding schedule for latents of (h, w)."""
        return plan_for(self.config, *size, self.device)

    def places(self, size: tuple[int, int], inside: tuple[int, int] | None = None) -> AllPlaces:
        """What is coded of latents of (h, w), of which `inside` rows and columns touch the picture (None: all)."""
        cells = None if inside is None else hyper_size(inside)
        hyper = hyper_places(self.config.N, hyper_size(size), cells, self.device)
        return AllPlaces(hyper, latent_places(self.plan(size), inside))

    def code(
        self, drive_z: Driver, drive_y: Driver, size: tuple[int, int], level: Tensor, steps: int | None = None
    ) -> Tensor:
        """Goes through all that is coded of latents of (h, w), and returns y_hat; for `steps` see `code_latent`."""
        hyper = self.hyper_decode(drive_z, hyper_size(size), level)
        return self.code_latent(hyper, drive_y, level, steps)

    def hyper_decode(self, drive: Driver, size: tuple[int, int], level: Tensor) -> Tensor:
        """Codes z of `size` in one step and gives the hyper parameters, [B, 2M, h, w]."""
        gain, inverse = self.gains_of("z", level)
        shape = (level.shape[0], self.config.N, *size)
        means, scales = ((widened(values) * gain).expand(shape) for values in (self.z_means, self.z_scales))
        with self._exactly():
            return self.hyper_synthesise(drive(HYPER_STEP, means, scales) * inverse)

    def code_latent(self, hyper: Tensor, drive: Driver, level: Tensor, steps: int | None = None) -> Tensor:
        """Goes through the coding steps, coarse to fine, and returns y_hat (paper, section 3.2 and figure 3).

        Args:
            hyper: [B, 2M, h, w], scales and means.
            drive: gives the latent at each step, in units of the quantisation step.
            level: [B].
            steps: how many are gone through, by default all. After fewer, y_hat is on the lattice of the last one.
        """
        with self._exactly():
            return self._code_latent(self.plan(size_of(hyper)), hyper, drive, level, steps)

    def _code_latent(self, plan: Plan, hyper: Tensor, drive: Driver, level: Tensor, steps: int | None) -> Tensor:
        M = self.config.M
        hypers = plan.hyper_pyramid(hyper)
        gain, inverse = self.gains_of("y", level)
        context = hypers[0]
        y_hat = torch.zeros_like(context[:, :M])
        for step in plan.steps[:steps]:
            if step.begins_scale and step.scale > 0:
                y_hat = plan.scatter(y_hat, torch.zeros_like(hypers[step.scale][:, :M]), step.scale)
                context = plan.scatter(context, hypers[step.scale], step.scale)
                if self.config.context_net:
                    context = self.between_scales(step.scale, context)
            psi = self.parameters_of(step, context, y_hat, level) if step.index else context
            scales, means = psi[:, :M], psi[:, M:]
            y_hat = y_hat + drive(step, means * gain, scales * gain) * inverse
            if step.index and step is not plan.steps[-1]:
                context = self.fuse(step, psi, context)
        return y_hat

    def _exactly(self) -> contextlib.AbstractContextManager[None]:
        """What has to hold while parameters are computed, so that their bits are the same everywhere."""
        return arithmetic(self.device) if self.config.carrier else contextlib.nullcontext()


def size_of(latent: Tensor) -> tuple[int, int]:
    """Rows and columns of a latent. While torch.jit.trace runs, sizes are tensors, by which no plan is found again."""
    return int(latent.shape[2]), int(latent.shape[3])


def hyper_size(size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of z for those of y, or for those of y that touch the picture."""
    return -(-size[0] // LATENTS_PER_Z), -(-size[1] // LATENTS_PER_Z)


@contextlib.contextmanager
def undisturbed(device: torch.device) -> Iterator[None]:
    """Pictures are coded in here, whatever the caller has set up in his process.

    That is without gradients, and without an autocast that he may have switched on: it changes the numbers. Nor is it
    an inference mode: masks that are made here are cached for training too.
    """
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
        yield
