"""High lossy qualities: a base and coefficients of its residual, beside other codecs, over a folder of pictures.

    python benchmarks/coefficients.py PICTURES [--models lite nano] [--qualities 81 85 90 95 100] [--limit N]
                                          [--processes 1]

A base is the model's best level, and a quality from 81 on stands for one of hpcm.defaults.STEPS. For each model and
quality it prints means over the pictures: bits per pixel of base and residual together, PSNR, SSIMULACRA 2, and how
many more bits other codecs take for the same SSIMULACRA 2 of each picture, by straight lines between their own
qualities (log of the rate over the metric); - where one of the pictures lies beyond them. Then what the residual takes
per sample, both ways, in microseconds of the processor in one thread.

AVIF is Pillow's with speed 6, JPEG Pillow's with `optimize`, both with full colour resolution; JPEG XL (effort 7) is
that of the package imagecodecs.
"""

import argparse
import io
import time
from collections.abc import Callable
from functools import cache, partial
from multiprocessing import Pool
from pathlib import Path
from typing import NamedTuple

import imagecodecs
import numpy as np
from common import heading, pictures_of
from PIL import Image

import hpcm
from hpcm.codec.codec import Codec
from hpcm.core.residual import decode_dct, encode_dct
from hpcm.defaults import BASE_QUALITY, STEPS
from hpcm.eval.metrics import psnr, ssimulacra2
from hpcm.image.picture import rgb_of

BEST_LEVEL = BASE_QUALITY  # the quality that chooses it
FIRST_QUALITY = BASE_QUALITY + 1


class Point(NamedTuple):
    bits: float  # per pixel
    psnr: float
    ssimulacra2: float


def by_pillow(kind: str, **options: object) -> Callable[[np.ndarray, float], tuple[int, np.ndarray]]:
    def code(source: np.ndarray, quality: float) -> tuple[int, np.ndarray]:
        file = io.BytesIO()
        Image.fromarray(source).save(file, kind, quality=int(quality), **options)
        with Image.open(io.BytesIO(file.getvalue())) as decoded:
            return len(file.getvalue()), rgb_of(decoded)

    return code


def by_jpeg_xl(source: np.ndarray, distance: float) -> tuple[int, np.ndarray]:
    data = imagecodecs.jpegxl_encode(source, distance=distance, effort=7)
    return len(data), imagecodecs.jpegxl_decode(data)


OTHERS = {  # what codes a picture, and settings from coarse to fine
    "AVIF": (by_pillow("avif", subsampling="4:4:4", speed=6), (60, 72, 80, 86, 90, 93, 95, 97, 98)),
    "JPEG XL": (by_jpeg_xl, (2.2, 1.6, 1.2, 0.9, 0.7, 0.55, 0.43, 0.33, 0.25)),
    "JPEG": (by_pillow("jpeg", subsampling=0, optimize=True), (75, 83, 89, 93, 95, 97, 98, 99)),
}


def measured(source: np.ndarray, size: int, decoded: np.ndarray) -> Point:
    return Point(8 * size / source[..., 0].size, psnr(source, decoded), ssimulacra2(source, decoded))


def bits_at(points: list[Point], score: float) -> float:
    """By straight lines between points; NaN beyond them."""
    scores, bits = ([getattr(point, name) for point in points] for name in ("ssimulacra2", "bits"))
    return float(np.exp(np.interp(score, scores, np.log(bits), left=np.nan, right=np.nan)))


class Measured(NamedTuple):
    """One picture.

    points: by the name of a codec; of a model, its best level and then the qualities.
    seconds: by the name of a model: of the processor, to encode and to decode each quality's residual.
    """

    points: dict[str, list[Point]]
    seconds: dict[str, list[tuple[float, float]]]


@cache
def loaded(model: str) -> Codec:
    return hpcm.load(model, threads=1)


def measure(picture: Image.Image, models: list[str], qualities: list[int]) -> Measured:
    source, found = np.asarray(picture), Measured({}, {})
    for name, (code, settings) in OTHERS.items():
        found.points[name] = [measured(source, *code(source, setting)) for setting in settings]
    for model in models:
        data = loaded(model).compress(picture, quality=BEST_LEVEL)
        base = rgb_of(loaded(model).decompress(data))
        points, seconds = [measured(source, len(data), base)], []
        for quality in qualities:
            step = STEPS[quality - FIRST_QUALITY]
            begin = time.process_time()
            payload = encode_dct(source, base, step)
            middle = time.process_time()
            decoded = decode_dct(payload, base, step)
            seconds.append((middle - begin, time.process_time() - middle))
            points.append(measured(source, len(data) + len(payload), decoded))
        found.points[model], found.seconds[model] = points, seconds
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--models", nargs="*", default=["lite", "nano"])
    parser.add_argument("--qualities", nargs="*", type=int, default=[81, 85, 90, 95, 100])
    parser.add_argument("--limit", type=int)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    pictures = pictures_of(options.pictures, options.limit)
    work = partial(measure, models=options.models, qualities=options.qualities)
    with Pool(options.processes) as pool:
        found = list(pool.imap(work, pictures))
    print(f"{heading(1)}, {len(pictures)} pictures\n")
    print(f"| | bits per pixel | PSNR | SSIMULACRA 2 | at least 90 | {' | '.join(f'{name} more' for name in OTHERS)} |")
    print(f"|---|--:|--:|--:|--:|{'--:|' * len(OTHERS)}")
    for model in options.models:
        for i, quality in enumerate(["the best level", *options.qualities]):
            ours = [each.points[model][i] for each in found]
            means = np.mean(ours, axis=0)
            high = sum(point.ssimulacra2 >= 90 for point in ours)
            line = (
                f"| {model}, {quality} | {means[0]:.3f} | {means[1]:.2f} dB | {means[2]:.2f} | {high} of {len(ours)} |"
            )
            for name in OTHERS:
                theirs = [bits_at(each.points[name], p.ssimulacra2) for each, p in zip(found, ours, strict=True)]
                ratio = np.mean(np.log(theirs) - np.log([point.bits for point in ours]))
                line += " - |" if np.isnan(ratio) else f" {100 * (np.exp(ratio) - 1):+.1f}% |"
            print(line)
    samples = sum(3 * picture.width * picture.height for picture in pictures)
    print("\n| | encode, us a sample | decode |\n|---|--:|--:|")
    for model in options.models:
        for i, quality in enumerate(options.qualities):
            encode, decode = (1e6 * sum(each.seconds[model][i][way] for each in found) / samples for way in (0, 1))
            print(f"| {model}, {quality} | {encode:.3f} | {decode:.3f} |")


if __name__ == "__main__":
    main()
