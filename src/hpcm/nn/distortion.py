"""What training minimises beside the rate, and what an encoder with effort does."""

from __future__ import annotations

from torch import Tensor

from ..model.config import MS_SSIM_WEIGHT
from ..util.metrics import PEAK, SCORE_MIN, ms_ssim
from . import ssimulacra2

MIXED_SHARE = 0.75  # of what looks in a mixed loss: much of its gain for little PSNR, and colours stay right
SSIMULACRA2_WEIGHT = 4.0  # of its error, which is then about as large as 255^2 * MSE at all quality levels


def distortion(x: Tensor, x_hat: Tensor, loss: str, mse: Tensor | None = None) -> Tensor:
    """What lambda is multiplied by in the loss, for pictures [B, 3, H, W] in 0..1: [B], differentiable.

    "mse" is 255^2 * MSE and "ms-ssim" 1 - MS-SSIM (paper, section 4.1). "mixed" is a weighted mean of both in units of
    the first, and "ssimulacra2" one of the first and SSIMULACRA 2's error. MS-SSIM needs sides over metrics.SMALLEST,
    SSIMULACRA 2 of at least 8. `mse` [B] spares computing it where it is known.
    """
    squared = PEAK**2 * ((x_hat - x).square().mean((1, 2, 3)) if mse is None else mse)
    if loss == "mse":
        return squared
    if loss == "ssimulacra2":
        return squared.lerp(SSIMULACRA2_WEIGHT * ssimulacra2.error(x_hat, x), MIXED_SHARE)
    structure = 1 - ms_ssim(x, x_hat, least=SCORE_MIN)
    return structure if loss == "ms-ssim" else squared.lerp(MS_SSIM_WEIGHT * structure, MIXED_SHARE)
