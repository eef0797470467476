"""Installs this machine's wheel from dist/ into an empty environment and tries it, far from the checkout.

    python tools/try_wheel.py            on any machine with Python and pip, after `make release` or CI has filled dist/
    python tools/try_wheel.py --source   then the source distribution, too, as it is installed without a network

pip chooses the wheel, and installs nothing but wheels. What is tried: `hpcm --version`, a photograph there and back on
the command line and in Python, and tests/test_base.py.
"""

import os
import shutil
import subprocess
import sys
import venv
from argparse import ArgumentParser
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
THERE_AND_BACK = """
import sys
from pathlib import Path
import hpcm
data = hpcm.compress("data/kodim23.png", quality=50)
assert hpcm.decompress(data).size == (768, 512)
assert Path(hpcm.__file__).resolve().is_relative_to(Path(sys.prefix).resolve()), hpcm.__file__
print(hpcm.__file__, len(data), "bytes")
"""


def main() -> None:
    parser = ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--source", action="store_true", help="compile the source distribution with `cc`, and try that")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        away = Path(folder, "away")
        away.mkdir()
        shutil.copy(ROOT / "tests" / "test_base.py", away)
        for name in ("data", "golden"):
            shutil.copytree(ROOT / "tests" / name, away / name)
        environment = Path(folder, "environment")
        venv.create(environment, with_pip=True)
        scripts = environment / ("Scripts" if sys.platform == "win32" else "bin")
        try_wheel(scripts, away)
        if options.source:
            try_source(scripts, away)


def try_wheel(scripts: Path, away: Path) -> None:
    python, hpcm = scripts / "python", scripts / "hpcm"
    # The wheel itself comes from dist/ and nowhere else, then what it needs from the index.
    install(python, "--no-index", "--find-links", DIST, "--no-deps", "--only-binary", ":all:", "hpcm-codec", away=away)
    install(python, "--only-binary", ":all:", "hpcm-codec", "pytest", away=away)
    run(hpcm, "--version", folder=away)
    run(hpcm, "compress", Path("data", "kodim20.png"), "-o", "a.hpcm", folder=away)
    run(hpcm, "decompress", "a.hpcm", "-o", "a.png", folder=away)
    run(python, "-c", THERE_AND_BACK, folder=away)
    run(python, "-m", "pytest", "-q", "test_base.py", folder=away)


def try_source(scripts: Path, away: Path) -> None:
    """As on a machine that has a compiler, hatchling and what hpcm needs, but no network."""
    python = scripts / "python"
    install(python, "hatchling", away=away)
    (source,) = DIST.glob("*.tar.gz")
    offline = {"PIP_NO_INDEX": "1", "CC": "cc"}
    install(python, "--no-build-isolation", "--no-deps", "--force-reinstall", source, away=away, **offline)
    run(scripts / "hpcm", "--version", folder=away)
    run(python, "-m", "pytest", "-q", "test_base.py", "-k", "golden", folder=away)


def install(python: Path, *what: object, away: Path, **environment: str) -> None:
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "-q", "-c", ROOT / "constraints.txt"]
    run(*pip, *what, folder=away, **environment)


def run(*line: object, folder: Path = ROOT, **environment: str) -> None:
    """Shows a command and runs it in a folder. Raises CalledProcessError where it fails."""
    print("$", *(f"{name}={value}" for name, value in environment.items()), *line, flush=True)
    without_checkout = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(list(map(str, line)), cwd=folder, env=without_checkout | environment, check=True)


if __name__ == "__main__":
    main()
