"""What goes wrong, and what is worth a note: one line on stderr each."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable
from functools import partial

from ..errors import HPCMError
from ..util.notes import OnNote, ignore_note
from .signals import insist

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")  # in a RuntimeError of torch


def attempt(work: Callable[[], bool | None], name: str = "") -> bool:
    """Whether `work` went well; its returning False says that it has complained already.

    A failure becomes a line on stderr that begins with `name`, the input's, and so does a library's warning. What is no
    expected failure is raised, and so is a broken pipe. The base install lacks torch: that is an expected failure.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Image size")  # Pillow's, of what is refused by an error
        warnings.showwarning = lambda message, *_, **__: say("note", message, name)
        try:
            return _unless_ended(work) is not False
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            say("error", "this needs torch: pip install 'hpcm-codec[torch]'", name)
            return False
        except Exception as error:
            if isinstance(error, BrokenPipeError) or not (isinstance(error, (HPCMError, OSError)) or ran_out(error)):
                raise
            say("error", error, name)
            return False


def _unless_ended(work: Callable[[], bool | None]) -> bool | None:
    """What `work` returns or raises; KeyboardInterrupt if a signal came meanwhile that ends the command."""
    try:
        return work()
    finally:
        insist()


class _Lines(logging.Handler):
    """Writes what the package logs to stderr, a line each."""

    def emit(self, record: logging.LogRecord) -> None:
        say("note" if record.levelno >= logging.WARNING else "debug", record.getMessage())


_LINES = _Lines()


def log_to_stderr(*, verbose: bool = False) -> None:
    """Writes what the package logs to stderr: notes, which have no input's name there, and with `verbose` the rest."""
    log = logging.getLogger("hpcm")
    log.setLevel(logging.DEBUG if verbose else logging.WARNING)
    log.addHandler(_LINES)


def note_printer(name: str, *, quiet: bool) -> OnNote:
    """What writes notes about an input to stderr, a line each; with `quiet` none."""
    return ignore_note if quiet else partial(say, "note", name=name)


def ran_out(error: Exception | str) -> bool:
    """Whether memory ran out, in Python's words or in torch's."""
    said_so = isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)
    return said_so or isinstance(error, MemoryError)


def say(kind: str, message: Exception | str, name: str = "") -> None:
    """One line on stderr."""
    complain(line(kind, message, name))


def line(kind: str, message: Exception | str, name: str = "") -> str:
    """`hpcm: KIND: NAME: MESSAGE`. An OSError brings its own name."""
    text = " ".join(str(message).split())
    if ran_out(message):
        text = "there isn't enough memory for it"
    elif isinstance(message, OSError):
        name, text = message.filename or name, message.strerror or text
    return printable(": ".join(filter(None, ("hpcm", kind, str(name), text)))) + "\n"


def printable(text: str) -> str:
    """One line: control characters become escapes. A file's name may hold line ends, or commands for a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def complain(text: str) -> None:
    """Writes to stderr. If nobody reads it any more, the work goes on without."""
    try:
        print(text, end="", file=sys.stderr, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # so that flushing it at exit doesn't fail
