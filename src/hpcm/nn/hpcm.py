"""The networks in torch, any HPCM model on any device, and forward for training. The loop is nn/loop.py's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from ..model.config import Config
from ..model.layers import TRANSFORMS
from .context import Adaptor, Gain, ParameterNet, WindowAttention
from .drivers import latent_places
from .estimating import Estimating
from .exact import grid
from .exact.torch_switches import arithmetic
from .loop import Loop
from .schedule import Step, steps_of
from .torch_arrays import TorchArrays
from .transforms import analysis, hyper_analysis, hyper_synthesis, synthesis


class HPCM(nn.Module, Loop):
    """An HPCM model of any size; `config` decides. See `nn.loop` for shapes."""

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
        z = self.gains_of("z", level)[0] * self.hyper_analyse(y)
        size, hyper_size = (y.shape[2], y.shape[3]), (z.shape[2], z.shape[3])
        estimate_z = Estimating([z], self.hyper_places(size, None))
        hyper = self.hyper_decode(estimate_z, hyper_size, level)
        plan = self.plan(size)
        estimate_y = Estimating(plan.pyramid(self.gains_of("y", level)[0] * y), latent_places(plan, None), plan)
        y_hat = self.code_latent(hyper, estimate_y, level)
        estimates = {"y": estimate_y, "z": estimate_z}
        formula = self.config.likelihood
        likelihoods = {key: estimate.likelihoods(self.training, formula) for key, estimate in estimates.items()}
        return {"x_hat": self.synthesise(y_hat), "likelihoods": likelihoods}

    # ---- what the loop asks for -------------------------------------------------------------------------------------

    @property
    def arrays(self) -> TorchArrays:
        return TorchArrays(self.z_means.device)

    def analyse(self, x: Tensor) -> Tensor:
        return self.g_a(x).float()

    def hyper_analyse(self, y: Tensor) -> Tensor:
        return self.h_a(y).float()

    def hyper_synthesise(self, z_hat: Tensor) -> Tensor:
        return self.h_s(z_hat).float()

    def parameters_of(self, step: Step, context: Tensor, y_hat: Tensor, level: Tensor) -> Tensor:
        later = step.index - 1
        adapted = self.adaptors[later](torch.cat((context, y_hat), 1))
        prior = self.priors[-1 if step.scale == 2 else 0]
        psi: Tensor = prior(adapted, self.gains[later](level)).float()
        return context + psi if self.config.refine else psi

    def between_scales(self, scale: int, context: Tensor) -> Tensor:
        return self.context_nets[scale - 1](context).float()

    def fuse(self, step: Step, psi: Tensor, context: Tensor) -> Tensor:
        return self.fusions[step.scale](psi, context).float()

    def synthesise(self, y_hat: Tensor) -> Tensor:
        return self.g_s(y_hat).float()

    def numbers(self, name: str) -> Tensor:
        value = getattr(self, name)
        return value.knots if isinstance(value, Gain) else value

    def exactly(self) -> contextlib.AbstractContextManager[None]:
        return arithmetic(self.z_means.device) if self.config.carrier else contextlib.nullcontext()

    @contextlib.contextmanager
    def undisturbed(self) -> Iterator[None]:
        """Without gradients, and without an autocast that the caller may have switched on: it changes the numbers.

        Nor is it an inference mode, whoever set it: masks that are made here are cached for training too.
        """
        with torch.inference_mode(False), torch.no_grad(), torch.autocast(self.z_means.device.type, enabled=False):
            yield
