"""Options that several commands have."""

from __future__ import annotations

import argparse
from typing import Any

from ..defaults import BASE_QUALITY, DEFAULT_QUALITY, DEVICES, ENGINES, ICC_SPACES, MAX_EFFORT, MAX_QUALITY, STRIPS
from ..errors import UsageError
from . import types

EFFORTS = range(MAX_EFFORT + 1)


def add_target(command: Any) -> None:
    """The target of compression: a quality, a rate or a PSNR, or what is promised of every sample."""
    target = command.add_mutually_exclusive_group()
    text = f"1 (smallest) to {MAX_QUALITY} (best), by default {DEFAULT_QUALITY}"
    target.add_argument("--quality", type=types.quality, metavar="Q", help=text)
    target.add_argument("--bpp", type=types.positive, help="the best quality with at most BPP bits per pixel")
    target.add_argument("--psnr", type=types.positive, help="the smallest file with at least PSNR dB")
    promise = command.add_mutually_exclusive_group()
    text = f"keep every sample exactly; --quality, up to {BASE_QUALITY}, is then that of the lossy picture in the file"
    promise.add_argument("--lossless", action="store_true", help=text)
    text = "keep every sample to within N; 0 is --lossless"
    promise.add_argument("--max-error", type=types.max_error, metavar="N", help=text)


def target(options: argparse.Namespace) -> dict[str, Any]:
    """What `add_target` declares, as arguments of `Codec.compress`. Raises UsageError for what can't be combined."""
    promise = "--lossless" if options.lossless else "--max-error" if options.max_error is not None else None
    if promise is not None:
        for name in ("bpp", "psnr"):
            if getattr(options, name) is not None:
                raise UsageError(f"{promise} and --{name} exclude one another: give one")
        if (options.quality or 0) > BASE_QUALITY:
            raise UsageError(
                f"--quality {options.quality} and {promise} exclude one another: beside {promise} it is that of the "
                f"lossy picture in the file, up to {BASE_QUALITY}"
            )
    return {name: getattr(options, name) for name in ("quality", "bpp", "psnr", "lossless", "max_error")}


def add_appearance(command: Any) -> None:
    """What is left out of the metadata, and what the colours are converted to."""
    text = "leave out metadata: all (by default) but for what the colours need, or gps, the place alone"
    command.add_argument("--strip", nargs="?", const=STRIPS[0], choices=STRIPS, help=text)
    text = "convert the colours to sRGB by the picture's ICC profile, and leave it out"
    command.add_argument("--icc", choices=ICC_SPACES, help=text)


def appearance(options: argparse.Namespace) -> dict[str, Any]:
    """`strip` and `icc`, as arguments of `Codec.compress` and `Codec.decompress`."""
    return {"strip": options.strip, "icc": options.icc}


def add_files(command: Any, source: str, target: str) -> None:
    """Inputs, outputs and options of compress and decompress that batch.py needs.

    Args:
        source, target: names of an input and an output for the help.
    """
    command.add_argument("inputs", nargs="+", metavar="INPUT", help=f"a {source}, a folder of them, or - for stdin")
    text = f"the {target}, a folder, or - for stdout; by default next to the input"
    command.add_argument("-o", "--output", metavar="OUT", help=text)
    command.add_argument("-f", "--force", action="store_true", help="overwrite existing files")
    text = "skip inputs whose output exists and isn't older, instead of an error for each"
    command.add_argument("--skip-existing", action="store_true", help=text)
    text = "list the files that would be written, and write none"
    command.add_argument("-n", "--dry-run", action="store_true", help=text)
    command.add_argument("--keep-times", action="store_true", help="copy the times of the inputs to the outputs")
    text = "files at once: on the CPU in N processes, which share the cores, by default 1; "
    text += "on a GPU as many as keep it busy, by default"
    command.add_argument("-j", "--jobs", type=types.whole, metavar="N", help=text)
    amount = command.add_mutually_exclusive_group()
    amount.add_argument("-q", "--quiet", action="store_true", help="print only errors")
    amount.add_argument("-v", "--verbose", action="store_true", help="also print what is loaded and tried")
    command.add_argument("--device", choices=DEVICES, default="cpu", help="where to compute, by default cpu")
    add_engine(command)


def add_engine(command: Any) -> None:
    text = "what computes the model; auto, the default: the native library (core) if possible, else torch"
    command.add_argument("--engine", choices=ENGINES, default="auto", help=text)
    command.add_argument("--threads", type=types.whole, metavar="N", help="CPU threads, by default one for each core")


def engine_options(options: argparse.Namespace) -> dict[str, Any]:
    """Device, engine and threads, as arguments of `hpcm.load`."""
    return {"device": options.device, "engine": options.engine, "threads": options.threads}
