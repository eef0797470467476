"""Builds wheels and source distributions of hpcm-codec and hpcm-codec-models into dist/, checks and tries them.

    python tools/release.py     what `make release` runs, after `make page` and `make man`

The wheels are tried in an empty environment and an empty folder, far from the checkout: `hpcm --version`, a photograph
there and back on the command line and in Python, and tests/test_base.py, first without hpcm-codec-models, then with it.
"""

import shutil
import subprocess
import sys
import venv
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
MOST_BYTES = 30_000_000  # of the codec's wheel
IN_THE_WHEEL = ("py.typed", "serve/page/index.html", "man1/hpcm.1", "completions/hpcm", "lite-3.safetensors")
THERE_AND_BACK = """
import hpcm
data = hpcm.compress("data/kodim23.png", quality=50)
assert hpcm.decompress(data).size == (768, 512)
print(hpcm.__file__, len(data), "bytes")
"""


def run(*line: object, folder: Path = ROOT) -> None:
    print("$", *line, flush=True)
    subprocess.run(list(map(str, line)), cwd=folder, check=True)


def build() -> None:
    shutil.rmtree(DIST, ignore_errors=True)
    for source in (ROOT, ROOT / "models"):
        run(sys.executable, "-m", "build", "--outdir", DIST, source)


def check() -> None:
    files = sorted(DIST.iterdir())
    wheels = [file for file in files if file.suffix == ".whl"]
    run(sys.executable, "-m", "twine", "check", "--strict", *files)
    run(sys.executable, "-m", "check_wheel_contents", *wheels)
    for file in files:
        print(f"{file.name}  {file.stat().st_size:,} bytes")
    codec = wheel("hpcm_codec")
    if (size := codec.stat().st_size) > MOST_BYTES:
        sys.exit(f"{codec.name} has {size:,} bytes: at most {MOST_BYTES:,} are allowed")
    listing = subprocess.run([sys.executable, "-m", "zipfile", "-l", codec], capture_output=True, text=True)
    if missing := [name for name in IN_THE_WHEEL if name not in listing.stdout]:
        sys.exit(f"{codec.name} lacks {', '.join(missing)}: `make page man` makes what isn't in the repository")


def wheel(name: str) -> Path:
    (found,) = DIST.glob(f"{name}-*.whl")
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
        run(*install, wheel("hpcm_codec"), "pytest", folder=away)
        run(hpcm, "--version", folder=away)
        run(hpcm, "compress", Path("data", "kodim20.png"), "-o", "a.hpcm", folder=away)
        run(hpcm, "decompress", "a.hpcm", "-o", "a.png", folder=away)
        run(python, "-c", THERE_AND_BACK, folder=away)
        run(python, "-m", "pytest", "-q", "test_base.py", folder=away)
        run(*install, wheel("hpcm_codec_models"), folder=away)
        run(hpcm, "models", "--all", folder=away)
        run(python, "-m", "pytest", "-q", "test_base.py", "-k", "golden or models", folder=away)


if __name__ == "__main__":
    build()
    check()
    try_out()
