"""The command line. Each command has the module of its name, which `commands` lists; the others serve them:

    commands    the commands and the parser of all    options    options that several commands have
    parsing     argparse, with suggestions            types      from an argument's text to its value
    batch       many files for one command            processes  several files at a time, with -j
    jobs        which output belongs to which input   folders    what a folder holds
    outputs     how files are written                 streams    standard input and output
    messages    errors and notes on stderr            signals    SIGTERM and SIGHUP
    version     --version

A failure that is to be expected is one line on stderr, `hpcm: error: ...`, and exit code 1; wrong usage is argparse's
message and 2, an interruption 130, SIGTERM 143, SIGHUP 129. Nothing is overwritten without -f, and no output is left
half-written. With several inputs the others are still done, and a line says how many. What a picture lost, or why a
target wasn't met, is a line `hpcm: note: ...`; with -v what the package logs is a line `hpcm: debug: ...`.

Only what a command needs is imported, when it runs: help, `hpcm info` and `hpcm models` know neither torch nor Pillow.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial

from .commands import parser
from .messages import attempt, log_to_stderr, say
from .signals import as_interruptions, exit_code
from .streams import open_closed

FAILURE, BROKEN_PIPE = 1, 141  # exit codes; the latter is what shells make of SIGPIPE


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line (by default the process's own) and returns its exit code. Raises SystemExit for usage."""
    open_closed()
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file's name may not be writable in its encoding
    try:
        with as_interruptions():
            options = parser().parse_args(arguments)
            log_to_stderr()
            done = attempt(partial(options.run, options))
            if sys.stdout is not None:
                sys.stdout.flush()
    except KeyboardInterrupt as interruption:
        return exit_code(interruption)
    except OSError as error:  # of standard output: its reader has gone, or the disk is full
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # so that flushing it at exit says nothing more
        if isinstance(error, BrokenPipeError):
            return BROKEN_PIPE
        say("error", error, "standard output")
        return FAILURE
    return 0 if done else FAILURE
