"""`hpcm` alone and `hpcm help`: which commands there are, and what each does."""

from __future__ import annotations

import argparse
from functools import partial

from .parsing import Commands, add_command

FIRST = """hpcm makes photographs small. The commands that most people need:

  hpcm compress photo.jpg                   writes photo.hpcm
  hpcm decompress photo.hpcm -o back.png    writes a picture again
  hpcm info photo.hpcm                      shows what a file holds

Others: {others}.
`hpcm help COMMAND` explains a command, `hpcm help` lists all of them.
"""
COMMONEST = ("compress", "decompress", "info")


def add(commands: Commands, whole: argparse.ArgumentParser) -> None:
    command = add_command(commands, "help", partial(help_, whole), "explain a command, or list them all")
    command.add_argument("command", nargs="?", choices=[*commands.choices], metavar="COMMAND", help="its name")


def first(whole: argparse.ArgumentParser, _: argparse.Namespace) -> None:
    """What `hpcm` without a command prints."""
    others = ", ".join(name for name in parsers(whole) if name not in COMMONEST)
    print(FIRST.format(others=others), end="")


def help_(whole: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """The help of a command, or of all of hpcm."""
    (parsers(whole)[options.command] if options.command else whole).print_help()


def parsers(whole: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of the commands by their names."""
    return next(dict(action.choices) for action in whole._actions if isinstance(action, argparse._SubParsersAction))
