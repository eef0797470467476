"""The rate: generalised Gaussian likelihoods, and rounding that lets gradients through.

Both y and z are modelled by a generalised Gaussian of shape BETA = 1.5 around a mean (paper, section 3.2):

    CDF(v) = (1 + sign(v) P(1/BETA, |v / scale|^BETA)) / 2,    p(symbol s) = CDF(s + 1/2) - CDF(s - 1/2)

with P the regularised lower incomplete gamma function. The special function is slow, so its tail Q(t) = 1 - CDF(t) is
interpolated by cubic Hermite splines (error below 1e-7); its gradient is the exact density.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from .kept import kept

BETA = 1.5
DENSITY = BETA / (2 * math.gamma(1 / BETA))  # of the standard distribution at zero
SCALE_MIN = 0.12  # scales are bounded below
LIKELIHOOD_MIN = 1e-9  # 30 bits
TAIL_END = 9.0  # Q(9) = 3e-13
CELLS_PER_UNIT = 128
TAILS = 16  # devices and types whose splines are kept


class _LowerBound(torch.autograd.Function):
    """max(x, bound); the gradient passes where x is above the bound or would move up (Balle et al., 2018)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, bound: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bound = bound
        return x.clamp(min=bound)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return grads[0] * ((x >= ctx.bound) | (grads[0] < 0)), None


def lower_bound(x: Tensor, bound: float) -> Tensor:
    # Without a gradient it is a plain operation: TorchScript can't save a function with a gradient of its own.
    return _LowerBound.apply(x, bound) if x.requires_grad else x.clamp(min=bound)


@kept(TAILS)
def _tail_splines(device: torch.device, dtype: torch.dtype) -> Tensor:
    """Coefficients [cells, 4] of the cubics that interpolate Q on cells of 1 / CELLS_PER_UNIT."""
    t = torch.arange(int(TAIL_END * CELLS_PER_UNIT) + 1, dtype=torch.float64) / CELLS_PER_UNIT
    value = 0.5 * torch.special.gammaincc(torch.full_like(t, 1 / BETA), t**BETA)
    slope = -DENSITY * torch.exp(-(t**BETA)) / CELLS_PER_UNIT
    rise = value[1:] - value[:-1]
    cubic = torch.stack(
        (value[:-1], slope[:-1], 3 * rise - 2 * slope[:-1] - slope[1:], slope[:-1] + slope[1:] - 2 * rise), 1
    )
    return cubic.to(device=device, dtype=dtype)


def interpolate(t: Tensor, splines: Tensor, cells_per_unit: int) -> Tensor:
    """The value at t >= 0 of the cubics `splines` [cells, 4], one for each cell; beyond the last one, its end."""
    place = (t * cells_per_unit).clamp(max=splines.shape[0] - 1e-3)
    cell = place.long().clamp_(0, splines.shape[0] - 1)  # NaN is the smallest integer; it goes on in u
    u = place.sub_(cell)
    a, b, c, d = splines[cell].unbind(-1)
    return ((d * u + c) * u + b) * u + a


@lru_cache
def _interpolation_on_gpus() -> Callable[[Tensor, Tensor, int], Tensor]:
    """The Triton kernel if it works here and gives what its twin in torch gives; else the twin."""
    t = torch.linspace(0, TAIL_END + 1, 4096, device="cuda")
    given = t, _tail_splines(t.device, t.dtype), CELLS_PER_UNIT
    try:
        from . import tail_kernel

        alike = torch.allclose(tail_kernel.interpolate(*given), interpolate(*given), rtol=0, atol=1e-6)
    except Exception:  # without Triton, or without the C compiler that it needs: whatever it raises, torch works
        return interpolate
    return tail_kernel.interpolate if alike else interpolate


def _tail(t: Tensor, splines: Tensor) -> Tensor:
    on_gpu = t.is_cuda and t.dtype == torch.float32
    compute = _interpolation_on_gpus() if on_gpu else interpolate
    return compute(t, splines, CELLS_PER_UNIT)


class _Tail(torch.autograd.Function):
    """Q(t) for t >= 0.

    The splines are an argument, though they follow from t: torch.jit.trace can't record a function twice that takes the
    same tensor from elsewhere ("unordered_map::at").
    """

    @staticmethod
    def forward(ctx: Any, t: Tensor, splines: Tensor) -> Tensor:
        ctx.save_for_backward(t)
        return _tail(t, splines)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (t,) = ctx.saved_tensors
        return grads[0] * (-DENSITY) * torch.exp(-t * t.sqrt()), None


def tail(t: Tensor) -> Tensor:
    """Q(t) for t >= 0."""
    splines = _tail_splines(t.device, t.dtype)
    return _Tail.apply(t, splines) if t.requires_grad else _tail(t, splines)  # as for lower_bound


def likelihood(residual: Tensor, scales: Tensor) -> Tensor:
    """Probability of the unit interval around `residual` (value - mean), at least LIKELIHOOD_MIN.

    Works on the tails' side, where the difference of two small numbers keeps its precision.
    """
    scales = lower_bound(scales, SCALE_MIN)
    distance = residual.abs()
    far = (distance + 0.5) / scales
    near = (distance - 0.5) / scales
    tails = tail(torch.stack((near.abs(), far)))
    inner = torch.where(near < 0, 1 - tails[0], tails[0])
    return lower_bound(inner - tails[1], LIKELIHOOD_MIN)


def likelihood_by_cdf(residual: Tensor, scales: Tensor) -> Tensor:
    """The same as the released code computes it: a float32 difference of two CDFs, for parity with its figures.

    Far from the mean both CDFs are near 0 or 1 and little of their difference survives the subtraction: a symbol worth
    26 bits may be charged 30, the most that LIKELIHOOD_MIN allows.
    """
    scales = lower_bound(scales, SCALE_MIN)

    def cdf(v: Tensor) -> Tensor:
        inner = torch.special.gammainc(torch.full_like(v, 1 / BETA), (v / scales).abs() ** BETA)
        return (1 + v.sign() * inner) / 2

    return lower_bound(cdf(residual + 0.5) - cdf(residual - 0.5), LIKELIHOOD_MIN)


def bits(likelihoods: Tensor) -> Tensor:
    """The information content in bits, summed."""
    return -torch.log2(likelihoods).sum()


def round_through(x: Tensor) -> Tensor:
    """Rounds to the nearest integer, halves to even; the gradient is that of the identity."""
    return x + (x.round() - x).detach()


def uniform_noise(x: Tensor) -> Tensor:
    """x plus noise in [-1/2, 1/2), the stand-in for rounding in the rate term of the loss."""
    return x + torch.rand_like(x) - 0.5
