"""`hpcm train` on the command line: every option is there and arrives."""

import contextlib
import json
import re
from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hpcm import cli
from hpcm.model.config import BASE, LITE, NANO, Config
from hpcm.model.variants import changed
from hpcm.nn.hpcm import HPCM
from hpcm.nn.weights import save
from hpcm.train import loop, watch
from hpcm.train.options import Options, defaults, remember


@pytest.fixture
def asked(monkeypatch):
    """What the training loop is called with."""
    calls = []
    monkeypatch.setattr(loop, "train", lambda *line, **options: calls.append((line, options)))
    monkeypatch.setattr("hpcm.cli.train.keep_pages", lambda: None)
    return calls


def train(line):
    return cli.main(["train", *line.split()])


def test_options_arrive(asked):
    assert train("--data a b.tar --out c --minutes 2 --rate 3e-4 --precision bf16") == 0
    (((options, data, folder), rest),) = asked
    assert options == replace(defaults(NANO), rate=3e-4, precision="bf16")
    assert (data, folder, rest) == (
        [["a", "b.tar"]],
        "c",
        {"minutes": 2.0, "steps": None, "until": None, "resume": False, "force": False, "own_loss": None},
    )
    train("--data a b --data c --mix 0.85 0.15 --out d --steps 2")
    (options, data, _), _ = asked[-1]
    assert (options.mix, data) == ((0.85, 0.15), [["a", "b"], ["c"]])
    train("--data a b --data c --out d --steps 2")
    assert asked[-1][0][1] == [["a", "b", "c"]]
    for flag in ("-f", "--force"):
        train(f"--data a --out c --steps 2 {flag}")
        assert asked[-1][1]["force"]


@pytest.mark.parametrize("zone", ["+00:00", "Z"])
def test_a_deadline_is_a_moment(asked, zone):
    assert train(f"--data a --out c --until 2030-01-31T18:30{zone} --rescan 5") == 0
    (((options, *_), rest),) = asked
    assert rest["until"] == 1896114600
    assert options.rescan == 5


def test_a_deadline_without_a_zone_is_local(asked):
    train("--data a --out c --until 2030-01-31T18:30")
    assert asked[0][1]["until"] == datetime(2030, 1, 31, 18, 30).timestamp()


@pytest.mark.parametrize("word", ["18:30", "soon", "99999-01-01", "2030-02-30"])
def test_what_is_no_moment(asked, capsys, word):
    with pytest.raises(SystemExit):
        train(f"--data a --out c --until {word}")
    assert "is no time, such as 2030-01-31T18:30" in capsys.readouterr().err
    assert not asked


def test_defaults_depend_on_the_model(asked, tmp_path, tiny):
    train("--config base --lambda 0.025 --data a --out c --steps 9")
    torch.manual_seed(0)
    save(HPCM(tiny), tmp_path / "mine.safetensors", {})
    train(f"--init {tmp_path}/mine.safetensors --data a --out c --steps 9")
    (((base, *_), _), ((tuned, *_), _)) = asked
    assert base == replace(defaults(BASE), lmbda=0.025)
    assert tuned == replace(defaults(tiny, fine_tuning=True), init=f"{tmp_path}/mine.safetensors")


def test_a_resumed_run_keeps_its_options(asked, tmp_path):
    remember(Options(LITE, batch=3, rate=1e-4, mix=(3.0, 1.0)), tmp_path)
    train(f"--resume --data a --out {tmp_path} --steps 9 --rate 5e-5")
    train(f"--resume --data a --out {tmp_path}/none --steps 9")
    kept = Options(LITE, batch=3, rate=5e-5, mix=(3.0, 1.0))
    assert [line[0] for line, _ in asked] == [kept, defaults(NANO)]
    (tmp_path / "options.json").write_text("{")
    assert train(f"--resume --data a --out {tmp_path} --steps 9") == 1


def test_configurations_arrive(asked, tmp_path):
    (tmp_path / "mine.json").write_text('{"base": "lite", "steps": [2, 3, 12], "name": "mine"}')
    train("--data a --out c --steps 9 --set steps=2,3,3 fusion=none --set levels=8")
    train(f"--data a --out c --steps 9 --config {tmp_path}/mine.json --set hierarchy=false")
    train("--data a --out c --steps 9 --config base --set prior_fine.before=1 --lambda 0.05")
    configs = [line[0].config for line, _ in asked]
    assert configs[0] == changed(NANO, ["steps=2,3,3", "fusion=none", "levels=8"])
    assert configs[1] == replace(LITE, steps=(2, 3, 12), hierarchy=False, name="mine-hierarchy-false")
    assert configs[2] == changed(BASE, ["prior_fine.before=1"])
    assert asked[2][0][0] == replace(defaults(configs[2]), lmbda=0.05)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--config nanno", "there is no configuration 'nanno': did you mean nano?"),
        ("--set step=2", "there is no field step: did you mean steps?"),
        ("--set carrier=float32 --set steps=1,1", "Config.steps is (1, 1)"),
        ("--schedule cosine --decay 0.5", "--decay has no effect, as the schedule cosine has none: leave it out"),
        ("--config base --decay 0.5", "--decay has no effect, as the schedule published has none"),
        ("--config base --balance 0.5", "--balance has no effect, as base has one quality level"),
        ("--held-out b --evaluate 0", "--held-out has no effect, as nothing is evaluated with --evaluate 0"),
        ("--resume --init lite", "--init has no effect, as the run that is resumed has weights already"),
        ("--resume --set steps=2,3,12", "the run trains nano (nano), not nano-steps-2.3.12 (nano with steps=2,3,12)"),
        ("--resume --config lite", "the run trains nano (nano), not lite (lite): leave out --config and --set"),
    ],
)
def test_what_cannot_be_meant_is_refused(asked, capsys, tmp_path, line, message):
    remember(defaults(NANO), tmp_path)
    assert train(f"--data a --out {tmp_path} --steps 9 {line}") == 1
    assert message in capsys.readouterr().err
    assert not asked


def test_an_ablation_from_training_to_files(capsys, tmp_path, monkeypatch, tiny):
    """A model of one's own configuration is trained, resumed, told, made exact and used like any other."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for k in range(4):
        pixels = np.random.default_rng(k).integers(0, 256, (9, 10, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((100, 90), Image.Resampling.BICUBIC).save(f"photos/{k}.png")
    Path("tiny.json").write_text(json.dumps(tiny.to_dict()))
    change = "--set steps=2,3,12 hierarchy=false name=mine"
    line = "--data photos --out runs/mine --threads 1 --precision float32 --evaluate 0"
    assert train(f"--config tiny.json {change} {line} --crop 64 --batch 1 --steps 1") == 0
    assert train(f"--resume {line} --steps 2") == 0
    assert train(f"--resume --config tiny.json {change} {line} --steps 3") == 0
    expected = replace(tiny, steps=(2, 3, 12), hierarchy=False, name="mine")
    assert Config.from_dict(json.loads(Path("runs/mine/model.json").read_text())) == expected
    assert train(f"--config runs/mine/model.json {line.replace('runs/mine', 'runs/again')} --crop 64 --steps 1") == 0
    monkeypatch.setenv("HPCM_WEIGHTS", str(tmp_path / "weights"))
    Path("weights").mkdir()
    assert cli.main(["exact", "./runs/mine", "photos/0.png", "-o", "weights/mine.safetensors"]) == 0
    assert cli.main(["compress", "photos/1.png", "--model", "mine", "--quality", "50"]) == 0
    assert cli.main(["decompress", "photos/1.hpcm", "-o", "back.png"]) == 0
    with Image.open("back.png") as back:
        assert back.size == (100, 90)
    for model in ("runs/mine", "mine", "weights/mine.safetensors"):
        capsys.readouterr()
        assert cli.main(["info", model]) == 0
        assert "steps=2,3,12 hierarchy=false" in capsys.readouterr().out
        assert cli.main(["info", model, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["name"] == "mine"
    assert cli.main(["info", "photos/1.hpcm"]) == 0
    assert "model    mine, hash" in capsys.readouterr().out


def test_every_option_is_there(capsys):
    with contextlib.suppress(SystemExit):
        cli.main(["train", "--help"])
    told = set(re.findall(r"--([a-z0-9-]+)", capsys.readouterr().out))
    assert "set" in told
    names = {"lambda" if field.name == "lmbda" else field.name.replace("_", "-") for field in fields(Options)}
    assert names <= told


def test_plot(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(watch, "plot", lambda folder: folder / "curves.png")
    assert cli.main(["train", "--plot", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"{tmp_path} -> {tmp_path}/curves.png\n"


@pytest.mark.parametrize(
    ("line", "missing"),
    [("", "--data DIR|TAR... and --out RUN"), ("--out a", "--data DIR|TAR..."), ("--data a", "--out RUN")],
)
def test_data_and_a_folder_are_needed(capsys, line, missing):
    with pytest.raises(SystemExit) as stopped:
        train(f"--steps 3 --resume {line}")
    assert stopped.value.code == 2
    assert capsys.readouterr().err.endswith(f"hpcm train: error: training needs {missing}\n")
