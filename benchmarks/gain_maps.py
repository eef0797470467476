"""What a gain map costs at each quality, and how far its gains are off: the numbers in docs/pictures.md.

    python benchmarks/gain_maps.py PICTURES [--models nano lite] [--qualities 20 40 60 80]

Prints, for each model and quality, as means over the pictures of a folder: bytes of the coded gain map and their share
of the whole file; its error in stops, as root mean square and as the value that 1 sample of 100 exceeds; and the error
of the picture itself in stops, which adds to it. JPEG, as phones write gain maps, is beside it.

A picture without a gain map gets one as phones make it: a quarter of its width and height, grey, 0 stops in what is
darker than middle grey, up to 2.3 in what is white.
"""

import argparse
import io
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import numpy as np
from common import heading
from PIL import Image

import hpcm
from hpcm.image.hdr import GainMap
from hpcm.image.metadata.gain_map import INFO_KEY, Channel, GainMapMetadata
from hpcm.image.picture import rgb_of, to_image
from hpcm.image.read import picture_of

HIGHEST = 2.3  # stops of the gain maps that are made
DARKEST = 1 / 32  # of linear light: errors of darker pixels aren't seen
JPEG_QUALITIES = (75, 85, 95)


class Errors(NamedTuple):
    rms: float  # stops
    high: float  # stops, that 1 sample of 100 exceeds

    @classmethod
    def of(cls, differences: np.ndarray) -> "Errors":
        return cls(float(np.sqrt(np.mean(differences**2))), float(np.quantile(np.abs(differences), 0.99)))


def linear(image: Image.Image) -> np.ndarray:
    """sRGB as linear light, 0 to 1."""
    values = rgb_of(image) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def made(image: Image.Image) -> GainMap:
    """A gain map like a phone's, for a picture that has none."""
    light = linear(image) @ (0.2126, 0.7152, 0.0722)
    rise = np.clip((light - 0.2) / 0.8, 0, 1)
    smooth = rise * rise * (3 - 2 * rise)
    samples = Image.fromarray(np.rint(255 * smooth).astype(np.uint8))
    channel = Channel((0, 1), (round(1000 * HIGHEST), 1000), (1, 1), (1, 64), (1, 64))
    numbers = GainMapMetadata((0, 1), (round(1000 * HIGHEST), 1000), (channel,))
    return GainMap(numbers.to_iso(), samples.reduce(4))


def stops(image: Image.Image, numbers: GainMapMetadata) -> np.ndarray:
    """What the samples of a gain map mean."""
    samples = np.atleast_3d(np.asarray(image)) / 255
    low, high, gamma = (
        np.array([ratio[0] / ratio[1] for ratio in ratios])
        for ratios in zip(*((c.minimum, c.maximum, c.gamma) for c in numbers.channels), strict=True)
    )
    return low + samples ** (1 / gamma) * (high - low)


def measured(codec: hpcm.Codec, quality: int, image: Image.Image, gain_map: GainMap) -> tuple[int, int, Errors, Errors]:
    """Bytes of the gain map and of the whole file; errors of the gain map and of the picture."""
    image.info[INFO_KEY] = gain_map
    data = codec.compress(image, quality=quality)
    back = codec.decompress(data)
    numbers = gain_map.metadata
    own = stops(back.info[INFO_KEY].image, numbers) - stops(gain_map.image, numbers)
    lights = [np.log2(np.maximum(linear(one), DARKEST)) for one in (image, back)]
    del image.info[INFO_KEY]
    without = codec.compress(image, quality=quality)
    return len(data) - len(without), len(data), Errors.of(own), Errors.of(np.subtract(*lights))


def as_jpeg(gain_map: GainMap, quality: int) -> tuple[int, Errors]:
    out = io.BytesIO()
    gain_map.image.save(out, "JPEG", quality=quality)
    numbers = gain_map.metadata
    return out.tell(), Errors.of(stops(Image.open(out), numbers) - stops(gain_map.image, numbers))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--models", nargs="+", default=["nano", "lite"])
    parser.add_argument("--qualities", nargs="+", type=int, default=[20, 40, 60, 80])
    options = parser.parse_args()
    print(heading())
    pairs = []
    for path in sorted(options.pictures.iterdir()):
        picture = picture_of(path)
        image = to_image(picture)
        gain_map = picture.hdr or made(image)
        pairs.append((Image.fromarray(rgb_of(image)), gain_map))
    print("| | quality | bytes | of the file | error, rms | 1% exceed | the picture's, rms |")
    for model in options.models:
        codec = hpcm.load(model)
        for quality in options.qualities:
            rows = [measured(codec, quality, image, gain_map) for image, gain_map in pairs]
            own, whole = mean(row[0] for row in rows), mean(row[1] for row in rows)
            rms, high = mean(row[2].rms for row in rows), mean(row[2].high for row in rows)
            picture = mean(row[3].rms for row in rows)
            numbers = f"{own:,.0f} | {own / whole:.1%} | {rms:.3f} | {high:.3f} | {picture:.3f}"
            print(f"| {model} | {quality} | {numbers} |", flush=True)
    for quality in JPEG_QUALITIES:
        coded = [as_jpeg(gain_map, quality) for _, gain_map in pairs]
        size, rms, high = (mean(values) for values in zip(*((n, e.rms, e.high) for n, e in coded), strict=True))
        print(f"| JPEG | {quality} | {size:,.0f} | | {rms:.3f} | {high:.3f} | |")


if __name__ == "__main__":
    main()
