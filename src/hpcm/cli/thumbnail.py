"""`hpcm thumbnail`: a small PNG of a .hpcm file, for file managers (freedesktop.org)."""

from __future__ import annotations

import argparse
import io
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..format.container import unpack
from . import types
from .messages import attempt
from .outputs import write
from .parsing import Commands, add_command

if TYPE_CHECKING:
    from PIL import Image


def add(commands: Commands) -> None:
    text = "make a small PNG of a .hpcm file, as file managers ask for it"
    command = add_command(commands, "thumbnail", thumbnail, text)
    command.add_argument("file", metavar="IN", help="a .hpcm file; it may be cut short")
    command.add_argument("output", metavar="OUT", help="the PNG; it is overwritten")
    command.add_argument("side", type=types.whole, metavar="SIZE", help="largest side of the PNG in pixels")


def thumbnail(options: argparse.Namespace) -> bool:
    return attempt(partial(make_thumbnail, options), options.file)


def make_thumbnail(options: argparse.Namespace) -> None:
    """Of a truncated file, what can be decoded."""
    from ..codec.api import codec_for
    from ..image.write import draft_size, fit_within

    container = unpack(Path(options.file).read_bytes(), partial=True)
    image = codec_for(container).preview(container, draft=draft_size(container, options.side))
    out = io.BytesIO()
    eight_bit_pixels(fit_within(image, options.side)).save(out, "PNG")
    write(Path(options.output), out.getvalue(), force=True)


def eight_bit_pixels(image: Image.Image) -> Image.Image:
    """The pixels of an image with 8 bits per sample, without its metadata."""
    import numpy as np
    from PIL import Image

    from ..image.picture import eight_bits

    return Image.fromarray(np.asarray(eight_bits(image) if image.mode == "I;16" else image))
