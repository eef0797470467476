"""Makes the files of this folder, from the root of the project.

python tests/golden/make.py           the tiny models and their files: when the format of weights files changes
python tests/golden/make.py MODEL...  a file of each model, and its pixels: once, when the model is released
"""

import importlib.util
import io
import sys
from pathlib import Path

import torch
from PIL import Image

from hpcm import atomic
from hpcm.engine.torch import save
from hpcm.ladder import load
from hpcm.model.exact import make_exact
from hpcm.picture import from_image
from hpcm.tiles import cropped

HERE = Path(__file__).parent
spec = importlib.util.spec_from_file_location("conftest", HERE.parent / "conftest.py")
conftest = importlib.util.module_from_spec(spec)
spec.loader.exec_module(conftest)


def tiny(photograph: Image.Image) -> None:
    x = torch.from_numpy(cropped(from_image(photograph), (0, 0, 512, 256)))
    for config, carrier in ((conftest.TINY, "float32"), (conftest.TINY_BASE, "float64")):
        exact = make_exact(conftest._build(config), [(x, torch.tensor([30.0]))], carrier)
        save(exact, HERE / f"{config.name}.safetensors", {})
        codec = load(HERE / f"{config.name}.safetensors")
        picture = photograph.crop((300, 100, 300 + 201, 100 + 137))
        (HERE / f"{config.name}.hpcm").write_bytes(codec.compress(picture, quality=50))


def released(name: str, photograph: Image.Image) -> None:
    codec = load(name)
    data = codec.compress(photograph.crop((130, 90, 130 + 153, 90 + 101)), quality=75)
    pixels = io.BytesIO()
    codec.decompress(data).save(pixels, "png", optimize=True)
    atomic.write(HERE / f"{name}.hpcm", data, force=False)  # what was released stays
    atomic.write(HERE / f"{name}.png", pixels.getvalue(), force=False)
    print(name, codec.weights.hash.hex(), len(data), "bytes")


if __name__ == "__main__":
    photograph = Image.open(HERE.parent / "data" / "kodim23.png")
    for name in sys.argv[1:]:
        released(name, photograph)
    if not sys.argv[1:]:
        tiny(photograph)
