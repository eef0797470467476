"""The binding to the native library agrees with its header, and says what is wrong with a library in one line."""

import ctypes
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from headers import Header
from hpcm import cli
from hpcm.codec import api
from hpcm.core import library as binding

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "core"
LIBRARY = binding.PATH
GOLDEN = ROOT / "tests" / "golden" / "nano-1.hpcm"
HEADER = Header("status.h", "hpcm.h", types={"hpcm_check": binding.Check})
STRUCTS = {
    "hpcm_array": binding.Array,
    "hpcm_config": binding.Config,
    "hpcm_pixels": binding.Pixels,
    "hpcm_payload": binding.Payload,
    "hpcm_decoded": binding.Decoded,
}


# ---- the header and the binding -------------------------------------------------------------------------------------


def test_the_binding_has_the_functions_of_the_header():
    HEADER.check_functions(binding.FUNCTIONS)


@pytest.mark.parametrize("name", STRUCTS)
def test_the_binding_has_the_structs_of_the_header(name):
    HEADER.check_struct(name, STRUCTS[name])


def test_the_binding_has_the_numbers_of_the_header():
    assert HEADER.constants["HPCM_API_VERSION"] == binding.API_VERSION
    assert (HEADER.constants["HPCM_STAGES"], HEADER.constants["HPCM_PARTS"]) == (binding.STAGES, binding.PARTS)
    assert HEADER.constants["HPCM_MESSAGE"] == binding.MESSAGE_BYTES
    assert HEADER.enumeration("hpcm_type") == [f"HPCM_{name.upper()}" for name in binding.TYPES]
    statuses = HEADER.enumeration("hpcm_status")
    of_tiles = statuses[: statuses.index("HPCM_UNREADABLE")]  # the others are of files, which Python reads by itself
    assert [getattr(binding, name.removeprefix("HPCM_")) for name in of_tiles] == list(range(len(of_tiles)))


def test_the_library_shows_the_functions_of_the_header_and_no_others():
    library, public = ctypes.CDLL(str(LIBRARY)), set(HEADER.functions())
    assert all(hasattr(library, name) for name in public)
    sources = "".join(file.read_text() for file in [*CORE.glob("*.[ch]"), *CORE.glob("kernels/*.[ch]")])
    internal = set(re.findall(r"\bhpcm_\w+(?=\()", sources)) - public
    assert "hpcm_choose_kernels" in internal
    assert not [name for name in internal if hasattr(library, name)]


# ---- where the library is -------------------------------------------------------------------------------------------

LOADS = """
import os, sys
sys.path[:0] = sys.argv[1:]
from hpcm.core import library
os.chdir(os.path.dirname(sys.executable))
print(library.PATH, flush=True)
assert library.library().hpcm_api_version() == library.API_VERSION
"""


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """A copy of the package, without weights, in the folder of a user whose name isn't ASCII."""
    folder = tmp_path_factory.mktemp("Jörg 山田") / "packages"
    unneeded = shutil.ignore_patterns("assets", "page", "__pycache__")
    shutil.copytree(binding.PATH.parents[1], folder / "hpcm", ignore=unneeded)
    return folder


def load(*path: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Loads the library in a process that starts in a folder and has these entries in sys.path."""
    line = [sys.executable, "-c", LOADS, *path]
    environment = os.environ | {"PYTHONUTF8": "1"} | environment
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, encoding="utf-8", timeout=120)


@pytest.mark.parametrize("way", ["absolute", "relative", "PYTHONPATH", "the working folder"])
def test_the_library_has_an_absolute_path(copied, way):
    """Windows looks for a library without one in other folders, and the working folder may be another one by then."""
    if way == "absolute":
        done = load(str(copied), folder=copied.parent)
    elif way == "relative":
        done = load(copied.name, folder=copied.parent)
    elif way == "PYTHONPATH":
        done = load(folder=copied.parent, PYTHONPATH=copied.name)
    else:
        done = load("", folder=copied)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == copied / "hpcm" / "core" / binding.PATH.name


def test_a_package_in_a_zip_file_says_where_the_library_should_be(copied):
    archive = shutil.make_archive(str(copied.parent / "package"), "zip", copied)
    done = load(archive, folder=copied.parent)
    assert done.returncode == 1
    missing = Path(archive, "hpcm", "core", binding.PATH.name)
    assert done.stderr.splitlines()[-1].endswith(f"the native library {missing} is missing: {binding.HOW_TO_BUILD}")


# ---- a library that can't be used -----------------------------------------------------------------------------------


@pytest.fixture
def replaced(monkeypatch, tmp_path):
    """Where a library is looked for instead of the one that is there."""
    path = tmp_path / "libhpcm.so"
    monkeypatch.setattr(binding, "PATH", path)
    binding.library.cache_clear()
    yield path
    binding.library.cache_clear()


def nothing(path: Path) -> None:
    pass


def text(path: Path) -> None:
    path.write_text("This is no library.\n" * 1000)


def for_another_processor(path: Path) -> None:
    data = bytearray(LIBRARY.read_bytes())
    machine = 18  # e_machine of an ELF header
    data[machine] ^= 0xFF
    path.write_bytes(data)


def of_another_version(path: Path) -> None:
    path.write_bytes(LIBRARY.read_bytes())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="libraries of Linux")
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (nothing, "is missing"),
        (text, "can't be loaded"),
        (for_another_processor, "can't be loaded"),
        (of_another_version, f"has version {binding.API_VERSION} instead of {binding.API_VERSION + 1}"),
    ],
)
def test_a_library_that_cannot_be_used_is_one_line(replaced, make, says, tmp_path, capsys, monkeypatch):
    make(replaced)
    if make is of_another_version:
        monkeypatch.setattr(binding, "API_VERSION", binding.API_VERSION + 1)
        monkeypatch.setitem(binding.FUNCTIONS, "hpcm_of_a_later_version", (None, []))
    assert cli.main(["decompress", str(GOLDEN), "-o", str(tmp_path / "a.png")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
    assert line.endswith(binding.HOW_TO_BUILD)
    assert cli.main(["info", str(GOLDEN)]) == 0
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert "no native library" in capsys.readouterr().out


def test_unknown_kernels_are_one_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("HPCM_KERNELS", "fast")
    api._loaded_once.cache_clear()  # other tests may have loaded the model
    assert cli.main(["decompress", str(GOLDEN), "-o", str(tmp_path / "a.png")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "HPCM_KERNELS" in line
    assert line.endswith("generic")
