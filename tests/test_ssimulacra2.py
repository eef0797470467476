"""SSIMULACRA 2 with a gradient, against the package of that name."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from hpcm.nn import ssimulacra2
from hpcm.nn.distortion import distortion
from hpcm.util.metrics import blurred

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("quality", [20, 60, 95])
def test_score(quality, monkeypatch):
    """At borders the package puts zeros left and right, and mirrors above and below; so the test does here."""
    compute = pytest.importorskip("ssimulacra2").compute_ssimulacra2

    def blur(x):
        high = torch.cat((x[..., :5, :].flip(-2), x, x[..., -5:, :].flip(-2)), -2)
        return blurred(F.pad(high, (5, 5)))

    original, decoded = io.BytesIO(), io.BytesIO()
    with Image.open(ROOT / "tests" / "data" / "kodim23.png") as picture:
        whole = picture.crop((100, 50, 356, 306))
    whole.save(original, "PNG")
    coarse = io.BytesIO()
    whole.save(coarse, "JPEG", quality=quality)
    Image.open(coarse).save(decoded, "PNG")
    a, b = (torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)[None] / 255 for file in (decoded, original))
    with monkeypatch.context() as patched:
        patched.setattr(ssimulacra2, "blur", blur)
        assert float(ssimulacra2.score(a, b)) == pytest.approx(compute(original, decoded), abs=0.1)
    assert float(ssimulacra2.score(b, b)) > 99
    same = b.clone().requires_grad_()
    ssimulacra2.error(same, b).sum().backward()
    assert bool(same.grad.isfinite().all())


def pair(size=96):
    torch.manual_seed(0)
    x = F.interpolate(torch.rand(2, 3, size // 8, size // 8), (size, size), mode="bicubic").clamp(0, 1)
    return x, (x + 0.05 * torch.randn_like(x)).requires_grad_()


def test_a_step_down_the_gradient_raises_the_score():
    x, x_hat = pair()
    before = ssimulacra2.score(x_hat, x)
    ssimulacra2.error(x_hat, x).sum().backward()
    step = 0.002 * x_hat.grad / x_hat.grad.square().mean((1, 2, 3), keepdim=True).sqrt()
    assert bool((ssimulacra2.score(x_hat - step, x) > before).all())


def test_pictures_of_a_batch_are_apart():
    x, x_hat = pair()
    together = ssimulacra2.error(x_hat, x)
    apart = torch.cat([ssimulacra2.error(x_hat[k : k + 1], x[k : k + 1]) for k in range(2)])
    assert torch.allclose(together, apart, rtol=1e-4)


@pytest.mark.parametrize("value", [-0.01, 0.0, 1.5])
def test_what_is_out_of_range_has_a_gradient(value):
    """A decoded picture isn't clamped."""
    x, _ = pair()
    x_hat = torch.full_like(x, value, requires_grad=True)
    ssimulacra2.error(x_hat, x).sum().backward()
    assert bool(x_hat.grad.isfinite().all())
    assert float(x_hat.grad.abs().max()) > 0


def test_the_loss_is_a_quarter_of_the_squared_error():
    x, x_hat = pair()
    expected = 0.25 * 255**2 * (x_hat - x).square().mean((1, 2, 3)) + 0.75 * 4 * ssimulacra2.error(x_hat, x)
    assert torch.allclose(distortion(x, x_hat, "ssimulacra2"), expected, rtol=1e-5)


def test_constants_are_made_once(monkeypatch):
    """A CUDA graph can't copy them to the GPU while it is recorded."""
    x, x_hat = pair()
    before = ssimulacra2.error(x_hat, x)
    monkeypatch.setattr(torch, "tensor", lambda *_, **how: pytest.fail("a constant is made anew"))
    assert torch.equal(ssimulacra2.error(x_hat, x), before)
