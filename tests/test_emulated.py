"""The native library gives the same on other processors and systems, by emulators.

The tests in which it is compared with its twin, and its entropy coder with constriction, run here once, and what they
ask of it is recorded (recorder.py). core/test/replay.c asks libraries for other platforms the same, and compares.
"""

import importlib.util
import os
import platform
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest

from hpcm.codec.engine import load_engine
from hpcm.core import library
from hpcm.core.ans import SymbolDecoder, SymbolEncoder, checksum
from hpcm.core.residual import decode_dct, decode_residual, encode_dct, encode_residual
from hpcm.errors import CorruptError
from hpcm.model.find import find
from hpcm.model.order import steps_of
from hpcm.model.tables import make_tables
from recorder import FUNCTIONS, Recorder

ROOT = Path(__file__).parents[1]
core = SimpleNamespace(**runpy.run_path(str(ROOT / "core" / "build.py")))
REPLAY = core.CORE / "test" / "replay.c"
PROGRAM = "replay.exe"  # only Windows asks for that ending
RECORDED = [ROOT / "tests" / name for name in ("test_core.py", "test_entropy.py", "test_golden.py", "test_residual.py")]
SELECTED = "not other_levels and not signal and not forked"  # a signal may end a call while it is recorded
OWN_KERNELS = library.library().hpcm_kernels().decode()


class Machine(NamedTuple):
    """A processor and a system.

    target: a tag of wheels.
    command: what runs programs of that target.
    loader: of its system, without which no program runs.
    packages: of Debian, that bring them.
    kernels: those that the library finds, best first.
    """

    target: str
    command: Sequence[str]
    loader: str
    packages: str
    kernels: str


GNU, MUSL = "/usr/aarch64-linux-gnu", "/usr/aarch64-linux-musl"


def arm(cpu: str) -> Machine:
    command, loader = ("qemu-aarch64", "-L", GNU, "-cpu", cpu), f"{GNU}/lib/ld-linux-aarch64.so.1"
    return Machine("manylinux_2_17_aarch64", command, loader, "qemu-user and libc6-arm64-cross", "neon generic")


def x86(cpu: str, kernels: str) -> Machine:
    command, loader = ("qemu-x86_64", "-cpu", cpu), "/lib64/ld-linux-x86-64.so.2"
    return Machine("manylinux_2_17_x86_64", command, loader, "qemu-user", kernels)


MACHINES = {
    "arm": arm("cortex-a53"),
    "arm_newest": arm("max"),
    "arm_musl": Machine(
        "musllinux_1_2_aarch64",
        ("qemu-aarch64", "-L", MUSL),
        f"{MUSL}/lib/ld-musl-aarch64.so.1",
        f"qemu-user and musl:arm64 (`dpkg --extract` it to {MUSL})",
        "neon generic",
    ),
    "x86_without_avx": x86("Nehalem", "generic"),
    "x86_with_avx2": x86("Haswell", "avx2 generic"),
    "musl": Machine("musllinux_1_2_x86_64", (), "/lib/ld-musl-x86_64.so.1", "musl", OWN_KERNELS),
    "windows": Machine("win_amd64", ("wine",), "/usr/bin/wine", "wine", OWN_KERNELS),
}
RUNS = [
    ("arm", "neon"),
    ("arm", "generic"),
    ("arm_newest", "neon"),
    ("arm_musl", "neon"),
    ("x86_without_avx", "generic"),
    ("x86_with_avx2", "avx2"),
    *((name, kernels) for name in ("musl", "windows") for kernels in OWN_KERNELS.split()),
]


def skipped(machine: Machine) -> str:
    """Why programs for a machine can't run here; empty if they can."""
    if not machine.target.endswith("aarch64") and platform.machine() != "x86_64":
        return "this machine lacks what programs for x86-64 load"
    there = all(map(shutil.which, machine.command[:1])) and Path(machine.loader).exists()
    return "" if there else f"this needs the Debian packages {machine.packages}"


# ---- libraries, programs and records --------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder with the library and the program for a target."""

    @cache
    def build(target: str) -> Path:
        folder = tmp_path_factory.mktemp(target)
        core.build(folder / core.library_name(target), target)
        core.build(folder / PROGRAM, target, program=[REPLAY], alone=True)
        return folder

    return build


@pytest.fixture(scope="session")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the tests of RECORDED asked."""
    path = tmp_path_factory.mktemp("record") / "calls"
    environment = {**os.environ, "HPCM_TEST_RECORD": str(path), "OMP_NUM_THREADS": "1"}  # for small tensors
    line = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *RECORDED, "-k", SELECTED]
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    return path


def run(
    folder: Path, name: str, record: Path, command: Sequence[str] = (), kernels: str = ""
) -> subprocess.CompletedProcess[str]:
    """Of the program in a folder, with a library. The environment is also Wine's, which makes a folder of its own."""
    environment = {**os.environ, "HPCM_KERNELS": kernels, "WINEPREFIX": str(folder / "wine"), "WINEDEBUG": "-all"}
    line = [*command, str(folder / PROGRAM), name, str(record)]
    return subprocess.run(line, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)


# ---- other machines -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("ziglang"), reason="this needs the package ziglang")
@pytest.mark.parametrize(("name", "kernels"), RUNS)
def test_machines_give_what_this_one_gives(name: str, kernels: str, request: pytest.FixtureRequest) -> None:
    machine = MACHINES[name]
    if reason := skipped(machine):
        pytest.skip(reason)
    record, folder = request.getfixturevalue("record"), request.getfixturevalue("built")(machine.target)
    best = machine.kernels.split()[0]  # is what the library takes when nothing is said
    done = run(
        folder,
        f"./{core.library_name(machine.target)}",
        record,
        machine.command,
        "" if kernels == best else kernels,
    )
    assert f"kernels: {kernels}, of {machine.kernels}\n" in done.stdout
    assert done.returncode == 0, done.stdout
    calls = {function: int(count) for count, function in re.findall(r"(\d+) ([a-z_]+)", done.stdout.splitlines()[-2])}
    assert set(calls) == set(FUNCTIONS)
    assert min(calls.values()) > 0
    assert re.search(r"\d\d calls, of which \d\d+ are refused: all give the same\n", done.stdout)


# ---- the recorder and the program -----------------------------------------------------------------------------------


def make_record(path: Path) -> bytes:
    """Of a bundled model and the entropy coder. Gives the payload in it."""
    symbols, indexes = np.array([1, -2, 300], np.int32), np.array([20, 30, 40], np.uint8)
    with Recorder(path) as recorder:
        recorder.attach(library.library())
        engine = load_engine(find("nano"), threads=1).engine
        y = engine.analyse(np.arange(64 * 64 * 3, dtype=np.uint16).reshape(64, 64, 3), 65535, (64, 64))
        payload = b"".join(engine.encode(y, 30).parts)
        steps = len(steps_of(engine.config)) + 1
        y_hat = engine.decode(payload, steps, (4, 4), 30).y_hat
        engine.synthesise(y_hat, 8, False, (0, 0, 64, 64))
        known, _ = engine.decode_known(payload, steps, (4, 4), 30)
        engine.fill(known, 30)
        with pytest.raises(CorruptError):
            engine.decode(bytes(4), steps, (4, 4), 30)
        encoder = SymbolEncoder(make_tables())
        encoder.push(symbols, indexes)
        encoder.cut()
        decoder = SymbolDecoder(make_tables(), b"".join(encoder.finish()))
        assert np.array_equal(decoder.pop(indexes), symbols)
        decoder.finish()
        checksum(symbols)
        base = np.arange(20 * 30 * 3, dtype=np.uint16).reshape(20, 30, 3)
        decode_residual(encode_residual(base ^ 5, base, 16), base, 16)
        decode_dct(encode_dct(base ^ 5, base, 1, 16), base, 1, 16)
    return payload


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the program for this machine."""
    try:
        core.find_compiler()
    except FileNotFoundError:
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("program")
    core.build(folder / PROGRAM, program=[REPLAY], alone=True)
    return folder


def test_what_is_recorded_is_repeated(program: Path) -> None:
    make_record(program / "calls")
    for kernels in OWN_KERNELS.split():
        done = run(program, str(library.PATH), program / "calls", kernels=kernels)
        assert done.returncode == 0, done.stdout
        assert f"kernels: {kernels}, of {OWN_KERNELS}\n" in done.stdout
        assert re.search(r"\d\d calls, of which 1 are refused: all give the same", done.stdout)


def test_differences_are_said(program: Path) -> None:
    payload = make_record(program / "calls")
    recorded = (program / "calls").read_bytes()
    assert recorded.count(payload) == 1
    place = recorded.index(payload) + 7
    (program / "calls").write_bytes(recorded[:place] + bytes([recorded[place] ^ 1]) + recorded[place + 1 :])
    done = run(program, str(library.PATH), program / "calls")
    assert done.returncode == 1
    byte = payload[7]
    expected = rf"call \d+ \(hpcm_encode\): payload\[7\] is {byte} instead of {byte ^ 1}; 1 of {len(payload)} differ\n"
    assert re.search(expected, done.stdout)
    assert re.search(r"call \d+ \(hpcm_decode\): ", done.stdout)  # of the other payload
    assert re.search(r"\d\d calls, of which 1 are refused: \d give something else\n", done.stdout)


def test_another_status_is_said(program: Path) -> None:
    make_record(program / "calls")
    done = run(program, str(library.PATH), program / "calls", kernels="abacus")
    assert done.returncode == 2
    assert "call 1 (hpcm_model_create): the status is 6 instead of 0\n" in done.stdout
