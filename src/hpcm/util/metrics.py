"""How much two pictures differ: PSNR and MS-SSIM, for training, coding and evaluation alike.

MS-SSIM is that of Wang, Simoncelli and Bovik, "Multi-scale structural similarity for image quality assessment" (2003).
Shapes: pictures of tensors are [B, C, H, W].
"""

from __future__ import annotations

import math
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PEAK = 255  # of 8-bit pictures
EQUAL = 100.0  # dB: stands for the infinity of equal pictures, so that means and JSON stay sound
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of the five scales, finest first
WINDOW, SIGMA = 11, 1.5  # pixels, of the Gaussian window
K1, K2 = 0.01, 0.03  # steady the quotients of luminance and of contrast and structure; shares of the peak
SCORE_MIN = 1e-6  # of a scale of MS-SSIM, where a gradient is wanted: a negative one has no power, and zero no gradient
SMALLEST = (WINDOW - 1) * 2 ** (len(SCALE_WEIGHTS) - 1)  # pixels: a side must be longer for MS-SSIM


def psnr_of_mse(mse: float, peak: float = 1.0) -> float:
    """Peak signal-to-noise ratio in dB of a mean squared error of values in 0..peak; infinity for no error."""
    return 10 * math.log10(peak**2 / mse) if mse else math.inf


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Of two pictures uint8 [H, W, 3] in dB, over all pixels and channels, at most EQUAL. Raises ValueError."""
    if a.shape != b.shape:
        raise ValueError(f"a picture of shape {a.shape} came back as {b.shape}")
    return min(psnr_of_mse(float(np.mean((a.astype(np.float64) - b) ** 2)), PEAK), EQUAL)


def ms_ssim(x: Tensor, y: Tensor, peak: float = 1.0, least: float = 0.0) -> Tensor:
    """Multi-scale structural similarity [B], the mean over the channels, 1 for equal pictures; differentiable.

    Args:
        x, y: pictures [B, C, H, W] of any floating-point type with values in 0..peak and sides over SMALLEST.
        least: what the mean of a scale and channel is raised to: over 0 where a gradient is wanted, for a power has
            none at 0.
    """
    from torch.nn.functional import avg_pool2d

    c1, c2 = (K1 * peak) ** 2, (K2 * peak) ** 2
    score = x.new_ones(x.shape[:2])
    for scale, weight in enumerate(SCALE_WEIGHTS):
        if scale:
            x, y = (avg_pool2d(t, 2, padding=[side % 2 for side in t.shape[2:]]) for t in (x, y))
        mean_x, mean_y = blurred(x), blurred(y)
        product, squares = mean_x * mean_y, mean_x.square() + mean_y.square()
        similarity = (2 * (blurred(x * y) - product) + c2) / (blurred(x * x) + blurred(y * y) - squares + c2)
        if scale == len(SCALE_WEIGHTS) - 1:
            similarity = similarity * (2 * product + c1) / (squares + c1)
        score = score * similarity.mean((2, 3)).clamp(min=least) ** weight
    return score.mean(1)


def blurred(x: Tensor) -> Tensor:
    """Each channel under the Gaussian window, only where that fits: [B, C, H, W] -> [B, C, H - 10, W - 10]."""
    return blurred_by_products(x) if x.is_cuda else _blur().apply(x)


def blurred_by_products(x: Tensor) -> Tensor:
    """The same as two products with band matrices.

    On a GPU two kernels are faster than the twenty-two of a sum of shifted pictures, although they multiply by zeros.
    """
    height, width = x.shape[2:]
    return _band(height, x.dtype, x.device).T @ (x.contiguous() @ _band(width, x.dtype, x.device))


@lru_cache(maxsize=32)
def _band(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[size, size - 10]: column i holds the window at i."""
    import torch

    with torch.inference_mode(False):  # it is kept, also for those who want gradients
        columns = torch.arange(size - WINDOW + 1)
        band = torch.zeros(size, len(columns), dtype=dtype)
        for k, weight in enumerate(_window()):
            band[columns + k, columns] = weight
        return band.to(device)


@cache
def _blur() -> Any:
    """A function of autograd, made when it is needed so that importing this module doesn't import torch.

    A sum of shifted pictures in place: on a CPU several times as fast as torch's convolutions, which it would be slow
    to differentiate as well, for each shift would have a gradient of its own.
    """
    from torch.autograd import Function
    from torch.autograd.function import once_differentiable

    class Blur(Function):
        @staticmethod
        def forward(_: Any, x: Tensor) -> Tensor:
            for axis in (2, 3):
                size = x.shape[axis] - WINDOW + 1
                total = x.narrow(axis, 0, size) * _window()[0]
                for k in range(1, WINDOW):
                    total.add_(x.narrow(axis, k, size), alpha=_window()[k])
                x = total
            return x

        @staticmethod
        @once_differentiable
        def backward(_: Any, gradient: Tensor) -> Tensor:
            for axis in (3, 2):
                shape, size = list(gradient.shape), gradient.shape[axis]
                shape[axis] += WINDOW - 1
                total = gradient.new_zeros(shape)
                for k in range(WINDOW):
                    total.narrow(axis, k, size).add_(gradient, alpha=_window()[k])
                gradient = total
            return gradient

    return Blur


@cache
def _window() -> list[float]:
    weights = np.exp(-((np.arange(WINDOW) - WINDOW // 2) ** 2) / (2 * SIGMA**2))
    return list((weights / weights.sum()).tolist())
