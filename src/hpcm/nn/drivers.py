"""The drivers of the coding loop: what the latent is at each step.

A driver is called once per step with the step's means and scales on its lattice and returns the decoded latent at the
step's places, zero elsewhere. The two below, and `estimating.Estimating`, differ only in where the symbol comes
from, so that estimate, encoder and decoder can't drift apart. The hyper latent z is coded by the same drivers, in one
step.

Shapes: means, scales and the result [1, C, h, w] on the lattice of the step's scale; the symbols of a step are one
vector in the order row, column, channel of that lattice. Latents are in units of their quantisation step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np

from .arrays import Array, Arrays, namespace
from .schedule import PLANS, Plan, Step

Driver = Callable[[Step, Array, Array], Array]  # (step, means, scales) -> y_hat at that step's places, 0 elsewhere


class StepSymbols(NamedTuple):
    """The symbols of one step, int32 [n], and the scales they are coded with, float32 [n]."""

    values: np.ndarray
    scales: np.ndarray


Pop = Callable[[np.ndarray], np.ndarray]  # scales float32 [n] -> symbols int32 [n], from a bitstream


@dataclass(frozen=True, eq=False)
class Places:
    """Where a step codes: a mask [1, C, h, w] and those of its places that touch the picture, [1, C or 1, h, w]."""

    arrays: Arrays
    mask: Array
    inside: np.ndarray | None = None

    @cached_property
    def index(self) -> Array:
        """Positions of the coded places in the raveled [C, h, w] array, int64 [n], in the order of the symbols."""
        coded = self.arrays.get(self.mask)[0]
        if self.inside is not None:
            coded = coded & self.inside[0]
        channels, height, width = coded.shape
        found = np.flatnonzero(coded.transpose(1, 2, 0))
        return self.arrays.put(found % channels * (height * width) + found // channels)

    def pick(self, x: Array) -> Array:
        """The values of x [1, C, h, w] at the coded places, [n]."""
        return namespace(x).take(x.reshape(-1), self.index, axis=0)

    def decoded(self, values: Array, means: Array) -> Array:
        """symbol + mean at the step's places; where a place isn't coded the symbol is 0, so that it takes its mean."""
        xp = namespace(means)
        latent = xp.zeros_like(means).reshape(-1)
        latent[self.index] = values
        return (latent.reshape(means.shape) + means) * self.mask


class Recording:
    """Rounds the latent at hand and keeps the symbols, step by step."""

    def __init__(self, pyramid: Sequence[Array], places: Sequence[Places]) -> None:
        self.pyramid, self.places = pyramid, places
        self.symbols: list[StepSymbols] = []

    def __call__(self, step: Step, means: Array, scales: Array) -> Array:
        places, y = self.places[step.index], self.pyramid[step.scale]
        values = namespace(y).round(places.pick(y) - places.pick(means))
        get = places.arrays.get
        self.symbols.append(StepSymbols(get(values).astype(np.int32), get(places.pick(scales))))
        return places.decoded(values, means)


class Replaying:
    """Takes the symbols from a bitstream."""

    def __init__(self, pop: Pop, places: Sequence[Places]) -> None:
        self.pop, self.places = pop, places

    def __call__(self, step: Step, means: Array, scales: Array) -> Array:
        places = self.places[step.index]
        values = self.pop(places.arrays.get(places.pick(scales)))
        return places.decoded(places.arrays.put(values.astype(np.float32)), means)


class Keeping:
    """Keeps what another driver gives: on the lattice of each scale, and not a number where nothing was coded yet."""

    def __init__(self, drive: Driver, places: Sequence[Places]) -> None:
        self.drive, self.places = drive, places
        self.latents: dict[int, Array] = {}  # by scale, in units of the quantisation step

    def __call__(self, step: Step, means: Array, scales: Array) -> Array:
        latent, xp = self.drive(step, means, scales), namespace(means)
        before = self.latents.get(step.scale, xp.full_like(means, float("nan")))
        self.latents[step.scale] = xp.where(self.places[step.index].mask, latent, before)
        return latent


class Filling:
    """Gives what was kept; where that is not a number, the mean."""

    def __init__(self, latents: Mapping[int, Array], places: Sequence[Places]) -> None:
        self.latents, self.places = latents, places

    def __call__(self, step: Step, means: Array, scales: Array) -> Array:
        xp, kept = namespace(means), self.latents[step.scale]
        return xp.where(xp.isnan(kept), means, kept) * self.places[step.index].mask


def inside_mask(size: tuple[int, int], inside: tuple[int, int]) -> np.ndarray:
    """True for the first `inside` rows and columns, [1, 1, h, w]."""
    mask = np.zeros((1, 1, *size), bool)
    mask[:, :, : inside[0], : inside[1]] = True
    return mask


@lru_cache(maxsize=PLANS)
def latent_places(plan: Plan, inside: tuple[int, int] | None) -> list[Places]:
    """The places of every step; `inside`: rows and columns of y that touch the picture (all of them if None)."""
    if inside is None or inside == plan.sizes[-1]:
        return [Places(plan.arrays, mask) for mask in plan.masks]
    shape = (1, plan.config.M, *plan.sizes[-1])
    whole = np.broadcast_to(inside_mask(plan.sizes[-1], inside), shape).astype(np.float32)
    touching = [plan.arrays.get(level) > 0 for level in plan.pyramid(plan.arrays.put(whole))]
    return [Places(plan.arrays, mask, touching[step.scale]) for step, mask in zip(plan.steps, plan.masks, strict=True)]


@lru_cache(maxsize=PLANS)
def hyper_places(channels: int, size: tuple[int, int], inside: tuple[int, int] | None, arrays: Arrays) -> list[Places]:
    """The one step of the hyper latent."""
    mask = arrays.put(np.ones((1, channels, *size), bool))
    return [Places(arrays, mask, None if inside is None else inside_mask(size, inside))]
