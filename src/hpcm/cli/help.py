"""`hpcm` alone and `hpcm help`: the commands, and what each does."""

from __future__ import annotations

import argparse
from functools import partial

from .parsing import Commands, add_command

OVERVIEW = """hpcm makes photographs small. The commands that most people need:

  hpcm compress photo.jpg                   writes photo.hpcm
  hpcm decompress photo.hpcm -o back.png    writes a picture again
  hpcm info photo.hpcm                      shows what a file holds

Others: {others}.
`hpcm help COMMAND` explains a command, `hpcm help` lists all of them.
"""
BASIC = ("compress", "decompress", "info")


def add(commands: Commands, root: argparse.ArgumentParser) -> None:
    command = add_command(commands, "help", partial(help_, root), "explain a command, or list them all")
    command.add_argument("command", nargs="?", choices=[*commands.choices], metavar="COMMAND", help="its name")


def overview(root: argparse.ArgumentParser, _: argparse.Namespace) -> None:
    """What `hpcm` without a command prints."""
    others = ", ".join(name for name in parsers(root) if name not in BASIC)
    print(OVERVIEW.format(others=others), end="")


def help_(root: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """The help of a command, or of all of hpcm."""
    (parsers(root)[options.command] if options.command else root).print_help()


def parsers(root: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of the commands by their names."""
    return next(dict(action.choices) for action in root._actions if isinstance(action, argparse._SubParsersAction))
