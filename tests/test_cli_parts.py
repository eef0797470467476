"""Parts of pictures on the command line, and what file managers ask for."""

import configparser
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hpcm
from hpcm import cli
from hpcm.defaults import MIME_TYPE
from hpcm.format.container import unpack
from hpcm.format.fields import MAGIC

PHOTO = Path(__file__).parent / "data" / "kodim23.png"


@pytest.fixture(scope="module")
def whole() -> bytes:
    return hpcm.compress(PHOTO, model="nano", quality=30, tile=256, progressive=True)


@pytest.fixture
def at(tmp_path, monkeypatch, whole) -> Path:
    """A folder with a file and its beginning."""
    monkeypatch.chdir(tmp_path)
    Path("photo.hpcm").write_bytes(whole)
    Path("cut.hpcm").write_bytes(whole[: len(whole) // 4])
    return tmp_path


def opened(path) -> Image.Image:
    return Image.open(io.BytesIO(Path(path).read_bytes()))


def pixels(path) -> np.ndarray:
    return np.asarray(opened(path)).astype(int)


def test_crop(at, whole):
    assert cli.main(["decompress", "photo.hpcm", "--crop", "100x50+200+10", "-o", "part.png"]) == 0
    assert np.array_equal(pixels("part.png"), np.asarray(hpcm.decompress(whole))[10:60, 200:300])


def test_max_size(at, whole, capsys):
    size = opened(PHOTO).size
    assert cli.main(["decompress", "photo.hpcm", "--max-size", "100", "-o", "small.png"]) == 0
    assert max(opened("small.png").size) == 100
    assert cli.main(["decompress", "photo.hpcm", "--max-size", "9999", "-o", "same.png"]) == 0
    assert opened("same.png").size == size
    small = hpcm.decompress(whole).resize(opened("small.png").size, Image.Resampling.LANCZOS)
    assert np.sqrt(np.mean((pixels("small.png") - np.asarray(small, int)) ** 2)) < 3


def test_max_size_of_16_bits(at):
    wide = Image.fromarray(np.asarray(opened(PHOTO).convert("L")).astype(np.uint16) * 257)
    Path("wide.hpcm").write_bytes(hpcm.compress(wide, model="nano"))
    assert cli.main(["decompress", "wide.hpcm", "--max-size", "90"]) == 0
    small = opened("wide.png")
    assert (small.mode, max(small.size)) == ("I;16", 90)
    assert np.asarray(small).max() > 255
    assert cli.main(["thumbnail", "wide.hpcm", "thumb.png", "64"]) == 0
    thumb = opened("thumb.png")
    assert (thumb.mode, max(thumb.size)) == ("L", 64)
    assert abs(np.asarray(thumb).mean() - np.asarray(small).mean() / 257) < 2


@pytest.mark.parametrize("scale", [1, 2])
def test_preview(at, whole, scale):
    assert cli.main(["decompress", "photo.hpcm", "--preview", str(scale), "-o", "coarse.png"]) == 0
    assert np.array_equal(pixels("coarse.png"), np.asarray(hpcm.decompress(whole, scale=scale), int))


def test_a_preview_of_what_is_not_progressive_is_told(at, capsys):
    Path("plain.hpcm").write_bytes(hpcm.compress(opened(PHOTO).crop((0, 0, 64, 64)), model="nano"))
    assert cli.main(["decompress", "plain.hpcm", "photo.hpcm", "--preview", "1"]) == 0
    note = "hpcm: note: plain.hpcm: the file isn't progressive: decoded whole\n"
    assert capsys.readouterr().err == f"{note}hpcm: 2 written, 0 failed\n"


def test_partial(at, whole, capsys):
    assert cli.main(["decompress", "cut.hpcm"]) == 1
    assert re.search("cut short.* --partial for what is there", capsys.readouterr().err)
    assert not Path("cut.png").exists()
    assert cli.main(["decompress", "--partial", "cut.hpcm", "photo.hpcm"]) == 0
    cut, complete = capsys.readouterr().out.splitlines()
    progress = unpack(whole[: len(whole) // 4], partial=True).progress
    assert cut.endswith(f"pixels, {progress:.0%} of the file)")
    assert complete.endswith("pixels)")
    assert np.array_equal(pixels("cut.png"), np.asarray(hpcm.preview(whole[: len(whole) // 4]), int))
    assert cli.main(["decompress", "--partial", "cut.hpcm", "--crop", "20x30+5+5", "-o", "a.png"]) == 0
    assert opened("a.png").size == (20, 30)


def test_info_of_a_cut_file(at, whole, capsys):
    Path("head.hpcm").write_bytes(whole[:90])
    for name, size, progress in (
        ("cut", len(whole) // 4, unpack(whole[: len(whole) // 4], partial=True).progress),
        ("head", 90, 0),
    ):
        assert cli.main(["info", f"{name}.hpcm"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[1] == f"  size     {size:,} bytes, cut short: {int(100 * progress)}% can be decoded"
        assert lines[2] == "  picture  {} x {} pixels, rgb, 8 bits".format(*opened(PHOTO).size)
    Path("head.hpcm").write_bytes(whole[:9])
    assert cli.main(["info", "head.hpcm"]) == 1
    assert "head.hpcm: cut short or damaged" in capsys.readouterr().err


def test_tiles_and_passes(at):
    for options, tile, passes in ((["--no-progressive"], 1024, 1), (["--progressive", "--tile", "512"], 512, 3)):
        assert cli.main(["compress", str(PHOTO), "--model", "nano", "-f", "-o", "new.hpcm", *options]) == 0
        container = unpack(Path("new.hpcm").read_bytes())
        assert (container.tile_side, container.passes) == (tile, passes)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("decompress photo.hpcm --crop 10x10", "is no WxH"),
        ("decompress photo.hpcm --crop 10x10+-1+0", "is no WxH"),
        ("decompress photo.hpcm --crop 1x1+0+0 --max-size 5", "not allowed with"),
        ("decompress photo.hpcm --preview 4", "invalid choice"),
        ("decompress photo.hpcm --preview 1 --partial", "not allowed with"),
        ("compress photo.png --tile 300", "'300' is none of 256, 512"),
        ("thumbnail photo.hpcm out.png 0", "no whole number"),
    ],
)
def test_wrong_usage(at, capsys, line, complaint):
    with pytest.raises(SystemExit) as stopped:
        cli.main(line.split())
    assert stopped.value.code == 2
    assert complaint in capsys.readouterr().err


def test_a_crop_outside_is_one_line(at, capsys):
    assert cli.main(["decompress", "photo.hpcm", "--crop", "10x10+5000+0"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("hpcm: error: photo.hpcm: box is (5000, 0, 5010, 10): it must be inside the picture")


# ---- file managers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["photo", "cut"])
def test_thumbnail(at, name):
    Path("out").write_bytes(b"as a file manager makes it before")
    assert cli.main(["thumbnail", f"{name}.hpcm", "out", "128"]) == 0
    image = opened("out")
    assert (image.format, image.mode, max(image.size)) == ("PNG", "RGB", 128)


def test_thumbnail_of_what_is_none(at, capsys):
    Path("text.hpcm").write_text("text")
    assert cli.main(["thumbnail", "text.hpcm", "out.png", "128"]) == 1
    assert capsys.readouterr().err.startswith("hpcm: error: text.hpcm: no .hpcm file")
    assert not Path("out.png").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="freedesktop's")
@pytest.mark.parametrize("folder", ["data", "a folder with $1 in it"])
def test_desktop(at, monkeypatch, folder):
    """Installed, the thumbnailer is run as the specification says: the Exec line with %i, %o, %s filled in."""
    data = at / folder
    monkeypatch.setenv("XDG_DATA_HOME", str(data))
    monkeypatch.setenv("XDG_DATA_DIRS", str(at))  # where no thumbnailer is
    monkeypatch.setenv("PYTHONPATH", str(Path(hpcm.__file__).parents[1]))
    assert cli.main(["desktop", "--install"]) == 0
    entry = configparser.RawConfigParser()
    entry.optionxform = str  # type: ignore[assignment]
    entry.read(data / "thumbnailers" / "hpcm.thumbnailer")
    keys = entry["Thumbnailer Entry"]
    assert keys["MimeType"] == "image/x-hpcm;"
    assert os.access(keys["TryExec"], os.X_OK)
    filled = {"%i": str(at / "photo.hpcm"), "%o": str(at / "out.png"), "%s": "96"}
    command = [filled.get(word, word) for word in shlex.split(keys["Exec"])]
    subprocess.run(command, check=True, timeout=120, cwd="/")
    assert max(opened("out.png").size) == 96
    assert cli.main(["desktop", "--uninstall"]) == 0
    assert not (data / "thumbnailers" / "hpcm.thumbnailer").exists()
    assert not (data / "mime" / "packages" / "hpcm.xml").exists()
    assert cli.main(["desktop", "--uninstall"]) == 0  # nothing is left to do


def test_mime_type(at, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(at))
    assert cli.main(["desktop", "--install"]) == 0
    (kind,) = ElementTree.parse(at / "mime" / "packages" / "hpcm.xml").getroot()
    space = "{http://www.freedesktop.org/standards/shared-mime-info}"
    assert kind.get("type") == MIME_TYPE
    assert kind.find(f"{space}magic/{space}match").get("value") == rf"\x{MAGIC[0]:02x}{MAGIC[1:].decode()}"
    assert kind.find(f"{space}glob").get("pattern") == "*.hpcm"
    if shutil.which("update-mime-database"):
        assert "image/x-hpcm:*.hpcm" in (at / "mime" / "globs2").read_text()
        assert b"\x89HPC" in (at / "mime" / "magic").read_bytes()
    cli.main(["desktop", "--uninstall"])


def test_a_thumbnailer_of_all_users_is_enough(at, monkeypatch, capsys):
    """The user's own would take its place, and run in no sandbox."""
    entry = at / "system" / "thumbnailers" / "hpcm-gdk-pixbuf.thumbnailer"
    entry.parent.mkdir(parents=True)
    shutil.copy(Path(__file__).parents[1] / "plugins" / "gdk-pixbuf" / entry.name, entry)
    monkeypatch.setenv("XDG_DATA_HOME", str(at))
    monkeypatch.setenv("XDG_DATA_DIRS", str(at / "empty"))
    assert cli.main(["desktop", "--install"]) == 0
    assert (at / "thumbnailers" / "hpcm.thumbnailer").exists()
    monkeypatch.setenv("XDG_DATA_DIRS", str(at / "system"))
    assert cli.main(["desktop", "--install"]) == 0
    assert f"{entry} makes thumbnails already\n" in capsys.readouterr().out
    assert (at / "mime" / "packages" / "hpcm.xml").exists()
    assert not (at / "thumbnailers" / "hpcm.thumbnailer").exists()


def test_a_python_with_a_space_in_its_path(at, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(at))
    monkeypatch.setenv("XDG_DATA_DIRS", str(at / "system"))
    monkeypatch.setattr(sys, "executable", '/opt/my "own" python')
    assert cli.main(["desktop", "--install"]) == 0
    text = (at / "thumbnailers" / "hpcm.thumbnailer").read_text()
    assert 'Exec="/opt/my \\"own\\" python" -m hpcm thumbnail %i %o %s\n' in text
