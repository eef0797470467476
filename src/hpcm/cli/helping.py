"""`hpcm` alone and `hpcm help`: what one can do."""

from __future__ import annotations

import argparse
from collections.abc import Callable

FIRST = """hpcm makes photographs small. The commands that most people need:

  hpcm compress photo.jpg                   writes photo.hpcm
  hpcm decompress photo.hpcm -o back.png    writes a picture again
  hpcm info photo.hpcm                      shows what a file holds

Others: {others}.
`hpcm help COMMAND` explains a command, `hpcm help` lists all of them.
"""
COMMONEST = ("compress", "decompress", "info")

Makes = Callable[[], argparse.ArgumentParser]


def first(parser: Makes, _: argparse.Namespace) -> None:
    """What `hpcm` without a command prints."""
    others = ", ".join(name for name in commands(parser()) if name not in COMMONEST)
    print(FIRST.format(others=others), end="")


def help_(parser: Makes, options: argparse.Namespace) -> None:
    """The help of a command, or of all of hpcm."""
    whole = parser()
    (commands(whole)[options.command] if options.command else whole).print_help()


def commands(whole: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of the commands by their names."""
    return next(dict(action.choices) for action in whole._actions if isinstance(action, argparse._SubParsersAction))
