"""The site as a folder that any file server can host."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import UsageError
from ..util import atomic
from .models import Models
from .site import INDEX, PAGE, Asset, assets, is_built


def export(folder: Path, models: Models, *, force: bool = False, page: Path = PAGE) -> tuple[int, int]:
    """Writes the page and its models; the number of files and of bytes.

    A new or empty folder takes its name when everything is in it. With `force` files of another one are overwritten one
    by one, each whole or not at all, and index.html last; nothing is removed. Raises OSError or UsageError.
    """
    if not is_built(page):
        raise UsageError("there is no page to export: `make page` in a checkout, then `pip install .` there again")
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} exists")
    occupied = folder.is_dir() and any(folder.iterdir())
    if occupied and not force:
        raise UsageError(f"{folder} exists and is not empty; -f writes into it")
    files = assets(models, page)
    if occupied:
        _overwrite(folder, files)
    else:
        _write_new(folder, files)
    return len(files), sum(len(asset.read()) for asset in files.values())


def _overwrite(folder: Path, files: dict[str, Asset]) -> None:
    """One file after the other, and the page itself last: what it loads is there then."""
    for name in sorted(files, key=lambda name: (name == INDEX, name)):
        atomic.write(folder / name, files[name].read())


def _write_new(folder: Path, files: dict[str, Asset]) -> None:
    """All files at once, by renaming a folder that holds them."""
    target = Path(os.path.realpath(folder))  # a link stays a link
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic.blamed_on(folder), atomic.vanishing_folder(target.parent) as temporary:
        made = temporary / target.name
        for name, asset in files.items():
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            (made / name).write_bytes(asset.read())
        if target.exists():
            target.rmdir()  # it is empty
        made.rename(target)
