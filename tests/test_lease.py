"""experiments/lease.py: training on a machine that is lent for minutes, rehearsed with a tiny model."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
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


def test_pack_refuses_pictures_that_are_too_large(pieces, tmp_path):
    """Before it writes anything."""
    photos = pieces[0].parent / "photos"
    words = ("pack", "--data", photos, "--out", tmp_path / "out", "--smallest", 64, "--megabytes")
    for megabytes in (0.001, 0.02):
        assert "too large for a piece" in lease(*words, megabytes, check=False).stderr
    assert not (tmp_path / "out").exists()


@needs_posix
def test_a_step_without_a_piece(tmp_path):
    words = ("step", "--in", tmp_path, "--out", tmp_path / "out", "--work", tmp_path / "work", "--minutes", 1)
    assert "no piece has come yet" in lease(*words, check=False).stderr


@pytest.mark.parametrize("words", ["--data more", "--steps=5", "--batch 2 --out run"])
def test_options_that_a_step_gives_itself(tmp_path, words):
    """It says so before the clock starts."""
    step = ("step", "--in", tmp_path, "--out", tmp_path / "out", "--work", tmp_path / "work", "--minutes", 1)
    assert "leave out --" in lease(*step, "--", *words.split(), check=False).stderr
    assert not (tmp_path / "work").exists()


# ---- a stand-in for training ----------------------------------------------------------------------------------------

STAND_IN = """
import os, sys, time
from pathlib import Path

run = Path(sys.argv[sys.argv.index("--out") + 1])
run.mkdir(exist_ok=True)
print(*sys.argv, flush=True)
if "--bad" in sys.argv:
    sys.exit(2)
with (run.parent / "started").open("a") as started:
    print(os.getpid(), file=started)
(run / "model.safetensors").write_bytes(os.urandom(100_000))
time.sleep(float(sys.argv[sys.argv.index("--batch") + 1]))
"""


@pytest.fixture
def place(pieces, tmp_path):
    """A folder with the first piece in `in`, where `python -m hpcm` is a stand-in that trains for --batch seconds."""
    (tmp_path / "hpcm").mkdir()
    (tmp_path / "hpcm" / "__init__.py").touch()
    (tmp_path / "hpcm" / "__main__.py").write_text(STAND_IN)
    shutil.copytree(pieces[0] / "00", tmp_path / "in" / "00")
    return tmp_path


def stand_in(place, name, minutes=1, wait=0.8, seconds=30):
    """The words of a step."""
    words = ["step", "--in", "in", "--out", name, "--work", place / "work", "--minutes", minutes, "--wait", wait]
    return [*words, "--part", 0.04, "--", "--batch", seconds]


def started(place, count=1):
    """The processes that stood in for training, when there are so many or ten seconds are over."""
    path, numbers, until = place / "work" / "started", [], time.monotonic() + 10
    while len(numbers) < count and time.monotonic() < until:
        time.sleep(0.05)
        numbers = [int(line) for line in path.read_text().split()] if path.exists() else []
    return numbers


@needs_posix
def test_training_runs_once(place):
    """Also if two calls come at the same time, or if only the shell around training was killed."""
    command = [*LEASE, *map(str, stand_in(place, "a"))]
    with subprocess.Popen(command, cwd=place) as one, subprocess.Popen(command, cwd=place) as other:
        assert one.wait(60) == other.wait(60) == 0
    try:
        assert len(started(place)) == 1
        os.kill(int((place / "work" / "process.json").read_text()), signal.SIGKILL)
        assert "training runs" in lease(*stand_in(place, "b"), cwd=place).stdout
        assert len(started(place)) == 1
        os.kill(started(place)[0], signal.SIGKILL)
        assert "training runs" in lease(*stand_in(place, "c"), cwd=place).stdout
        assert len(started(place, 2)) == 2
    finally:
        for process in started(place):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


@needs_posix
def test_other_options_after_a_failure(place):
    """With them, --graph is tried again: it wasn't what failed."""
    words = stand_in(place, "a", wait=3, seconds=0)
    assert "starts again without --graph" in lease(*words, "--graph", "--bad", cwd=place).stdout
    printed = lease(*words, "--graph", cwd=place).stdout
    assert "without --graph" not in printed
    assert " --graph " in (place / "work" / "printed.txt").read_text().splitlines()[-1]


@needs_posix
def test_another_process_has_the_number_of_training(place):
    """As on a machine that was started again."""
    (place / "work").mkdir()
    (place / "work" / "process.json").write_text(str(os.getpid()))
    lease(*stand_in(place, "a", seconds=0), cwd=place)
    assert started(place)


@needs_posix
def test_the_end_without_all_pieces(place):
    printed = lease(*stand_in(place, "a", minutes=0.03, wait=20, seconds=3), cwd=place).stdout
    assert "FINISHED: all is sent" in printed
    assert "another lease needs another --work" in printed
    lease("join", "a", "--out", "model.safetensors", cwd=place)
    assert (place / "model.safetensors").read_bytes() == (place / "work" / "run" / "model.safetensors").read_bytes()


@needs_posix
def test_the_end_without_weights(place):
    (place / "hpcm" / "__main__.py").write_text("raise SystemExit(1)")
    printed = lease(*stand_in(place, "a", minutes=0.02, wait=20), cwd=place).stdout
    assert "FINISHED: no weights were trained" in printed


@needs_posix
def test_a_piece_comes_in_part(pieces, place):
    """Training goes on meanwhile, and takes it when all of it is there."""
    shutil.copytree(pieces[0] / "01", place / "in" / "01")
    whole = (place / "in" / "01" / "piece.json").read_bytes()
    for part in (0, 20):
        (place / "in" / "01" / "piece.json").write_bytes(whole[:part])
        printed = lease(*stand_in(place, "a", seconds=0), cwd=place).stdout
        assert "NEXT: the same command with piece 01" in printed
    (place / "in" / "01" / "piece.json").write_bytes(whole)
    assert "pieces that are here: 00 01" in lease(*stand_in(place, "a", seconds=0), cwd=place).stdout


@needs_posix
def test_a_call_that_was_killed_after_it_took_an_archive(place):
    """The archive stays the same file, whose pictures training knows."""
    lease(*stand_in(place, "a", seconds=0), cwd=place)
    (place / "work" / "pieces.json").unlink()
    archive = place / "work" / "data" / "0" / "00.tar"
    before = archive.stat().st_ino, archive.stat().st_mtime_ns
    lease(*stand_in(place, "b", seconds=0), cwd=place)
    assert (archive.stat().st_ino, archive.stat().st_mtime_ns) == before


@needs_posix
def test_join_with_results_of_killed_calls(place):
    """A part and a status that were cut off do no harm, wherever they stand."""
    lease(*stand_in(place, "b", minutes=0.03, wait=20, seconds=3), cwd=place)
    for name in ("a", "c"):
        (place / name).mkdir()
        (place / name / "status.json").write_text('{"sent": ')
        for path in (place / "b").glob("*-of-*"):
            (place / name / path.name).write_bytes(path.read_bytes()[:10])
    lease("join", "a", "b", "c", "--out", "model.safetensors", cwd=place)
    assert (place / "model.safetensors").read_bytes() == (place / "work" / "run" / "model.safetensors").read_bytes()


@needs_posix
def test_results_that_were_lost_are_sent_again(place):
    """As docs/lease.md says."""
    lease(*stand_in(place, "lost", minutes=0.03, wait=20, seconds=3), cwd=place)
    (place / "work" / "outbox.json").unlink()
    assert "FINISHED" in lease(*stand_in(place, "again"), cwd=place).stdout
    lease("join", "again", "--out", "model.safetensors", cwd=place)


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
