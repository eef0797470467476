"""Stores: folders on a disk or in a bucket, which list, read and write files by key. Writes are atomic.

pyarrow opens local paths and s3://, gs://, hdfs:// and abfs:// URLs; fsspec, where it is installed, opens the others.
A key is a path relative to the folder, with / between its parts. Operations on remote files are retried.
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
HIDDEN_PREFIX = "."  # of names that are skipped; not _, with which cameras begin names: _DSC0001.JPG
NO_DATA = ("_hpcm", "_temporary", "_delta_log")  # folders that are skipped: an archive's metadata, Spark's
RETRY_DELAYS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)  # seconds between attempts at a remote file
OBJECT_STORES = ("s3", "gcs", "abfs")  # pyarrow's, where an object appears at once, when its stream is closed
PERMANENT_ERRORS = (  # substrings of messages; these errors aren't retried
    "ACCESS_DENIED",
    "NO_SUCH_BUCKET",
    "INVALID_ACCESS_KEY_ID",
    "SIGNATURE_DOES_NOT_MATCH",
    "NO_SUCH_KEY",
    "KeyTooLong",
)
BAD_NAME_ERRNOS = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)  # of opening a file whose name the store can't hold
TEMPORARY = "_hpcm/temporary"  # where files of a remote file system are written before they are renamed
STALE_SECONDS = 24 * 3600  # without a change: then another machine's temporary file counts as abandoned
ARROW_SCHEMES = ("s3:", "gs:", "gcs:", "hdfs:", "abfs", "file:")  # URLs that pyarrow opens by itself
DELAYED_OPEN = "allow_delayed_open=true"  # of S3: a small file is written in one request
MAX_MTIME = 2**63 - 1  # nanoseconds since 1970 that 64 bits hold: the year 2262; a file may have a later date
IS_FOLDER = "it is a folder"  # the error of a folder that has a file's suffix
CHUNK = 4 << 20  # bytes that are read or written at once


class FileEntry(NamedTuple):
    """A listed file. The key of a folder that can't be listed ends in /."""

    key: str
    size: int  # bytes
    modified: int  # nanoseconds since 1970
    error: str | None = None  # why it can't be read, if that is known


@dataclass(frozen=True)
class Store:
    """A folder on a disk or in a bucket. Cheap to make and to send to another machine.

    Methods raise OSError (FileNotFoundError is one), and UsageError for a URL that can't be opened.
    """

    url: str

    def _open(self) -> tuple[fs.FileSystem, str]:
        return filesystem_of(self.url)

    @property
    def local_path(self) -> Path | None:
        """The folder's path, if it is on a disk of this machine."""
        system, path = self._open()
        return Path(path) if system.type_name == "local" else None

    @property
    def display_url(self) -> str:
        """The URL without credentials and options."""
        scheme, separator, rest = _split_options(self.url)[0].partition("://")
        return scheme + separator + rest.rpartition("@")[2] if separator else self.url

    def identity(self) -> tuple[str, tuple[str, ...]]:
        """The file system and the parts of the path, with links resolved.

        Equal for the same folder. A folder in it has the same file system, and these parts first.
        """
        system, path = self._open()
        resolved = os.path.realpath(path) if self.local_path else path
        return f"{system.type_name} {getattr(system, 'endpoint_override', '')}", Path(resolved).parts

    def subfolder(self, name: str) -> Store:
        path, options = _split_options(self.url)
        return Store(f"{path.rstrip('/')}/{name}{options}")

    def _path_of(self, key: str) -> str:
        """As the file system names it; that of the folder for an empty key."""
        _, root = self._open()
        return f"{root.rstrip('/')}/{key}" if key else root

    # ---- reading ----------------------------------------------------------------------------------------------------

    def files(self, skipped: Counter[str] | None = None) -> list[FileEntry]:
        """All files in it and its subfolders, sorted by key.

        Args:
            skipped: counts what is left out, by reason: "hidden", "link to a folder around it".

        Raises UsageError where it can't be listed.
        """
        skipped = Counter() if skipped is None else skipped
        try:
            entries = list(_walk(self.local_path, skipped) if self.local_path else self._list_remote(skipped))
        except OSError as error:
            raise UsageError(f"{self.display_url}: {_first_line(error)}") from error
        return sorted(entries)

    def _list_remote(self, skipped: Counter[str]) -> Iterator[FileEntry]:
        system, path = self._open()
        selector = fs.FileSelector(path, recursive=True)
        infos = self._retry(lambda: system.get_file_info(selector))
        for info in infos:
            key = info.path[len(path.rstrip("/")) + 1 :]
            *folders, name = key.split("/")
            if info.type != fs.FileType.File or any(folder in NO_DATA for folder in folders):
                continue
            if any(map(_is_hidden, (*folders, name))):
                skipped["hidden"] += 1
            else:
                yield FileEntry(key, info.size or 0, info.mtime_ns or 0)

    def split_file(self) -> tuple[Store, str] | None:
        """The folder and the key of a file, if that is what the URL names."""
        system, path = self._open()
        if system.get_file_info(path).type != fs.FileType.File:
            return None
        url, options = _split_options(self.url)
        folder, _, key = (url if "://" in url else path).rpartition("/")
        return Store((folder or "/") + options), key

    def read(self, key: str) -> bytes:
        with self.open(key) as file:
            return file.read()

    def open(self, key: str) -> BinaryIO:
        """A seekable file for reading; reads over a broken connection are retried."""
        if self.local_path:
            return open(self._path_of(key), "rb")
        raw = _RemoteFile(lambda: self._open()[0].open_input_file(self._path_of(key)), self._retry)
        return cast(BinaryIO, io.BufferedReader(raw, CHUNK))

    def exists(self, key: str = "") -> bool:
        """Whether there is such a file, or without a key the folder."""
        system, _ = self._open()
        info = self._retry(lambda: system.get_file_info(self._path_of(key)))
        return info.type == (fs.FileType.File if key else fs.FileType.Directory)

    # ---- writing ----------------------------------------------------------------------------------------------------

    def write(self, key: str, data: bytes | BinaryIO, verify: bool = False) -> None:
        """A file that appears whole or not at all, and its folders; an existing one is replaced.

        Args:
            data: bytes, or an open file that is copied from its beginning.
            verify: whether to read it back and compare.
        """
        source = io.BytesIO(data) if isinstance(data, bytes) else data
        self._retry(lambda: self._write(key, source))
        if verify:
            with self.open(key) as file:
                if _digest(file) != _digest(source):
                    raise OSError(f"{self.display_url}: {key} isn't what was written there")

    def _write(self, key: str, source: BinaryIO) -> None:
        system, _ = self._open()
        path = self._path_of(key)
        source.seek(0)
        if self.local_path:
            with atomic.replacing(Path(path)) as temporary, temporary.open("xb") as file:
                _copy(source, file)
        elif system.type_name in OBJECT_STORES:
            self._write_object(system, path, source)
        else:  # a file would be visible while it is written
            self._write_and_rename(system, path, source)

    def _write_object(self, system: fs.FileSystem, path: str, source: BinaryIO) -> None:
        file = system.open_output_stream(path)
        try:
            size = _copy(source, file)
        except BaseException:
            # Closing the stream would complete the upload with half of the data. pyarrow has no abort, and its
            # destructor closes the stream, too. So one reference is leaked: then the stream is never destroyed.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(file))
            raise
        file.close()
        if (written := system.get_file_info(path)).size != size:
            raise OSError(f"{path} has {written.size} bytes of {size}")

    def _write_and_rename(self, system: fs.FileSystem, path: str, source: BinaryIO) -> None:
        temporary = self._path_of(f"{TEMPORARY}/{uuid.uuid4().hex}")
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
        """Removes a file, if it exists."""
        with suppress(FileNotFoundError):
            self._retry(lambda: self._open()[0].delete_file(self._path_of(key)))

    def remove_abandoned(self) -> None:
        """Removes temporary files of writes that were interrupted, but none that may still be written."""
        if self.local_path:
            for folder in list(self.local_path.rglob(f"{atomic.TEMPORARY}*")):
                atomic.remove_abandoned(folder, STALE_SECONDS)
        elif self._open()[0].type_name not in OBJECT_STORES:
            self._remove_abandoned_remote()

    def _remove_abandoned_remote(self) -> None:
        system, _ = self._open()
        selector = fs.FileSelector(self._path_of(TEMPORARY), allow_not_found=True)
        with suppress(OSError):
            for info in system.get_file_info(selector):
                if info.mtime_ns is not None and time.time() - info.mtime_ns / 1e9 > STALE_SECONDS:
                    system.delete_file(info.path)

    def _retry(self, operation: Callable[[], T]) -> T:
        """Calls `operation`, and after a transient error of a remote store again, with growing delays."""
        for delay in () if self.local_path else RETRY_DELAYS:
            try:
                return operation()
            except OSError as error:
                if not _is_transient(error):
                    raise
                time.sleep(delay)
        return operation()


def _is_transient(error: OSError) -> bool:
    """Whether the same operation may succeed later."""
    if isinstance(error, (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError)):
        return False
    return not any(text in str(error) for text in PERMANENT_ERRORS)


class _RemoteFile(io.RawIOBase):
    """A remote file, read by ranges of bytes. It is opened again where reading a range fails."""

    def __init__(self, open_file: Callable[[], Any], retry: Callable[[Callable[[], Any]], Any]) -> None:
        self._open_file, self._retry = open_file, retry
        self._file = retry(open_file)
        self._size = self._file.size()
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = max(origin + offset, 0)
        return self._position

    def readinto(self, buffer: Any) -> int:
        size = max(min(len(buffer), self._size - self._position), 0)
        try:
            data = self._retry(lambda: self._read_range(size)) if size else b""
        except OSError as error:
            # With a number, by which callers tell it from pyarrow's errors about damaged files, which have none.
            raise error if error.errno else OSError(errno.EIO, _first_line(error)) from error
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _read_range(self, size: int) -> bytes:
        try:
            data: bytes = self._file.read_at(size, self._position)
            if len(data) != size:
                raise OSError(f"{len(data)} of {size} bytes arrived")
        except OSError:
            self._file = self._open_file()
            raise
        return data


@lru_cache(maxsize=64)
def filesystem_of(url: str) -> tuple[fs.FileSystem, str]:
    """The file system of a URL or local path, and the path in it. Raises UsageError."""
    if not url:
        raise UsageError("the name of a folder is empty")
    if "://" not in url:
        return fs.LocalFileSystem(), os.path.abspath(url)
    try:
        if url.startswith(ARROW_SCHEMES):
            return fs.FileSystem.from_uri(_with_delayed_open(url))
        from fsspec.core import url_to_fs

        system, path = url_to_fs(url)
        return fs.PyFileSystem(fs.FSSpecHandler(system)), path
    except (ImportError, ValueError, OSError) as error:
        raise UsageError(f"{Store(url).display_url}: {_first_line(error)}") from error


def _with_delayed_open(url: str) -> str:
    if not url.startswith("s3:"):
        return url
    return f"{url}{'&' if '?' in url else '?'}{DELAYED_OPEN}"


def _split_options(url: str) -> tuple[str, str]:
    """A URL without its options, and `?` with the options; a local path has none."""
    if "://" not in url:
        return url, ""
    path, mark, options = url.partition("?")
    return path, mark + options


def escape(name: str) -> str:
    """A name of a disk or tar as text that UTF-8 can encode: a byte XX that isn't UTF-8 becomes \\udcXX."""
    if is_utf8(name):
        return name
    doubled = name.replace("\\", r"\\")  # so that two names never become one
    return doubled.encode("utf-8", "backslashreplace").decode()


def is_utf8(name: str) -> bool:
    """Whether UTF-8 can encode it. Python decodes other bytes of a file's name to surrogates (PEP 383)."""
    return name.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in name)


def _is_hidden(name: str) -> bool:
    return name.startswith(HIDDEN_PREFIX)


def _walk(root: Path, skipped: Counter[str]) -> Iterator[FileEntry]:
    """Every file below a local folder, and with an error each folder that can't be listed or has a file's suffix."""
    unlisted: list[OSError] = []
    for folder, subfolders, files in _visible_folders(root, skipped, unlisted.append):
        for name in files:
            yield _stat(Path(folder, name), _key(root, folder, name))
        for name in subfolders:
            if Path(name).suffix:
                yield FileEntry(_key(root, folder, name), 0, 0, IS_FOLDER)
    for error in unlisted:
        if error.filename == str(root):
            raise error
        reason = f"the folder can't be listed: {error.strerror or error}"
        yield FileEntry(f"{_key(root, error.filename)}/", 0, 0, reason)


def _visible_folders(
    root: Path, skipped: Counter[str], on_error: Callable[[OSError], None]
) -> Iterator[tuple[str, list[str], list[str]]]:
    """os.walk without what is hidden and NO_DATA.

    Links are followed, and each folder is entered once. A folder around the root isn't entered: a link to one would
    lead to the whole disk.
    """
    ancestors = Path(os.path.realpath(root)).parents
    visited = set()
    for folder, subfolders, files in os.walk(root, onerror=on_error, followlinks=True):
        status = os.stat(folder)
        identity = status.st_dev, status.st_ino
        is_ancestor = Path(os.path.realpath(folder)) in ancestors
        if is_ancestor and identity not in visited:
            skipped["link to a folder around it"] += 1
        if is_ancestor or identity in visited:
            subfolders.clear()  # os.walk enters what this list holds
        else:
            subfolders[:] = _visible([name for name in subfolders if name not in NO_DATA], skipped)
            yield folder, subfolders, _visible(files, skipped)
        visited.add(identity)


def _visible(names: list[str], skipped: Counter[str]) -> list[str]:
    """The names that aren't hidden; the others are counted."""
    skipped.update("hidden" for name in names if _is_hidden(name))
    return [name for name in names if not _is_hidden(name)]


def _key(root: Path, *parts: str) -> str:
    return Path(*parts).relative_to(root).as_posix()


def _stat(path: Path, key: str) -> FileEntry:
    try:
        status = path.stat()
    except OSError as error:  # a link to nowhere or to itself
        return FileEntry(key, 0, 0, error.strerror or str(error))
    modified = min(status.st_mtime_ns, MAX_MTIME)
    return FileEntry(key, status.st_size, modified, None if path.is_file() else "it is no file")


def _copy(source: BinaryIO, target: Any) -> int:
    """Copies all bytes; returns how many there were."""
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


def _first_line(error: Exception) -> str:
    """Of its message, for a message of ours."""
    text = getattr(error, "strerror", None) or str(error)
    return text.splitlines()[0][:300] if text else type(error).__name__
