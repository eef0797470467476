"""Training runs: interrupted, killed, resumed, fine-tuned, by several processes; all on tiny models."""

import contextlib
import gc
import json
import math
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
import time
import weakref
from dataclasses import replace
from itertools import count
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

import hpcm
from conftest import TINY, TINY_BASE
from hpcm.errors import PictureError, TrainingError, UsageError, WeightsError
from hpcm.model import find as weights
from hpcm.model.config import NANO
from hpcm.nn import estimating
from hpcm.nn.exact.make_exact import make_exact, make_floating
from hpcm.nn.hpcm import HPCM
from hpcm.nn.rate import bits
from hpcm.nn.weights import load_model, save
from hpcm.train import checkpoint, device, loop, run, watch
from hpcm.train.data import Photographs
from hpcm.train.loop import train
from hpcm.train.options import FORMULAS, Options, config_at, config_of, defaults, learning_rate, remembered
from hpcm.train.team import join
from pictures import photographs

OPTIONS = Options(config=TINY, crop=64, batch=2, warmup=2, precision="float32", evaluate=0)


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch, one_thread):
    """Every step is logged."""
    monkeypatch.setattr(watch, "LOG_EVERY", 1)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A folder of 20 small pictures with some structure."""
    return photographs(tmp_path_factory.mktemp("photographs"), 20)


@pytest.fixture
def init(tiny, tmp_path) -> Path:
    """A weights file of a tiny model."""
    torch.manual_seed(0)
    save(HPCM(tiny), tmp_path / "tiny.safetensors", {})
    return tmp_path / "tiny.safetensors"


def silent(_):
    pass


class Stop(Exception):
    pass


def stopping(step):
    """A `say` that stops a run after a step, between two checkpoints or not."""

    def say(text):
        if text.startswith(f"step {step} "):
            raise Stop

    return say


def losses(folder):
    return [(row["step"], row["loss"], row["bpp"], row["mse"]) for row in watch.read_log(folder / watch.LOG)]


def parameters(folder):
    state = checkpoint.read(folder)
    optimizer = {f"{k}.{name}": value for k, s in state["optimizer"]["state"].items() for name, value in s.items()}
    return {**state["model"], **{f"average.{k}": v for k, v in state["average"].items()}, **optimizer}


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


# ---- stopped and resumed --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        OPTIONS,
        replace(OPTIONS, accumulate=2, memory=2e-4, schedule="cosine", downscale=0.8),
        replace(OPTIONS, recompute=True, precision="bf16"),
        replace(OPTIONS, optimizer="muon", balance=0.5),
    ],
    ids=["plain", "in-chapters", "recomputed", "muon"],
)
def test_resumed_equals_uninterrupted(data, tmp_path, options):
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    train(options, [data], straight, steps=4, say=silent)
    with pytest.raises(Stop):
        train(replace(options, save=1e-9), [data], stopped, steps=4, say=stopping(3))
    assert checkpoint.read(stopped)["position"]["step"] == 2
    assert remembered(stopped).memory == options.memory
    train(options, [data], stopped, steps=4, say=silent, resume=True)
    assert losses(straight) == losses(stopped)
    assert [step for step, *_ in losses(stopped)] == [1, 2, 3, 4]
    assert_equal(parameters(straight), parameters(stopped))


def test_a_log_line_spans_an_interruption(data, tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "LOG_EVERY", 3)
    options = replace(OPTIONS, save=1e-9)
    train(options, [data], tmp_path / "a", steps=3, say=silent)
    for steps in (2, 3):
        train(replace(options, decay=0.0), [data], tmp_path / "b", steps=steps, say=silent, resume=True)
    train(replace(options, decay=0.0), [data], tmp_path / "c", steps=3, say=silent)
    assert losses(tmp_path / "b") == losses(tmp_path / "c")


def command(*line):
    return [sys.executable, "-m", "hpcm", "train", *map(str, line), "--crop", 64, "--batch", 2, "--threads", 1]


def environment():
    source = str(Path(hpcm.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def start(line):
    line = [str(word) for word in [*line, "--precision", "float32", "--evaluate", 0]]
    return subprocess.Popen(line, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(path, process, seconds=120):
    end = time.monotonic() + seconds
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, f"no {path} after {seconds} s"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed(data, init, tmp_path, number):
    """Some time after its first checkpoint; it saves after each of more steps than anyone waits for."""
    line = command("--data", data, "--init", init, "--steps", 10**6, "--decay", 0, "--warmup", 2, "--save", 1e-9)
    process = start([*line, "--out", tmp_path / "run"])
    wait_for(tmp_path / "run" / "checkpoint.pt", process)
    process.send_signal(number)
    process.communicate(timeout=120)
    assert process.returncode == (143 if number == signal.SIGTERM else -number)
    step = checkpoint.read(tmp_path / "run")["position"]["step"]
    assert step > 0
    options = replace(remembered(tmp_path / "run"), save=3.0)
    train(options, [data], tmp_path / "run", steps=step + 2, say=silent, resume=True)
    train(options, [data], tmp_path / "straight", steps=step + 2, say=silent)
    assert_equal(parameters(tmp_path / "run"), parameters(tmp_path / "straight"))


def test_a_checkpoint_that_does_not_say_its_model_is_refused(data, tmp_path):
    folder = tmp_path / "run"
    train(OPTIONS, [data], folder, steps=1, say=silent)
    state = checkpoint.read(folder)
    del state["config"]
    checkpoint.write(state, folder)
    with pytest.raises(TrainingError, match="the checkpoint's model is unknown to this hpcm: 'config'"):
        train(OPTIONS, [data], folder, steps=2, say=silent, resume=True)


def test_a_run_is_not_overwritten_or_mixed_up(data, tmp_path):
    train(OPTIONS, [data], tmp_path / "run", steps=1, say=silent)
    with pytest.raises(UsageError, match="go on with --resume, start anew with -f, or choose another --out"):
        train(OPTIONS, [data], tmp_path / "run", steps=2, say=silent)
    with pytest.raises(
        UsageError, match=r"the run trains tiny \(nano with .*\), not nano \(nano\): leave out --config"
    ):
        train(replace(OPTIONS, config=NANO), [data], tmp_path / "run", steps=2, say=silent, resume=True)
    with pytest.raises(UsageError, match="trained with another optimizer: leave out --optimizer muon"):
        train(replace(OPTIONS, optimizer="muon"), [data], tmp_path / "run", steps=2, say=silent, resume=True)
    (tmp_path / "run" / checkpoint.FILE).write_bytes(b"no checkpoint")
    with pytest.raises(TrainingError, match=r"checkpoint.pt is no checkpoint, or a damaged one"):
        train(OPTIONS, [data], tmp_path / "run", steps=2, say=silent, resume=True)


# ---- steps ----------------------------------------------------------------------------------------------------------


def failing(monkeypatch, fails):
    """Makes the loss infinite where `fails` says so of the number of the call."""
    real, calls = run.rate_distortion, count(1)

    def rate_distortion(*args):
        loss = real(*args)
        return loss._replace(total=loss.total / 0) if fails(next(calls)) else loss

    monkeypatch.setattr(run, "rate_distortion", rate_distortion)


def test_non_finite_steps_change_nothing(data, tmp_path, monkeypatch):
    sound = train(OPTIONS, [data], tmp_path / "run", steps=2, say=silent)
    before = parameters(tmp_path / "run")
    with monkeypatch.context() as patch:
        failing(patch, lambda call: call == 1)
        train(OPTIONS, [data], tmp_path / "run", steps=3, say=silent, resume=True)
    after = parameters(tmp_path / "run")
    assert checkpoint.read(tmp_path / "run")["position"]["skipped"] == 1
    for name in after:
        if not name.startswith("average."):  # it goes on to approach the weights
            assert torch.equal(after[name], before[name]), name
    assert int(sound.skipped) == 0


def test_it_stops_after_so_many_non_finite_steps(data, tmp_path, monkeypatch):
    """Whatever is due meanwhile, the checkpoint from before stays, and the run goes on from it."""
    monkeypatch.setattr(run, "MAX_SKIPPED", 17)
    train(OPTIONS, [data], tmp_path / "run", steps=2, say=silent)
    before = {name: (tmp_path / "run" / name).read_bytes() for name in (checkpoint.FILE, weights.RUN_WEIGHTS)}
    said = []
    with monkeypatch.context() as patch:
        failing(patch, lambda _: True)
        advice = "resume with a lower --rate, from the checkpoint of step 2"
        with pytest.raises(TrainingError, match=f"17 steps in a row had a gradient that isn't finite: {advice}"):
            train(replace(OPTIONS, save=1e-9), [data], tmp_path / "run", steps=100, say=said.append, resume=True)
        with pytest.raises(TrainingError, match=f"the gradient isn't finite after step 5: {advice}"):
            train(OPTIONS, [data], tmp_path / "run", steps=5, say=silent, resume=True)
        with pytest.raises(TrainingError, match="isn't finite after step 3: begin again with a lower --rate"):
            train(OPTIONS, [data], tmp_path / "new", steps=3, say=silent)
    assert "the gradient isn't finite after step 3, which is not saved" in said
    assert before == {name: (tmp_path / "run" / name).read_bytes() for name in before}
    assert not (tmp_path / "new" / weights.RUN_WEIGHTS).exists()
    assert math.isnan(watch.read_log(tmp_path / "new" / watch.LOG)[-1]["loss"])
    assert train(OPTIONS, [data], tmp_path / "run", steps=4, say=silent, resume=True).step == 4


def test_weights_that_explode_are_not_saved(data, tmp_path):
    """A learning rate that is far too high breaks the weights in a step whose gradient is finite."""
    train(OPTIONS, [data], tmp_path / "run", steps=1, say=silent)
    options = replace(OPTIONS, rate=1e20, clip=1e30, save=1e-9)
    with pytest.raises(TrainingError, match="resume with a lower --rate, from the checkpoint of step 1"):
        train(options, [data], tmp_path / "run", steps=3, say=silent, resume=True)
    model = load_model(weights.find(tmp_path / "run")).model
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
    assert train(OPTIONS, [data], tmp_path / "run", steps=3, say=silent, resume=True).step == 3


def test_a_loss_that_is_not_a_number_is_skipped_and_not_logged(data, tmp_path):
    """NaN goes through the whole network and its likelihoods."""
    begun = train(OPTIONS, [data], tmp_path / "run", steps=1, say=silent)
    with torch.no_grad():
        begun.model.z_means.fill_(float("nan"))
    begun.learn(1e-5)
    assert int(begun.skipped) == 1
    assert torch.isfinite(begun.totals).all()


def test_what_has_trained_leaves_memory_at_once(data, tmp_path):
    """With its pictures, a gigabyte as a rule. A run that refers to itself would wait for Python's collector."""
    gc.disable()
    try:
        pictures = weakref.ref(train(OPTIONS, [data], tmp_path / "run", steps=1, say=silent).photographs)
        assert pictures() is None
    finally:
        gc.enable()


def test_a_short_run_logs_its_last_steps(data, tmp_path, monkeypatch):
    """The line goes when the run goes on."""
    monkeypatch.setattr(watch, "LOG_EVERY", 100)
    said = []
    train(OPTIONS, [data], tmp_path / "run", steps=2, say=said.append)
    (row,) = watch.read_log(tmp_path / "run" / watch.LOG)
    assert (row["step"], row["end"]) == (2, True)
    assert any(line.startswith(f"step 2  loss {row['loss']:.4f}") for line in said)
    for steps in (2, 1):
        train(OPTIONS, [data], tmp_path / "run", steps=steps, say=said.append, resume=True)
        assert said[-1] == "no step was taken: the run is at step 2"
        assert losses(tmp_path / "run") == [(2, row["loss"], row["bpp"], row["mse"])]
    train(OPTIONS, [data], tmp_path / "run", steps=3, say=silent, resume=True)
    assert [row["step"] for row in watch.read_log(tmp_path / "run" / watch.LOG)] == [3]


def test_held_out_pictures_are_others(data, tmp_path):
    """What is in the data is refused, also behind links; what has no pictures is, too."""
    some = tmp_path / "some"
    some.mkdir()
    shutil.copy(data / "03.png", some / "copy.png")
    (some / "link.png").symlink_to(data / "05.png")
    (tmp_path / "link").symlink_to(data)
    (tmp_path / "list.txt").write_text(str(data / "05.png"))
    (tmp_path / "empty").mkdir()
    for held_out, share in ((data, "20 of 20"), (tmp_path / "link", "20 of 20"), (some, "1 of 2")):
        with pytest.raises(UsageError, match=f"{share} pictures of --held-out are in --data, too, such as"):
            train(replace(OPTIONS, held_out=str(held_out)), [data], tmp_path / "run", steps=1, say=silent)
    with pytest.raises(UsageError, match="1 of 1 pictures of --held-out are in --data"):
        train(replace(OPTIONS, held_out=str(data / "05.png")), [tmp_path / "list.txt"], tmp_path / "run", steps=1)
    with pytest.raises(PictureError, match=r"no picture of at least 1 x 1 pixels found in .*empty; skipped 0 files"):
        train(replace(OPTIONS, held_out=str(tmp_path / "empty")), [data], tmp_path / "run", steps=1, say=silent)
    assert not (tmp_path / "run").exists()
    (some / "link.png").unlink()
    (some / "wrong.png").write_text("no picture")
    said = []
    train(replace(OPTIONS, held_out=str(some)), [data], tmp_path / "run", steps=1, say=said.append)
    path = tmp_path / "run" / watch.SKIPPED
    assert said[0] == f"20 pictures (0.00 GB), 1 held out, 1 files skipped ({path} says why)"
    assert watch.read_log(path) == [{"file": str(some / "wrong.png"), "why": "it is no picture that Pillow can read"}]


def test_a_measured_precision_stays(data, tmp_path, monkeypatch):
    """What was faster when the run began decides for good."""
    monkeypatch.setattr(device, "matrix_peak", lambda _, bf16: 2.0 if bf16 else 1.0)
    train(replace(OPTIONS, precision="auto"), [data], tmp_path / "run", steps=1, say=silent)
    monkeypatch.setattr(device, "matrix_peak", lambda _, bf16: 1.0)
    options = remembered(tmp_path / "run")
    assert train(options, [data], tmp_path / "run", steps=2, say=silent, resume=True).bf16


def test_an_average_of_the_weights(data, tmp_path):
    trained = train(replace(OPTIONS, average=0.0), [data], tmp_path / "run", steps=2, say=silent)
    assert_equal(dict(trained.model.state_dict()), dict(trained.average.state_dict()))


def without_noise(monkeypatch):
    monkeypatch.setattr(estimating, "uniform_noise", lambda x: x)


def difference(a, b):
    a, b = parameters(a), parameters(b)
    names = [name for name in a if not name[0].isdigit()]
    return max(float((a[name] - b[name]).abs().max()) for name in names)


def test_accumulated_equals_the_doubled_batch(data, tmp_path, monkeypatch):
    without_noise(monkeypatch)
    train(replace(OPTIONS, batch=4), [data], tmp_path / "a", steps=3, say=silent)
    train(replace(OPTIONS, batch=2, accumulate=2), [data], tmp_path / "b", steps=3, say=silent)
    assert difference(tmp_path / "a", tmp_path / "b") < 1e-4


def two_processes(*line):
    """What they say."""
    python, _, *arguments = command(*line)
    torchrun = [python, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    process = start([*torchrun, *arguments])
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out


def test_two_processes_equal_one_with_the_doubled_batch(data, init, tmp_path):
    """The batch of one process is taken in two halves, with the noise of the two processes."""
    out = two_processes("--data", data, "--init", init, "--steps", 3, "--warmup", 2, "--out", tmp_path / "two")
    assert out.count("2 processes") == 1  # only the first one speaks
    options = replace(OPTIONS, accumulate=2, init=str(init), rate=5e-4, balance=0.5)
    train(options, [data], tmp_path / "one", steps=3, say=silent)
    assert checkpoint.read(tmp_path / "two")["position"]["crops"] == 12
    assert difference(tmp_path / "one", tmp_path / "two") < 1e-4


@pytest.mark.slow
def test_two_processes_that_share_the_state(data, init, tmp_path):
    """Also when they go on with what one process wrote, and when one goes on with what they wrote."""
    options = replace(OPTIONS, accumulate=2, init=str(init), decay=0.0)
    one, two = tmp_path / "one", tmp_path / "two"
    for steps in (1, 3):
        train(options, [data], one, steps=steps, say=silent, resume=True)
        if steps == 1:
            shutil.copytree(one, two)
    line = ["--data", data, "--out", two, "--resume", "--fsdp", "--accumulate", 1]
    out = two_processes(*line, "--recompute", "--steps", 3, "--save", 1e-9)
    assert "2 processes that share its state, each on cpu" in out
    assert checkpoint.read(two)["position"]["crops"] == 12
    assert parameters(one).keys() == parameters(two).keys()
    assert difference(one, two) < 1e-4
    for folder in (one, two):
        train(options, [data], folder, steps=4, say=silent, resume=True)
    assert difference(one, two) < 1e-4
    one, two = (load_model(weights.find(folder))[0].state_dict() for folder in (one, two))
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-3  # of 16 bits


def test_activations_computed_again_change_nothing(data, tmp_path):
    train(OPTIONS, [data], tmp_path / "a", steps=2, say=silent)
    train(replace(OPTIONS, recompute=True), [data], tmp_path / "b", steps=2, say=silent)
    assert_equal(parameters(tmp_path / "a"), parameters(tmp_path / "b"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compiled(data, tmp_path):
    for name, compiled in (("a", False), ("b", True)):
        train(replace(OPTIONS, compile=compiled), [data], tmp_path / name, steps=2, say=silent)
    assert losses(tmp_path / "b")[-1][1] == pytest.approx(losses(tmp_path / "a")[-1][1], rel=1e-2)


class Recording:
    """Stands for torch.cuda where there is none: what is recorded is computed, and computed again at each replay."""

    def __init__(self, monkeypatch):
        self.replays = 0
        for name in ("Stream", "current_stream"):
            monkeypatch.setattr(torch.cuda, name, Mock())
        monkeypatch.setattr(torch.cuda, "stream", lambda _: contextlib.nullcontext())
        monkeypatch.setattr(torch.cuda, "graph", lambda *_, **__: contextlib.nullcontext())
        monkeypatch.setattr(torch.cuda, "CUDAGraph", lambda: self)
        monkeypatch.setattr(run, "_check", lambda *_: None)
        plain = run.Run.compute_plainly
        monkeypatch.setattr(run.Run, "compute_plainly", lambda one, batches: plain(one, self.keep(one, plain, batches)))

    def keep(self, one, plain, batches):
        batches = list(batches)
        self.replay_recorded = lambda: plain(one, batches)
        return batches

    def replay(self):
        self.replays += 1
        self.replay_recorded()


@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_a_recorded_step_is_the_same(data, tmp_path, monkeypatch, optimizer):
    """Warming up leaves no trace, also in a run that goes on; each replay takes its own crops, levels and rate."""
    options = replace(OPTIONS, optimizer=optimizer, balance=0.5, decay=0.0)
    train(options, [data], tmp_path / "plain", steps=4, say=silent)
    recording = Recording(monkeypatch)
    for steps in (2, 4):
        train(replace(options, graph=True), [data], tmp_path / "recorded", steps=steps, say=silent, resume=True)
    assert recording.replays == 4
    assert checkpoint.read(tmp_path / "recorded")["position"]["skipped"] == 0
    assert losses(tmp_path / "recorded") == losses(tmp_path / "plain")


def test_every_parameter_takes_part(tiny, tiny_base, tiny_1b):
    """DistributedDataParallel waits for the gradients of all."""
    for config in (tiny, tiny_base, tiny_1b, replace(tiny_base, fusion="psi")):
        model = HPCM(config)
        out = model(torch.rand(2, 3, 256, 256))
        likelihoods = out["likelihoods"].values()
        (out["x_hat"].sum() + sum(p.log().sum() for p in likelihoods)).backward()
        assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_on_a_gpu(data, tmp_path):
    for name in ("cpu", "cuda"):
        trained = train(replace(OPTIONS, device=name), [data], tmp_path / name, steps=2, say=silent)
    assert trained.photographs.pool(0).pixels.is_cuda
    first, _ = (losses(tmp_path / name)[0][3] for name in ("cpu", "cuda"))  # noise differs; the pictures don't
    assert losses(tmp_path / "cuda")[0][3] == pytest.approx(first, rel=1e-3)
    train(replace(OPTIONS, precision="bf16"), [data], tmp_path / "cuda", steps=3, say=silent, resume=True)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("optimizer", ["adam", "muon"])
def test_a_graph_on_a_gpu(data, tmp_path, optimizer):
    """Crops, levels and noise are those of a run without a graph."""
    options = replace(OPTIONS, device="cuda", optimizer=optimizer, balance=0.5)
    for name, graph in (("plain", False), ("graph", True)):
        train(replace(options, graph=graph), [data], tmp_path / name, steps=5, say=silent)
    plain, graph = ([row[1] for row in losses(tmp_path / name)] for name in ("plain", "graph"))
    assert graph == pytest.approx(plain, rel=1e-2)


def test_an_evaluation_gives_no_notes(data, tmp_path, caplog):
    """Such as that a model in training isn't exact yet."""
    train(replace(OPTIONS, evaluate=100), [data], tmp_path / "run", steps=1, say=silent)
    assert len(watch.read_log(tmp_path / "run" / watch.EVALUATIONS)) == 1
    assert not [record for record in caplog.records if record.name == "hpcm"]


@pytest.mark.parametrize("config", [TINY, replace(TINY_BASE, windows=(1, 2, 2))], ids=["tiny", "tiny-base"])
def test_it_learns_and_the_codec_uses_it(data, tmp_path, config):
    """With such windows, crops of 64 will do for attention."""
    options = replace(OPTIONS, config=config, evaluate=100, rate=3e-3, save=1e-9)
    said = []
    train(options, [data], tmp_path / "run", steps=12, say=said.append)
    rows = losses(tmp_path / "run")
    assert rows[-1][1] < rows[0][1]
    codec = hpcm.load(tmp_path / "run")
    picture = Image.open(data / "03.png")
    assert codec.decompress(codec.compress(picture)).size == picture.size
    assert said[1].startswith(f"{config.name} on cpu; precision float32")
    assert said[-1].startswith("step 12, ")
    (evaluation,) = watch.read_log(tmp_path / "run" / watch.EVALUATIONS)
    assert evaluation["step"] == 12
    assert len(evaluation["evaluation"]) == (4 if config == TINY else 1)
    with Image.open(tmp_path / "run" / watch.PICTURES) as grid:
        assert grid.height == 256  # one of the twenty pictures


def test_the_benchmark_of_a_step_times_each_part(data, tiny):
    script = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "train_step.py"))
    measure = script["measure"]
    measure.__globals__["WARM_UP"] = 1
    with join("cpu") as team:
        seconds = measure(run.Run(OPTIONS, tiny, Photographs([data], OPTIONS.crop), team), steps=1)
    assert seconds.keys() == {*script["PARTS"], "rate"}
    assert 0 < seconds["rate"] < seconds["forward"]


# ---- options --------------------------------------------------------------------------------------------------------


def test_learning_rates():
    options = Options(rate=1.0, warmup=10)
    assert [learning_rate(options, step, 0) for step in (0, 4, 9, 99)] == pytest.approx([0.1, 0.5, 1, 1])
    assert [learning_rate(options, 99, p) for p in (0.7, 0.85, 1)] == pytest.approx([1, 0.5, 0])
    cosine = replace(options, schedule="cosine")
    assert [learning_rate(cosine, 99, p) for p in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])
    published = replace(options, schedule="published", rate=1e-4)
    rates = [learning_rate(published, 99, epoch / 3000) for epoch in (0, 2749, 2750, 2849, 2850, 2949, 2950, 3000)]
    assert rates == pytest.approx([1e-4, 1e-4, 3e-5, 3e-5, 1e-5, 1e-5, 1e-6, 1e-6])


def test_defaults(tiny, tiny_base):
    assert defaults(tiny) == Options(config=TINY, optimizer="muon", rate=2e-3, balance=0.5)
    assert defaults(tiny, fine_tuning=True) == Options(config=TINY, rate=5e-4, balance=0.5)
    paper = defaults(tiny_base)
    assert (paper.crop, paper.batch, paper.rate, paper.schedule) == (256, 32, 1e-4, "published")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop": 100}, "crops of 100 pixels: tiny needs a multiple of 64"),
        ({"loss": "ms-ssim", "crop": 128}, "MS-SSIM needs crops of more than 160 pixels"),
        ({"lmbda": 0.01}, "tiny has 64 quality levels and draws its lambda"),
        ({"loss": "mae"}, "loss is one of mse, ms-ssim"),
        ({"optimizer": "sgd"}, "optimizer is one of adam, muon"),
        ({"device": "cuda"}, "there is no CUDA device"),
        ({"graph": True}, "--graph needs a GPU"),
    ],
)
def test_options_that_do_not_fit(data, tmp_path, monkeypatch, changes, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match=message):
        train(replace(OPTIONS, **changes), [data], tmp_path / "run", steps=1, say=silent)
    assert not (tmp_path / "run").exists()


def renamed(path, changes):
    """A copy of a weights file whose configuration is changed, as no `save` may write it."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    config = json.loads(metadata["config"]) | changes
    copy = path.with_name("renamed.safetensors")
    save_file(tensors, copy, metadata | {"config": json.dumps(config)})
    return copy


@pytest.mark.parametrize("name", ["My Model", "-tiny", "m" * 33, "größer", ""])
def test_names_that_no_file_can_hold_are_refused_before_training(data, init, tmp_path, name):
    wrong = renamed(init, {"name": name})
    with pytest.raises(WeightsError, match=r"the model's name is .*, which \.hpcm files can't hold"):
        train(replace(OPTIONS, init=str(wrong)), [data], tmp_path / "run", steps=1, say=silent)
    assert not (tmp_path / "run").exists()


def test_models_that_are_not_known(data, init, tmp_path):
    wrong = renamed(init, {"layers": 3})
    with pytest.raises(WeightsError, match=r"renamed\.safetensors has a configuration that this hpcm doesn't know"):
        train(replace(OPTIONS, init=str(wrong)), [data], tmp_path / "run", steps=1, say=silent)
    with pytest.raises(TrainingError, match="the checkpoint's model is unknown to this hpcm"):
        checkpoint.config_in({"config": {"layers": 3}})


@pytest.mark.parametrize(
    ("loss", "given", "expected"),
    [
        ("mse", None, 0.013),
        ("mse", 0.05, 0.05),
        ("ms-ssim", None, 16.64),
        ("mixed", None, 0.013),
        ("ssimulacra2", None, 0.013),
    ],
)
def test_the_lambda_of_a_single_level(tiny_base, loss, given, expected):
    config = config_of(Options(tiny_base, crop=256, loss=loss, lmbda=given))
    assert config.lambda_min == pytest.approx(expected, rel=1e-3)
    assert replace(config, lambda_min=tiny_base.lambda_min) == tiny_base


@pytest.mark.parametrize(
    ("loss", "own", "given"),
    [("mse", 0.013, 3000.0), ("mse", 16.64, None), ("mixed", 0.013, 2.4), ("ms-ssim", 0.013, 0.025)],
)
def test_a_lambda_of_another_loss_is_refused(tiny_base, loss, own, given):
    options = Options(replace(tiny_base, lambda_min=own), crop=256, loss=loss, lmbda=given)
    with pytest.raises(UsageError, match=rf"lambda is {given or own:g}: the loss {loss} is lambda \* .*published: "):
        config_of(options)


def test_the_lambda_of_a_run_stays(data, tmp_path):
    """It is told, remembered, and that of what is tuned from it."""
    config = replace(TINY_BASE, windows=(1, 2, 2))
    said = []
    run_options = replace(OPTIONS, config=config, lmbda=0.04)
    train(run_options, [data], tmp_path / "run", steps=1, say=said.append)
    assert f"loss: {FORMULAS['mse']}, lambda 0.04" in said
    kept = remembered(tmp_path / "run")
    assert kept.lmbda == kept.config.lambda_min == 0.04
    assert train(kept, [data], tmp_path / "run", steps=2, say=silent, resume=True).config.lambda_min == 0.04
    tuned = replace(OPTIONS, config=config_at(tmp_path / "run"), init=str(tmp_path / "run"))
    assert train(tuned, [data], tmp_path / "tuned", steps=1, say=silent).config.lambda_min == 0.04
    with Image.open(data / "00.png") as picture:
        (tmp_path / "large").mkdir()
        picture.resize((300, 260)).save(tmp_path / "large" / "0.png")
    mixed = replace(tuned, loss="mixed", crop=192)
    train(mixed, [tmp_path / "large"], tmp_path / "mixed", steps=1, say=said.append)
    assert f"{mixed.init} was trained with --loss mse" in said
    with pytest.raises(UsageError, match=r"lambda is 0\.04: the loss ms-ssim"):
        train(replace(kept, loss="ms-ssim", crop=192), [data], tmp_path / "run", steps=3, say=silent, resume=True)


def test_the_name_of_a_released_model_is_refused(tiny):
    with pytest.raises(
        UsageError, match="lite-1 is a released model, which never changes: name yours with --set name="
    ):
        config_of(Options(replace(tiny, name="lite-1")))


def test_lambdas_that_fall_from_quality_to_quality(tiny):
    with pytest.raises(UsageError, match=r"lambda_min is 1, over lambda_max, 0\.01: the lowest quality"):
        config_of(Options(replace(tiny, lambda_min=1, lambda_max=0.01)))


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seeds_that_no_generator_takes(tiny, seed):
    with pytest.raises(UsageError, match=f"seed is {seed}: a whole number from 0 to 9223372036854775807"):
        config_of(Options(tiny, seed=seed))


def test_an_exact_configuration_is_not_trained(tiny):
    with pytest.raises(UsageError, match="carrier is float32: models are trained in floating point"):
        config_of(Options(replace(tiny, carrier="float32")))


# ---- fine-tuning ----------------------------------------------------------------------------------------------------


def test_fine_tuning(data, init, tmp_path):
    options = replace(OPTIONS, init=str(init), rate=1e-9)
    tuned = train(options, [data], tmp_path / "run", steps=1, say=silent)
    start = load_model(weights.find(init)).model
    for name, value in start.state_dict().items():
        assert torch.allclose(tuned.model.state_dict()[name], value, atol=1e-6)
    assert weights.find(tmp_path / "run").provenance["init"] == f"tiny {weights.find(init).hash.hex()}"
    train(replace(options, init=None), [data], tmp_path / "run", steps=2, say=silent, resume=True)
    with pytest.raises(UsageError, match=r"^base with .* can't start as .*, which is .*: leave out --config and --set"):
        train(replace(options, config=TINY_BASE, crop=256), [data], tmp_path / "other", steps=1, say=silent)


def test_growing(data, init, tiny, tmp_path):
    wide = {"analysis": ((2, 32), (0, 16)), "synthesis": ((0, 16), (1, 24)), "prior_width": 24}
    wider = replace(tiny, name="wider", **wide)
    options = replace(OPTIONS, config=wider, init=str(init), rate=1e-9)
    grown = train(options, [data], tmp_path / "run", steps=1, say=silent)
    assert grown.config == wider
    start = load_model(weights.find(init)).model
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(grown.model.eval()(x)["x_hat"], start(x)["x_hat"], atol=1e-3)
    assert weights.find(tmp_path / "run").provenance["init"].startswith("tiny ")
    train(options, [data], tmp_path / "run", steps=2, say=silent, resume=True)
    with pytest.raises(UsageError, match=r"the run trains wider .*, not tiny .*: leave out --config"):
        train(replace(options, config=tiny), [data], tmp_path / "run", steps=3, say=silent, resume=True)


def test_fine_tuning_an_exact_model(data, tmp_path, tiny, build):
    """Its weights are on a grid; training goes on in plain floating point."""
    batches = [(torch.rand(2, 3, 64, 64), torch.tensor([10.0, 50.0]))]
    exact = make_exact(build(tiny), batches)
    save(exact, tmp_path / "exact.safetensors", {})
    options = replace(OPTIONS, init=str(tmp_path / "exact.safetensors"), rate=1e-9)
    tuned = train(options, [data], tmp_path / "run", steps=1, say=silent)
    assert exact.config.carrier
    assert tuned.config == tiny
    loaded = load_model(weights.find(options.init))[0]
    theirs = make_floating(loaded).state_dict()
    for name, value in tuned.model.state_dict().items():
        assert torch.allclose(theirs[name], value, atol=1e-6), name
    with torch.no_grad():  # what counts: it predicts as the exact model does
        x = batches[0][0]
        rates = [bits(m.eval()(x)["likelihoods"]["y"]).item() for m in (loaded, tuned.model)]
    assert rates[1] == pytest.approx(rates[0], rel=0.02)


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_on_a_terminal_and_elsewhere(data, tmp_path, monkeypatch, capsys, terminal):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    monkeypatch.setattr(watch, "REFRESH", 0.0)
    monkeypatch.setattr(watch, "LOG_EVERY", 2)
    train(OPTIONS, [data], tmp_path / "run", steps=3)
    lines = capsys.readouterr().out.splitlines()
    assert "19 pictures (0.00 GB), 1 held out, 0 files skipped" in lines[0]
    assert any(
        re.search(r"step 2  loss [\d.]+  [\d.]+ bpp  [\d.]+ dB  [\d.]+ steps/s  0:00:\d\d left", li) for li in lines
    )


def test_tensorboard(data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    options = replace(OPTIONS, tensorboard=True, evaluate=100)
    with pytest.raises(UsageError, match="pip install tensorboard"):
        train(options, [data], tmp_path / "a", steps=1, say=silent)
    board = Mock()
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", board)
    train(options, [data], tmp_path / "b", steps=2, say=silent)
    written = board.SummaryWriter.return_value.method_calls
    kinds = [name for name, *_ in written]
    assert kinds == ["add_scalar"] * 8 + ["add_image"] + ["add_scalars"] * 4 + ["close"]


def test_plot(data, tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(UsageError, match=r"has no log\.jsonl"):
        watch.plot(tmp_path)
    train(OPTIONS, [data], tmp_path / "run", steps=2, say=silent)
    with Image.open(watch.plot(tmp_path / "run")) as curves:
        assert curves.width > 500


# ---- a deadline -----------------------------------------------------------------------------------------------------


def rates(folder):
    return [row["rate"] for row in watch.read_log(folder / watch.LOG)]


def test_a_deadline_ends_a_run_at_rate_zero(data, tmp_path):
    until = time.time() + 4
    trained = train(replace(OPTIONS, decay=1.0), [data], tmp_path, until=until)
    assert time.time() < until + 5
    assert rates(tmp_path)[-1] < 0.2 * max(rates(tmp_path))
    assert trained.deadline.until == until
    assert sorted(rates(tmp_path)[2:], reverse=True) == rates(tmp_path)[2:]  # after the warm-up it falls


def test_a_run_goes_on_to_its_deadline(data, tmp_path, monkeypatch):
    """The rate falls on from where the clock stands, not from the full one; for another deadline it begins anew."""
    clock = [1000.0]
    monkeypatch.setattr(loop.time, "time", lambda: clock[0])
    options = replace(OPTIONS, decay=1.0, rate=1.0)
    learn = run.Run.learn

    def slowly(self, rate):
        learn(self, 1e-5)
        seen.append(rate)
        clock[0] += 10
        if len(seen) == stop_after:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(run.Run, "learn", slowly)
    seen, stop_after = [], 4
    with pytest.raises(KeyboardInterrupt):
        train(options, [data], tmp_path, until=1100.0)
    assert seen == pytest.approx([0.5, 0.9, 0.8, 0.7])  # the first two steps warm up
    clock[0], seen, stop_after = 1060.0, [], None
    train(options, [data], tmp_path, until=1100.0, resume=True)
    assert seen == pytest.approx([0.4, 0.3, 0.2, 0.1])
    seen, stop_after = [], 4
    with pytest.raises(KeyboardInterrupt):
        train(options, [data], tmp_path, until=1200.0, resume=True)
    assert seen == pytest.approx([1.0, 0.9, 0.8, 0.7])


def test_a_deadline_that_is_past(data, tmp_path):
    with pytest.raises(UsageError, match=r"the time to train until, .*, is past"):
        train(OPTIONS, [data], tmp_path / "run", until=time.time() - 1)
    assert not (tmp_path / "run").exists()


# ---- pictures that arrive -------------------------------------------------------------------------------------------


def test_pictures_arrive_while_a_run_goes_on(data, tmp_path, monkeypatch):
    """They are trained on, and the user is told."""
    folder = tmp_path / "data"
    shutil.copytree(data, folder)
    learn = run.Run.learn

    def and_bring(self, rate):
        learn(self, rate)
        if self.step == 2:
            (folder / "more").mkdir()
            for path in sorted(data.iterdir())[:4]:
                shutil.copy(path, folder / "more" / f"again-{path.name}")
        if self.photographs.looking is not None:
            self.photographs.looking.result()

    monkeypatch.setattr(run.Run, "learn", and_bring)
    said = []
    trained = train(replace(OPTIONS, rescan=1e-9), [folder], tmp_path / "run", steps=8, say=said.append)
    assert len(trained.photographs.entries) == 23  # one was held out
    assert "4 pictures have come: 23 now" in said


def test_rescan_needs_pictures_for_evaluation_that_stay(data, tmp_path):
    with pytest.raises(UsageError, match="give --held-out DIR or --evaluate 0"):
        train(replace(OPTIONS, rescan=5, evaluate=1), [data], tmp_path, steps=1)
