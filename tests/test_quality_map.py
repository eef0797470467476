"""Quality maps: fewer bytes where less is wanted, ordinary files, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import hpcm
from hpcm import cli
from hpcm.codec.codec import Codec
from hpcm.codec.quality_map import chosen
from hpcm.errors import UsageError
from hpcm.format.container import unpack
from hpcm.nn.weights import save

PHOTO = Path(__file__).parent / "data" / "kodim23.png"


@pytest.fixture(scope="module")
def codec() -> Codec:
    return hpcm.load("nano")


def photo(width: int = 256, height: int = 192) -> Image.Image:
    image = Image.open(PHOTO).convert("RGB")
    left, top = min(250, image.width - width), min(250, image.height - height)
    return image.crop((left, top, left + width, top + height))


def half(image: Image.Image, less: float) -> np.ndarray:
    """A map of which the right half is wanted less."""
    wanted = np.ones((-(-image.height // 16), -(-image.width // 16)))
    wanted[:, wanted.shape[1] // 2 :] = less
    return wanted


def errors(image: Image.Image, decoded: Image.Image) -> tuple[float, float]:
    """The mean squared error of the left and the right half."""
    squared = (np.asarray(decoded).astype(float) - np.asarray(image)) ** 2
    middle = image.width // 2
    return squared[:, :middle].mean(), squared[:, middle:].mean()


@pytest.mark.parametrize(("size", "tile"), [((256, 192), 1024), ((530, 290), 256)])
def test_less_is_spent_where_less_is_wanted(codec, size, tile):
    image = photo(*size)
    plain = codec.compress(image, quality=50, tile=tile)
    files = [codec.compress(image, quality=50, tile=tile, quality_map=half(image, less)) for less in (0.5, 0.2, 0.0)]
    sizes = [len(plain), *map(len, files)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.75 * sizes[0]
    left, right = zip(*(errors(image, codec.decompress(data)) for data in (plain, *files)), strict=True)
    assert max(left) < 1.06 * left[0]  # latents see beyond the border
    assert sorted(right) == list(right)
    spent = [hpcm.latents(data).bit_map for data in (plain, files[1])]
    middle = spent[0].shape[1] // 2
    saved = [1 - spent[1][:, part].sum() / spent[0][:, part].sum() for part in (slice(middle), slice(middle, None))]
    assert saved[1] > 0.3
    assert saved[0] < 0.05


def test_a_map_of_ones_changes_nothing(codec):
    image = photo()
    assert codec.compress(image, quality=50, quality_map=half(image, 1)) == codec.compress(image, quality=50)


def test_models_that_are_not_exact(build, tiny_base, tmp_path):
    save(build(tiny_base), tmp_path / "mine.safetensors", {})
    codec = hpcm.load(tmp_path / "mine.safetensors")
    image = photo(100, 70)
    plain, less = (codec.compress(image, quality_map=half(image, value)) for value in (1, 0.0))
    assert plain == codec.compress(image)
    assert len(less) < len(plain)
    assert codec.decompress(less).size == image.size


def test_beside_a_target_and_effort(codec):
    image = photo(128, 64)
    wanted = half(image, 0.2)
    data = codec.compress(image, bpp=0.5, quality_map=wanted)
    assert 8 * len(data) <= 0.5 * 128 * 64
    assert unpack(data).level >= unpack(codec.compress(image, bpp=0.5)).level
    both = codec.compress(image, quality=50, effort=1, quality_map=wanted)
    assert len(both) < len(codec.compress(image, quality=50, effort=1))


def test_what_is_refused(codec, monkeypatch):
    image = photo(100, 70)
    with pytest.raises(UsageError, match=r"shape \[7, 5\]: it must be \[5, 7\], a number for each 16 x 16 pixels"):
        codec.compress(image, quality_map=np.ones((7, 5)))
    for value in (-0.1, 1.1, np.nan):
        with pytest.raises(UsageError, match="numbers outside 0 to 1"):
            codec.compress(image, quality_map=np.full((5, 7), value))
    for no_map in ("map.png", [[1], [1, 2]], torch.ones(5, 7, requires_grad=True), np.ones((5, 7)) + 0.5j):
        with pytest.raises(UsageError, match="the quality map is no array of numbers: "):
            codec.compress(image, quality_map=no_map)
    for how in ({"quality": 81}, {"lossless": True}, {"max_error": 2}):
        with pytest.raises(UsageError, match="for lossy pictures of a quality up to 80"):
            codec.compress(image, quality_map=np.ones((5, 7)), **how)
    monkeypatch.setattr("hpcm.codec.codec.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"a quality map needs PyTorch: pip install 'hpcm-codec\[torch\]'"):
        codec.compress(image, quality_map=np.ones((5, 7)))


def test_the_cheapest_symbol_is_chosen():
    """Against trying all of them, at every map value; where all counts, the nearest."""
    random = torch.Generator().manual_seed(0)
    residual = 6 * torch.randn(2000, generator=random)
    scales = torch.rand(2000, generator=random) * 3 + 0.12
    assert torch.equal(chosen(residual, scales, torch.ones(2000)), residual.round())
    assert torch.equal(chosen(residual, scales, torch.zeros(2000)), torch.zeros(2000))
    some = chosen(residual, scales, torch.full((2000,), 0.3))
    assert ((some.abs() <= residual.round().abs()) & (some * residual >= 0)).all()
    assert (some != residual.round()).float().mean() > 0.1


def test_from_a_picture(tmp_path, monkeypatch):
    """On the command line: any size, and one map for several pictures."""
    monkeypatch.chdir(tmp_path)
    for name, size in (("a.png", (256, 192)), ("b.png", (128, 64))):
        photo(*size).save(name)
    white_left = np.zeros((20, 30), np.uint8)
    white_left[:, :15] = 255
    Image.fromarray(white_left).save("map.png")
    line = "compress a.png b.png --model nano --quiet -o"
    assert cli.main([*line.split(), "plain/"]) == 0
    assert cli.main([*line.split(), "mapped/", "--roi", "map.png"]) == 0
    for name in ("a", "b"):
        assert Path(f"mapped/{name}.hpcm").stat().st_size < 0.96 * Path(f"plain/{name}.hpcm").stat().st_size
    wanted = half(photo(), 0)
    assert Path("mapped/a.hpcm").read_bytes() == hpcm.compress("a.png", model="nano", quality_map=wanted)
