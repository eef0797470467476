"""`hpcm completion SHELL`: what makes a shell complete commands, options and files."""

from __future__ import annotations

import argparse
from importlib.util import find_spec

from ..errors import UsageError

SHELLS = ("bash", "zsh", "fish", "tcsh", "powershell")  # of shtab


def completion(options: argparse.Namespace) -> None:
    if not find_spec("shtab"):
        raise UsageError("this needs shtab: pip install 'hpcm-codec[completion]'")
    import shtab

    from .arguments import parser

    whole = parser()
    for action in values(whole):
        action.complete = shtab.FILE  # type: ignore[attr-defined]
    print(shtab.complete(whole, options.shell))


def values(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """What takes any text, for it names a file or a model, in all commands."""
    found = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found += [value for command in action.choices.values() for value in values(command)]
        elif action.nargs != 0 and action.type is None and action.choices is None:
            found.append(action)
    return found
