"""What a folder holds: files to convert, what is skipped, and what can't be read.

Nothing is passed over in silence, because the originals may be deleted afterwards. A folder is read with all that it
holds, also behind symbolic links, and each real folder once. Links are followed last, so that a folder keeps the name
under which it really lies. A link to a folder around this one isn't followed: it would lead to the whole disk.
"""

from __future__ import annotations

import os
import stat
from collections import Counter, deque
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import UsageError

MAX_KINDS = 30  # that are named in a line


@dataclass
class Contents:
    """What a folder holds."""

    files: list[Path] = field(default_factory=list)  # with a wanted suffix, sorted
    skipped: Counter[str] = field(default_factory=Counter)  # by kind: a suffix, "hidden", ...
    unreadable: list[tuple[Path, Exception]] = field(default_factory=list)


def contents(folder: Path, wanted: Collection[str]) -> Contents:
    """What a folder and the folders in it hold; `wanted`: suffixes of files to convert. Raises nothing."""
    result = Contents()
    root = Path(os.path.realpath(folder))
    seen: set[Path] = set()
    folders, links = [folder], deque[Path]()
    while folders or links:
        here = folders.pop() if folders else links.popleft()
        real = Path(os.path.realpath(here))
        if real in root.parents:
            result.skipped["link to a folder around it"] += 1
        elif real not in seen:
            seen.add(real)
            for entry in _folders_in(here, wanted, result):
                (links if entry.is_symlink() else folders).append(Path(entry.path))
    result.files.sort()
    result.unreadable.sort(key=lambda pair: pair[0])
    return result


def _folders_in(folder: Path, wanted: Collection[str], result: Contents) -> list[os.DirEntry[str]]:
    """The folders in a folder, whose other entries are put where they belong."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if _sort(entry, wanted, result)]
    except OSError as error:
        result.unreadable.append((folder, error))
        return []


def _sort(entry: os.DirEntry[str], wanted: Collection[str], result: Contents) -> bool:
    """Puts an entry of a folder where it belongs; whether it is a folder, which is to be read too."""
    path = Path(entry.path)
    if entry.name.startswith("."):
        result.skipped["hidden"] += 1
        return False
    try:
        mode = entry.stat().st_mode
    except OSError as error:
        broken = entry.is_symlink() and isinstance(error, FileNotFoundError)
        what = UsageError(f"it is a link to {os.path.realpath(path)}, which doesn't exist") if broken else error
        result.unreadable.append((path, what))
        return False
    if stat.S_ISDIR(mode):
        return True
    if not stat.S_ISREG(mode):  # a pipe, a socket, a device
        result.skipped["special"] += 1
    elif path.suffix.lower() in wanted:
        result.files.append(path)
    else:
        result.skipped[path.suffix.lower() or "without a suffix"] += 1
    return False


def in_words(skipped: Counter[str]) -> str:
    """Three .orf, one .txt -> '3 .orf, 1 .txt'; the most frequent first."""
    kinds = sorted(skipped.items(), key=lambda pair: (-pair[1], pair[0]))
    words = [f"{count} {kind}" for kind, count in kinds[:MAX_KINDS]]
    if rest := sum(count for _, count in kinds[MAX_KINDS:]):
        words.append(f"{rest} others")
    return ", ".join(words)
