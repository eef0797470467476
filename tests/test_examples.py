"""The examples for research run, and do what they say."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hpcm
from hpcm.format.container import unpack
from hpcm.model.find import find

ROOT = Path(__file__).parents[1]


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "photo.png"
    Image.open(ROOT / "tests" / "data" / "kodim23.png").crop((130, 90, 130 + 192, 90 + 160)).save(path)
    return path


def run(script, *line):
    environment = {**os.environ, "PYTHONPATH": str(Path(hpcm.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, ROOT / "examples" / script, *line]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_loop_of_ones_own(picture, tmp_path):
    out = run("own_loop.py", picture, "-o", tmp_path / "out", "--steps", "2")
    assert [line.partition(":")[0] for line in out.splitlines()[:2]] == ["step 1", "step 2"]
    exact = tmp_path / "out" / "own-exact.safetensors"
    data = (tmp_path / "out" / "own.hpcm").read_bytes()
    assert unpack(data).model == "own-1"
    assert hpcm.decompress(data, model=exact).size == (192, 160)
    before = hpcm.compress(picture, model="nano", quality=50)
    decoded = [np.array(hpcm.decompress(before, model=model)).astype(int) for model in (None, exact)]
    assert 0 < np.abs(decoded[0] - decoded[1]).max() < 30
    assert find(exact).reads(find("nano").hash)


def test_a_map_of_bits(picture, tmp_path):
    data = hpcm.compress(picture, model="nano", quality=50)
    (tmp_path / "photo.hpcm").write_bytes(data)
    out = run("bit_map.py", tmp_path / "photo.hpcm", "-o", tmp_path / "map.png")
    payload = sum(len(part.payload) for tile in unpack(data).tiles for part in tile)
    counted = int(out.split(": ")[1].split(" bytes")[0].replace(",", ""))
    assert counted == pytest.approx(payload, rel=0.01, abs=8)
    with Image.open(tmp_path / "map.png") as drawn:
        assert drawn.size == (192, 160)
        assert len(drawn.getcolors()) > 10
