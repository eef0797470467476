"""A picture of 100 megapixels, there and back through the command line with bounded memory."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hpcm
from hpcm.format.container import unpack

pytestmark = pytest.mark.slow

KODIM = Path(__file__).parent / "data" / "kodim23.png"
WIDTH, HEIGHT = 12_500, 8_000
ROWS = 500  # that are made and compared at once
NOISE = 3  # of 255: a plain repetition would be too easy
MEMORY = 4e9  # bytes
REGION_MEMORY = 400e6
BOX = (6000, 4000, 6512, 4512)  # on the corner of four tiles
WORST = 26.0  # dB
# Runs the command line and tells the most memory that it ever had. On Linux, `resource` would count its parent's too.
CHILD = """
import pathlib, re, resource, sys
from hpcm.cli import main
code = main(sys.argv[1:])
status = pathlib.Path("/proc/self/status")
if status.exists():
    peak = int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1]) * 1024
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print("peak", peak)
sys.exit(code)
"""


def write_picture(path: Path) -> None:
    """A PPM file: nothing is larger, so nothing takes more memory to read."""
    photo, random = np.asarray(Image.open(KODIM).convert("RGB")), np.random.default_rng(0)
    across = np.tile(photo, (1, -(-WIDTH // photo.shape[1]), 1))[:, :WIDTH]
    with path.open("wb") as file:
        file.write(b"P6 %d %d 255\n" % (WIDTH, HEIGHT))
        for top in range(0, HEIGHT, ROWS):
            rows = across[np.arange(top, top + ROWS) % len(across)].astype(np.int16)
            rows += random.integers(-NOISE, NOISE + 1, rows.shape, dtype=np.int16)
            file.write(rows.clip(0, 255).astype(np.uint8).tobytes())


def samples(path: Path) -> np.ndarray:
    """The pixels of a PPM file, not read yet: uint8 [H, W, 3]."""
    size = HEIGHT * WIDTH * 3
    return np.memmap(path, np.uint8, "r", path.stat().st_size - size, (HEIGHT, WIDTH, 3))


def peak_memory(*line: object) -> int:
    """Bytes that a command line took at most."""
    environment = {**os.environ, "PYTHONPATH": str(Path(hpcm.__file__).parents[1])}
    command = [sys.executable, "-c", CHILD, *map(str, line)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


def test_100_megapixels_in_4_gigabytes(tmp_path):
    """And 512 x 512 of them in a tenth of that."""
    pytest.importorskip("resource")
    photo, coded, back = tmp_path / "photo.ppm", tmp_path / "photo.hpcm", tmp_path / "back.ppm"
    write_picture(photo)
    assert peak_memory("compress", photo, "-o", coded, "--model", "nano") < MEMORY
    container = unpack(coded.read_bytes())
    assert len(container.tiles) == -(-WIDTH // container.tile_side) * -(-HEIGHT // container.tile_side) > 100
    assert peak_memory("decompress", coded, "-o", back) < MEMORY
    pairs = zip(samples(photo), samples(back), strict=True)
    error = np.mean([np.mean((a.astype(np.float32) - b) ** 2) for a, b in pairs])
    assert 10 * np.log10(255**2 / error) > WORST

    left, top, right, bottom = BOX
    crop, part = f"{right - left}x{bottom - top}+{left}+{top}", tmp_path / "part.ppm"
    assert peak_memory("decompress", coded, "--crop", crop, "-o", part) < REGION_MEMORY
    region = np.asarray(Image.open(part)).astype(int)
    assert np.abs(region - samples(back)[top:bottom, left:right]).max() <= 1
