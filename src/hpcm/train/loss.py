"""The rate-distortion loss (paper, section 4.1): lambda * distortion + bits per pixel.

The distortion is 255^2 * MSE, or 1 - MS-SSIM (Wang, Simoncelli and Bovik, 2003).
Shapes: pictures [B, 3, H, W] in 0..1; lambda, level and what is said of each picture [B].
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..model.config import Config

LOSSES = ("mse", "ms-ssim")
MS_SSIM_WEIGHT = 1280.0  # of published lambdas for 1 - MS-SSIM (2.4 .. 60.5) to those for MSE (0.0018 .. 0.0483)
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the five scales, finest first
WINDOW, SIGMA = 11, 1.5  # pixels, of the Gaussian window
C1, C2 = 0.01**2, 0.03**2  # steady the two quotients; for values in 0..1
SCORE_MIN = 1e-6  # of a scale: a negative one has no power, and zero no gradient
MS_SSIM_SIDE = (WINDOW - 1) * 2 ** (len(SCALE_WEIGHTS) - 1)  # pixels that a side must exceed


class Loss(NamedTuple):
    """Means over the batch: the loss, bits per pixel, and the mean squared error of pictures in 0..1."""

    total: Tensor
    bpp: Tensor
    mse: Tensor


def lambdas(config: Config, level: Tensor, loss: str = "mse") -> Tensor:
    """The weight of the distortion for each level [B], spaced logarithmically over the levels.

    The one lambda of a single-level model is in units of the loss that it is trained for.
    """
    if config.levels == 1:
        return torch.full_like(level, config.lambda_min)
    weight = config.lambda_min * (config.lambda_max / config.lambda_min) ** (level / (config.levels - 1))
    return weight * MS_SSIM_WEIGHT if loss == "ms-ssim" else weight


def importances(config: Config, level: Tensor, balance: float) -> Tensor:
    """What the loss of each level [B] counts for: lambda^-balance, 1 in the middle of the levels.

    The loss itself grows about like the square root of lambda, so that 0.5 gives all levels equal shares.
    """
    middle = math.sqrt(config.lambda_min * config.lambda_max)
    return (lambdas(config, level) / middle) ** -balance if config.levels > 1 else torch.ones_like(level)


def rate_distortion(
    x: Tensor,
    x_hat: Tensor,
    likelihoods: dict[str, Tensor],
    weight: Tensor,
    loss: str = "mse",
    importance: Tensor | None = None,
) -> Loss:
    """x, x_hat [B, 3, H, W]; likelihoods of y and z; weight [B], the lambda of each picture; importance [B] or 1."""
    pixels = x.shape[2] * x.shape[3]
    bpp = sum((-torch.log2(p).sum((1, 2, 3)) for p in likelihoods.values()), torch.zeros_like(weight)) / pixels
    mse = (x_hat - x).square().mean((1, 2, 3))
    distortion = 255**2 * mse if loss == "mse" else 1 - ms_ssim(x, x_hat)
    total = weight * distortion + bpp
    return Loss((total if importance is None else importance * total).mean(), bpp.mean(), mse.mean())


@lru_cache(maxsize=4)
def _window(device: torch.device) -> Tensor:
    place = torch.arange(WINDOW, device=device) - WINDOW // 2
    window = torch.exp(-(place**2) / (2 * SIGMA**2))
    return window / window.sum()


def _blur(x: Tensor) -> Tensor:
    """Each channel under the Gaussian window, without a border: [B, C, H, W] -> [B, C, H - 10, W - 10]."""
    window, channels = _window(x.device).to(x.dtype), x.shape[1]
    x = F.conv2d(x, window.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    return F.conv2d(x, window.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)


def ms_ssim(x: Tensor, y: Tensor) -> Tensor:
    """Multi-scale structural similarity of pictures [B, C, H, W] with sides over MS_SSIM_SIDE: [B], 1 if equal."""
    score = torch.ones(())
    for scale, weight in enumerate(SCALE_WEIGHTS):
        if scale:
            x, y = (F.avg_pool2d(t, 2, padding=[side % 2 for side in t.shape[2:]]) for t in (x, y))
        mean_x, mean_y = _blur(x), _blur(y)
        product, squares = mean_x * mean_y, mean_x.square() + mean_y.square()
        similarity = (2 * (_blur(x * y) - product) + C2) / (_blur(x * x) + _blur(y * y) - squares + C2)
        if scale == len(SCALE_WEIGHTS) - 1:
            similarity = similarity * (2 * product + C1) / (squares + C1)
        score = score.to(x) * similarity.mean((2, 3)).clamp(min=SCORE_MIN) ** weight
    return score.mean(1)
