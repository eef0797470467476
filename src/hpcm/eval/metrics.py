"""How much two pictures differ, for reports. A picture is uint8 [H, W, 3]; `psnr` is that of `hpcm.util.metrics`."""

from __future__ import annotations

import io
import math
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import UsageError
from ..util import metrics
from ..util.metrics import EQUAL, PEAK, SMALLEST, psnr

__all__ = ["EQUAL", "EXTRA", "SMALLEST", "decibels", "lpips", "ms_ssim", "psnr", "ssimulacra2"]

Pixels = NDArray[np.uint8]


def ms_ssim(a: Pixels, b: Pixels) -> float | None:
    """Multi-scale structural similarity, the mean of the channels'; None if a side has SMALLEST pixels or fewer."""
    import torch

    if min(a.shape[:2]) <= SMALLEST:
        return None
    x, y = (torch.from_numpy(picture.transpose(2, 0, 1).copy()).double() for picture in (a, b))  # [3, H, W]
    # one channel at a time: it stays in the processor's cache
    channels = [metrics.ms_ssim(*planes, PEAK) for planes in zip(x[:, None, None], y[:, None, None], strict=True)]
    return float(torch.cat(channels).mean())


def decibels(similarity: float) -> float:
    """MS-SSIM in dB, at most EQUAL."""
    return min(-10 * math.log10(1 - similarity), EQUAL) if similarity < 1 else EQUAL


def lpips(a: Pixels, b: Pixels) -> float:
    """Learned perceptual distance (AlexNet's); 0 for equal pictures. Raises UsageError without the package."""
    import torch

    x, y = (torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1 for picture in (a, b))
    with torch.inference_mode():
        return float(_lpips_network()(x, y))


def ssimulacra2(a: Pixels, b: Pixels) -> float:
    """SSIMULACRA 2 of an original and a copy: 100 for equal ones, 90 visually lossless, 50 medium, below 0 very poor.

    Fitted to people's ratings of compressed pictures (Sneyers, 2022, in libjxl); no model here is trained for it.
    Raises UsageError without the package.
    """
    try:
        from ssimulacra2 import compute_ssimulacra2
    except ImportError as error:
        raise UsageError("SSIMULACRA 2 needs another package: pip install ssimulacra2") from error
    files = [io.BytesIO(), io.BytesIO()]  # the package reads files
    for file, picture in zip(files, (a, b), strict=True):
        Image.fromarray(picture).save(file, "PPM")
    return float(compute_ssimulacra2(*files))


EXTRA = {"lpips": lpips, "ssimulacra2": ssimulacra2}  # what takes long or needs another package: only if asked for


@cache
def _lpips_network() -> Any:
    try:
        import lpips as package
    except ImportError as error:
        raise UsageError("LPIPS needs another package and its network's weights: pip install lpips") from error
    return package.LPIPS(net="alex", verbose=False).eval()
