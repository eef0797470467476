"""Who is coded when: the coding order as one table, and the moves between scales that follow from it.

The M channels of the latent y are split into eight groups g. The entry `table[g][i % 8][j % 8]` is the step at which
position (i, j) of group g is coded. With steps (2, 3, 6) group 2 looks like this (paper, figure 4):

     7  4  8  0  7  4  8  1        scale 1 (steps 0, 1): a quarter of the resolution, a checkerboard
     5  9  6 10  5  9  6 10        scale 2 (steps 2-4):  half the resolution
     8  2  7  3  8  2  7  3        scale 3 (steps 5-10): full resolution
     6 10  5  9  6 10  5  9
     7  4  8  1  7  4  8  0        Every group has its own phase, so that at any place some channels are known early:
     5  9  6 10  5  9  6 10        all M channels live on every scale, and at each step exactly one group of 2 / 4 / 8
     8  2  7  3  8  2  7  3        is coded at a place of scale 1 / 2 / 3.
     6 10  5  9  6 10  5  9

A *lattice* is what a scale sees of y: on scale 2 the places phase(g)::2 of each group, on scale 1 every second of
those. `Plan` holds the table's masks for one size of y, computed once and cached: `gather` goes from a lattice to the
coarser one, `scatter` puts coarse values to their places on the finer lattice.

Shapes: y [B, M, h, w]; lattice of scale s [B, M, h / stride, w / stride]; masks [1, M, ...], bool.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import numpy as np

from ..model.config import GROUPS, Config
from .arrays import Array, Arrays, namespace

PLANS = 8  # sizes of latents whose plans are kept: one of a large tile takes tens of megabytes

PERIOD = 8  # the table repeats every 8 places
QUADS = ((0, 0), (0, 1), (1, 0), (1, 1))
PHASES = ((0, 0), (1, 1), (0, 1), (1, 0))  # of a group's half-resolution lattice, by g % 4
SUBPHASES = QUADS  # of a group's quarter-resolution lattice inside that one, by g // 2
SCALE2_ORDER = ((3, 2, 1, 0), (2, 3, 0, 1), (1, 0, 3, 2))  # [step][g // 2]: which of QUADS is coded
# Scale 3 codes 4x4 patterns of two positions; pattern ORDER[k][g] at turn k (turns 0 and 1 are scales 1 and 2).
PATTERNS = (
    ((0, 0), (2, 2)),
    ((0, 2), (2, 0)),
    ((1, 1), (3, 3)),
    ((1, 3), (3, 1)),
    ((0, 1), (2, 3)),
    ((0, 3), (2, 1)),
    ((1, 0), (3, 2)),
    ((1, 2), (3, 0)),
)
ORDER = (
    (0, 2, 4, 6, 1, 3, 5, 7),
    (1, 3, 5, 7, 0, 2, 4, 6),
    (2, 4, 6, 0, 3, 5, 7, 1),
    (3, 5, 7, 1, 2, 4, 6, 0),
    (4, 6, 0, 2, 5, 7, 1, 3),
    (5, 7, 1, 3, 4, 6, 0, 2),
    (6, 0, 2, 4, 7, 1, 3, 5),
    (7, 1, 3, 5, 6, 0, 2, 4),
)


@dataclass(frozen=True)
class Step:
    """One coding step: its number, its scale (0, 1, 2) and its number on that scale."""

    index: int
    scale: int
    turn: int


def steps_of(config: Config) -> list[Step]:
    counts = [(scale, turn) for scale, count in enumerate(config.steps) for turn in range(count)]
    return [Step(index, scale, turn) for index, (scale, turn) in enumerate(counts)]


def pass_ends(config: Config) -> list[int]:
    """After how many steps, the hyper latent's among them, each scale is done: 3, 6, 12 for steps (2, 3, 6)."""
    first, *others = config.steps
    return list(accumulate([1 + first, *others]))


@lru_cache
def table(steps: tuple[int, int, int]) -> np.ndarray:
    """The coding order, int [8 groups, 8, 8], generated from the number of steps on each scale.

    Scale 1 takes 1, 2 (a checkerboard) or 4 (its four phases) steps, scale 2 takes 1 or 3, scale 3 any divisor of 12
    (six patterns of two positions, merged or split); `Config` refuses others.
    """
    coarse, middle, fine = steps
    order = np.full((GROUPS, PERIOD, PERIOD), -1)
    for g in range(GROUPS):
        for turn in range(2, 8):
            for half, (i, j) in enumerate(PATTERNS[ORDER[turn][g]]):
                slot = 2 * (turn - 2) + half  # twelve half turns, shared out over the steps
                order[g, i::4, j::4] = coarse + middle + slot * fine // 12
        (pi, pj), (qi, qj) = PHASES[g % 4], SUBPHASES[g // 2]
        lattice = order[g, pi::2, pj::2]  # 4x4, a view
        for turn in range(3):
            i, j = QUADS[SCALE2_ORDER[turn][g // 2]]
            lattice[i::2, j::2] = coarse + turn * middle // 3
        for r, c in QUADS:  # the quarter lattice has period 2
            turn = (2 * ((r + c + g // 4) % 2) + r) * coarse // 4
            lattice[qi + 2 * r, qj + 2 * c] = turn
    order.setflags(write=False)
    return order


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
    """The schedule for latents of one size, where an engine computes. Use `plan_for`, which caches."""

    def __init__(self, config: Config, height: int, width: int, arrays: Arrays) -> None:
        self.config, self.arrays = config, arrays
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
        self.inherited = []  # by scale s: the places of its lattice that the coarser scale s - 1 sees
        for order, first, size in zip(self.tables, firsts, self.sizes, strict=True):
            self.inherited.append(self._spread(order < first, size))
        self.misplaced = None
        if config.hyper_placement == "released" and config.hierarchy:
            self.misplaced = arrays.put(_released_sources(self.tables[1] < firsts[1], self.sizes[1]))

    def _spread(self, pattern: np.ndarray, size: tuple[int, int]) -> Array:
        """A mask [1, M, height, width] from a pattern per group [8, period, period]."""
        period = pattern.shape[1]
        tiles = [-(-side // period) for side in size]
        whole = np.tile(pattern, (1, *tiles))[:, : size[0], : size[1]]
        return self.arrays.put(np.repeat(whole, self.config.M // GROUPS, axis=0)[None])

    def _inherited(self, scale: int, x: Array) -> Array:
        """The mask for x, which has M or 2M channels."""
        mask = self.inherited[scale]
        times = x.shape[1] // mask.shape[1]
        return mask if times == 1 else namespace(x).concat([mask] * times, axis=1)

    def gather(self, x: Array, scale: int) -> Array:
        """From the lattice of `scale` to that of `scale - 1`; x has M or 2M channels.

        The coarse lattice holds one of each 2x2 cell: a sum over the cell with the other three at zero is exact.
        """
        if not self.config.hierarchy:
            return x
        return self.arrays.sum_cells(x * self._inherited(scale, x))

    def scatter(self, coarse: Array, fill: Array, scale: int) -> Array:
        """From the lattice of `scale - 1` to that of `scale`: `fill` at the places that the coarser one doesn't see."""
        wide = self.arrays.repeat_cells(coarse) if self.config.hierarchy else coarse
        return namespace(coarse).where(self._inherited(scale, coarse), wide, fill)

    def pyramid(self, y: Array) -> list[Array]:
        """y on the lattices of scales 1, 2, 3."""
        half = self.gather(y, 2)
        return [self.gather(half, 1), half, y]

    def hyper_pyramid(self, hyper: Array) -> list[Array]:
        """The hyper parameters [B, 2M, h, w] as each scale is given them; see `Config.hyper_placement`."""
        quarter, half, full = self.pyramid(hyper)
        if self.misplaced is not None:
            xp = namespace(half)
            groups = xp.reshape(half, (half.shape[0], 2, GROUPS, -1, half.shape[2] * half.shape[3]))
            moved = [xp.take(groups[:, :, g], self.misplaced[g, :], axis=-1) for g in range(GROUPS)]
            half = xp.reshape(xp.stack(moved, axis=2), half.shape)
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


@lru_cache(maxsize=PLANS)
def plan_for(config: Config, height: int, width: int, arrays: Arrays) -> Plan:
    """The plan for latents of height x width, computed once per size and place."""
    return Plan(config, height, width, arrays)
