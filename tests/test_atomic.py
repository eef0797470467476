"""Files appear whole or not at all, and what they hold is on the disk before they take their name."""

import os
import stat

import pytest

from hpcm import atomic
from hpcm.errors import UsageError


def test_flushed_before_it_is_named(tmp_path, monkeypatch):
    """The order that a power failure must not change: contents, name, folder."""
    done = []
    fsync, replace, link = os.fsync, os.replace, os.link

    def note_fsync(number):
        done.append(("fsync", stat.S_ISDIR(os.fstat(number).st_mode)))
        fsync(number)

    monkeypatch.setattr(os, "fsync", note_fsync)
    monkeypatch.setattr(os, "replace", lambda *names: (done.append(("name",)), replace(*names)))
    monkeypatch.setattr(os, "link", lambda *names: (done.append(("name",)), link(*names)))
    for force in (True, False):
        done.clear()
        atomic.write(tmp_path / f"file {force}", b"contents", force)
        assert done == [("fsync", False), ("name",), ("fsync", True)]
        assert (tmp_path / f"file {force}").read_bytes() == b"contents"


def test_a_failure_leaves_the_file_before(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"before")
    replacing = atomic.replacing(path)
    replacing.__enter__().write_bytes(b"half")
    assert not replacing.__exit__(RuntimeError, RuntimeError(), None)
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_overwritten_unasked(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"before")
    with pytest.raises(UsageError, match="file exists; -f overwrites it"):
        atomic.write(path, b"after", force=False)
    assert path.read_bytes() == b"before"


def test_folders_are_made_and_permissions_are_the_users(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    mask = os.umask(0o027)
    try:
        atomic.write(path, b"contents")
    finally:
        os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o640


def test_errors_name_the_file(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder") as caught:
        atomic.write(tmp_path / "folder", b"contents")
    assert caught.value.filename == str(tmp_path / "folder")
