"""`hpcm thumbnail`: a small PNG of a .hpcm file, for file managers (freedesktop.org)."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from ..format.container import unpack
from ..util.notes import ignore_note
from . import types
from .messages import attempt
from .outputs import write
from .parsing import Commands, add_command


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
    from ..image.write import draft_size, save_picture, thumbnail_of

    container = unpack(Path(options.file).read_bytes(), partial=True)
    draft = draft_size(container, options.side)
    picture = codec_for(container).decompress_picture(container, partial=True, draft=draft)
    small = save_picture(thumbnail_of(picture, options.side), ".png", on_note=ignore_note)
    write(Path(options.output), small, force=True)
