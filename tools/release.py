"""Builds the source distribution and a wheel for each platform into dist/, checks and tries them.

    python tools/release.py     what `make release` runs, after `make page` and `make man`

All wheels are built here, of the source distribution: zig compiles the native library for every platform. This
machine's wheel is tried in an empty environment and an empty folder, far from the checkout: `hpcm --version`, a
photograph there and back on the command line and in Python, and tests/test_base.py.
"""

import os
import runpy
import shutil
import subprocess
import sys
import tarfile
import venv
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
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
THERE_AND_BACK = """
import hpcm
data = hpcm.compress("data/kodim23.png", quality=50)
assert hpcm.decompress(data).size == (768, 512)
print(hpcm.__file__, len(data), "bytes")
"""


def run(*line: object, folder: Path = ROOT, **environment: str) -> None:
    print("$", *(f"{name}={value}" for name, value in environment.items()), *line, flush=True)
    subprocess.run(list(map(str, line)), cwd=folder, env=os.environ | environment, check=True)


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
        check_wheel(wheel(target), CORE["library_name"](target))


def check_wheel(built: Path, library: str) -> None:
    run(sys.executable, "-m", "check_wheel_contents", built)
    if (size := built.stat().st_size) > MOST_BYTES:
        sys.exit(f"{built.name} has {size:,} bytes: at most {MOST_BYTES:,} are allowed")
    listing = subprocess.run([sys.executable, "-m", "zipfile", "-l", built], capture_output=True, text=True)
    if missing := [name for name in (*IN_THE_WHEEL, f"core/{library}") if name not in listing.stdout]:
        sys.exit(f"{built.name} lacks {', '.join(missing)}: `make page man` makes what isn't in the repository")


def wheel(target: str) -> Path:
    (found,) = DIST.glob(f"*-{target}.whl")
    return found


def try_out() -> None:
    with TemporaryDirectory() as folder:
        away = Path(folder, "away")
        away.mkdir()
        shutil.copy(ROOT / "tests" / "test_base.py", away)
        for name in ("data", "golden"):
            shutil.copytree(ROOT / "tests" / name, away / name)
        environment = Path(folder, "environment")
        venv.create(environment, with_pip=True)
        scripts = environment / ("Scripts" if sys.platform == "win32" else "bin")
        python, hpcm = scripts / "python", scripts / "hpcm"
        install = [python, "-m", "pip", "--disable-pip-version-check", "install", "-q", "-c", ROOT / "constraints.txt"]
        run(*install, wheel(CORE["this_platform"]()), "pytest", folder=away)
        run(hpcm, "--version", folder=away)
        run(hpcm, "compress", Path("data", "kodim20.png"), "-o", "a.hpcm", folder=away)
        run(hpcm, "decompress", "a.hpcm", "-o", "a.png", folder=away)
        run(python, "-c", THERE_AND_BACK, folder=away)
        run(python, "-m", "pytest", "-q", "test_base.py", folder=away)


if __name__ == "__main__":
    build()
    check()
    try_out()
