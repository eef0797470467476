"""A run's folder: nothing in it is overwritten unasked, and what a killed process left is cleared away."""

import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from conftest import TINY
from hpcm.errors import UsageError
from hpcm.model import find as weights
from hpcm.train import checkpoint, watch
from hpcm.train.folder import clear, refusal, tidy
from hpcm.train.loop import train
from hpcm.train.options import CONFIG, FILE, Options
from hpcm.util import atomic

OPTIONS = Options(config=TINY, crop=64, batch=2, warmup=2, precision="float32", evaluate=0)
MODEL = weights.RUN_WEIGHTS
STEPS = "start anew with -f, or choose another --out"


@pytest.fixture(autouse=True)
def _surroundings(monkeypatch):
    monkeypatch.setattr(watch, "LOG_EVERY", 1)


@pytest.fixture
def data(tmp_path):
    """A folder of four pictures."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for k in range(4):
        Image.fromarray(rng.integers(0, 256, (70, 80, 3), np.uint8)).save(folder / f"{k}.png")
    return folder


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


def silent(_):
    pass


def fill(folder, names):
    for name in names:
        (folder / name).write_text(f"old {name}")


@pytest.mark.parametrize(
    ("names", "anew", "resumed"),
    [
        ([], None, None),
        (["notes.txt", "curves.png"], None, None),
        ([checkpoint.FILE, MODEL, FILE], "has a checkpoint: go on with --resume, start anew with -f", None),
        ([FILE], f"has {FILE}, but no checkpoint: --resume begins this run again with its options, -f", None),
        ([FILE, watch.LOG], "has log.jsonl and 1 more files of a run, but no checkpoint: --resume begins", None),
        ([watch.LOG], f"has log.jsonl, but no checkpoint: {STEPS}", f"has log.jsonl, but no checkpoint: {STEPS}"),
        ([MODEL], f"has {MODEL}, but no checkpoint: {STEPS}", f"has {MODEL}, but no checkpoint: {STEPS}"),
        ([MODEL, FILE, watch.LOG], f"has {MODEL} and 2 more files", f"has {MODEL} and 2 more files"),
    ],
)
def test_what_is_refused(run, names, anew, resumed):
    fill(run, names)
    for expected, resume in ((anew, False), (resumed, True)):
        found = refusal(run, resume=resume, force=False)
        assert (found is None) == (expected is None)
        assert expected is None or found.startswith(f"{run} {expected}")
        assert refusal(run, resume=resume, force=True) is None


def test_a_run_to_resume_that_is_none_is_told(data, run):
    said = []
    for steps in (1, 2):
        train(OPTIONS, [data], run, steps=steps, say=said.append, resume=True)
    assert said[0] == f"{run} has no checkpoint: a new run begins"
    assert said.count(said[0]) == said.count("resumed at step 1") == 1


def test_weights_without_a_checkpoint_are_not_overwritten(data, run):
    """A model that was copied there stays, and so do the logs."""
    names = [MODEL, watch.LOG, watch.EVALUATIONS, watch.PICTURES, FILE]
    fill(run, names)
    for resume in (False, True):
        with pytest.raises(UsageError, match=STEPS):
            train(OPTIONS, [data], run, steps=1, say=silent, resume=resume)
        assert [(run / name).read_text() for name in names] == [f"old {name}" for name in names]
    fill(run, ["notes.txt", "checkpoint-best.pt"])
    train(OPTIONS, [data], run, steps=1, say=silent, force=True)
    assert weights.find(run).name == "tiny"
    kept = {MODEL, watch.LOG, FILE, CONFIG, checkpoint.FILE, "notes.txt", "checkpoint-best.pt"}
    assert {path.name for path in run.iterdir()} == kept
    assert [row["step"] for row in watch.read_log(run / watch.LOG)] == [1]


def test_force_starts_anew(data, run):
    """Nothing of the run that was there counts, even if the new one is killed before it saves anything."""
    train(OPTIONS, [data], run, steps=3, say=silent)

    def die(text):
        if text.startswith("step 1 "):
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        train(OPTIONS, [data], run, steps=3, say=die, force=True)
    assert not checkpoint.exists(run)
    train(OPTIONS, [data], run, steps=2, say=silent, resume=True)  # killed before its first checkpoint
    assert checkpoint.read(run)["position"]["step"] == 2
    anew = train(OPTIONS, [data], run, steps=1, say=silent, force=True)
    assert (anew.step, checkpoint.read(run)["position"]["step"]) == (1, 1)
    train(OPTIONS, [data], run, steps=2, say=silent, resume=True, force=True)  # there is a checkpoint: it goes on
    assert [row["step"] for row in watch.read_log(run / watch.LOG)] == [1, 2]


def test_a_run_that_cannot_begin_removes_nothing(data, run, monkeypatch):
    train(OPTIONS, [data], run, steps=1, say=silent)
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    wrong = (Options(config=TINY, crop=100), Options(config=TINY, crop=64, tensorboard=True))
    for options in wrong:
        with pytest.raises(UsageError):
            train(options, [data], run, steps=1, say=silent, force=True)
        assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_temporary_folders_of_killed_processes_are_cleared(data, run):
    (run / ".hpcm-ab12_xyz").mkdir()
    (run / ".hpcm-ab12_xyz" / checkpoint.FILE).write_text("half")
    (run / ".hpcm-notes").mkdir()  # not named by tempfile
    (run / ".hpcm-abcdefgh").write_text("no folder")
    train(OPTIONS, [data], run, steps=1, say=silent)
    hidden = {path.name for path in run.iterdir() if path.name.startswith(".")}
    assert hidden == {".hpcm-notes", ".hpcm-abcdefgh"}
    tidy(run / "missing")
    clear(run)
    assert {path.name for path in run.iterdir()} == hidden


def test_what_is_written_appears_whole(data, run, monkeypatch):
    """All that a run replaces goes through atomic.replacing; the logs are appended to."""
    written, real = [], atomic.replacing
    monkeypatch.setattr(atomic, "replacing", lambda path, *rest: (written.append(path.name), real(path, *rest))[1])
    (data / "wrong.png").write_text("no picture")
    held_out = data.with_name("held-out")
    shutil.copytree(data, held_out)
    train(replace(OPTIONS, evaluate=100, held_out=str(held_out)), [data], run, steps=1, say=silent)
    train(OPTIONS, [data], run, steps=2, say=silent, resume=True)
    names = {
        FILE,
        CONFIG,
        checkpoint.FILE,
        weights.RUN_WEIGHTS,
        watch.LOG,
        watch.PICTURES,
        watch.EVALUATIONS,
        watch.SKIPPED,
    }
    assert names == set(written)
    assert not list(run.glob("*.part"))
