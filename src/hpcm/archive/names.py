"""Names of outputs: where a picture may be written, and which names are taken already.

Nothing is ever written over but what was made of the same input. Whoever wants a name claims it first:

    photos/a.jpg       claims the file   a.hpcm
    photos/b.tar       claims the file   b.tar, or with `--to loose` the folder b with all that will be in it
    photos/b/x.png     claims the file   b/x.hpcm, which collides with the folder b
    a member of a tar  claims its name among those of its own shard
"""

from __future__ import annotations

import unicodedata
from collections.abc import Hashable, Iterator
from pathlib import PurePosixPath

from ..errors import FormatError

KINDS = {"loose": "", "tar": ".tar", "parquet": ".parquet"}  # of output, and what the names of its files end in


class Claims:
    """Paths that are taken, each by an owner.

    Two paths collide if they are equal or one lies in the other, unless they have the same owner.

    Args:
        folds: whether the file system takes names for equal that differ in case only, as those of macOS and Windows.
    """

    def __init__(self, folds: bool = False) -> None:
        self.folds = folds
        self._owners: dict[str, Hashable] = {}
        self._inside: dict[str, tuple[Hashable, ...]] = {}  # folder -> owners of what lies in it, two at most

    def take(self, path: str, owner: Hashable) -> Hashable | None:
        """Takes a path; one that collides is left alone, and the owner of what it collides with is returned."""
        path = self._folded(path)
        rival = self._rival(path, owner)
        if rival is not None:
            return rival
        self._owners[path] = owner
        for folder in _around(path):
            owners = self._inside.setdefault(folder, (owner,))
            if len(owners) == 1 and owner not in owners:
                self._inside[folder] = (*owners, owner)
        return None

    def _rival(self, path: str, owner: Hashable) -> Hashable | None:
        for taken in (path, *_around(path)):
            if self._owners.get(taken, owner) != owner:
                return self._owners[taken]
        return next((other for other in self._inside.get(path, ()) if other != owner), None)

    def _folded(self, path: str) -> str:
        return unicodedata.normalize("NFC", path).casefold() if self.folds else path


def _around(path: str) -> Iterator[str]:
    """The folders around a path: a and a/b of a/b/c."""
    place = path.find("/")
    while place > 0:
        yield path[:place]
        place = path.find("/", place + 1)


def checked(name: str) -> str:
    """The name in its plain form, without `.` and doubled `/`. Raises FormatError where it is no file's in a folder."""
    path = PurePosixPath(name)
    if "\0" in name or not path.name:
        raise FormatError(f"its name {name!r} is no name of a file")
    if path.is_absolute() or ".." in path.parts:
        raise FormatError(f"its name {name!r} leads out of the folder")
    return str(path)
