"""`hpcm compress`: pictures to .hpcm files."""

from __future__ import annotations

import argparse
import math
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..defaults import DEFAULT_MODEL, PICTURE_SUFFIXES, SUFFIX, TILE_SIDE
from ..util.folders import describe
from ..util.notes import OnNote
from ..util.parallel import Check
from . import types
from .batch import OnProgress, load, run_jobs
from .jobs import Job, Output, Work, plan
from .messages import say
from .options import EFFORTS, add_appearance, add_files, add_target, appearance, engine_options, target
from .outputs import refuse_misnamed
from .parsing import Commands, add_command

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..codec.codec import Codec

SKIP_REASON = "in a folder, only files with the usual suffixes of pictures are compressed"


def add(commands: Commands) -> None:
    command = add_command(commands, "compress", compress, "encode pictures to .hpcm files")
    add_files(command, "picture", ".hpcm file")
    add_target(command)
    add_appearance(command)
    text = "side of the tiles in pixels, 256 to 4096, by default 1024; smaller tiles: faster regions, larger files"
    command.add_argument("--tile", type=types.tile, default=TILE_SIDE, metavar="N", help=text)
    text = "make the beginning of the file show the whole picture; by default if that costs little"
    command.add_argument("--progressive", action=argparse.BooleanOptionalAction, help=text)
    text = "0 (default) to 9: search for a smaller file, which takes minutes at 9; needs PyTorch"
    command.add_argument("--effort", type=int, choices=EFFORTS, default=0, metavar="E", help=text)
    text = "regions of interest: a grey picture, scaled to the picture's size, whose white parts keep their quality "
    text += "and whose dark ones take fewer bytes; needs PyTorch"
    command.add_argument("--roi", metavar="MAP", help=text)
    text = "lite (default, for how pictures look), lite-mse (for PSNR), nano (fast), or another model, file or run"
    command.add_argument("--model", metavar="NAME|PATH", default=DEFAULT_MODEL, help=text)


def compress(options: argparse.Namespace) -> bool:
    target(options)  # before any work
    jobs, skipped = plan(options.inputs, options.output, SUFFIX, PICTURE_SUFFIXES)
    for job in jobs:
        refuse_misnamed(job.target, SUFFIX)
    for folder, kinds in () if options.quiet else skipped.items():
        del kinds[SUFFIX]  # compressed already
        if kinds:
            say("note", f"skipped {describe(kinds)}: {SKIP_REASON}", folder)
    return run_jobs(jobs, compressor, options)


def compressor(options: argparse.Namespace, on_progress: OnProgress | None = None) -> Work:
    """Loads the model. Returns the function that compresses a file, also on several threads. Raises HPCMError."""
    from ..image.read import lift_pillows_bounds

    lift_pillows_bounds()
    codec = load(options.model, engine_options(options))
    if (options.effort or options.roi) and options.threads and find_spec("torch"):
        import torch

        torch.set_num_threads(options.threads)
    how = {name: getattr(options, name) for name in ("tile", "progressive", "effort")}
    how |= {**target(options), "on_progress": on_progress}
    return partial(compress_one, codec, how=how, options=options)


def compress_one(
    codec: Codec, job: Job, on_note: OnNote, check: Check | None, *, how: dict[str, Any], options: argparse.Namespace
) -> Output:
    from ..image.read import read_picture

    data = job.read()
    picture = read_picture(data, **appearance(options))
    if options.roi is not None:
        how = {**how, "quality_map": map_of(options.roi, picture.size)}
    compressed = codec.compress(picture, **how, check=check, on_note=on_note)
    bpp = 8 * len(compressed) / math.prod(picture.size)
    return Output(compressed, f"{len(data):,} -> {len(compressed):,} bytes ({bpp:.2f} bpp)")


def map_of(path: str, size: tuple[int, int]) -> NDArray[np.float32]:
    """The quality map of a picture of (height, width) from a grey picture file. Raises OSError, PictureError."""
    import numpy as np
    from PIL import Image

    from ..codec.tiles import latents_of_size
    from ..image.picture import to_image
    from ..image.read import read_picture

    rows, columns = latents_of_size(size)
    grey = to_image(read_picture(Path(path).read_bytes())).convert("L")
    return np.asarray(grey.resize((columns, rows), Image.Resampling.BOX), np.float32) / np.float32(255)
