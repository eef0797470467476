"""Metrics and BD-rate against independent implementations and published numbers."""

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hpcm.errors import UsageError
from hpcm.eval.anchors import points_of, published
from hpcm.eval.bdrate import Curve, delta
from hpcm.eval.metrics import (
    BUTTERAUGLI,
    BUTTERAUGLI_SMALLEST,
    LPIPS_SMALLEST,
    SSIMULACRA2_SMALLEST,
    butteraugli,
    decibels,
    lpips,
    ms_ssim,
    mse_of,
    psnr,
    psnr_of,
    ssimulacra2,
)
from hpcm.util.metrics import SCALE_WEIGHTS, SMALLEST

KODIM = Path(__file__).parent / "data" / "kodim23.png"
SIZES = [(176, 192), (333, 275), (161, 300)]  # height and width, even and odd


def a_pair(height, width):
    """A smooth picture and a noisy, darker copy of it."""
    rng = np.random.default_rng(height)
    coarse = rng.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3)).astype(float)
    smooth = coarse.repeat(8, 0).repeat(8, 1)[:height, :width]
    noisy = 0.9 * smooth + rng.normal(0, 12, smooth.shape)
    return smooth.astype(np.uint8), noisy.clip(0, 255).astype(np.uint8)


# ---- metrics --------------------------------------------------------------------------------------------------------


def plain_ms_ssim(a, b):
    """As the paper writes it: one dense 11 x 11 window, place by place."""
    axis = np.exp(-((np.arange(11) - 5) ** 2) / (2 * 1.5**2))
    window = np.outer(axis, axis) / axis.sum() ** 2

    def local(x):
        return np.einsum("hwij,ij->hw", np.lib.stride_tricks.sliding_window_view(x, (11, 11)), window, optimize=True)

    def halved(x):
        x = np.pad(x, [(side % 2, side % 2) for side in x.shape])
        h, w = x.shape[0] // 2, x.shape[1] // 2
        return x[: 2 * h, : 2 * w].reshape(h, 2, w, 2).mean((1, 3))

    channels = []
    for x, y in zip(a.astype(float).transpose(2, 0, 1), b.astype(float).transpose(2, 0, 1), strict=True):
        product = 1.0
        for scale, weight in enumerate(SCALE_WEIGHTS):
            mx, my = local(x), local(y)
            vx, vy, cov = local(x * x) - mx**2, local(y * y) - my**2, local(x * y) - mx * my
            term = (2 * cov + 7.65**2) / (vx + vy + 7.65**2)
            if scale == 4:
                term = term * (2 * mx * my + 2.55**2) / (mx**2 + my**2 + 2.55**2)
            product *= max(term.mean(), 0) ** weight
            x, y = halved(x), halved(y)
        channels.append(product)
    return np.mean(channels)


@pytest.mark.parametrize("size", SIZES)
def test_ms_ssim_equals_a_plain_twin(size):
    a, b = a_pair(*size)
    assert ms_ssim(a, b) == pytest.approx(plain_ms_ssim(a, b), abs=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_ms_ssim_equals_pytorch_msssim(size):
    package = pytest.importorskip("pytorch_msssim")
    a, b = a_pair(*size)
    tensors = [torch.from_numpy(x.copy()).permute(2, 0, 1)[None].double() for x in (a, b)]
    theirs = float(package.ms_ssim(*tensors, data_range=255))
    assert ms_ssim(a, b) == pytest.approx(theirs, abs=1e-6)  # its window is float32
    assert 0.5 < theirs < 0.999


def test_ms_ssim_ends():
    a, _ = a_pair(176, 192)
    assert ms_ssim(a, a) == 1
    assert ms_ssim(a[:SMALLEST], a[:SMALLEST]) is None
    assert decibels(0.99) == pytest.approx(20)


def test_psnr_equals_a_plain_twin_and_torch():
    a, b = a_pair(40, 50)
    plain = sum((int(x) - int(y)) ** 2 for x, y in zip(a.ravel(), b.ravel(), strict=True)) / a.size
    mse = torch.nn.functional.mse_loss(torch.from_numpy(a.copy()).double(), torch.from_numpy(b.copy()).double())
    assert psnr(a, b) == pytest.approx(20 * np.log10(255) - 10 * np.log10(plain), abs=1e-12)
    assert psnr(a, b) == pytest.approx(float(10 * torch.log10(255**2 / mse)), abs=1e-12)
    assert psnr(a, a) is None  # infinite
    nearly = np.zeros((1000, 1000, 3), np.uint8)
    nearly[0, 0, 0] = 1
    assert psnr(np.zeros_like(nearly), nearly) == pytest.approx(112.9, abs=0.01)  # over 100 dB, and still a number
    assert psnr_of(mse_of(31.7)) == pytest.approx(31.7)
    with pytest.raises(ValueError, match="came back as"):
        psnr(a, b[1:])


def test_ssimulacra2_is_that_of_the_package_on_files(tmp_path):
    """Equal pictures have 100; coarser JPEG has less; arrays give what the package gives for files."""
    package = pytest.importorskip("ssimulacra2")
    photograph = Image.open(KODIM).convert("RGB").crop((60, 150, 260, 330))
    photograph.save(tmp_path / "a.png")
    original, scores = np.asarray(photograph), []
    for quality in (90, 50, 10):
        photograph.save(tmp_path / "b.jpg", quality=quality)
        with Image.open(tmp_path / "b.jpg") as file:
            scores.append(ssimulacra2(original, np.asarray(file.convert("RGB"))))
        assert scores[-1] == package.compute_ssimulacra2(tmp_path / "a.png", tmp_path / "b.jpg")
    assert 100 > scores[0] > 70 > scores[1] > 40 > scores[2]
    assert ssimulacra2(original, original) == 100


def test_pictures_that_are_too_small_have_no_value():
    """The package says 100 of them, as of equal pictures."""
    pytest.importorskip("ssimulacra2")
    a, b = a_pair(SSIMULACRA2_SMALLEST, SSIMULACRA2_SMALLEST)
    assert ssimulacra2(a, b) < 100
    assert ssimulacra2(a[1:], b[1:]) is None
    assert lpips(*a_pair(LPIPS_SMALLEST - 1, 64)) is None


def test_butteraugli_of_the_program():
    """Coarser JPEG is farther from the original; equal pictures are at 0."""
    if not shutil.which(BUTTERAUGLI):
        pytest.skip(f"needs {BUTTERAUGLI}")
    photograph = Image.open(KODIM).convert("RGB").crop((60, 150, 260, 330))
    original, scores = np.asarray(photograph), []
    for quality in (90, 50, 10):
        coarse = io.BytesIO()
        photograph.save(coarse, "JPEG", quality=quality)
        scores.append(butteraugli(original, np.asarray(Image.open(coarse))))
    assert 0 > scores[0] > -1 > scores[1] > scores[2]
    assert butteraugli(original, original) == 0
    assert butteraugli(*a_pair(BUTTERAUGLI_SMALLEST - 1, 64)) is None


@pytest.mark.skipif(os.name == "nt", reason="needs a script as a program")
def test_butteraugli_without_its_program(tmp_path, monkeypatch):
    """What it prints is read; what it can't do is told."""
    monkeypatch.setenv("PATH", str(tmp_path))
    pair = a_pair(64, 64)
    with pytest.raises(UsageError, match="apt install libjxl-devtools"):
        butteraugli(*pair)
    program = tmp_path / BUTTERAUGLI
    for script, expected in (("echo 2.5; echo 3-norm: 1.25", -1.25), ("echo wrong; exit 1", None), ("echo", None)):
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        if expected is not None:
            assert butteraugli(*pair) == expected
            continue
        with pytest.raises(UsageError, match=f"{BUTTERAUGLI} failed"):
            butteraugli(*pair)


# ---- BD-rate --------------------------------------------------------------------------------------------------------


def anchor(name, quality="psnr"):
    return Curve(points_of(published()[f"kodak/{name}"], quality))


@pytest.mark.parametrize(
    ("test", "reference", "quality", "percent"),
    [
        ("hpcm-base", "vtm", "psnr", -16.02),
        ("hpcm-large", "vtm", "psnr", -19.95),
        ("bpg", "vtm", "psnr", 25.90),
        ("elic2022", "vtm", "psnr", -7.02),
        ("lalic", "vtm", "psnr", -15.26),  # as its authors state
        ("measured-jpeg-420", "vtm", "psnr", 198.81),
        ("measured-avif-444-psnr", "vtm", "ms_ssim_db", 21.76),
        ("hpcm-base-ms-ssim", "vtm-9.1", "ms_ssim_mean_of_db", -53.80),
    ],
)
def test_published_bd_rates(test, reference, quality, percent):
    found = delta(anchor(reference, quality), anchor(test, quality))
    assert found.percent == pytest.approx(percent, abs=0.01)
    assert not found.warnings


def test_bd_rate_equals_pchip_by_hand():
    interpolate = pytest.importorskip("scipy.interpolate")
    a, b = anchor("vtm"), anchor("hpcm-base")
    grid = np.linspace(b.low, b.high, 20_001)
    rates = [interpolate.PchipInterpolator(c.qualities, np.log10(c.rates))(grid) for c in (a, b)]
    assert delta(a, b).percent == pytest.approx(100 * (10 ** (rates[1] - rates[0]).mean() - 1), abs=0.01)


def test_bd_rate_of_a_scaled_curve_is_the_factor():
    points = [(0.1, 26.0), (0.3, 30.0), (0.7, 34.0), (1.4, 38.0)]
    doubled = Curve([(1.5 * rate, level) for rate, level in points])
    assert delta(Curve(points), doubled).percent == pytest.approx(50)


def test_bd_rate_warns():
    long = Curve([(0.1, 26.0), (0.3, 30.0), (0.7, 34.0), (1.4, 38.0)])
    few = Curve([(0.1, 27.0), (0.3, 31.0), (0.6, 33.0)])
    beside = Curve([(0.1, 20.0), (0.2, 22.0), (0.3, 24.0), (0.5, 27.0)])
    above = Curve([(0.1, 48.0), (0.2, 50.0)])
    assert delta(long, few).warnings == ("a curve has only 3 points, 4 are the least for a BD-rate",)
    assert delta(long, beside).warnings == ("only 14% of the qualities are compared, 26.0 to 27.0",)
    assert (delta(long, above).percent, delta(long, above).overlap) == (None, 0)


def test_curve_leaves_out_what_is_no_progress():
    curve = Curve([(0.5, 30.0), (0.1, 26.0), (0.6, 29.0), (3.0, 45.0)])
    assert curve.rates == (0.1, 0.5)  # 0.6 has less quality than 0.5, 3.0 is beyond MAX_BPP
    assert curve.quality_at(0.5) == pytest.approx(30)
    assert curve.quality_at(0.6) is None
    with pytest.raises(ValueError, match="two points"):
        Curve([(0.5, 30.0)])
