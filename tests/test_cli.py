"""The command line, end to end: outputs and their names, exact lines on stderr, exit codes, and no leftovers."""

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import hpcm
from hpcm import cli, official
from hpcm.cli import decompress, help, outputs
from hpcm.cli.commands import parser
from hpcm.cli.jobs import plan
from hpcm.codec import api, codec
from hpcm.codec.quality import quality_of
from hpcm.defaults import BASE_QUALITY
from hpcm.errors import PictureError, WeightsError
from hpcm.format import fields
from hpcm.format.container import pack, unpack
from hpcm.image import read as reading
from hpcm.image import write as saving
from hpcm.model import find as weights
from hpcm.nn.exact.make_exact import make_exact
from hpcm.nn.hpcm import HPCM
from hpcm.nn.weights import save
from hpcm.util import atomic, hardware

BUNDLED = weights.ASSETS
KODIM = Path(__file__).parent / "data" / "kodim20.png"
SIZE = (200, 136)  # of the test picture: quick, and no multiple of 64
ICC, EXIF = b"a profile", Image.Exif()
EXIF[0x010E] = "a description"
Run = Callable[..., int]


@pytest.fixture(scope="module")
def material(tmp_path_factory, tiny) -> Path:
    """A folder with a model of random weights, photo.png, and photo.hpcm made from it."""
    folder = tmp_path_factory.mktemp("material")
    torch.manual_seed(0)
    model = make_exact(HPCM(tiny).eval(), [(torch.rand(1, 3, 128, 128), torch.tensor([30.0]))])
    save(model, folder / "tiny.safetensors", {"steps": 7, "crops": 56})
    picture = Image.open(KODIM).crop((100, 200, 100 + SIZE[0], 200 + SIZE[1]))
    picture.info.clear()
    picture.save(folder / "photo.png")
    (folder / "photo.hpcm").write_bytes(api.load(folder / "tiny.safetensors").compress(picture))
    return folder


@pytest.fixture
def at(tmp_path, material, monkeypatch) -> Path:
    """An empty current folder; the model is installed."""
    monkeypatch.setenv("HPCM_WEIGHTS", str(material))
    monkeypatch.setattr(weights, "ASSETS", material / "none")  # the bundled models
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # the command line lifts it
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(at, material) -> Run:
    """Runs a command line in a folder that holds photo.png and photo.hpcm; gives the exit code."""
    for name in ("photo.png", "photo.hpcm"):
        shutil.copy(material / name, at)

    def run(*line: object) -> int:
        command = [str(word) for word in line]
        if command[0] == "compress" and "--model" not in command:
            command += ["--model", "tiny"]
        return cli.main(command)

    return run


def tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def pixels(source) -> np.ndarray:
    return np.asarray(Image.open(source))


def python(*line: str, **options) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, *line], capture_output=True, timeout=120, env=environment(), **options)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(hpcm.__file__).parents[1])}


# ---- there and back -------------------------------------------------------------------------------------------------


def test_there_and_back(run, at, material, capsys):
    (at / "photo.hpcm").unlink()
    assert run("compress", "photo.png") == 0
    before, after = (at / "photo.png").stat().st_size, (at / "photo.hpcm").stat().st_size
    bpp = 8 * after / (SIZE[0] * SIZE[1])
    assert capsys.readouterr() == (f"photo.png -> photo.hpcm  {before:,} -> {after:,} bytes ({bpp:.2f} bpp)\n", "")
    (at / "photo.png").unlink()
    assert run("decompress", "photo.hpcm") == 0
    size = (at / "photo.png").stat().st_size
    assert capsys.readouterr() == (f"photo.hpcm -> photo.png  {after:,} -> {size:,} bytes (200 x 136 pixels)\n", "")
    expected = api.load(material / "tiny.safetensors").decompress((at / "photo.hpcm").read_bytes())
    assert np.array_equal(pixels(at / "photo.png"), np.asarray(expected))
    assert tree(at) == {"photo.png", "photo.hpcm"}


@pytest.mark.parametrize(
    ("option", "value", "argument"),
    [
        ("--quality", 1, "quality"),
        ("--bpp", 1.5, "bpp"),
        ("--psnr", 7.5, "psnr"),
        ("--tile", 256, "tile"),
        ("--effort", 3, "effort"),
        ("--max-error", 2, "max_error"),
    ],
)
def test_targets_reach_the_codec(run, at, monkeypatch, option, value, argument):
    asked = []

    def compress(self, image, *, on_note, **target):
        asked.append(target)
        return b"data"

    monkeypatch.setattr(codec.Codec, "compress", compress)
    assert run("compress", "photo.png", option, value, "-o", "out.hpcm") == 0
    expected = {"quality": None, "bpp": None, "psnr": None, "lossless": False, "max_error": None}
    expected |= {"tile": 1024, "progressive": None}
    expected |= {"effort": 0, "on_progress": None, "check": None}
    assert asked == [expected | {argument: value}]


@pytest.mark.parametrize(("option", "value", "argument"), [("--strip", "gps", "strip"), ("--icc", "srgb", "icc")])
def test_options_of_appearance_reach_the_reader(run, at, monkeypatch, option, value, argument):
    asked = []

    def read_picture(data, **how):
        asked.append(how)
        raise PictureError("no more is needed")

    monkeypatch.setattr(reading, "read_picture", read_picture)
    assert run("compress", "photo.png", option, value, "-o", "out.hpcm") == 1
    assert asked == [{"strip": None, "icc": None} | {argument: value}]


def test_model_by_path_and_for_a_file_that_names_another(run, at, material, capsys, tiny):
    model = material / "tiny.safetensors"
    assert run("compress", "photo.png", "-o", "a.hpcm", "--model", model) == 0
    assert run("decompress", "a.hpcm", "--model", model) == 0
    save(HPCM(tiny), at / "other.safetensors", {})
    assert run("decompress", "a.hpcm", "-o", "b.png", "--model", at / "other.safetensors") == 1
    assert "hpcm: error: a.hpcm: the file was made with model 'tiny' of hash" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("inputs", "output", "made"),
    [
        (["a/x.png"], None, {"a/x.hpcm"}),
        (["a/x.png"], "y.hpcm", {"y.hpcm"}),
        (["a/x.png"], "b", {"b/x.hpcm"}),  # an existing folder
        (["a/x.png"], "new/", {"new/x.hpcm"}),
        (["a/x.png"], "new/deep/y", {"new/deep/y"}),
        (["a/x.png", "z.JPG"], None, {"a/x.hpcm", "z.hpcm"}),
        (["a/x.png", "z.JPG", "a/x.png"], "new", {"new/x.hpcm", "new/z.hpcm"}),
        (["a"], None, {"a/x.hpcm", "a/c/y.hpcm"}),
        (["a"], "new", {"new/x.hpcm", "new/c/y.hpcm"}),
        (["a", "z.JPG"], "new", {"new/x.hpcm", "new/c/y.hpcm", "new/z.hpcm"}),
    ],
)
def test_where_outputs_go(run, at, monkeypatch, inputs, output, made):
    monkeypatch.setattr(codec.Codec, "compress", lambda self, image, **target: b"data")
    (at / "a" / "c").mkdir(parents=True)
    (at / "b").mkdir()
    for name, form in [("a/x.png", "PNG"), ("a/c/y.webp", "WEBP"), ("z.JPG", "JPEG")]:
        Image.new("RGB", (8, 8)).save(at / name, form)
    (at / "a" / "notes.txt").write_text("no picture")
    (at / "a" / ".thumbs").mkdir()
    for name in ("._x.png", ".thumbs/t.png"):
        (at / "a" / name).write_bytes(b"hidden")
    before = tree(at)
    assert run("compress", *inputs, *(["-o", output] if output else [])) == 0
    assert tree(at) - before == made


def test_decompress_a_folder(run, at):
    shutil.copytree(at, at / "in" / "deep")
    assert run("decompress", "in", "-o", "out", "--format", "webp") == 0
    assert tree(at / "out") == {"deep/photo.webp"}


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".ppm", ".jpg", ".bmp"])
def test_formats(run, at, material, suffix):
    picture = Image.open(material / "photo.png")
    picture.save(at / "tagged.png", icc_profile=ICC, exif=EXIF)
    assert run("compress", "tagged.png") == 0
    assert run("decompress", "tagged.hpcm", "-o", f"out{suffix}") == 0
    out = Image.open(at / f"out{suffix}")
    out.load()
    assert out.format == {".tif": "TIFF", ".jpg": "JPEG"}.get(suffix, suffix[1:].upper())
    if suffix != ".jpg":
        assert np.array_equal(np.asarray(out), np.asarray(hpcm.decompress((at / "tagged.hpcm").read_bytes())))
    if suffix not in (".ppm", ".bmp"):
        assert out.info["icc_profile"] == ICC
        assert out.getexif()[0x010E] == EXIF[0x010E]


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif"])
def test_a_quality_of_what_is_decompressed(run, at, suffix):
    """A lower one makes a smaller and worse picture; without one it is as good as the format gets."""
    sizes, errors = [], []
    for options in (["--quality", 10], ["--quality", 90], []):
        assert run("decompress", "photo.hpcm", "-o", f"a{suffix}", "-f", *options) == 0
        sizes.append((at / f"a{suffix}").stat().st_size)
        error = pixels(at / f"a{suffix}").astype(float) - np.asarray(hpcm.decompress(at / "photo.hpcm"))
        errors.append((error**2).mean())
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2] / 2
    assert errors == sorted(errors, reverse=True)
    assert run("decompress", "photo.hpcm", "--format", suffix, "-o", "b/", "--quality", "90") == 0
    assert (at / "b" / f"photo{suffix}").stat().st_size == sizes[1]


def test_help_names_the_formats(capsys):
    """Those that -o and --format take, each of which there is; the usual ones are named."""
    named = re.findall(r"\w+", decompress.FORMATS.replace(" or ", ", "))
    assert {"png", "webp", "tif", "jpg", "avif", "jp2"} <= {*named}
    assert all(saving.picture_format(f".{name}") for name in named)
    lossy = {saving.picture_format(f".{name}") for name in ("jpg", "webp", "avif")}
    assert lossy == {*saving.LOSSY}
    command = subcommands()["decompress"].format_help()
    assert " ".join(command.split()).count(decompress.FORMATS) == 2


def test_streams(at, material):
    made = python("-m", "hpcm", "compress", "-", "--model", "tiny", input=(material / "photo.png").read_bytes())
    assert (made.returncode, made.stderr) == (0, b"")
    assert unpack(made.stdout) == unpack((material / "photo.hpcm").read_bytes())
    back = python("-m", "hpcm", "decompress", "-", "-o", "-", "--format", ".PPM", input=made.stdout)
    assert (back.returncode, back.stderr) == (0, b"")
    assert np.array_equal(pixels(io.BytesIO(back.stdout)), np.asarray(hpcm.decompress(made.stdout)))


def test_a_file_to_stdout_and_stdin_to_a_file(run, at, material, capsysbinary, monkeypatch):
    assert run("compress", "photo.png", "-o", "-") == 0
    made = capsysbinary.readouterr().out
    assert made == (material / "photo.hpcm").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(made)))
    assert run("decompress", "-", "-o", "new.png") == 0
    assert capsysbinary.readouterr().out.startswith(b"standard input -> new.png")


def test_a_note_is_a_line(run, at, capsys):
    Image.open("photo.png").resize((40, 30)).convert("P").save("palette.png")
    assert run("compress", "palette.png") == 0
    assert capsys.readouterr().err == "hpcm: note: palette.png: the picture's mode P was converted to RGB\n"


def test_several_inputs_have_a_progress_bar_on_a_terminal(run, at, monkeypatch, capsys):
    shutil.copy("photo.png", "other.png")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(codec.Codec, "compress", lambda self, image, **target: b"data")
    assert run("compress", "photo.png", "other.png", "-f") == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_search_is_told_of_on_a_terminal(run, at, monkeypatch, capsys):
    """Also of the next file, which begins at zero again."""
    shutil.copy("photo.png", "other.png")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)

    def compress(self, image, *, on_progress, **target):
        for share in (0.5, 1.0):
            on_progress(share)
        return b"data"

    monkeypatch.setattr(codec.Codec, "compress", compress)
    assert run("compress", "photo.png", "--effort", 2, "-f") == 0
    assert "Searching..." in capsys.readouterr().err
    assert run("compress", "photo.png", "other.png", "--effort", 2, "-f") == 0


def test_a_search_that_is_interrupted_leaves_no_file(run, at, monkeypatch):
    def stop(share):
        raise KeyboardInterrupt

    monkeypatch.setattr("hpcm.cli.batch.progress", lambda jobs, **_: contextlib.nullcontext((jobs, stop)))
    before = tree(at)
    assert run("compress", "photo.png", "--effort", 1, "--threads", 1, "-o", "new.hpcm") == 130
    assert tree(at) == before


@pytest.mark.parametrize("name", ["two\nlines.png", "\x1b[31mred.png", "\x85next.png"], ids=ascii)
def test_names_with_control_characters_are_escaped(run, at, capsys, name):
    """In every line that is printed: nothing of a name is a line of its own, or a terminal's command."""
    shutil.copy("photo.png", name)
    assert run("compress", name, "-f") == 0
    (line,) = capsys.readouterr().out.split("\n")[:-1]
    assert ascii(name)[1:-1] in ascii(line).replace("\\\\", "\\")
    assert run("compress", f"missing-{name}") == 1
    (line,) = capsys.readouterr().err.split("\n")[:-1]
    assert all(character.isprintable() for character in line)


@pytest.mark.parametrize("name", ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"])
def test_other_names_of_standard_input(run, at, monkeypatch, name):
    """The result goes to standard output, as with `-`, or to where -o says: never beside the device."""
    (job,), _ = plan([name], None, ".hpcm", {".png"})
    assert (job.source, job.target) == (None, None)
    (job,), _ = plan([name], "out.hpcm", ".hpcm", {".png"})
    assert (job.source, job.target) == (None, Path("out.hpcm"))


# ---- failures -------------------------------------------------------------------------------------------------------

NO_FILE, IS_FOLDER = os.strerror(2), os.strerror(21)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("compress none.png", f"none.png: {NO_FILE}"),
        ("compress note.txt", "note.txt: it is no picture that Pillow can read"),
        ("compress photo.hpcm -o a", "photo.hpcm: it is a .hpcm file already; `hpcm decompress` makes a picture of it"),
        ("compress cut.png", r"cut.png: the picture is damaged: .*"),
        ("compress photo.png", "photo.png: photo.hpcm exists; -f overwrites it"),
        ("decompress photo.png -f -o photo.png", "photo.png: no .hpcm file, but a PNG; `hpcm compress` makes .*"),
        ("compress photo.png -o note.txt/a.hpcm", f"note.txt: {os.strerror(17)}"),
        ("compress photo.png -o /dev/full", f"/dev/full: {os.strerror(28)}"),
        ("compress empty", "empty: no file in this folder ends in .apng, .*"),
        ("compress photo.png -o out.jpg", "out.jpg: the output is a .hpcm file and must be named so, such as out.hpcm"),
        ("compress photo.png -o new/a.b.TXT", "new/a.b.TXT: the output is a .hpcm file .* such as new/a.b.hpcm"),
        ("decompress photo.hpcm -o a.HPCM", "the output is a picture; name it so, such as .png, .*"),
        ("decompress photo.hpcm --format hpcm", "the output is a picture; name it so, such as .png, .*"),
        ("exact tiny photo.png -o mine.jpg", "mine.jpg: the output is a .safetensors file and .* mine.safetensors"),
        ("import a.pth --arch base -o b.pth", "b.pth: the output is a .safetensors file and .* such as b.safetensors"),
        ("compress photo.png cut.png -o note.txt", "note.txt is a file: several inputs need a folder"),
        ("compress photo.png cut.png -o a.hpcm", "a.hpcm looks like a file: several inputs need a folder; write .*"),
        ("decompress photo.hpcm torn.hpcm -o a.PNG", "a.PNG looks like a file: several inputs need a folder; write .*"),
        ("compress photo.png - -o out", r"standard input or output \(-\) is for one file: .*"),
        ("compress photo.png note.txt -o -", r"standard input or output \(-\) is for one file: .*"),
        ("compress photo.png -o a --model none", "no model 'none': the installed models are tiny"),
        ("compress photo.png -o a --model note.txt", "no model 'note.txt': .*; for a file or folder write ./note.txt"),
        ("compress photo.png -o a --model ./note.txt", "note.txt .*"),
        ("compress photo.png -o a --device cuda", "device cuda can't be used: .*"),
        ("compress @", "the name of an input or output is empty"),
        ("compress photo.png -o @", "the name of an input or output is empty"),
        ("decompress none.hpcm", f"none.hpcm: {NO_FILE}"),
        (
            "decompress photo.hpcm -o a.png --max-pixels 27199",
            "photo.hpcm: .*200 x 136 pixels, over 27,199: .*",
        ),
        (
            "decompress photo.png -o a.png",
            "photo.png: no .hpcm file, but a PNG; `hpcm compress` makes a .hpcm file of a picture",
        ),
        ("decompress photo.png", "photo.png: no .hpcm file, but a PNG; .*"),
        ("info photo.png", "photo.png: no .hpcm file, but a PNG; .*"),
        (
            "compress photo.hpcm",
            "photo.hpcm: it is a .hpcm file already; `hpcm decompress` makes a picture of it",
        ),
        ("compress photo.hpcm -o b.hpcm", "photo.hpcm: it is a .hpcm file already; .*"),
        ("decompress photo.hpcm -o a.png --quality 50", "a quality is for jpg, webp and avif: PNG has none"),
        ("decompress torn.hpcm", r"torn.hpcm: cut short or damaged: .*; fetch it again, or take --partial .*"),
        ("decompress bad.hpcm", r"bad.hpcm: tile 0 of 1 or the header was changed: .*; fetch the file again"),
        ("decompress photo.hpcm", "photo.hpcm: photo.png exists; -f overwrites it"),
        (
            "decompress photo.hpcm -o a.xyz",
            "there is no picture format for '.xyz'; try .png, .webp, .tif, .ppm or .jpg",
        ),
        ("decompress foreign.hpcm", r"foreign.hpcm: the file was made with model 'tiny' of hash .* --model PATH"),
        ("info none.hpcm", f"none.hpcm: {NO_FILE}"),
        ("info empty", r"empty: no model at empty/model\.safetensors: there is no such file"),
        ("info note.txt", "note.txt: no .hpcm file: it begins with b'no p', and .*"),
        ("import none.pth --arch base -o a.safetensors", "none.pth.*"),
    ],
)
def test_a_failure_is_one_line(run, at, capsys, line, message):
    if "cuda" in line and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    if "/dev/full" in line and not Path("/dev/full").exists():
        pytest.skip("there is no full device")
    (at / "empty").mkdir()
    (at / "note.txt").write_text("no picture")
    (at / "cut.png").write_bytes((at / "photo.png").read_bytes()[:5000])
    data = (at / "photo.hpcm").read_bytes()
    (at / "torn.hpcm").write_bytes(data[:-50])
    (at / "bad.hpcm").write_bytes(data[:-50] + bytes([data[-50] ^ 1]) + data[-49:])
    (at / "foreign.hpcm").write_bytes(pack(replace(unpack(data), model_hash=b"12345678")))
    before = {path: path.read_bytes() for path in at.rglob("*") if path.is_file()}
    assert run(*("" if word == "@" else word for word in line.split())) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(f"hpcm: error: {message}\n", err), err
    assert {path: path.read_bytes() for path in at.rglob("*") if path.is_file()} == before
    assert not list(at.rglob(f"{atomic.TEMPORARY}*"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--models", "there is no option --models"),
        ("--versoin", "there is no option --versoin: did you mean --version?"),
        ("compres a.png", "there is no command 'compres': did you mean compress?"),
        ("photo.jpg", "there is no command 'photo.jpg'; `hpcm help` lists them"),
        ("help decompres", "argument COMMAND: invalid choice: 'decompres': did you mean decompress?"),
        ("compress a.png --qualty 50", "there is no option --qualty: did you mean --quality?"),
        ("compress a.png --qualty=50", "there is no option --qualty: did you mean --quality?"),
        ("compress a.png -quality 50", "there is no option -quality: did you mean --quality?"),
        ("compress --qualty 50", "there is no option --qualty: did you mean --quality?"),
        ("import a.pth --arhc base -o a", "there is no option --arhc: did you mean --arch?"),
        ("compress a.png -Z", "there is no option -Z"),
        ("compress a.png --xyzzy", "there is no option --xyzzy"),
        ("compress a.png --engine croe", "argument --engine: invalid choice: 'croe': did you mean core?"),
        ("info a b", "'b' is one argument too many"),
        ("compress", "the following arguments are required: INPUT"),
        ("compress a.png --quality 0", "argument --quality: '0' is no whole number from 1 to 100"),
        ("compress a.png --quality 7.5", "argument --quality: '7.5' is no whole number from 1 to 100"),
        ("compress a.png --bpp nan", "argument --bpp: 'nan' is no positive number"),
        ("compress a.png --bpp 1 --psnr 30", "argument --psnr: not allowed with argument --bpp"),
        ("import a.pth --arch base", "the following arguments are required: -o/--output"),
        ("train --data a --out b", "one of the arguments --minutes --steps --until --plot is required"),
        ("models --from x", "--from, --photos and -f go with --get NAME"),
        ("train --data a --out b --steps 9 --decay 2", "argument --decay: '2' is not within 0 to 1"),
    ],
)
def test_wrong_usage(capsys, line, message):
    with pytest.raises(SystemExit) as stopped:
        cli.main(line.split())
    assert stopped.value.code == 2
    assert capsys.readouterr().err.endswith(f"error: {message}\n")


def subcommands() -> dict:
    return help.parsers(parser())


@pytest.mark.parametrize("name", subcommands())
def test_each_command_knows_what_is_mistyped_for_it(capsys, name):
    """Its own usage is shown, whichever option is mistyped, and whatever else is missing."""
    command = subcommands()[name]
    for option in (word for word in command._option_string_actions if word.startswith("--")):
        mistyped = option[:-2] + "qx" + option[-1]
        with pytest.raises(SystemExit) as stopped:
            cli.main([name, mistyped])
        assert stopped.value.code == 2
        err = capsys.readouterr().err
        assert err.startswith(f"usage: hpcm {name} ")
        assert f"hpcm {name}: error: there is no option {mistyped}" in err
    with pytest.raises(SystemExit):
        cli.main([f"{name[:-1]}qx{name[-1]}"])
    assert f"did you mean {name}?" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["compress -- --quality", "compress --qual 5 a.png", "compress -nq a.png"])
def test_what_is_no_mistake(line):
    assert parser().parse_args(line.split()).inputs


def test_alone_it_says_what_one_can_do(capsys):
    assert cli.main([]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    shown = [line for line in out.splitlines() if line.startswith("  hpcm ")]
    assert [line.split()[1] for line in shown] == ["compress", "decompress", "info"]
    for line in shown:
        parser().parse_args(line.split("   ")[0].split()[1:])
    assert all(re.search(rf"\b{name}\b", out) for name in subcommands())


def test_help(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    whole = capsys.readouterr().out
    assert cli.main(["help"]) == 0
    assert capsys.readouterr().out == whole
    for name, command in subcommands().items():
        assert cli.main(["help", name]) == 0
        assert capsys.readouterr().out == command.format_help()


def test_others_are_done_after_a_failure(run, at, capsys):
    (at / "note.png").write_text("no picture")
    shutil.copy("photo.png", "photo.bmp")  # would become photo.hpcm as well
    assert run("compress", "none.png", "note.png", "photo.png", "photo.bmp", "-f") == 1
    out, err = capsys.readouterr()
    assert out.startswith("photo.png -> photo.hpcm")
    assert err.splitlines() == [
        f"hpcm: error: none.png: {NO_FILE}",
        "hpcm: error: photo.bmp: photo.png already has the output photo.hpcm; "
        "rename one, or give one alone with -o FILE",
        "hpcm: error: note.png: it is no picture that Pillow can read",
        "hpcm: 1 written, 3 failed",
    ]


def test_force_overwrites_through_a_link(run, at, material):
    (at / "real.hpcm").write_bytes(b"old")
    (at / "link.hpcm").symlink_to("real.hpcm")
    assert run("compress", "photo.png", "-o", "link.hpcm", "-f") == 0
    assert (at / "link.hpcm").is_symlink()
    assert (at / "real.hpcm").read_bytes() == (material / "photo.hpcm").read_bytes()


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_meanwhile_is_kept(at, monkeypatch, links):
    def no_link(*_):  # as on a file system without hard links
        raise PermissionError(1, "no links")

    if not links:
        monkeypatch.setattr(os, "link", no_link)
    outputs.write(at / "other", b"new", force=False)
    replacing = atomic.replacing(at / "a", force=False)
    replacing.__enter__().write_bytes(b"ours")
    (at / "a").write_bytes(b"theirs")
    with pytest.raises(hpcm.HPCMError, match="a exists; -f overwrites it"):
        replacing.__exit__(None, None, None)
    assert (at / "a").read_bytes() == b"theirs"
    assert (at / "other").read_bytes() == b"new"
    assert tree(at) == {"a", "other"}


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 141, ""),
        (MemoryError(), 1, "hpcm: error: photo.png: there isn't enough memory for it\n"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 1, "there isn't enough memory for it\n"),
    ],
)
def test_what_stops_a_run(run, at, capfd, monkeypatch, error, code, message):
    def compress(*_, **__):
        raise error

    monkeypatch.setattr(codec.Codec, "compress", compress)
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    assert run("compress", "photo.png", "-o", "a.hpcm") == code
    assert capfd.readouterr().err.endswith(message)
    assert tree(at) == {"photo.png", "photo.hpcm"}


def test_a_bug_is_no_failure(run, monkeypatch):
    monkeypatch.setattr(codec.Codec, "compress", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("compress", "photo.png", "-f")


def test_a_reader_that_has_gone_is_no_failure(at, material):
    line = [sys.executable, "-m", "hpcm", "info", str(material / "photo.hpcm")]
    read, write = os.pipe()
    os.close(read)
    with subprocess.Popen(line, stdout=write, stderr=subprocess.PIPE, env=environment()) as process:
        os.close(write)
        assert process.communicate(timeout=60)[1] == b""
    assert process.returncode == 141


def test_alpha_does_not_go_into_a_jpeg(run, at, capsys):
    picture = Image.open("photo.png").convert("RGBA")
    picture.putalpha(100)
    picture.save("clear.png")
    assert run("compress", "clear.png") == 0
    assert run("decompress", "clear.hpcm", "-o", "clear.jpg") == 1
    message = "hpcm: error: clear.hpcm: the picture is transparent, and JPEG has no room for that; try .png\n"
    assert capsys.readouterr().err == message


def test_a_picture_of_too_many_pixels(run, at, monkeypatch, capsys):
    monkeypatch.setattr("hpcm.image.read.MAX_ENCODED", 27_199)
    assert run("compress", "photo.png", "-f") == 1
    assert capsys.readouterr().err == "hpcm: error: photo.png: it has more than 27,199 pixels\n"


# ---- the other commands ---------------------------------------------------------------------------------------------


def test_info(run, material, capsys, monkeypatch):
    assert run("info", "photo.hpcm") == 0
    lines = capsys.readouterr().out.splitlines()
    data = (material / "photo.hpcm").read_bytes()
    short = weights.find("tiny").hash.hex()
    assert lines == [
        "photo.hpcm",
        f"  size     {len(data):,} bytes, {8 * len(data) / (200 * 136):.3f} bpp",
        "  picture  200 x 136 pixels, rgb, 8 bits",
        "  extras   none",
        "  tiles    1 of at most 1024 x 1024 pixels",
        "  quality  50 of 1 to 100, level 39 of 0 to 63",
        f"  model    tiny, hash {short}, installed: {material / 'tiny.safetensors'}",
    ]
    assert run("info", "photo.hpcm", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["quality"], told["level"], told["levels"]) == (50, 39, 64)
    monkeypatch.setenv("HPCM_WEIGHTS", str(material / "none"))
    assert run("info", "photo.hpcm") == 0
    assert capsys.readouterr().out.splitlines()[5] == "  quality  level 39"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert run("info", "-", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told.pop("bpp") == pytest.approx(8 * len(data) / (200 * 136))
    expected = {"file": "standard input", "bytes": len(data), "width": 200, "height": 136, "colour": "rgb"}
    expected |= {"bit_depth": 8, "model": "tiny", "model_hash": short, "model_path": None, "level": 39}
    expected |= {"levels": None, "quality": None, "residual": None}
    expected |= {
        "tile_side": 1024,
        "tiles": 1,
        "progressive": False,
        "progress": 1.0,
        "alpha_bytes": None,
        "icc_bytes": None,
        "exif_bytes": None,
    }
    expected |= {f"{chunk.name}_bytes": None for chunk in fields.ANCILLARY.values()} | {"gain_map_size": None}
    assert told == expected


@pytest.mark.parametrize("levels", [1, 2, 6, 64, 100, 255])
def test_the_quality_of_a_level_is_one_that_gives_it(levels):
    one = SimpleNamespace(levels=levels, lossy_levels=levels, models=[None])
    given = {codec.Codec.level_of(one, quality) for quality in range(1, BASE_QUALITY + 1)}
    for level in range(levels):
        quality = quality_of(level, levels)
        if levels == 1 or level not in given:
            assert quality is None
        elif quality is not None or levels <= BASE_QUALITY:
            assert codec.Codec.level_of(one, quality) == level
    assert quality_of(levels, levels) is None


def test_info_on_what_else_a_file_holds(run, at, capsys):
    Image.open("photo.png").convert("LA").save("rich.png", icc_profile=ICC, exif=EXIF)
    assert run("compress", "rich.png") == 0
    container = unpack((at / "rich.hpcm").read_bytes())
    capsys.readouterr()
    assert run("info", "rich.hpcm") == 0
    sizes = f"alpha {len(container.alpha)} bytes, ICC profile {len(ICC)} bytes, EXIF {len(container.exif)} bytes"
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:4] == ["  picture  200 x 136 pixels, grey, 8 bits", f"  extras   {sizes}"]


TINY_IN_WORDS = (
    "nano with M=16 N=8 analysis=[[1,16],[0,16]] synthesis=[[0,16],[1,16]] "
    "hyper_analysis=[[1,16],[0,8]] hyper_synthesis=[[1,8],[0,32]] prior_width=16"
)


def test_models(run, material, capsys, monkeypatch):
    monkeypatch.setattr(weights, "DEFAULT_MODEL", "tiny")
    assert run("models") == 0
    path, short = material / "tiny.safetensors", weights.find("tiny").hash.hex()
    assert capsys.readouterr().out.splitlines() == [
        f"tiny  (default)  {path}",
        f"  hash {short}, 64 quality levels, 16 latent channels",
        f"  configuration: {TINY_IN_WORDS}",
        "  exact: files decode everywhere",
        "  steps 7, crops 56",
    ]
    assert run("models", "--json") == 0
    (told,) = json.loads(capsys.readouterr().out)
    provenance = {"steps": 7, "crops": 56}
    expected = {
        "name": "tiny",
        "alias": None,
        "default": True,
        "hash": short,
        "levels": 64,
        "M": 16,
        "exact": True,
        "family": None,
        "lambda": None,
        "provenance": provenance,
    }
    assert told.pop("config") == TINY_IN_WORDS
    assert told == {**expected, "path": str(path)}
    monkeypatch.setenv("HPCM_WEIGHTS", str(material / "none"))
    assert run("models") == 0
    assert capsys.readouterr().out == f"no models are installed; put weights files into {material / 'none'}\n"


def test_exact_gives_a_name(run, at, material, capsys):
    assert run("exact", "tiny", "photo.png", "--name", "Mine!", "-o", "mine.safetensors") == 1
    assert "a model's name is 1 to 32 of a-z" in capsys.readouterr().err
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "ASSETS", BUNDLED)
        assert run("exact", "tiny", "photo.png", "--name", "nano-1", "-o", "mine.safetensors") == 1
    assert "nano-1 is a released model, which never changes: name yours with" in capsys.readouterr().err
    capsys.readouterr()
    assert run("exact", "tiny", "photo.png", "--name", "mine-1", "-o", "mine.safetensors") == 0
    assert capsys.readouterr().out == "tiny -> mine.safetensors  (engine on the CPU: core)\n"
    assert weights.find("mine.safetensors").name == "mine-1"
    assert run("compress", "photo.png", "-o", "c.hpcm", "--model", "./mine.safetensors") == 0
    assert unpack((at / "c.hpcm").read_bytes()).model == "mine-1"
    assert run("exact", "tiny", "photo.png", "--carrier", "split", "-o", "split.safetensors") == 0
    assert "(engine on the CPU: torch, because its sums are of the kind split" in capsys.readouterr().out


def test_import(run, at, monkeypatch, capsys):
    asked = []

    def written(path, arch, output, lmbda, ema):
        asked.append((path, arch, output.name, lmbda, ema))
        output.write_bytes(b"new")

    monkeypatch.setattr(official, "import_checkpoint", written)
    assert run("import", "a.pth", "--arch", "base", "-o", "mine.safetensors") == 0
    assert run("import", "a.pth", "--arch", "base", "-o", "mine.safetensors", "-f", "--ema", "--lambda", "0.025") == 0
    assert asked[0] == (Path("a.pth"), "base", "mine.safetensors", None, False)
    assert asked[1] == (Path("a.pth"), "base", "mine.safetensors", 0.025, True)
    assert capsys.readouterr() == ("a.pth -> mine.safetensors\n" * 2, "")
    assert run("import", "a.pth", "--arch", "base", "-o", "mine.safetensors") == 1
    assert capsys.readouterr().err == "hpcm: error: mine.safetensors exists; -f overwrites it\n"

    def fail(path, arch, output, lmbda, ema):
        output.write_bytes(b"half")
        raise WeightsError("it's no checkpoint")

    monkeypatch.setattr(official, "import_checkpoint", fail)
    assert run("import", "a.pth", "--arch", "base", "-o", "mine.safetensors", "-f") == 1
    assert (at / "mine.safetensors").read_bytes() == b"new"
    assert tree(at) == {"photo.png", "photo.hpcm", "mine.safetensors"}


# ---- cheap, and in step with the rest -------------------------------------------------------------------------------


@pytest.mark.parametrize("line", [["models"], ["info", "photo.hpcm"], ["compress", "--help"], ["--version"], []])
def test_without_torch_and_pillow(run, line):
    heavy = {"torch", "PIL", "rich", "numpy", "multiprocessing"}
    code = f"import sys, atexit; atexit.register(lambda: print({heavy} & {{*sys.modules}}))"
    done = python("-c", f"{code}; sys.argv[1:] = {line}; from hpcm.__main__ import main; main()")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == b"set()"


def test_keep_pages_does_nothing_elsewhere(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    hardware.keep_pages()
