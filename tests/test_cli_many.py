"""Many files on the command line: processes, dry runs, times, how much is said, and what is left when it is stopped."""

import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

import hpcm
from hpcm import cli
from hpcm.cli import completion, messages, processes
from hpcm.cli.arguments import parser

PHOTO = Image.open(Path(__file__).parent / "data" / "kodim23.png").crop((0, 0, 96, 64))
LONG_AGO = 1_000_000_000_123_456_000  # nanoseconds


@pytest.fixture
def at(tmp_path, monkeypatch) -> Path:
    """A folder `in` with three pictures and one that is none; nothing is left switched on."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for name in "abc":
        PHOTO.save(tmp_path / "in" / f"{name}.png")
        os.utime(tmp_path / "in" / f"{name}.png", ns=(LONG_AGO, LONG_AGO))
    (tmp_path / "in" / "damaged.png").write_bytes(b"none")
    yield tmp_path
    messages.be_verbose(False)


def tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_side_by_side_is_as_one_after_the_other(at, capsys):
    assert cli.main(["compress", "in", "-o", "one", "--model", "nano"]) == 1
    one = capsys.readouterr()
    assert cli.main(["compress", "in", "-o", "two", "--model", "nano", "--jobs", "2"]) == 1
    two = capsys.readouterr()
    assert two.out == one.out.replace("one", "two")
    assert two.err == one.err
    assert re.fullmatch(r"hpcm: error: in.damaged\.png: .*\n", two.err)
    assert tree(at / "two") == tree(at / "one") == {"a.hpcm", "b.hpcm", "c.hpcm"}
    assert all((at / "one" / name).read_bytes() == (at / "two" / name).read_bytes() for name in tree(at / "one"))
    assert cli.main(["decompress", "two", "-j", "2", "-v"]) == 0
    assert capsys.readouterr().err.count("hpcm: debug: nano-1 at level") == 3
    assert tree(at / "two") == {f"{name}.{suffix}" for name in "abc" for suffix in ("hpcm", "png")}


def test_a_model_that_is_missing_is_one_line(at, capsys):
    assert cli.main(["compress", "in", "-o", "out", "--model", "no-such", "-j", "2"]) == 1
    assert capsys.readouterr().err.startswith("hpcm: error: no model 'no-such'")


def test_the_cores_are_shared(at, monkeypatch):
    given = []
    monkeypatch.setattr(processes, "cores", lambda: 7)
    monkeypatch.setattr(processes, "ProcessPoolExecutor", lambda *_, initargs, **__: given.append(initargs) or 1 / 0)
    for line, threads in ((["-j", "3"], 2), (["-j", "9"], 1), (["-j", "2", "--threads", "5"], 5)):
        with pytest.raises(ZeroDivisionError):
            cli.main(["compress", "in", "-o", "out", "--model", "nano", *line])
        assert given.pop()[1].threads == threads


def test_a_dry_run_makes_nothing(at, capsys):
    (at / "in" / "b.hpcm").write_bytes(b"")
    before = tree(at)
    assert cli.main(["compress", "in", "--dry-run", "--model", "no-such"]) == 1
    out, err = capsys.readouterr()
    expected = [f"{Path('in', name)}.png -> {Path('in', name)}.hpcm" for name in ("a", "c", "damaged")]
    assert out.splitlines() == expected
    assert err == f"hpcm: error: {Path('in', 'b.png')}: {Path('in', 'b.hpcm')} exists; -f overwrites it\n"
    assert cli.main(["compress", "in", "-n", "-o", "out"]) == 0
    assert cli.main(["decompress", "in/b.hpcm", "-n", "-o", "-"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "in/b.hpcm -> standard output"
    assert tree(at) == before


def test_times_are_kept_where_that_is_wanted(at):
    assert cli.main(["compress", "in/a.png", "in/b.png", "--model", "nano", "--keep-times"]) == 0
    assert cli.main(["decompress", "in/a.hpcm", "-o", "kept.png", "--keep-times"]) == 0
    assert cli.main(["decompress", "in/a.hpcm", "-o", "new.png"]) == 0
    times = {name: Path(name).stat().st_mtime_ns for name in ("in/a.hpcm", "in/b.hpcm", "kept.png", "new.png")}
    assert all(abs(times[name] - LONG_AGO) < 1000 for name in ("in/a.hpcm", "in/b.hpcm", "kept.png"))  # file systems
    assert times["new.png"] > LONG_AGO + 1e9


def test_quiet_and_verbose(at, capsys):
    PHOTO.convert("P").save("palette.png")
    assert cli.main(["compress", "palette.png", "--model", "nano", "-q"]) == 0
    assert capsys.readouterr() == ("", "")
    assert cli.main(["compress", "in/a.png", "-o", "a.hpcm", "--model", "nano", "--bpp", "0.4", "-v"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("in/a.png -> a.hpcm")
    assert re.match(r"hpcm: debug: nano-1 from .*, computed by hpcm\.engine\.onnx on cpu\n", err)
    assert len(re.findall(r"^hpcm: debug: level \d+ of 63: \d+ bytes, 1 tiles$", err, re.MULTILINE)) > 3
    assert cli.main(["decompress", "a.hpcm"]) == 0
    assert capsys.readouterr().err == ""


def test_the_library_logs_and_says_nothing_by_itself(caplog, capsys):
    with caplog.at_level(logging.DEBUG, "hpcm"):
        data = hpcm.load("nano").compress(PHOTO, psnr=30)
        hpcm.decompress(data)
    names = {record.name for record in caplog.records}
    assert {"hpcm.engine.choice", "hpcm.encoding", "hpcm.decoding"} <= names
    assert any(re.fullmatch(r"level \d+ of 63: \d\d\.\d\d dB", record.getMessage()) for record in caplog.records)
    assert capsys.readouterr() == ("", "")


# ---- stopped --------------------------------------------------------------------------------------------------------

PARENT = """
import argparse, os, signal, sys, time
from pathlib import Path
from hpcm import atomic
from hpcm.cli.files import Job
from hpcm.cli.messages import attempt
from hpcm.cli.processes import spread

def make(options):
    return work

def work(job):
    if sys.argv[1:] == ["killed"]:
        os.kill(os.getpid(), signal.SIGKILL)
    with atomic.replacing(job.target) as temporary:
        temporary.write_bytes(b"half")
        os.write(1, f"{os.getpid()}\\n".encode())  # in one piece
        time.sleep(600)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background inherits another
    options = argparse.Namespace(jobs=2, threads=1, verbose=False, quiet=False)
    jobs = [Job(Path(name), Path(name)) for name in ("a", "b", "c", "d", "e")]
    try:
        attempt(lambda: list(spread(jobs, make, options)))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
"""
needs_signals = pytest.mark.skipif(sys.platform != "linux", reason="sends signals, and looks for processes in /proc")


@needs_signals
@pytest.mark.parametrize("how", ["interrupted", "killed alone"])
def test_nothing_is_left_of_what_is_stopped(tmp_path, how):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, script], cwd=tmp_path, start_new_session=True, **piped) as parent:
        children = [int(parent.stdout.readline()) for _ in range(2)]
        assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 2
        if how == "interrupted":
            os.killpg(parent.pid, signal.SIGINT)  # as Ctrl-C does: all processes of the terminal
            assert parent.communicate(timeout=60) == ("", "interrupted\n")
        else:
            parent.kill()
    for _ in range(600):
        if not any(alive(child) for child in children):
            break
        time.sleep(0.1)
    assert not any(alive(child) for child in children)
    assert [path.name for path in tmp_path.iterdir()] == ["parent.py"]


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@needs_signals
def test_a_process_that_was_killed_is_told(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    done = subprocess.run([sys.executable, script, "killed"], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stderr == "hpcm: error: a process was killed, most likely because memory ran out: take fewer with -j\n"


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo terminal")
@pytest.mark.parametrize("no_color", [False, True])
def test_no_color(at, no_color):
    import pty

    main, terminal = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    environment |= {"TERM": "xterm-256color"} | ({"NO_COLOR": "1"} if no_color else {})
    line = [sys.executable, "-m", "hpcm", "compress", "in/a.png", "in/b.png", "--model", "nano"]
    done = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=terminal, env=environment)
    os.close(terminal)
    said = b""
    while block := read(main):
        said += block
    os.close(main)
    assert done.wait(60) == 0
    assert b"Working" in said
    assert bool(re.search(rb"\x1b\[[0-9;]*3[0-9]", said)) == (not no_color)


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # the other end was closed
        return b""


# ---- the command line about itself ----------------------------------------------------------------------------------


def test_version(capsys, monkeypatch):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--version"])
    assert stopped.value.code == 0
    first, engines, models = capsys.readouterr().out.splitlines()
    assert first == f"hpcm {hpcm.__version__}"
    assert re.search(r"onnxruntime \d+\.\d+", engines)
    assert "torch 2." in engines
    assert {"lite-1", "lite-mse-1", "nano-1"} <= {*re.findall(r"[\w-]+", models)}
    monkeypatch.setattr("hpcm.cli.version.ENGINES", ("no-such-engine",))
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    _, engines, _ = capsys.readouterr().out.splitlines()
    assert "no no-such-engine, Python 3." in engines


def test_what_is_completed_as_a_file():
    found = {action.dest for action in completion.values(parser())}
    assert {"inputs", "output", "model", "file", "data", "target"} <= found
    assert not {"quality", "engine", "jobs", "shell", "help", "force"} & found


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["comp"], {"compress", "completion"}),
        (["compress", "--qu"], {"--quality", "--quiet"}),
        (["decompress", "in/a"], {"in/a.png"}),
        (["compress", "--engine", "o"], {"onnx"}),
    ],
)
def test_bash_completes(at, capsys, words, expected):
    pytest.importorskip("shtab", reason="needs shtab: pip install 'hpcm-codec[completion]'")
    if not (bash := shutil.which("bash")) or os.name == "nt":
        pytest.skip("no bash")
    assert cli.main(["completion", "bash"]) == 0
    (at / "script").write_text(capsys.readouterr().out)
    line = ["hpcm", *words]
    ask = f"""
        source ./script
        COMP_WORDS=({" ".join(line)}); COMP_CWORD={len(words)}; COMPREPLY=()
        $(complete -p hpcm | sed 's/.*-F \\([^ ]*\\).*/\\1/') hpcm {line[-1]} {line[-2]}
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run([bash, "-c", ask], capture_output=True, text=True, timeout=60)
    assert set(done.stdout.split()) == expected, done.stderr


def test_completion_needs_its_extra(capsys, monkeypatch):
    monkeypatch.setattr(completion, "find_spec", lambda name: None)
    assert cli.main(["completion", "zsh"]) == 1
    assert capsys.readouterr().err == "hpcm: error: this needs shtab: pip install 'hpcm-codec[completion]'\n"
