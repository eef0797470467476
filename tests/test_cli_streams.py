"""The standard streams, closed or full of data, and signals, in processes of their own."""

import contextlib
import os
import signal
import stat
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from PIL import Image

import hpcm
from hpcm import cli
from hpcm.cli import messages, signals
from hpcm.errors import WeightsError
from hpcm.format.container import unpack
from hpcm.util import atomic

pytestmark = pytest.mark.skipif(os.name == "nt", reason="closes descriptors, and sends signals")
HPCM = [sys.executable, "-m", "hpcm"]
NANO = ["--model", "nano"]


@pytest.fixture
def at(tmp_path, monkeypatch) -> Path:
    """A folder with a picture, its .hpcm file, and a file that is none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(hpcm.__file__).parents[1]))
    Image.new("RGB", (64, 64), (9, 99, 200)).save("a.png")
    Path("b.hpcm").write_bytes(hpcm.compress("a.png", model="nano"))
    Path("bad.jpg").write_text("none")
    return tmp_path


def shell(*line: str, end: str = "", **options) -> subprocess.CompletedProcess[bytes]:
    """A command line as a shell runs it; `end`: what follows, such as 2>&-."""
    command = ["sh", "-c", f'"$@" {end}', "sh", *HPCM, *line]
    return subprocess.run(command, capture_output=True, timeout=120, **options)


# ---- closed ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(at, end):
    """Each command does its work and has the right exit code, and nothing gets into a file that isn't its own."""
    assert shell("compress", "a.png", "bad.jpg", "-o", "out", "-v", *NANO, end=end).returncode == 1
    assert unpack(Path("out/a.hpcm").read_bytes()).width == 64
    assert shell("compress", "a.png", "-j", "2", *NANO, end=end).returncode == 0
    assert Path("a.hpcm").read_bytes() == Path("out/a.hpcm").read_bytes() == Path("b.hpcm").read_bytes()
    assert shell("decompress", "b.hpcm", end=end).returncode == 0
    with Image.open("b.png") as image:
        assert image.size == (64, 64)
    assert shell("info", "none.hpcm", end=end).returncode == 1
    assert {path.name for path in at.iterdir()} == {"a.hpcm", "a.png", "b.hpcm", "b.png", "bad.jpg", "out"}


@pytest.mark.parametrize("line", [["models"], ["info", "b.hpcm"], ["--version"], ["--help"]])
def test_what_only_prints(at, line):
    for end in ("2>&-", ">&-", ">&- 2>&- <&-"):
        assert shell(*line, end=end).returncode == 0


def test_errors_never_go_into_the_data(at):
    done = shell("compress", "bad.jpg", "-q", "-o", "-", *NANO, end="2>&-")
    assert (done.returncode, done.stdout) == (1, b"")
    assert shell("--no-such", end="2>&-").returncode == 2
    for output in ("-", "/dev/stdout"):  # the data would be lost
        done = shell("compress", "a.png", "-o", output, *NANO, end=">&-")
        assert done.returncode == 1
        assert done.stderr.startswith(b"hpcm: error: a.png: standard output is closed or a terminal")


def test_a_reader_of_errors_that_has_gone(at):
    """The work goes on, and the exit code is the usual one."""
    read, write = os.pipe()
    os.close(read)
    line = [*HPCM, "compress", "bad.jpg", "a.png", "-o", "out", *NANO]
    done = subprocess.run(line, stdout=subprocess.DEVNULL, stderr=write, timeout=120)
    os.close(write)
    assert done.returncode == 1
    assert Path("out/a.hpcm").exists()


# ---- data on standard output ----------------------------------------------------------------------------------------


PIPE, FILE = "| cat", "> out.hpcm; cat out.hpcm"


@pytest.mark.parametrize(
    ("output", "end"),
    [
        ("-", PIPE),
        ("-", FILE),
        ("/dev/stdout", PIPE),
        ("/dev/stdout", FILE),
        ("/dev/fd/1", PIPE),
        ("/proc/self/fd/1", FILE),
    ],
)
def test_standard_output_under_any_name(at, output, end):
    if not Path(output).exists() and output != "-":
        pytest.skip(f"there is no {output}")
    done = shell("compress", "a.png", "-o", output, *NANO, end=end)
    assert done.stdout == Path("b.hpcm").read_bytes()
    assert done.stderr == b""


def test_the_file_that_standard_output_goes_to(at):
    done = shell("compress", "a.png", "-o", "out.hpcm", *NANO, end="> out.hpcm")
    assert done.returncode == 0
    assert Path("out.hpcm").read_bytes() == Path("b.hpcm").read_bytes()
    done = shell("compress", "a.png", "bad.jpg", "-o", "/dev/stdout", *NANO)
    assert (done.returncode, done.stdout) == (1, b"")


def test_pipes_get_the_data_alone(at):
    os.mkfifo("pipe.jpg")  # it may have any name
    read = partial(os.open, "pipe.jpg", os.O_RDONLY | os.O_NONBLOCK)  # what is written fits into a pipe
    for line, begin in (
        (["compress", "a.png", "-o", "pipe.jpg", "--keep-times", *NANO], Path("b.hpcm").read_bytes()),
        (["thumbnail", "b.hpcm", "pipe.jpg", "32"], b"\x89PNG"),
    ):
        reader = read()
        done = shell(*line)
        data = os.read(reader, 1 << 16)
        os.close(reader)
        assert (done.returncode, done.stderr) == (0, b"")
        assert data.startswith(begin)
        assert not data.endswith(b"\n")
    assert stat.S_ISFIFO(Path("pipe.jpg").stat().st_mode)
    assert shell("compress", "a.png", "-o", "/dev/null", *NANO).returncode == 0


# ---- signals --------------------------------------------------------------------------------------------------------

SLOW = """
import signal, sys, time
from importlib import import_module

signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background inherits others
signal.signal(signal.SIGHUP, signal.SIG_DFL)

def wait(*arguments, **options):
    print("begun", flush=True)
    time.sleep(600)

if __name__ == "__main__":
    module, *owners, name = sys.argv[1].split(":")
    owner = import_module(module)
    for inner in owners:
        owner = getattr(owner, inner)
    setattr(owner, name, wait)
    from hpcm.cli import main
    sys.exit(main(sys.argv[2:]))
"""
LINES = {  # what takes long in it, and the command
    "compress": ["hpcm.codec.codec:Codec:compress", "compress", "a.png", "-o", "new/x.hpcm", *NANO],
    "decompress": ["hpcm.codec.codec:Codec:decompress_picture", "decompress", "b.hpcm"],
    "fsync": ["os:fsync", "decompress", "b.hpcm"],  # half a file is there
    "import": ["hpcm.convert.official:import_checkpoint", "import", "a.pth", "--arch", "base", "-o", "new.safetensors"],
    "exact": ["hpcm.convert.models:exact_of", "exact", "nano", "a.png", "-o", "new.safetensors", "--name", "new"],
    "get": ["hpcm.convert.install:make", "models", "--get", "base-0130", "--from", "base-0130.pth.tar"],
}


@pytest.mark.parametrize(
    ("line", "number"),
    [*((line, signal.SIGTERM) for line in LINES), ("fsync", signal.SIGHUP), ("fsync", signal.SIGINT)],
)
def test_a_command_that_is_ended_leaves_nothing(at, monkeypatch, line, number):
    monkeypatch.setenv("HPCM_WEIGHTS", str(at / "weights"))
    Path("weights").mkdir()
    Path("base-0130.pth.tar").write_bytes(b"")
    (at / "slow.py").write_text(SLOW)
    before = {path.relative_to(at) for path in at.rglob("*")}
    command = [sys.executable, "slow.py", *LINES[line]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        while (said := process.stdout.readline()) not in (b"begun\n", b""):
            pass
        assert said, process.stderr.read()
        process.send_signal(number)
        assert process.communicate(timeout=60) == (b"", b"")
        assert process.returncode == 128 + number
    after = {path.relative_to(at) for path in at.rglob("*") if "__pycache__" not in path.parts}
    assert after - before <= {Path("new")}


def terminate_twice() -> None:
    with signals.as_interruptions():
        signal.raise_signal(signal.SIGHUP)
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGTERM)


def test_signals_within_a_process():
    """What was ignored stays so, as after nohup; a second signal doesn't disturb the first; all is as before."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    default = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(KeyboardInterrupt) as caught:
            terminate_twice()
        assert signals.exit_code(caught.value) == 143
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)
        signal.signal(signal.SIGTERM, default)
    assert signals.exit_code(KeyboardInterrupt()) == 130


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("error", [WeightsError("the weights are wrong"), RuntimeError("initialization failed"), None])
def test_no_library_turns_a_signal_into_another_error(capsys, number, error):
    """Compiled code that calls Python may take KeyboardInterrupt for a failure of its own, or pass over it."""

    def work():
        try:
            signal.raise_signal(number)
        except KeyboardInterrupt:
            if error:
                raise error from None

    before = signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    try:
        with pytest.raises(KeyboardInterrupt) as caught, signals.as_interruptions():
            messages.attempt(work)
    finally:
        signal.signal(number, before)
    assert signals.exit_code(caught.value) == 128 + number
    assert capsys.readouterr() == ("", "")
    assert messages.attempt(lambda: None)  # it is forgotten


IMPORTING = """
import signal, sys

class Interrupted:
    def find_spec(self, name, *_):
        if name == "hpcm.cli":
            signal.raise_signal(signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupted())
from hpcm.__main__ import main
sys.exit(main())
"""


def test_ctrl_c_while_the_command_line_is_imported():
    done = subprocess.run([sys.executable, "-c", IMPORTING], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_many_files_ended_at_any_moment(at):
    """No half a file, no warning and no traceback."""
    Path("c.png").write_bytes(Path("a.png").read_bytes())
    line = ["compress", "a.png", "c.png", "-o", "o/", "-j", "2", *NANO]
    for delay in (0.5, 1.0, 1.5):
        with subprocess.Popen([*HPCM, *line, "-f"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            time.sleep(delay)
            process.terminate()
            err = process.communicate(timeout=60)[1]
        assert process.returncode in (0, 143, -signal.SIGTERM)
        assert err in (b"", b"hpcm: 2 written, 0 failed\n")
    assert not list(at.rglob(f"{atomic.TEMPORARY}*"))


# ---- what is overwritten --------------------------------------------------------------------------------------------


def test_permissions_are_kept(at, capsys):
    Path("private.hpcm").write_bytes(b"")
    Path("private.hpcm").chmod(0o600)
    Path("link.hpcm").symlink_to("private.hpcm")
    for output in ("private.hpcm", "link.hpcm"):
        assert cli.main(["compress", "a.png", "-o", output, "-f", *NANO]) == 0
        assert stat.S_IMODE(Path("private.hpcm").stat().st_mode) == 0o600
    assert Path("link.hpcm").is_symlink()
    with contextlib.suppress(PermissionError):
        Path("private.hpcm").chmod(0o444)
        assert cli.main(["compress", "a.png", "-o", "private.hpcm", "-f", *NANO]) == 0
        assert stat.S_IMODE(Path("private.hpcm").stat().st_mode) == 0o444
