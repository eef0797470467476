"""SSIMULACRA 2 with a gradient: how different a decoded picture looks. No network is needed.

The metric (Sneyers, 2023; github.com/cloudinary/ssimulacra2) compares two pictures in XYB at six scales: by structure
(SSIM), by edges that are added and by edges that are lost, each as a mean and as a 4-norm, which tells of the worst
places. `error` is the weighted sum of these 108 numbers, before the curve that makes a score of 100 and less of it;
`score` is that score. At borders, pictures are continued by their last row and column.

Shapes: pictures [B, 3, H, W], sRGB in 0..1, sides of at least 8; the results are [B].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..util.metrics import WINDOW, blurred
from .kept import kept

SCALES, SMALLEST = 6, 8  # scales, and the least side of a picture at the coarsest one
OPSIN = (  # from linear RGB to the responses of the long, middle and short cones
    (0.3, 0.622, 0.078),
    (0.23, 0.692, 0.078),
    (0.24342268924547819, 0.20476744424496821, 0.5518098665095536),
)
BIAS = 0.0037930732552754493
LEAST_RESPONSE = 1e-4  # keeps the slope of the cube root finite, where a decoded picture is darker than black
C2 = 0.0009  # of SSIM
TINY = 1e-20  # under the fourth root
CURVE = (0.9562382616834844, 2.326765642916932, -0.020884521182843837, 6.248496625763138e-05, 0.6276336467831387)
# The published weights, by (channel X, Y or B; scale; structure, added or lost edges; mean or 4-norm).
_WEIGHTS = """
0 0.0007376606707406586 0 0 0.0007793481682867309 0 0 0.0004371155730107379 0 1.1041726426657346 0.00066284834129271
0.00015231632783718752 0 0.0016406437456599754 0 1.8422455520539298 11.441172603757666 0 0.0007989109436015163
0.000176816438078653 0 1.8787594979546387 10.94906990605142 0 0.0007289346991508072 0.9677937080626833 0
0.00014003424285435884 0.9981766977854967 0.00031949755934435053 0.0004550992113792063 0 0 0.0013648766163243398 0 0 0
0 0 7.466890328078848 0 17.445833984131262 0.0006235601634041466 0 0 6.683678146179332 0.00037724407979611296
1.027889937768264 225.20515300849274 0 0 19.213238186143016 0.0011401524586618361 0.001237755635509985
176.39317598450694 0 0 24.43300999870476 0.28520802612117757 0.0004485436923833408 0 0 0 34.77906344483772
44.835625328877896 0 0 0 0 0 0 0 0 0.0008680556573291698 0 0 0 0 0 0.0005313191874358747 0 0.00016533814161379112 0 0 0
0 0 0.0004179171803251336 0.0017290828234722833 0 0.0020827005846636437 0 0 8.826982764996862 23.19243343998926 0
95.1080498811086 0.9863978034400682 0.9834382792465353 0.0012286405048278493 171.2667255897307 0.9807858872435379 0 0 0
0.0005130064588990679 0 0.00010854057858411537
"""
KEPT = 16  # devices and types whose constants are kept


@kept(KEPT)
def _weights(device: torch.device, dtype: torch.dtype) -> Tensor:
    """[3, SCALES, 2, 3]. Kept, as a CUDA graph that is recorded can't copy them from the CPU."""
    numbers = [float(word) for word in _WEIGHTS.split()]
    return torch.tensor(numbers, device=device, dtype=dtype).reshape(3, SCALES, 2, 3)


@kept(KEPT)
def _opsin(device: torch.device, dtype: torch.dtype) -> Tensor:
    """[3, 3, 1, 1], kept for the same reason."""
    return torch.tensor(OPSIN, device=device, dtype=dtype)[:, :, None, None]


def error(x_hat: Tensor, x: Tensor) -> Tensor:
    """The weighted sum of the differences of `x_hat` from the original `x`, [B]; 0 for the same picture, about."""
    linear, original = to_linear(x_hat), to_linear(x)
    total = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    weights = _weights(x.device, x.dtype)
    for scale in range(SCALES):
        if min(x.shape[2:]) >> scale < SMALLEST:
            break
        if scale:
            linear, original = (F.avg_pool2d(one, 2, ceil_mode=True) for one in (linear, original))
        total = total + (differences(to_xyb(linear), to_xyb(original)) * weights[:, scale]).sum((1, 2, 3))
    return total


def score(x_hat: Tensor, x: Tensor) -> Tensor:
    """SSIMULACRA 2, [B]: 100 for the same picture, 90 where hardly anyone sees a difference."""
    unit, first, second, third, exponent = CURVE
    e = unit * error(x_hat, x)
    return 100 - 10 * (first * e + second * e**2 + third * e**3).clamp(min=0) ** exponent


def differences(a: Tensor, b: Tensor) -> Tensor:
    """Of XYB [B, 3, h, w] against the original b: [B, 3, 2, 3], as the weights without scales."""
    blurred = blur(torch.cat((a, b, a * a, b * b, a * b)))
    mean_a, mean_b, aa, bb, ab = blurred.chunk(5)
    alike = 1 - (mean_a - mean_b).square()
    spread = (aa - mean_a.square()) + (bb - mean_b.square()) + C2
    structure = (1 - alike * (2 * (ab - mean_a * mean_b) + C2) / spread).clamp(min=0)
    edges = (1 + (a - mean_a).abs()) / (1 + (b - mean_b).abs()) - 1
    maps = torch.stack((structure, edges.clamp(min=0), (-edges).clamp(min=0)), 2)  # [B, 3, 3, h, w]
    norm = (maps.square().square().mean((3, 4)) + TINY) ** 0.25
    return torch.stack((maps.mean((3, 4)), norm), 2)


def blur(x: Tensor) -> Tensor:
    """A Gaussian of deviation 1.5 pixels, each channel by itself."""
    return blurred(F.pad(x, (WINDOW // 2,) * 4, mode="replicate"))


def to_linear(x: Tensor) -> Tensor:
    """sRGB -> linear light."""
    return torch.where(x <= 0.04045, x / 12.92, ((x.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4)


def to_xyb(linear: Tensor) -> Tensor:
    """Linear RGB -> X, Y, B in the positive ranges that SSIMULACRA 2 compares them in."""
    opsin = _opsin(linear.device, linear.dtype)
    response = (F.conv2d(linear, opsin) + BIAS).clamp(min=LEAST_RESPONSE) ** (1 / 3) - BIAS ** (1 / 3)
    long, middle, short = response.split(1, 1)
    x, y = (long - middle) / 2, (long + middle) / 2
    return torch.cat((14 * x + 0.42, y + 0.01, short - y + 0.55), 1)
