"""The README's picture: a photograph, and the same as AVIF, by lite-mse and by lite, in equal bytes.

    python tools/readme_picture.py tests/data/kodim23.png [--bpp 0.12] [-o docs/readme.webp]

The photograph is compressed whole; the picture shows a part of it at full size. AVIF is that of Pillow's own settings,
tuned for the eye, and gets the lowest quality whose file has no fewer bytes than lite's. Prints bytes and metrics.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import hpcm
from hpcm.eval.baselines import BASELINES
from hpcm.eval.measure import read_pixels
from hpcm.eval.metrics import psnr, ssimulacra2

AVIF = BASELINES["avif-iq"]()
LEFT, TOP, WIDTH, HEIGHT = 130, 70, 320, 340  # pixels of the part that is shown
GAP, LABEL, FONT = 8, 36, 20  # pixels: between the parts, of the labels' row and of its letters


def least_avif(picture: Image.Image, size: int) -> bytes:
    """The smallest AVIF of at least so many bytes; sizes rise with the quality."""
    low, high = AVIF.scale[0], AVIF.scale[-1]
    while low < high:
        middle = (low + high) // 2
        if len(AVIF.compress(picture, middle)) < size:
            low = middle + 1
        else:
            high = middle
    return AVIF.compress(picture, low)


def main() -> None:
    parser = argparse.ArgumentParser(description="A photograph, as AVIF and by two models in equal bytes.")
    parser.add_argument("photograph", type=Path)
    parser.add_argument("--bpp", type=float, default=0.12, help="the most bits per pixel of the models' files")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/readme.webp"))
    options = parser.parse_args()
    original = Image.fromarray(read_pixels(options.photograph))
    files = {f"hpcm {model}": hpcm.compress(original, bpp=options.bpp, model=model) for model in ("lite-mse", "lite")}
    files = {"AVIF": least_avif(original, len(files["hpcm lite"])), **files}
    parts = {"original": original}
    for name, data in files.items():
        picture = AVIF.decompress(data) if name == "AVIF" else hpcm.decompress(data)
        pixels = np.asarray(original), np.asarray(picture)
        bpp = 8 * len(data) / (original.width * original.height)
        quality = f"{psnr(*pixels):.2f} dB  SSIMULACRA 2 {ssimulacra2(*pixels):.1f}"
        print(f"{name}  {len(data):,} bytes  {bpp:.3f} bpp  {quality}")
        parts[f"{name}, {len(data):,} bytes"] = picture
    sheet = Image.new("RGB", (len(parts) * (WIDTH + GAP) - GAP, HEIGHT + LABEL), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT)
    for i, (label, picture) in enumerate(parts.items()):
        left = i * (WIDTH + GAP)
        sheet.paste(picture.crop((LEFT, TOP, LEFT + WIDTH, TOP + HEIGHT)), (left, 0))
        draw.text((left + WIDTH // 2, HEIGHT + LABEL // 2), label, "black", font, anchor="mm")
    sheet.save(options.output, quality=88, method=6)


if __name__ == "__main__":
    main()
