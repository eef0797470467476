"""argparse's parser, with a suggestion for what is mistyped, and the usage of the command that it was mistyped for."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import Any

Commands = Any  # what add_subparsers() returns; argparse keeps its type to itself


class Parser(argparse.ArgumentParser):
    """The parser of the whole command line, and of each command, which argparse makes of the same class."""

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As argparse's, but nothing may remain: argparse would let the whole's parser complain of a command's options.

        Long options are looked at first: one that is mistyped may be the very one that argparse would say is missing.
        """
        words = self._with_left_out_values(list(sys.argv[1:] if args is None else args))
        for option in self._own_options(words):
            one_dash = not option.startswith("--")
            if one_dash and f"-{option}" in self._option_string_actions:  # -quality would be read as -q with a value
                self.error(f"there is no option {option}: did you mean -{option}?")
            if not one_dash and not any(known.startswith(option) for known in self._option_string_actions):
                self.error(f"there is no option {option}{suggestion(option, self._option_string_actions)}")
        result, rest = super().parse_known_args(words, namespace)
        for word in rest:
            self.error(f"there is no option {word}" if word.startswith("-") else f"{word!r} is one argument too many")
        return result, rest

    def _with_left_out_values(self, words: Sequence[str]) -> list[str]:
        """The words with a value for each option that may have none, if the next word isn't one of its choices.

        argparse would take the next word for its value, whatever it is: in `--strip photo.jpg` the name of the file.
        """
        result: list[str] = []
        for i, word in enumerate(words):
            if word == "--":
                return [*result, *words[i:]]
            action = self._option_with_optional_value(word)
            if action is not None and words[i + 1 : i + 2] not in [[choice] for choice in action.choices or ()]:
                word = f"{word}={action.const}"
            result.append(word)
        return result

    def _option_with_optional_value(self, word: str) -> argparse.Action | None:
        """The option that a word stands for, which may be its beginning, if it takes a value or none."""
        names = self._option_string_actions
        meant = [word] if word in names else [name for name in names if word[:2] == "--" and name.startswith(word)]
        action = names[meant[0]] if len(meant) == 1 else None
        return action if action is not None and action.nargs == "?" else None

    def _own_options(self, words: Sequence[str]) -> list[str]:
        """Options among the words that are for this parser: what follows a command is the command's."""
        options = []
        has_commands = self._subparsers is not None
        for word in words:
            if word == "--" or (has_commands and not word.startswith("-")):
                break
            if word.startswith("-"):
                options.append(word.partition("=")[0])
        return options

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """argparse's hook for a value that must be one of several; commands are such values, too."""
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            hint = suggestion(str(value), map(str, action.choices or ()))
            if isinstance(action, argparse._SubParsersAction):
                text = f"there is no command {str(value)!r}{hint or '; `hpcm help` lists them'}"
                raise argparse.ArgumentError(None, text) from None
            text = f"invalid choice: {value!r}{hint}" if hint else error.message
            raise argparse.ArgumentError(action, text) from None


def add_command(commands: Commands, name: str, run: Callable[[argparse.Namespace], Any], text: str) -> Any:
    """A new command's parser, without options yet.

    Args:
        run: does what the command is for; it returns False if that failed and a message says why.
        text: what the command does, in a few words that begin with a small letter.
    """
    command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    command.set_defaults(run=run)
    return command


def suggestion(word: str, known: Iterable[str]) -> str:
    """`: did you mean ...?` if something known is spelt alike, else nothing."""
    alike = get_close_matches(word, list(known), n=1)
    return f": did you mean {alike[0]}?" if alike else ""
