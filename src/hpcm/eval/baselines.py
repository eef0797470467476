"""The baselines: conventional codecs, each with the settings that a user chooses who wants quality for the bytes.

Chroma isn't subsampled where the codec's users can choose and PSNR gains by it; tuning is for PSNR, the measure of most
tables; `avif-ssim` is tuned for SSIM, and `avif-iq` is AVIF as Pillow sets it by default, tuned for the eye.
"""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import AvifImagePlugin, Image

from ..errors import UsageError
from . import yuv
from .protocol import Codec, Setting

MISSING = "{} needs another package: pip install 'hpcm-codec[eval]'"


def saved(image: Image.Image, format_: str, **options: Any) -> bytes:
    """The bytes of a file as Pillow writes it."""
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


@contextmanager
def option(module: Any, name: str, value: int) -> Iterator[None]:
    """Sets an option of decoding that a library has only for the whole process."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


class SingleThreaded:
    """A codec that encodes with one thread, and whose files Pillow decodes with one."""

    threads = 1

    def __init__(self, threads: int = 1) -> None:
        pass

    def decompress(self, data: bytes) -> Image.Image:
        return opened(data)


class Jpeg(SingleThreaded):
    label = "JPEG"
    description = "libjpeg-turbo, 4:2:0, optimised Huffman tables"
    settings = (5, 10, 20, 30, 45, 60, 75, 88)
    scale = range(1, 96)
    libraries = ("pillow", "libjpeg_turbo")

    def compress(self, image: Image.Image, setting: Setting) -> bytes:
        return saved(image, "JPEG", quality=int(setting), subsampling=2, optimize=True)


class MozJpeg(SingleThreaded):
    """The program `cjpeg` of mozjpeg, if it is on the path."""

    label = "mozjpeg"
    description = "progressive, trellis quantisation, 4:2:0"
    settings = (5, 10, 20, 30, 45, 60, 75, 85)
    scale = range(1, 96)
    libraries = ("mozjpeg", "libjpeg_turbo")

    def __init__(self, threads: int = 1) -> None:
        if "mozjpeg" not in program_version("cjpeg"):
            raise UsageError("mozjpeg needs its own cjpeg on the path; the cjpeg of another libjpeg isn't it")

    def compress(self, image: Image.Image, setting: Setting) -> bytes:
        return ran("cjpeg", "-quality", str(setting), given=saved(image, "PPM"))


class WebP(SingleThreaded):
    label = "WebP"
    description = "libwebp, method 6"
    settings = (0, 5, 15, 30, 50, 70, 82, 90)
    scale = range(101)
    libraries = ("pillow", "webp")

    def compress(self, image: Image.Image, setting: Setting) -> bytes:
        return saved(image, "WEBP", quality=int(setting), method=6)


class Avif:
    settings: Sequence[Setting] = (1, 8, 18, 30, 36, 42, 54, 66)
    scale = range(1, 100)
    libraries = ("pillow", "avif")

    def __init__(self, label: str, subsampling: str, tune: str | None, speed: int = 4, *, threads: int = 1) -> None:
        self.label, self.threads = label, threads
        tuning = f"tune={tune}" if tune else "default tuning"
        self.description = f"libavif with libaom, {subsampling}, speed {speed}, {tuning}"
        self.options: dict[str, Any] = {"subsampling": subsampling, "speed": speed, "max_threads": threads}
        if tune:
            self.options["advanced"] = {"tune": tune}

    def compress(self, image: Image.Image, setting: Setting) -> bytes:
        return saved(image, "AVIF", quality=int(setting), **self.options)

    def decompress(self, data: bytes) -> Image.Image:
        with option(AvifImagePlugin, "DEFAULT_MAX_THREADS", self.threads):
            return opened(data)


class JpegXl:
    label = "JPEG XL"
    description = "libjxl, effort 7, set by distance"
    settings = (15, 10, 7, 5, 3.5, 2.5, 1.7, 1.1)
    scale = tuple(round(25 * 0.96**k, 2) for k in range(90))  # distances of 25 to 0.66
    libraries = ("imagecodecs", "jpegxl")

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads
        try:
            import imagecodecs
        except ImportError as error:
            raise UsageError(MISSING.format("JPEG XL")) from error
        self.package = imagecodecs

    def compress(self, image: Image.Image, setting: Setting) -> bytes:
        options: dict[str, Any] = {
            "lossless": False,
            "distance": float(setting),
            "effort": 7,
            "numthreads": self.threads,
        }
        return bytes(self.package.jpegxl_encode(np.asarray(image), **options))

    def decompress(self, data: bytes) -> Image.Image:
        return Image.fromarray(self.package.jpegxl_decode(data, numthreads=self.threads))


class Heic:
    label = "HEIC"
    description = "libheif with x265, preset slower, tune=psnr, 4:2:0"
    settings = (6, 12, 19, 26, 34, 44)
    scale = range(1, 100)
    libraries = ("pillow_heif", "libheif")

    def __init__(self, threads: int = 1) -> None:
        try:
            import pillow_heif
        except ImportError as error:
            raise UsageError(MISSING.format("HEIC")) from error
        self.package, self.threads = pillow_heif, threads
        # x265's pool works for the thread of the frame, which waits meanwhile; without a pool that one does the work
        pools = str(threads) if threads > 1 else "none"
        self.options = {"preset": "slower", "tune": "psnr", "x265:pools": pools, "x265:frame-threads": "1"}

    def compress(self, image: Image.Image, setting: Setting) -> bytes:
        file = io.BytesIO()
        heif = self.package.from_pillow(image)
        heif.save(file, quality=int(setting), chroma=420, enc_params=dict(self.options))  # save() adds to them
        return file.getvalue()

    def decompress(self, data: bytes) -> Image.Image:
        with option(self.package.options, "DECODE_THREADS", self.threads):
            return self.package.open_heif(io.BytesIO(data)).to_pillow().convert("RGB")


class VVenC:
    """The programs `vvencapp` and `vvdecapp`, if they are on the path; the colour conversion is ours."""

    label = "VVenC"
    description = "preset medium, no perceptual tuning, 10-bit 4:2:0 of BT.601"
    settings = (44, 40, 36, 32, 28, 24)
    scale = range(55, 10, -1)
    libraries = ("vvenc",)

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads
        for program in ("vvencapp", "vvdecapp"):
            if shutil.which(program) is None:
                raise UsageError(f"VVenC needs its program {program} on the path")

    def compress(self, image: Image.Image, setting: Setting) -> bytes:
        with TemporaryDirectory() as folder:
            source, target = Path(folder, "a.yuv"), Path(folder, "a.266")
            source.write_bytes(yuv.from_rgb(np.asarray(image.convert("RGB"))))
            size = f"{image.width}x{image.height}"
            speed = ["-r", "1", "-t", str(self.threads), "--preset", "medium"]
            how = ["-s", size, "-c", "yuv420_10", *speed, "--qpa", "0", "-q", str(setting)]
            ran("vvencapp", "-i", str(source), *how, "-o", str(target))
            return target.read_bytes()

    def decompress(self, data: bytes) -> Image.Image:
        with TemporaryDirectory() as folder:
            source, target = Path(folder, "a.266"), Path(folder, "a.y4m")
            source.write_bytes(data)
            ran("vvdecapp", "-b", str(source), "-o", str(target), "-t", str(self.threads))
            return Image.fromarray(yuv.to_rgb(target.read_bytes()))


BASELINES: dict[str, Callable[..., Codec]] = {  # each takes `threads`, by default 1
    "jpeg": Jpeg,
    "mozjpeg": MozJpeg,
    "webp": WebP,
    "avif": partial(Avif, "AVIF, tuned for PSNR", "4:4:4", "psnr"),
    "avif-slow": partial(Avif, "AVIF speed 0", "4:4:4", "psnr", 0),
    "avif-420": partial(Avif, "AVIF 4:2:0", "4:2:0", "psnr"),
    "avif-ssim": partial(Avif, "AVIF tune=ssim", "4:4:4", "ssim"),
    "avif-iq": partial(Avif, "AVIF, default tuning", "4:4:4", None),
    "jxl": JpegXl,
    "heic": Heic,
    "vvenc": VVenC,
}


def ran(*command: str, given: bytes = b"") -> bytes:
    """What a program writes to standard output. Raises UsageError with its last line if it fails."""
    done = subprocess.run(command, input=given, capture_output=True)
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["it printed no reason"]
        raise UsageError(f"{command[0]} failed with exit code {done.returncode}: {lines[-1]}")
    return done.stdout


@cache
def program_version(program: str) -> str:
    """What a program says to `-version` or `--version`, in one line; empty if it isn't there."""
    if shutil.which(program) is None:
        return ""
    option = "-version" if program == "cjpeg" else "--version"
    done = subprocess.run([program, option], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return " ".join((done.stdout + done.stderr).split())
