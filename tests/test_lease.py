"""experiments/lease.py: training on a machine that is lent for minutes, rehearsed with a tiny model."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import TINY
from hpcm.model import find as weights
from hpcm.nn.weights import load_model
from pictures import photographs

ROOT = Path(__file__).resolve().parents[1]
LEASE = [sys.executable, str(ROOT / "experiments" / "lease.py")]
needs_posix = pytest.mark.skipif(os.name == "nt", reason="the lent machine runs Linux")


def lease(*words, check=True, **options):
    command = [*LEASE, *map(str, words)]
    return subprocess.run(command, check=check, capture_output=True, text=True, timeout=120, **options)


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """Two sources in three pieces."""
    folder = tmp_path_factory.mktemp("lease")
    sources = []
    for name, count in (("photos", 20), ("screens", 7)):
        (folder / name).mkdir()
        sources.append(photographs(folder / name, count))
    size = sum(path.stat().st_size for source in sources for path in source.iterdir())
    megabytes = (size / 2.5 + 2 * 10240) / 1e6
    words = [word for source in sources for word in ("--data", source)]
    lease("pack", *words, "--out", folder / "pieces", "--megabytes", megabytes, "--smallest", 64)
    return folder / "pieces", megabytes


def test_pieces_have_some_of_every_source(pieces):
    folder, megabytes = pieces
    numbers = sorted(path.name for path in folder.iterdir())
    assert len(numbers) > 2
    assert numbers == [f"{k:02}" for k in range(len(numbers))]
    for number in numbers:
        files = {path.name: path.stat().st_size for path in (folder / number).iterdir()}
        assert set(files) == {"0.tar", "1.tar", "piece.json"}
        assert sum(files.values()) <= megabytes * 1e6
        assert all(size > 10240 for name, size in files.items() if name.endswith(".tar"))  # an empty archive's


def test_pack_refuses(pieces, tmp_path):
    folder, _ = pieces
    assert "exists" in lease("pack", "--data", tmp_path, "--out", folder, check=False).stderr
    nothing = lease("pack", "--data", tmp_path, "--out", tmp_path / "out", check=False)
    assert "no pictures" in nothing.stderr
    assert nothing.returncode != 0


def test_a_step_without_a_piece(tmp_path):
    words = ("step", "--in", tmp_path, "--out", tmp_path / "out", "--work", tmp_path / "work", "--minutes", 1)
    assert "no piece has come yet" in lease(*words, check=False).stderr


@pytest.mark.slow
@needs_posix
def test_the_whole_way(pieces, tmp_path):
    """A failing option, a killed training, a killed step, pieces one by one; at the end the rate is zero."""
    folder, _ = pieces
    (tmp_path / "tiny.json").write_text(json.dumps(TINY.to_dict()))
    arrived, work = tmp_path / "in", tmp_path / "work"
    arrived.mkdir()
    numbers = sorted(path.name for path in folder.iterdir())

    def bring(number):
        os.rename(folder / number, arrived / number)

    def step(name, wait):
        training = ["--config", str(tmp_path / "tiny.json"), "--batch", "2", "--crop", "64", "--decay", "1", "--graph"]
        training += ["--precision", "float32", "--device", "cpu", "--threads", "1", "--mix", "0.8", "0.2"]
        words = ["step", "--in", arrived, "--out", tmp_path / name, "--work", work, "--minutes", 0.6, "--wait", wait]
        return [*LEASE, *map(str, words), "--part", "0.02", "--parts", "3", "--", *training]

    def done(name, wait):
        return subprocess.run(step(name, wait), check=True, capture_output=True, text=True, timeout=120).stdout

    bring(numbers[0])
    printed = done("first", 10)
    assert "starts again without --graph" in printed
    assert f"NEXT: the same command with piece {numbers[1]}" in printed
    os.killpg(int((work / "process.json").read_text()), signal.SIGKILL)
    bring(numbers[1])
    with subprocess.Popen(step("killed", 60), stdout=subprocess.DEVNULL) as process:
        time.sleep(3)
        process.kill()
    for number in numbers[2:]:
        bring(number)
    printed, call = done("0", 60), 0
    while "FINISHED" not in printed:
        assert call < 20
        call += 1
        printed = done(str(call), 1)
    rows = [json.loads(line) for line in (tmp_path / str(call) / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["progress"] > 0.9
    assert rows[-1]["rate"] < 0.1 * max(row["rate"] for row in rows)
    said = (tmp_path / str(call) / "printed.txt").read_text()
    assert said.count("loss: lambda") == 2  # it began, and once again after it was killed
    counts = re.findall(r"(\d+) pictures \(|pictures have come: (\d+) now", said)
    assert int("".join(counts[-1])) >= 25  # of 27, some of which are held out
    parts = list(tmp_path.glob("*/*-of-*"))
    assert all(path.stat().st_size <= 20_000 for path in parts)
    calls = [str(path) for path in tmp_path.iterdir() if (path / "status.json").exists()]
    incomplete = lease("join", "first", "--out", "none.safetensors", check=False, cwd=tmp_path)
    assert "no weights are complete" in incomplete.stderr
    lease("join", *calls, "--out", tmp_path / "model.safetensors")
    assert (tmp_path / "model.safetensors").read_bytes() == (work / "run" / "model.safetensors").read_bytes()
    assert load_model(weights.find(tmp_path / "model.safetensors")).model.config == TINY
