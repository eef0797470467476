"""examples/demo.py: there and back, and the pictures stay where one can look."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

import hpcm

ROOT = Path(__file__).parents[1]


def test_the_demo_leaves_its_pictures(tmp_path):
    picture = tmp_path / "mine.png"
    Image.open(ROOT / "tests" / "data" / "kodim23.png").crop((130, 90, 130 + 96, 90 + 64)).save(picture)
    environment = {**os.environ, "PYTHONPATH": str(Path(hpcm.__file__).parents[1])}
    line = [sys.executable, ROOT / "examples" / "demo.py", picture.name]
    for _ in range(2):  # again, over its own files
        done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stderr) == (0, "")
    folder = Path("demo-output")
    names = [folder / name for name in ("original.png", "compressed.hpcm", "decoded.png")]
    assert {path.name for path in tmp_path.iterdir()} == {"mine.png", "demo-output"}
    assert {path.relative_to(tmp_path) for path in (tmp_path / folder).iterdir()} == {*names}
    assert (tmp_path / names[0]).read_bytes() == picture.read_bytes()
    decoded = np.asarray(hpcm.decompress(tmp_path / names[1]))
    assert np.array_equal(np.asarray(Image.open(tmp_path / names[2])), decoded)
    last = done.stdout.splitlines()[-4:]
    assert [line.split()[-1] for line in last[:3]] == [str(name) for name in names]
    assert last[3].endswith(f"Look at {names[0]} and {names[2]}.")


def test_what_it_leaves_is_no_part_of_the_repository():
    assert "demo-output/" in (ROOT / ".gitignore").read_text().splitlines()
