"""The driver that estimates: rounding with gradients, and the likelihoods of every place."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..model.order import Step
from .drivers import Collected, Places
from .rate import likelihood, likelihood_by_cdf, round_through, uniform_noise
from .schedule import Plan


class Estimating:
    """Rounds the latent with straight-through gradients and remembers the parameters of every place."""

    def __init__(self, pyramid: Sequence[Tensor], places: Sequence[Places], plan: Plan | None = None) -> None:
        self.pyramid, self.places = pyramid, places
        self.collected = Collected(plan)

    def __call__(self, step: Step, means: Tensor, scales: Tensor) -> Tensor:
        mask = self.places[step.index].mask
        self.collected.add(step, mask, means, scales)
        return (round_through(self.pyramid[step.scale] - means) + means) * mask

    @property
    def means(self) -> Tensor:
        """Of all places that were coded, [B, C, h, w]."""
        return self.collected.values[0]

    @property
    def scales(self) -> Tensor:
        """Of all places that were coded, [B, C, h, w]."""
        return self.collected.values[1]

    def likelihoods(self, noise: bool, formula: str) -> Tensor:
        """The likelihoods of all places, [B, C, h, w]: with uniform noise for training, else of the rounded latent.

        `formula`: `Config.likelihood`.
        """
        residual = self.pyramid[-1] - self.means
        residual = uniform_noise(residual) if noise else residual.round()
        return (likelihood_by_cdf if formula == "cdf" else likelihood)(residual, self.scales)
