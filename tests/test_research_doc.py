"""docs/research.md is one way from a clone to a plot: its examples run in order, with small numbers."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from test_readme import IN_ORDER, PYTHON, SHELL, blocks

SMALL = {r"--steps \d+": "--steps 1", r"--batch \d+": "--batch 1", r"--qualities \S+": "--qualities 50"}


def photos(folder: Path) -> None:
    """A few, with some structure."""
    folder.mkdir(parents=True)
    for k in range(3):
        coarse = np.random.default_rng(k).integers(0, 256, (9, 10, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((160, 144), Image.Resampling.BICUBIC).save(folder / f"{k}.png")


def script(text: str) -> str:
    for pattern, small in SMALL.items():
        text = re.sub(pattern, small, text)
    return f'set -e\nhpcm() {{ {shlex.quote(sys.executable)} -m hpcm "$@"; }}\n{text}'


def test_the_way_from_a_clone_to_a_plot(tmp_path):
    photos(tmp_path / "photos")
    photos(tmp_path / "tests" / "data")
    for block in blocks(IN_ORDER):
        if block.not_run:
            continue
        assert block.language in (SHELL, PYTHON), block.place
        line = ["bash", "-c", script(block.text)] if block.language == SHELL else [sys.executable, "-c", block.text]
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{block.place}: {done.stderr}"
        if "hpcm info" in block.text:
            assert re.search("configuration: .*", block.text)[0] in done.stdout
    for run in ("nano", "fewer", "deeper", "flat", "mine"):
        assert (tmp_path / "runs" / run / "model.safetensors").exists()
    assert (tmp_path / "report" / "report.html").exists()
