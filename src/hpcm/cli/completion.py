"""`hpcm completion SHELL`: a script for completion of commands, options and files."""

from __future__ import annotations

import argparse
from functools import partial
from importlib.util import find_spec

from ..errors import UsageError
from .parsing import Commands, add_command

SHELLS = ("bash", "zsh", "fish", "tcsh", "powershell")  # of shtab


def add(commands: Commands, root: argparse.ArgumentParser) -> None:
    text = "print a script that makes a shell complete hpcm's commands, options and files"
    command = add_command(commands, "completion", partial(completion, root), text)
    command.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))


def completion(root: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if not find_spec("shtab"):
        raise UsageError("this needs shtab: pip install 'hpcm-codec[completion]'")
    import shtab

    for action in path_arguments(root):
        action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(root, options.shell))


def path_arguments(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """The arguments of all commands that take any text: they name files or models."""
    result = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            result += [argument for command in action.choices.values() for argument in path_arguments(command)]
        elif action.nargs != 0 and action.type is None and action.choices is None:
            result.append(action)
    return result
