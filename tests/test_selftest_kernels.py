"""Kernels that are wrong: nothing is coded with them, and `hpcm selftest` names them.

The library is compiled with a fault in each set of kernels, which an environment variable switches on. Faults are off
by one, or larger where they are so rare that the library's own check of fixed inputs passes over them.
"""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import hpcm
from hpcm.core import library as binding

ROOT = Path(__file__).parents[1]
CORE = ROOT / "core"
GOLDEN = ROOT / "tests" / "golden" / "nano-1.hpcm"
KERNELS = binding.library().hpcm_kernels().decode().split()
BEST, *OTHERS = KERNELS
PLACES = {  # that a set computes at once
    name: int(re.search(r"PLACES = (\d+)", (CORE / "kernels" / f"{name}.c").read_text())[1]) for name in KERNELS
}
SETS = re.compile(r'(const hpcm_kernel_set \w+ = \{\s*"(\w+)", COLUMNS, PLACES, )sums_of,')
FAULT = """
#include <stdlib.h>

/* What HPCM_TEST_FAULT says: "avx2 always", "avx2 5" (places, in long sums alone), "avx2 large". */
static void faulty_sums(const int16_t *inputs, ptrdiff_t stride, int places, int segments, ptrdiff_t segment_stride,
                        int length, const int16_t *weights, const int32_t *bias, int32_t *sums) {
    const char *fault = getenv("HPCM_TEST_FAULT"), *kind = fault ? strchr(fault, ' ') : 0;
    sums_of(inputs, stride, places, segments, segment_stride, length, weights, bias, sums);
    if (!kind) return;
    if (strncmp(fault, "all ", 4) && strncmp(fault, "NAME ", sizeof "NAME")) return;
    int last = places * COLUMNS - 1;
    if (!strcmp(kind, " always")) sums[last]++;
    if (!strcmp(kind, " large"))
        for (int i = 0; i < length; i++)
            if (inputs[i] == INT16_MAX) sums[0] += 1 << 20;
    if (atoi(kind) == places && segments * length > 48) sums[last] += 1 << 12;
}

"""
LIBRARY = """
import sys
from pathlib import Path
from hpcm.core import library
library.PATH = Path(sys.argv.pop(1))
"""
COMMAND = """
from hpcm.cli import main
sys.exit(main(sys.argv[1:]))
"""
CHECK = """
import dataclasses, json
from hpcm.selftest.check import check, models
print(json.dumps(dataclasses.asdict(check(sys.argv[1], models(print), everything=sys.argv[2:] == ["all"]))))
"""

pytestmark = [
    pytest.mark.slow,  # it compiles the library
    pytest.mark.skipif(sys.platform == "win32", reason="the environment of a library is another one there"),
]
needs_a_choice = pytest.mark.skipif(not OTHERS, reason="this machine has only one set of kernels")


@pytest.fixture(scope="module")
def faulty(tmp_path_factory) -> Path:
    """The library with the faults."""
    core = tmp_path_factory.mktemp("faulty") / "core"
    shutil.copytree(CORE, core)
    found = []
    for file in sorted(core.glob("kernels/*.c")):
        source = file.read_text()
        if made := SETS.search(source):
            fault = FAULT.replace("NAME", made[2])
            file.write_text(source[: made.start()] + fault + made[1] + "faulty_sums," + source[made.end() :])
            found.append(made[2])
    assert {*KERNELS} <= {*found}
    build = runpy.run_path(str(core / "build.py"))
    os.environ.setdefault("ZIG_GLOBAL_CACHE_DIR", str(ROOT / "build" / "zig"))
    build["build"](core / "faulty.so")
    return core / "faulty.so"


@pytest.fixture
def run(faulty, tmp_path):
    """Runs a command line with the library and a fault, in a folder with a photograph: exit code, stdout and stderr."""
    with Image.open(ROOT / "tests" / "data" / "kodim23.png") as picture:
        picture.crop((100, 100, 300, 200)).save(tmp_path / "photo.png")

    def run(fault: str, *line: str, **environment: str) -> tuple[int, str, str]:
        done = python(faulty, COMMAND, fault, *line, cwd=tmp_path, **environment)
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def child(faulty):
    """Runs a program with the library and a fault: what it prints, from JSON."""
    return lambda program, fault, *line: json.loads(python(faulty, program, fault, *line).stdout)


def python(
    library: Path, program: str, fault: str, *line: str, cwd: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess[str]:
    own = {"PYTHONPATH": str(Path(hpcm.__file__).parents[1]), "HPCM_TEST_FAULT": fault}
    command = [sys.executable, "-c", LIBRARY + program, str(library), *line]
    everything = {**os.environ, **own, **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=cwd, env=everything)


def test_without_a_fault_it_is_the_same_library(run, tmp_path):
    assert run("", "compress", "photo.png")[::2] == (0, "")
    assert (tmp_path / "photo.hpcm").read_bytes() == hpcm.compress(tmp_path / "photo.png")
    assert run("", "selftest")[::2] == (0, "")


@needs_a_choice
def test_kernels_that_are_wrong_code_nothing(run, tmp_path):
    fault = f"{BEST} always"
    advice = f"the kernels {BEST} compute wrongly on this machine: set HPCM_KERNELS={OTHERS[0]}\n"
    assert run(fault, "compress", "photo.png") == (1, "", f"hpcm: error: {advice}")
    assert run(fault, "decompress", str(GOLDEN), "-o", "a.png") == (1, "", f"hpcm: error: {GOLDEN}: {advice}")
    assert [file.name for file in tmp_path.iterdir()] == ["photo.png"]
    assert run(fault, "compress", "photo.png", HPCM_KERNELS=OTHERS[0])[0] == 0
    assert (tmp_path / "photo.hpcm").read_bytes() == hpcm.compress(tmp_path / "photo.png")
    assert run(fault, "decompress", str(GOLDEN), "-o", "a.png", HPCM_KERNELS=OTHERS[0])[0] == 0
    assert Image.open(tmp_path / "a.png").tobytes() == hpcm.decompress(GOLDEN).tobytes()


@needs_a_choice
def test_the_selftest_names_them_and_says_what_to_set(run):
    code, out, err = run(f"{BEST} always", "selftest")
    assert code == 1
    assert f"\n{BEST:9} refused\n" in out
    assert all(re.search(rf"^{name} +(\d+) of \1 right$", out, re.MULTILINE) for name in OTHERS)
    advice = f"set HPCM_KERNELS={OTHERS[0]} in the environment, and report it with what this command prints"
    assert err == f"hpcm: error: the kernels {BEST} compute wrongly on this machine: {advice}\n"


@needs_a_choice
def test_kernels_that_nobody_uses_are_named_too(run, tmp_path):
    fault = f"{OTHERS[-1]} always"
    assert run(fault, "compress", "photo.png")[::2] == (0, "")
    code, _, err = run(fault, "selftest")
    assert code == 1
    assert f"the kernels {OTHERS[-1]} compute wrongly on this machine; {BEST}, which it uses, are right" in err


def test_where_all_are_wrong_nothing_is_coded(run, tmp_path):
    code, out, err = run("all always", "compress", "photo.png")
    assert (code, out, len(err.splitlines())) == (1, "", 1)
    assert f"the kernels {BEST} compute wrongly on this machine, as all others do" in err
    assert not (tmp_path / "photo.hpcm").exists()
    code, out, err = run("all always", "selftest")
    assert code == 1
    assert out.count("refused") == len(KERNELS)
    text = "no kernels compute rightly on this machine: don't compress or open pictures with it, and report it"
    assert err == f"hpcm: error: {text} with what this command prints\n"


@pytest.mark.parametrize(("kernels", "places"), [(name, n) for name in KERNELS for n in range(1, PLACES[name] + 1)])
def test_a_fault_that_the_library_passes_over_is_found(child, kernels, places):
    """A wrong number in long sums, where so many places are computed at once."""
    result = child(CHECK, f"{kernels} {places}", kernels)
    assert result["refused"] is None
    assert result["differences"]
    assert {one["what"] for one in result["differences"]} <= {"symbols", "pixels"}


def test_a_fault_of_the_largest_inputs_is_found_by_the_whole_set(child):
    result = child(CHECK, f"{BEST} large", BEST, "all")
    assert result["refused"] is None
    assert result["differences"]
    assert child(CHECK, f"{BEST} large", BEST)["differences"] == []


@needs_a_choice
def test_the_selftest_tells_which_answers_are_wrong(run):
    code, out, err = run(f"{BEST} 1", "selftest")
    assert code == 1
    assert re.search(rf"^{BEST} +\d+ of \d+ right\n  the (symbols|pixels) differ: pixel, lite-1, level 63$", out, re.M)
    assert f"set HPCM_KERNELS={OTHERS[0]} " in err
