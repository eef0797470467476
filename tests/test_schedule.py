"""The coding schedule: the published table, that everything is coded once, and the moves between scales."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from hpcm.model.config import GROUPS
from hpcm.model.order import PHASES, SUBPHASES, steps_of, table
from hpcm.nn.schedule import plan_for

CPU = torch.device("cpu")
STEPS = [(2, 3, 6), (2, 3, 3), (2, 3, 12), (4, 3, 6), (1, 1, 1), (2, 1, 2), (4, 3, 4)]
GROUP_2 = """
    7 4 8 0 7 4 8 1
    5 9 6 10 5 9 6 10
    8 2 7 3 8 2 7 3
    6 10 5 9 6 10 5 9
    7 4 8 1 7 4 8 0
    5 9 6 10 5 9 6 10
    8 2 7 3 8 2 7 3
    6 10 5 9 6 10 5 9
"""


def lattice(y, scale):
    """The plain twin of gathering: one group at a time, by strided slices; y [B, C, h, w] with C channels per group."""
    width = y.shape[1] // GROUPS
    groups = []
    for g in range(GROUPS):
        (pi, pj), (qi, qj) = PHASES[g % 4], SUBPHASES[g // 2]
        part = y[:, g * width : (g + 1) * width]
        if scale <= 1:
            part = part[:, :, pi::2, pj::2]
        if scale == 0:
            part = part[:, :, qi::2, qj::2]
        groups.append(part)
    return torch.cat(groups, 1)


def numbered(config, height, width):
    """A latent that tells its entries apart, [1, M, h, w]."""
    return torch.arange(1, config.M * height * width + 1).float().reshape(1, config.M, height, width)


def test_the_published_table_of_group_2():
    assert table((2, 3, 6))[2].tolist() == [[int(step) for step in row.split()] for row in GROUP_2.strip().split("\n")]


@pytest.mark.parametrize(
    ("scale", "steps"), [(0, {0: 32, 1: 32}), (1, dict.fromkeys([2, 3, 4], 16)), (2, dict.fromkeys(range(5, 11), 8))]
)
def test_shares(scale, steps):
    for step, divisor in steps.items():
        for group in table((2, 3, 6)):
            assert Fraction(int((group == step).sum()), group.size) == Fraction(1, divisor)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("hierarchy", [True, False])
def test_every_place_is_coded_once(tiny, steps, hierarchy):
    config = replace(tiny, steps=steps, hierarchy=hierarchy)
    plan = plan_for(config, 12, 20, CPU)  # no multiple of the table's period
    assert [step.index for step in plan.steps] == list(range(sum(steps))) == [s.index for s in steps_of(config)]
    times = torch.zeros_like(plan.masks[0].float())
    for step, mask in zip(plan.steps, plan.masks, strict=True):
        if step.begins_scale and step.scale > 0:
            times = plan.scatter(times, torch.zeros_like(mask.float()), step.scale)
        assert mask.any()
        times = times + mask.float()
    assert times.shape == (1, config.M, 12, 20)
    assert (times == 1).all()


def test_groups_active_at_a_place(tiny):
    """At each step one in 2 / 4 / 8 of the groups is coded at every place of the step's lattice: a dense tensor."""
    plan = plan_for(tiny, 16, 16, CPU)
    for step, mask in zip(plan.steps, plan.masks, strict=True):
        active = mask[0].reshape(GROUPS, -1, *mask.shape[2:])[:, 0].float()  # [8, h, w]
        share = (2, 4, 8)[step.scale]
        assert active.sum(0).unique().tolist() == [GROUPS / share]


@pytest.mark.parametrize(("height", "width"), [(4, 4), (12, 8), (16, 20)])
def test_gather_is_strided_slices(tiny, height, width):
    y = numbered(tiny, height, width)
    plan = plan_for(tiny, height, width, CPU)
    for scale, level in enumerate(plan.pyramid(y)):
        assert torch.equal(level, lattice(y, scale))


def test_scatter_undoes_gather(tiny):
    plan = plan_for(tiny, 12, 8, CPU)
    levels = plan.pyramid(numbered(tiny, 12, 8))
    for scale in (1, 2):
        assert torch.equal(plan.scatter(levels[scale - 1], levels[scale], scale), levels[scale])
        alone = plan.scatter(levels[scale - 1], torch.zeros_like(levels[scale]), scale)
        assert torch.equal(plan.gather(alone, scale), levels[scale - 1])
        assert int((alone != 0).sum()) == levels[scale - 1].numel()


def test_scatter_takes_both_halves_of_the_context(tiny):
    plan = plan_for(tiny, 8, 8, CPU)
    y = numbered(tiny, 8, 8)
    both = [torch.cat((level, -level), 1) for level in plan.pyramid(y)]
    assert torch.equal(plan.pyramid(torch.cat((y, -y), 1))[0], both[0])
    assert torch.equal(plan.scatter(both[0], both[1], 1), both[1])


def test_without_hierarchy_the_scales_are_the_whole(tiny):
    plan = plan_for(replace(tiny, hierarchy=False), 8, 8, CPU)
    y = numbered(tiny, 8, 8)
    assert all(torch.equal(level, y) for level in plan.pyramid(y))
    assert [int(mask[0, 0].sum()) for mask in plan.masks] == [2, 2, 4, 4, 4, 8, 8, 8, 8, 8, 8]


def test_the_released_placement_of_hyper_parameters(tiny):
    """As measured in the released code at 16 x 16 latents: which places of scale 2 are given another place's."""
    width = tiny.M // GROUPS
    rows, columns = np.mgrid[:16, :16]
    hyper = torch.from_numpy((100 * rows + columns).astype(np.float32)).expand(1, 2 * tiny.M, -1, -1).contiguous()
    aligned = plan_for(tiny, 16, 16, CPU)
    released = plan_for(replace(tiny, hyper_placement="released"), 16, 16, CPU)
    right, given = aligned.hyper_pyramid(hyper), released.hyper_pyramid(hyper)
    assert torch.equal(right[0], given[0])
    assert torch.equal(right[2], given[2])
    free = ~aligned.inherited[1][0]
    moved = (right[1][0, : tiny.M] != given[1][0, : tiny.M]) & free
    assert torch.equal(given[1][0, : tiny.M], given[1][0, tiny.M :])  # means move as scales do
    assert [int(free[g * width].sum()) for g in range(GROUPS)] == [48] * GROUPS
    wrong = [int(moved[g * width].sum()) for g in range(GROUPS)]
    assert wrong[:4] == [0, 0, 16, 16]
    assert all(40 <= count <= 44 for count in wrong[4:])
    for half in (right[1], given[1]):  # "up to 8 latents": on the half-resolution lattice 4 places, in one row
        half.remainder_(100)
    assert (right[1][0] - given[1][0]).abs()[: tiny.M][moved].max() == 8


@pytest.mark.parametrize("steps", [(3, 3, 6), (2, 2, 6), (2, 3, 5), (2, 3, 0), (0, 3, 6)])
def test_steps_that_cannot_be(tiny, steps):
    with pytest.raises(ValueError, match=r"Config\.steps"):
        replace(tiny, steps=steps)


def test_sizes_that_cannot_be(tiny):
    with pytest.raises(ValueError, match="multiples of 4"):
        plan_for(tiny, 6, 8, CPU)


def test_plans_are_kept(tiny):
    assert plan_for(tiny, 8, 8, CPU) is plan_for(tiny, 8, 8, CPU)
    assert plan_for(tiny, 8, 8, CPU) is not plan_for(tiny, 8, 16, CPU)
