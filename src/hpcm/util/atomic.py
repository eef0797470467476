"""Files that appear complete or not at all, also when the power fails (on macOS if the drive keeps its cache).

What is written goes into a temporary file beside the target, is flushed to the disk, and takes its name in one instant;
then the folder is flushed too. Whoever opens the file sees the one before or the one after, never a part.
"""

from __future__ import annotations

import os
import platform
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from ..errors import UsageError

PERMISSIONS = 0o777
TEMPORARY = ".hpcm-"  # what the names of temporary folders begin with
RANDOM_BYTES = 8  # in such a name, so that there is none of that name yet


def write(path: Path, data: bytes, force: bool = True) -> None:
    """Writes a file and its folders; see `replacing`."""
    with replacing(path, force) as temporary, temporary.open("xb") as file:
        file.write(data)


@contextmanager
def replacing(path: Path, force: bool = True) -> Iterator[Path]:
    """A path of the same name in a temporary folder beside `path`, whose folders are made.

    What the block writes there becomes `path`, or vanishes if the block fails. A file that exists is overwritten only
    with `force`, also if it appears meanwhile; the new one keeps its permissions, and its owner and group if this user
    may set them. Where `path` is a symbolic link, that is the file that it leads to. Raises OSError or UsageError.
    """
    refuse_existing(path, force)
    path.parent.mkdir(parents=True, exist_ok=True)
    target = Path(os.path.realpath(path))  # a link stays a link
    with blamed_on(path), vanishing_folder(target.parent) as folder:
        temporary = folder / target.name
        yield temporary
        _finish(temporary, target)
        if force:
            os.replace(temporary, target)
        else:
            _link(temporary, target)
        _flush_folder(target.parent)


@contextmanager
def vanishing_folder(beside: Path) -> Iterator[Path]:
    """A temporary folder in `beside`, which is removed also if an interruption comes while it is made or removed.

    Its name is known before it is made: of `tempfile`'s folders nobody would know the name if the interruption came
    between the two. Raises OSError.
    """
    folder = beside / f"{_owned_prefix()}{token_hex(RANDOM_BYTES)}"
    try:
        folder.mkdir(mode=stat.S_IRWXU)
        yield folder
    finally:
        try:
            _remove(folder)
        except BaseException:
            _remove(folder)
            raise


def _remove(folder: Path) -> None:
    """A folder and what is in it, if it is there."""
    if folder.exists():
        shutil.rmtree(folder)


def remove_abandoned(folder: Path, age: float) -> None:
    """Removes a temporary folder that nobody writes in: see `_owned_prefix`.

    That of another machine counts as abandoned after `age` seconds without a change.
    """
    host, _, process = folder.name.removeprefix(TEMPORARY).rpartition(".")[0].rpartition(".")
    if host == platform.node() and process.isdecimal():
        used = _is_alive(int(process))
    else:
        used = bool(host) and time.time() - _last_change(folder) < age
    if not used:
        shutil.rmtree(folder, ignore_errors=True)


def _owned_prefix() -> str:
    """What the name of a temporary folder begins with: its machine and process, so that others know who needs it."""
    return f"{TEMPORARY}{platform.node()}.{os.getpid()}."


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def _last_change(folder: Path) -> float:
    """Seconds since 1970; that of a folder that goes meanwhile is now."""
    with suppress(OSError):
        return max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
    return time.time()


def refuse_existing(path: Path, force: bool) -> None:
    """Raises UsageError if a file would be overwritten without `force`."""
    if not force and path.is_file():
        raise UsageError(f"{path} exists; -f overwrites it")


def _link(temporary: Path, target: Path) -> None:
    """Gives a file its name unless there is a file of that name."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        refuse_existing(target, force=False)
        raise  # it exists and is no file
    except OSError:  # a file system without hard links
        refuse_existing(target, force=False)
        os.replace(temporary, target)


def _finish(temporary: Path, target: Path) -> None:
    """Gives a file what the one that it replaces has of owner and permissions, and flushes it to the disk."""
    with temporary.open("rb+") as file:
        with suppress(FileNotFoundError):
            before = target.stat()
            _take_owner(temporary, before)
            if (mode := before.st_mode & PERMISSIONS) != temporary.stat().st_mode & PERMISSIONS:
                temporary.chmod(mode)
        os.fsync(file.fileno())


def _take_owner(path: Path, before: os.stat_result) -> None:
    """Owner and group, as far as this user and the file system allow."""
    if os.name == "nt":
        return
    for owner, group in ((before.st_uid, -1), (-1, before.st_gid)):
        with suppress(OSError):
            os.chown(path, owner, group)


def _flush_folder(folder: Path) -> None:
    """The names in a folder, to the disk; Windows has no such call and does it by itself."""
    if os.name == "nt":
        return
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError:  # some network file systems can't
        pass
    finally:
        os.close(number)


@contextmanager
def blamed_on(path: Path) -> Iterator[None]:
    """An OSError that names no file, or a temporary one, names `path`."""
    try:
        yield
    except OSError as error:
        if error.filename is None or TEMPORARY in str(error.filename):
            error.filename, error.filename2 = str(path), None
        raise
