"""Checkpoints: complete or not there whenever the process dies, in one file or in pieces, and nobody else's files."""

import errno
import io
import json
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


def test_pieces(tmp_path):
    checkpoint.write(STATE, tmp_path)
    for _ in range(2):
        checkpoint.write(STATE, tmp_path, 0.3)
        told = json.loads((tmp_path / checkpoint.LIST).read_text())
        assert told["step"] == 7
        assert names(tmp_path) == {checkpoint.LIST, *told["pieces"]}
        assert [(tmp_path / name).stat().st_size for name in told["pieces"][:2]] == [300_000, 300_000]
        assert len(told["pieces"]) == 3
        assert torch.equal(checkpoint.read(tmp_path)["values"], STATE["values"])
    (tmp_path / told["pieces"][1]).unlink()
    with pytest.raises(TrainingError, match=r"a piece of the checkpoint is missing: .*-0001$"):
        checkpoint.read(tmp_path)
    checkpoint.write(STATE, tmp_path)
    assert names(tmp_path) == {checkpoint.FILE}


@pytest.mark.parametrize("shard_size", [None, 0.3])
def test_files_of_others_stay(tmp_path, shard_size):
    others = {"checkpoint-before-decay.pt", "checkpoint-1", "checkpoint-1-0000.bak", "checkpoint-2-best", "notes.txt"}
    for name in others:
        (tmp_path / name).write_text("mine")
    for _ in range(2):
        checkpoint.write(STATE, tmp_path, shard_size)
        assert others <= names(tmp_path)
        assert torch.equal(checkpoint.read(tmp_path)["values"], STATE["values"])
    checkpoint.remove(tmp_path)
    assert names(tmp_path) == others


def test_reading_writes_nothing(tmp_path, monkeypatch):
    """So that several processes can read at once."""
    checkpoint.write(STATE, tmp_path, 0.3)
    before, load = names(tmp_path), torch.load
    during = []
    monkeypatch.setattr(torch, "load", lambda *line, **rest: (during.append(names(tmp_path)), load(*line, **rest))[1])
    checkpoint.read(tmp_path)
    assert during == [before]
    assert names(tmp_path) == before


def test_pieces_read_as_one_file(tmp_path):
    """Against a plain twin: the same calls on the bytes in memory."""
    data = bytes(range(256)) * 4
    paths = [tmp_path / str(k) for k in range(5)]
    for path, begin, end in zip(paths, (0, 100, 100, 101, 600), (100, 100, 101, 600, 1024), strict=True):
        path.write_bytes(data[begin:end])
    found, expected = io.BufferedReader(checkpoint.PieceReader(paths), 16), io.BytesIO(data)
    for offset, whence, count in ((0, 0, 99), (0, 1, 3), (-30, 2, 99), (90, 0, 600), (2000, 0, 5), (99, 0, -1)):
        assert found.seek(offset, whence) == expected.seek(offset, whence)
        assert found.read(count) == expected.read(count)
        assert found.tell() == expected.tell()
    found.close()


@pytest.mark.parametrize(
    "listing",
    ["{", "[]", "7", '{"pieces": ["checkpoint-1-0000"]}', '{"pieces": 3, "bytes": 4}', '{"pieces": [4], "bytes": 4}'],
)
def test_a_damaged_list(tmp_path, listing):
    checkpoint.write(STATE, tmp_path, 1)
    (tmp_path / checkpoint.LIST).write_text(listing)
    with pytest.raises(TrainingError, match=r"checkpoint\.json is no checkpoint, or a damaged one"):
        checkpoint.read(tmp_path)


def test_a_list_names_pieces_only(tmp_path):
    """Not files elsewhere."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"four")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / checkpoint.LIST).write_text(json.dumps({"pieces": ["../secret"], "bytes": 4}))
    with pytest.raises(TrainingError, match="or a damaged one"):
        checkpoint.read(tmp_path / "run")


@pytest.mark.parametrize("shard_size", [None, 0.3])
@pytest.mark.parametrize("name", ["replace", "fsync"])
def test_a_full_disk(tmp_path, monkeypatch, shard_size, name):
    """The checkpoint before stays, and nothing half written takes room."""
    checkpoint.write(STATE, tmp_path)
    calls = []

    def fail(*_):
        calls.append(1)
        if len(calls) > 1 or shard_size is None:  # of the pieces, one is written
            raise OSError(errno.ENOSPC, "the disk is full")

    with monkeypatch.context() as patch:
        real = getattr(os, name)
        patch.setattr(os, name, lambda *line: (fail(), real(*line)))
        with pytest.raises(OSError, match="full"):
            checkpoint.write({"position": {"step": 8}, "values": torch.zeros(100_000)}, tmp_path, shard_size)
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
for before, after in ((None, None), (0.005, 0.005), (None, 0.005), (0.005, None)):
    folder = Path(sys.argv[1], f"{before} {after}")
    code, steps = 9, []
    while code:
        checkpoint.remove(folder)
        checkpoint.write(states[0], folder, before)
        if os.fork() == 0:
            left = len(steps)
            checkpoint.write(states[1], folder, after)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.wait()[1])
        found = checkpoint.read(folder)
        steps.append(found["position"]["step"])
        assert torch.equal(found["values"], states[steps[-1] - 1]["values"]), steps
        checkpoint.write(states[2], folder, after)  # the next save copes with what is left
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
    for line in done.stdout.splitlines():
        steps = [int(word) for word in line.split()]
        assert steps == sorted(steps)
        assert {*steps} == {1, 2}
        assert len(steps) > 5
    for folder in tmp_path.iterdir():
        listing = folder / checkpoint.LIST
        whole = {listing.name, *json.loads(listing.read_text())["pieces"]} if listing.exists() else {checkpoint.FILE}
        assert {name for name in names(folder) if not name.startswith(TEMPORARY)} == whole
