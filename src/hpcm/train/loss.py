"""The rate-distortion loss (paper, section 4.1): lambda * distortion + bits per pixel.

The distortion is 255^2 * MSE, 1 - MS-SSIM, a mean of both (hpcm.nn.distortion), or one's own (own_loss.py).
Shapes: pictures [B, 3, H, W] in 0..1; lambda, level and importance of each picture [B].
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..model.config import Config
from ..nn.distortion import distortion
from .own_loss import OwnLoss


class Loss(NamedTuple):
    """Means over the batch: the loss, bits per pixel, and the mean squared error of pictures in 0..1."""

    total: Tensor
    bpp: Tensor
    mse: Tensor


def importances(config: Config, level: Tensor, balance: float) -> Tensor:
    """What the loss of each level [B] is multiplied by: lambda^-balance, scaled to 1 in the middle of the levels.

    The loss itself grows about like the square root of lambda, so that 0.5 gives all levels equal shares.
    """
    middle = math.sqrt(config.lambda_min * config.lambda_max)
    return (config.lambda_of(level) / middle) ** -balance if config.levels > 1 else torch.ones_like(level)


def rate_distortion(
    x: Tensor,
    x_hat: Tensor,
    likelihoods: dict[str, Tensor],
    weight: Tensor,
    loss: str | OwnLoss = "mse",
    importance: Tensor | None = None,
) -> Loss:
    """x, x_hat [B, 3, H, W]; likelihoods of y and z; weight [B], the lambda of each picture; importance [B] or 1."""
    pixels = x.shape[2] * x.shape[3]
    bpp = sum((-torch.log2(p).sum((1, 2, 3)) for p in likelihoods.values()), torch.zeros_like(weight)) / pixels
    mse = (x_hat - x).square().mean((1, 2, 3))
    distorted = loss(x, x_hat) if isinstance(loss, OwnLoss) else distortion(x, x_hat, loss, mse)
    total = weight * distorted + bpp
    return Loss((total if importance is None else importance * total).mean(), bpp.mean(), mse.mean())
