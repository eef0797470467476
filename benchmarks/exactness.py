"""What exact arithmetic costs: models side by side over a folder of pictures.

    hpcm exact RUN PHOTOS... --carrier float64 -o float64.safetensors
    hpcm exact RUN PHOTOS... --carrier float32 -o float32.safetensors
    python benchmarks/exactness.py KODAK RUN float64.safetensors float32.safetensors [--limit N] [--threads N]

The first model is what the others are compared with: bytes of all files at the same quality levels, PSNR, and the time
of compressing and decompressing, picture by picture in turn so that all see the same machine. Prints a table.
"""

import argparse
import time
from pathlib import Path
from statistics import median

import numpy as np
from common import heading, pictures_of
from PIL import Image

import hpcm
from hpcm.eval.metrics import psnr

QUALITIES = (9, 24, 40, 56, 72)


def measure(codec: hpcm.Codec, picture: Image.Image, quality: int) -> tuple[int, float, float, float]:
    """Bytes, dB, seconds of compressing, seconds of decompressing."""
    begin = time.perf_counter()
    data = codec.compress(picture, quality=quality)
    middle = time.perf_counter()
    decoded = codec.decompress(data)
    return len(data), psnr(np.asarray(picture), np.asarray(decoded)), middle - begin, time.perf_counter() - middle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    codecs = [hpcm.load(model, threads=options.threads) for model in options.models]
    pictures = pictures_of(options.pictures, options.limit)
    rows = np.zeros((len(codecs), len(pictures), len(QUALITIES), 4))
    for j, picture in enumerate(pictures):
        for k, quality in enumerate(QUALITIES):
            for i, codec in enumerate(codecs):
                if j == k == 0:
                    measure(codec, picture, quality)  # untimed: caches and pages
                rows[i, j, k] = measure(codec, picture, quality)
    print(f"{heading(options.threads)}, {len(pictures)} pictures, qualities {QUALITIES}\n")
    print("| model | arithmetic | bytes | PSNR | compress | decompress |\n|---|---|--:|--:|--:|--:|")
    first = rows[0]
    for codec, measured in zip(codecs, rows, strict=True):
        change = 100 * np.mean(measured[..., 0].sum(0) / first[..., 0].sum(0) - 1)
        gain = np.mean(measured[..., 1] - first[..., 1])
        times = [median((measured[..., c] / first[..., c]).ravel()) for c in (2, 3)]
        name = codec.engine.config.carrier or "plain float32"
        print(
            f"| {codec.weights.name} | {name} | {change:+.2f}% | {gain:+.3f} dB | x{times[0]:.2f} | x{times[1]:.2f} |"
        )


if __name__ == "__main__":
    main()
