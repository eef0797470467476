"""Checkpoints: complete or not there whenever the process dies, and nobody else's files."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import hpcm
from hpcm.errors import TrainingError
from hpcm.train import checkpoint
from hpcm.util.atomic import TEMPORARY

STATE = {"position": {"step": 7}, "values": torch.arange(100_000)}  # 0.8 MB


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_files_of_others_stay(tmp_path):
    others = {"checkpoint-before-decay.pt", "checkpoint-1", "checkpoint-1-0000.bak", "checkpoint-2-best", "notes.txt"}
    for name in others:
        (tmp_path / name).write_text("mine")
    for _ in range(2):
        checkpoint.write(STATE, tmp_path)
        assert others <= names(tmp_path)
        assert torch.equal(checkpoint.read(tmp_path)["values"], STATE["values"])
    checkpoint.remove(tmp_path)
    assert names(tmp_path) == others


def test_reading_writes_nothing(tmp_path, monkeypatch):
    """So that several processes can read at once."""
    checkpoint.write(STATE, tmp_path)
    before, load = names(tmp_path), torch.load
    during = []
    monkeypatch.setattr(torch, "load", lambda *line, **rest: (during.append(names(tmp_path)), load(*line, **rest))[1])
    checkpoint.read(tmp_path)
    assert during == [before]
    assert names(tmp_path) == before


def test_a_damaged_one(tmp_path):
    checkpoint.write(STATE, tmp_path)
    whole = (tmp_path / checkpoint.FILE).read_bytes()
    for data in (b"", b"no checkpoint", whole[: len(whole) // 2]):
        (tmp_path / checkpoint.FILE).write_bytes(data)
        with pytest.raises(TrainingError, match=r"checkpoint\.pt is no checkpoint, or a damaged one"):
            checkpoint.read(tmp_path)


@pytest.mark.parametrize("name", ["replace", "fsync"])
def test_a_full_disk(tmp_path, monkeypatch, name):
    """The checkpoint before stays, and nothing half written takes room."""
    checkpoint.write(STATE, tmp_path)

    def fail(*_):
        raise OSError(errno.ENOSPC, "the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(os, name, fail)
        with pytest.raises(OSError, match="full"):
            checkpoint.write({"position": {"step": 8}, "values": torch.zeros(100_000)}, tmp_path)
    assert names(tmp_path) == {checkpoint.FILE}
    assert checkpoint.read(tmp_path)["position"]["step"] == 7


DIES = """
import os, sys
from pathlib import Path
import torch
from hpcm.train import checkpoint

states = [{"position": {"step": step}, "values": torch.full((1000,), step)} for step in (1, 2, 3)]
TOUCHES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"}  # events of Python's files
left = None  # touches until the process dies

def die(event, line):
    global left
    if left is not None and event in TOUCHES:
        left -= 1
        if left < 0:
            os._exit(9)

sys.addaudithook(die)
folder = Path(sys.argv[1])
code, steps = 9, []
while code:
    checkpoint.remove(folder)
    checkpoint.write(states[0], folder)
    if os.fork() == 0:
        left = len(steps)
        checkpoint.write(states[1], folder)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.wait()[1])
    found = checkpoint.read(folder)
    steps.append(found["position"]["step"])
    assert torch.equal(found["values"], states[steps[-1] - 1]["values"]), steps
    checkpoint.write(states[2], folder)  # the next save copes with what is left
    assert checkpoint.read(folder)["position"]["step"] == 3, steps
print(*steps)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_any_moment(tmp_path):
    """The process dies before each of its touches of a file in turn: one of the two checkpoints is there, complete."""
    environment = {**os.environ, "PYTHONPATH": str(Path(hpcm.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-W", "ignore", "-c", DIES, str(tmp_path)]
    done = subprocess.run(line, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    steps = [int(word) for word in done.stdout.split()]
    assert steps == sorted(steps)
    assert {*steps} == {1, 2}
    assert len(steps) > 3
    assert {name for name in names(tmp_path) if not name.startswith(TEMPORARY)} == {checkpoint.FILE}
