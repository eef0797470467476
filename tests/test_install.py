"""The installed library for C programs: what is in a prefix, what it shows, and whether programs compile with it."""

import os
import runpy
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import installed
from hpcm import __version__

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden"
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Werror"]
symbols = SimpleNamespace(**runpy.run_path(str(ROOT / "core" / "check_symbols.py")))
core = installed.core
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the library is installed on Unixes")
needs_nm = pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm, of binutils")


@pytest.fixture(scope="module")
def prefix() -> Path:
    return installed.prefix()


@pytest.fixture(scope="module")
def file(prefix: Path) -> Path:
    """The library itself, which the links lead to."""
    return (prefix / "lib" / core.library_name(core.this_platform())).resolve()


# ---- the headers ----------------------------------------------------------------------------------------------------


def test_the_binding_of_the_tests_has_the_functions_of_the_header() -> None:
    installed.HEADER.check_functions(installed.FUNCTIONS)


@pytest.mark.parametrize("name", installed.STRUCTS)
def test_the_binding_of_the_tests_has_the_structs_of_the_header(name: str) -> None:
    installed.HEADER.check_struct(name, installed.STRUCTS[name])


@pytest.mark.parametrize(
    ("compilers", "standard", "suffix"), [((), "c99", "c"), (("c++", "g++", "clang++"), "c++11", "cc")]
)
def test_the_headers_compile_without_warnings(
    prefix: Path, tmp_path: Path, compilers: tuple[str, ...], standard: str, suffix: str
) -> None:
    """Also the macros, in C and in C++."""
    found = [name for name in compilers if shutil.which(name)]
    if compilers and not found:
        pytest.skip("there is no C++ compiler")
    source = tmp_path / f"use.{suffix}"
    source.write_text(
        "#include <hpcm/status.h>\n#include <hpcm/decode.h>\n"
        "hpcm_settings settings = HPCM_SETTINGS;\nhpcm_info info = HPCM_INFO;\nhpcm_request request = HPCM_REQUEST;\n"
    )
    compiler = [found[0]] if found else core.find_compiler()
    line = [*compiler, f"-std={standard}", *WARNINGS, f"-I{prefix / 'include'}", "-c", source, "-o", tmp_path / "use.o"]
    subprocess.run(line, check=True)


# ---- the library ----------------------------------------------------------------------------------------------------


def test_the_library_is_of_this_release(prefix: Path) -> None:
    assert installed.library().hpcm_version().decode() == core.release()
    assert __version__.startswith(core.release())
    assert f"\nVersion: {core.release()}\n" in (prefix / "lib" / "pkgconfig" / "hpcm.pc").read_text()


@needs_nm
def test_the_library_shows_the_functions_of_the_header(file: Path) -> None:
    assert list(symbols.faults(file)) == []


@needs_nm
def test_other_symbols_are_found() -> None:
    """In the library of the Python package, which shows tiles instead of files."""
    missing, superfluous = symbols.faults(core.PACKAGE / core.library_name(core.this_platform()))
    assert missing.startswith("it lacks hpcm_append, ")
    assert superfluous.startswith("it shows more than symbols.txt: hpcm_analyse, ")


def test_names_lead_to_the_library(prefix: Path, file: Path) -> None:
    """The linker's name, and the one that programs are linked with."""
    _, soname, _ = core.Installation(prefix).names
    assert file.name == core.Installation(prefix).names[0]
    for name in core.Installation(prefix).names[1:]:
        assert os.readlink(prefix / "lib" / name) == file.name
    assert soname.encode() + b"\0" in file.read_bytes()


def test_nothing_says_who_built_the_library(prefix: Path, file: Path) -> None:
    data = file.read_bytes()
    assert str(prefix / "share" / "hpcm").encode() in data
    assert str(ROOT).encode() not in data.replace(str(prefix).encode(), b"")  # in tests it lies in the checkout


def test_everybody_may_read_what_is_installed(prefix: Path) -> None:
    for path in prefix.rglob("*"):
        if path.is_file() and path.name != "made-of":
            assert stat.S_IMODE(path.stat().st_mode) == 0o644, path


# ---- programs -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def decode(prefix: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """examples/decode.c, compiled with an installed library."""
    return compile_example(prefix, tmp_path_factory.mktemp("example"))


def compile_example(prefix: Path, folder: Path) -> Path:
    if not shutil.which("pkg-config"):
        pytest.skip("needs pkg-config")
    paths = {**os.environ, "PKG_CONFIG_PATH": str(prefix / "lib" / "pkgconfig")}
    asked = ["pkg-config", "--cflags", "--libs", "hpcm"]
    told = subprocess.run(asked, env=paths, check=True, capture_output=True, text=True).stdout
    program = folder / "decode"
    source = ROOT / "examples" / "decode.c"
    compiler = ["cc"] if shutil.which("cc") else core.find_compiler()
    line = [*compiler, "-std=c11", *WARNINGS, source, "-o", program, *shlex.split(told)]
    subprocess.run([*line, "-Xlinker", "-rpath", "-Xlinker", prefix / "lib"], check=True)
    return program


def samples_of(pam: bytes) -> np.ndarray:
    """[rows][columns][channels] of a PAM."""
    head, _, data = pam.partition(b"ENDHDR\n")
    fields = dict(line.split(" ") for line in head.decode().splitlines()[1:])
    columns, rows, channels, peak = (int(fields[name]) for name in ("WIDTH", "HEIGHT", "DEPTH", "MAXVAL"))
    return np.frombuffer(data, np.uint8 if peak == 255 else ">u2").reshape(rows, columns, channels)


@pytest.mark.parametrize("name", ["nano-1", "lite-1", "lossless", "quality-90", "format", "format-grey"])
def test_a_program_decodes_with_the_weights_that_were_installed(decode: Path, tmp_path: Path, name: str) -> None:
    """Colour and grey, alpha, 16 bits, residual layers."""
    subprocess.run([decode, GOLDEN / f"{name}.hpcm", tmp_path / "made.pam"], check=True)
    expected = np.asarray(Image.open(GOLDEN / f"{name}.png"))
    made = samples_of((tmp_path / "made.pam").read_bytes())
    assert np.array_equal(made, expected.reshape(made.shape))


def test_a_program_says_what_is_wrong(decode: Path, tmp_path: Path) -> None:
    source = tmp_path / "cut.hpcm"
    source.write_bytes((GOLDEN / "nano-1.hpcm").read_bytes()[:-1])
    for path, says in (
        (source, "cut short"),
        (tmp_path / "missing.hpcm", "missing.hpcm"),
        (GOLDEN / "nano-1.png", "no .hpcm file"),
    ):
        done = subprocess.run([decode, path, tmp_path / "made.pam"], capture_output=True, text=True)
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        assert says in line
    assert not (tmp_path / "made.pam").exists()


# ---- removing, and installing again ---------------------------------------------------------------------------------


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_what_was_installed_can_be_removed(prefix: Path, tmp_path: Path) -> None:
    """From the folder of a packager, and nothing else."""
    copy = tmp_path / prefix.relative_to(prefix.anchor)
    shutil.copytree(prefix, copy, symlinks=True, ignore=shutil.ignore_patterns("made-of"))
    others = ["include/other.h", "lib/libother.so", "share/hpcm/mine.safetensors"]
    for name in others:
        (copy / name).write_text("of somebody else")
    assert len(files_in(copy)) > len(others) + 8
    core.Installation(prefix).uninstall(str(tmp_path))
    assert files_in(copy) == others
    assert not (copy / "include" / "hpcm").exists()
    core.Installation(prefix).uninstall(str(tmp_path))  # there is nothing left to do


@pytest.mark.parametrize("name", ['a"quote', "$HOME", "back\\slash"])
def test_folders_that_the_files_cannot_name(name: str) -> None:
    with pytest.raises(ValueError, match="can't have such a name"):
        core.Installation(Path("/opt", name))


@pytest.mark.skipif(sys.platform != "linux", reason="the system tells what a process has loaded")
def test_the_library_stays_when_it_is_given_up(file: Path) -> None:
    """Its threads may still sleep in it."""
    program = f"""
import _ctypes, ctypes
_ctypes.dlclose(ctypes.CDLL({str(file)!r})._handle)
print({str(file)!r} in open("/proc/self/maps").read())
"""
    assert subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=True).stdout == b"True\n"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("cc"), reason="needs make and the system's compiler")
def test_a_fresh_checkout_is_installed_without_an_environment(tmp_path: Path) -> None:
    """Into a folder with spaces, twice; then a program is compiled, and all is removed."""
    checkout, home = tmp_path / "check out", tmp_path / "for me, here"
    checkout.mkdir()
    for name in ("Makefile", "core", "src/hpcm/__init__.py", "src/hpcm/model/assets"):
        source, copy = ROOT / name, checkout / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, copy)
    plain = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path)}

    def make(target: str) -> None:
        subprocess.run(
            ["make", target, f"PREFIX={home}", f"PYTHON={sys.executable} -S"], cwd=checkout, env=plain, check=True
        )

    make("core-install")
    library = (home / "lib" / "libhpcm.so").resolve()
    with library.open("rb") as opened:  # as by a program that runs
        before = opened.read()
        opened.seek(0)
        make("core-install")
        assert opened.read() == before
        assert not os.path.samestat(os.fstat(opened.fileno()), library.stat())
    assert library.read_bytes() == before
    assert not [name for name in files_in(home) if name.rpartition("/")[2].startswith(".")]
    program = compile_example(home, tmp_path)
    subprocess.run([program, GOLDEN / "nano-1.hpcm", tmp_path / "made.pam"], check=True)
    assert samples_of((tmp_path / "made.pam").read_bytes()).shape == (101, 153, 3)
    make("core-uninstall")
    assert files_in(home) == []
