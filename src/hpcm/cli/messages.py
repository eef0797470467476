"""Errors, notes and debug messages: one line on stderr each."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial

from ..errors import HPCMError
from ..util.notes import OnNote, ignore_note
from .signals import raise_pending

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")  # in a RuntimeError of torch
_on_warning: ContextVar[OnNote] = ContextVar("on_warning")


def attempt(work: Callable[[], bool | None], name: str = "") -> bool:
    """Calls `work` and returns whether it succeeded. It returns False if it failed and has printed why.

    An expected error (HPCMError, OSError, lack of memory, of torch in the base install) becomes a line on stderr with
    `name`, the input's, and so does a library's warning. Other errors are raised, and so is a broken pipe.
    """
    with warnings_as_notes(), noting(partial(say, "note", name=name)):
        try:
            return _interruptible(work) is not False
        except ModuleNotFoundError as error:
            if error.name != "torch":
                raise
            say("error", "this needs torch: pip install 'hpcm-codec[torch]'", name)
            return False
        except Exception as error:
            is_expected = isinstance(error, (HPCMError, OSError)) or is_out_of_memory(error)
            if isinstance(error, BrokenPipeError) or not is_expected:
                raise
            say("error", error, name)
            return False


@contextmanager
def warnings_as_notes() -> Iterator[None]:
    """In this block a library's warning is a note; on whatever thread, it goes where `noting` says there."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Image size")  # Pillow's, of what is refused by an error
        warnings.showwarning = lambda message, *_, **__: _on_warning.get(partial(say, "note"))(str(message))
        yield


@contextmanager
def noting(on_note: OnNote) -> Iterator[None]:
    """In this block, on this thread, `on_note` gets what `warnings_as_notes` makes notes of."""
    before = _on_warning.set(on_note)
    try:
        yield
    finally:
        _on_warning.reset(before)


def _interruptible(work: Callable[[], bool | None]) -> bool | None:
    """What `work` returns or raises; KeyboardInterrupt if a signal that ends the command arrived during it."""
    try:
        return work()
    finally:
        raise_pending()


class _StderrHandler(logging.Handler):
    """Writes each record to stderr as a line."""

    def emit(self, record: logging.LogRecord) -> None:
        say("note" if record.levelno >= logging.WARNING else "debug", record.getMessage())


_HANDLER = _StderrHandler()


def log_to_stderr(*, verbose: bool = False) -> None:
    """Prints what the package logs: warnings as notes, without an input's name, and with `verbose` the rest, too."""
    log = logging.getLogger("hpcm")
    log.setLevel(logging.DEBUG if verbose else logging.WARNING)
    log.addHandler(_HANDLER)


def note_printer(name: str, *, quiet: bool) -> OnNote:
    """A function that prints notes about an input to stderr, a line each; with `quiet` one that prints nothing."""
    return ignore_note if quiet else partial(say, "note", name=name)


def is_out_of_memory(error: Exception | str) -> bool:
    """Whether it is a MemoryError, or torch's RuntimeError of the same meaning."""
    is_torchs = isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)
    return is_torchs or isinstance(error, MemoryError)


def say(kind: str, message: Exception | str, name: str = "") -> None:
    """Prints one line on stderr, see `line`."""
    write_stderr(line(kind, message, name))


def line(kind: str, message: Exception | str, name: str = "") -> str:
    """`hpcm: KIND: NAME: MESSAGE`; an OSError names its own file."""
    text = " ".join(str(message).split())
    if is_out_of_memory(message):
        text = "there isn't enough memory for it"
    elif isinstance(message, OSError):
        name, text = message.filename or name, message.strerror or text
    return printable(": ".join(filter(None, ("hpcm", kind, str(name), text)))) + "\n"


def printable(text: str) -> str:
    """One line: control characters become escapes. A file's name may hold line ends, or commands for a terminal."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def write_stderr(text: str) -> None:
    """Prints to stderr. If it can't be written any more, the command continues without messages."""
    try:
        print(text, end="", file=sys.stderr, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # so that flushing it at exit doesn't fail
