"""SIGTERM and SIGHUP end a command as Ctrl-C does: half-written files are removed.

A signal raises an exception wherever the command is at the moment. In a callback of a library's compiled code, the
library may replace the exception or ignore it. So the signal is also recorded, and `raise_pending` raises the exception
again.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

STOPS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
BY_DEFAULT = (signal.SIG_DFL, signal.default_int_handler)

_received: list[int] = []  # the first signal; global, because signals belong to the process


@contextmanager
def as_interruptions() -> Iterator[None]:
    """In this block the first signal of STOPS raises KeyboardInterrupt(number).

    Signals that are ignored, as with nohup, or handled by others stay so. Only the main thread can handle signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in STOPS}
    handled = [number for number in STOPS if before[number] in BY_DEFAULT]

    def stop(number: int, _: Any) -> None:
        for one in handled:
            signal.signal(one, signal.SIG_IGN)  # a second one would interrupt the cleanup
        _received.append(number)
        raise KeyboardInterrupt(number)

    for number in handled:
        signal.signal(number, stop)
    try:
        yield
    finally:
        _received.clear()
        for number in handled:
            signal.signal(number, before[number])


def raise_pending() -> None:
    """Raises KeyboardInterrupt if one of the signals was received, even if a library has caught the exception."""
    if _received and threading.current_thread() is threading.main_thread():
        raise KeyboardInterrupt(_received[0])


def exit_code(interruption: KeyboardInterrupt) -> int:
    """128 and the signal's number, as of shells: 130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP."""
    number, *_ = *interruption.args, signal.SIGINT
    return 128 + int(number)
