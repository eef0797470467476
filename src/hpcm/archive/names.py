"""Names of outputs: where a picture may be written, and which names are taken.

Nothing is overwritten but an earlier output of the same input. Every output name is claimed before it is used:

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

KINDS = {"loose": "", "tar": ".tar", "parquet": ".parquet"}  # of output, and the suffix of its files


class Claims:
    """Paths that are taken, each by an owner.

    Two paths collide if they are equal or one is a folder around the other, unless they have the same owner.

    Args:
        case_insensitive: whether the file system ignores case in names, as those of macOS and Windows do.
    """

    def __init__(self, case_insensitive: bool = False) -> None:
        self.case_insensitive = case_insensitive
        self._owners: dict[str, Hashable] = {}
        self._inside: dict[str, tuple[Hashable, ...]] = {}  # folder -> owners of paths in it, two at most

    def take(self, path: str, owner: Hashable) -> Hashable | None:
        """Claims a path. If it collides, it isn't claimed, and the owner of the other path is returned."""
        path = self._normalized(path)
        other = self._collision(path, owner)
        if other is not None:
            return other
        self._owners[path] = owner
        for folder in _parents(path):
            owners = self._inside.setdefault(folder, (owner,))
            if len(owners) == 1 and owner not in owners:
                self._inside[folder] = (*owners, owner)
        return None

    def _collision(self, path: str, owner: Hashable) -> Hashable | None:
        """Another owner of the path, of a folder around it or of a path in it."""
        for claimed in (path, *_parents(path)):
            if self._owners.get(claimed, owner) != owner:
                return self._owners[claimed]
        return next((other for other in self._inside.get(path, ()) if other != owner), None)

    def _normalized(self, path: str) -> str:
        return unicodedata.normalize("NFC", path).casefold() if self.case_insensitive else path


def _parents(path: str) -> Iterator[str]:
    """The folders around a path: a and a/b of a/b/c."""
    slash = path.find("/")
    while slash > 0:
        yield path[:slash]
        slash = path.find("/", slash + 1)


def checked_name(name: str) -> str:
    """The name normalized, without `.` and doubled `/`. Raises FormatError unless it names a file in a folder."""
    path = PurePosixPath(name)
    if "\0" in name or not path.name:
        raise FormatError(f"its name {name!r} is no name of a file")
    if path.is_absolute() or ".." in path.parts:
        raise FormatError(f"its name {name!r} leads out of the folder")
    return str(path)
