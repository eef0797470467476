"""Files appear whole or not at all, and what they hold is on the disk before they take their name."""

import os
import stat

import pytest

from hpcm.errors import UsageError
from hpcm.util import atomic


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


@pytest.mark.parametrize("when", ["mkdir", "rmdir"])
def test_an_interruption_between_two_steps_leaves_nothing(tmp_path, monkeypatch, when):
    """A signal may come when the temporary folder is there, or gone, and nobody has been told so yet."""
    step, path = getattr(os, when), tmp_path / "file"

    def interrupted(*arguments, **options):
        step(*arguments, **options)  # it fails where the folder of the file is there already
        monkeypatch.setattr(os, when, step)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, when, interrupted)
    with pytest.raises(KeyboardInterrupt):
        atomic.write(path, b"contents")
    assert [entry for entry in tmp_path.iterdir() if entry != path] == []


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


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o444])
def test_permissions_of_what_is_replaced_are_kept(tmp_path, mode):
    path = tmp_path / "file"
    path.write_bytes(b"before")
    path.chmod(mode)
    (tmp_path / "link").symlink_to(path)
    for name in (path, tmp_path / "link"):
        atomic.write(name, b"contents")
        assert path.stat().st_mode & 0o777 == mode
    assert (tmp_path / "link").is_symlink()
    assert path.read_bytes() == b"contents"


@pytest.mark.skipif(os.name == "nt", reason="owners of POSIX")
def test_the_owner_of_what_is_replaced_is_kept(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"before")
    try:
        os.chown(path, 12345, 54321)
    except OSError:
        pytest.skip("only root may give files away")
    path.chmod(0o600)
    atomic.write(path, b"contents")
    status = path.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (12345, 54321, 0o600)


@pytest.mark.skipif(os.name == "nt", reason="owners of POSIX")
def test_an_owner_that_can_not_be_kept_is_no_error(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "not yours")

    monkeypatch.setattr(os, "chown", refuse)
    (tmp_path / "file").write_bytes(b"before")
    atomic.write(tmp_path / "file", b"contents")
    assert (tmp_path / "file").read_bytes() == b"contents"


def test_an_interruption_of_the_clearing_away_leaves_nothing(tmp_path, monkeypatch):
    """A signal may come while the temporary folder is being removed."""
    rmdir, interruptions = os.rmdir, [KeyboardInterrupt()]

    def interrupted(*arguments, **options):
        if interruptions:
            raise interruptions.pop()
        rmdir(*arguments, **options)

    monkeypatch.setattr(os, "rmdir", interrupted)
    with pytest.raises(KeyboardInterrupt):
        atomic.write(tmp_path / "file", b"contents")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
