"""Lossless files beside those of other codecs: bytes and seconds a megapixel, for docs/lossless.md.

    python benchmarks/lossless.py PICTURE ... [--models lite nano] [--max-errors 0 1 2] [--efforts 7 9]
                                  [--deep] [--zopfli] [--every N] [--limit N]

A PICTURE is a file, or a tar of files, of which every Nth is taken. With --deep each picture becomes one of 16 bits, of
half the sides: means of 2 x 2 samples. Every file is decoded and compared. Seconds are of the processor, in one thread;
hpcm's encoder decodes each file itself, which counts.

PNG is Pillow's with `optimize`, WebP Pillow's with method 6 and quality 100. The package imagecodecs gives JPEG XL, and
PNG of 16 bits at level 9, where it is installed. --zopfli needs the package zopfli.
"""

import argparse
import io
import tarfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from common import heading
from PIL import Image

import hpcm
from hpcm.image.picture import rgb_of, to_image
from hpcm.image.read import read_picture

MEGA = 1e6
DEEP = 16  # bits


class Codec(NamedTuple):
    """A codec, both ways; samples are [h, w, 3], of 8 or 16 bits."""

    encode: Callable[[np.ndarray], bytes]
    decode: Callable[[bytes], np.ndarray]
    max_error: int = 0


def by_pillow(kind: str, **options: object) -> Codec:
    def encode(samples: np.ndarray) -> bytes:
        file = io.BytesIO()
        Image.fromarray(samples).save(file, kind, **options)
        return file.getvalue()

    return Codec(encode, lambda data: rgb_of(Image.open(io.BytesIO(data))))


def zopfli() -> Codec:
    from zopfli.png import optimize

    pillow = by_pillow("png", optimize=True)
    return Codec(lambda samples: optimize(pillow.encode(samples)), pillow.decode)


def jpeg_xl(effort: int) -> Codec:
    import imagecodecs

    def encode(samples: np.ndarray) -> bytes:
        return imagecodecs.jpegxl_encode(samples, lossless=True, effort=effort, numthreads=1)

    return Codec(encode, lambda data: imagecodecs.jpegxl_decode(data, numthreads=1))


def deep_png() -> Codec:
    import imagecodecs

    return Codec(lambda samples: imagecodecs.png_encode(samples, level=9), imagecodecs.png_decode)


def ours(model: str, max_error: int) -> Codec:
    codec = hpcm.load(model, threads=1)
    return Codec(lambda samples: codec.compress(samples, max_error=max_error), codec.decompress_array, max_error)


def codecs_of(options: argparse.Namespace) -> Iterator[tuple[str, Codec]]:
    has_imagecodecs = find_spec("imagecodecs") is not None
    if not options.deep:
        yield "PNG", by_pillow("png", optimize=True)
        if options.zopfli:
            yield "PNG by Zopfli", zopfli()
        yield "WebP", by_pillow("webp", lossless=True, quality=100, method=6)
    elif has_imagecodecs:
        yield "PNG", deep_png()
    if has_imagecodecs:
        for effort in options.efforts:
            yield f"JPEG XL, effort {effort}", jpeg_xl(effort)
    for model in options.models:
        for max_error in options.max_errors:
            yield f"hpcm {model}" + f", off by at most {max_error}" * bool(max_error), ours(model, max_error)


def files(options: argparse.Namespace) -> Iterator[bytes]:
    for path in options.pictures:
        if path.suffix != ".tar":
            yield path.read_bytes()
            continue
        with tarfile.open(path) as tar:
            for member in [member for member in tar if member.isfile()][:: options.every]:
                yield tar.extractfile(member).read()


def deep(samples: np.ndarray) -> np.ndarray:
    """Means of 2 x 2 samples, with 16 bits."""
    rows, columns = samples.shape[0] // 2, samples.shape[1] // 2
    blocks = samples[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2, 3)
    return np.rint(blocks.mean(axis=(1, 3)) * ((1 << DEEP) - 1) / 255).astype(np.uint16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, nargs="+", metavar="PICTURE")
    parser.add_argument("--models", nargs="*", default=["lite", "nano"])
    parser.add_argument("--max-errors", nargs="*", type=int, default=[0])
    parser.add_argument("--efforts", nargs="*", type=int, default=[7, 9], help="of JPEG XL")
    parser.add_argument("--deep", action="store_true", help="of 16 bits")
    parser.add_argument("--zopfli", action="store_true", help="also PNG by Zopfli, which is slow")
    parser.add_argument("--every", type=int, default=1, metavar="N")
    parser.add_argument("--limit", type=int, metavar="N")
    options = parser.parse_args()

    codecs = dict(codecs_of(options))
    sizes, seconds, pixels, count = dict.fromkeys(codecs, 0), {name: np.zeros(2) for name in codecs}, 0, 0
    for data in files(options):
        if count == options.limit:
            break
        samples = rgb_of(to_image(read_picture(data)))
        samples = deep(samples) if options.deep else samples
        pixels, count = pixels + samples.shape[0] * samples.shape[1], count + 1
        for name, codec in codecs.items():
            begin = time.process_time()
            coded = codec.encode(samples)
            middle = time.process_time()
            decoded = codec.decode(coded)
            seconds[name] += (middle - begin, time.process_time() - middle)
            sizes[name] += len(coded)
            if np.abs(decoded.astype(int) - samples).max() > codec.max_error:
                raise RuntimeError(f"{name}: a decoded sample is further off than {codec.max_error}")
    print(f"{heading()}; {count} pictures, {pixels / MEGA:.1f} megapixels, {DEEP if options.deep else 8} bits\n")
    print("| codec | bits per pixel | beside PNG | encode, s/MP | decode, s/MP |\n|---|--:|--:|--:|--:|")
    for name in codecs:
        encode, decode = MEGA * seconds[name] / pixels
        share = sizes[name] / sizes["PNG"] - 1
        print(f"| {name} | {8 * sizes[name] / pixels:.3f} | {share:+.1%} | {encode:.2f} | {decode:.2f} |")


if __name__ == "__main__":
    main()
