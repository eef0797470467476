"""What training, coding and evaluation measure alike: PSNR, MS-SSIM and its gradient."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from hpcm.util import metrics
from hpcm.util.metrics import blurred, ms_ssim, psnr, psnr_of_mse


def dense(x):
    """The plain twin of `blurred`: one 11 x 11 window as a convolution."""
    place = torch.arange(metrics.WINDOW, dtype=x.dtype) - metrics.WINDOW // 2
    axis = torch.exp(-(place**2) / (2 * metrics.SIGMA**2))
    window = (axis[:, None] * axis) / axis.sum() ** 2
    return torch.nn.functional.conv2d(x, window.expand(x.shape[1], 1, -1, -1), groups=x.shape[1])


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_blurred_equals_a_convolution(memory, dtype):
    torch.manual_seed(0)
    x = torch.rand(2, 3, 21, 34, dtype=dtype).contiguous(memory_format=memory).requires_grad_()
    y = x.detach().clone().requires_grad_()
    close = {torch.float32: 1e-6, torch.float64: 1e-14}[dtype]
    found, expected = blurred(x), dense(y)
    assert torch.allclose(found, expected, rtol=0, atol=close)
    weight = torch.rand_like(expected)
    (found * weight).sum().backward()
    (expected * weight).sum().backward()
    assert torch.allclose(x.grad, y.grad, rtol=0, atol=10 * close)


def test_the_gradient_of_ms_ssim_is_its_slope():
    torch.manual_seed(0)
    x = torch.rand(1, 3, 22, 22, dtype=torch.float64).repeat_interleave(8, 2).repeat_interleave(8, 3)
    y = (x + 0.1 * torch.randn_like(x)).requires_grad_()
    ms_ssim(x, y).sum().backward()
    way = torch.randn_like(x)
    with torch.no_grad():
        slope = (ms_ssim(x, y + 1e-5 * way) - ms_ssim(x, y - 1e-5 * way)) / 2e-5
    assert float((y.grad * way).sum()) == pytest.approx(float(slope), rel=1e-5)


def test_ms_ssim_depends_on_the_shares_of_the_peak_alone():
    torch.manual_seed(0)
    x, y = torch.rand(2, 1, 3, 176, 180, dtype=torch.float64)
    assert torch.allclose(ms_ssim(x, y), ms_ssim(255 * x, 255 * y, 255), rtol=0, atol=1e-12)


def test_psnr():
    a = np.zeros((4, 5, 3), np.uint8)
    assert psnr(a, a) == metrics.EQUAL
    assert psnr(a, a + 51) == pytest.approx(20 * math.log10(5))
    assert psnr_of_mse(0.01) == pytest.approx(20)
    assert psnr_of_mse(100.0, 1000) == pytest.approx(40)
    assert psnr_of_mse(0.0, 255) == math.inf


def test_importing_it_does_not_import_torch():
    subprocess.run(
        [sys.executable, "-c", "import sys, hpcm.util.metrics; assert 'torch' not in sys.modules"], check=True
    )
