"""Folders on a disk or in a bucket: listing, reading and atomic writing, with patience where a network is between.

pyarrow opens local paths and s3://, gs://, hdfs:// and abfs:// URLs; fsspec, where it is installed, opens the others.
Keys are paths relative to the folder, with / between their parts.
"""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar, cast

from pyarrow import fs

from .. import atomic
from ..errors import UsageError

T = TypeVar("T")
HIDDEN = ("_", ".")  # what names begin with that are no data, as Spark and Hive have it
WAITS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)  # seconds between attempts at a remote file
OBJECT_STORES = ("s3", "gcs", "abfs", "gs", "az", "memory")  # where what is written appears at once, when it is whole
HOPELESS = ("ACCESS_DENIED", "NO_SUCH_BUCKET", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "NO_SUCH_KEY")
ARROWS = ("s3:", "gs:", "gcs:", "hdfs:", "abfs", "file:")  # URLs that pyarrow opens by itself
DELAYED = "allow_delayed_open=true"  # of S3: a small file is written in one request
CHUNK = 4 << 20  # bytes that are read or written at once


class Found(NamedTuple):
    """A file: its key, bytes, time of change in nanoseconds, and why it can't be read if that is known."""

    key: str
    size: int
    modified: int
    error: str | None = None


@dataclass(frozen=True)
class Place:
    """A folder. Cheap to make and to send to another machine.

    Methods raise OSError, FileNotFoundError among them.
    """

    url: str

    def _open(self) -> tuple[fs.FileSystem, str]:
        return _opened(self.url)

    @property
    def local(self) -> Path | None:
        """The folder's path, if it is on a disk of this machine."""
        system, path = self._open()
        return Path(path) if system.type_name == "local" else None

    @property
    def shown(self) -> str:
        """The URL without credentials and options."""
        scheme, mark, rest = self.url.partition("?")[0].partition("://")
        return scheme + mark + rest.rpartition("@")[2] if mark else self.url

    def identity(self) -> tuple[str, tuple[str, ...]]:
        """The kind of file system and the parts of the path: equal or a beginning for the same place or one around."""
        system, path = self._open()
        resolved = os.path.realpath(path) if self.local else path
        return f"{system.type_name} {getattr(system, 'endpoint_override', '')}", Path(resolved).parts

    def under(self, key: str) -> str:
        return f"{self._open()[1].rstrip('/')}/{key}" if key else self._open()[1]

    # ---- reading ----------------------------------------------------------------------------------------------------

    def files(self) -> list[Found]:
        """All files below, by key, without hidden ones. Raises UsageError."""
        try:
            found = list(_walk(self.local) if self.local else self._listed())
        except OSError as error:
            raise UsageError(f"{self.shown}: {_brief(error)}") from error
        return sorted(found)

    def _listed(self) -> Iterator[Found]:
        system, path = self._open()
        selector = fs.FileSelector(path, recursive=True)
        infos = self._patiently(lambda: system.get_file_info(selector))
        for info in infos:
            key = info.path[len(path.rstrip("/")) + 1 :]
            if info.type == fs.FileType.File and not any(part.startswith(HIDDEN) for part in key.split("/")):
                yield Found(key, info.size or 0, info.mtime_ns or 0)

    def inside(self) -> tuple[Place, str] | None:
        """For the URL of a file the folder around it and its key."""
        system, path = self._open()
        if system.get_file_info(path).type != fs.FileType.File:
            return None
        url, mark, query = self.url.partition("?")
        folder, _, key = (url if "://" in url else path).rpartition("/")
        return Place(folder + mark + query), key

    def read(self, key: str) -> bytes:
        with self.open(key) as file:
            return file.read()

    def open(self, key: str) -> BinaryIO:
        """A file for reading, with seek; what a broken connection interrupts is read again."""
        if self.local:
            return open(self.under(key), "rb")
        raw = _Ranges(lambda: self._open()[0].open_input_file(self.under(key)), self._patiently)
        return cast(BinaryIO, io.BufferedReader(raw, CHUNK))

    def exists(self, key: str = "") -> bool:
        """Whether there is such a file, or without a key the folder."""
        system, _ = self._open()
        info = self._patiently(lambda: system.get_file_info(self.under(key)))
        return info.type == (fs.FileType.File if key else fs.FileType.Directory)

    # ---- writing ----------------------------------------------------------------------------------------------------

    def write(self, key: str, data: bytes | BinaryIO, check: bool = False) -> None:
        """A file that appears whole or not at all, and its folders; an existing one is replaced.

        Args:
            data: bytes, or an open file that is copied from its beginning.
            check: whether to read it back and compare.
        """
        source = io.BytesIO(data) if isinstance(data, bytes) else data
        self._patiently(lambda: self._write(key, source))
        if check:
            with self.open(key) as file:
                if _digest(file) != _digest(source):
                    raise OSError(f"{self.shown}: {key} isn't what was written there")

    def _write(self, key: str, source: BinaryIO) -> None:
        system, _ = self._open()
        source.seek(0)
        if self.local:
            with atomic.replacing(Path(self.under(key))) as temporary, temporary.open("xb") as file:
                _copy(source, file)
            return
        path = self.under(key)
        whole = system.type_name.removeprefix("py::fsspec+") in OBJECT_STORES
        first = path if whole else self.under(f"_hpcm/temporary/{os.getpid()}-{time.monotonic_ns()}")
        if not whole:
            for name in (first, path):
                system.create_dir(name.rpartition("/")[0], recursive=True)
        with system.open_output_stream(first) as file:
            size = _copy(source, file)
        if not whole:
            system.move(first, path)
        elif (written := system.get_file_info(path)).size != size:
            raise OSError(f"{path} has {written.size} bytes of {size}")

    def delete(self, key: str) -> None:
        with suppress(FileNotFoundError):
            self._patiently(lambda: self._open()[0].delete_file(self.under(key)))

    def tidy(self) -> None:
        """Removes what interrupted writes have left; nothing may be writing."""
        import shutil

        if self.local:
            for path in list(self.local.rglob(f"{atomic.TEMPORARY}*")):
                shutil.rmtree(path, ignore_errors=True)
        elif self._open()[0].type_name.removeprefix("py::fsspec+") not in OBJECT_STORES:
            with suppress(OSError):
                self._open()[0].delete_dir(self.under("_hpcm/temporary"))

    def _patiently(self, work: Callable[[], T]) -> T:
        """Does it, again and again while a network fails."""
        for wait in () if self.local else WAITS:
            try:
                return work()
            except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError):
                raise
            except OSError as error:
                if any(word in str(error) for word in HOPELESS):
                    raise
                time.sleep(wait)
        return work()


class _Ranges(io.RawIOBase):
    """A remote file by ranges of bytes; it is opened anew where one fails."""

    def __init__(self, opened: Callable[[], Any], patiently: Callable[[Callable[[], Any]], Any]) -> None:
        self._opened, self._patiently = opened, patiently
        self._file = patiently(opened)
        self._size, self._at = self._file.size(), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = max(offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence], 0)
        return self._at

    def readinto(self, buffer: Any) -> int:
        size = max(min(len(buffer), self._size - self._at), 0)
        data = self._patiently(lambda: self._range(size)) if size else b""
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def _range(self, size: int) -> bytes:
        try:
            data: bytes = self._file.read_at(size, self._at)
            if len(data) != size:
                raise OSError(f"{len(data)} bytes came of {size}")
        except OSError:
            self._file = self._opened()
            raise
        return data


@lru_cache(maxsize=64)
def _opened(url: str) -> tuple[fs.FileSystem, str]:
    """The file system and the path of a URL or local path. Raises UsageError."""
    if not url:
        raise UsageError("the name of a folder is empty")
    if "://" not in url:
        return fs.LocalFileSystem(), os.path.abspath(url)
    try:
        if url.startswith(ARROWS):
            return fs.FileSystem.from_uri(
                url + ("&" if "?" in url else "?") + DELAYED if url.startswith("s3:") else url
            )
        from fsspec.core import url_to_fs

        system, path = url_to_fs(url)
        return fs.PyFileSystem(fs.FSSpecHandler(system)), path
    except (ImportError, ValueError, OSError) as error:
        raise UsageError(f"{Place(url).shown}: {_brief(error)}") from error


def _walk(root: Path) -> Iterator[Found]:
    """Every file below a folder. Links are followed, and each folder is entered once."""
    seen = set()
    for folder, names, files in os.walk(root, onerror=_raise_of(root), followlinks=True):
        number = os.stat(folder)
        if (number.st_dev, number.st_ino) in seen:
            names.clear()
            continue
        seen.add((number.st_dev, number.st_ino))
        names[:] = [name for name in names if not name.startswith(HIDDEN)]
        for name in (*names, *files):
            path = Path(folder, name)
            if name in files and not name.startswith(HIDDEN):
                yield _stat(path, path.relative_to(root).as_posix())
            elif name in names and path.suffix:
                yield Found(path.relative_to(root).as_posix(), 0, 0, "it is a folder")


def _raise_of(root: Path) -> Callable[[OSError], None]:
    def told(error: OSError) -> None:
        if error.filename == str(root):
            raise error

    return told


def _stat(path: Path, key: str) -> Found:
    try:
        found = path.stat()
    except OSError as error:  # a link to nowhere or to itself
        return Found(key, 0, 0, error.strerror or str(error))
    return Found(key, found.st_size, found.st_mtime_ns, None if path.is_file() else "it is no file")


def _copy(source: BinaryIO, target: Any) -> int:
    size = 0
    while chunk := source.read(CHUNK):
        size += len(chunk)
        target.write(chunk)
    return size


def _digest(file: BinaryIO) -> bytes:
    file.seek(0)
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK):
        digest.update(chunk)
    return digest.digest()


def _brief(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return text.splitlines()[0][:300] if text else type(error).__name__
