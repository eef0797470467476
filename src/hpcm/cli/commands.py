"""The commands, and the parser of the command line. Each command's module declares its options and runs it."""

from __future__ import annotations

import argparse
from functools import partial

from . import (
    archive,
    bench,
    completion,
    compress,
    decompress,
    desktop,
    eval,
    exact,
    help,
    import_,
    info,
    models,
    selftest,
    serve,
    thumbnail,
    train,
)
from .parsing import Parser
from .version import Version

COMMANDS = (  # in the order in which help lists them
    compress,
    decompress,
    info,
    models,
    import_,
    exact,
    train,
    eval,
    bench,
    selftest,
    serve,
    archive,
    thumbnail,
    desktop,
)
ON_COMMANDS = (completion, help)  # these need the parser of all commands
EXAMPLES = """examples:
  hpcm compress photo.jpg                   writes photo.hpcm
  hpcm compress photos -o small --bpp 0.5   every picture in a folder
  hpcm decompress photo.hpcm -o photo.webp
  hpcm info photo.hpcm
"""


def parser() -> argparse.ArgumentParser:
    """argparse's parser of the whole command line. `run` of its result is the function to call."""
    root = Parser(
        prog="hpcm",
        description="A learned image codec.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action=Version)
    root.set_defaults(run=partial(help.overview, root))
    commands = root.add_subparsers(metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    for about in ON_COMMANDS:
        about.add(commands, root)
    return root
