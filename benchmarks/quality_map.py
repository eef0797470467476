"""Quality maps: bytes that are saved, and PSNR inside and outside of the region that matters, for docs/effort.md.

    python benchmarks/quality_map.py PICTURE ... [--models nano lite] [--quality 50] [--values 0.8 0.6 0.4 0.2 0.1]

The region is the middle of each picture, a quarter of its area; the map is 1 there and VALUE elsewhere. Beside it
stands what a lower quality outside would give: the bits inside from the file at QUALITY and those outside from one at a
lower level, as `hpcm.latents` counts them. No file can be so, but it says how close a map comes. Its bytes are
interpolated to the same PSNR outside. Columns are means over the pictures of shares and of differences in dB; times are
of the processor.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from common import heading

import hpcm
from hpcm.codec.encoder import Encoding
from hpcm.image.picture import Picture, rgb_of, to_image
from hpcm.image.read import read_picture
from hpcm.util.metrics import psnr_of_mse

STRIDE = 16  # pixels for each number of a map
LEVELS_BELOW = range(0, 32, 4)  # the levels that are tried for outside


def middle(rows: int, columns: int) -> np.ndarray:
    """True for the middle half of the rows and columns."""
    inside = np.zeros((rows, columns), bool)
    inside[rows // 4 : rows - rows // 4, columns // 4 : columns - columns // 4] = True
    return inside


def qualities(codec: hpcm.Codec, data: bytes, pixels: np.ndarray, inside: np.ndarray) -> tuple[float, float]:
    """PSNR in dB inside and outside."""
    decoded = rgb_of(codec.decompress(data)).astype(float)
    errors = ((decoded - pixels) ** 2).mean(2)
    whole = np.kron(inside, np.ones((STRIDE, STRIDE), bool))[: errors.shape[0], : errors.shape[1]]
    return psnr_of_mse(errors[whole].mean(), 255), psnr_of_mse(errors[~whole].mean(), 255)


def rows_of(codec: hpcm.Codec, picture: Picture, quality: int, values: list[float]) -> list[list[float]]:
    """For each value: share of bytes, change of PSNR inside and outside, share of bytes of the composed file, times."""
    pixels = rgb_of(to_image(picture))
    inside = middle(-(-pixels.shape[0] // STRIDE), -(-pixels.shape[1] // STRIDE))
    begin = time.process_time()
    plain = codec.compress(picture, quality=quality)
    usual = time.process_time() - begin
    before = qualities(codec, plain, pixels, inside)
    level, job = codec.level_of(quality), Encoding(codec.loaded(), picture)
    bits = hpcm.latents(plain, model=codec.weights.path).bit_map
    outside = []  # PSNR and bytes of the composed files
    for lower in (level - below for below in LEVELS_BELOW if below <= level):
        data = job.file(lower)
        there = hpcm.latents(data, model=codec.weights.path).bit_map[~inside].sum() / 8
        outside.append((qualities(codec, data, pixels, inside)[1], len(plain) - bits[~inside].sum() / 8 + there))
    outside.sort()
    rows = []
    for value in values:
        begin = time.process_time()
        data = codec.compress(picture, quality=quality, quality_map=np.where(inside, 1, value))
        spent = time.process_time() - begin
        after = qualities(codec, data, pixels, inside)
        composed = np.interp(after[1], *zip(*outside, strict=True))
        shares = (len(data) / len(plain), composed / len(plain), spent / usual)
        rows.append([shares[0], after[0] - before[0], after[1] - before[1], *shares[1:]])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", nargs="+", type=Path)
    parser.add_argument("--models", nargs="+", default=["nano", "lite"])
    parser.add_argument("--quality", type=int, default=50)
    parser.add_argument("--values", type=float, nargs="+", default=[0.8, 0.6, 0.4, 0.2, 0.1])
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(heading(1, "torch") + f"; {len(options.pictures)} pictures, quality {options.quality}\n")
    print("| model | map outside | bytes | PSNR inside | PSNR outside | bytes by a lower quality outside | encode |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in options.models:
        codec = hpcm.load(name, threads=1)
        pictures = (read_picture(path.read_bytes()) for path in options.pictures)
        means = np.mean([rows_of(codec, picture, options.quality, options.values) for picture in pictures], 0)
        for value, (share, inside, outside, composed, times) in zip(options.values, means, strict=True):
            gains = f"{inside:+.2f} dB | {outside:+.2f} dB"
            print(f"| {name} | {value:g} | {share - 1:+.1%} | {gains} | {composed - 1:+.1%} | {times:.1f} x |")


if __name__ == "__main__":
    main()
