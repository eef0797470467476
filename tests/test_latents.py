"""hpcm.latents: what a file's latents are, and what each costs."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import hpcm
from hpcm.core.ans import SymbolEncoder
from hpcm.errors import MismatchError, UsageError
from hpcm.format.container import unpack
from hpcm.model.find import find
from hpcm.model.tables import make_tables
from hpcm.nn.weights import load_model, save

PHOTO = Path(__file__).parent / "data" / "kodim23.png"


def photo(width: int, height: int) -> Image.Image:
    return Image.open(PHOTO).convert("RGB").crop((100, 60, 100 + width, 60 + height))


def payload(data: bytes) -> int:
    """Bytes of the entropy coder."""
    return sum(len(part.payload) for tile in unpack(data).tiles for part in tile)


@pytest.mark.parametrize(
    ("size", "tile", "quality"), [((300, 280), 1024, 20), ((300, 280), 256, 80), ((520, 270), 256, 50)]
)
def test_bits_add_up_to_the_bytes(size, tile, quality):
    """To within a per cent, beside the coder's state of 8 bytes for each tile."""
    data = hpcm.compress(photo(*size), model="nano", quality=quality, tile=tile)
    found = hpcm.latents(data)
    tiles = len(unpack(data).tiles)
    expected = payload(data)
    assert found.bit_map.sum() / 8 == pytest.approx(expected, rel=0.01, abs=8 * tiles)
    assert found.bit_map.sum() == pytest.approx(found.y.bits.sum() + found.z.bits.sum(), rel=1e-5)
    assert found.bit_map.shape == (-(-size[1] // 16), -(-size[0] // 16))
    assert found.y.bits.shape == (192, *found.bit_map.shape)
    assert found.z.bits.shape == (64, -(-size[1] // 64), -(-size[0] // 64))


def test_beside_a_residual_layer():
    image = photo(128, 64)
    lossy, more = (hpcm.compress(image, model="nano", quality=quality) for quality in (80, 90))
    assert np.array_equal(hpcm.latents(lossy).y.symbols, hpcm.latents(more).y.symbols)
    beside_grey = hpcm.compress(Image.new("L", (64, 64), 7), model="nano", lossless=True)
    assert not unpack(beside_grey).base_parts
    with pytest.raises(UsageError, match="no lossy picture, and so no latents"):
        hpcm.latents(beside_grey)


@pytest.mark.parametrize("which", ["tiny", "tiny_base", "tiny_1b"])
def test_latents_are_those_of_the_decoder(which, request, build, tmp_path):
    """Of every kind of model, exact or not; padding is left out."""
    config = request.getfixturevalue(which)
    path = tmp_path / "mine.safetensors"
    save(build(config), path, {})
    data = hpcm.load(path).compress(photo(300, 200), quality=40, tile=256)
    found = hpcm.latents(data, model=path)
    assert found.bit_map.sum() / 8 == pytest.approx(payload(data), rel=0.01, abs=16)
    model, level = load_model(find(path)).model, torch.tensor([unpack(data).level])
    for name, latent in (("y", found.y), ("z", found.z)):
        _, inverse = model.gains_of(name, level)
        inverse = inverse[0].numpy() if isinstance(inverse, torch.Tensor) else inverse
        assert np.allclose(latent.decoded, (latent.symbols + latent.means) * inverse, atol=1e-4)
        assert (latent.scales > 0).all() or name == "y"
    codec = hpcm.load(path, engine="torch")
    y_hat = torch.from_numpy(found.y_hat)[None]
    size = model.config.multiple // 16
    if found.y_hat.shape[1] % size == 0 and found.y_hat.shape[2] % size == 0:
        x_hat = model.synthesise(y_hat)[0].permute(1, 2, 0)
        expected = codec.decompress_array(data)
        rounded = (x_hat * 255).round().clamp(0, 255).numpy()[: expected.shape[0], : expected.shape[1]]
        assert np.abs(rounded - expected).max() <= 1


def test_from_another_models_file(build, tiny, tmp_path):
    save(build(tiny), tmp_path / "mine.safetensors", {})
    data = hpcm.compress(photo(64, 64), model="nano")
    with pytest.raises(MismatchError, match="made with model 'nano-1'"):
        hpcm.latents(data, model=tmp_path / "mine.safetensors")


def test_what_a_symbol_takes():
    """Of each table: what a thousand of it add to a stream, escapes among them."""
    tables = make_tables()
    for scale in (0.05, 0.3, 2.0, 40.0, 500.0):
        index = tables.index(scale)
        radius = int(tables.radius[index])
        for symbol in {0, 1, -radius, radius + 1, -radius - 1, radius + 70000}:
            sizes = []
            for count in (1000, 2000):
                encoder = SymbolEncoder(tables)
                encoder.push(np.full(count, symbol, np.int32), np.full(count, index, np.uint8))
                encoder.push(
                    np.arange(50, dtype=np.int32), np.full(50, index, np.uint8)
                )  # zeros on an empty stack are free
                sizes.append(sum(map(len, encoder.finish())))
            added = 8 * (sizes[1] - sizes[0]) / 1000
            assert float(tables.bits(symbol, scale)) == pytest.approx(added, abs=0.07), (scale, symbol)
