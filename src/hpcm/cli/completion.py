"""`hpcm completion SHELL`: what makes a shell complete commands, options and files."""

from __future__ import annotations

import argparse
from functools import partial
from importlib.util import find_spec

from ..errors import UsageError
from .parsing import Commands, add_command

SHELLS = ("bash", "zsh", "fish", "tcsh", "powershell")  # of shtab


def add(commands: Commands, whole: argparse.ArgumentParser) -> None:
    text = "print a script that makes a shell complete hpcm's commands, options and files"
    command = add_command(commands, "completion", partial(completion, whole), text)
    command.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))


def completion(whole: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    if not find_spec("shtab"):
        raise UsageError("this needs shtab: pip install 'hpcm-codec[completion]'")
    import shtab

    for action in values(whole):
        action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(whole, options.shell))


def values(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """What takes any text, for it names a file or a model, in all commands."""
    result = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            result += [value for command in action.choices.values() for value in values(command)]
        elif action.nargs != 0 and action.type is None and action.choices is None:
            result.append(action)
    return result
