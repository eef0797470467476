"""`hpcm train` on the command line: every option is there and arrives."""

import contextlib
import re
from dataclasses import fields, replace

import pytest
import torch

from hpcm import cli
from hpcm.model.config import BASE, LITE, NANO
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
        ["a", "b.tar"],
        "c",
        {"minutes": 2.0, "steps": None, "resume": False, "force": False},
    )
    train("--data a b --data c --mix 0.85 0.15 --out d --steps 2")
    (options, data, _), _ = asked[-1]
    assert (options.mix, data) == ((0.85, 0.15), [["a", "b"], ["c"]])
    train("--data a b --data c --out d --steps 2")
    assert asked[-1][0][1] == ["a", "b", "c"]
    for flag in ("-f", "--force"):
        train(f"--data a --out c --steps 2 {flag}")
        assert asked[-1][1]["force"]


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


def test_every_option_is_there(capsys):
    with contextlib.suppress(SystemExit):
        cli.main(["train", "--help"])
    told = set(re.findall(r"--([a-z0-9-]+)", capsys.readouterr().out))
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
