"""One picture from the first scale of its file, from two, and from all: docs/previews.jpg.

python tools/previews.py PICTURE [--model NAME] [--quality Q] [-o docs/previews.jpg]
"""

import argparse
from pathlib import Path

from PIL import Image

import hpcm
from hpcm.format.fields import PASSES

SIDE, GAP = 384, 6  # pixels of what is shown of each, in the middle of the picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--model", default="lite")
    parser.add_argument("--quality", type=int, default=40)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/previews.jpg"))
    options = parser.parse_args()
    codec = hpcm.load(options.model)
    data = codec.compress(options.picture, quality=options.quality, progressive=True)
    sheet = Image.new("RGB", (PASSES * (SIDE + GAP) - GAP, SIDE), "white")
    for i in range(PASSES):
        image = codec.decompress(data, scale=i + 1)
        left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
        sheet.paste(image.crop((left, top, left + SIDE, top + SIDE)), (i * (SIDE + GAP), 0))
    sheet.save(options.output, quality=88)


if __name__ == "__main__":
    main()
