"""Folders on the command line: whatever isn't converted is told, and what was done before can be skipped."""

import os
import re
import socket
import sys
from pathlib import Path

import pytest
from PIL import Image

from hpcm import cli
from hpcm.defaults import PICTURE_SUFFIXES, SUFFIX
from hpcm.util import folders

ROOT = Path(__file__).parents[1]
DENIED = os.strerror(13)
NOT_COMPRESSED = re.findall(
    r"\.\w+",
    ".pam .svg .jxl .jxr .dng .cr2 .cr3 .nef .arw .raf .orf .rw2 .psd .xcf .exr .hdr .ico .eps .txt",
)
NO_STILL_PICTURES = re.findall(
    r"\.\w+",
    ".blp .bufr .bw .cur .dcx .dds .eps .fit .fits .flc .fli .ftc .ftu .gbr .grib .h5 .hdf .icb .icns .ico .iim .im "
    ".mpeg .mpg .msp .pfm .ps .psd .pxr .rgb .rgba .vda .vst .emf .wmf .xbm .xpm",
)  # that Pillow opens: films, icons, textures, documents, data, seldom ones; in a folder they are counted
needs_links = pytest.mark.skipif(os.name == "nt", reason="needs symbolic links")


@pytest.fixture
def at(tmp_path, monkeypatch) -> Path:
    """A folder `in` with a picture in it and one in a folder in it."""
    monkeypatch.chdir(tmp_path)
    add("in/a.png")
    add("in/deep/b.png")
    return tmp_path


def add(name: str) -> None:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64), (9, 99, 200)).save(path, "PNG")


def run(*words: str) -> int:
    return cli.main([*words, *(["--model", "nano"] if words[0] == "compress" else [])])


def tree(folder: str) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()}


def deny(monkeypatch, name: str) -> None:
    """Makes a folder unreadable, for root too."""
    scandir = os.scandir

    def scan(path):
        if not isinstance(path, int) and Path(path).name == name:
            raise PermissionError(13, DENIED, str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)


# ---- what can't be read ---------------------------------------------------------------------------------------------


def test_an_unreadable_folder_is_an_error_and_the_rest_is_done(at, monkeypatch, capsys):
    add("in/locked/c.png")
    deny(monkeypatch, "locked")
    assert run("compress", "in", "-o", "out") == 1
    assert tree("out") == {"a.hpcm", "deep/b.hpcm"}
    locked = f"hpcm: error: {Path('in', 'locked')}: {DENIED}\n"
    assert capsys.readouterr().err == f"{locked}hpcm: 2 written, 1 failed\n"
    assert run("compress", "in", "--dry-run") == 1
    assert capsys.readouterr().err == locked
    assert run("compress", str(Path("in", "locked")), "-q") == 1  # named itself
    assert capsys.readouterr().err == locked
    assert run("decompress", "out", str(Path("in", "locked")), "-o", "back") == 1
    assert tree("back") == {"a.png", "deep/b.png"}


def test_what_permissions_forbid_is_an_error(at, capsys):
    """A folder that can't be listed, one whose files can't be reached, and a file."""
    Path("in/locked").mkdir()
    modes = {"in/locked": 0, "in/deep": 0o444, "in/a.png": 0}
    for name, mode in modes.items():
        Path(name).chmod(mode)
    readable = os.access("in/locked", os.R_OK)
    code = run("compress", "in", "-o", "out")
    for name in modes:
        Path(name).chmod(0o755)
    if readable:
        pytest.skip("this user, or this system, may read everything")
    assert code == 1
    said = set(capsys.readouterr().err.splitlines())
    errors = {f"hpcm: error: {name}: {DENIED}" for name in ("in/locked", "in/deep/b.png", "in/a.png")}
    assert said == errors | {"hpcm: 0 written, 3 failed"}


def test_a_folder_without_pictures_does_not_stop_the_others(at, capsys):
    Path("none").mkdir()
    assert run("compress", "none", "in", "-o", "out") == 1
    assert tree("out") == {"a.hpcm", "deep/b.hpcm"}
    assert capsys.readouterr().err.startswith("hpcm: error: none: no file in this folder ends in .apng, ")


@needs_links
def test_a_broken_link_is_an_error(at, capsys):
    Path("in/gone.png").symlink_to("../lost.png")
    Path("in/round").symlink_to("round")
    assert run("compress", "in", "-o", "out") == 1
    first, second, last = capsys.readouterr().err.splitlines()
    assert first == f"hpcm: error: in/gone.png: it is a link to {at.resolve() / 'lost.png'}, which doesn't exist"
    assert second == f"hpcm: error: in/round: {os.strerror(40)}"
    assert last == "hpcm: 2 written, 2 failed"


# ---- links ----------------------------------------------------------------------------------------------------------


@needs_links
def test_folders_behind_links_are_read_once(at, capsys):
    """In the order of names, `before` comes before `deep`, which it leads to: the real folder has the outputs."""
    add("elsewhere/c.png")
    Path("elsewhere/back").symlink_to("../in")  # a loop
    Path("in/link").symlink_to("../elsewhere")
    Path("in/deep/self").symlink_to(".")
    Path("in/before").symlink_to("deep")
    Path("in/second.png").symlink_to("a.png")  # a file of another name
    assert run("compress", "in", "-o", "out") == 0
    assert tree("out") == {"a.hpcm", "second.hpcm", "deep/b.hpcm", "link/c.hpcm"}
    assert capsys.readouterr().err == "hpcm: 4 written, 0 failed\n"


@needs_links
def test_a_link_out_of_the_folder_upwards_is_not_followed(at, capsys):
    add("private.png")
    Path("in/up").symlink_to("..")
    Path("in/disk").symlink_to("/")
    assert run("compress", "in", "-o", "out") == 0
    assert tree("out") == {"a.hpcm", "deep/b.hpcm"}
    assert "in: skipped 2 link to a folder around it: " in capsys.readouterr().err


@needs_links
def test_a_file_that_is_reached_twice_is_done_once(at, capsys):
    Path("link").symlink_to("in")
    assert run("compress", "in", "link", "in/a.png") == 0
    assert capsys.readouterr().err == "hpcm: 2 written, 0 failed\n"


# ---- what is skipped ------------------------------------------------------------------------------------------------


def test_every_file_is_compressed_or_counted(at, capsys):
    for suffix in NOT_COMPRESSED:
        Path(f"in/deep/x{suffix.upper()}").write_bytes(b"")
    for name in ("README", ".DS_Store", ".thumbs/t.png", "old.hpcm", "y.orf"):
        path = Path("in", name)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
    assert run("compress", "in", "-n") == 0
    (line,) = capsys.readouterr().err.splitlines()
    counted = re.fullmatch("hpcm: note: in: skipped (.*): in a folder, only files with the usual .*", line)[1]
    expected = {f"1 {suffix}" for suffix in NOT_COMPRESSED} - {"1 .orf"}
    assert set(counted.split(", ")) == expected | {"2 .orf", "2 hidden", "1 without a suffix"}
    assert counted.startswith("2 .orf, 2 hidden, 1 .arw")
    assert run("compress", "in", "-n", "-q") == 0
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(sys.platform != "linux", reason="makes a socket and a pipe with a picture's name")
def test_special_files_are_counted(at, capsys):
    os.mkfifo("in/pipe.png")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("in/s.png")
        assert run("compress", "in", "-n") == 0
    assert "in: skipped 2 special: " in capsys.readouterr().err


def test_a_line_stays_a_line():
    skipped = folders.Counter({f".{number:02}": 2 for number in range(40)})
    assert folders.describe(skipped).endswith("2 .29, 20 others")


def test_the_suffixes_are_those_that_pillow_reads():
    """A suffix that a new Pillow reads is to be put on one side or the other."""
    read = {suffix for suffix, name in Image.registered_extensions().items() if name in {*Image.OPEN, "MPO"}}
    read -= {SUFFIX}  # another test may have imported hpcm.pillow
    heic = {suffix for suffix in (*read, *PICTURE_SUFFIXES) if suffix.startswith((".hei", ".hif"))}  # by pillow_heif
    assert (read - heic) & set(NO_STILL_PICTURES) == read - heic - PICTURE_SUFFIXES
    assert read | heic >= PICTURE_SUFFIXES


def test_the_document_names_the_suffixes():
    text = (ROOT / "docs" / "pictures.md").read_text()
    (paragraph,) = (part for part in text.split("\n\n") if part.startswith("In a folder,"))
    looked_for = paragraph.split(": ")[1].split(".\n")[0].partition(", also in")[0]
    assert set(re.findall(r"\.\w+", looked_for)) == PICTURE_SUFFIXES


@pytest.mark.parametrize(
    ("suffix", "form", "mode"), [("pbm", "PPM", "1"), ("pnm", "PPM", "L"), ("jfif", "JPEG", "RGB")]
)
def test_other_names_of_usual_formats(at, suffix, form, mode):
    Image.new(mode, (64, 64)).save(f"in/c.{suffix}", form)
    assert run("compress", "in", "-o", "out") == 0
    assert tree("out") == {"a.hpcm", "deep/b.hpcm", "c.hpcm"}


# ---- --skip-existing ------------------------------------------------------------------------------------------------


def aged(name: str, seconds: int) -> None:
    status = Path(name).stat()
    os.utime(name, ns=(status.st_atime_ns, status.st_mtime_ns + seconds * 10**9))


def test_what_is_done_can_be_skipped(at, capsys):
    assert run("compress", "in", "-o", "out") == 0
    assert capsys.readouterr().err == "hpcm: 2 written, 0 failed\n"
    add("in/c.png")
    Path("in/bad.png").write_bytes(b"none")
    before = Path("out/a.hpcm").stat().st_mtime_ns
    assert run("compress", "in", "-o", "out", "--skip-existing") == 1
    out, err = capsys.readouterr()
    assert out.startswith(f"{Path('in', 'c.png')} -> ")
    assert out.count("\n") == 1
    assert err.splitlines()[1:] == ["hpcm: 1 written, 2 skipped, 1 failed"]
    assert Path("out/a.hpcm").stat().st_mtime_ns == before
    Path("in/bad.png").unlink()
    assert run("compress", "in", "-o", "out", "--skip-existing", "-n") == 0
    assert capsys.readouterr() == ("", "")
    assert run("compress", "in", "-o", "out", "--skip-existing", "-j", "2") == 0
    assert capsys.readouterr() == ("", "hpcm: 0 written, 3 skipped, 0 failed\n")
    assert run("compress", "in", "-o", "out", "-q") == 1  # without it each is an error
    assert capsys.readouterr().err.splitlines()[-1] == "hpcm: 0 written, 3 failed"
    assert run("decompress", "out", "-q") == 0
    assert run("decompress", "out", "--skip-existing", "-q") == 0
    assert capsys.readouterr().err == ""


def test_a_picture_that_was_changed_since_is_not_skipped(at, capsys):
    """Whoever deletes the originals afterwards would lose the change."""
    assert run("compress", "in", "-o", "out", "--keep-times") == 0  # the same times: not older
    aged("in/a.png", 10)
    capsys.readouterr()
    assert run("compress", "in", "-o", "out", "--skip-existing") == 1
    old = f"hpcm: error: {Path('in', 'a.png')}: {Path('out', 'a.hpcm')} is older than the input; -f overwrites it\n"
    assert capsys.readouterr().err == f"{old}hpcm: 0 written, 1 skipped, 1 failed\n"
    assert run("compress", "in", "-o", "out", "--skip-existing", "-f") == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{Path('in', 'a.png')} -> ")
    assert err == "hpcm: 1 written, 1 skipped, 0 failed\n"


def test_what_is_no_finished_output_is_not_skipped(at, capsys):
    add("in/a.bmp")  # has the same output
    assert run("compress", "in", "-o", "out") == 1
    assert run("compress", "in", "-o", "out", "--skip-existing") == 1
    assert "already has the output" in capsys.readouterr().err
    assert run("compress", "in/a.png", "-o", "in/a.png", "--skip-existing") == 1
    Path("d.hpcm").mkdir()
    add("d.png")
    assert run("compress", "d.png", "--skip-existing") == 1
