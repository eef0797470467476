"""How the native library is compiled (core/build.py) and becomes a part of wheels (hatch_build.py)."""

import gzip
import os
import runpy
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from hpcm.core import library

ROOT = Path(__file__).parents[1]
CORE = ROOT / "core"
core = SimpleNamespace(**runpy.run_path(str(CORE / "build.py")))


def has_compiler(*flags: str) -> bool:
    try:
        core.find_compiler(flags)
    except FileNotFoundError:
        return False
    return True


needs_compiler = pytest.mark.skipif(not has_compiler(), reason="there is no C compiler")


def test_the_binding_looks_for_the_file_that_is_built() -> None:
    assert core.PACKAGE / core.library_name(core.this_platform()) == library.PATH
    assert {core.library_name(target) for target in core.TARGETS} == {"libhpcm.so", *library.NAMES.values()}


def test_this_machine_has_a_wheel() -> None:
    from packaging.tags import sys_tags

    assert core.this_platform() in {tag.platform for tag in sys_tags()}


def test_everybody_compiles_with_the_same_version_of_zig() -> None:
    assert core.ZIG in (ROOT / "constraints.txt").read_text().splitlines()


@needs_compiler
def test_the_compiler_has_no_warnings(tmp_path: Path) -> None:
    core.build(tmp_path / "library", files=True, flags=["-Werror"])


@needs_compiler
def test_the_folder_has_no_influence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", str(core.BUILD / "zig"))  # what zig keeps is the checkout's
    made = []
    for name in ("one", "two"):
        shutil.copytree(CORE, tmp_path / name)
        build = runpy.run_path(str(tmp_path / name / "build.py"))["build"]
        build(tmp_path / name / "output" / "library")
        made.append((tmp_path / name / "output" / "library").read_bytes())
        assert str(tmp_path).encode() not in made[-1]
        assert [file.name for file in (tmp_path / name / "output").iterdir()] == ["library"]
    assert made[0] == made[1]


@pytest.mark.skipif(find_spec("ziglang") is None, reason="needs the package ziglang")
def test_files_for_browsers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are small, and depend on sources and compiler alone."""
    monkeypatch.setenv("ZIG_GLOBAL_CACHE_DIR", str(core.BUILD / "zig"))
    shutil.copytree(CORE, tmp_path / "another")
    elsewhere = runpy.run_path(str(tmp_path / "another" / "build.py"))["build_wasm"]
    core.build_wasm(tmp_path / "one", flags=["-Werror"])
    elsewhere(tmp_path / "two")
    for folder in ("one", "two"):
        assert sorted(file.name for file in (tmp_path / folder).iterdir()) == sorted(core.WASM)
    for name in core.WASM:
        made = (tmp_path / "one" / name).read_bytes()
        assert made == (tmp_path / "two" / name).read_bytes()
        assert str(tmp_path).encode() not in made
        assert len(gzip.compress(made)) < 100_000


def test_what_compiler_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def compiler(name: str, status: int) -> None:
        (tmp_path / name).write_text(f"#!/bin/sh\nexit {status}\n")
        (tmp_path / name).chmod(0o755)

    if sys.platform == "win32":
        pytest.skip("compilers of this test are shell scripts")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # no ziglang
    assert core.needs_zig()
    with pytest.raises(FileNotFoundError, match="pip install ziglang"):
        core.find_compiler()
    with pytest.raises(FileNotFoundError, match="pip install ziglang"):
        core.zig("win_amd64")
    compiler("gcc", 0)
    assert core.find_compiler()[0] == "gcc"
    assert core.needs_zig()  # clang makes a faster library
    compiler("clang", 1)
    assert core.find_compiler()[0] == "gcc"
    compiler("clang", 0)
    assert core.find_compiler()[0] == "clang"
    assert not core.needs_zig()
    assert core.needs_zig("win_amd64")
    monkeypatch.setenv("CC", "gcc -m64")
    assert core.find_compiler()[:2] == ["gcc", "-m64"]
    assert not core.needs_zig()


FUZZING = {**os.environ, "HPCM_FUZZ_WEIGHTS": str(ROOT / "tests" / "golden")}
needs_sanitizers = pytest.mark.skipif(
    sys.platform != "linux" or not has_compiler(*core.SANITIZE), reason="no compiler has the sanitizers"
)


@needs_sanitizers
@pytest.mark.slow
@pytest.mark.parametrize("name", core.FUZZERS + core.FUZZERS_OF_FILES)
def test_fuzzing_finds_nothing(name: str, tmp_path: Path) -> None:
    core.build_fuzzer(name, tmp_path / "fuzz")
    corpus = CORE / "test" / "corpus" / name
    line = [tmp_path / "fuzz", "-max_total_time=3", tmp_path, corpus]
    subprocess.run(line, cwd=tmp_path, env=FUZZING, check=True)


@needs_sanitizers
@pytest.mark.slow
def test_what_fuzzing_begins_with(tmp_path: Path) -> None:
    """Tiles and files that are right."""
    paths = {**FUZZING, "PYTHONPATH": str(ROOT / "tests"), "HPCM_FUZZ_MODELS": str(tmp_path / "models")}
    subprocess.run([sys.executable, ROOT / "tests" / "fuzz" / "seeds.py", tmp_path], env=paths, check=True)
    for name in ("payload", *core.FUZZERS_OF_FILES):
        seeds = sorted((tmp_path / name).iterdir())
        assert len(seeds) > 10
        core.build_fuzzer(name, tmp_path / "fuzz")
        subprocess.run([tmp_path / "fuzz", *seeds], cwd=tmp_path, env=paths, check=True)


@needs_sanitizers
@pytest.mark.slow
@pytest.mark.parametrize("kind", [None, "thread", "address"])
def test_many_threads_get_what_one_gets(kind: str | None, tmp_path: Path) -> None:
    flags = core.SANITIZERS.get(kind, [])
    if not has_compiler(*flags):
        pytest.skip("no compiler has this sanitizer")
    core.build(tmp_path / "races", program=[CORE / "test" / "races.c"], flags=flags)
    subprocess.run([tmp_path / "races", "10"], check=True)
    core.build(tmp_path / "races_file", files=True, program=[CORE / "test" / "races_file.c"], flags=flags)
    files = [ROOT / "tests" / "golden" / f"{name}.hpcm" for name in ("nano-1", "lossless", "progressive")]
    subprocess.run([tmp_path / "races_file", "3", core.WEIGHTS, *files], check=True)
