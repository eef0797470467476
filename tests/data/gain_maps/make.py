"""Makes the JPEGs of this folder with libultrahdr, the reference reader and writer, of a picture that is drawn here.

python tests/data/gain_maps/make.py      needs imagecodecs
"""

from pathlib import Path

import imagecodecs
import numpy as np

WIDTH, HEIGHT = 96, 64
FOLDER = Path(__file__).parent


def drawn() -> np.ndarray:
    """Linear light, [HEIGHT, WIDTH, 4], half floats: a slope of colours with a lamp of 6 times SDR's white."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    slope = np.stack((x / WIDTH, (x + y) / (WIDTH + HEIGHT), y / HEIGHT), axis=-1) ** 2 * 0.6
    lamp = np.exp(-((x - 70) ** 2 + (y - 20) ** 2) / 120)[..., None] * (6.0, 5.0, 3.5)
    return np.concatenate((slope + lamp, np.ones((HEIGHT, WIDTH, 1))), axis=-1).astype(np.float16)


if __name__ == "__main__":
    (FOLDER / "libultrahdr.jpg").write_bytes(imagecodecs.ultrahdr_encode(drawn(), 90))
