"""What previews, tiles and regions cost and give: the numbers in docs/pictures.md.

    python benchmarks/parts.py KODAK [--models nano lite] [--threads N] [--quality Q] [--megapixels 100] [--what ...]

Prints, for each model:

- previews: bytes, PSNR and milliseconds of the first scale, the first two and all, as means over KODAK; what being
  progressive adds; drafts of one picture;
- tiles: bytes by the side of the tiles. For the first model also seconds and peak memory of `hpcm decompress --crop` of
  512 x 512 pixels of a large mosaic of KODAK's pictures, each in a process of its own, with the box in the middle of a
  tile and on the corner of four;
- many: a folder one by one and side by side.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean, median
from tempfile import TemporaryDirectory

import numpy as np
from common import heading, pictures_of
from PIL import Image

import hpcm
from hpcm.codec.codec import Codec
from hpcm.format.container import pack, unpack
from hpcm.format.fields import PASSES, Container
from hpcm.util.metrics import psnr

REPEATS = 3
SIDES = (256, 512, 1024, 2048, 4096)
BOX = 512
WHAT = ("previews", "tiles", "many")
# Runs a command and prints its peak memory in kilobytes (on Linux; `resource` counts the parent's too).
CHILD = """
import re, sys
from hpcm.cli import main
code = main(sys.argv[1:])
print(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
sys.exit(code)
"""


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image)


def taken(run) -> float:
    """Milliseconds, the median of several runs after one to warm up."""
    run()
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        run()
        times.append(1000 * (time.perf_counter() - begin))
    return median(times)


def previews(codec: Codec, pictures: list[Image.Image], quality: int) -> None:
    print(f"\n{codec.weights.name}, quality {quality}: mean over {len(pictures)} pictures")
    print("| what is there | bytes | of the file | PSNR | time |\n|---|--:|--:|--:|--:|")
    rows: dict[int, list[tuple[float, float, float]]] = {scale: [] for scale in range(1, PASSES + 1)}
    added = []
    for picture in pictures:
        data = codec.compress(picture, quality=quality, progressive=True)
        added.append(len(data) - len(codec.compress(picture, quality=quality, progressive=False)))
        container = unpack(data)
        for scale, row in rows.items():
            cut = data[: cut_after(container, scale)]
            assert codec.preview(cut).info["scale"] == scale
            quality_of = psnr(pixels(picture), pixels(codec.preview(cut)))
            row.append((len(cut), quality_of, taken(lambda cut=cut: codec.preview(cut))))
    whole = mean(row[0] for row in rows[PASSES])
    for scale, row in rows.items():
        size, quality_of, milliseconds = (mean(column) for column in zip(*row, strict=True))
        print(f"| scale {scale} | {size:,.0f} | {size / whole:.0%} | {quality_of:.1f} dB | {milliseconds:.0f} ms |")
    print(f"being progressive adds {min(added)} to {max(added)} bytes, {sum(added) / len(added) / whole:.2%}")


def cut_after(container: Container, scale: int) -> int:
    """Where the parts of a scale end in the file."""
    later = sum(len(part.payload) + 2 for tile in container.tiles for part in tile[scale:])
    later += 2 * len(container.tiles) * (scale < PASSES)  # the CRCs of the last parts have two bytes more
    return len(pack(container)) - later


def drafts(codec: Codec, picture: Image.Image, quality: int) -> None:
    data = codec.compress(picture, quality=quality)
    print(f"\n| draft, {codec.weights.name} | size | time |\n|---|--:|--:|")
    for factor in (1, 2, 8, 64):
        size = picture.width // factor, picture.height // factor
        image = codec.decompress(data, draft=size)
        milliseconds = taken(lambda size=size: codec.decompress(data, draft=size))
        print(f"| 1/{factor} | {image.width} x {image.height} | {milliseconds:.0f} ms |")


def mosaic(pictures: list[Image.Image], megapixels: float) -> Image.Image:
    """The pictures side by side, again and again."""
    width, height = round((megapixels * 1e6 * 1.5) ** 0.5), round((megapixels * 1e6 / 1.5) ** 0.5)
    whole = Image.new("RGB", (width, height))
    across, down = pictures[0].size
    for row in range(-(-height // down)):
        for column in range(-(-width // across)):
            picture = pictures[(row * 7 + column) % len(pictures)].resize((across, down))
            whole.paste(picture, (column * across, row * down))
    return whole


def tile_costs(codec: Codec, pictures: list[Image.Image], quality: int) -> None:
    sizes = {n: sum(len(codec.compress(p, quality=quality, tile=n)) for p in pictures) for n in SIDES[:3]}
    print(f"\n{codec.weights.name}, bytes with smaller tiles, {len(pictures)} pictures: ", end="")
    print(", ".join(f"{side}: {size / sizes[SIDES[2]] - 1:+.2%}" for side, size in sizes.items()))


def regions(codec: Codec, picture: Image.Image, options: argparse.Namespace) -> None:
    width, height = picture.size
    print(f"\n{codec.weights.name}, {width} x {height} pixels, quality {options.quality}, a region of {BOX} x {BOX}")
    print("| tiles | bytes | middle of a tile | peak | corner of four | peak |\n|--:|--:|--:|--:|--:|--:|")
    sizes, lines = {}, {}
    with TemporaryDirectory() as folder:
        file = Path(folder) / "large.hpcm"
        for side in SIDES:
            data = codec.compress(picture, quality=options.quality, tile=side)
            file.write_bytes(data)
            corner = tuple(n // 2 // side * side or side for n in picture.size)
            middle = tuple(n + side // 2 for n in corner)
            costs = [crop(file, (x - BOX // 2, y - BOX // 2), options.threads) for x, y in (middle, corner)]
            sizes[side] = len(data)
            lines[side] = " | ".join(f"{seconds:.2f} s | {memory:.0f} MB" for seconds, memory in costs)
        usual = sizes[1024]
        for side, size in sizes.items():
            print(f"| {side} | {size:,} ({size / usual - 1:+.1%}) | {lines[side]} |", flush=True)


def crop(file: Path, at: tuple[int, int], threads: int) -> tuple[float, float]:
    """Seconds and megabytes (10^6 bytes) of a whole command; the median and the most of several."""
    where = f"{BOX}x{BOX}+{at[0]}+{at[1]}"
    line = ["decompress", file, "--crop", where, "-f", "-o", file.with_suffix(".png"), "--threads", threads]
    times, memory = [], []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        command = [sys.executable, "-c", CHILD, *map(str, line)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        times.append(time.perf_counter() - begin)
        memory.append(int(done.stdout.split()[-1]) * 1024 / 1e6)
    return median(times), max(memory)


def many(name: str, pictures: list[Image.Image], threads: int) -> None:
    """A folder one by one on all threads, and by as many workers of one thread each."""
    whole, single = hpcm.load(name, threads=threads), hpcm.load(name, threads=1)
    one = taken(lambda: [whole.compress(picture) for picture in pictures])
    side = taken(lambda: list(single.compress_many(pictures, workers=threads)))
    print(
        f"\n{len(pictures)} pictures, {name}: one by one {one:.0f} ms, side by side {side / one:.2f} of it", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, metavar="KODAK")
    parser.add_argument("--models", nargs="+", default=["nano", "lite"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quality", type=int, default=40)
    parser.add_argument("--megapixels", type=float, default=100)
    parser.add_argument("--what", nargs="+", choices=WHAT, default=WHAT)
    options = parser.parse_args()
    pictures = pictures_of(options.pictures)
    print(heading(options.threads))
    for name in options.models:
        codec = hpcm.load(name, threads=options.threads)
        if "previews" in options.what:
            previews(codec, pictures, options.quality)
            drafts(codec, pictures[0], options.quality)
        if "tiles" in options.what:
            tile_costs(codec, pictures, options.quality)
        if "many" in options.what:
            many(name, pictures, options.threads)
    if "tiles" in options.what:
        picture = mosaic(pictures, options.megapixels)
        regions(hpcm.load(options.models[0], threads=options.threads), picture, options)


if __name__ == "__main__":
    main()
