"""The drivers of the coding loop: what the latent is at each step.

A driver is called once per step with the step's means and scales on its lattice and returns the decoded latent at the
step's places, zero elsewhere. `Recording` and `Replaying`, and `estimating.Estimating`, differ only in where the symbol
comes from, so that estimate, encoder and decoder can't drift apart. The hyper latent z is coded by the same drivers, in
one step.

A *place* here is a single number of a latent: a row, a column and a channel.

Shapes: means, scales and the result [B, C, h, w] on the lattice of the step's scale; the symbols of a step are [B, n],
in the order row, column, channel of that lattice. Latents are in units of their quantisation step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ..model.order import Step
from .kept import kept
from .schedule import PLANS, Plan

Driver = Callable[[Step, Tensor, Tensor], Tensor]  # (step, means, scales) -> y_hat at that step's places, 0 elsewhere


Ask = Callable[[Tensor], Tensor]  # scales [B, n] -> symbols of an integer type [B, n], from a bitstream


@dataclass(frozen=True, eq=False)
class Places:
    """Where a step codes: a mask [1, C, h, w] and those of its places that touch the picture, [1, C or 1, h, w]."""

    mask: Tensor
    inside: Tensor | None = None

    @cached_property
    def index(self) -> Tensor:
        """Positions of the coded places in the raveled [h, w, C] array, int64 [n]: the order of the symbols."""
        coded = self.mask if self.inside is None else self.mask & self.inside
        return _raveled(coded)[0].nonzero()[:, 0]

    @property
    def count(self) -> int:
        """How many are coded."""
        return len(self.index)

    def pick(self, x: Tensor) -> Tensor:
        """The values of x [B, C, h, w] at the coded places, [B, n]."""
        return _raveled(x).index_select(1, self.index)

    def decoded(self, values: Tensor, means: Tensor) -> Tensor:
        """symbol + mean at the step's places; where a place isn't coded the symbol is 0, so that it takes its mean.

        Args:
            values: the symbols, [B, n].
        """
        batch, channels, height, width = means.shape
        latent = means.new_zeros(batch, height * width * channels)
        latent[:, self.index] = values.to(means.dtype)
        latent = latent.reshape(batch, height, width, channels).permute(0, 3, 1, 2)
        return (latent + means) * self.mask


def _raveled(x: Tensor) -> Tensor:
    """[B, C, h, w] -> [B, h * w * C]; no copy of a tensor that is channels-last."""
    return x.permute(0, 2, 3, 1).flatten(1)


class Recording:
    """Rounds a latent and keeps, step by step, the symbols, int32 [B, n], and the scales they are coded with."""

    def __init__(self, pyramid: Sequence[Tensor], places: Sequence[Places]) -> None:
        self.pyramid, self.places = pyramid, places
        self.steps: list[tuple[Tensor, Tensor]] = []

    def __call__(self, step: Step, means: Tensor, scales: Tensor) -> Tensor:
        places, y = self.places[step.index], self.pyramid[step.scale]
        values = (places.pick(y) - places.pick(means)).round()
        self.steps.append((values.int(), places.pick(scales)))
        return places.decoded(values, means)


class Replaying:
    """Takes the symbols from a bitstream."""

    def __init__(self, ask: Ask, places: Sequence[Places]) -> None:
        self.ask, self.places = ask, places

    def __call__(self, step: Step, means: Tensor, scales: Tensor) -> Tensor:
        places = self.places[step.index]
        return places.decoded(self.ask(places.pick(scales)), means)


class Collected:
    """Numbers for every place of a latent, collected step by step on the lattices of the scales.

    `values` are then tensors [B, C, h, w] of the finest lattice that was begun.
    """

    def __init__(self, plan: Plan | None = None) -> None:
        """`plan`: of y; the hyper latent, of one step, has none."""
        self.plan = plan
        self.scale = 0
        self.values: list[Tensor] = []

    def add(self, step: Step, mask: Tensor, *values: Tensor) -> None:
        """Takes each of `values` at the step's places, which `mask` tells."""
        before = self.values or [torch.zeros_like(value) for value in values]
        if step.scale != self.scale and self.plan is not None:
            finer = [torch.zeros_like(value) for value in values]
            pairs = zip(before, finer, strict=True)
            before = [self.plan.scatter(coarse, fill, step.scale) for coarse, fill in pairs]
        self.scale = step.scale
        self.values = [torch.where(mask, new, old) for new, old in zip(values, before, strict=True)]


class Observing:
    """Gives what another driver does, and collects symbols, means and scales of every place."""

    def __init__(self, drive: Driver, places: Sequence[Places], plan: Plan | None = None) -> None:
        self.drive, self.places = drive, places
        self.collected = Collected(plan)

    def __call__(self, step: Step, means: Tensor, scales: Tensor) -> Tensor:
        latent = self.drive(step, means, scales)
        symbols = (latent - means).round()
        self.collected.add(step, self.places[step.index].mask, symbols, means, scales)
        return latent


class Keeping:
    """Keeps what another driver gives: on the lattice of each scale, and not a number where nothing was coded yet."""

    def __init__(self, drive: Driver, places: Sequence[Places]) -> None:
        self.drive, self.places = drive, places
        self.latents: dict[int, Tensor] = {}  # by scale, in units of the quantisation step

    def __call__(self, step: Step, means: Tensor, scales: Tensor) -> Tensor:
        latent = self.drive(step, means, scales)
        before = self.latents.get(step.scale, torch.full_like(means, torch.nan))
        self.latents[step.scale] = torch.where(self.places[step.index].mask, latent, before)
        return latent


class Filling:
    """Gives what was kept; where that is not a number, the mean."""

    def __init__(self, latents: Mapping[int, Tensor], places: Sequence[Places]) -> None:
        self.latents, self.places = latents, places

    def __call__(self, step: Step, means: Tensor, scales: Tensor) -> Tensor:
        kept = self.latents[step.scale]
        return torch.where(kept.isnan(), means, kept) * self.places[step.index].mask


class Checking:
    """Gives what another driver does, unless `check` raises: so work ends between two steps."""

    def __init__(self, drive: Driver, check: Callable[[], None]) -> None:
        self.drive, self.check = drive, check

    def __call__(self, step: Step, means: Tensor, scales: Tensor) -> Tensor:
        self.check()
        return self.drive(step, means, scales)


def inside_mask(size: tuple[int, int], inside: tuple[int, int], device: torch.device) -> Tensor:
    """True for the first `inside` rows and columns, [1, 1, h, w]."""
    mask = torch.zeros((1, 1, *size), dtype=torch.bool, device=device)
    mask[:, :, : inside[0], : inside[1]] = True
    return mask


@kept(PLANS)
def latent_places(plan: Plan, inside: tuple[int, int] | None) -> list[Places]:
    """The places of every step; `inside`: rows and columns of y that touch the picture (all of them if None)."""
    if inside is None or inside == plan.sizes[-1]:
        return [Places(mask) for mask in plan.masks]
    shape = (1, plan.config.M, *plan.sizes[-1])
    whole = inside_mask(plan.sizes[-1], inside, plan.device).float().expand(shape)
    touching = [level > 0 for level in plan.pyramid(whole)]
    return [Places(mask, touching[step.scale]) for step, mask in zip(plan.steps, plan.masks, strict=True)]


@kept(PLANS)
def hyper_places(
    channels: int, size: tuple[int, int], inside: tuple[int, int] | None, device: torch.device
) -> list[Places]:
    """The one step of the hyper latent."""
    mask = torch.ones((1, channels, *size), dtype=torch.bool, device=device)
    return [Places(mask, None if inside is None else inside_mask(size, inside, device))]
