"""Options that several commands have."""

from __future__ import annotations

import argparse
from typing import Any

from ..defaults import DEFAULT_QUALITY, DEVICES, ENGINES, MAX_EFFORT, MAX_QUALITY
from . import types

EFFORTS = range(MAX_EFFORT + 1)


def add_target(command: Any) -> None:
    """What compression aims at, one of three."""
    target = command.add_mutually_exclusive_group()
    text = f"1 (smallest) to {MAX_QUALITY} (best), by default {DEFAULT_QUALITY}"
    target.add_argument("--quality", type=types.quality, metavar="Q", help=text)
    target.add_argument("--bpp", type=types.positive, help="the best quality with at most BPP bits per pixel")
    target.add_argument("--psnr", type=types.positive, help="the smallest file with at least PSNR dB")


def add_files(command: Any, source: str, target: str) -> None:
    """Inputs and outputs of compress and decompress, which batch.py goes through.

    Args:
        source, target: what the inputs and the outputs are.
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
    text = "number of parallel processes, which share the cores; by default 1"
    command.add_argument("-j", "--jobs", type=types.whole, default=1, metavar="N", help=text)
    amount = command.add_mutually_exclusive_group()
    amount.add_argument("-q", "--quiet", action="store_true", help="print only errors")
    amount.add_argument("-v", "--verbose", action="store_true", help="also print what is loaded and tried")
    command.add_argument("--device", choices=DEVICES, default="cpu", help="where to compute, by default cpu")
    add_engine(command)


def add_engine(command: Any) -> None:
    text = "what computes the model; auto, the default: the native library (core) if possible, else torch"
    command.add_argument("--engine", choices=ENGINES, default="auto", help=text)
    command.add_argument("--threads", type=types.whole, metavar="N", help="CPU threads, by default one for each core")


def where(options: argparse.Namespace) -> dict[str, Any]:
    """What computes, as `hpcm.load` takes it."""
    return {"device": options.device, "engine": options.engine, "threads": options.threads}
