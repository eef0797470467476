"""`hpcm eval`, end to end: real files, a cache that resumes, a report that a browser shows."""

import ast
import io
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import AvifImagePlugin, Image

import hpcm
from hpcm import cli
from hpcm.errors import PictureError, UsageError
from hpcm.eval import baselines, measure, yuv
from hpcm.eval.anchors import published
from hpcm.eval.baselines import BASELINES
from hpcm.eval.comparison import too_busy
from hpcm.eval.hpcm_codec import engine_of
from hpcm.eval.measure import CodecSpec, Task, open_codec
from hpcm.eval.metrics import EXTRA, psnr
from hpcm.eval.results import CodecResult, Measurement, Point, load
from hpcm.eval.results import save as save_results
from hpcm.image.read import read_picture
from hpcm.model import find as weights
from hpcm.nn.hpcm import HPCM
from hpcm.nn.weights import save
from profiles import rgb_profile

KODIM = Path(__file__).parent / "data" / "kodim23.png"
SIZE = (208, 176)  # of the pictures, width and height: enough for MS-SSIM
PART = (96, 64)  # of one of them, where that is enough
QUALITIES = {"jpeg": (10, 30, 60, 90), "webp": (5, 40, 80, 95), "tiny": (1, 30, 70, 100)}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")

pytest.importorskip("bjontegaard")
pytest.importorskip("matplotlib")


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Puts a Python script on the path as a program."""
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    baselines.program_version.cache_clear()

    def put(name, source):
        (folder / name).write_text(f"#!{sys.executable}\nimport sys\n{source}")
        (folder / name).chmod(0o755)

    yield put
    baselines.program_version.cache_clear()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    whole = Image.open(KODIM).convert("RGB")
    for name, left in (("a", 60), ("b", 400)):
        whole.crop((left, 150, left + SIZE[0], 150 + SIZE[1])).save(folder / f"{name}.png")
    return folder


@pytest.fixture(scope="module")
def report(pictures, tmp_path_factory, tiny):
    """A folder with a model of random weights and the report of an evaluation, made in two processes."""
    folder = tmp_path_factory.mktemp("report")
    torch.manual_seed(0)
    save(HPCM(tiny), folder / "tiny.safetensors", {})
    assert evaluated(pictures, folder, folder / "out", "--jobs", "2", "--show", "1") == 0
    return folder


def evaluated(pictures, folder, output, *more):
    """The exit code of an evaluation with the model in a folder."""
    settings = [f"{name}={','.join(map(str, QUALITIES[name]))}" for name in ("jpeg", "webp")]
    qualities = ",".join(map(str, QUALITIES["tiny"]))
    words = [
        "eval",
        str(pictures),
        "--model",
        str(folder / "tiny.safetensors"),
        "--codecs",
        "jpeg,webp",
        "--qualities",
        qualities,
    ]
    return cli.main([*words, "--settings", settings[0], "--settings", settings[1], "-o", str(output), *more])


def results(report):
    return json.loads((report / "out" / "results.json").read_text())


# ---- end to end -----------------------------------------------------------------------------------------------------


def test_numbers_are_those_of_real_files(report, pictures):
    found = results(report)["codecs"]
    assert list(found) == ["jpeg", "webp", "tiny"]
    for name, codec in found.items():
        assert tuple(point["setting"] for point in codec["points"]) == QUALITIES[name]
        assert codec["peak_mib"] > 10
    point = found["jpeg"]["points"][1]
    sizes, levels = [], []
    for row in point["pictures"]:
        image, file = Image.open(pictures / f"{row['picture']}.png"), io.BytesIO()
        image.save(file, "JPEG", quality=30, subsampling=2, optimize=True)
        difference = np.asarray(image).astype(float) - np.asarray(Image.open(file))
        sizes.append(8 * len(file.getvalue()) / (SIZE[0] * SIZE[1]))
        levels.append(20 * np.log10(255) - 10 * np.log10((difference**2).mean()))
        assert (row["bpp"], row["psnr"]) == (sizes[-1], pytest.approx(levels[-1]))
        assert 0.5 < row["ms_ssim"] < 1
    assert (point["bpp"], point["psnr"]) == (pytest.approx(np.mean(sizes)), pytest.approx(np.mean(levels)))


@pytest.fixture
def no_memory(monkeypatch):
    """Evaluates without the processes that take the peak memory."""
    monkeypatch.setattr(measure, "memory", lambda task, cache: 99.0)


def test_efforts_are_curves_of_their_own(report, pictures, capsys, no_memory):
    words = ["--codecs", "", "--effort", "0,1", "--show", "0", "--limit", "1", "--qualities", "40"]
    assert evaluated(pictures, report, report / "efforts", *words) == 0
    found = json.loads((report / "efforts" / "results.json").read_text())["codecs"]
    assert [codec["label"] for codec in found.values()] == ["hpcm tiny", "hpcm tiny e1"]
    assert found["tiny-e1"]["description"].endswith("on cpu, effort 1")
    plain, searched = ([point["pictures"][0] for point in codec["points"]] for codec in found.values())
    assert any(one["bytes"] != other["bytes"] for one, other in zip(plain, searched, strict=True))


def test_ssimulacra2_is_a_quality_like_the_others(report, pictures, no_memory):
    """It is measured when it is asked for, and then has BD-rates, a plot and a table in the report."""
    pytest.importorskip("ssimulacra2")
    assert evaluated(pictures, report, report / "more", "--limit", "1", "--show", "0", "--ssimulacra2") == 0
    found = json.loads((report / "more" / "results.json").read_text())
    points = found["codecs"]["jpeg"]["points"]
    assert [p["ssimulacra2"] for p in points] == sorted(p["ssimulacra2"] for p in points)
    assert found["bd_rate"]["ssimulacra2"]["jpeg"].keys() >= {"webp"}
    assert (report / "more" / "rd-ssimulacra2.svg").exists()
    assert "<h3>SSIMULACRA 2</h3>" in (report / "more" / "report.html").read_text()
    plain = results(report)
    assert "ssimulacra2" not in plain["codecs"]["jpeg"]["points"][0]
    assert "ssimulacra2" not in plain["bd_rate"]


def test_a_picture_that_is_too_small_for_ms_ssim(report, pictures, tmp_path, capsys, no_memory):
    """It is named and left out of MS-SSIM, in what is printed, in the page and in the JSON; PSNR keeps it."""
    whole = Image.open(KODIM).convert("RGB")
    whole.crop((0, 0, 160, 300)).save(tmp_path / "small.png")
    whole.crop((60, 150, 268, 326)).convert("L").save(tmp_path / "grey.png")
    shutil.copy(pictures / "a.png", tmp_path)
    assert evaluated(tmp_path, report, tmp_path / "out", "--model", "--codecs", "jpeg,webp", "--show", "0") == 0
    printed = capsys.readouterr().out
    why = (
        "MS-SSIM is over 2 of 3 pictures, and so are the rates beside it; left out, because each has a side of 160 "
        "pixels or less: small."
    )
    assert "| PSNR at 0.5 bpp | MS-SSIM (2 of 3 pictures) |" in printed
    assert why in printed
    page = (tmp_path / "out" / "report.html").read_text()
    assert why in page
    assert "<h3>MS-SSIM (2 of 3 pictures)</h3>" in page
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert found["left_out"]["ms_ssim_db"] == {"small": "has a side of 160 pixels or less"}
    assert "psnr" not in found["left_out"]
    for codec in found["codecs"].values():
        for point in codec["points"]:
            rows = {row["picture"]: row for row in point["pictures"]}
            assert rows.keys() == {"a", "grey", "small"}
            assert "ms_ssim" not in rows["small"]
            assert point["psnr"] == pytest.approx(np.mean([row["psnr"] for row in rows.values()]))
            kept = [rows["a"], rows["grey"]]
            assert point["ms_ssim"] == pytest.approx(np.mean([row["ms_ssim"] for row in kept]))
            assert point["rates"]["ms_ssim_db"] == pytest.approx(np.mean([row["bpp"] for row in kept]))
    assert "jpeg" in found["bd_rate"]["ms_ssim_db"]["webp"]


def test_a_picture_that_comes_back_exactly(report, tmp_path, no_memory):
    """A plain surface, of which JPEG loses nothing at a high quality: its PSNR is infinite and no number."""
    Image.new("RGB", SIZE, (128, 128, 128)).save(tmp_path / "plain.png")
    for place, name in enumerate("ab"):
        Image.open(KODIM).convert("RGB").crop((60 * place, 150, 60 * place + 208, 326)).save(tmp_path / f"{name}.png")
    assert evaluated(tmp_path, report, tmp_path / "out", "--model", "--show", "1") == 0
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert found["left_out"]["psnr"] == {"plain": "came back exactly, and its PSNR is infinite"}
    for point in found["codecs"]["jpeg"]["points"]:
        assert point["psnr"] == pytest.approx(np.mean([row["psnr"] for row in point["pictures"][:2]]))
        assert point["psnr"] < 50


# ---- bytes are those of files ---------------------------------------------------------------------------------------


def test_models_take_as_many_bytes_as_the_command_writes(pictures, tmp_path, capsys, no_memory):
    """Of every model that comes with hpcm, with and without the residual layer, in colour and in grey."""
    photograph = Image.open(pictures / "a.png").crop((0, 0, *PART))
    (tmp_path / "in").mkdir()
    photograph.save(tmp_path / "in" / "colour.png")
    photograph.convert("L").save(tmp_path / "in" / "grey.png")
    models, qualities = [info.name for info in hpcm.models()], ("50", "95")
    words = ["eval", str(tmp_path / "in"), "--model", *models, "--codecs", "", "--qualities", ",".join(qualities)]
    assert cli.main([*words, "--show", "0", "-o", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "results.json").read_text())["codecs"]
    assert found.keys() == set(models)
    for model in models:
        for point, quality in zip(found[model]["points"], qualities, strict=True):
            folder = tmp_path / f"{model}-{quality}"
            words = ["compress", str(tmp_path / "in"), "-o", str(folder), "--model", model, "--quality", quality]
            assert cli.main(words) == 0
            sizes = {path.stem: path.stat().st_size for path in folder.glob("*.hpcm")}
            assert sizes == {row["picture"]: row["bytes"] for row in point["pictures"]}
            for row in point["pictures"]:
                assert row["bpp"] == 8 * row["bytes"] / (PART[0] * PART[1])
            assert point["bpp"] == pytest.approx(np.mean([8 * size / (PART[0] * PART[1]) for size in sizes.values()]))


def test_an_effort_takes_as_many_bytes_as_the_command_writes(report, pictures, tmp_path, capsys, no_memory):
    words = ["--codecs", "", "--effort", "1", "--show", "0", "--limit", "1", "--qualities", "40"]
    assert evaluated(pictures, report, report / "efforts", *words) == 0
    found = json.loads((report / "efforts" / "results.json").read_text())["codecs"]
    written = tmp_path / "a.hpcm"
    weights_file = str(report / "tiny.safetensors")
    words = ["--model", weights_file, "--quality", "40", "--effort", "1", "--threads", "1"]
    assert cli.main(["compress", str(pictures / "a.png"), "-o", str(written), *words]) == 0
    assert written.stat().st_size == found["tiny-e1"]["points"][0]["pictures"][0]["bytes"]


def test_metadata_is_what_the_command_adds(pictures, tmp_path, capsys):
    """Rates are of the pixels alone: with metadata the file is larger, without (--strip) it is as measured."""
    exif = Image.Exif()
    exif[0x010E] = "a description"
    Image.open(pictures / "a.png").save(tmp_path / "a.png", exif=exif, icc_profile=rgb_profile())
    image = measure.read_image(tmp_path / "a.png")
    codec, plain = open_codec(CodecSpec("nano", "nano")), Image.open(pictures / "a.png")
    measured = len(codec.compress(image, 50))
    for name, setting in (("jpeg", 50), ("webp", 50), ("avif", 50)):
        other = BASELINES[name]()
        assert len(other.compress(image, setting)) == len(other.compress(plain, setting))
    Image.open(pictures / "a.png").save(tmp_path / "a.png", exif=exif)  # the colours need a profile, --strip keeps it
    sizes = []
    for more in ([], ["--strip"]):
        words = ["compress", str(tmp_path / "a.png"), "-o", str(tmp_path / "a.hpcm"), "-f", "--model", "nano"]
        assert cli.main([*words, *more]) == 0
        sizes.append((tmp_path / "a.hpcm").stat().st_size)
    assert sizes[0] > sizes[1] == measured


def test_other_codecs_take_as_many_bytes_as_their_files(pictures, tmp_path, capsys, no_memory):
    """Every codec that is there: the file on the disk has the size, and opens to the PSNR, that were measured."""
    original = Image.open(pictures / "a.png").crop((0, 0, *PART))
    (tmp_path / "in").mkdir()
    original.save(tmp_path / "in" / "a.png")
    there = {}
    for name in ("jpeg", "mozjpeg", "webp", "avif", "jxl", "heic", "vvenc"):  # one of each class
        try:
            there[name] = open_codec(CodecSpec(name))
        except UsageError:
            continue
    assert {"jpeg", "webp", "avif"} <= there.keys()
    used = {name: codec.settings[len(codec.settings) // 2] for name, codec in there.items()}
    words = ["eval", str(tmp_path / "in"), "--model", "--codecs", ",".join(there), "--show", "0"]
    for name, setting in used.items():
        words += ["--settings", f"{name}={setting}"]
    assert cli.main([*words, "-o", str(tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "results.json").read_text())["codecs"]
    for name, codec in there.items():
        file = tmp_path / f"a.{name}"
        file.write_bytes(codec.compress(original, used[name]))
        (row,) = found[name]["points"][0]["pictures"]
        assert file.stat().st_size == row["bytes"], name
        assert row["bpp"] == 8 * file.stat().st_size / (PART[0] * PART[1])
        assert psnr(np.asarray(original), np.asarray(codec.decompress(file.read_bytes()))) == row["psnr"]


# ---- published curves -----------------------------------------------------------------------------------------------


def test_published_curves_are_drawn_and_compared_with(report, pictures, tmp_path, capsys, no_memory):
    names = [f"kodak/{name}" for name in ("vtm", "bpg", "elic2022", "lalic", "dcae", "mlic", "tcm-large", "vtm-9.1")]
    words = ["--model", "--show", "0", "--anchors", *names[1:], "--anchor", names[0]]
    assert evaluated(pictures, report, tmp_path / "out", *words) == 0
    printed = capsys.readouterr()
    read = load(tmp_path / "out")
    assert set(read.published) == set(names)
    assert read.anchor == "kodak/vtm"
    change = read.bd_rate["psnr"]["kodak/vtm"]["jpeg"]
    assert "at equal quality than VTM (Kodak) (published);" in printed.out
    row = f"| JPEG | {change.percent:+.1f}%"
    assert row in printed.out
    assert f"| {change.low:.2f} to {change.high:.2f} dB | {change.overlap:.0%} |" in printed.out
    assert "hpcm: note: VTM (Kodak) is over other pictures: don't compare" in printed.err
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<h3>Against VTM (Kodak)</h3>" in page
    for name in names:
        assert published()[name].source in page
        assert f"{published()[name].label} (Kodak) (published)" in (tmp_path / "out" / "rd-psnr.svg").read_text()
    assert {"ms_ssim_db", "ms_ssim_mean_of_db"} <= set(read.metrics)  # VTM has the one, VTM-9.1 the other
    assert "jpeg" in read.bd_rate["ms_ssim_mean_of_db"]["kodak/vtm-9.1"]
    assert "kodak/vtm" not in read.bd_rate["ms_ssim_mean_of_db"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--anchors", "vtm"], "the pictures aren't all of a data set with published curves: name the curve's, as in"),
        (["--anchors", "kodak/vtn"], "there is no published curve kodak/vtn: choose from kodak/vtm"),
        (["--anchor", "jpg"], "jpg is none of the codecs here, jpeg; there is no published curve jpg"),
    ],
)
def test_curves_that_are_not_there_are_said_first(pictures, tmp_path, capsys, words, message):
    given = ["eval", str(pictures), "--model", "--codecs", "jpeg", "-o", str(tmp_path / "out"), *words]
    assert cli.main(given) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_model_is_said_to_be_inexact_once(report, pictures, tmp_path, capfd, no_memory):
    """Whichever process opens it, and however often."""
    assert evaluated(pictures, report, tmp_path / "out", "--jobs", "2", "--effort", "0,1", "--limit", "1") == 0
    printed = capfd.readouterr()
    assert (printed.out + printed.err).count("tiny isn't exact") == 1


def test_an_anchor_may_be_a_codec(report, pictures, tmp_path, capsys, no_memory):
    assert evaluated(pictures, report, tmp_path / "out", "--model", "--show", "0", "--anchor", "webp") == 0
    assert "at equal quality than WebP;" in capsys.readouterr().out


def test_a_missing_metric_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ssimulacra2", None)
    with pytest.raises(UsageError, match="SSIMULACRA 2 needs another package: pip install ssimulacra2"):
        EXTRA["ssimulacra2"](np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9, 3), np.uint8))


def test_times_are_split(report):
    for point in results(report)["codecs"]["tiny"]["points"]:
        for row in point["pictures"]:
            for way in ("encode", "decode"):
                parts = row[f"{way}_split"]
                assert set(parts) == {"transforms", "entropy", "file"}
                assert sum(parts.values()) == pytest.approx(row[f"{way}_s"])
                assert 0 < parts["transforms"] < row[f"{way}_s"]
                assert parts["entropy"] > 0


def test_results_say_where_they_are_from(report):
    found = results(report)
    assert found["machine"]["cores"] >= 1
    assert found["versions"]["pillow"] == found["codecs"]["jpeg"]["versions"]["pillow"]
    digest = weights.describe(report / "tiny.safetensors").digest.hex()
    assert found["codecs"]["tiny"]["weights_sha256"] == digest
    assert "data_set" not in found
    assert found["published"] == {}
    assert found["timed_with"] == [{"jobs": 2, "threads": 1}]
    assert {codec["threads"] for codec in found["codecs"].values()} == {1}
    assert found["codecs"]["tiny"]["engine"] == "torch"  # it isn't exact
    assert "torch" in found["codecs"]["tiny"]["versions"]
    assert "engine" not in found["codecs"]["jpeg"]
    assert set(found["bd_rate"]["psnr"]["jpeg"]) == {"webp"}
    assert any("tiny: no BD-rate: a curve takes two points" in text for text in found["warnings"])  # random weights
    assert "jpeg" in found["bd_rate"]["ms_ssim_db"]["webp"]


def test_it_resumes_from_the_cache(report, pictures, capsys, monkeypatch):
    before = results(report)
    measured = []
    original = measure._measured
    monkeypatch.setattr(measure, "_measured", lambda task, jobs: measured.append(task) or original(task, jobs))
    monkeypatch.setattr(measure, "_memory", None)
    assert evaluated(pictures, report, report / "out", "--show", "1") == 0
    assert results(report)["codecs"] == before["codecs"]
    assert not measured
    file = next((report / "out" / "cache" / "jpeg").glob("a-30-*.json"))
    file.write_text("{")  # as if it had been stopped while writing
    assert evaluated(pictures, report, report / "out", "--show", "1") == 0
    assert [(task.codec.name, task.setting, task.source.path.stem) for task in measured] == [("jpeg", 30, "a")]
    assert "| JPEG | " in capsys.readouterr().out


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_no_process_outlives_a_killed_evaluation(tmp_path, how):
    script = tmp_path / "eval.py"
    script.write_text(PARENT)
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen([sys.executable, script], **quiet) as parent:
        children = [int(parent.stdout.readline()) for _ in range(2)]
        assert all(Path(f"/proc/{child}").exists() for child in children)
        parent.send_signal(how)
        assert parent.wait(60) != 0
    for _ in range(600):
        if not any(running(child) for child in children):
            break
        time.sleep(0.1)
    assert not any(running(child) for child in children)


PARENT = """
import os, signal, time
from hpcm.eval.measure import spread
def work(number):
    print(os.getpid(), flush=True)
    time.sleep(600)
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background inherits another
    list(spread(work, [(0,), (1,)], 2, None))
"""


def running(process):
    """Whether a process is there and hasn't ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_results_are_read_as_they_were_written(report, tmp_path):
    read = load(report / "out")
    save_results(read, tmp_path)
    assert json.loads((tmp_path / "results.json").read_text()) == results(report)
    assert load(tmp_path) == read
    assert read.codecs["tiny"].points[0].pictures[0].encode_split.transforms > 0


@pytest.mark.parametrize(
    ("text", "message"), [(None, "is no report of"), ("{", "evaluate again"), ("[1]", "evaluate again")]
)
def test_what_is_no_report_is_refused(tmp_path, text, message):
    if text is not None:
        (tmp_path / "results.json").write_text(text)
    with pytest.raises(UsageError, match=message):
        load(tmp_path)


def test_the_report_needs_nothing_else(report):
    page = (report / "out" / "report.html").read_text()
    assert len(re.findall("<svg", page)) == 2
    assert not re.findall(r"@[A-Z]+@", page)
    loaded = re.findall(r"""(?:src|href)=["']([^"']*)""", page)
    assert all(address.startswith(("#", "data:")) for address in loaded)
    assert all((report / "out" / name).stat().st_size > 1000 for name in ("rd-psnr.png", "rd-ms-ssim.svg"))
    embedded = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])
    sizes = [version["bytes"] for version in embedded[0]["versions"]]
    assert sizes[0] is None  # the original
    assert all(size == pytest.approx(sizes[-1], rel=0.35) for size in sizes[1:])


@pytest.mark.chromium
def test_a_browser_shows_the_report(report, tmp_path):
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("no chromium")
    page = (report / "out" / "report.html").as_uri()
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
    done = subprocess.run([*command, "--dump-dom", page], capture_output=True, text=True, timeout=120)
    assert 'data-ready="1"' in done.stdout  # the script ran to its end
    assert done.stdout.count('class="compare"') == 1
    assert done.stdout.count("<option") == 2 * 4  # left and right: the original and three codecs
    screenshot = tmp_path / "page.png"
    subprocess.run([*command, "--window-size=1200,2000", f"--screenshot={screenshot}", page], check=True, timeout=120)
    pixels = np.asarray(Image.open(screenshot).convert("RGB"))
    assert pixels.shape == (2000, 1200, 3)
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 1000  # plots and photographs, no empty page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none.png"], "none.png: no such picture, or a folder without"),
        ([str(KODIM), "--codecs", "jpeg,png"], "unknown codec png: choose from jpeg"),
        ([str(KODIM), "--codecs", "jpeg", "--settings", "jpg=1"], "unknown codec jpg: choose from jpeg"),
        ([str(KODIM), "--codecs", ""], "nothing to evaluate: name codecs or models"),
        ([str(KODIM), "--model", "none.safetensors"], "no model at none.safetensors"),
    ],
)
def test_what_cannot_be_evaluated_is_said(tmp_path, capsys, words, message):
    models = [] if "--model" in words else ["--model"]
    assert cli.main(["eval", *words, "-o", str(tmp_path / "out"), *models]) == 1
    assert f"hpcm: error: {message}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# ---- pictures -------------------------------------------------------------------------------------------------------

RAMP = np.arange(64 * 64).reshape(64, 64) % 256  # every value of 8 bits
WIDE = Image.fromarray((RAMP * 257).astype(np.uint16))
COLOUR = Image.merge("RGB", [Image.fromarray(plane.astype(np.uint8)) for plane in (RAMP, RAMP.T, 255 - RAMP)])


def turned(image):
    """A picture that lies on its side, and says so."""
    exif = Image.Exif()
    exif[0x0112] = 8
    file = io.BytesIO()
    image.transpose(Image.Transpose.ROTATE_270).save(file, "TIFF", exif=exif)
    return Image.open(file)


@pytest.mark.parametrize(
    ("image", "suffix", "expected"),
    [
        (WIDE, "png", RAMP),
        (WIDE.convert("I"), "tif", RAMP),
        (Image.fromarray(RAMP.astype(np.uint8)), "png", RAMP),
        (Image.fromarray(RAMP > 99), "png", 255 * (RAMP > 99)),
        (Image.fromarray(RAMP.astype(np.uint8)).convert("P"), "png", RAMP),
        (COLOUR, "png", np.asarray(COLOUR)),
        (COLOUR.convert("RGBA"), "png", np.asarray(COLOUR)),
        (Image.fromarray(RAMP.astype(np.uint8)).convert("LA"), "png", RAMP),
        (turned(COLOUR), "png", np.asarray(COLOUR)),
    ],
    ids=["16 bits", "I", "L", "1", "P", "RGB", "opaque RGBA", "opaque LA", "turned"],
)
def test_pictures_are_read_as_the_codec_reads_them(tmp_path, image, suffix, expected):
    file = tmp_path / f"a.{suffix}"
    image.save(file, **({"exif": image.getexif()} if image.getexif() else {}))
    expected = expected if expected.ndim == 3 else np.dstack([expected] * 3)
    assert np.array_equal(measure.read_pixels(file), expected)
    kept = read_picture(file.read_bytes()).pixels  # by the codec
    assert kept.shape[:2] == expected.shape[:2]
    kept = kept // 257 if kept.dtype == np.uint16 else kept
    assert np.array_equal(kept, expected if kept.ndim == 3 else expected[..., 0])


def clear(mode):
    image = COLOUR.convert(mode)
    image.putalpha(Image.fromarray(RAMP.astype(np.uint8)))
    return image


@pytest.mark.parametrize(
    ("image", "suffix", "message"),
    [
        (clear("RGB"), "png", "it is transparent, and only opaque pictures can be compared"),
        (clear("L"), "png", "it is transparent, and only opaque pictures can be compared"),
        (
            Image.fromarray((RAMP * 70_000).astype(np.int32)),
            "tif",
            "the picture has grey values below 0 or above 65,535: .*",
        ),
        (Image.fromarray(RAMP.astype(np.float32)), "tif", "pictures of mode F can't be coded: .*"),
        (None, "png", "it is no picture that Pillow can read"),
    ],
)
def test_a_picture_that_cannot_be_compared_is_one_line(tmp_path, capsys, image, suffix, message):
    file = tmp_path / f"a.{suffix}"
    file.write_text("no picture") if image is None else image.save(file)
    assert cli.main(["eval", str(file), "-o", str(tmp_path / "out"), "--codecs", "jpeg", "--model"]) == 1
    assert re.fullmatch(f"hpcm: error: {re.escape(str(file))}: {message}\n", capsys.readouterr().err)


READERS = ("src/hpcm/eval", "experiments", "tools", "benchmarks", "examples")  # folders of scripts that read pictures


def test_nothing_reads_pictures_by_another_path():
    """Scripts and evaluation read with `read_pixels`; only decoded files of conventional codecs are known to be RGB."""
    root = Path(__file__).parents[1]
    files = [p for folder in READERS for p in (root / folder).glob("*.py")]
    assert len(files) > 30
    others = {p.name for p in files if '.convert("RGB")' in p.read_text()}
    assert others == {"baselines.py"}


# ---- threads and engines --------------------------------------------------------------------------------------------


SLOW = [pytest.param("avif-slow", marks=pytest.mark.slow)]  # two seconds, however small the picture is


@pytest.mark.parametrize("name", [*(name for name in BASELINES if name != "avif-slow"), *SLOW])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_codec_keeps_no_more_cores_busy_than_it_has_threads(name, threads):
    """The processor's seconds are at most those that went by, times the threads, however busy the machine is."""
    try:
        codec = open_codec(CodecSpec(name, threads=threads))
    except UsageError as missing:
        pytest.skip(str(missing))
    assert codec.threads in (1, threads)
    image = Image.open(KODIM).convert("RGB").crop((0, 0, 192, 128))
    setting = codec.settings[len(codec.settings) // 2]
    data, encode_s, encode_cpu_s = measure.timed(lambda: codec.compress(image, setting))
    _, decode_s, decode_cpu_s = measure.timed(lambda: codec.decompress(data))
    assert too_busy(timed_codec(name, threads, (encode_s, decode_s), (encode_cpu_s, decode_cpu_s))) == []


def timed_codec(label, threads, seconds, cpu_seconds):
    """A codec that was measured on one picture with these seconds of encoding and decoding."""
    measured = Measurement("a", 1, 1.0, 30.0, None, *seconds, *cpu_seconds, jobs=1)
    return CodecResult(label, "", {}, threads, [Point.of(50, [measured])])


def test_codecs_are_told_their_threads(monkeypatch, program):
    told = []
    rgb = Image.new("RGB", (64, 64))
    fake = {
        "jpegxl_encode": lambda pixels, **options: told.append(options["numthreads"]) or b"",
        "jpegxl_decode": lambda data, **options: told.append(options["numthreads"]) or np.asarray(rgb),
    }
    monkeypatch.setitem(sys.modules, "imagecodecs", SimpleNamespace(**fake))
    jxl = BASELINES["jxl"](threads=3)
    jxl.decompress(jxl.compress(rgb, 1))
    assert told == [3, 3]

    monkeypatch.setattr(
        baselines, "saved", lambda image, format_, **options: told.append(options["max_threads"]) or b""
    )
    monkeypatch.setattr(baselines, "opened", lambda data: told.append(AvifImagePlugin.DEFAULT_MAX_THREADS) or rgb)
    for name in ("avif", "avif-slow", "avif-420", "avif-ssim", "avif-iq"):
        avif = BASELINES[name](threads=3)
        avif.decompress(avif.compress(rgb, 50))
    assert told == [3] * 12
    assert AvifImagePlugin.DEFAULT_MAX_THREADS == 0

    heif = SimpleNamespace(options=SimpleNamespace(DECODE_THREADS=4))
    heif.save = lambda file, *, enc_params, **_: told.append(enc_params["x265:pools"])
    heif.from_pillow = lambda image: heif
    heif.open_heif = lambda file: told.append(heif.options.DECODE_THREADS) or heif
    heif.to_pillow = lambda: rgb
    monkeypatch.setitem(sys.modules, "pillow_heif", heif)
    for threads in (1, 3):
        heic = BASELINES["heic"](threads=threads)
        heic.decompress(heic.compress(rgb, 50))
    assert told[12:] == ["none", 1, "3", 3]

    for name in ("vvencapp", "vvdecapp"):
        program(name, "sys.exit('told ' + sys.argv[sys.argv.index('-t') + 1])")
    for work in (lambda codec: codec.compress(rgb, 30), lambda codec: codec.decompress(b"")):
        with pytest.raises(UsageError, match="told 3"):
            work(BASELINES["vvenc"](threads=3))


def test_the_engine_gets_its_threads_and_is_part_of_the_key(tmp_path):
    found = weights.find("nano")
    source = measure.read_source(KODIM)
    keys, given = [], []
    before = torch.get_num_threads()
    try:
        for engine, threads in (("auto", 1), ("auto", 2), ("torch", 1), ("torch", 2)):
            spec = CodecSpec("nano", str(found.path), found.digest.hex(), engine=engine, threads=threads)
            codec, described = open_codec(spec), measure.describe(spec)
            package = engine_of(codec.codec)
            assert (described.engine, described.threads, next(iter(described.versions))) == (
                package,
                threads,
                package,
            )
            assert torch.get_num_threads() == threads
            given.append((package, threads))
            keys.append(Task(spec, 50, source).file(tmp_path))
    finally:
        torch.set_num_threads(before)
    assert len(set(keys)) == len(set(given))
    avif = [Task(CodecSpec("avif", threads=threads), 30, source).file(tmp_path) for threads in (1, 2)]
    assert avif[0] != avif[1]
    jpeg = [Task(CodecSpec("jpeg", threads=threads), 30, source).file(tmp_path) for threads in (1, 2)]
    assert jpeg[0] == jpeg[1]  # it can't use more than one


def test_a_codec_that_took_more_threads_is_told():
    seconds, cpu_seconds = (1.0, 1.0), (1.9, 1.7)
    warnings = too_busy(timed_codec("AVIF", 1, seconds, cpu_seconds))
    assert warnings == ["AVIF kept 1.8 cores busy: its times aren't of 1 thread"]
    assert too_busy(timed_codec("AVIF", 2, seconds, cpu_seconds)) == []


def loaders(path):
    """What loads a model in a file; others have functions of their own called `load`."""
    text = path.read_text()
    own = {"load": "from ..codec.api import", "Codec": "from ..codec.codec import"}
    return {"hpcm.load", "HpcmCodec", *(name for name, line in own.items() if line in text)}


def test_models_are_loaded_with_a_number_of_threads_wherever_times_are_taken():
    """`hpcm.load` without it takes every core, whatever OMP_NUM_THREADS says."""
    root = Path(__file__).parents[1]
    files = [
        p for folder in ("src/hpcm/eval", "experiments", "tools", "benchmarks") for p in (root / folder).glob("*.py")
    ]
    timing = [p for p in files if re.search("perf_counter|process_time|_timed", p.read_text())]
    assert len(timing) > 10
    bare = []
    for path in timing:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in loaders(path):
                given = {keyword.arg for keyword in node.keywords} | {ast.unparse(argument) for argument in node.args}
                bare += [f"{path.name}:{node.lineno}"] if not given & {"threads", None} else []
    assert bare == []


# ---- conventional codecs --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BASELINES)
def test_codecs_there_and_back(name):
    try:
        codec = open_codec(CodecSpec(name))
    except UsageError as missing:
        pytest.skip(str(missing))
    image = Image.open(KODIM).convert("RGB").crop((100, 100, 195, 177))
    ends = codec.scale[0], codec.scale[-1]
    small, large = (codec.compress(image, setting) for setting in ends)
    assert len(small) < len(large) / 3
    low, high = (np.asarray(codec.decompress(data)).astype(float) - np.asarray(image) for data in (small, large))
    assert low.shape == (77, 95, 3)
    assert (high**2).mean() < min((low**2).mean() / 4, 40)
    assert set(codec.libraries) <= measure.versions().keys() | {"jpegxl", "libheif"}
    assert len(codec.settings) >= 6


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    with pytest.raises(UsageError, match=r"JPEG XL needs another package: pip install 'hpcm-codec\[eval\]'"):
        BASELINES["jxl"]()


def test_programs_are_used_if_present(program):
    """Stand-ins for programs: cjpeg keeps the picture, VVenC its planes."""
    with pytest.raises(UsageError, match="VVenC needs its program vvencapp"):
        BASELINES["vvenc"]()
    program("cjpeg", "print('libjpeg-turbo version 3')")
    with pytest.raises(UsageError, match="mozjpeg needs its own cjpeg"):
        BASELINES["mozjpeg"]()
    baselines.program_version.cache_clear()
    program("cjpeg", "sys.stdout.buffer.write(sys.stdin.buffer.read() or b'mozjpeg version 4')")
    named = "given = dict(zip(sys.argv[1::2], sys.argv[2::2]))\n"
    size = "(given['-s'].encode() + b' ')"
    program("vvencapp", named + f"open(given['-o'], 'wb').write({size} + open(given['-i'], 'rb').read())")
    read = "size, _, planes = open(given['-b'], 'rb').read().partition(b' ')\nwidth, height = size.split(b'x')\n"
    header = "b'YUV4MPEG2 W%s H%s F1:1 C420p10\\nFRAME\\n' % (width, height)"
    program("vvdecapp", named + read + f"open(given['-o'], 'wb').write({header} + planes)")
    image = Image.open(KODIM).convert("RGB").crop((0, 0, 96, 64))
    for name, error in (("mozjpeg", 0), ("vvenc", 20)):  # 4:2:0 costs
        codec = BASELINES[name]()
        difference = np.asarray(codec.decompress(codec.compress(image, 30))).astype(float) - np.asarray(image)
        assert (difference**2).mean() <= error
    program("cjpeg", "print('mozjpeg' if len(sys.argv) < 3 else '', file=sys.stderr)\nsys.exit(len(sys.argv) > 2)")
    with pytest.raises(UsageError, match="cjpeg failed with exit code 1"):
        BASELINES["mozjpeg"]().compress(image, 30)


def test_yuv_there_and_back():
    ramp = np.linspace(0, 255, 64).astype(np.uint8)
    grey = np.repeat(np.repeat(ramp[None, :, None], 32, 0), 3, 2)
    colour = np.tile(np.array([200, 30, 90], np.uint8), (32, 64, 1))
    for picture in (grey, colour):
        y4m = b"YUV4MPEG2 W64 H32 F1:1 Ip C420p10 XYSCSS=420P10\nFRAME\n" + yuv.from_rgb(picture)
        assert np.abs(yuv.to_rgb(y4m).astype(int) - picture).max() <= 1
    with pytest.raises(PictureError, match="even sides only"):
        yuv.from_rgb(grey[:31])
    with pytest.raises(PictureError, match="no Y4M"):
        yuv.to_rgb(b"YUV4MPEG2 W64 H32 C444\n")
