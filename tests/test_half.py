"""Transforms in 16 bits, as a GPU computes them: nearly the same latents and pixels, and the very same symbols."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import hpcm
from hpcm.model.tables import make_tables
from hpcm.nn.engine import TorchEngine
from hpcm.nn.exact import grid
from hpcm.nn.exact.half import PlainConvolution, use_plain_transforms
from hpcm.nn.exact.make_exact import make_exact, make_floating
from hpcm.nn.layers import PConvRB

PHOTO = Path(__file__).parent / "data" / "kodim23.png"
LEVEL = 40

pytestmark = pytest.mark.usefixtures("one_thread")


def photograph():
    return np.array(Image.open(PHOTO).crop((0, 0, 256, 256)))


@pytest.fixture(params=["unshuffle8", "conv2", "conv4"])
def exact(request, build, tiny, tiny_base, tiny_1b):
    """A model of each stem, whose transforms are exact."""
    config = {"unshuffle8": tiny, "conv2": tiny_1b, "conv4": replace(tiny_base, fusion="psi")}[request.param]
    x = torch.from_numpy(photograph()).permute(2, 0, 1)[None] / 255
    return make_exact(build(config), [(x, torch.zeros(1))]).requires_grad_(False)


@pytest.fixture
def nano():
    """A model of its own: it is changed here."""
    return hpcm.load("nano", engine="torch").engine.model


def computed(model):
    """y of a photograph, and z and x_hat of a random y."""
    x = torch.from_numpy(photograph()).permute(2, 0, 1)[None] / 255
    y = torch.randn(1, model.config.M, 16, 16, generator=torch.Generator().manual_seed(0))
    return model.analyse(x), model.hyper_analyse(y), model.synthesise(y)


def test_weights_are_those_of_the_integers(exact):
    """In float32 they give what the model in plain floating point does, but for what is clamped."""
    floating = make_floating(exact)
    use_plain_transforms(exact, torch.float32)
    for module in exact.modules():
        if isinstance(module, PlainConvolution):
            module.largest.fill_(torch.inf)
    for ours, plain in zip(computed(exact), computed(floating), strict=True):
        assert torch.allclose(ours, plain, rtol=1e-5, atol=1e-5)


def test_float16_is_near(exact):
    before = computed(exact)
    inputs = []
    use_plain_transforms(exact)
    for module in exact.modules():
        if isinstance(module, PConvRB | PlainConvolution):
            module.register_forward_pre_hook(lambda _, given: inputs.append(given[0].dtype))
    after = computed(exact)
    assert set(inputs) == {torch.float16}
    for near, value in zip(after, before, strict=True):
        assert near.dtype == torch.float32
        assert not torch.equal(near, value)
        assert float((near - value).square().mean() / value.square().mean()) < 1e-5


def test_what_calibration_has_not_seen_is_clamped(exact):
    """As on the grid: without, pixels would be others."""
    y = 1000 * torch.randn(1, exact.config.M, 8, 8, generator=torch.Generator().manual_seed(0))
    before = exact.synthesise(y)
    use_plain_transforms(exact)
    after = exact.synthesise(y)
    error = float((after - before).square().mean() / before.square().mean())
    for module in exact.modules():
        if isinstance(module, PlainConvolution):
            module.largest.fill_(torch.inf)
    unbound = exact.synthesise(y)
    assert error < 1e-4
    assert float((unbound - before).square().mean() / before.square().mean()) > 100 * error


def test_nothing_more_is_stored(exact):
    stored = grid.stored_numbers(exact)
    use_plain_transforms(exact)
    again = grid.stored_numbers(exact)
    assert again.keys() == stored.keys()
    assert all(np.array_equal(again[name], stored[name]) for name in stored)


def test_they_follow_the_model(exact):
    use_plain_transforms(exact)
    exact.to("meta")
    made = [module for module in exact.modules() if isinstance(module, PlainConvolution)]
    assert made
    assert all(buffer.device.type == "meta" for module in made for buffer in module.buffers())


def test_pictures(nano):
    """Symbols of given latents stay, and decoded pixels differ by at most 1."""
    engine = TorchEngine(nano, make_tables())
    pixels = photograph()
    height, width = pixels.shape[:2]
    crop = (0, 0, width, height)
    y = engine.analyse(pixels, 255, (256, 256))
    coded = engine.encode(y, LEVEL, z=np.ones((4, 4, nano.config.N), np.float32))
    before = engine.synthesise(coded.y_hat, 8, False, crop)
    use_plain_transforms(nano)
    again = engine.encode(y, LEVEL, z=np.ones((4, 4, nano.config.N), np.float32))
    assert again.parts == coded.parts
    after = engine.synthesise(coded.y_hat, 8, False, crop)
    assert not np.array_equal(after, before)
    assert np.abs(after.astype(int) - before).max() == 1


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu():
    cpu, gpu = hpcm.load("lite"), hpcm.load("lite", device="cuda")
    assert any(isinstance(module, PlainConvolution) for module in gpu.engine.model.modules())
    data = gpu.compress(Image.open(PHOTO), quality=60)
    there, here = (np.asarray(codec.decompress(data), int) for codec in (gpu, cpu))
    assert np.abs(there - here).max() <= 1
