"""The moves between scales that follow from the coding order (model/order.py).

A *lattice* is what a scale sees of y: on scale 2 the places phase(g)::2 of each group, on scale 1 every second of
those. `Plan` holds the table's masks for one size of y, computed once and cached: `gather` goes from a lattice to the
coarser one, `scatter` puts coarse values to their places on the finer lattice.

In code a `scale` is an index: 0, 1, 2 for scales 1, 2, 3.
Shapes: y [B, M, h, w]; lattice of a scale [B, M, h / stride, w / stride]; masks [1, M, ...], bool.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..model.config import GROUPS, Config
from ..model.order import PHASES, SUBPHASES, steps_of, table
from .kept import kept

PLANS = 8  # sizes of latents whose plans are kept: one of a large tile takes tens of megabytes


def _lattice_table(steps: tuple[int, int, int], hierarchy: bool, scale: int) -> np.ndarray:
    """The part of the table that a scale sees, int [8, period, period]."""
    full = table(steps)
    if not hierarchy or scale == 2:
        return full
    half = []
    for g in range(GROUPS):
        i, j = PHASES[g % 4]
        half.append(full[g, i::2, j::2])
    if scale == 1:
        return np.stack(half)
    quarter = []
    for g in range(GROUPS):
        i, j = SUBPHASES[g // 2]
        quarter.append(half[g][i::2, j::2])
    return np.stack(quarter)


class Plan:
    """The schedule for latents of one size on a device. Use `plan_for`, which caches."""

    def __init__(self, config: Config, height: int, width: int, device: torch.device) -> None:
        self.config, self.device = config, device
        self.strides = (4, 2, 1) if config.hierarchy else (1, 1, 1)
        if height % self.strides[0] or width % self.strides[0]:
            raise ValueError(f"latents of {height} x {width} can't be scheduled: both must be multiples of 4")
        self.sizes = [(height // stride, width // stride) for stride in self.strides]
        self.tables = [_lattice_table(config.steps, config.hierarchy, scale) for scale in range(3)]
        self.steps = steps_of(config)
        self.masks = []  # by step: what it codes, on the lattice of its scale
        for step in self.steps:
            coded = self.tables[step.scale] == step.index
            self.masks.append(self._spread(coded, self.sizes[step.scale]))
        firsts = [0, config.steps[0], config.steps[0] + config.steps[1]]  # step of each scale
        self.inherited = []  # by scale: the places of its lattice that the next coarser one sees
        for order, first, size in zip(self.tables, firsts, self.sizes, strict=True):
            self.inherited.append(self._spread(order < first, size))
        self.misplaced = None
        if config.hyper_placement == "released" and config.hierarchy:
            sources = _released_sources(self.tables[1] < firsts[1], self.sizes[1])
            self.misplaced = torch.from_numpy(sources).to(device)

    def _spread(self, pattern: np.ndarray, size: tuple[int, int]) -> Tensor:
        """A mask [1, M, height, width] from a pattern per group [8, period, period]."""
        period = pattern.shape[1]
        tiles = [-(-side // period) for side in size]
        whole = np.tile(pattern, (1, *tiles))[:, : size[0], : size[1]]
        mask = torch.from_numpy(np.repeat(whole, self.config.M // GROUPS, axis=0)[None])
        return mask.to(self.device).contiguous(memory_format=torch.channels_last)

    def _inherited(self, scale: int, x: Tensor) -> Tensor:
        """The mask for x, which has M or 2M channels."""
        mask = self.inherited[scale]
        times = x.shape[1] // mask.shape[1]
        return mask if times == 1 else torch.cat([mask] * times, 1)

    def gather(self, x: Tensor, scale: int) -> Tensor:
        """From the lattice of `scale`, 1 or 2, to that of `scale - 1`; x has M or 2M channels.

        The coarse lattice holds one of each 2x2 cell: a sum over the cell with the other three at zero is exact.
        """
        if not self.config.hierarchy:
            return x
        return F.avg_pool2d(x * self._inherited(scale, x), 2, divisor_override=1)

    def scatter(self, coarse: Tensor, fill: Tensor, scale: int) -> Tensor:
        """From the lattice of `scale - 1` to that of `scale`: `fill` at the places that the coarser one doesn't see."""
        wide = F.interpolate(coarse, scale_factor=2, mode="nearest") if self.config.hierarchy else coarse
        return torch.where(self._inherited(scale, coarse), wide, fill)

    def pyramid(self, y: Tensor) -> list[Tensor]:
        """y on the lattices of scales 1, 2, 3."""
        half = self.gather(y, 2)
        return [self.gather(half, 1), half, y]

    def hyper_pyramid(self, hyper: Tensor) -> list[Tensor]:
        """The hyper parameters [B, 2M, h, w] as each scale is given them; see `Config.hyper_placement`."""
        quarter, half, full = self.pyramid(hyper)
        if self.misplaced is not None:
            groups = half.reshape(half.shape[0], 2, GROUPS, -1, half.shape[2] * half.shape[3])
            moved = [groups[:, :, g].index_select(-1, self.misplaced[g]) for g in range(GROUPS)]
            half = torch.stack(moved, 2).reshape(half.shape)
        return [quarter, half, full]


# The 4x4 places that the released code takes for "coded on scale 1", by group; the ones really coded differ.
RELEASED_CODED = ((0, 0), (1, 1), (0, 1), (1, 0), (0, 2), (1, 3), (0, 3), (1, 2))


def _released_sources(coded: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Where scale 2 of the released code takes its hyper parameters from, int64 [8, height * width].

    Per group, the places of the half-resolution lattice that it believes to be free are read row by row and written
    row by row into the places that really are free. Entries of coded places point to themselves (they are not used).
    """
    height, width = size
    sources = np.tile(np.arange(height * width), (GROUPS, 1))
    for g in range(GROUPS):
        believed = np.zeros(size, bool)
        i, j = RELEASED_CODED[g]
        believed[i // 2 :: 2, j // 2 :: 2] = True
        really = np.tile(coded[g], (-(-height // 4), -(-width // 4)))[:height, :width]
        sources[g, ~really.ravel()] = np.flatnonzero(~believed)
    return sources


@kept(PLANS)
def plan_for(config: Config, height: int, width: int, device: torch.device) -> Plan:
    """The plan for latents of height x width, computed once per size and device."""
    return Plan(config, height, width, device)
