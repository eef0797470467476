"""What the bundled model is not good at, as a picture: grain, text and a screenshot beside WebP of the same size.

    python experiments/weaknesses.py PHOTOGRAPH [--model NAME] [-o docs/weaknesses.png]

The photograph gets film grain of 12 grey levels; page and screenshot are drawn. Each is coded whole, at the quality of
QUALITY, and by WebP in the most bytes that are no more. Prints a table; the picture shows a corner of each.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import hpcm
from hpcm.eval.baselines import WebP
from hpcm.eval.measure import read_pixels
from hpcm.eval.metrics import psnr
from hpcm.eval.report import markdown

WEBP = WebP()
SIDE = 512  # pixels of the pictures
SHOWN = (128, 192, 192)  # left, top and side of what is shown
QUALITY = 40
GRAIN = 12  # standard deviation in grey levels
WORDS = "The quick brown fox jumps over the lazy dog; pack my box with five dozen liquor jugs. "
CODE = (
    "def mean(values):",
    "    total = 0.0",
    "    for value in values:",
    "        total += value",
    "    return total",
)


def grain(photograph: Path) -> Image.Image:
    pixels = read_pixels(photograph)[:SIDE, :SIDE].astype(np.float32)
    noise = np.random.default_rng(0).normal(0, GRAIN, (*pixels.shape[:2], 1))
    return Image.fromarray((pixels + noise).round().clip(0, 255).astype(np.uint8))


def text(_: Path) -> Image.Image:
    page = Image.new("RGB", (SIDE, SIDE), (252, 250, 244))
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    line = WORDS * 3
    for row in range(28):
        draw.text((24, 20 + 17 * row), line[5 * row : 5 * row + 68], (20, 20, 24), font)
    return page


def screenshot(_: Path) -> Image.Image:
    screen = Image.new("RGB", (SIDE, SIDE), (236, 239, 244))
    draw, font = ImageDraw.Draw(screen), ImageFont.load_default(12)
    draw.rectangle((0, 0, SIDE, 27), (46, 52, 64))
    for i, colour in enumerate(((191, 97, 106), (235, 203, 139), (163, 190, 140))):
        draw.ellipse((10 + 20 * i, 8, 22 + 20 * i, 20), colour)
    draw.rectangle((0, 28, 119, SIDE), (59, 66, 82))
    for row in range(20):
        draw.text((10, 38 + 22 * row), f"module_{row:02}.py", (216, 222, 233), font)
        words = CODE[row % len(CODE)]
        draw.text((132, 38 + 22 * row), f"{row + 1:3}  {words}", ((94, 129, 172), (46, 52, 64))[row % 2], font)
    draw.rectangle((360, 300, 490, 330), (94, 129, 172))
    draw.text((390, 308), "Save changes", (255, 255, 255), font)
    draw.rectangle((359, 360, 491, 480), outline=(180, 60, 60))
    return screen


PICTURES: dict[str, Callable[[Path], Image.Image]] = {"grain": grain, "text": text, "screenshot": screenshot}


def best_webp(picture: Image.Image, limit: int) -> bytes:
    """The best WebP of at most so many bytes, or the smallest there is."""
    data = b""
    for quality in reversed(WEBP.scale):
        data = WEBP.compress(picture, quality)
        if len(data) <= limit:
            break
    return data


def main() -> None:
    parser = argparse.ArgumentParser(description="Grain, text and a screenshot through the codec.")
    parser.add_argument("photograph", type=Path)
    parser.add_argument("--model", help="by default the bundled one")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/weaknesses.png"))
    given = parser.parse_args()
    chosen = {"model": given.model} if given.model else {}
    rows, strips = [], []
    left, top, side = SHOWN
    for name, draw in PICTURES.items():
        picture = draw(given.photograph)
        data = hpcm.compress(picture, quality=QUALITY, **chosen)
        other = best_webp(picture, len(data))
        decoded = [np.asarray(hpcm.decompress(data)), np.asarray(WEBP.decompress(other))]
        rates = [8 * len(one) / (picture.width * picture.height) for one in (data, other)]
        pixels = np.asarray(picture)
        values = [f"{rate:.2f} bpp, {psnr(pixels, one):.1f} dB" for rate, one in zip(rates, decoded, strict=True)]
        rows.append([name, *values])
        shown = [one[top : top + side, left : left + side] for one in (pixels, *decoded)]
        strips.append(np.concatenate(shown, 1))
    Image.fromarray(np.concatenate(strips)).save(given.output, optimize=True)
    print(markdown(["picture", "hpcm", "WebP"], rows))


if __name__ == "__main__":
    main()
