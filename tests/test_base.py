"""What works without torch: compressing, opening, `info` and `models`; what doesn't says so in one line.

`make check` runs this file a second time, alone (--noconftest), in an environment that has no torch. Here commands run
in processes where importing it fails.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hpcm

HERE = Path(__file__).parent
WITH_ATTENTION = HERE / "golden" / "tiny-base.safetensors"
PICTURE = HERE / "data" / "kodim20.png"
MODELS = ("lite-1", "lite-mse-1", "nano-1")
GOLDEN = [HERE / "golden" / f"{name}.hpcm" for name in (*MODELS, "format", "format-grey")]
BLOCKED = """
import sys
for name in ("torch",):
    sys.modules[name] = None  # so that importing it raises ModuleNotFoundError
from hpcm.cli import main
sys.exit(main(sys.argv[1:]))
"""


def command(*arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of an `hpcm` command without torch."""
    line = [sys.executable, "-c", BLOCKED, *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("model", ["nano", "lite"])
def test_there_and_back(tmp_path, model):
    before, small, back = tmp_path / "before.png", tmp_path / "a.hpcm", tmp_path / "a.png"
    Image.open(PICTURE).crop((200, 100, 520, 340)).save(before)
    assert command("compress", before, "-o", small, "--model", model, "--quality", "60", "--threads", "1")[0] == 0
    assert command("decompress", small, "-o", back)[0] == 0
    original, restored = (np.asarray(Image.open(path).convert("RGB"), float) for path in (before, back))
    assert 10 * np.log10(255**2 / np.mean((original - restored) ** 2)) > 30
    assert small.stat().st_size < before.stat().st_size / 8


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_golden_files(path, tmp_path):
    assert command("decompress", path, "-o", tmp_path / "now.png")[0] == 0
    now, before = (np.asarray(Image.open(file)) for file in (tmp_path / "now.png", path.with_suffix(".png")))
    assert np.array_equal(now, before)


def test_what_a_file_and_the_models_say():
    assert "nano-1" in command("info", GOLDEN[-1])[1]
    code, out, _ = command("models")
    assert code == 0
    assert {*MODELS} <= {line.split()[0] for line in out.splitlines() if line[0] != " "}


def test_the_selftest():
    code, out, error = command("selftest", "--json")
    assert (code, error) == (0, "")
    assert all(kernels["right"] == kernels["asked"] > 0 for kernels in json.loads(out)["kernels"])


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (
            ["compress", PICTURE, "-o", "OUT", "--engine", "torch"],
            "needs PyTorch here: pip install 'hpcm-codec[torch]'",
        ),
        (["compress", PICTURE, "-o", "OUT", "--device", "cuda"], "it computes on the CPU, not on cuda"),
        (["compress", PICTURE, "-o", "OUT", "--model", WITH_ATTENTION], "needs PyTorch here"),
        (["exact", "nano", PICTURE, "-o", "OUT"], "this needs torch: pip install 'hpcm-codec[torch]'"),
        (["import", PICTURE, "--arch", "base", "-o", "OUT"], "this needs torch: pip install 'hpcm-codec[torch]'"),
        (
            ["train", "--data", HERE, "--out", "OUT", "--steps", "1"],
            "this needs torch: pip install 'hpcm-codec[torch]'",
        ),
        (["eval", PICTURE, "-o", "OUT"], "pip install 'hpcm-codec["),
        (["bench"], "this needs torch: pip install 'hpcm-codec[torch]'"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_needs_torch_says_so(tmp_path, line, says):
    out = tmp_path / "out"
    code, _, error = command(*(out if part == "OUT" else part for part in line))
    assert (code, len(error.splitlines())) == (1, 1), error
    assert says in error
    assert not out.exists()


def test_nothing_imports_torch():
    code = """
import sys, hpcm
from PIL import Image
hpcm.decompress(hpcm.compress(Image.open(sys.argv[1]).crop((0, 0, 128, 128))))
print("torch" in sys.modules)"""
    done = subprocess.run([sys.executable, "-c", code, str(PICTURE)], capture_output=True, text=True, timeout=300)
    assert done.stdout.strip() == "False", done.stderr


def test_the_engine_of_a_bundled_model():
    assert type(hpcm.load("nano").engine).__name__ == "CoreEngine"
