"""Many files on the command line: processes, dry runs, times, how much is said, and what is left when it is stopped."""

import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest
from PIL import Image

import hpcm
from hpcm import cli
from hpcm.cli import completion, processes, version
from hpcm.cli.commands import parser
from hpcm.codec.codec import Codec
from hpcm.codec.engine import Engine
from hpcm.model.find import find_all
from watched import SECONDS, Watched, meeting

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
    return tmp_path


def tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_side_by_side_is_as_one_after_the_other(at, capsys):
    assert cli.main(["compress", "in", "-o", "one", "--model", "nano"]) == 1
    one = capsys.readouterr()
    assert cli.main(["compress", "in", "-o", "two", "--model", "nano", "--jobs", "2"]) == 1
    two = capsys.readouterr()
    assert two.out == one.out.replace("one", "two")
    assert two.err == one.err
    assert re.fullmatch(r"hpcm: error: in.damaged\.png: .*\nhpcm: 3 written, 1 failed\n", two.err)
    assert tree(at / "two") == tree(at / "one") == {"a.hpcm", "b.hpcm", "c.hpcm"}
    assert all((at / "one" / name).read_bytes() == (at / "two" / name).read_bytes() for name in tree(at / "one"))
    assert cli.main(["decompress", "two", "-j", "2", "-v"]) == 0
    assert capsys.readouterr().err.count("hpcm: debug: nano-1 at level") == 3
    assert tree(at / "two") == {f"{name}.{suffix}" for name in "abc" for suffix in ("hpcm", "png")}


@pytest.fixture
def gpu(request, monkeypatch) -> list[Watched]:
    """Makes `--device cuda` the CPU, with engines to which the first three tiles (or param) have to come at once."""
    made: list[Watched] = []

    def watched(engine: Engine) -> Watched:
        made.append(Watched(engine, 8, meeting(getattr(request, "param", 3))))
        return made[-1]

    def load(model: str, how: dict) -> Codec:
        if how["device"] == "cpu":
            return Codec(find_all(model), **how)
        return Codec(find_all(model), threads=1, wrap=watched)

    for module in ("compress", "decompress"):
        monkeypatch.setattr(f"hpcm.cli.{module}.load", load)
    return made


def test_on_a_gpu_threads_share_the_model(at, gpu, capsys):
    model = ["--model", "nano"]
    assert cli.main(["compress", "in", "-o", "one", *model]) == 1
    assert cli.main(["decompress", "one", *model]) == 0
    one = capsys.readouterr()
    assert cli.main(["compress", "in", "-o", "two", *model, "--device", "cuda"]) == 1
    assert cli.main(["decompress", "two", *model, "--device", "cuda"]) == 0
    two = capsys.readouterr()
    assert (two.out.replace("two", "one"), two.err) == one
    assert tree(at / "two") == tree(at / "one")
    assert all((at / "one" / name).read_bytes() == (at / "two" / name).read_bytes() for name in tree(at / "one"))
    assert [dict(engine.most) for engine in gpu] == [{"analyse": 3, "encode": 3}, {"decode": 3, "synthesise": 3}]


@pytest.mark.parametrize("gpu", [1], indirect=True)
def test_on_a_gpu_one_file_needs_no_thread(at, gpu):
    for line in (["in/a.png", "-o", "a.hpcm"], ["in/a.png", "in/b.png", "-j", "1"]):
        assert cli.main(["compress", *line, "--model", "nano", "--device", "cuda"]) == 0
        assert gpu[-1].threads == {threading.main_thread()}


@pytest.mark.filterwarnings("always:it is odd")
def test_notes_and_warnings_of_threads_have_their_files_name(at, gpu, monkeypatch, capsys):
    def warned(self, image, **how):
        warnings.warn("it is odd", stacklevel=1)
        return compress(self, image, **how)

    compress = Codec.compress
    monkeypatch.setattr(Codec, "compress", warned)
    for name in "abc":
        PHOTO.convert("CMYK").save(f"{name}.tif")
    line = ["compress", "a.tif", "b.tif", "c.tif", "--model", "nano", "--device", "cuda"]
    assert cli.main(line) == 0
    *said, last = capsys.readouterr().err.splitlines()
    assert [line.split(": ")[1:3] for line in said] == [["note", f"{name}.tif"] for name in "aabbcc"]
    assert said[0::2] == [f"hpcm: note: {name}.tif: it is odd" for name in "abc"]
    assert last == "hpcm: 3 written, 0 failed"
    assert cli.main([*line, "-f", "-q"]) == 0
    assert capsys.readouterr().err.splitlines() == [f"hpcm: note: {name}.tif: it is odd" for name in "abc"]


def test_what_ends_the_command_ends_its_threads(at, gpu, monkeypatch, capsys):
    """Two files are in a network for ever when the first one is written."""
    begun = threading.Barrier(3, timeout=SECONDS)

    def compress(self, image, *, check, **how):
        begun.wait()
        if image.pixels[0, 0, 0] != 7:
            until = time.monotonic() + SECONDS
            while time.monotonic() < until:
                check()
        return b"data"

    for error, code in ((KeyboardInterrupt, 130), (ZeroDivisionError, None)):

        def fail(*_, error=error):
            raise error

        monkeypatch.setattr(Codec, "compress", compress)
        monkeypatch.setattr("hpcm.cli.batch.save", fail)
        Image.new("RGB", (32, 32), (7, 7, 7)).save("in/a.png")
        line = ["compress", "in/a.png", "in/b.png", "in/c.png", "-o", "out/", "--model", "nano", "--device", "cuda"]
        before = threading.active_count()
        if code:
            assert cli.main(line) == code
        else:
            with pytest.raises(error):
                cli.main(line)
        assert threading.active_count() == before
        assert not (at / "out").exists()


def test_a_model_that_is_missing_is_one_line(at, capsys):
    assert cli.main(["compress", "in", "-o", "out", "--model", "no-such", "-j", "2"]) == 1
    assert capsys.readouterr().err.startswith("hpcm: error: no model 'no-such'")


def test_the_cores_are_shared(at, monkeypatch):
    given = []
    monkeypatch.setattr(processes, "cores", lambda: 7)
    monkeypatch.setattr(processes, "Worker", lambda make, options: given.append(options) or 1 / 0)
    for line, threads in ((["-j", "3"], 2), (["-j", "9"], 1), (["-j", "2", "--threads", "5"], 5)):
        with pytest.raises(ZeroDivisionError):
            cli.main(["compress", "in", "-o", "out", "--model", "nano", *line])
        assert given.pop().threads == threads


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
    assert re.match(r"hpcm: debug: nano-1 from .*, computed by CoreEngine on cpu\n", err)
    assert len(re.findall(r"^hpcm: debug: level \d+ of 63: \d+ bytes, 1 tiles$", err, re.MULTILINE)) > 3
    assert cli.main(["decompress", "a.hpcm"]) == 0
    assert capsys.readouterr().err == ""


def test_the_library_logs_and_says_nothing_by_itself(caplog, capsys):
    with caplog.at_level(logging.DEBUG, "hpcm"):
        data = hpcm.load("nano").compress(PHOTO, psnr=30)
        hpcm.decompress(data)
    names = {record.name for record in caplog.records}
    assert {"hpcm.codec.engine", "hpcm.codec.encoder", "hpcm.codec.decoder"} <= names
    assert any(re.fullmatch(r"level \d+ of 63: \d\d\.\d\d dB", record.getMessage()) for record in caplog.records)
    assert capsys.readouterr() == ("", "")


# ---- stopped --------------------------------------------------------------------------------------------------------

PARENT = """
import argparse, os, signal, sys, time
from pathlib import Path
from hpcm.util import atomic
from hpcm.cli.jobs import Job
from hpcm.cli.messages import attempt
from hpcm.cli.processes import run_parallel
from hpcm.cli.signals import as_interruptions, exit_code

def make(options):
    return work

def work(job):
    if sys.argv[1] == "crash":
        if job.name == "b":
            os.kill(os.getpid(), signal.SIGKILL)
        if job.name == "d":
            os._exit(7)
        job.target.write_text("made")
        return
    if sys.argv[1] == "bug":
        1 / 0
    with atomic.replacing(job.target) as temporary:
        temporary.write_bytes(b"half")
        os.write(1, f"{os.getpid()}\\n".encode())  # in one piece
        time.sleep(600)

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background inherits others
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    options = argparse.Namespace(jobs=2, threads=1, verbose=False, quiet=False)
    jobs = [Job(Path(name), Path(name)) for name in ("a", "b", "c", "d", "e", "f")]
    try:
        with as_interruptions():
            results = []
            attempt(lambda: results.extend(run_parallel(jobs, make, options)))
            print("".join(result.err for result in results), end="")
    except KeyboardInterrupt as interruption:
        sys.exit(exit_code(interruption))
"""
needs_signals = pytest.mark.skipif(sys.platform != "linux", reason="sends signals, and looks for processes in /proc")


def parent(folder: Path, what: str) -> subprocess.Popen:
    script = folder / "parent.py"
    script.write_text(PARENT)
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, script, what], cwd=folder, start_new_session=True, **piped)


@needs_signals
@pytest.mark.parametrize(
    ("number", "everywhere"),
    [
        (signal.SIGINT, True),  # as Ctrl-C is sent: to all processes of the terminal
        (signal.SIGTERM, False),
        (signal.SIGTERM, True),  # as service managers send it
        (signal.SIGHUP, True),  # as a terminal that is closed sends it
        (signal.SIGKILL, False),
    ],
)
def test_nothing_is_left_of_what_is_stopped(tmp_path, number, everywhere):
    """No process, no half a file, and no word."""
    with parent(tmp_path, "sleep") as process:
        children = [int(process.stdout.readline()) for _ in range(2)]
        assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 2
        (os.killpg if everywhere else os.kill)(process.pid, number)
        assert process.communicate(timeout=60) == ("", "")
        assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    assert_gone(children)
    assert [path.name for path in tmp_path.iterdir()] == ["parent.py"]


@needs_signals
def test_it_may_be_stopped_while_processes_start(tmp_path):
    """At any moment: no traceback of a process that was about to read what it should do."""
    for delay in (0.3, 0.5, 0.7):
        with parent(tmp_path, "sleep") as process:
            time.sleep(delay)
            os.killpg(process.pid, signal.SIGTERM)
            assert process.communicate(timeout=60)[1] == ""
        assert [path.name for path in tmp_path.iterdir()] == ["parent.py"]


def assert_gone(children: list[int]) -> None:
    for _ in range(600):
        if not any(alive(child) for child in children):
            break
        time.sleep(0.1)
    assert not any(alive(child) for child in children)


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@needs_signals
def test_a_file_that_crashes_its_process_is_told_and_the_others_are_done(tmp_path):
    with parent(tmp_path, "crash") as process:
        out, err = process.communicate(timeout=60)
    assert err == ""
    assert out.splitlines() == [
        "hpcm: error: b: its process was killed, most likely because memory ran out: take fewer with -j",
        "hpcm: error: d: its process ended with exit code 7",
    ]
    assert tree(tmp_path) == {"parent.py", "a", "c", "e", "f"}


@needs_signals
def test_a_bug_in_a_process_is_raised(tmp_path):
    with parent(tmp_path, "bug") as process:
        assert "RuntimeError: in a process of its own, a raised" in process.communicate(timeout=60)[1]
    assert process.returncode == 1


def test_a_process_that_can_not_be_started_is_an_error(at, monkeypatch, capsys):
    def fail(*_):
        raise BlockingIOError(11, "no more processes")

    monkeypatch.setattr(processes, "Worker", fail)
    assert cli.main(["compress", "in", "-o", "out", "--model", "nano", "-j", "2"]) == 1
    err = capsys.readouterr().err
    assert len(re.findall(r"^hpcm: error: in.\w+\.png: no process could be started for it", err, re.MULTILINE)) == 4
    assert err.endswith("hpcm: 0 written, 4 failed\n")


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


def test_version(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--version"])
    assert stopped.value.code == 0
    first, engines, models = capsys.readouterr().out.splitlines()
    assert first == f"hpcm {hpcm.__version__}"
    assert re.search(r"the native library \((avx512|avx2|generic)\), torch 2\.", engines)
    assert {"lite-1", "lite-mse-1", "nano-1"} <= {*re.findall(r"[\w-]+", models)}
    assert version.installed("no-such-package") == "no no-such-package"


def test_what_is_completed_as_a_file():
    found = {action.dest for action in completion.path_arguments(parser())}
    assert {"inputs", "output", "model", "file", "data", "target"} <= found
    assert not {"quality", "engine", "jobs", "shell", "help", "force"} & found


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["comp"], {"compress", "completion"}),
        (["compress", "--qu"], {"--quality", "--quiet"}),
        (["decompress", "in/a"], {"in/a.png"}),
        (["compress", "--engine", "c"], {"core"}),
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
