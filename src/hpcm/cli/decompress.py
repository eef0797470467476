"""`hpcm decompress`: .hpcm files to pictures."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING, Any

from ..defaults import MAX_DECODED, MAX_QUALITY, SUFFIX
from ..errors import TruncatedError, UsageError
from ..format.container import unpack
from ..format.fields import PASSES
from ..util.hardware import keep_pages
from ..util.notes import OnNote
from ..util.parallel import Check
from . import types
from .batch import OnProgress, load, run_jobs
from .jobs import Job, Output, Work, plan
from .options import add_appearance, add_files, appearance, engine_options
from .parsing import Commands, add_command

if TYPE_CHECKING:
    from ..codec.codec import Codec

FORMATS = "png, webp, tif, jpg, avif, jp2, ppm, bmp or gif"  # that decompress writes, of Pillow's


def add(commands: Commands) -> None:
    command = add_command(commands, "decompress", decompress, "decode .hpcm files to pictures")
    add_files(command, ".hpcm file", f"picture, whose suffix sets its format ({FORMATS})")
    text = f"format of pictures whose names aren't given, by default png: {FORMATS}"
    command.add_argument("--format", type=types.suffix, default="png", help=text)
    text = f"1 to {MAX_QUALITY}, of jpg, webp and avif, for a smaller picture; by default they are the best"
    command.add_argument("--quality", type=types.quality, metavar="Q", help=text)
    part = command.add_mutually_exclusive_group()
    text = "decode only this part of the picture; X and Y are pixels from the left and the top"
    part.add_argument("--crop", type=types.crop, metavar="WxH+X+Y", help=text)
    text = "reduce the picture to at most N pixels a side"
    part.add_argument("--max-size", type=types.whole, metavar="N", help=text)
    part = command.add_mutually_exclusive_group()
    text = "decode a coarse picture, from the first one or two of three scales; 3: the lossy picture of a lossless file"
    part.add_argument("--preview", type=int, choices=range(1, PASSES + 1), help=text)
    text = "decode files that were cut short as far as they go"
    part.add_argument("--partial", action="store_true", help=text)
    add_appearance(command)
    text = "use this model instead of the one that the file names"
    command.add_argument("--model", metavar="NAME|PATH", help=text)
    text = "refuse files with more pixels, by default %(default)s"
    command.add_argument("--max-pixels", type=types.whole, default=MAX_DECODED, metavar="N", help=text)


def decompress(options: argparse.Namespace) -> bool:
    from ..image.write import save_options

    jobs, _ = plan(options.inputs, options.output, f".{options.format}", {SUFFIX})
    for job in jobs:
        if job.suffix(options.format).lower() == SUFFIX:
            raise UsageError("the output is a picture; name it so, such as .png, .webp, .tif, .ppm or .jpg")
        save_options(job.suffix(options.format), options.quality)
    return run_jobs(jobs, decompressor, options, decodes=True)


def decompressor(options: argparse.Namespace, on_progress: OnProgress | None = None) -> Work:
    """Loads the model, if one is named. Returns the function that decompresses a file, also on several threads.

    Raises HPCMError.
    """
    from ..image.read import lift_pillows_bounds

    lift_pillows_bounds()
    keep_pages()
    codec = load(options.model, engine_options(options)) if options.model else None
    return partial(decompress_one, codec, options=options)


def decompress_one(
    codec: Codec | None, job: Job, on_note: OnNote, check: Check | None, *, options: argparse.Namespace
) -> Output:
    from ..codec.api import codec_for
    from ..image.planes import fitting
    from ..image.write import draft_size, save_picture

    data = job.read()
    try:
        container = unpack(data, partial=options.partial)
    except TruncatedError as error:
        raise error if options.partial else TruncatedError(f"{error}, or take --partial for what is there") from None
    codec = codec or codec_for(container, **engine_options(options))
    part: dict[str, Any] = {"max_pixels": options.max_pixels, "box": options.crop, **appearance(options)}
    part["draft"] = draft_size(container, options.max_size)
    decoded = codec.decompress_picture(
        container, scale=options.preview, partial=options.partial, **part, check=check, on_note=on_note
    )
    decoded = fitting(decoded, options.max_size)
    picture = save_picture(decoded, job.suffix(options.format), options.quality, on_note=on_note)
    height, width = decoded.size
    shown = f"{width} x {height} pixels"
    if container.progress < 1:
        shown += f", {container.progress:.0%} of the file"
    return Output(picture, f"{len(data):,} -> {len(picture):,} bytes ({shown})")
