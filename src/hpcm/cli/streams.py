"""The standard streams: some may be closed, and an output may be one of them under another name."""

from __future__ import annotations

import os
import sys

STREAM = "-"  # in place of a file's name
STANDARD_INPUT = (STREAM, "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")
STANDARD_OUTPUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


def open_closed() -> None:
    """Puts the null device where a standard stream is closed.

    Otherwise the next file to be opened takes its number, and what a library writes there goes into that file. Python
    has None for such a stream. Standard output stays None, because data that is meant for it must be refused.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, number)  # also makes it inheritable, for processes that are started
            if null != number:
                os.close(null)
    if sys.stderr is None:  # print(file=None) would write to standard output
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def is_standard_input(name: str) -> bool:
    """Whether a file's name stands for standard input, which has no folder where the result could lie."""
    return name in STANDARD_INPUT


def is_standard_output(name: str) -> bool:
    """Whether a file is what standard output leads to: `/dev/stdout`, or the same pipe, device or file."""
    if name in STANDARD_OUTPUT:
        return True
    try:
        return sys.stdout is not None and os.path.samestat(os.stat(name), os.fstat(1))
    except OSError:
        return False
