"""The rate-distortion loss (paper, section 4.1): lambda * 255^2 * MSE + bits per pixel."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..model.config import Config


class Loss(NamedTuple):
    """Means over the batch: the loss, bits per pixel, and the mean squared error of pictures in 0..1."""

    total: Tensor
    bpp: Tensor
    mse: Tensor


def lambdas(config: Config, level: Tensor) -> Tensor:
    """The weight of the distortion for each level [B], spaced logarithmically over the levels."""
    if config.levels == 1:
        return torch.full_like(level, config.lambda_min)
    return config.lambda_min * (config.lambda_max / config.lambda_min) ** (level / (config.levels - 1))


def rate_distortion(x: Tensor, x_hat: Tensor, likelihoods: dict[str, Tensor], weight: Tensor) -> Loss:
    """x, x_hat [B, 3, H, W]; likelihoods of y and z; weight [B], the lambda of each picture."""
    pixels = x.shape[2] * x.shape[3]
    bpp = sum((-torch.log2(p).sum((1, 2, 3)) for p in likelihoods.values()), torch.zeros_like(weight)) / pixels
    mse = (x_hat - x).square().mean((1, 2, 3))
    return Loss((weight * 255**2 * mse + bpp).mean(), bpp.mean(), mse.mean())
