"""The network: analyse, synthesise, THE loop over coding steps, and forward.

    x --g_a--> y --h_a--> z --(code)--> z_hat --h_s--> hyper --(code_latent: step by step)--> y_hat --g_s--> x_hat

The loop stands once, in `HPCM.code_latent`. What y is at each step it asks a driver: `drivers.Estimating` rounds the y
at hand and adds up bits, `Recording` also keeps the symbols, `Replaying` takes them from a bitstream.

Shapes: x [B, 3, H, W] in 0..1 with H, W multiples of `config.multiple`; y [B, M, H/16, W/16]; z [B, N, H/64, W/64];
hyper, context, psi [B, 2M, ...] (scales first, then means); level [B].

Units: with several quality levels the networks see y in the same units at every level. Only for rounding it is
multiplied by the level's gain; the rounded values are multiplied by a learned inverse of the gain right away.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from . import grid
from .arithmetic import arithmetic
from .config import HYPER_STRIDE, LATENT_STRIDE, Config
from .context import Adaptor, Gain, ParameterNet, WindowAttention
from .drivers import Estimating, Places, Pop, Recording, Replaying, StepSymbols, hyper_places, latent_places
from .schedule import Plan, Step, plan_for
from .transforms import analysis, hyper_analysis, hyper_synthesis, synthesis

Driver = Callable[[Step, Tensor, Tensor], Tensor]  # (step, means, scales) -> y_hat at that step's places, 0 elsewhere
HYPER_STEP = Step(index=0, scale=0, turn=0)
LATENTS_PER_HYPER = HYPER_STRIDE // LATENT_STRIDE


class HPCM(nn.Module):
    """An HPCM model of any size; `config` decides. See the module's docstring for shapes."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.g_a, self.g_s = analysis(config), synthesis(config)
        self.h_a, self.h_s = hyper_analysis(config), hyper_synthesis(config)
        self.z_means = nn.Parameter(torch.zeros(1, config.N, 1, 1))
        self.z_scales = nn.Parameter(torch.ones(1, config.N, 1, 1))
        # Step 0 codes with the hyper parameters themselves; every later one has an adaptor and a gain.
        later = [scale for scale, count in enumerate(config.steps) for _ in range(count)][1:]
        self.adaptors = nn.ModuleList(Adaptor(config, scale) for scale in later)
        self.gains = nn.ModuleList(Gain(config.levels, config.prior_width) for _ in later)
        priors = [config.prior_coarse] + ([config.prior_fine] if config.prior_fine else [])
        self.priors = nn.ModuleList(ParameterNet(config, prior) for prior in priors)
        width = 2 * config.M
        attended = config.windows if config.fusion == "attention" else ()
        self.fusions = nn.ModuleList(WindowAttention(width, window, config.heads) for window in attended)
        self.context_nets = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(2 if config.context_net else 0))
        if config.levels > 1:
            self.y_gain, self.y_inverse = Gain(config.levels, config.M), Gain(config.levels, config.M)
            self.z_gain, self.z_inverse = Gain(config.levels, config.N), Gain(config.levels, config.N)
        if config.carrier:
            grid.attach(self, config.carrier)

    def entropy_path(self) -> Iterator[tuple[str, nn.Module]]:
        """The networks that lead from z_hat to means and scales, by name: those that must be exact."""
        for name in ("h_s", "adaptors", "priors", "context_nets", "fusions"):
            yield name, getattr(self, name)

    def drop_encoder(self) -> None:
        """Leaves only what decoding needs: g_a and h_a are gone."""
        del self.g_a, self.h_a

    # ---- pictures and latents ---------------------------------------------------------------------------------------

    def forward(self, x: Tensor, level: Tensor | None = None) -> dict[str, Tensor | dict[str, Tensor]]:
        """Reconstruction and likelihoods, in CompressAI's convention.

        Args:
            x: [B, 3, H, W] in 0..1; H and W multiples of `config.multiple`, else ValueError.
            level: [B] in 0..levels-1; by default the middle one. Training draws it per picture.

        Returns {"x_hat": [B, 3, H, W], not clamped, "likelihoods": {"y": [B, M, H/16, W/16], "z": [B, N, H/64, W/64]}}.
        In training mode the rate is that of y plus uniform noise, in evaluation mode that of the rounded y.
        """
        multiple = self.config.multiple
        if x.shape[2] % multiple or x.shape[3] % multiple:
            raise ValueError(
                f"a picture of {x.shape[2]} x {x.shape[3]}: {self.config.name} needs multiples of {multiple}"
            )
        if level is None:
            level = torch.full((x.shape[0],), (self.config.levels - 1) // 2, device=x.device)
        y = self.analyse(x)
        z = self._z_gains(level)[0] * self.h_a(y).float()
        places = hyper_places(self.config.N, _size(z), None, x.device)
        estimate_z = Estimating([z], places)
        hyper = self.hyper_decode(estimate_z, _size(z), level)
        plan = self.plan(_size(y))
        estimate_y = Estimating(plan.pyramid(self._y_gains(level)[0] * y), latent_places(plan, None), plan)
        y_hat = self.code_latent(hyper, estimate_y, level)
        estimates = {"y": estimate_y, "z": estimate_z}
        formula = self.config.likelihood
        likelihoods = {key: estimate.likelihoods(self.training, formula) for key, estimate in estimates.items()}
        return {"x_hat": self.synthesise(y_hat), "likelihoods": likelihoods}

    def analyse(self, x: Tensor) -> Tensor:
        """x [B, 3, 16h, 16w] in 0..1 -> y [B, M, h, w], float32."""
        return self.g_a(x).float()

    def synthesise(self, y_hat: Tensor) -> Tensor:
        """y_hat [B, M, h, w] -> x_hat [B, 3, 16h, 16w], float32, not clamped."""
        return self.g_s(y_hat).float()

    # ---- latents and symbols ----------------------------------------------------------------------------------------

    def encode(self, y: Tensor, level: int, inside: tuple[int, int] | None = None) -> tuple[list[StepSymbols], Tensor]:
        """The symbols of one picture's latent, in the order in which the decoder asks for them, and y_hat.

        Args:
            y: [1, M, h, w] as `analyse` gives it; h and w multiples of `config.multiple` / 16.
            level: the quality level.
            inside: rows and columns of y that touch the picture. What lies outside is padding: it costs nothing and
                takes its mean on both sides. By default all of y.
        """
        levels = torch.full((1,), level, device=y.device)
        z = self._z_gains(levels)[0] * self.h_a(y).float()
        record_z = Recording([z], self._hyper_places(_size(y), inside))
        hyper = self.hyper_decode(record_z, _size(z), levels)
        plan = self.plan(_size(y))
        record_y = Recording(plan.pyramid(self._y_gains(levels)[0] * y), latent_places(plan, inside))
        y_hat = self.code_latent(hyper, record_y, levels)
        return record_z.symbols + record_y.symbols, y_hat

    def decode(self, pop: Pop, size: tuple[int, int], level: int, inside: tuple[int, int] | None = None) -> Tensor:
        """y_hat [1, M, h, w] from a source of symbols that is asked step by step.

        Args:
            pop: scales float32 [n] -> symbols int32 [n].
            size: (h, w) of y; `level` and `inside` as for `encode`.
        """
        device = self.z_means.device
        levels = torch.full((1,), level, device=device)
        hyper_size = (size[0] // LATENTS_PER_HYPER, size[1] // LATENTS_PER_HYPER)
        hyper = self.hyper_decode(Replaying(pop, self._hyper_places(size, inside)), hyper_size, levels)
        return self.code_latent(hyper, Replaying(pop, latent_places(self.plan(size), inside)), levels)

    def hyper_decode(self, drive: Driver, size: tuple[int, int], level: Tensor) -> Tensor:
        """Codes z of `size` in one step and gives the hyper parameters, [B, 2M, h, w]."""
        gain, inverse = self._z_gains(level)
        shape = (level.shape[0], self.config.N, *size)
        means, scales = (self.z_means * gain).expand(shape), (self.z_scales * gain).expand(shape)
        with self._arithmetic():
            return self.h_s(drive(HYPER_STEP, means, scales) * inverse).float()

    # ---- the loop ---------------------------------------------------------------------------------------------------

    def code_latent(self, hyper: Tensor, drive: Driver, level: Tensor) -> Tensor:
        """Goes through the coding steps, coarse to fine, and returns y_hat (paper, section 3.2 and figure 3).

        Args:
            hyper: [B, 2M, h, w], scales and means.
            drive: gives the latent at each step, in units of the quantisation step.
            level: [B].
        """
        with self._arithmetic():
            return self._code_latent(self.plan(_size(hyper)), hyper, drive, level)

    def _code_latent(self, plan: Plan, hyper: Tensor, drive: Driver, level: Tensor) -> Tensor:
        hypers = plan.hyper_pyramid(hyper)
        gain, inverse = self._y_gains(level)
        context = hypers[0]
        y_hat = torch.zeros_like(context[:, : self.config.M])
        for step in plan.steps:
            if step.turn == 0 and step.scale > 0:
                y_hat = plan.scatter(y_hat, torch.zeros_like(hypers[step.scale][:, : self.config.M]), step.scale)
                context = plan.scatter(context, hypers[step.scale], step.scale)
                if self.context_nets:
                    context = self.context_nets[step.scale - 1](context).float()
            psi = self._psi(step, context, y_hat, level) if step.index else context
            scales, means = psi.chunk(2, 1)
            y_hat = y_hat + drive(step, means * gain, scales * gain) * inverse
            if step.index and step is not plan.steps[-1]:
                context = self._fused(step, psi, context)
        return y_hat

    def _psi(self, step: Step, context: Tensor, y_hat: Tensor, level: Tensor) -> Tensor:
        """The parameters of a step, [B, 2M, ...], from the context and what is decoded so far."""
        later = step.index - 1
        adapted = self.adaptors[later](torch.cat((context, y_hat), 1))
        prior = self.priors[-1 if step.scale == 2 else 0]
        psi: Tensor = prior(adapted, self.gains[later](level)).float()
        return context + psi if self.config.refine else psi

    def _fused(self, step: Step, psi: Tensor, context: Tensor) -> Tensor:
        """Progressive context fusion: the context of the next step."""
        if self.config.fusion == "attention":
            return self.fusions[step.scale](psi, context).float()
        return psi if self.config.fusion == "psi" else context

    # ---- helpers ----------------------------------------------------------------------------------------------------

    def plan(self, size: tuple[int, int]) -> Plan:
        """The coding schedule for latents of (h, w)."""
        return plan_for(self.config, *size, self.z_means.device)

    def _arithmetic(self) -> contextlib.AbstractContextManager[None]:
        """Exact, for an exact model."""
        return arithmetic(self.z_means.device) if self.config.carrier else contextlib.nullcontext()

    def _hyper_places(self, size: tuple[int, int], inside: tuple[int, int] | None) -> list[Places]:
        """The places of z for y of `size`, of which `inside` rows and columns touch the picture."""
        cells = inside and tuple(-(-side // LATENTS_PER_HYPER) for side in inside)
        hyper_size = tuple(side // LATENTS_PER_HYPER for side in size)
        return hyper_places(self.config.N, hyper_size, cells, self.z_means.device)

    def _y_gains(self, level: Tensor) -> tuple[Tensor | float, Tensor | float]:
        return self._pair(self.y_gain, self.y_inverse, level) if self.config.levels > 1 else (1.0, 1.0)

    def _z_gains(self, level: Tensor) -> tuple[Tensor | float, Tensor | float]:
        return self._pair(self.z_gain, self.z_inverse, level) if self.config.levels > 1 else (1.0, 1.0)

    def _pair(self, gain: Gain, inverse: Gain, level: Tensor) -> tuple[Tensor, Tensor]:
        paired = self.config.interpolation == "paired"
        return gain(level), gain.inverse(inverse, level) if paired else inverse(level)


def _size(x: Tensor) -> tuple[int, int]:
    return x.shape[2], x.shape[3]
