"""What training minimises beside the rate, and what an encoder with effort does."""

from __future__ import annotations

from torch import Tensor

from ..model.config import MS_SSIM_WEIGHT
from ..util.metrics import PEAK, SCORE_MIN, ms_ssim

MIXED_SHARE = 0.75  # of MS-SSIM in the mixed loss: much of its gain for little PSNR, and colours stay right


def distortion(x: Tensor, x_hat: Tensor, loss: str, mse: Tensor | None = None) -> Tensor:
    """What lambda is multiplied by in the loss, for pictures [B, 3, H, W] in 0..1: [B], differentiable.

    "mse" is 255^2 * MSE and "ms-ssim" 1 - MS-SSIM (paper, section 4.1). "mixed" is a weighted mean of both in units of
    the first. MS-SSIM needs sides over metrics.SMALLEST. `mse` [B] spares computing it where it is known.
    """
    squared = PEAK**2 * ((x_hat - x).square().mean((1, 2, 3)) if mse is None else mse)
    if loss == "mse":
        return squared
    structure = 1 - ms_ssim(x, x_hat, least=SCORE_MIN)
    return structure if loss == "ms-ssim" else squared.lerp(MS_SSIM_WEIGHT * structure, MIXED_SHARE)
