"""Likelihoods: against torch's incomplete gamma function in float64, their gradients, their bounds."""

import math

import pytest
import torch

from hpcm.nn.rate import (
    BETA,
    LIKELIHOOD_MIN,
    SCALE_MIN,
    bits,
    interpolate,
    likelihood,
    lower_bound,
    round_through,
    uniform_noise,
)


def plain_likelihood(residual, scales):
    """CDF(v + 1/2) - CDF(v - 1/2), with the tails taken on the side where they are small; float64."""
    residual, scales = residual.double().abs(), scales.double().clamp(min=SCALE_MIN)

    def tail(v):  # 1 - CDF(v)
        upper = torch.special.gammaincc(torch.full_like(v, 1 / BETA), (v.abs() / scales) ** BETA) / 2
        return torch.where(v < 0, 1 - upper, upper)

    return (tail(residual - 0.5) - tail(residual + 0.5)).clamp(min=LIKELIHOOD_MIN)


def test_likelihood_against_the_special_function():
    residual = torch.cat((torch.arange(-300, 301).float(), torch.linspace(-5, 5, 999)))[None]
    scales = torch.logspace(math.log10(0.05), 2, 100)[:, None]
    residual, scales = torch.broadcast_tensors(residual, scales)
    found, true = likelihood(residual, scales), plain_likelihood(residual, scales)
    assert found.dtype == torch.float32
    assert (found - true).abs().max() < 1e-6
    assert (found.double().log2() - true.log2()).abs().max() < 1e-3  # bits, also in the tails
    assert bits(found).item() == pytest.approx(-true.log2().sum().item(), rel=1e-5)


@pytest.mark.parametrize("scale", [0.12, 0.3, 1.0, 7.0, 64.0])
def test_likelihoods_of_all_symbols_sum_to_one(scale):
    symbols = torch.arange(-1000, 1001).double()
    assert likelihood(symbols, torch.full_like(symbols, scale)).sum().item() == pytest.approx(1, abs=5e-6)


def test_likelihood_gradients():
    generator = torch.Generator().manual_seed(1)
    scales = 0.2 + 3 * torch.rand(50, generator=generator, dtype=torch.float64)
    residual = 2 * scales * torch.randn(50, generator=generator, dtype=torch.float64)
    inputs = (residual.requires_grad_(), scales.requires_grad_())
    assert torch.autograd.gradcheck(lambda r, s: -likelihood(r, s).log(), inputs, eps=1e-6, atol=1e-4, rtol=1e-3)


def test_likelihood_at_its_bounds():
    residual = torch.tensor([0.0, 100.0, -100.0, 1e6])
    scales = torch.tensor([0.0, 1.0, 1.0, 1e-3], requires_grad=True)
    found = likelihood(residual, scales)
    assert found[0] == likelihood(torch.zeros(1), torch.tensor([SCALE_MIN]))[0]
    assert found[1:].tolist() == pytest.approx([LIKELIHOOD_MIN] * 3)
    bits(found).backward()
    assert torch.isfinite(scales.grad).all()


def test_lower_bound_passes_gradients_that_lead_back():
    x = torch.tensor([0.5, 0.5, 2.0, 2.0], requires_grad=True)
    weight = torch.tensor([1.0, -1.0, 1.0, -1.0])
    bounded = lower_bound(x, 1.0)
    (bounded * weight).sum().backward()
    assert bounded.tolist() == [1, 1, 2, 2]
    assert x.grad.tolist() == [0, -1, 1, -1]  # descent would lower the first one further: stopped


def test_rounding_and_noise():
    x = torch.tensor([0.5, 1.5, -2.5, 0.49], requires_grad=True)
    rounded = round_through(x)
    rounded.sum().backward()
    assert rounded.tolist() == [0, 2, -2, 0]  # halves to even
    assert x.grad.tolist() == [1, 1, 1, 1]
    noise = uniform_noise(torch.zeros(10_000))
    assert noise.abs().max() <= 0.5
    assert noise.var().item() == pytest.approx(1 / 12, rel=0.1)


def test_interpolation_lets_nan_through_and_ends_at_the_last_cell():
    """What the kernel for GPUs is held to as well."""
    splines = torch.tensor([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])  # falls from 1 to 0, and stays there
    found = interpolate(torch.tensor([0.0, 0.25, 0.5, 99.0, math.nan]), splines, 2)
    assert found[:4].tolist() == pytest.approx([1, 0.5, 0, 0])
    assert found[4].isnan()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_the_kernel_equals_its_twin():
    tail_kernel = pytest.importorskip("hpcm.nn.tail_kernel", exc_type=ImportError)
    t = torch.cat((torch.linspace(0, 12, 99_999), torch.tensor([math.nan, math.inf]))).cuda()
    splines = torch.rand(64, 4, generator=torch.Generator().manual_seed(0)).cuda()
    found, expected = tail_kernel.interpolate(t, splines, 8), interpolate(t, splines, 8)
    assert torch.allclose(found, expected, rtol=0, atol=1e-5, equal_nan=True)
