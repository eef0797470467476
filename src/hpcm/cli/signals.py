"""SIGTERM and SIGHUP end a command as Ctrl-C does: what is half written is cleared away."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

STOPS = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextmanager
def as_interruptions() -> Iterator[None]:
    """In this block the first of these signals raises KeyboardInterrupt(number).

    A signal that was ignored before, as nohup does, or handled stays so. Only the main thread can handle signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ours = [number for number in STOPS if signal.getsignal(number) is signal.SIG_DFL]

    def stop(number: int, _: Any) -> None:
        for one in ours:
            signal.signal(one, signal.SIG_IGN)  # a second one would interrupt the clearing away
        raise KeyboardInterrupt(number)

    for number in ours:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def exit_code(interruption: KeyboardInterrupt) -> int:
    """What shells make of the signal: 130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP."""
    number, *_ = *interruption.args, signal.SIGINT
    return 128 + int(number)
