"""How the commands write files: whole or not at all, never under a name that is wrong for them."""

from __future__ import annotations

from pathlib import Path

from ..errors import UsageError
from ..util import atomic


def write(path: Path, data: bytes, force: bool) -> None:
    """Writes a file, all or nothing, and its folders. Raises OSError or UsageError."""
    if is_device(path):  # it can't be replaced
        with atomic.blamed_on(path), path.open("wb") as device:
            device.write(data)
        return
    atomic.write(path, data, force)


def refuse_misnamed(target: Path | None, suffix: str) -> None:
    """Raises UsageError if the name of an output says that it is another kind of file. A device may have any name."""
    if target is None or target.suffix.lower() in ("", suffix) or is_device(target):
        return
    name = target.with_suffix(suffix)
    raise UsageError(f"{target}: the output is a {suffix} file and must be named so, such as {name}")


def is_device(path: Path) -> bool:
    """Whether it is a pipe, a terminal or the like."""
    return path.exists() and not path.is_file() and not path.is_dir()
