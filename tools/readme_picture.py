"""The README's picture: a photograph, and the same as JPEG and as hpcm in equal bytes.

    python tools/readme_picture.py tests/data/kodim23.png [--bpp 0.2] [-o docs/readme.webp]

The photograph is compressed whole; the picture shows a part of it at full size. JPEG gets the lowest quality whose file
has no fewer bytes than hpcm's. Prints the bytes and the PSNR of both.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import hpcm
from hpcm.eval.baselines import Jpeg
from hpcm.eval.measure import read_pixels
from hpcm.eval.metrics import psnr

JPEG = Jpeg()
LEFT, TOP, WIDTH, HEIGHT = 96, 60, 400, 340  # pixels of the part that is shown
GAP, LABEL, FONT = 8, 36, 24  # pixels: between the parts, of the labels' row and of its letters


def least_jpeg(picture: Image.Image, size: int) -> bytes:
    """The smallest JPEG of at least so many bytes, or the largest there is."""
    data = b""
    for quality in JPEG.scale:
        data = JPEG.compress(picture, quality)
        if len(data) >= size:
            break
    return data


def main() -> None:
    parser = argparse.ArgumentParser(description="A photograph, as JPEG and as hpcm in equal bytes.")
    parser.add_argument("photograph", type=Path)
    parser.add_argument("--model", default="lite")
    parser.add_argument("--bpp", type=float, default=0.2, help="the most bits per pixel of hpcm's file")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/readme.webp"))
    options = parser.parse_args()
    original = Image.fromarray(read_pixels(options.photograph))
    data = hpcm.compress(original, bpp=options.bpp, model=options.model)
    jpeg = least_jpeg(original, len(data))
    parts = {"original": original}
    for name, size, picture in (
        ("JPEG", len(jpeg), JPEG.decompress(jpeg)),
        ("hpcm", len(data), hpcm.decompress(data)),
    ):
        bpp = 8 * size / (original.width * original.height)
        print(f"{name}  {size:,} bytes  {bpp:.3f} bpp  {psnr(np.asarray(original), np.asarray(picture)):.2f} dB")
        parts[f"{name}, {size:,} bytes"] = picture
    sheet = Image.new("RGB", (len(parts) * (WIDTH + GAP) - GAP, HEIGHT + LABEL), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT)
    for i, (label, picture) in enumerate(parts.items()):
        left = i * (WIDTH + GAP)
        sheet.paste(picture.crop((LEFT, TOP, LEFT + WIDTH, TOP + HEIGHT)), (left, 0))
        draw.text((left + WIDTH // 2, HEIGHT + LABEL // 2), label, "black", font, anchor="mm")
    sheet.save(options.output, quality=88, method=6)


if __name__ == "__main__":
    main()
