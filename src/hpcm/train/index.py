"""Where the pictures are: folders, tar archives, files and lists of them -> an index of pictures, by their headers.

Each real file of a source counts once, whatever links lead to it. What can't be used is named, with the reason.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..defaults import PICTURE_SUFFIXES
from ..errors import PictureError, UsageError
from ..image.picture import rgb_of
from ..util.folders import contents, describe

ARCHIVE, LIST = ".tar", ".txt"
COMPRESSED = (".gz", ".tgz", ".bz2", ".tbz2", ".xz", ".txz", ".zst", ".zip", ".7z", ".rar")  # no picture alone in them
UNPACK = "is compressed, so that a picture in it can't be read without those before it: unpack it (tar -xf, unzip)"
NAMED = 3  # files that a message names
Source = str | Path | Sequence[str | Path]  # one source of pictures may be in several places
Identity = tuple[int, int, int]  # device and number of a file, and where in it a picture begins


class Entry(NamedTuple):
    """A picture: its file, where in the file it begins and its length, rows, columns, source, name in an archive."""

    path: Path
    offset: int
    length: int
    height: int
    width: int
    source: int = 0
    member: str = ""

    @property
    def name(self) -> str:
        """For messages: photos/7.png, or photos.tar: 7.png."""
        return f"{self.path}: {self.member}" if self.member else str(self.path)

    def decode(self) -> np.ndarray:
        """uint8 [height, width, 3]. A damaged file may raise anything: Pillow has many parsers."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            image = Image.open(io.BytesIO(file.read(self.length)))
        self._check(image.size)  # memory was reckoned with the sides that `scan` has read
        picture = rgb_of(image)
        self._check((picture.shape[1], picture.shape[0]))
        return picture

    def _check(self, size: tuple[int, int]) -> None:
        if size != (self.width, self.height):
            raise PictureError(f"{self.path} isn't what its header says")


class Skipped(NamedTuple):
    """A file that isn't used, and why."""

    file: str
    why: str


@dataclass
class Index:
    """What sources have."""

    entries: list[Entry] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)  # that aren't pictures by their names, by kind
    places: dict[tuple[int, Identity], Entry] = field(default_factory=dict)  # by source and real file

    def without_pictures(self, smallest: int, sources: Iterable[Source]) -> PictureError:
        """The error where no picture was found."""
        where = f"in {', '.join(map(described, sources))}{self._in_words()}"
        return PictureError(f"no picture of at least {smallest} x {smallest} pixels found {where}")

    def _in_words(self) -> str:
        words = f"; skipped {len(self.skipped)} files" if self.skipped or not self.others else ""
        if self.skipped:
            words += ": " + "; ".join(f"{file}: {why}" for file, why in self.skipped[:NAMED])
            words += "; ..." * (len(self.skipped) > NAMED)
        return words + (f"; no pictures by their names: {describe(self.others)}" if self.others else "")

    def identities(self) -> set[Identity]:
        return {identity for _, identity in self.places}


def described(source: Source) -> str:
    """The places of a source, for messages."""
    return str(source) if isinstance(source, str | Path) else ", ".join(map(str, source))


def _places(source: Source) -> list[Path]:
    return [Path(source)] if isinstance(source, str | Path) else [Path(path) for path in source]


def scan(sources: Iterable[Source], smallest: int) -> Index:
    """The pictures whose sides are at least `smallest`, from their headers alone.

    Raises OSError for a source that isn't there, UsageError for one that is compressed.
    """
    index = Index()
    for number, source in enumerate(sources):
        for path in _places(source):
            _Scan(index, smallest, number).source(path)
    return index


def fingerprint(sources: Iterable[Source]) -> frozenset[tuple[str, int, int, int]]:
    """What changes when files come to sources or grow: of each file its path, number, size and time.

    A source that isn't there has no files.
    """
    found = set()
    for source in sources:
        for path in _places(source):
            for file in _files_of(path):
                with suppress(OSError):
                    status = file.stat()
                    found.add((str(file), status.st_ino, status.st_size, status.st_mtime_ns))
    return frozenset(found)


def _files_of(path: Path) -> Iterator[Path]:
    """The files that pictures of a source may be in; of a list, those that it names, and itself."""
    paths = [path]
    if path.suffix.lower() == LIST:
        with suppress(OSError, UnicodeDecodeError):
            paths += [path.parent / line for line in _lines(path)]
    for one in paths:
        yield from contents(one, {*PICTURE_SUFFIXES, ARCHIVE}).files if one.is_dir() else [one]


def _lines(path: Path) -> list[str]:
    """Of a list: those that aren't empty."""
    return list(filter(str.strip, path.read_text(encoding="utf-8-sig").splitlines()))


@dataclass(frozen=True)
class _Scan:
    """Adds one source to an index."""

    index: Index
    smallest: int
    number: int

    def source(self, path: Path) -> None:
        if path.suffix.lower() in COMPRESSED:
            raise UsageError(f"{path} {UNPACK}")
        if path.suffix.lower() == LIST:
            self.listed(path)
        else:
            self.folder_or_file(path)

    def listed(self, path: Path) -> None:
        """A path a line, relative to the list."""
        try:
            lines = _lines(path)
        except UnicodeDecodeError as error:
            raise UsageError(f"{path} is no list of files, a path a line in UTF-8: {error}") from error
        for line in lines:
            listed = path.parent / line
            try:
                self.folder_or_file(listed)
            except OSError as error:
                self.skip(listed, error.strerror or str(error))

    def folder_or_file(self, path: Path) -> None:
        if path.is_dir():
            self.folder(path)
        elif path.suffix.lower() == ARCHIVE:
            self.archive(path)
        elif path.suffix.lower() in COMPRESSED:
            self.skip(path, UNPACK)
        else:
            with path.open("rb") as file:
                self.picture(Entry(path, 0, os.fstat(file.fileno()).st_size, 0, 0, self.number), file)

    def folder(self, folder: Path) -> None:
        found = contents(folder, {*PICTURE_SUFFIXES, ARCHIVE, *COMPRESSED})
        self.index.others += found.skipped
        for path, error in found.unreadable:
            self.skip(path, str(error))
        for path in found.files:
            try:
                self.folder_or_file(path)
            except OSError as error:
                self.skip(path, error.strerror or str(error))

    def archive(self, path: Path) -> None:
        try:
            archive = tarfile.open(path, "r:")  # noqa: SIM115
        except tarfile.TarError:
            self.skip(path, "it is no tar archive, or a compressed one")
            return
        with archive:
            for member in sorted(self.pictures_in(archive, path), key=lambda m: m.name):
                file = cast(BinaryIO, archive.extractfile(member))
                self.picture(Entry(path, member.offset_data, member.size, 0, 0, self.number, member.name), file)

    def pictures_in(self, archive: tarfile.TarFile, path: Path) -> Iterator[tarfile.TarInfo]:
        """The pictures of an archive by their names; of one that is cut short, those that are there."""
        try:
            for member in archive:
                if member.isfile() and Path(member.name).suffix.lower() in PICTURE_SUFFIXES:
                    yield member
                elif not member.isdir():
                    self.index.others[Path(member.name).suffix.lower() or "without a suffix"] += 1
        except tarfile.TarError as error:
            self.skip(path, f"what comes after {archive.offset} bytes of it is damaged: {error}")

    def picture(self, entry: Entry, file: BinaryIO) -> None:
        """Adds a picture, of which `file` is open and the size isn't known yet, unless it can't be used."""
        status = os.stat(entry.path)
        place = (self.number, (status.st_dev, status.st_ino, entry.offset))
        if place in self.index.places:
            self.skip(entry.name, f"it is the same file as {self.index.places[place].name}")
            return
        try:
            width, height = Image.open(file).size
        except Exception as error:  # see Entry.decode
            self.skip(entry.name, reason(error))
            return
        if min(width, height) < self.smallest:
            self.skip(entry.name, f"{width} x {height} pixels: smaller than {self.smallest} x {self.smallest}")
            return
        entry = entry._replace(height=height, width=width)
        self.index.entries.append(entry)
        self.index.places[place] = entry

    def skip(self, file: str | Path, why: str) -> None:
        self.index.skipped.append(Skipped(str(file), why))


def reason(error: Exception) -> str:
    """Why a picture can't be read, from what Pillow raises."""
    if isinstance(error, UnidentifiedImageError):
        return "it is no picture that Pillow can read"
    return str(error) or type(error).__name__
