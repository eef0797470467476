"""The page of a run."""

from typing import Any


def write(*_: Any) -> None: ...
