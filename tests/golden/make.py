"""Makes the files of this folder anew: only needed when the format or the meaning of weights files changes.

python tests/golden/make.py      (from the root of the project)
"""

import importlib.util
from pathlib import Path

import torch
from PIL import Image

from hpcm.codec import load
from hpcm.model.exact import make_exact
from hpcm.picture import from_image
from hpcm.tiles import crop_tensor
from hpcm.weights import save

HERE = Path(__file__).parent
spec = importlib.util.spec_from_file_location("conftest", HERE.parent / "conftest.py")
conftest = importlib.util.module_from_spec(spec)
spec.loader.exec_module(conftest)

if __name__ == "__main__":
    photograph = Image.open(HERE.parent / "data" / "kodim23.png")
    x = crop_tensor(from_image(photograph), (0, 0, 512, 256), torch.device("cpu"))
    for config, carrier in ((conftest.TINY, "float32"), (conftest.TINY_BASE, "float64")):
        exact = make_exact(conftest._build(config), [(x, torch.tensor([30.0]))], carrier)
        path = HERE / f"{config.name}.safetensors"
        save(exact, path, {})
        codec = load(path)
        picture = photograph.crop((300, 100, 300 + 201, 100 + 137))
        (HERE / f"{config.name}.hpcm").write_bytes(codec.compress(picture, quality=50))
        print(path.name, path.stat().st_size, len((HERE / f"{config.name}.hpcm").read_bytes()))
