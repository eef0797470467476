"""How much two pictures differ. A picture is uint8 [H, W, 3]."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

PEAK = 255
EQUAL = 100.0  # dB: stands for the infinity of equal pictures, so that means and JSON stay sound
# Wang, Simoncelli, Bovik: "Multi-scale structural similarity for image quality assessment", 2003.
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW, SIGMA = 11, 1.5  # of the Gaussian, in pixels
C1, C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2
SMALLEST = (WINDOW - 1) * 2 ** (len(SCALE_WEIGHTS) - 1)  # pixels: a side must be longer for MS-SSIM

Pixels = NDArray[np.uint8]


def psnr(a: Pixels, b: Pixels) -> float:
    """Peak signal-to-noise ratio in dB over all pixels and channels, at most EQUAL."""
    if a.shape != b.shape:
        raise ValueError(f"a picture of shape {a.shape} came back as {b.shape}")
    mse = float(np.mean((a.astype(np.float64) - b) ** 2))
    return min(10 * math.log10(PEAK**2 / mse), EQUAL) if mse else EQUAL


def ms_ssim(a: Pixels, b: Pixels) -> float | None:
    """Multi-scale structural similarity, the mean of the channels'; None if a side has SMALLEST pixels or fewer."""
    import torch

    if min(a.shape[:2]) <= SMALLEST:
        return None
    x, y = (torch.from_numpy(picture.copy()).permute(2, 0, 1).double() for picture in (a, b))  # [3, H, W]
    result = torch.ones(3, dtype=torch.float64)
    for scale, weight in enumerate(SCALE_WEIGHTS):
        last = scale == len(SCALE_WEIGHTS) - 1
        result *= torch.stack([_similarity(*planes, luminance=last) for planes in zip(x, y, strict=True)]) ** weight
        padding = [side % 2 for side in x.shape[1:]]
        x, y = (torch.nn.functional.avg_pool2d(planes, 2, padding=padding) for planes in (x, y))
    return float(result.mean())


def _similarity(x: Tensor, y: Tensor, *, luminance: bool) -> Tensor:
    """Contrast and structure of two planes [H, W] at one scale, times luminance if wanted; not negative."""
    mean_x, mean_y, xx, yy, xy = (_blurred(plane) for plane in (x, y, x * x, y * y, x * y))
    var_x, var_y, covariance = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
    similarity = (2 * covariance + C2) / (var_x + var_y + C2)
    if luminance:
        similarity *= (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    return similarity.mean().clamp(min=0)


def _blurred(plane: Tensor) -> Tensor:
    """A plane [H, W] under the Gaussian window, only where the window fits: [H - 10, W - 10]."""
    weights = _window()
    for axis in (0, 1):  # sums in place: several times as fast as a convolution in float64
        size = plane.shape[axis] - WINDOW + 1
        total = plane.narrow(axis, 0, size) * weights[0]
        for k in range(1, WINDOW):
            total.add_(plane.narrow(axis, k, size), alpha=weights[k])
        plane = total
    return plane


@cache
def _window() -> list[float]:
    weights = np.exp(-((np.arange(WINDOW) - WINDOW // 2) ** 2) / (2 * SIGMA**2))
    return list((weights / weights.sum()).tolist())


def decibels(similarity: float) -> float:
    """MS-SSIM in dB, at most EQUAL."""
    return min(-10 * math.log10(1 - similarity), EQUAL) if similarity < 1 else EQUAL


def lpips(a: Pixels, b: Pixels) -> float:
    """Learned perceptual distance (AlexNet's); 0 for equal pictures. Raises UsageError without the package."""
    import torch

    x, y = (torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1 for picture in (a, b))
    with torch.inference_mode():
        return float(_lpips_network()(x, y))


@cache
def _lpips_network() -> Any:
    try:
        import lpips as package
    except ImportError as error:
        raise UsageError("LPIPS needs another package and its network's weights: pip install lpips") from error
    return package.LPIPS(net="alex", verbose=False).eval()
