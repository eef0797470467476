"""Folders on a disk or in a bucket: listing, reading and atomic writing, with patience where a network is between.

pyarrow opens local paths and s3://, gs://, hdfs:// and abfs:// URLs; fsspec, where it is installed, opens the others.
Keys are paths relative to the folder, with / between their parts.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import io
import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar, cast

from pyarrow import fs

from ..errors import UsageError
from ..util import atomic

T = TypeVar("T")
HIDDEN = "."  # what names begin with that are passed over; cameras begin names with _, too: _DSC0001.JPG
NO_DATA = ("_hpcm", "_temporary", "_delta_log")  # folders that are passed over: an archive's notes, Spark's
WAITS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)  # seconds between attempts at a remote file
OBJECT_STORES = ("s3", "gcs", "abfs")  # pyarrow's own, where what is written appears at once, when it is closed
HOPELESS = (
    *("ACCESS_DENIED", "NO_SUCH_BUCKET", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "NO_SUCH_KEY"),
    "KeyTooLong",
)
BAD_NAME = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)  # of errors in opening: the place never takes this name
TEMPORARY = "_hpcm/temporary"  # where files of a remote file system are written before they get their names
ABANDONED = 24 * 3600  # seconds without a change after which another machine's temporary file is no longer in use
ARROWS = ("s3:", "gs:", "gcs:", "hdfs:", "abfs", "file:")  # URLs that pyarrow opens by itself
DELAYED = "allow_delayed_open=true"  # of S3: a small file is written in one request
LATEST = 2**63 - 1  # nanoseconds since 1970 that 64 bits hold: the year 2262, beyond which a file's date may lie
IS_FOLDER = "it is a folder"  # why one that is called as a file can't be read
CHUNK = 4 << 20  # bytes that are read or written at once


class Found(NamedTuple):
    """A file: its key, bytes, time of change in nanoseconds, and why it can't be read if that is known.

    The key of a folder that can't be listed ends in /.
    """

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
        scheme, mark, rest = _split(self.url)[0].partition("://")
        return scheme + mark + rest.rpartition("@")[2] if mark else self.url

    def identity(self) -> tuple[str, tuple[str, ...]]:
        """The kind of file system and the parts of the path: equal or a beginning for the same place or one around."""
        system, path = self._open()
        resolved = os.path.realpath(path) if self.local else path
        return f"{system.type_name} {getattr(system, 'endpoint_override', '')}", Path(resolved).parts

    def inner(self, folder: str) -> Place:
        """A folder in this one."""
        path, options = _split(self.url)
        return Place(f"{path.rstrip('/')}/{folder}{options}")

    def under(self, key: str) -> str:
        return f"{self._open()[1].rstrip('/')}/{key}" if key else self._open()[1]

    # ---- reading ----------------------------------------------------------------------------------------------------

    def files(self, skipped: Counter[str] | None = None) -> list[Found]:
        """All files below, by key, without hidden ones, which are counted in `skipped`. Raises UsageError."""
        skipped = Counter() if skipped is None else skipped
        try:
            found = list(_walk(self.local, skipped) if self.local else self._listed(skipped))
        except OSError as error:
            raise UsageError(f"{self.shown}: {_brief(error)}") from error
        return sorted(found)

    def _listed(self, skipped: Counter[str]) -> Iterator[Found]:
        system, path = self._open()
        selector = fs.FileSelector(path, recursive=True)
        infos = self._patiently(lambda: system.get_file_info(selector))
        for info in infos:
            key = info.path[len(path.rstrip("/")) + 1 :]
            *folders, name = key.split("/")
            if info.type != fs.FileType.File or any(folder in NO_DATA for folder in folders):
                continue
            if any(map(_hidden, (*folders, name))):
                skipped["hidden"] += 1
            else:
                yield Found(key, info.size or 0, info.mtime_ns or 0)

    def inside(self) -> tuple[Place, str] | None:
        """For the URL of a file the folder around it and its key."""
        system, path = self._open()
        if system.get_file_info(path).type != fs.FileType.File:
            return None
        url, options = _split(self.url)
        folder, _, key = (url if "://" in url else path).rpartition("/")
        return Place((folder or "/") + options), key

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
        path = self.under(key)
        source.seek(0)
        if self.local:
            with atomic.replacing(Path(path)) as temporary, temporary.open("xb") as file:
                _copy(source, file)
        elif system.type_name in OBJECT_STORES:
            self._write_object(system, path, source)
        else:  # under its own name half a file would be seen
            self._write_and_move(system, path, source)

    def _write_object(self, system: fs.FileSystem, path: str, source: BinaryIO) -> None:
        file = system.open_output_stream(path)
        try:
            size = _copy(source, file)
        except BaseException:
            # To close the stream would make an object of what has arrived. pyarrow can't abort, and its destructor
            # closes, too: so the stream is never freed, and the object doesn't appear.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(file))
            raise
        file.close()
        if (written := system.get_file_info(path)).size != size:
            raise OSError(f"{path} has {written.size} bytes of {size}")

    def _write_and_move(self, system: fs.FileSystem, path: str, source: BinaryIO) -> None:
        temporary = self.under(f"{TEMPORARY}/{uuid.uuid4().hex}")
        for name in (temporary, path):
            system.create_dir(name.rpartition("/")[0], recursive=True)
        try:
            with system.open_output_stream(temporary) as file:
                _copy(source, file)
            system.move(temporary, path)
        except BaseException:
            with suppress(OSError):
                system.delete_file(temporary)
            raise

    def delete(self, key: str) -> None:
        with suppress(FileNotFoundError):
            self._patiently(lambda: self._open()[0].delete_file(self.under(key)))

    def tidy(self) -> None:
        """Removes what interrupted writes have left. What may still be written is left alone."""
        if self.local:
            for folder in list(self.local.rglob(f"{atomic.TEMPORARY}*")):
                atomic.remove_abandoned(folder, ABANDONED)
        elif self._open()[0].type_name not in OBJECT_STORES:
            self._tidy_remote()

    def _tidy_remote(self) -> None:
        system, _ = self._open()
        selector = fs.FileSelector(self.under(TEMPORARY), allow_not_found=True)
        with suppress(OSError):
            for info in system.get_file_info(selector):
                if info.mtime_ns is not None and time.time() - info.mtime_ns / 1e9 > ABANDONED:
                    system.delete_file(info.path)

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
        try:
            data = self._patiently(lambda: self._range(size)) if size else b""
        except OSError as error:  # with a number, which those of pyarrow about damaged files don't have
            raise error if error.errno else OSError(errno.EIO, _brief(error)) from error
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


def _split(url: str) -> tuple[str, str]:
    """A URL without its options, and these; a local path has none."""
    if "://" not in url:
        return url, ""
    path, mark, options = url.partition("?")
    return path, mark + options


def readable(name: str) -> str:
    """A name as text. A byte XX that is no UTF-8, as a disk or a tar may have, becomes \\udcXX."""
    if is_text(name):
        return name
    escaped = name.replace("\\", r"\\")  # so that two names never become one
    return escaped.encode("utf-8", "backslashreplace").decode()


def is_text(name: str) -> bool:
    """Whether it can be written as UTF-8."""
    return name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def _hidden(name: str) -> bool:
    return name.startswith(HIDDEN)


def _walk(root: Path, skipped: Counter[str]) -> Iterator[Found]:
    """Every file below a folder. Links are followed, and each folder is entered once.

    One to a folder around this one would lead to the whole disk.
    """
    seen = set()
    around = Path(os.path.realpath(root)).parents
    unlisted: list[OSError] = []
    for folder, names, files in os.walk(root, onerror=unlisted.append, followlinks=True):
        number = os.stat(folder)
        if (number.st_dev, number.st_ino) in seen:
            names.clear()
            continue
        seen.add((number.st_dev, number.st_ino))
        if Path(os.path.realpath(folder)) in around:
            skipped["link to a folder around it"] += 1
            names.clear()
            continue
        names[:] = [name for name in names if name not in NO_DATA]
        skipped.update("hidden" for name in (*names, *files) if _hidden(name))
        names[:] = [name for name in names if not _hidden(name)]
        for name in files:
            if not _hidden(name):
                path = Path(folder, name)
                yield _stat(path, path.relative_to(root).as_posix())
        for name in names:
            path = Path(folder, name)
            if path.suffix:
                yield Found(path.relative_to(root).as_posix(), 0, 0, IS_FOLDER)
    for error in unlisted:
        if error.filename == str(root):
            raise error
        key = Path(error.filename).relative_to(root).as_posix()
        yield Found(f"{key}/", 0, 0, f"the folder can't be listed: {error.strerror or error}")


def _stat(path: Path, key: str) -> Found:
    try:
        found = path.stat()
    except OSError as error:  # a link to nowhere or to itself
        return Found(key, 0, 0, error.strerror or str(error))
    modified = min(found.st_mtime_ns, LATEST)
    return Found(key, found.st_size, modified, None if path.is_file() else "it is no file")


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
