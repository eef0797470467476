"""Training parts of a model (--train, --freeze), and models whose synthesis alone differs."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import hpcm
from conftest import TINY
from hpcm import cli
from hpcm.errors import MismatchError, UsageError
from hpcm.format.container import unpack
from hpcm.model.config import MODELS
from hpcm.model.find import find
from hpcm.nn.hpcm import HPCM
from hpcm.nn.weights import load_model, save
from hpcm.train import checkpoint
from hpcm.train.loop import train
from hpcm.train.options import Options
from hpcm.train.own_loss import load
from hpcm.train.parts import PARTS, train_only, trained

OPTIONS = Options(config=TINY, crop=64, batch=2, warmup=1, rate=1e-3, precision="float32", evaluate=0, decay=0.0)


@pytest.fixture(autouse=True)
def _surroundings(tiny, monkeypatch, tmp_path, one_thread):
    monkeypatch.setitem(MODELS, "tiny", tiny)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HPCM_WEIGHTS", str(tmp_path / "models"))


def photograph(side=192) -> Image.Image:
    return (
        Image.open(Path(__file__).parent / "data" / "kodim23.png").convert("RGB").crop((130, 90, 130 + side, 90 + side))
    )


@pytest.fixture
def data(tmp_path) -> Path:
    (tmp_path / "photos").mkdir()
    for k, angle in enumerate((0, 90, 180)):
        photograph().rotate(angle).save(tmp_path / "photos" / f"{k}.png")
    return tmp_path / "photos"


@pytest.fixture
def first(tiny, build, data) -> Path:
    """An exact model that is installed, first-1."""
    path = Path("models") / "first.safetensors"
    path.parent.mkdir()
    hpcm.save_exact(build(tiny), path, [data / "0.png"], name="first-1")
    return path


def command(line):
    return cli.main(line.split())


def silent(_):
    pass


def changed(before: HPCM, after: HPCM) -> set[str]:
    """The modules and parameters of which something differs."""
    other = after.state_dict()
    return {
        name.partition(".")[0] for name, value in before.state_dict().items() if not torch.equal(value, other[name])
    }


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
@pytest.mark.parametrize(
    ("parts", "modules"),
    [
        ({"train": ("synthesis",)}, {"g_s"}),
        ({"train": ("z_means", "h_a")}, {"z_means", "h_a"}),
        ({"freeze": ("encoder", "synthesis")}, set(PARTS["entropy_model"]) - {"fusions", "context_nets"}),
    ],
)
def test_only_these_parts_change(first, data, optimizer, parts, modules):
    options = replace(OPTIONS, init=str(first), optimizer=optimizer, **parts)
    begun, said = hpcm.load_model(first), []
    run = train(options, [data], "run", steps=2, say=said.append)
    count = sum(value.numel() for name, value in begun.named_parameters() if name.partition(".")[0] in modules)
    assert f"{count:,} of {sum(value.numel() for value in begun.parameters()):,} parameters are trained" in said[1]
    assert changed(begun, run.model) == modules
    assert changed(begun, run.average) == modules
    assert {name.partition(".")[0] for name in trained(run.model)} == modules
    count = sum(len(group["params"]) for group in run.optimizer.param_groups)
    assert count == len(trained(run.model))


def test_every_parameter_is_of_a_part(tiny, tiny_base, tiny_1b):
    for config in (tiny, tiny_base, tiny_1b):
        names = {name.partition(".")[0] for name, _ in HPCM(config).named_parameters()}
        assert names <= {module for modules in PARTS.values() for module in modules}


def test_a_run_goes_on_with_the_same_parts(first, data):
    options = replace(OPTIONS, init=str(first), train=("synthesis",), optimizer="muon")
    train(options, [data], "straight", steps=3, say=silent)
    for steps in (1, 3):
        train(options, [data], "stopped", steps=steps, say=silent, resume=True)
    straight, stopped = (checkpoint.read(Path(name)) for name in ("straight", "stopped"))
    for name, value in straight["model"].items():
        assert torch.equal(value, stopped["model"][name]), name
    for other in ({"train": ()}, {"train": ("analysis",)}, {"train": (), "freeze": ("encoder",)}):
        with pytest.raises(UsageError, match="other parts of the model: leave out --train and --freeze"):
            train(replace(options, **other), [data], "stopped", steps=4, say=silent, resume=True)


def test_what_is_refused(tiny, data, first):
    model = HPCM(tiny)
    with pytest.raises(
        UsageError, match=r"no part 'decoder'; it has analysis, synthesis, .*, and its modules adaptors, g"
    ):
        train_only(model, ["decoder"], [])
    with pytest.raises(UsageError, match="nothing is left to train"):
        train_only(model, [], ["encoder", "entropy_model", "synthesis"])
    with pytest.raises(UsageError, match="--train and --freeze exclude one another"):
        train_only(model, ["encoder"], ["synthesis"])
    with pytest.raises(UsageError, match="--train and --freeze need --init"):
        train(replace(OPTIONS, train=("synthesis",)), [data], "run", steps=1, say=silent)


def test_another_synthesis_reads_the_old_files(first, data, capsys):
    """From the command line: the symbols are those of the first model to the bit, the pixels aren't."""
    picture = photograph()
    old = hpcm.load("first-1").compress(picture, quality=60)
    Path("old.hpcm").write_bytes(old)
    line = "train --init first-1 --train synthesis --data photos --out run --steps 3 --crop 64 --batch 2 --rate 1e-2"
    assert cli.main([*line.split(), "--precision", "float32", "--evaluate", "0", "--threads", "1"]) == 0
    capsys.readouterr()
    assert command("exact run/model.safetensors photos/0.png --name second-1 -o second.safetensors") == 0
    assert "it reads the files of first-1" in capsys.readouterr().out
    first_model, second = load_model(find("first-1")).model, load_model(find("second.safetensors")).model
    assert changed(first_model, second) == {"g_s"}
    assert command("decompress old.hpcm --model second.safetensors -o new.png") == 0
    new, before = np.array(Image.open("new.png")).astype(int), np.array(hpcm.decompress(old)).astype(int)
    assert np.abs(new - before).max() > 0
    latents = [hpcm.latents(old, model=model) for model in ("first-1", "second.safetensors")]
    assert np.array_equal(latents[0].y_hat, latents[1].y_hat)

    own = hpcm.load("second.safetensors").compress(picture, quality=60)
    payloads = [[part for tile in unpack(data).tiles for part in tile] for data in (old, own)]
    assert payloads[0] == payloads[1]
    assert unpack(own).model == "second-1"
    with pytest.raises(MismatchError, match="made with model 'second-1'"):
        hpcm.load("first-1").decompress(own)

    lossless = hpcm.load("first-1").compress(picture, lossless=True, quality=60)
    with pytest.raises(MismatchError, match="residual layer is beside pixels of first-1, which second-1 doesn't make"):
        hpcm.load("second.safetensors").decompress(lossless)
    assert np.array_equal(np.array(hpcm.load("second.safetensors").decompress(lossless, scale=3)), new)


def test_a_synthesis_of_a_synthesis(first, data):
    """Trained further, it still reads the files of the first one, and those alone."""
    for k, begin in ((1, "first-1"), (2, "s1.safetensors")):
        options = replace(OPTIONS, init=begin, train=("g_s",))
        train(options, [data], f"run{k}", steps=1, say=silent)
        assert (
            cli.main(
                ["exact", f"run{k}/model.safetensors", "photos/0.png", "--name", f"s{k}", "-o", f"s{k}.safetensors"]
            )
            == 0
        )
    hashes = [find(name).hash for name in ("first-1", "s1.safetensors", "s2.safetensors")]
    assert [find("s2.safetensors").reads(one) for one in hashes] == [True, False, True]
    assert not find("run2/model.safetensors").reads(hashes[0])  # it isn't exact


def test_a_model_whose_other_parts_were_trained_keeps_no_symbols(first, data, capsys):
    train(replace(OPTIONS, init="first-1", freeze=("encoder",)), [data], "run", steps=1, say=silent)
    assert command("exact run/model.safetensors photos/0.png --name other -o other.safetensors") == 0
    assert "it reads" not in capsys.readouterr().out
    assert not find("other.safetensors").reads(find("first-1").hash)
    assert command("exact run/model.safetensors photos/0.png --name o -o o.safetensors --synthesis-of first-1") == 1
    assert "more than the synthesis was trained" in capsys.readouterr().err


def test_an_origin_that_is_not_installed_is_named(first, data, capsys):
    train(replace(OPTIONS, init="first-1", train=("synthesis",)), [data], "run", steps=1, say=silent)
    first.rename("elsewhere.safetensors")
    line = "exact run/model.safetensors photos/0.png --name second-1 -o second.safetensors"
    assert command(line) == 1
    assert "which isn't installed: name its weights file with --synthesis-of PATH" in capsys.readouterr().err
    assert command(f"{line} --synthesis-of elsewhere.safetensors") == 0


def test_a_model_of_other_weights_is_still_refused(first, tiny, data):
    torch.manual_seed(5)
    save(HPCM(tiny), Path("other.safetensors"), {})
    data = hpcm.load("first-1").compress(photograph(), quality=60)
    with pytest.raises(MismatchError, match="made with model 'first-1'"):
        hpcm.load("other.safetensors").decompress(data)


def two_processes(out, *line):
    """A run by two processes with half the batch of one."""
    environment = {**os.environ, "PYTHONPATH": str(Path(hpcm.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "hpcm"]
    command += ["train", "--init", "first-1", "--data", "photos", "--out", out, "--crop", "64", "--batch", "1"]
    command += ["--threads", "1", "--precision", "float32", "--evaluate", "0", "--steps", "2", *line]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("how", [[], pytest.param(["--fsdp"], marks=pytest.mark.slow)], ids=["ddp", "fsdp"])
def test_two_processes_with_a_loss_of_ones_own(first, data, how, monkeypatch):
    """Each loads the function itself; what is frozen stays, and one process goes on with what two wrote."""
    monkeypatch.setattr(sys, "path", [*sys.path])  # a loss's folder is appended
    Path("mine.py").write_text("def error(x_hat, x):\n    return 255 * (x_hat - x).abs().mean((1, 2, 3))\n")
    two_processes("two", "--loss", "mine.py:error", "--train", "synthesis", *how)
    state = checkpoint.read(Path("two"))
    assert all(name.startswith("g_s.") for name in state["trained"])
    begun = hpcm.load_model("first-1").state_dict()
    assert {name.partition(".")[0] for name, v in state["model"].items() if not torch.equal(v, begun[name])} == {"g_s"}
    assert len(state["optimizer"]["state"]) == len(state["trained"])
    options = replace(OPTIONS, init="first-1", train=("synthesis",), accumulate=2, batch=1)
    train(options, [data], "two", steps=3, say=silent, resume=True, own_loss=load("mine.py:error"))
    assert checkpoint.read(Path("two"))["position"]["step"] == 3
