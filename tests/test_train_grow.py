"""A larger model that starts as a smaller one does the same at first; and the optimizer for matrices."""

import copy
from dataclasses import replace

import pytest
import torch

from hpcm.errors import UsageError
from hpcm.model.config import LITE, NANO, Config, Prior
from hpcm.model.find import find
from hpcm.nn.hpcm import HPCM
from hpcm.nn.rate import bits
from hpcm.train.grow import Growth, can_grow, grow
from hpcm.train.muon import Muon, orthogonal
from hpcm.train.start import pca_start


@pytest.fixture
def crops():
    """Noise with a falling spectrum: [B, 3, 64, 64] in 0..1."""
    generator = torch.Generator().manual_seed(0)
    layers = [torch.randn(24, 3, 64 // side, 64 // side, generator=generator) for side in (1, 2, 4, 8, 16, 32)]
    grown = [torch.nn.functional.interpolate(x, (64, 64), mode="bilinear") * 0.04 for x in layers]
    return (0.5 + sum(grown)).clamp(0, 1)


@pytest.fixture
def small(tiny, crops):
    """A tiny model that codes the crops passably, all its weights in use."""
    torch.manual_seed(0)
    model = HPCM(tiny).eval().requires_grad_(False)
    pca_start(model, crops)
    for parameter in model.parameters():
        parameter.add_(0.02 * torch.randn_like(parameter) * parameter.abs().mean())
    return model


def larger(config, M):
    return replace(
        config,
        name="larger",
        M=M,
        N=16,
        analysis=((2, 48), (0, M)),
        synthesis=((0, M), (3, 40)),
        hyper_analysis=((2, M), (1, 24)),
        hyper_synthesis=((2, 16), (1, 2 * M)),
        ratio=3,
        prior_width=24,
        prior_coarse=Prior(before=2, after=1),
        prior_fine=Prior(before=1, after=2),
    )


def result(model, x, level):
    with torch.no_grad():
        out = model.eval()(x, torch.full((len(x),), float(level)))
    return out["x_hat"], {key: float(bits(p)) for key, p in out["likelihoods"].items()}


@pytest.mark.parametrize("level", [0, 20, 63])
def test_it_does_what_the_smaller_one_did(small, crops, level):
    """With as many latents; the hyper latents that are added are zero and cost next to nothing."""
    torch.manual_seed(1)
    large = HPCM(larger(small.config, small.config.M))
    grow(small, large, crops)
    expected, rate = result(small, crops, level)
    found, same = result(large, crops, level)
    assert torch.allclose(found, expected, atol=1e-4)
    assert same["y"] == pytest.approx(rate["y"], rel=1e-4)
    assert rate["z"] <= same["z"] < rate["z"] + 0.5 * large.config.N * len(crops)


def test_added_latents_carry_what_was_lost(small, crops):
    torch.manual_seed(1)
    large = HPCM(larger(small.config, 32))
    grow(small, large, crops)
    kept = Growth(small, large).places(16, 32)
    with torch.no_grad():
        assert torch.allclose(large.analyse(crops)[:, kept], small.analyse(crops), atol=1e-4)
    before, after = (float((result(model, crops, 60)[0] - crops).square().mean()) for model in (small, large))
    assert after < 0.9 * before


def test_all_that_is_added_learns(small, crops):
    """Nothing is dead: after a few steps every parameter has moved."""
    torch.manual_seed(1)
    large = HPCM(larger(small.config, 32))
    grow(small, large, crops)
    before = {name: value.clone() for name, value in large.named_parameters()}
    optimizer = torch.optim.Adam(large.parameters(), 1e-3)
    large.train()
    for _ in range(4):
        out = large(crops, torch.linspace(0, 63, len(crops)))
        rate = sum(-torch.log2(p).sum() for p in out["likelihoods"].values()) / crops[:, 0].numel()
        loss = rate + 1000 * (out["x_hat"] - crops).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    still = [name for name, value in large.named_parameters() if torch.equal(value, before[name])]
    assert not still


def test_who_can_grow(tiny, tiny_base):
    assert can_grow(NANO, LITE)
    assert can_grow(tiny, NANO)
    assert can_grow(tiny, tiny)
    assert not can_grow(LITE, NANO)
    assert not can_grow(tiny, replace(larger(tiny, 32), refine=False))
    assert not can_grow(larger(tiny, 32), tiny)
    assert not can_grow(tiny_base, tiny_base)
    assert can_grow(Config.from_dict(find("nano").config), LITE)  # whatever version is bundled
    hyper = {"hyper_analysis": ((1, 320), (0, 64)), "hyper_synthesis": ((1, 64), (0, 640))}
    other = replace(NANO, M=320, analysis=((3, 128), (0, 320)), synthesis=((0, 320), (3, 128)), **hyper)
    assert not can_grow(NANO, other)
    assert not can_grow(tiny, replace(tiny, analysis=((1, 36), (0, 16))))  # no eighths
    assert can_grow(replace(tiny, interpolation="separate"), tiny)
    with pytest.raises(UsageError, match="tiny is no larger model of the same kind as larger"):
        grow(HPCM(larger(tiny, 32)), HPCM(tiny), torch.zeros(1, 3, 64, 64))


# ---- Muon -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(6, 20), (20, 6), (9, 9)])
def test_orthogonal(size):
    torch.manual_seed(0)
    matrices = torch.randn(3, *size)
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    made = left.mT @ orthogonal(matrices) @ right.mT
    found = made.diagonal(dim1=1, dim2=2)
    assert torch.allclose(made, torch.diag_embed(found), atol=1e-4)  # the same singular vectors
    strong = values > 0.1 * values.amax(1, keepdim=True)
    assert ((found[strong] > 0.6) & (found[strong] < 1.25)).all()


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has Muon from 2.10 on")
@pytest.mark.parametrize("layer", [torch.nn.Conv2d(4, 12, 3), torch.nn.ConvTranspose2d(12, 5, 2)])
def test_muon_steps_as_torchs_does(layer):
    """On a convolution's weight as a matrix; torch's takes matrices only, and computes in bfloat16."""
    torch.manual_seed(0)
    ours = Muon(layer, 1e-2, torch.bfloat16)

    def matrix(weight):
        return (weight.transpose(0, 1) if ours.transposed[0] else weight).flatten(1)

    theirs = torch.nn.Parameter(matrix(layer.weight.detach()).clone())
    optimizer = torch.optim.Muon([theirs], lr=1e-2, weight_decay=0, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        before = theirs.detach().clone()
        layer.weight.grad = torch.randn_like(layer.weight)
        theirs.grad = matrix(layer.weight.grad).clone()
        ours.step()
        optimizer.step()
        difference = (matrix(layer.weight.detach()) - theirs.detach()).norm()
        assert difference < 0.02 * (theirs.detach() - before).norm()


def test_muon_learns_and_resumes():
    """A problem with a known answer; after half of the steps the state goes to a second optimizer and back."""
    torch.manual_seed(0)
    shape = {"kernel_size": 2, "stride": 2}
    teacher = torch.nn.Sequential(torch.nn.Conv2d(4, 8, **shape), torch.nn.ConvTranspose2d(8, 3, **shape))
    student = torch.nn.Sequential(torch.nn.Conv2d(4, 8, **shape), torch.nn.ConvTranspose2d(8, 3, **shape))
    x = torch.randn(16, 4, 8, 8)
    target = teacher(x).detach()
    optimizer = Muon(student, 1e-2)
    losses = []
    for step in range(200):
        if step == 100:
            state = optimizer.state_dict()
            optimizer = Muon(student, 1e-2)
            optimizer.load_state_dict(state)
        loss = (student(x) - target).square().mean()
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[100] < 0.05 * losses[0]
    assert losses[101] < 1.2 * losses[99]
    before = [p.clone() for p in student.parameters()]
    optimizer.found_inf = torch.ones(())
    optimizer.step()
    assert all(torch.equal(p, q) for p, q in zip(before, student.parameters(), strict=True))


def test_a_step_of_muon_that_is_not_finite_changes_nothing():
    """Not even momentum and moments; a rate that is a tensor is worth the same as a number."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(4, 8, 2), torch.nn.ConvTranspose2d(8, 3, 2))
    twin = copy.deepcopy(net)
    optimizer, other = Muon(net, torch.tensor(1e-2)), Muon(twin, 1e-2)
    gradients = [torch.randn_like(p) for p in net.parameters()]

    def step(model, with_optimizer, factor, found_inf):
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            parameter.grad = factor * gradient
        with_optimizer.found_inf = found_inf
        with_optimizer.step()

    def tensors():
        return [*net.parameters(), *(value for state in optimizer.state.values() for value in state.values())]

    step(net, optimizer, 1.0, torch.tensor(0.0))
    step(twin, other, 1.0, None)
    assert all(torch.allclose(p, q, atol=1e-7) for p, q in zip(net.parameters(), twin.parameters(), strict=True))
    before = [tensor.detach().clone() for tensor in tensors()]
    step(net, optimizer, float("nan"), torch.tensor(1.0))
    assert all(torch.equal(old, new) for old, new in zip(before, tensors(), strict=True))


def test_a_step_of_muon_is_orthogonal():
    """As a matrix [out, in k k], of plain and transposed convolutions, in steps of Adam's size; the rest is Adam's."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(4, 8, 2), torch.nn.ConvTranspose2d(8, 3, 2))
    twin = copy.deepcopy(net)
    before = copy.deepcopy(net)
    optimizer, adam = Muon(net, 1e-3), torch.optim.Adam(twin.parameters(), 1e-3)
    for model, one in ((net, optimizer), (twin, adam)):
        model(torch.ones(2, 4, 6, 6)).square().mean().backward()
        one.step()
    for i in (0, 1):
        step = (before[i].weight - net[i].weight) / 1e-3
        matrix = (step.transpose(0, 1) if i else step).flatten(1)
        values = torch.linalg.svdvals(matrix)
        assert values.max() < 1.3 * 0.2 * max(matrix.shape) ** 0.5
        assert torch.allclose(net[i].bias, twin[i].bias, atol=1e-7)
