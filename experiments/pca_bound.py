"""How much of a picture M linear latents of separate 16x16 cells can hold, whatever they cost: PSNR by M.

    python experiments/pca_bound.py PICTURES... --data DIR...

The components are those of 16x16x3 cells of crops of the data; PSNR is the mean over the pictures. Transforms that
aren't linear go beyond, but start there (hpcm.train.start).
"""

import argparse
import math
from statistics import mean

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hpcm.eval.evaluate import find_pictures
from hpcm.eval.measure import read_pixels
from hpcm.eval.report import markdown
from hpcm.model.config import LATENT_STRIDE
from hpcm.train.data import Photographs
from hpcm.train.start import components

COUNTS = (128, 192, 256, 320, 384, 512)
CROPS, SIDE = 2048, 64  # to find the components in


def cells(x: Tensor) -> Tensor:
    """[B, 3, H, W] -> [n, 768]; what doesn't fill a cell is left out."""
    height, width = (side // LATENT_STRIDE * LATENT_STRIDE for side in x.shape[2:])
    return F.pixel_unshuffle(x[:, :, :height, :width], LATENT_STRIDE).permute(0, 2, 3, 1).reshape(-1, 3 * 256)


def main() -> None:
    parser = argparse.ArgumentParser(description="What M linear latents can hold.")
    parser.add_argument("pictures", nargs="+", help="pictures or folders to measure on")
    parser.add_argument("--data", nargs="+", required=True, help="folders or archives of photographs")
    given = parser.parse_args()
    photographs = Photographs(given.data, SIDE, memory=2e9, device=torch.device("cpu"))
    crops = photographs.pool(0).draw(np.random.default_rng(0), CROPS, SIDE).cut()
    basis, _, middle = components(cells(crops), max(COUNTS))
    decibels: dict[int, list[float]] = {count: [] for count in COUNTS}
    for path in find_pictures(given.pictures):
        pixels = torch.from_numpy(read_pixels(path)).permute(2, 0, 1)[None] / 255
        x = cells(pixels) - middle
        for count in COUNTS:
            kept = basis[:count]
            error = float((x - x @ kept.T @ kept).square().mean())
            decibels[count].append(-10 * math.log10(max(error, 1e-12)))
    rows = [[str(count), f"{mean(values):.1f} dB", f"{min(values):.1f} dB"] for count, values in decibels.items()]
    print(markdown(["latents per cell", "mean", "least"], rows))


if __name__ == "__main__":
    main()
