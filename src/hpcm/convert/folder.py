"""Checkpoints that a user has: which file of a folder is which."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ..errors import UsageError
from .catalogue import Published

SUFFIXES = (".pth.tar", ".pth", ".pt", ".tar", ".ckpt")
NUMBER = re.compile(r"\d+(?:\.\d+)?")


def checkpoints(source: Path, wanted: Sequence[Published]) -> dict[Published, Path]:
    """The files of the wanted checkpoints, as far as they are there.

    A file is recognised by a number in its name, or in those of the folders below `source` that it lies in: its lambda,
    0.0018, or that of the model's name, 0018. A `source` that is a file is the only one that is wanted.

    Raises UsageError where two files could be meant, or none is there.
    """
    if source.is_file() and len(wanted) == 1:
        return {wanted[0]: source}
    if not source.is_dir():
        raise UsageError(f"--from {source}: it must be a folder of checkpoints, or a file where one model is asked for")
    files = [path for path in sorted(source.rglob("*")) if path.name.lower().endswith(SUFFIXES) and path.is_file()]
    if len(files) == len(wanted) == 1:
        return {wanted[0]: files[0]}
    found: dict[Published, Path] = {}
    for one in wanted:
        these = [path for path in files if _tells(str(path.relative_to(source)), one)]
        if len(these) > 1:
            both = " and ".join(str(path) for path in these[:2])
            raise UsageError(f"{both} may both be {one.name}: leave one of them in the folder")
        if these:
            found[one] = these[0]
    if not found:
        numbers = ", ".join(f"{one.lmbda:g}" for one in wanted)
        kinds = ", ".join(SUFFIXES)
        raise UsageError(f"no file of {source} ({kinds}) has a lambda in its name: {numbers}")
    return found


def _tells(name: str, one: Published) -> bool:
    """Whether the lambda is among the numbers of a file's name."""
    number = one.name.rpartition("-")[2]
    return any(text == number or ("." in text and float(text) == one.lmbda) for text in NUMBER.findall(name))
