"""Draws where the bits of a .hpcm file are: for each 16 x 16 pixels, from blue (none) to white (the most).

python examples/bit_map.py FILE.hpcm -o MAP.png [--model NAME|PATH]
"""

import argparse

import numpy as np
from PIL import Image, ImageOps

import hpcm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="a .hpcm file")
    parser.add_argument("-o", "--output", required=True, help="a picture file")
    parser.add_argument("--model", help="by default the one that the file names")
    options = parser.parse_args()
    bits = hpcm.latents(options.file, model=options.model).bit_map  # [rows, columns]
    grey = Image.fromarray(np.rint(255 * bits / max(bits.max(), 1)).astype(np.uint8))
    coloured = ImageOps.colorize(grey, black="midnightblue", mid="orangered", white="white")
    size = (16 * bits.shape[1], 16 * bits.shape[0])
    coloured.resize(size, Image.Resampling.NEAREST).save(options.output)
    print(f"{options.file}: {bits.sum() / 8:,.0f} bytes; {bits.max():.0f} bits at most, {bits.mean():.1f} on average")


if __name__ == "__main__":
    main()
