"""What a forged .hpcm file can cost: time for each claimed pixel beside an honest file's, side by side, and memory.

python benchmarks/strangers.py [--model NAME] [--rounds N]

The forger knows the model and computes every checksum, so that nothing stops the decoder before the last pixel.
"""

import argparse
import resource
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

from PIL import Image

import hpcm
from hpcm.format.container import unpack
from hpcm.format.fields import Container, Part

PHOTO = Path(__file__).parents[1] / "tests" / "data" / "kodim23.png"
SIDE = 1024  # pixels of the honest picture


class Right(int):
    """A checksum that fits."""

    def __ne__(self, other: object) -> bool:
        return False

    __eq__ = int.__eq__
    __hash__ = int.__hash__


def forged(honest: Container, width: int, height: int) -> Container:
    """No payload at all decodes to symbols, too."""
    tile = (Part(b"", Right(0)),)
    claim = replace(honest, width=width, height=height, passes=1)
    return replace(claim, tiles=(tile,) * claim.tile_count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    codec = hpcm.load(options.model, threads=1)
    honest = unpack(codec.compress(Image.open(PHOTO).resize((SIDE, SIDE)), quality=40, progressive=False))
    files = {
        "honest": honest,
        "as large": forged(honest, SIDE, SIDE),
        "1 pixel wide": forged(honest, 1, SIDE),
        "1 x 1": forged(honest, 1, 1),
    }
    seconds: dict[str, list[float]] = {name: [] for name in files}
    for _ in range(options.rounds):
        for name, file in files.items():
            begin = time.perf_counter()
            codec.decompress(file)
            seconds[name].append(time.perf_counter() - begin)
    unit = median(seconds["honest"]) / SIDE**2
    multiple = codec.engine.config.multiple
    print(
        f"{codec.weights.name}: {1e6 * unit:.2f} microseconds for each pixel of an honest file; forged, as multiples:"
    )
    for name, file in files.items():
        counted = max(file.width, multiple) * max(file.height, multiple)
        print(
            f"{name:>12}  {median(seconds[name]) / counted / unit:5.2f} for each pixel, a side counting as {multiple}"
        )
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB, of {SIDE} x {SIDE} pixels")


if __name__ == "__main__":
    main()
