"""The contents of a folder: files to convert, files that are skipped, and what can't be read.

Everything is counted, because users may delete the originals afterwards. Subfolders are read, too, also behind symbolic
links, and each real folder once. Links are followed last, so that files are named by their real folders where these are
in the folder. A link to a folder around this one isn't followed: it would lead to the whole disk.
"""

from __future__ import annotations

import os
import stat
from collections import Counter, deque
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import UsageError

MAX_KINDS = 30  # that a message names


@dataclass
class Contents:
    """Of a folder."""

    files: list[Path] = field(default_factory=list)  # with a wanted suffix, sorted
    skipped: Counter[str] = field(default_factory=Counter)  # by kind: a suffix, "hidden", ...
    unreadable: list[tuple[Path, Exception]] = field(default_factory=list)


def contents(folder: Path, wanted: Collection[str]) -> Contents:
    """The contents of a folder and its subfolders; `wanted`: suffixes of files to convert. Raises nothing."""
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
    """The subfolders of a folder. Its other entries are added to `result`."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if _classify(entry, wanted, result)]
    except OSError as error:
        result.unreadable.append((folder, error))
        return []


def _classify(entry: os.DirEntry[str], wanted: Collection[str], result: Contents) -> bool:
    """Adds an entry of a folder to `result`, unless it is a subfolder. Returns whether it is one."""
    path = Path(entry.path)
    if entry.name.startswith("."):
        result.skipped["hidden"] += 1
        return False
    try:
        mode = entry.stat().st_mode
    except OSError as error:
        broken = entry.is_symlink() and isinstance(error, FileNotFoundError)
        reason = UsageError(f"it is a link to {os.path.realpath(path)}, which doesn't exist") if broken else error
        result.unreadable.append((path, reason))
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


def describe(skipped: Counter[str]) -> str:
    """{".orf": 3, ".txt": 1} -> '3 .orf, 1 .txt', the most frequent first."""
    kinds = sorted(skipped.items(), key=lambda pair: (-pair[1], pair[0]))
    texts = [f"{count} {kind}" for kind, count in kinds[:MAX_KINDS]]
    if others := sum(count for _, count in kinds[MAX_KINDS:]):
        texts.append(f"{others} others")
    return ", ".join(texts)
