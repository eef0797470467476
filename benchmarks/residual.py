"""Lossless and near-lossless: the base and its residual, beside other lossless codecs, over a folder of pictures.

    python benchmarks/residual.py PICTURES [--models nano lite] [--qualities 1 40 64] [--max-error 0] [--limit N]

Prints bits per pixel of each picture, then of each base alone, and what the residual takes per sample, both ways, in
microseconds of the processor in one thread. WebP is Pillow's with method 6 and quality 100, PNG Pillow's with
`optimize`, JPEG XL (effort 7) of the package imagecodecs where that is installed.
"""

import argparse
import io
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from common import heading, pictures_of
from PIL import Image

import hpcm
from hpcm.core.residual import decode_residual, encode_residual
from hpcm.image.picture import rgb_of

Codec = Callable[[Image.Image], int]  # a picture -> bytes


def size_by_pillow(picture: Image.Image, kind: str, **options: object) -> int:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return len(file.getvalue())


def other_codecs() -> Iterator[tuple[str, Codec]]:
    yield "PNG", lambda picture: size_by_pillow(picture, "png", optimize=True)
    yield "WebP", lambda picture: size_by_pillow(picture, "webp", lossless=True, quality=100, method=6)
    try:
        import imagecodecs
    except ImportError:
        return
    yield "JPEG XL", lambda picture: len(imagecodecs.jpegxl_encode(np.asarray(picture), lossless=True, effort=7))


class Sum:
    """A base and its residual; `model` is empty for a base of one grey."""

    def __init__(self, model: str, quality: int, max_error: int) -> None:
        self.codec = hpcm.load(model, threads=1) if model else None
        self.quality, self.max_error = quality, max_error
        self.base_bits, self.seconds, self.samples = 0.0, np.zeros(2), 0

    def __call__(self, picture: Image.Image) -> int:
        source, size = np.asarray(picture), 0
        base = np.full_like(source, 128)
        if self.codec:
            data = self.codec.compress(picture, quality=self.quality)
            base, size = rgb_of(self.codec.decompress(data)), len(data)
        begin = time.process_time()
        payload = encode_residual(source, base, max_error=self.max_error)
        middle = time.process_time()
        decoded = decode_residual(payload, base, max_error=self.max_error)
        self.seconds += (middle - begin, time.process_time() - middle)
        if np.abs(decoded.astype(int) - source).max() > self.max_error:
            raise RuntimeError("a decoded sample is further off than asked for")
        self.base_bits += 8 * size / (picture.width * picture.height)
        self.samples += source.size
        return size + len(payload)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--models", nargs="*", default=["nano", "lite"])
    parser.add_argument("--qualities", nargs="*", type=int, default=[1, 40, 64])
    parser.add_argument("--max-error", type=int, default=0)
    parser.add_argument("--limit", type=int)
    options = parser.parse_args()
    sums = {"grey": Sum("", 0, options.max_error)}
    for model in options.models:
        for quality in options.qualities:
            sums[f"{model} {quality}"] = Sum(model, quality, options.max_error)
    codecs: dict[str, Codec] = {**dict(other_codecs()), **sums}
    pictures = pictures_of(options.pictures, options.limit)
    print(f"{heading()}, largest error {options.max_error}\n")
    print(f"| picture | {' | '.join(codecs)} |\n|---|{'--:|' * len(codecs)}")
    rows = np.zeros((len(pictures), len(codecs)))
    for i, picture in enumerate(pictures):
        rows[i] = [8 * codec(picture) / (picture.width * picture.height) for codec in codecs.values()]
        print(f"| {i + 1} | {' | '.join(f'{bits:.3f}' for bits in rows[i])} |", flush=True)
    print(f"| mean | {' | '.join(f'{bits:.3f}' for bits in rows.mean(0))} |")
    print("\n| base | alone, bits per pixel | encode, us a sample | decode |\n|---|--:|--:|--:|")
    for name, given in sums.items():
        encode, decode = 1e6 * given.seconds / given.samples
        print(f"| {name} | {given.base_bits / len(pictures):.3f} | {encode:.2f} | {decode:.2f} |")


if __name__ == "__main__":
    main()
