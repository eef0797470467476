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
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate

import numpy as np

from .config import GROUPS, Config

PERIOD = 8  # the table repeats every 8 places
QUADS = ((0, 0), (0, 1), (1, 0), (1, 1))
PHASES = ((0, 0), (1, 1), (0, 1), (1, 0))  # of a group's half-resolution lattice, by g % 4
SUBPHASES = QUADS  # of a group's quarter-resolution lattice inside that one, by g // 2
# A *turn* codes one pattern of each group: scale 2 has three turns, scale 3 six. A scale's steps share them out.
SCALE2_ORDER = ((3, 2, 1, 0), (2, 3, 0, 1), (1, 0, 3, 2))  # [turn][g // 2]: which of QUADS is coded
PATTERNS = (  # of scale 3: two positions in a cell of 4x4
    ((0, 0), (2, 2)),
    ((0, 2), (2, 0)),
    ((1, 1), (3, 3)),
    ((1, 3), (3, 1)),
    ((0, 1), (2, 3)),
    ((0, 3), (2, 1)),
    ((1, 0), (3, 2)),
    ((1, 2), (3, 0)),
)
SCALE3_ORDER = (  # [turn][g]: which of PATTERNS is coded
    (2, 4, 6, 0, 3, 5, 7, 1),
    (3, 5, 7, 1, 2, 4, 6, 0),
    (4, 6, 0, 2, 5, 7, 1, 3),
    (5, 7, 1, 3, 4, 6, 0, 2),
    (6, 0, 2, 4, 7, 1, 3, 5),
    (7, 1, 3, 5, 6, 0, 2, 4),
)


@dataclass(frozen=True)
class Step:
    """One coding step of y."""

    index: int  # among all steps of y, from 0
    scale: int  # index of its scale: 0, 1, 2 for scales 1, 2, 3
    begins_scale: bool  # whether it is the first one there


def steps_of(config: Config) -> list[Step]:
    """The coding steps of y in their order."""
    numbers = [(scale, number) for scale, count in enumerate(config.steps) for number in range(count)]
    return [Step(index, scale, begins_scale=number == 0) for index, (scale, number) in enumerate(numbers)]


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
        for turn in range(6):
            for half, (i, j) in enumerate(PATTERNS[SCALE3_ORDER[turn][g]]):
                half_turn = 2 * turn + half  # of twelve, which the steps share out
                order[g, i::4, j::4] = coarse + middle + half_turn * fine // 12
        (pi, pj), (qi, qj) = PHASES[g % 4], SUBPHASES[g // 2]
        lattice = order[g, pi::2, pj::2]  # 4x4, a view
        for turn in range(3):
            i, j = QUADS[SCALE2_ORDER[turn][g // 2]]
            lattice[i::2, j::2] = coarse + turn * middle // 3
        for r, c in QUADS:  # the quarter lattice has period 2
            phase = 2 * ((r + c + g // 4) % 2) + r  # of four, which the steps share out
            lattice[qi + 2 * r, qj + 2 * c] = phase * coarse // 4
    order.setflags(write=False)
    return order
