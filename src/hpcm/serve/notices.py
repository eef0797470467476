"""PictureNotices, each for the thread whose work gave it.

Python's warnings are the process's: `warnings.catch_warnings` in two threads at once loses and mixes them. So while
any thread listens, one function is shown all warnings and sorts them by thread.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from PIL import Image

from ..errors import PictureNotice

_lock = threading.Lock()
_heard = threading.local()
_listeners = 0
_caught: warnings.catch_warnings[None]
_before: Any


@contextmanager
def listening() -> Iterator[list[str]]:
    """The notices of this thread, as they come. Other warnings go where they went before."""
    _begin()
    lines: list[str] = []
    _heard.lines = lines
    try:
        yield lines
    finally:
        del _heard.lines
        _end()


def _begin() -> None:
    global _listeners, _caught, _before
    with _lock:
        _listeners += 1
        if _listeners > 1:
            return
        _caught = warnings.catch_warnings()
        _caught.__enter__()
        _before = warnings.showwarning
        warnings.simplefilter("always", PictureNotice)
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # pixels are counted here
        warnings.showwarning = _sort


def _end() -> None:
    global _listeners
    with _lock:
        _listeners -= 1
        if not _listeners:
            _caught.__exit__(None, None, None)


def _sort(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    lines = getattr(_heard, "lines", None)
    if lines is not None and issubclass(category, PictureNotice):
        lines.append(str(message))
    else:
        _before(message, category, *where, **more)
