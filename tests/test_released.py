"""The authors' models in users' hands: `hpcm models --get`, from a folder and from a server that behaves as Drive does.

A small architecture passes for one of theirs; the official names and shapes are tested in test_official.py.
"""

import errno
import json
import os
import re
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import torch
from PIL import Image

import hpcm
from hpcm import official
from hpcm.cli import main
from hpcm.cli.commands import parser
from hpcm.convert import calibrate as calibration
from hpcm.convert import catalogue, download
from hpcm.convert.checkpoints import checkpoints_in
from hpcm.convert.install import PHOTOS
from hpcm.convert.official import ARCHS, official_names
from hpcm.errors import UsageError
from hpcm.format.container import unpack
from hpcm.format.fields import MODEL_NAME
from hpcm.image.read import read_picture
from hpcm.model import find as weights
from hpcm.model.config import Prior
from hpcm.model.file import describe

LAMBDAS = (0.0018, 0.0035, 0.0067, 0.013, 0.025, 0.0483)
NAMES = [f"small-{round(10_000 * lmbda):04d}" for lmbda in LAMBDAS]
DRIVE = "https://drive.google.com/uc?id="
PHOTO = Image.open(Path(__file__).parent / "data" / "kodim23.png").crop((130, 90, 130 + 64, 90 + 64))


@pytest.fixture(scope="module")
def small(tiny_1b):
    """B1's structure with as few blocks as it can have."""
    few = Prior(before=1, after=1)
    return replace(
        tiny_1b,
        analysis=((0, 8), (0, 8), (0, 64), (0, 16)),
        synthesis=((0, 16), (0, 64), (0, 8), (0, 8)),
        hyper_analysis=((1, 16), (1, 16)),
        hyper_synthesis=((1, 16), (1, 32)),
        prior_coarse=few,
        prior_fine=few,
        adaptor_blocks=(0, 0, 0),
    )


@pytest.fixture(scope="module")
def theirs(build, small, tmp_path_factory):
    """A folder of six checkpoints with their lambdas in their names; the latents are the finer the higher it is."""
    folder = tmp_path_factory.mktemp("theirs")
    for i, lmbda in enumerate(LAMBDAS):
        model = build(small)
        with torch.no_grad():
            list(model.g_a.parameters())[-2].mul_(1.5**i)
        state = {their: model.state_dict()[our] for our, their in official_names(model).items()}
        gains = {name: value[..., None, None] for name, value in state.items() if name.startswith("adaptive_params")}
        torch.save({f"module.{name}": value for name, value in {**state, **gains}.items()}, folder / f"L{lmbda:g}.pth")
    return folder


@pytest.fixture
def user(tmp_path, small, monkeypatch):
    """A user with a photograph and an empty folder of weights; what is published is `small`, of six checkpoints."""
    monkeypatch.setenv("HPCM_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setitem(ARCHS, "tiny", small)
    monkeypatch.setattr(catalogue, "FILE", tmp_path / "catalogue.json")
    monkeypatch.setattr(download, "RETRIES", 0)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    PHOTO.save(tmp_path / "photos" / "photo.png")
    of = {name[-4:]: {"lambda": lmbda, "link": DRIVE + name} for name, lmbda in zip(NAMES, LAMBDAS, strict=True)}
    family = {"arch": "tiny", "loss": "mse", "weights": of}
    catalogue.FILE.write_text(
        json.dumps({"small": family, "other": {**family, "weights": {"0130": {"lambda": 0.013}}}})
    )
    catalogue.published.cache_clear()
    yield tmp_path
    catalogue.published.cache_clear()


def run(*arguments: object) -> int:
    return main(["models", *map(str, arguments), "--photos", "photos"])


def at_hand() -> list[str]:
    return sorted(path.name for path in Path("weights").rglob("*") if path.is_file())


# ---- what is published ----------------------------------------------------------------------------------------------


def test_the_catalogue():
    catalogue.published.cache_clear()
    found = catalogue.published()
    assert len(found) == len({one.name for one in found}) == len({one.link for one in found}) == 26
    assert all(MODEL_NAME.fullmatch(one.name) and one.arch in ARCHS for one in found)
    assert [one.lmbda for one in catalogue.chosen("base")] == list(LAMBDAS)
    assert [one.name for one in catalogue.chosen("base")] == [name.replace("small", "base") for name in NAMES]
    assert [one.lmbda for one in catalogue.chosen("large-ssim")] == [2.4, 4.58, 8.73, 16.64, 31.73, 60.5]
    assert [one.name for one in catalogue.chosen("1b-0483")] == ["1b-0483"]
    with pytest.raises(UsageError, match="no 'huge': choose from base, base-ssim, base-phi, large, large-ssim, 1b"):
        catalogue.chosen("huge")


def test_the_photographs():
    found = sorted(PHOTOS.glob("*.jpg"))
    assert len(found) == 6
    assert {read_picture(path.read_bytes()).size for path in found} == {(256, 256)}  # what the attention's windows need
    assert sum(path.stat().st_size for path in found) < 300_000
    told = (PHOTOS / "README.md").read_text(encoding="utf-8")
    assert all(path.name in told for path in found)


# ---- from a folder --------------------------------------------------------------------------------------------------


def test_six_checkpoints_become_a_family_of_exact_models(user, theirs, capsys):
    assert run("--get", "small", "--from", theirs) == 0
    out, err = capsys.readouterr()
    assert at_hand() == [f"{name}.safetensors" for name in NAMES]
    assert err == ""
    assert "small-0250: HPCM-Tiny, lambda 0.025 (MSE), hash" in out
    assert "licence: MIT" in out
    family = hpcm.load("small")
    assert [model.name for model in family.models] == NAMES
    for model in family.models:
        assert model.config["carrier"] == "float32"  # exact
        assert model.provenance["loss"] == "mse"
        assert model.provenance["licence"].startswith("MIT")
        assert model.provenance["exactness costs"].endswith("%")
    used = {}
    for quality in (1, 40, 80):
        data = family.compress(PHOTO, quality=quality)
        used[unpack(data).model] = len(data)
        assert hpcm.decompress(data).size == PHOTO.size
    assert list(used) == [NAMES[0], NAMES[2], NAMES[5]]
    assert list(used.values()) == sorted(used.values())
    before = {path: path.stat().st_mtime_ns for path in Path("weights").iterdir()}
    assert run("--get", "small", "--from", theirs) == 0
    assert capsys.readouterr().out.count(" is there: ") == 6
    assert before == {path: path.stat().st_mtime_ns for path in Path("weights").iterdir()}


def test_one_of_a_family_and_one_more(user, theirs, capsys):
    assert run("--get", "small-0130", "--from", theirs / "L0.013.pth") == 0
    assert weights.find("small").name == "small-0130"
    assert run("--get", "small-0018", "--from", theirs) == 0
    assert [model.lmbda for model in weights.find_all("small")] == [0.0018, 0.013]
    capsys.readouterr()
    assert main(["models"]) == 0
    assert "small  a family of 2 models, lambda 0.0018 to 0.013: small-0018, small-0130" in capsys.readouterr().out


def test_missing_checkpoints_are_reported(user, theirs, tmp_path, capsys):
    (tmp_path / "some").mkdir()
    os.link(theirs / "L0.0018.pth", tmp_path / "some" / "base_0018.pth.tar")
    os.link(theirs / "L0.025.pth", tmp_path / "some" / "lambda0.0250.pt")
    assert run("--get", "small", "--from", "some") == 0
    assert at_hand() == ["small-0018.safetensors", "small-0250.safetensors"]
    assert capsys.readouterr().err.count("no checkpoint of it in some: the family lacks it") == 4


def test_swapped_and_repeated_checkpoints_are_reported(user, theirs, tmp_path, capsys):
    (tmp_path / "some").mkdir()
    for name, file in (("0.0018", "0.0483"), ("0.013", "0.0018"), ("0.025", "0.0018")):
        os.link(theirs / f"L{file}.pth", tmp_path / "some" / f"{name}.pth")
    assert run("--get", "small", "--from", "some") == 0
    err = capsys.readouterr().err
    assert "small-0018 and small-0130: the higher lambda takes fewer bits" in err
    assert "small-0130 and small-0250 are made of the same checkpoint" in err


@pytest.mark.parametrize(
    ("files", "found"),
    [
        (["HPCM_Base_0.0018.pth.tar", "HPCM_Base_0.013.pth.tar"], ["small-0018", "small-0130"]),
        (["lmbda0.0018/epoch_best.pth.tar", "lmbda0.0483/epoch_best.pth.tar"], ["small-0018", "small-0483"]),
        (["0018.pt", "x/0.0350.pth", "0.0035.txt", "10.0035.pth", "v2.0.0035.zip"], ["small-0018"]),
    ],
)
def test_files_are_recognised_by_their_lambda(user, files, found):
    for name in files:
        path = Path("some", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert [one.name for one in checkpoints_in(Path("some"), catalogue.chosen("small"))] == found


# ---- what is wrong --------------------------------------------------------------------------------------------------


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("touched",)


def truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (truncated, "is damaged, or holds more than tensors, which is never loaded"),
        (flipped, "is damaged: .* in it has a wrong CRC"),
        (
            lambda data: b"<!DOCTYPE html><title>Quota exceeded</title>",
            "is a web page instead of a checkpoint: open its",
        ),
        (lambda data: b"", "is damaged, or holds more"),
        (Hostile(), "holds more than tensors, (posix|nt).mkdir, which is never loaded$"),
        ({"module.means_hyper": torch.ones(1, 8, 1, 1)}, "the checkpoint is no tiny: it has no .* and .* more"),
        ("base", "the checkpoint is no tiny: it has no .*; it is a base$"),
        ("nan", "is damaged: 1 parameters, g_a.0.bias among them, aren't finite"),
    ],
)
def test_a_bad_checkpoint_is_one_line(user, theirs, change, complaint, capsys):
    path = Path("theirs-0.013.pth")
    if callable(change):
        path.write_bytes(change((theirs / "L0.013.pth").read_bytes()))
    elif change == "nan":
        state = torch.load(theirs / "L0.013.pth", weights_only=True)
        first = next(name for name in state if name.startswith("module.g_a.") and name.endswith("down1.bias"))
        torch.save({**state, first: state[first] * torch.nan}, path)
    elif change == "base":
        names = json.loads((Path(__file__).parent / "parity" / "manifest_base.json").read_text())
        torch.save({name: torch.zeros(1).expand(shape) for name, shape in names.items()}, path)
    else:
        torch.save(change, path)
    assert run("--get", "small-0130", "--from", path) == 1
    _, err = capsys.readouterr()
    assert err.startswith("hpcm: error: small-0130: theirs-0.013.pth")
    assert err.count("\n") == 1
    assert not Path("touched").exists()
    assert at_hand() == []
    assert re.search(complaint, err.strip()), err


def test_one_that_fails_leaves_the_others(user, theirs, tmp_path, capsys):
    (tmp_path / "some").mkdir()
    os.link(theirs / "L0.0018.pth", tmp_path / "some" / "0.0018.pth")
    Path("some", "0.013.pth").write_bytes(b"nonsense")
    assert run("--get", "small", "--from", "some") == 1
    assert at_hand() == ["small-0018.safetensors"]
    assert capsys.readouterr().err.count("hpcm: error: small-0130: ") == 1


def test_a_full_disk_is_one_line(user, theirs, monkeypatch, capsys):
    def save(model, path, *_, **__):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(calibration, "save", save)
    assert run("--get", "small-0130", "--from", theirs) == 1
    assert "small-0130.safetensors: No space left on device" in capsys.readouterr().err
    assert at_hand() == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--get", "huge"), "the authors have published no 'huge': choose from small, other"),
        (("--get", "small", "--from", "nowhere"), "--from nowhere: it must be a folder of checkpoints"),
        (("--get", "small", "--from", "photos"), "no file of photos (.pth.tar, .pth, .pt, .tar, .ckpt) has a lambda"),
        (("--get", "small", "--from", "twice"), "0.013.pth and twice/b0130.pth may both be small-0130"),
        (("--get", "other"), "no download link is known: give its checkpoint with --from FOLDER"),
    ],
)
def test_usage(user, arguments, complaint, capsys):
    Path("twice").mkdir()
    for name in ("0.013.pth", "b0130.pth"):
        Path("twice", name).touch()
    assert run(*arguments) == 1
    _, err = capsys.readouterr()
    assert complaint in err
    assert err.count("\n") == 1
    assert at_hand() == []


def test_photographs_that_are_none(user, theirs, capsys):
    Path("empty").mkdir()
    assert main(["models", "--get", "small", "--from", str(theirs), "--photos", "empty"]) == 1
    assert "--photos empty: no picture in it ends in .jpg" in capsys.readouterr().err


def test_import_knows_lambda(user, theirs):
    """The way of one who has a single file: families come of names and lambdas, wherever they are from."""
    asked = parser().parse_args(["import", "x.pth", "--arch", "base", "--lambda", "0.013", "-o", "mine-1.safetensors"])
    official.import_checkpoint(theirs / "L0.013.pth", "tiny", Path(asked.output), asked.lmbda)
    assert describe(Path("mine-1.safetensors")).lmbda == 0.013


# ---- from a server --------------------------------------------------------------------------------------------------

CONFIRM = """<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body>\
<p class="uc-warning-caption">Google Drive can't scan this file for viruses.</p>\
<form id="download-form" action="https://drive.usercontent.google.com/download" method="get">\
<input type="submit" value="Download anyway"/><input type="hidden" name="id" value="{id}">\
<input type="hidden" name="export" value="download"><input type="hidden" name="confirm" value="t">\
<input type="hidden" name="uuid" value="8a1c"></form></body></html>"""
QUOTA = """<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body>
<p class="uc-error-caption">Sorry, you can't view or download this file at this time.</p>
<p class="uc-error-subcaption">Too many users have viewed or downloaded this file recently.</p></body></html>"""


class Drive(BaseHTTPRequestHandler):
    """What Google Drive does with large files: a page first, then the file, in ranges if they are asked for."""

    protocol_version = "HTTP/1.1"
    folder: Path
    ranges = True
    most: int | None = None  # bytes of the file in one answer, after which the connection breaks
    page: str | None = None  # instead of the file
    asked: list[tuple[str, str | None]]

    def do_GET(self):
        url = urlsplit(self.path)
        query = parse_qs(url.query)
        self.asked.append((url.path, self.headers["Range"]))
        if self.page is not None or "uuid" not in query:
            page = (self.page or CONFIRM.format(id=query["id"][0])).encode()
            return self.answer(200, page, {"Content-Type": "text/html; charset=utf-8"})
        lmbda = int(query["id"][0].rpartition("-")[2]) / 10_000
        data = (self.folder / f"L{lmbda:g}.pth").read_bytes()
        headers = {"Content-Type": "application/octet-stream", "Content-Disposition": 'attachment; filename="a.pth"'}
        if self.ranges and self.headers["Range"]:
            begin = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
            return self.answer(206, data[begin:], headers)
        return self.answer(200, data, headers)

    def answer(self, status, data, headers):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[: self.most])
        self.close_connection = self.most is not None and self.most < len(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def drive(user, theirs, monkeypatch):
    """A server on this machine that answers for Google's."""
    pytest.importorskip("gdown", reason="gdown isn't installed")
    from requests.adapters import HTTPAdapter

    behaviour = type("Behaviour", (Drive,), {"folder": theirs, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), behaviour)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    send = HTTPAdapter.send

    def to_us(self, request, *rest, **how):
        url = urlsplit(request.url)
        assert url.hostname in ("drive.google.com", "drive.usercontent.google.com")
        request.url = url._replace(scheme="http", netloc=f"127.0.0.1:{server.server_port}").geturl()
        return send(self, request, *rest, **how)

    monkeypatch.setattr(HTTPAdapter, "send", to_us)
    yield behaviour
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_family_is_downloaded(drive, theirs, capsys):
    assert run("--get", "small-0250") == run("--get", "small-0018") == 0
    assert at_hand() == ["small-0018.safetensors", "small-0250.safetensors"]  # the downloads are removed
    assert [path for path, _ in drive.asked] == ["/uc", "/download"] * 2
    assert weights.find("small-0250").provenance["from"] == DRIVE + "small-0250"
    drive.asked.clear()
    assert run("--get", "small-0250") == 0
    assert drive.asked == []
    assert "small-0250 is there: " in capsys.readouterr().out


def test_a_download_goes_on_where_it_broke_off(drive, theirs, monkeypatch, capsys):
    monkeypatch.setattr(sys.modules["gdown.download"], "CHUNK_SIZE", 1 << 12)  # bytes that are written at a time
    drive.most = (theirs / "L0.025.pth").stat().st_size // 2
    assert run("--get", "small-0250") == 1
    err = capsys.readouterr().err
    assert "small-0250: it can't be downloaded now: Download is incomplete" in err
    assert err.count("\n") == 1
    assert len(at_hand()) == 1
    (part,) = Path("weights").rglob("*.part")
    assert 0 < part.stat().st_size <= drive.most
    begin, drive.most = part.stat().st_size, None
    drive.asked.clear()
    assert run("--get", "small-0250") == 0
    assert drive.asked[-1] == ("/download", f"bytes={begin}-")
    assert at_hand() == ["small-0250.safetensors"]


def test_a_download_begins_anew_where_the_server_has_no_ranges(drive, theirs):
    drive.most = 1000
    assert run("--get", "small-0250") == 1
    drive.most, drive.ranges = None, False
    assert run("--get", "small-0250") == 0
    assert at_hand() == ["small-0250.safetensors"]


@pytest.mark.parametrize(
    ("page", "complaint"),
    [
        (QUOTA, "Too many users have viewed or downloaded this file recently"),
        ("<!DOCTYPE html><html><title>Sign in - Google Accounts</title></html>", "Cannot retrieve the public link"),
    ],
)
def test_a_page_instead_of_a_file(drive, page, complaint, capsys):
    drive.page = page
    assert run("--get", "small-0250") == 1
    err = " ".join(capsys.readouterr().err.split())
    assert complaint in err
    assert f"or download small-0250 by hand ({DRIVE}small-0250) and take --from FOLDER" in err
    assert at_hand() == []


def test_a_bad_download_is_not_kept(drive, theirs, tmp_path, capsys):
    drive.folder = tmp_path
    Path("L0.025.pth").write_bytes(truncated((theirs / "L0.025.pth").read_bytes()))
    assert run("--get", "small-0250") == 1
    assert "is damaged" in capsys.readouterr().err
    assert at_hand() == []


def test_no_network(user, monkeypatch, capsys):
    pytest.importorskip("gdown", reason="gdown isn't installed")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # where nothing listens
    assert run("--get", "small-0250") == 1
    err = capsys.readouterr().err
    assert "hpcm: error: small-0250: it can't be downloaded now: " in err
    assert err.count("\n") == 1
    assert at_hand() == []


def test_without_gdown(user, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gdown", None)
    assert run("--get", "small-0250") == 1
    assert "downloading needs gdown: pip install 'hpcm-codec[get]'" in capsys.readouterr().err
