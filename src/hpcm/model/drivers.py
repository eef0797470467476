"""The drivers of the coding loop: what the latent is at each step.

A driver is called once per step with the step's means and scales on its lattice and returns the decoded latent at the
step's places, zero elsewhere. The three below differ only in where the symbol comes from, so that estimate, encoder
and decoder can't drift apart. The hyper latent z is coded by the same drivers, in one step.

Shapes: means, scales and the result [B, C, h, w] on the lattice of the step's scale; the symbols of a step are one
vector in the order row, column, channel of that lattice. Latents are in units of their quantisation step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .rate import likelihood, likelihood_by_cdf, round_through, uniform_noise
from .schedule import Plan, Step


class StepSymbols(NamedTuple):
    """The symbols of one step, int32 [n], and the scales they are coded with, float32 [n]."""

    values: np.ndarray
    scales: np.ndarray


Pop = Callable[[np.ndarray], np.ndarray]  # scales float32 [n] -> symbols int32 [n], from a bitstream


@dataclass(frozen=True)
class Places:
    """Where a step codes: a mask [1, C, h, w] and those of its places that touch the picture, [1, C or 1, h, w]."""

    mask: Tensor
    inside: Tensor | None = None

    @cached_property
    def index(self) -> Tensor:
        """Positions of the coded places in the raveled [h, w, C] array, int64 [n]."""
        coded = self.mask if self.inside is None else self.mask & self.inside
        return coded.permute(0, 2, 3, 1).reshape(-1).nonzero().squeeze(1)


class Estimating:
    """Rounds the latent at hand with straight-through gradients and remembers the parameters of every place."""

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
        """Of every place, [B, C, h, w]: with uniform noise for training, of the rounded latent otherwise.

        `formula`: `Config.likelihood`.
        """
        residual = self.pyramid[-1] - self.means
        residual = uniform_noise(residual) if noise else residual.round()
        return (likelihood_by_cdf if formula == "cdf" else likelihood)(residual, self.scales)


class Recording:
    """Rounds the latent at hand and keeps the symbols, step by step."""

    def __init__(self, pyramid: Sequence[Tensor], places: Sequence[Places]) -> None:
        self.pyramid, self.places = pyramid, places
        self.symbols: list[StepSymbols] = []

    def __call__(self, step: Step, means: Tensor, scales: Tensor) -> Tensor:
        places = self.places[step.index]
        values = _pick((self.pyramid[step.scale] - means).round(), places)
        self.symbols.append(StepSymbols(values.to(torch.int32).cpu().numpy(), _pick(scales, places).cpu().numpy()))
        return _decoded(values, means, places)


class Replaying:
    """Takes the symbols from a bitstream."""

    def __init__(self, pop: Pop, places: Sequence[Places]) -> None:
        self.pop, self.places = pop, places

    def __call__(self, step: Step, means: Tensor, scales: Tensor) -> Tensor:
        places = self.places[step.index]
        values = self.pop(_pick(scales, places).cpu().numpy())
        return _decoded(torch.from_numpy(values).to(means), means, places)


def _pick(x: Tensor, places: Places) -> Tensor:
    """The values of x [1, C, h, w] at the coded places, [n]."""
    return x.permute(0, 2, 3, 1).reshape(-1).index_select(0, places.index)


def _decoded(values: Tensor, means: Tensor, places: Places) -> Tensor:
    """symbol + mean at the step's places; where a place isn't coded the symbol is 0, so that it takes its mean."""
    _, channels, height, width = means.shape
    symbols = means.new_zeros(height * width * channels).index_copy_(0, places.index, values)
    return (symbols.reshape(1, height, width, channels).permute(0, 3, 1, 2) + means) * places.mask


def inside_mask(size: tuple[int, int], inside: tuple[int, int], device: torch.device) -> Tensor:
    """True for the first `inside` rows and columns, [1, 1, h, w]."""
    mask = torch.zeros(1, 1, *size, dtype=torch.bool, device=device)
    mask[:, :, : inside[0], : inside[1]] = True
    return mask


@lru_cache(maxsize=32)
def latent_places(plan: Plan, inside: tuple[int, int] | None) -> list[Places]:
    """The places of every step; `inside`: rows and columns of y that touch the picture (all of them if None)."""
    if inside is None or inside == plan.sizes[-1]:
        return [Places(mask) for mask in plan.masks]
    whole = inside_mask(plan.sizes[-1], inside, plan.device).float().expand(1, plan.config.M, -1, -1)
    touching = [level > 0 for level in plan.pyramid(whole)]
    return [Places(mask, touching[step.scale]) for step, mask in zip(plan.steps, plan.masks, strict=True)]


@lru_cache(maxsize=32)
def hyper_places(
    channels: int, size: tuple[int, int], inside: tuple[int, int] | None, device: torch.device
) -> list[Places]:
    """The one step of the hyper latent."""
    mask = torch.ones(1, channels, *size, dtype=torch.bool, device=device)
    return [Places(mask, None if inside is None else inside_mask(size, inside, device))]
