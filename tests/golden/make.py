"""Makes the files of this folder, from the root of the project.

python tests/golden/make.py           the tiny models and their files: when the format of weights files changes
python tests/golden/make.py MODEL...  a file of each model, and its pixels: once, when the model gets its version
python tests/golden/make.py --format  files with all that the format knows: when it knows more
python tests/golden/make.py --layers  files with a residual layer of each kind: when its coders change, before 1.0
"""

import importlib.util
import io
import struct
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from hpcm.codec.api import load
from hpcm.codec.pixels import cropped
from hpcm.image.hdr import GainMap
from hpcm.image.metadata.gain_map import Channel, GainMapMetadata
from hpcm.image.metadata.record import Metadata
from hpcm.image.picture import from_image
from hpcm.nn.exact.make_exact import make_exact
from hpcm.nn.weights import save
from hpcm.util import atomic

METADATA = Metadata(  # all that a file can hold
    icc=b"a profile",
    exif=b"Exif\0\0II*\0\x08\0\0\0\1\0\x0e\1\2\0\x0e\0\0\0\x1a\0\0\0\0\0\0\0a description\0",
    xmp=b"<x:xmpmeta/>",
    comments=b"Comment\0made for the tests",
    cicp=bytes([1, 13, 0, 1]),
    gamma=struct.pack(">I", 45455),
    chromaticities=struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000),
    srgb=b"\0",
    mastering=struct.pack(">8H2I", 34000, 16000, 13250, 34500, 7500, 3000, 15635, 16450, 10_000_000, 50),
    light=struct.pack(">2I", 10_000_000, 4_000_000),
    density=struct.pack(">2IB", 11811, 11811, 1),
)
GAIN_MAP = GainMapMetadata((0, 1), (23, 10), (Channel((0, 1), (23, 10), (5, 4), (1, 64), (1, 64)),))
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))  # where conftest imports from
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
        (HERE / f"{config.name}.hpcm").write_bytes(codec.compress(picture, quality=40))


def released(name: str, photograph: Image.Image) -> None:
    codec = load(name)
    data = codec.compress(photograph.crop((130, 90, 130 + 153, 90 + 101)), quality=60)
    keep(name, data, codec.decompress(data))


def keep(name: str, data: bytes, decoded: Image.Image) -> None:
    pixels = io.BytesIO()
    decoded.save(pixels, "png", optimize=True)
    atomic.write(HERE / f"{name}.hpcm", data, force=False)  # delete a file to make it anew
    atomic.write(HERE / f"{name}.png", pixels.getvalue(), force=False)
    print(name, len(data), "bytes")


def rich(photograph: Image.Image) -> Image.Image:
    """Two tiles, alpha, and all metadata that a file can hold."""
    picture = photograph.crop((100, 100, 240, 108)).resize((1100, 16)).convert("RGBA")
    picture.putalpha(Image.linear_gradient("L").rotate(90).resize(picture.size))
    gain_map = GainMap(GAIN_MAP.to_iso(), Image.linear_gradient("L").rotate(90).resize((275, 4)))
    picture.info = METADATA.info() | {"gain_map": gain_map}
    return picture


def deep(photograph: Image.Image) -> Image.Image:
    """Grey, of 16 bits."""
    grey = np.asarray(photograph.crop((300, 100, 380, 160)).convert("L"), np.uint16)
    return Image.fromarray(grey * 257)


def format_files(photograph: Image.Image) -> None:
    codec = load("nano")
    for name, picture, quality in (("format", rich(photograph), 24), ("format-grey", deep(photograph), 49)):
        data = codec.compress(picture, quality=quality, progressive=True)
        keep(name, data, codec.decompress(data))
    two_tiles = photograph.crop((300, 100, 300 + 300, 100 + 201))  # docs/format.md walks through this file
    data = codec.compress(two_tiles, quality=60, tile=256, progressive=True)
    atomic.write(HERE / "progressive.hpcm", data, force=False)


def drawn() -> Image.Image:
    """As on a screen: no lossy picture is kept of it."""
    image = Image.new("RGB", (153, 101), (250, 250, 245))
    draw = ImageDraw.Draw(image)
    for row in range(4, 101, 16):
        draw.text((6, row), "of letters and lines", (20, 20, 60))
        draw.line((0, row - 2, 153, row - 2), (200, 120, 40))
    return image


def layer_files(photograph: Image.Image) -> None:
    codec = load("nano")
    part = photograph.crop((130, 90, 130 + 153, 90 + 101))
    for name, picture, how in (
        ("lossless", part, {"lossless": True, "progressive": True}),
        ("lossless-grey", drawn(), {"lossless": True}),
        ("near-lossless", deep(photograph), {"max_error": 300}),
        ("quality-90", part, {"quality": 90}),
    ):
        data = codec.compress(picture, **how)
        keep(name, data, codec.decompress(data))


if __name__ == "__main__":
    photograph = Image.open(HERE.parent / "data" / "kodim23.png")
    photograph.info.clear()  # its gAMA and sRGB
    for name in sys.argv[1:]:
        make = {"--format": format_files, "--layers": layer_files}.get(name, partial(released, name))
        make(photograph)
    if not sys.argv[1:]:
        tiny(photograph)
