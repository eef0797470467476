"""Checkpoints that a user has already: which file of a folder is which."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import UsageError
from .catalogue import Published

SUFFIXES = (".pth.tar", ".pth", ".pt", ".tar", ".ckpt")
NUMBER = re.compile(r"\d+(?:\.\d+)?")


def checkpoints_in(source: Path, wanted: Sequence[Published]) -> dict[Published, Path]:
    """The files of the wanted checkpoints, as far as they are there.

    A file is recognised by a number in its name, or in those of the folders below `source` that it lies in: its lambda,
    0.0018, or that of the model's name, 0018. A `source` that is a file is the only one that is wanted.

    Raises UsageError where two files could be meant, or none is there.
    """
    if source.is_file() and len(wanted) == 1:
        return {wanted[0]: source}
    if not source.is_dir():
        raise UsageError(f"--from {source}: it must be a folder of checkpoints, or a file where one model is asked for")
    files = _files(source)
    if len(files) == len(wanted) == 1:
        return {wanted[0]: files[0]}  # whatever its name is
    recognised = {}
    for one in wanted:
        if path := _file_of(one, files, source):
            recognised[one] = path
    if not recognised:
        numbers = ", ".join(f"{one.lmbda:g}" for one in wanted)
        kinds = ", ".join(SUFFIXES)
        raise UsageError(f"no file of {source} ({kinds}) has a lambda in its name: {numbers}")
    return recognised


def _files(folder: Path) -> list[Path]:
    """All that may be checkpoints, in folders below too."""
    return [path for path in sorted(folder.rglob("*")) if path.name.lower().endswith(SUFFIXES) and path.is_file()]


def _file_of(one: Published, files: Sequence[Path], source: Path) -> Path | None:
    """The file whose name below `source` has the number of a checkpoint. Raises UsageError where there are several."""
    fitting = [path for path in files if _has_number(str(path.relative_to(source)), one)]
    if len(fitting) > 1:
        first, second = fitting[:2]
        raise UsageError(f"{first} and {second} may both be {one.name}: leave one of them in the folder")
    return fitting[0] if fitting else None


def _has_number(name: str, one: Published) -> bool:
    """Whether the lambda is among the numbers of a file's name, as 0.0018 or as 0018."""
    short = one.name.rpartition("-")[2]
    numbers = NUMBER.findall(name)
    return short in numbers or any("." in number and float(number) == one.lmbda for number in numbers)
