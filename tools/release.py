"""Builds the source distribution and a wheel for each platform into dist/, checks and tries them.

    python tools/release.py     what `make release` runs, after `make page` and `make man`

All wheels are built here, of the source distribution: zig compiles the native library for every platform. Each wheel is
inspected (inspect_wheel.py), and its library must be the same, byte by byte, as the one that the checkout gives. This
machine's wheel and the source distribution are tried (try_wheel.py).
"""

import runpy
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import inspect_wheel
from try_wheel import DIST, ROOT, run

CORE = runpy.run_path(str(ROOT / "core" / "build.py"))
TARGETS: dict[str, str] = CORE["TARGETS"]
MOST_BYTES = 60_000_000  # of a wheel
IN_THE_WHEEL = (
    "py.typed",
    "serve/page/index.html",
    "serve/page/hpcm.wasm",
    "serve/page/hpcm-threads.wasm",
    "man1/hpcm.1",
    "completions/hpcm",
    "lite-1.safetensors",
)


def build() -> None:
    shutil.rmtree(DIST, ignore_errors=True)
    python_build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", DIST]
    run(*python_build, "--sdist", ROOT)
    with TemporaryDirectory() as folder:
        (source,) = DIST.glob("*.tar.gz")
        with tarfile.open(source) as archive:
            archive.extractall(folder, filter="data")
        (unpacked,) = Path(folder).iterdir()
        for target in TARGETS:
            run(*python_build, "--wheel", unpacked, HPCM_TARGET=target)


def check() -> None:
    files = sorted(DIST.iterdir())
    run(sys.executable, "-m", "twine", "check", "--strict", *files)
    for file in files:
        print(f"{file.name}  {file.stat().st_size:,} bytes")
    for target in TARGETS:
        check_wheel(wheel(target))
        check_library(target)
    inspect_wheel.main(map(wheel, TARGETS))


def check_wheel(built: Path) -> None:
    run(sys.executable, "-m", "check_wheel_contents", built)
    if (size := built.stat().st_size) > MOST_BYTES:
        sys.exit(f"{built.name} has {size:,} bytes: at most {MOST_BYTES:,} are allowed")
    listing = subprocess.run([sys.executable, "-m", "zipfile", "-l", built], capture_output=True, text=True)
    if missing := [name for name in IN_THE_WHEEL if name not in listing.stdout]:
        sys.exit(f"{built.name} lacks {', '.join(missing)}: `make page man` makes what isn't in the repository")


def check_library(target: str) -> None:
    """Compiles a wheel's library again, in another folder and from another cache: it must have the same bytes."""
    name = CORE["library_name"](target)
    with TemporaryDirectory() as folder, zipfile.ZipFile(wheel(target)) as archive:
        again = Path(folder, name)
        CORE["build"](again, target)
        if archive.read(f"hpcm/core/{name}") != again.read_bytes():
            sys.exit(f"{wheel(target).name} has another library than the same sources and compiler give here")


def wheel(target: str) -> Path:
    (found,) = DIST.glob(f"*-{target}.whl")
    return found


if __name__ == "__main__":
    build()
    check()
    run(sys.executable, ROOT / "tools" / "try_wheel.py", "--source")
