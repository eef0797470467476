"""Rate, quality and speed of hpcm beside JPEG, WebP and AVIF over a folder of pictures: the table of the README.

    python benchmarks/kodak.py KODAK [--model NAME_OR_PATH] [--codecs jpeg,webp,avif,hpcm] [--limit N] [--output FILE]

What is measured, in one process, at about eight quality settings of each codec:

- rate: 8 * len(file) / pixels, of the bytes that would lie on the disk, headers included; mean over pictures
- quality: PSNR over the three channels of 8-bit RGB, of each picture; mean over pictures
- time: a picture in memory to bytes, and back to a picture in memory; median over pictures (in the table: and over
  qualities). Each codec runs once untimed before, and uses the threads that it takes by default.

BD-rate against JPEG: PCHIP curves of log10(rate) over PSNR through the mean points of each codec, from the package
`bjontegaard`. JPEG's curve says which PSNR it has at 0.15 and at 1.0 bits per pixel; both curves are integrated
between these two PSNRs, and the mean difference d of log10(rate) is printed as 10^d - 1. Where a codec's own points
don't span that interval, the part that they do span is used and printed as "over ..%"; nothing is extrapolated.
The file also has the usual number, over all that two curves share ("percent_whole").

Rivals are set for PSNR, the measure used here: AVIF with 4:4:4 chroma, speed 4 and tune=psnr, slower and better by
this measure than Pillow's defaults; JPEG with 4:2:0 and optimised Huffman tables; WebP with method 6.
"""

import argparse
import importlib.metadata
import io
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np
from bjontegaard import bd_rate
from PIL import Image, features

RATES = (0.15, 1.0)  # bits per pixel of JPEG: the ends of the BD-rate's interval
COLUMNS = (0.25, 0.5, 1.0)  # bits per pixel at which the table shows PSNR
PICTURES = {".png", ".ppm", ".bmp", ".tif", ".tiff", ".webp"}
PACKAGES = ("hpcm", "torch", "numpy", "pillow", "constriction", "bjontegaard")


@dataclass(frozen=True)
class Codec:
    """A picture to bytes at a quality, and back."""

    label: str
    qualities: tuple[int, ...]
    compress: Callable[[Image.Image, int], bytes]
    decompress: Callable[[bytes], Image.Image]


@dataclass(frozen=True)
class Point:
    """A codec at one quality, over all pictures."""

    quality: int
    bpp: float
    psnr: float  # dB
    encode_s: float
    decode_s: float
    per_picture: list[dict[str, Any]]


def rivals() -> dict[str, Codec]:
    """The codecs in Pillow's wheel; the qualities span about 0.1 to 1.5 bits per pixel on Kodak."""

    def saving(format_: str, **options: Any) -> Callable[[Image.Image, int], bytes]:
        def compress(picture: Image.Image, quality: int) -> bytes:
            file = io.BytesIO()
            picture.save(file, format_, quality=quality, **options)
            return file.getvalue()

        return compress

    def opened(data: bytes) -> Image.Image:
        return Image.open(io.BytesIO(data)).convert("RGB")

    jpeg, webp = saving("JPEG", subsampling=2, optimize=True), saving("WEBP", method=6)
    avif = saving("AVIF", subsampling="4:4:4", speed=4, advanced={"tune": "psnr"})
    return {
        "jpeg": Codec("JPEG 4:2:0, optimised", (5, 10, 20, 30, 45, 60, 75, 88), jpeg, opened),
        "webp": Codec("WebP, method 6", (0, 5, 15, 30, 50, 70, 82, 90), webp, opened),
        "avif": Codec("AVIF 4:4:4, speed 4, tune psnr", (1, 8, 18, 30, 36, 42, 54, 66), avif, opened),
    }


def ours(model: str, qualities: tuple[int, ...]) -> Codec:
    """hpcm with a bundled model's name or the path of a weights file."""
    import hpcm

    codec = hpcm.load(model)
    return Codec(f"hpcm {Path(model).stem}", qualities, lambda x, q: codec.compress(x, quality=q), codec.decompress)


def psnr(a: Image.Image, b: Image.Image) -> float:
    """Peak signal-to-noise ratio in dB over 8-bit RGB; infinite for equal pictures."""
    x, y = (np.asarray(picture.convert("RGB"), dtype=np.float64) for picture in (a, b))
    if x.shape != y.shape:
        raise ValueError(f"a picture of shape {x.shape} came back as {y.shape}")
    mse = np.mean((x - y) ** 2)
    return 10 * math.log10(255**2 / mse) if mse else math.inf


def measure(codec: Codec, quality: int, pictures: dict[str, Image.Image]) -> Point:
    """One quality of a codec over all pictures."""
    rows = []
    for name, picture in pictures.items():
        start = time.perf_counter()
        data = codec.compress(picture, quality)
        encoded = time.perf_counter()
        restored = codec.decompress(data)
        decoded = time.perf_counter()
        rows.append({"picture": name, "bpp": 8 * len(data) / (picture.width * picture.height)})
        rows[-1] |= {"psnr": psnr(picture, restored), "encode_s": encoded - start, "decode_s": decoded - encoded}
    bpp, level = (mean(row[key] for row in rows) for key in ("bpp", "psnr"))
    return Point(quality, bpp, level, *(median(row[key] for row in rows) for key in ("encode_s", "decode_s")), rows)


class Curve:
    """log10(rate) over PSNR by PCHIP, and its inverse; without points that a smaller rate equals or beats."""

    def __init__(self, points: list[Point]) -> None:
        measured = sorted((p.bpp, p.psnr) for p in points)
        kept = [(bpp, level) for i, (bpp, level) in enumerate(measured) if all(level > q for _, q in measured[:i])]
        self.bpp, self.psnr = zip(*kept, strict=True)
        # the BD-rate of a curve against itself hands out the interpolant that the package uses
        self.log_rate = bd_rate(self.bpp, self.psnr, self.bpp, self.psnr, "pchip", interpolators=True)[1]
        self._psnr = np.linspace(self.psnr[0], self.psnr[-1], 10_001)
        self._log_rate = np.array([float(self.log_rate(level)) for level in self._psnr])

    def psnr_at(self, bpp: float) -> float | None:
        """PSNR in dB at a rate; None outside the measured points."""
        level = float(np.interp(math.log10(bpp), self._log_rate, self._psnr))
        return level if self.bpp[0] <= bpp <= self.bpp[-1] else None


def bd_rate_over(anchor: Curve, test: Curve) -> dict[str, float | None]:
    """BD-rate in percent between the PSNRs that the anchor has at RATES; see the top of this file."""
    # few pictures, or easy ones: the anchor may end before
    low, high = (anchor.psnr_at(min(max(rate, anchor.bpp[0]), anchor.bpp[-1])) for rate in RATES)
    a, b = max(low, test.psnr[0]), min(high, test.psnr[-1])
    percent = whole = None
    if a < b:
        difference = (test.log_rate.integrate(a, b) - anchor.log_rate.integrate(a, b)) / (b - a)
        percent = 100 * (10 ** float(difference) - 1)
        curves = (anchor.bpp, anchor.psnr, test.bpp, test.psnr)
        whole = float(bd_rate(*curves, "pchip", require_matching_points=False, min_overlap=0))
    coverage = max(0.0, b - a) / (high - low)
    return {"percent": percent, "coverage": coverage, "psnr_low": low, "psnr_high": high, "percent_whole": whole}


def summarise(codec: Codec, points: list[Point], anchor: Curve | None) -> dict[str, Any]:
    """Everything known about one codec, for the table and for the file."""
    curve = Curve(points)
    return {
        "label": codec.label,
        "psnr_at": {str(rate): curve.psnr_at(rate) for rate in COLUMNS},
        "bd_rate_vs_jpeg": bd_rate_over(anchor, curve) if anchor else None,
        "encode_s": median(row["encode_s"] for p in points for row in p.per_picture),
        "decode_s": median(row["decode_s"] for p in points for row in p.per_picture),
        "points": [asdict(p) for p in points],
    }


def table(results: dict[str, dict[str, Any]]) -> str:
    """The results as a markdown table."""
    heads = ["codec", *(f"PSNR at {rate} bpp" for rate in COLUMNS), "BD-rate vs JPEG", "encode", "decode"]
    lines = [" | ".join(heads), " | ".join(["---", *["---:"] * (len(heads) - 1)])]
    for result in results.values():
        bd = result["bd_rate_vs_jpeg"]
        saving = "-" if bd is None or bd["percent"] is None else f"{bd['percent']:+.1f}%"
        if bd and 0 < bd["coverage"] < 0.999:
            saving += f" (over {bd['coverage']:.0%})"
        levels = ["-" if level is None else f"{level:.2f} dB" for level in result["psnr_at"].values()]
        seconds = [f"{result[key]:.3f} s" for key in ("encode_s", "decode_s")]
        lines.append(" | ".join([result["label"], *levels, saving, *seconds]))
    return "\n".join(f"| {line} |" for line in lines)


def machine() -> dict[str, Any]:
    """What the numbers were measured on and with."""
    cpuinfo = Path("/proc/cpuinfo").read_text() if sys.platform == "linux" else ""
    names = [line for line in cpuinfo.splitlines() if line.startswith("model name")]
    installed = {found.name.lower(): found.version for found in importlib.metadata.distributions()}
    torch = sys.modules.get("torch")  # only if a codec needed it
    return {
        "cpu": names[0].split(":", 1)[1].strip() if names else platform.processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch_threads": torch.get_num_threads() if torch else None,
        "versions": {package: installed.get(package) for package in PACKAGES},
        "libraries": {library: features.version(library) for library in ("libjpeg_turbo", "webp", "avif")},
    }


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Rate, quality and speed of hpcm beside JPEG, WebP and AVIF.")
    parser.add_argument("pictures", type=Path, help="folder of lossless pictures, such as Kodak's 24")
    parser.add_argument("--model", default="nano", help="name of a model or path of a weights file (default: nano)")
    parser.add_argument("--codecs", default="jpeg,webp,avif,hpcm", help="which to run (default: %(default)s)")
    parser.add_argument("--qualities", default="1,10,25,40,55,70,85,100", help="of hpcm (default: %(default)s)")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N pictures")
    parser.add_argument("--output", type=Path, help="default: benchmarks/results/kodak-DATE.json")
    return parser.parse_args()


def main() -> None:
    arguments, now = parse_arguments(), datetime.now(timezone.utc)
    paths = sorted(p for p in arguments.pictures.glob("*") if p.suffix.lower() in PICTURES)[: arguments.limit]
    names = sorted(arguments.codecs.split(","), key=lambda name: name != "jpeg")  # the anchor first
    codecs = rivals()
    if not paths:
        sys.exit(f"no pictures in {arguments.pictures}: looked for {', '.join(sorted(PICTURES))}")
    if unknown := set(names) - {*codecs, "hpcm"}:
        sys.exit(f"unknown codecs {', '.join(sorted(unknown))}: choose from {', '.join(codecs)}, hpcm")
    if "hpcm" in names:
        codecs["hpcm"] = ours(arguments.model, tuple(map(int, arguments.qualities.split(","))))
    pictures = {path.name: Image.open(path).convert("RGB") for path in paths}

    results, anchor = {}, None
    for name in names:
        codec, points = codecs[name], []
        codec.decompress(codec.compress(next(iter(pictures.values())), codec.qualities[0]))  # warm up
        for quality in codec.qualities:
            points.append(p := measure(codec, quality, pictures))
            seconds = f"{p.encode_s:.3f} s {p.decode_s:.3f} s"
            print(f"{name} {quality:>3}: {p.bpp:.4f} bpp {p.psnr:.3f} dB {seconds}", flush=True)
        anchor = Curve(points) if name == "jpeg" else anchor
        results[name] = summarise(codec, points, anchor)
    print("\n" + table(results))

    output = arguments.output or Path(__file__).parent / "results" / f"kodak-{now:%Y-%m-%d}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    folder, model = arguments.pictures.resolve().name, Path(arguments.model).name
    said = vars(arguments) | {"pictures": folder, "model": model, "output": output.name}
    report = {"date": now.isoformat(timespec="seconds"), "arguments": said, "pictures": list(pictures)}
    output.write_text(json.dumps(report | {"machine": machine(), "codecs": results}, indent=1) + "\n")
    print(f"\nwrote {output}")


if __name__ == "__main__":
    main()
