"""The scripts in experiments/ and tools/ that make tables and documents, on made-up results."""

import importlib
import json
import math
import os
import re
import runpy
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hpcm.cli.commands import parser
from hpcm.cli.train import training_options
from hpcm.eval.anchors import published
from hpcm.eval.comparison import compared
from hpcm.eval.datasets import DataSet
from hpcm.eval.machine import Machine
from hpcm.eval.results import CodecResult, Measurement, PictureInfo, Point, Results, TimedWith, load, save
from hpcm.model.config import NANO
from hpcm.nn.hpcm import HPCM
from hpcm.nn.rate import bits
from hpcm.train.options import config_of, defaults

ROOT = Path(__file__).resolve().parents[1]

pytest.importorskip("bjontegaard")


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Runs a script in a copy of the documents."""
    for folder in ("experiments", "tools"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("out"))
    (tmp_path / "docs").mkdir()
    for name in ("README.md", "docs/results.md"):
        (tmp_path / name).write_text("before\n<!-- results -->\nold\n<!-- /results -->\nafter\n")

    def run(name, *words):
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        runpy.run_path(str(tmp_path / name), run_name="__main__")

    return run


@pytest.fixture
def report(tmp_path):
    """Made-up results over Kodak's pictures: JPEG, and three models of one rate each."""

    pictures = [PictureInfo(f"kodim{k:02}", 768, 512, str(k)) for k in range(1, 25)]

    def point(setting, bpp, psnr):
        how = {"encode_s": 0.1, "decode_s": 0.2, "encode_cpu_s": 0.1, "decode_cpu_s": 0.2, "jobs": 1, "ms_ssim": None}
        return Point.of(setting, [Measurement(p.name, round(bpp * 49152), bpp, psnr, **how) for p in pictures])

    how = {"threads": 2, "versions": {"pillow": "13"}}
    jpeg = [point(q, 0.1 * 2**q, 24 + 3 * q) for q in range(5)]
    codecs = {"jpeg": CodecResult("JPEG", "4:2:0", points=jpeg, **how)}
    for k, bpp in enumerate((0.1, 0.3, 0.9)):
        points = [point(1, bpp, 29 + 4 * k)]
        codecs[f"base-{k}"] = CodecResult(f"hpcm base-{k}", f"model base-{k}", points=points, engine="hpcm", **how)
    results = Results(
        date="2026-01-02T03:04:05+00:00",
        commit=None,
        machine=Machine("a processor", cores=2, system="Linux", python="3.11"),
        versions={"hpcm": "0.3"},
        options={},
        timed_with=[TimedWith(jobs=1, threads=2)],
        pictures=pictures,
        data_set=DataSet("kodak", "Kodak", 24, "hashes of the pixels right", right=[p.name for p in pictures]),
        codecs=codecs,
        published={"kodak/vtm": published()["kodak/vtm"]},
    )
    save(compared(results), tmp_path)
    return tmp_path


def with_points(codec, **changed):
    """A codec whose measurements are changed by functions of their values."""

    def one(m):
        return replace(m, **{name: change(getattr(m, name)) for name, change in changed.items()})

    return replace(codec, points=[Point.of(p.setting, [one(m) for m in p.pictures]) for p in codec.points])


def test_update_docs(script, report):
    script("tools/update_docs.py", report)
    for name in ("README.md", "docs/results.md"):
        text = (report / name).read_text()
        assert text.startswith(
            "before\n<!-- results -->\n| codec | PSNR at 0.5 bpp | BD-rate by PSNR | encode | decode |"
        )
        assert text.endswith("\n<!-- /results -->\nafter\n")
        assert "Kodak, 24 of 24 pictures, hashes of the pixels right. Quality is at 0.5 bits per pixel; PSNR" in text
        assert "BD-rate is how many more or fewer bytes" in text
        assert "2026-01-02, a processor, 2 cores, Python 3.11, hpcm 0.3, commit unknown" in text
        assert "; each codec timed with 2 threads, one picture at a time." in text
    assert "<svg" in (report / "docs" / "results.svg").read_text()
    assert "- JPEG: 4:2:0, 2 threads; pillow 13\n- hpcm base-0: model base-0, hpcm, 2 threads; pillow 13" in text
    script("tools/update_docs.py", report)  # again, over its own work
    assert (report / "docs" / "results.md").read_text() == text
    (report / "README.md").write_text("no marks")
    with pytest.raises(SystemExit, match="has no lines <!-- results -->"):
        script("tools/update_docs.py", report)


def with_others(measurement):
    """With an MS-SSIM in dB that is half of its PSNR, and a SSIMULACRA 2 that is twice that."""
    psnr = measurement.psnr
    return replace(measurement, ms_ssim=1 - 10 ** (-psnr / 20), ssimulacra2=2 * psnr)


def test_the_summary_has_each_metric_that_was_measured(script, report):
    """Quality at a rate, then BD-rate against AVIF as Pillow tunes it, where that was measured."""
    results = load(report)
    better = with_points(results.codecs["jpeg"], bpp=lambda bpp: 0.8 * bpp)
    codecs = {"jpeg": results.codecs["jpeg"], "avif": better, "avif-iq": replace(better, label="AVIF of the eye")}
    for name, codec in codecs.items():
        points = [Point.of(p.setting, [with_others(m) for m in p.pictures]) for p in codec.points]
        codecs[name] = replace(codec, points=points)
    save(compared(replace(results, codecs=codecs)), report)
    script("tools/update_docs.py", report)
    readme, details = (report / "README.md").read_text(), (report / "docs" / "results.md").read_text()
    heads, _, jpeg, avif, *_ = [line.strip("| ").split(" | ") for line in readme.splitlines() if line.startswith("| ")]
    assert heads[:4] == ["codec", "PSNR at 0.5 bpp", "MS-SSIM", "SSIMULACRA 2"]
    assert heads[4:] == ["BD-rate by PSNR", "by MS-SSIM", "by SSIMULACRA 2", "encode", "decode"]
    assert jpeg == ["JPEG", "30.97 dB", "15.48 dB", "61.9", "+25.0%", "+25.0%", "+25.0%", "0.100 s", "0.200 s"]
    assert avif[4:7] == ["+0.0%"] * 3
    assert "bytes a codec needs at equal quality than AVIF of the eye; !" in readme
    for text in ("| codec | SSIMULACRA 2 at 0.25 bpp | SSIMULACRA 2 at 0.5 bpp |", "### BD-rate by MS-SSIM"):
        assert text in details


def test_update_docs_of_two_reports(script, report, tmp_path):
    results = load(report)
    jpeg = results.codecs["jpeg"]
    models = {name: codec for name, codec in results.codecs.items() if name != "jpeg"}
    slow = replace(with_points(jpeg, bpp=lambda bpp: 0.8 * bpp), label="slow JPEG")
    save(replace(results, codecs={**models, "slow": slow}), report)
    first = replace(results, codecs={"jpeg": jpeg})
    save(first, tmp_path / "first")
    script("tools/update_docs.py", tmp_path / "first", report)
    lines = [line.split(" | ") for line in (report / "README.md").read_text().splitlines() if line.startswith("| ")]
    rows = {line[0].strip("| "): line for line in lines}
    assert list(rows)[2:4] == ["JPEG", "hpcm base-0"]
    assert rows["slow JPEG"][2].startswith("-20.0%")
    save(replace(first, pictures=[replace(p, hash="another") for p in first.pictures]), tmp_path / "first")
    with pytest.raises(SystemExit, match="different pictures"):
        script("tools/update_docs.py", tmp_path / "first", report)


def test_update_docs_with_times_of_another_report(script, report, tmp_path):
    """Fewer pictures and settings, one at a time: the caption says so. Of another version they aren't taken."""
    results = replace(load(report), timed_with=[TimedWith(jobs=2, threads=2)])
    save(results, report)
    codecs = {}
    for name, codec in results.codecs.items():
        codecs[name] = replace(
            codec, points=[replace(codec.points[0], encode_s=7.0, pictures=codec.points[0].pictures[:3])], peak_mib=99
        )
    quick = replace(results, codecs=codecs, pictures=results.pictures[:3], timed_with=[TimedWith(jobs=1, threads=2)])
    save(quick, tmp_path / "quick")
    script("tools/update_docs.py", report, "--times", tmp_path / "quick")
    text = (report / "docs" / "results.md").read_text()
    assert "each codec timed with 2 threads, one picture at a time, 3 of the pictures." in text
    assert "| JPEG | 24.00 dB" not in text  # rates are those of all pictures and settings
    assert all(" | 7.000 s | 0.200 s |" in line for line in text.splitlines()[2:6] if line.startswith("| JPEG"))
    assert "| JPEG | 0 | 7000.0 ms |  | 200.0 ms |  | 99 MiB |" in text
    codecs["jpeg"] = replace(codecs["jpeg"], versions={"pillow": "14"})
    save(replace(quick, codecs=codecs), tmp_path / "quick")
    with pytest.raises(SystemExit, match=r"the times are of another jpeg: versions is \{'pillow': '14'\} instead of"):
        script("tools/update_docs.py", report, "--times", tmp_path / "quick")


def test_rd_table(script, report, capsys):
    script("tools/rd_table.py", report)
    lines = capsys.readouterr().out.splitlines()
    assert "| HPCM-Large | -19.19% | -19.95% | VTM-22.0, README of LIC-HPCM |" in lines
    assert "| HPCM-Base |  | -16.02% | arXiv 2507.19125 |" in lines
    (ours,) = (line for line in lines if line.startswith("| base |"))  # the three checkpoints are one curve
    assert "a curve has only 3 points" in ours


def test_efforts(script, report, monkeypatch):
    monkeypatch.syspath_prepend(report / "tools")
    results = load(report)
    codecs = dict(results.codecs)
    for name, share in (("nano-4", 1.0), ("nano-4-e9", 0.9)):
        slower = with_points(codecs["jpeg"], bpp=lambda bpp, s=share: s * bpp, encode_s=lambda t, s=share: t / s**9)
        codecs[name] = replace(slower, label=name)
    save(compared(replace(results, codecs=codecs, published={}, options={"qualities": [20, 70]})), report)
    (report / "docs" / "effort.md").write_text("before\n<!-- results -->\nold\n<!-- /results -->\nafter\n")
    script("tools/efforts.py", report)
    lines = (report / "docs" / "effort.md").read_text().splitlines()
    assert lines[4] == "| nano-4 | 9 | 64 | -10.0% | - | 0.3 s | 3 |"
    assert lines[6].startswith("Kodak's 24 pictures at qualities 20, 70; 2026-01-02, a processor, 2 cores")


@pytest.mark.slow
def test_complexity(script, capsys):
    script("experiments/complexity.py")
    out = capsys.readouterr().out
    assert "| HPCM-Base | 68.505 | 68.505 | 911.84 | 918.57 | 918.57 | 63% |" in out
    assert "| NANO (ours) | 1.999 |" in out


@pytest.fixture
def experiment(monkeypatch):
    """Imports a module of experiments/."""
    monkeypatch.syspath_prepend(ROOT / "experiments")
    return importlib.import_module


@pytest.mark.slow
def test_compare(script, experiment, tmp_path, capsys):
    """Two variants; what was measured is taken up when the command is given again."""
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for k in range(3):
        pixels = np.random.default_rng(k).integers(0, 256, (17, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((192, 136), Image.Resampling.BICUBIC).save(photographs / f"{k}.png")
    words = ["gains", photographs / "0.png", "--data", photographs, "--steps", "1", "--out", tmp_path / "out"]
    for _ in range(2):
        script("experiments/compare.py", *words)
        times = [path.stat().st_mtime_ns for path in sorted((tmp_path / "out").iterdir())]
        assert len(times) == 2
    assert times == [path.stat().st_mtime_ns for path in sorted((tmp_path / "out").iterdir())]
    printed = capsys.readouterr().out
    rows = [line.split(" | ") for line in printed.splitlines() if line.startswith("| ")]
    assert [row[0] for row in rows[-2:]] == ["| paired", "| separate"]


def test_summaries_of_compare(experiment):
    """Within two standard errors, of seeds and pictures together, there is no conclusion."""
    summary = experiment("compare").summary
    seeds, pictures = np.array([[-1.0], [0.0], [1.0]]), np.array([[-0.5, 0.5]])
    error = math.hypot(1 / math.sqrt(3), 0.5)
    for middle, verdict in ((2.1, "more bits"), (-2.1, "fewer bits"), (1.9, "no conclusion")):
        rates = middle * error + seeds + pictures
        assert summary(rates) == (f"{middle * error:+.2f} ± {error:.2f}%", verdict)
    assert summary(np.array([[3.0, 4.0]])) == ("+3.50%", "no conclusion")


@pytest.mark.parametrize("name", ["Haar", "LappedCells", "LappedLatents", "LevelPrior", "RoundedRate"])
def test_changed_networks_begin_as_the_model(experiment, name):
    variants = experiment("variants")
    torch.manual_seed(0)
    model = HPCM(replace(NANO, name="compared")).eval()
    x, level = torch.rand(2, 3, 128, 64), torch.tensor([3.0, 50.0])
    with torch.no_grad():
        before = model(x, level)
        changed = getattr(variants, name)(model.config)
        changed.load_state_dict(model.state_dict(), strict=False)
        if hasattr(changed, "take"):
            changed.take(model)
        after = changed.eval()(x, level)
    assert torch.allclose(before["x_hat"], after["x_hat"], atol=1e-4)
    for latent in ("y", "z"):
        rate, other = (bits(out["likelihoods"][latent]) for out in (before, after))
        assert float(other) == pytest.approx(float(rate), rel=1e-3)


@pytest.mark.slow
def test_weaknesses(script, tmp_path, capsys):
    script("experiments/weaknesses.py", ROOT / "tests" / "data" / "kodim23.png", "-o", tmp_path / "weaknesses.png")
    with Image.open(tmp_path / "weaknesses.png") as shown:
        assert shown.size == (576, 576)
    lines = capsys.readouterr().out.splitlines()
    rates = [[float(cell.split()[0]) for cell in line.strip("| ").split(" | ")[1:]] for line in lines[2:]]
    assert [line.split()[1] for line in lines[2:]] == ["grain", "text", "screenshot"]
    assert all(theirs <= ours for ours, theirs in rates)


@pytest.mark.slow
def test_readme_picture(script, tmp_path, capsys):
    """AVIF gets no fewer bytes than the models."""
    output = tmp_path / "readme.webp"
    script("tools/readme_picture.py", ROOT / "tests" / "data" / "kodim23.png", "-o", output)
    with Image.open(output) as shown:
        assert shown.size == (1304, 376)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("  ")[0] for line in lines] == ["AVIF", "hpcm lite-mse", "hpcm lite"]
    sizes = [int(re.search(r"([\d,]+) bytes", line)[1].replace(",", "")) for line in lines]
    assert sizes[0] >= sizes[2]


@pytest.mark.slow
def test_scaling(script, tmp_path, capsys, monkeypatch):
    """A size is trained once, and shown beside the law."""
    monkeypatch.syspath_prepend(tmp_path / "experiments")
    for folder, count in (("photos", 2), ("held-out", 1)):
        (tmp_path / folder).mkdir()
        for k in range(count):
            pixels = np.random.default_rng(k).integers(0, 256, (10, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((96, 80), Image.Resampling.BICUBIC).save(tmp_path / folder / f"{k}.png")
    losses = tmp_path / "out" / "losses.jsonl"
    words = ["--photos", tmp_path / "photos", "--held-out", tmp_path / "held-out"]
    words += ["--only", "nano", "--steps", 1, "--batch", 5, "--crop", 64]
    for _ in range(2):
        script("experiments/scaling.py", "train", tmp_path / "out", *words)
    (row,) = (json.loads(line) for line in losses.read_text().splitlines())
    assert (row["name"], row["steps"], row["crop"]) == ("nano", 1, 64)
    assert row["loss"] > 0
    script("experiments/scaling.py", "fit", tmp_path / "out", "--figure", tmp_path / "figure.png")
    assert "| nano | 16.2 | 0 (not fitted) | " in capsys.readouterr().out
    with Image.open(tmp_path / "figure.png") as figure:
        assert figure.width > 500


def test_a_law_is_found_again(script, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    scaling = importlib.import_module("scaling")
    law = scaling.Law(A=0.6, alpha=0.1, B=0.9, beta=0.3)
    runs = [
        {"kmacs": kmacs, "megapixels": megapixels, "loss": float(law(kmacs, megapixels))}
        for kmacs in (16, 40, 90)
        for megapixels in (2e3, 1e4, 5e4)
    ]
    found = scaling.fitted(runs)
    assert np.allclose([found.A, found.alpha, found.B, found.beta], [0.6, 0.1, 0.9, 0.3], rtol=1e-3)
    off = [scaling.fitted(scaling.MEASURED)(row["kmacs"], row["megapixels"]) / row["loss"] for row in scaling.MEASURED]
    assert np.allclose(off, 1, atol=0.002)


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
@pytest.mark.parametrize("size", ["small", "full"])
def test_the_commands_of_the_reproduction_parse(tmp_path, size):
    """In order, with paths that have spaces, and with the options that the weights' provenance tells of."""
    photos, out, log = tmp_path / "my photos", tmp_path / "out", tmp_path / "log"
    photos.mkdir()
    for k in range(25):
        (photos / f"{k:02}.jpg").touch()
    recorder = tmp_path / "record.py"
    recorder.write_text(f"import json, sys; print(json.dumps(sys.argv[1:]), file=open({str(log)!r}, 'a'))")
    line = [ROOT / "experiments" / "reproduce.sh", size, photos, tmp_path / "kodak", out, tmp_path / "screens"]
    environment = os.environ | {"HPCM": f"{sys.executable} {recorder}"}
    subprocess.run(list(map(str, line)), env=environment, check=True)
    training, exact, evaluation = (parser().parse_args(json.loads(command)) for command in log.read_text().splitlines())
    options = training_options(training)
    assert config_of(options).name == "nano"
    assert training.out == exact.model
    assert exact.pictures == [str(photos / f"{k:02}.jpg") for k in range(20)]
    assert evaluation.model == [exact.output, "nano"]
    if size == "full":
        assert (options.batch, options.crop, options.decay, options.mix) == (64, 256, 1.0, (0.85, 0.15))
        defaults_of_nano = defaults(NANO)
        for name in ("optimizer", "rate", "warmup", "schedule", "clip", "balance", "average"):
            assert getattr(options, name) == getattr(defaults_of_nano, name), name


@pytest.mark.parametrize(
    ("percents", "says"),
    [
        ([2.0, 2.4, 2.2], ("+2.20 ± 0.12%", "more bits")),
        ([-2.0, -2.4, -2.2], ("-2.20 ± 0.12%", "fewer bits")),
        ([1.0, -1.0, 0.3], ("+0.10 ± 0.59%", "no conclusion")),
        ([2.0], ("+2.00%", "no conclusion")),
        ([], ("-", "no conclusion")),
    ],
)
def test_ablations_within_two_standard_errors_are_no_conclusion(percents, says):
    module = runpy.run_path(str(ROOT / "experiments" / "ablations.py"))
    assert module["summary"](percents) == says
