"""The driver that estimates: rounding with gradients, and the likelihoods of every place."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..model.order import Step
from .drivers import Places
from .rate import likelihood, likelihood_by_cdf, round_through, uniform_noise
from .schedule import Plan


class Estimating:
    """Rounds the latent with straight-through gradients and remembers the parameters of every place."""

    def __init__(self, pyramid: Sequence[Tensor], places: Sequence[Places], plan: Plan | None = None) -> None:
        self.pyramid, self.places, self.plan = pyramid, places, plan
        self.scale = 0
        self.means = self.scales = torch.zeros_like(pyramid[0])

    def __call__(self, step: Step, means: Tensor, scales: Tensor) -> Tensor:
        if step.scale != self.scale and self.plan is not None:
            zeros = torch.zeros_like(self.pyramid[step.scale])
            self.means = self.plan.scatter(self.means, zeros, step.scale)
            self.scales = self.plan.scatter(self.scales, zeros, step.scale)
            self.scale = step.scale
        mask = self.places[step.index].mask
        self.means = torch.where(mask, means, self.means)
        self.scales = torch.where(mask, scales, self.scales)
        return (round_through(self.pyramid[step.scale] - means) + means) * mask

    def likelihoods(self, noise: bool, formula: str) -> Tensor:
        """The likelihoods of all places, [B, C, h, w]: with uniform noise for training, else of the rounded latent.

        `formula`: `Config.likelihood`.
        """
        residual = self.pyramid[-1] - self.means
        residual = uniform_noise(residual) if noise else residual.round()
        return (likelihood_by_cdf if formula == "cdf" else likelihood)(residual, self.scales)
