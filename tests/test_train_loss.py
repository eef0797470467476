"""The loss: MS-SSIM against a known implementation, lambdas, and the choice of precision."""

from dataclasses import replace

import pytest
import torch

from hpcm.train import device
from hpcm.train.loss import importances, rate_distortion
from hpcm.util.metrics import SCORE_MIN, blurred, blurred_by_products, ms_ssim

PUBLISHED_MSE = (0.0018, 0.0035, 0.0067, 0.013, 0.025, 0.0483)
PUBLISHED_MS_SSIM = (2.4, 4.58, 8.73, 16.64, 31.73, 60.5)


def pictures(height, width):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, 3, height // 8 + 1, width // 8 + 1, generator=generator)
    x = torch.nn.functional.interpolate(x, (height, width), mode="bicubic").clamp(0, 1)
    return x, (x + 0.1 * torch.randn(x.shape, generator=generator)).clamp(0, 1)


@pytest.mark.parametrize("size", [(176, 192), (201, 163)])
def test_ms_ssim_equals_the_known_one(size):
    known = pytest.importorskip("pytorch_msssim")
    x, y = pictures(*size)
    expected = known.ms_ssim(x.double(), y.double(), data_range=1.0, size_average=False)
    assert torch.allclose(ms_ssim(x.double(), y.double()), expected, rtol=0, atol=1e-7)
    assert torch.allclose(ms_ssim(x, y), expected.float(), rtol=0, atol=1e-5)


def test_ms_ssim_has_gradients_everywhere():
    x, _ = pictures(176, 176)
    assert torch.allclose(ms_ssim(x, x), torch.ones(2))
    for y in (x, 1 - x, torch.zeros_like(x)):
        y = y.clone().requires_grad_()
        ms_ssim(x, y, least=SCORE_MIN).sum().backward()
        assert torch.isfinite(y.grad).all()


def test_the_blur_for_gpus_equals_the_sum():
    x = torch.rand(2, 3, 40, 57, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found, expected = blurred_by_products(x), blurred(x)
    assert torch.allclose(found, expected, rtol=0, atol=1e-12)
    weight = torch.rand(expected.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    gradients = [torch.autograd.grad((y * weight).sum(), x)[0] for y in (found, expected)]
    assert torch.allclose(*gradients, rtol=0, atol=1e-12)


def test_the_loss_by_hand(tiny_base):
    x, y = pictures(176, 176)
    likelihoods = {"y": torch.full((2, 4, 11, 11), 0.5), "z": torch.full((2, 2, 3, 3), 0.25)}
    weight = torch.tensor([0.01, 0.02])
    bpp = (4 * 121 + 2 * 2 * 9) / 176**2
    mse = (x - y).square().mean((1, 2, 3))
    loss = rate_distortion(x, y, likelihoods, weight)
    assert [float(v) for v in loss] == pytest.approx(
        [float((weight * 65025 * mse).mean()) + bpp, bpp, float(mse.mean())]
    )
    loss = rate_distortion(x, y, likelihoods, 1000 * weight, "ms-ssim")
    assert float(loss.total) == pytest.approx(float((1000 * weight * (1 - ms_ssim(x, y))).mean()) + bpp)
    loss = rate_distortion(x, y, likelihoods, weight, "mixed")
    mixed = 0.25 * 65025 * mse + 0.75 * 1280 * (1 - ms_ssim(x, y))
    assert float(loss.total) == pytest.approx(float((weight * mixed).mean()) + bpp)


def test_lambda_of_numbers_and_tensors_alike(tiny, tiny_base):
    level = torch.tensor([0.0, 31.5, 63.0], dtype=torch.float64)
    for config in (tiny, tiny_base):
        found = config.lambda_of(level)
        assert (found.shape, found.dtype) == (level.shape, level.dtype)
        assert found.tolist() == pytest.approx([config.lambda_of(float(v)) for v in level], rel=1e-15)
    assert isinstance(tiny.lambda_of(7), float)


def test_weights_of_levels(tiny, tiny_base):
    assert tiny_base.weight_of(torch.zeros(2)).tolist() == pytest.approx([0.013, 0.013])
    level = torch.tensor([0.0, 31.5, 63.0])
    assert tiny.weight_of(level).tolist() == pytest.approx([0.001, 0.008, 0.064])
    span = replace(tiny, lambda_min=PUBLISHED_MSE[0], lambda_max=PUBLISHED_MSE[-1])
    levels = torch.linspace(0, 63, 6)
    assert span.weight_of(levels).tolist() == pytest.approx(PUBLISHED_MSE, rel=0.05)
    assert span.weight_of(levels, "ms-ssim").tolist() == pytest.approx(PUBLISHED_MS_SSIM, rel=0.07)


@pytest.mark.parametrize(("fast", "expected"), [(3.0, True), (1.1, False)])
def test_precision_is_chosen_by_measuring(monkeypatch, fast, expected):
    monkeypatch.setattr(device, "matrix_peak", lambda _, bf16: fast * 1e9 if bf16 else 1e9)
    chosen, words = device.choose_precision("auto", torch.device("cpu"))
    assert chosen == expected
    assert words.startswith("precision bf16:" if expected else "precision float32:")
    assert device.choose_precision("bf16", torch.device("cpu")) == (True, "precision bf16")


def test_flops(tiny):
    assert device.flops_per_crop(tiny, 128) == 4 * device.flops_per_crop(tiny, 64) > 0


def test_what_levels_count_for(tiny, tiny_base):
    levels = torch.tensor([0.0, 31.5, 63.0])
    assert torch.allclose(importances(tiny, levels, 0.5), torch.tensor([64**0.25, 1.0, 64**-0.25]))
    assert torch.equal(importances(tiny, levels, 0.0), torch.ones(3))
    assert torch.equal(importances(tiny_base, levels, 0.5), torch.ones(3))
    x, y = pictures(64, 64)
    likelihoods = {"y": torch.full((2, 4, 4, 4), 0.5)}
    weight = torch.tensor([0.01, 0.02])
    each = [rate_distortion(x[i : i + 1], y[i : i + 1], {"y": likelihoods["y"][:1]}, weight[i : i + 1]) for i in (0, 1)]
    both = rate_distortion(x, y, likelihoods, weight, importance=torch.tensor([2.0, 0.5]))
    assert both.total == pytest.approx((2 * each[0].total + 0.5 * each[1].total) / 2)
