"""A loss of one's own: from the command line to a model that compresses; and what is refused."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import hpcm
from conftest import TINY, TINY_BASE
from hpcm import cli
from hpcm.errors import UsageError
from hpcm.model.config import MODELS
from hpcm.nn.weights import save
from hpcm.train import checkpoint, run, watch
from hpcm.train.loop import train
from hpcm.train.loss import rate_distortion
from hpcm.train.options import Options
from hpcm.train.own_loss import OwnLoss, load
from pictures import photographs

OPTIONS = Options(config=TINY, crop=64, batch=2, warmup=2, precision="float32", evaluate=0)
MINE = """
import torch

def squared(x_hat, x):
    return 255**2 * (x_hat - x).square().mean((1, 2, 3))

def of_the_batch(x_hat, x):
    return 255**2 * (x_hat - x).square().mean()

def rounded(x_hat, x):
    return (x_hat - x).round().detach().square().mean()

def a_map(x_hat, x):
    return (x_hat - x).square()

def a_number(x_hat, x):
    return 1.0

def a_wave(x_hat, x):
    return torch.fft.fft2(x_hat - x).mean((1, 2, 3))

def of_steps(x_hat, x):
    return (255 * x_hat).round().sub(255 * x).square().mean((1, 2, 3))

def of_itself(x_hat, x):
    return net.weight * (x_hat.detach() - x).square().mean((1, 2, 3))

def of_a_root(x_hat, x):
    return (x_hat - x).square().mean((1, 2, 3)) + (0 * x_hat).sum((1, 2, 3)).sqrt()

def of_one(x_hat):
    return x_hat.mean()

def of_two(x_hat, x):
    return (x_hat - x).square().reshape(2, -1).mean(1)

def in_place(x_hat, x):
    return 255**2 * x_hat.sub_(x).square_().mean((1, 2, 3))

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Conv2d(3, 4, 3)
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, x_hat, x):
        return (self.layer(x_hat) - self.layer(x)).abs().mean((1, 2, 3))

net = Net()
"""


@pytest.fixture(autouse=True)
def _surroundings(tiny, monkeypatch, tmp_path, one_thread):
    monkeypatch.setitem(MODELS, "tiny", tiny)
    monkeypatch.setattr(watch, "LOG_EVERY", 1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "mine.py").write_text(MINE)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return photographs(tmp_path_factory.mktemp("photographs"), 4)


def silent(_):
    pass


def losses(folder):
    return [(row["step"], row["loss"], row["bpp"], row["mse"]) for row in watch.read_log(Path(folder) / watch.LOG)]


@pytest.mark.parametrize("config", [TINY, replace(TINY_BASE, windows=(1, 2, 2))], ids=["tiny", "tiny-base"])
@pytest.mark.parametrize("function", ["squared", "of_the_batch", "in_place"])
def test_the_squared_error_of_ones_own_trains_as_hpcms(data, config, function):
    """Also given as one number for a batch, whose pictures have lambdas of their own."""
    options = replace(OPTIONS, config=config, balance=0.5, lmbda=0.013 if config.levels == 1 else None)
    train(options, [data], "theirs", steps=2, say=silent)
    train(options, [data], "own", steps=2, say=silent, own_loss=load(f"mine.py:{function}"))
    for own, theirs in zip(losses("own"), losses("theirs"), strict=True):
        assert own == pytest.approx(theirs, rel=1e-4)


def test_from_the_command_line_and_again(data, capsys):
    line = ["train", "--config", "tiny", "--data", str(data), "--out", "run", "--crop", "64", "--batch", "2"]
    line += ["--precision", "float32", "--evaluate", "0", "--optimizer", "adam"]
    assert cli.main([*line, "--loss", "mine.py:net", "--steps", "1"]) == 0
    assert "loss: lambda * mine.py:net + bits per pixel" in capsys.readouterr().out
    assert '"loss": "mine.py:net"' in Path("run/options.json").read_text()
    capsys.readouterr()
    assert cli.main([*line, "--resume", "--steps", "2"]) == 1
    assert "isn't loaded from a run's folder: give it again, --loss mine.py:net" in capsys.readouterr().err
    assert cli.main([*line, "--resume", "--steps", "2", "--loss", "mine.py:net"]) == 0
    assert checkpoint.read(Path("run"))["position"]["step"] == 2
    assert all(name != "layer.weight" for name in checkpoint.read(Path("run"))["model"])
    assert hpcm.load("run/model.safetensors").weights.provenance["loss"] == "mine.py:net"


def test_a_checkpoint_brings_no_code(data, monkeypatch):
    """Not even where its options name a file that is there."""
    train(OPTIONS, [data], "run", steps=1, say=silent, own_loss=load("mine.py:squared"))
    monkeypatch.setattr("importlib.util.spec_from_file_location", lambda *_: pytest.fail("code was loaded"))
    with pytest.raises(UsageError, match="code of your own"):
        train(replace(OPTIONS, loss="mine.py:squared"), [data], "run", steps=2, say=silent, resume=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mine.py:rounded", "mine.py:rounded has no gradient"),
        (
            "mine.py:a_map",
            r"mine.py:a_map gives a tensor \[2, 3, 64, 64\] for 2 pictures: it must be \[2\], or a scalar",
        ),
        ("mine.py:a_number", "mine.py:a_number gives a float for 2 pictures"),
        ("mine.py:a_wave", "mine.py:a_wave gives complex numbers for 2 pictures"),
        ("mine.py:of_steps", "mine.py:of_steps has a gradient of zero: rounding has none"),
        ("mine.py:of_itself", "mine.py:of_itself has no gradient: nothing that it gives depends on x_hat"),
        ("mine.py:of_a_root", "mine.py:of_a_root has a gradient that isn't finite"),
        ("mine.py:of_one", "mine.py:of_one must take x_hat and x: too many positional arguments"),
        ("mine.py:Net", "mine.py:Net is a class: name a function, or an object that was made of the class"),
        ("mine.py:sharp", "mine.py has no function 'sharp'; it has squared, of_the_batch"),
        ("yours.py:sharp", "there is no file yours.py"),
        ("mine:squared", "there is no module 'mine': for a file write mine.py"),
        ("no.such.module:squared", "there is no module 'no.such.module': it must be installed, or a FILE.py"),
    ],
)
def test_what_is_no_loss_is_refused_before_training(data, name, message):
    with pytest.raises(UsageError, match=message):
        train(OPTIONS, [data], "run", steps=1, say=silent, own_loss=load(name))
    assert not Path("run").exists()


def test_what_a_file_imports_and_is_missing_is_named():
    Path("mine.py").write_text("import no_such_package\n")
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        load("mine.py:squared")


def test_a_file_imports_its_neighbours_and_has_dataclasses(data):
    """As if Python ran the file; and it may have the name of what it imports."""
    folder = Path("losses")
    folder.mkdir()
    (folder / "weighted_error.py").write_text(
        "def weighted(x_hat, x, w): return w * (x_hat - x).abs().mean((1, 2, 3))\n"
    )
    (folder / "json.py").write_text(
        "from __future__ import annotations\n"
        "import json\n"
        "from dataclasses import dataclass\n"
        "from weighted_error import weighted\n"
        "@dataclass\n"
        "class Weighted:\n"
        "    weight: float = json.loads('255')\n"
        "    def __call__(self, x_hat, x):\n"
        "        return weighted(x_hat, x, self.weight)\n"
        "loss = Weighted()\n"
    )
    train(OPTIONS, [data], "run", steps=1, say=silent, own_loss=load("losses/json.py:loss"))
    assert losses("run")


def test_what_suits_the_trial_and_no_other_batch(data):
    """A function that gives two numbers whatever the batch."""
    with pytest.raises(UsageError, match=r"gives a tensor \[2\] for 3 pictures: it must be \[3\], or a scalar"):
        train(replace(OPTIONS, batch=3), [data], "run", steps=1, say=silent, own_loss=load("mine.py:of_two"))


def test_one_quality_level_needs_a_lambda(data):
    """A configuration's own is of the mean squared error."""
    options = replace(OPTIONS, config=replace(TINY_BASE, windows=(1, 2, 2)))
    with pytest.raises(UsageError, match=r"mine.py:squared has a unit of its own: give --lambda X, its weight"):
        train(options, [data], "run", steps=1, say=silent, own_loss=load("mine.py:squared"))


def test_words_that_are_no_loss(capsys):
    for word in ("mae", ":f", "mine.py:", "mine.py:2"):
        with pytest.raises(SystemExit):
            cli.main(["train", "--data", "a", "--out", "b", "--steps", "1", "--loss", word])
        assert "is none of mse, ms-ssim, mixed, ssimulacra2, and no FILE.py:FUNCTION" in capsys.readouterr().err


def test_names_of_functions():
    assert OwnLoss(torch.nn.functional.l1_loss).name == "torch.nn.functional:l1_loss"
    assert OwnLoss(torch.nn.L1Loss()).name == "torch.nn.modules.loss:L1Loss"
    assert load("torch.nn.functional:l1_loss").function is torch.nn.functional.l1_loss


def test_each_picture_has_its_own_lambda():
    """Where a function gives one number for a batch, too."""
    x = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    x_hat = x * torch.tensor([0.9, 0.5, 0.1])[:, None, None, None]
    weight = torch.tensor([0.1, 1.0, 10.0])
    own = OwnLoss(torch.nn.functional.l1_loss)
    own.prepare(64, torch.device("cpu"), levels=64)
    found = rate_distortion(x, x_hat, {}, weight, own).total
    assert float(found) == pytest.approx(float((weight * (x_hat - x).abs().mean((1, 2, 3))).mean()))


def test_a_loss_that_no_graph_can_hold(data, monkeypatch):
    """Such as one that waits for the GPU."""

    def fail(*_):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(run, "_check", lambda *_: None)
    monkeypatch.setattr(run, "StepGraph", fail)
    with pytest.raises(
        UsageError, match=r"--graph can't record a step with --loss mine.py:squared: operation .* capturing$"
    ):
        train(replace(OPTIONS, graph=True), [data], "run", steps=1, say=silent, own_loss=load("mine.py:squared"))


def test_effort_knows_no_loss_of_ones_own(tiny, build):
    """A model trained for it is searched for no other loss."""
    model = build(tiny)
    save(model, Path("own.safetensors"), {"loss": "mine.py:squared"})
    picture = Image.fromarray(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(UsageError, match=r"tiny was trained for mine.py:squared, which isn't in its file"):
        hpcm.load(Path("own.safetensors")).compress(picture, effort=1)
