"""How much two pictures differ, for reports. A picture is uint8 [H, W, 3].

A metric that can't be computed of two pictures is None, and never a number that stands for something else: means are
taken over the pictures that have it (columns.py).
"""

from __future__ import annotations

import io
import math
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import UsageError
from ..util import metrics
from ..util.metrics import PEAK, SMALLEST, psnr_of_mse

SSIMULACRA2_SMALLEST = 8  # pixels of a side: of smaller pictures the package says 100, whatever they are
BUTTERAUGLI_SMALLEST = 8  # pixels of a side
BUTTERAUGLI = "butteraugli_main"  # libjxl's program
LPIPS_SMALLEST = 31  # pixels of a side: of less nothing is left after the network's strides

Pixels = NDArray[np.uint8]


def psnr(a: Pixels, b: Pixels) -> float | None:
    """Peak signal-to-noise ratio in dB, over all pixels and channels; None for equal pictures, where it is infinite.

    Raises ValueError for pictures of two sizes.
    """
    if a.shape != b.shape:
        raise ValueError(f"a picture of shape {a.shape} came back as {b.shape}")
    mse = float(np.mean((a.astype(np.float64) - b) ** 2))
    return psnr_of(mse) if mse else None


def psnr_of(mse: float) -> float:
    """PSNR in dB of a mean squared error of 8-bit values."""
    return psnr_of_mse(mse, PEAK)


def mse_of(decibels: float) -> float:
    """The mean squared error of 8-bit values that a PSNR in dB stands for."""
    return float(PEAK**2 / 10 ** (decibels / 10))


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
    """MS-SSIM under 1 in dB."""
    return -10 * math.log10(1 - similarity)


def lpips(a: Pixels, b: Pixels) -> float | None:
    """Learned perceptual distance (AlexNet's); 0 for equal pictures, None if a side is under LPIPS_SMALLEST.

    Raises UsageError without the package.
    """
    import torch

    if min(a.shape[:2]) < LPIPS_SMALLEST:
        return None

    x, y = (torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1 for picture in (a, b))
    with torch.inference_mode():
        return float(_lpips_network()(x, y))


def ssimulacra2(a: Pixels, b: Pixels) -> float | None:
    """SSIMULACRA 2 of an original and a copy: 100 for equal ones, 90 visually lossless, 50 medium, below 0 very poor.

    Fitted to people's ratings of compressed pictures (Sneyers, 2022, in libjxl). A model that is trained for it
    (`hpcm train --loss ssimulacra2`) is to be judged by other metrics, too. None if a side is under
    SSIMULACRA2_SMALLEST. Raises UsageError without the package.
    """
    try:
        from ssimulacra2 import compute_ssimulacra2
    except ImportError as error:
        raise UsageError("SSIMULACRA 2 needs another package: pip install ssimulacra2") from error
    if min(a.shape[:2]) < SSIMULACRA2_SMALLEST:
        return None
    files = [io.BytesIO(), io.BytesIO()]  # the package reads files
    for file, picture in zip(files, (a, b), strict=True):
        Image.fromarray(picture).save(file, "PPM")
    return float(compute_ssimulacra2(*files))


def butteraugli(a: Pixels, b: Pixels) -> float | None:
    """Butteraugli's distance of an original and a copy, as a 3-norm, with the sign changed: 0 for equal ones.

    At a distance of 1 a difference is just visible (Alakuijala et al., in libjxl). None if a side is under
    BUTTERAUGLI_SMALLEST. Raises UsageError where libjxl's program isn't installed, or fails.
    """
    program = shutil.which(BUTTERAUGLI)
    if program is None:
        raise UsageError(f"Butteraugli needs libjxl's {BUTTERAUGLI} (in Debian: apt install libjxl-devtools)")
    if min(a.shape[:2]) < BUTTERAUGLI_SMALLEST:
        return None
    with TemporaryDirectory() as folder:
        files = [str(Path(folder) / name) for name in ("original.png", "copy.png")]
        for file, picture in zip(files, (a, b), strict=True):
            Image.fromarray(picture).save(file, compress_level=0)
        done = subprocess.run([program, *files], capture_output=True, text=True)
    found = re.search(r"3-norm: ([0-9.]+)", done.stdout)
    if done.returncode or not found:
        raise UsageError(f"{BUTTERAUGLI} failed: {(done.stderr or done.stdout).strip()[-200:]}")
    return -float(found[1])


EXTRA = {  # what takes long or needs another package or program: only if asked for
    "lpips": lpips,
    "ssimulacra2": ssimulacra2,
    "butteraugli": butteraugli,
}


@cache
def _lpips_network() -> Any:
    try:
        import lpips as package
    except ImportError as error:
        raise UsageError("LPIPS needs another package and its network's weights: pip install lpips") from error
    return package.LPIPS(net="alex", verbose=False).eval()
