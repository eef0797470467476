"""SIGTERM and SIGHUP end a command as Ctrl-C does: what is half written is cleared away.

A signal raises an exception wherever the command is at the moment. Where that is a function which a library's compiled
code calls, the library may make another error of it, or pass over it. So the signal is also remembered, and `insist`
raises the exception again.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

STOPS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
BY_DEFAULT = (signal.SIG_DFL, signal.default_int_handler)

_come: list[int] = []  # the signal that has come; signals are the process's, and so is this


@contextmanager
def as_interruptions() -> Iterator[None]:
    """In this block the first of these signals raises KeyboardInterrupt(number).

    A signal that was ignored before, as nohup does, or handled stays so. Only the main thread can handle signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STOPS}
    ours = [number for number in STOPS if before[number] in BY_DEFAULT]

    def stop(number: int, _: Any) -> None:
        for one in ours:
            signal.signal(one, signal.SIG_IGN)  # a second one would interrupt the clearing away
        _come.append(number)
        raise KeyboardInterrupt(number)

    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        _come.clear()
        for number in ours:
            signal.signal(number, before[number])


def insist() -> None:
    """Raises KeyboardInterrupt if one of the signals has come, whatever has become of the exception since."""
    if _come and threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt(_come[0])


def exit_code(interruption: KeyboardInterrupt) -> int:
    """What shells make of the signal: 130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP."""
    number, *_ = *interruption.args, signal.SIGINT
    return 128 + int(number)
