"""Where training starts: the transforms as a principal component analysis of 16x16 cells.

From random weights a transform coder needs thousands of steps to learn what linear algebra computes: which directions
of a cell carry the energy. So the first layers of g_a are set to the strongest components of 8x8 cells, then of 2x2 of
those, the layers of g_s to their transposes; residual blocks start at zero; the gains start at the quantisation step
that is right at high rates, and the predicted scales at the latents' own deviations.

With an orthonormal transform, a step D costs D^2 / 12 in squared error per latent and saves log2(D) bits; the loss
lambda * MSE + bpp (MSE in grey levels, over three channels) is least at D^2 = 18 / (lambda ln 2).
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..model.config import CELL, Config
from ..nn.context import ParameterNet
from ..nn.gains import KNOTS
from ..nn.hpcm import HPCM
from ..nn.layers import DWConvRB, PConvRB

UNIT = 45 / 255  # one natural unit of a latent in pixel values: about the best quantisation step at lambda 0.01
STEP_SHRINK = 0.85  # a little finer than the high-rate optimum, which dead zones make too coarse
SCALE_SHARE = 0.7  # of the latents' own deviations, as the first predicted scale


def components(samples: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """The strongest `count` principal directions [count, D] of samples [n, D], their deviations and the mean."""
    mean = samples.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov(samples.T.double()))
    strongest = vectors.flip(1)[:, :count].T.float()
    return strongest, values.flip(0)[:count].clamp(min=0).sqrt().float(), mean


@torch.no_grad()
def pca_start(model: HPCM, crops: Tensor) -> None:
    """Sets a model with the "unshuffle8" stem and levels to start from crops [B, 3, H, W] in 0..1.

    Raises ValueError for another stem.
    """
    config = model.config
    if config.stem != "unshuffle8" or config.levels == 1:
        raise ValueError(f"{config.name} has stem {config.stem!r}; the PCA start is for 'unshuffle8' with levels")
    _silence_blocks(model)
    convolutions = [[m for m in net if isinstance(m, nn.Conv2d)] for net in (model.g_a, model.g_s)]
    (stem, squeeze), (head,) = convolutions
    (spread,) = (m for m in model.g_s if isinstance(m, nn.ConvTranspose2d))

    # stem and head: pixels of 8x8 cells <-> their strongest components, in natural units
    width = min(config.analysis[0][1], stem.in_channels)
    cells = F.pixel_unshuffle(crops, CELL)  # [B, 192, h, w]
    basis, _, mean = components(cells.permute(0, 2, 3, 1).reshape(-1, cells.shape[1]), width)
    _fill(stem.weight, basis[:, :, None, None] / UNIT)
    _fill(stem.bias, -basis @ mean / UNIT)
    _fill(head.weight, basis.T[:, :, None, None] * UNIT)
    _fill(head.bias, mean)

    # squeeze and spread: 2x2 of those <-> latents. They go half way to equal deviations (the root): gentler on what
    # reads them.
    patches = F.unfold(stem(cells)[:, :width], 2, stride=2).transpose(1, 2).reshape(-1, width * 4)
    basis, deviation, mean = components(patches, config.M)
    root = deviation.clamp(min=0.01).sqrt()
    _fill(squeeze.weight, basis.reshape(-1, width, 2, 2) / root[:, None, None, None])
    _fill(squeeze.bias, -basis @ mean / root)
    _fill(spread.weight, basis.reshape(-1, width, 2, 2) * root[:, None, None, None])
    _fill(spread.bias, mean.reshape(width, 4).mean(1))
    _start_rate(model, root)


def _silence_blocks(model: HPCM) -> None:
    """Residual blocks begin as the identity."""
    for module in model.modules():
        if isinstance(module, PConvRB | DWConvRB):
            for parameter in module.project.parameters():
                nn.init.zeros_(parameter)


def _fill(parameter: Tensor | None, values: Tensor) -> None:
    """Copies into the leading corner of a parameter; what lies outside keeps a hundredth of its random start."""
    assert parameter is not None, "all convolutions of the models have a bias"
    parameter.mul_(0.01)
    parameter[tuple(slice(0, n) for n in values.shape)] = values


def knot_steps(config: Config) -> Tensor:
    """The gain that is right at the lambda of each knot, in quantisation steps per natural unit, [KNOTS]."""
    levels = torch.linspace(0, config.levels - 1, KNOTS)
    step = torch.tensor([math.sqrt(18 / (config.lambda_of(float(v)) * math.log(2))) for v in levels])
    return UNIT * 255 / (step * STEP_SHRINK)


def _start_rate(model: HPCM, root: Tensor) -> None:
    """Gains, and scales at the latents' own deviations; `root` [M] is each natural latent's deviation."""
    gains = knot_steps(model.config)[:, None]
    model.y_gain.knots.copy_(gains * root)
    model.y_inverse.knots.copy_(1 / (gains * root))
    model.z_gain.knots.copy_(gains.sqrt().expand_as(model.z_gain.knots))
    model.z_inverse.knots.copy_(1 / model.z_gain.knots)
    last = [m for m in model.h_s if isinstance(m, nn.ConvTranspose2d)][-1]
    last.weight.mul_(0.1)
    _fill(last.bias, torch.cat((SCALE_SHARE * root, torch.zeros_like(root))))
    for prior in model.priors:
        head = cast(ParameterNet, prior).head
        head.weight.mul_(0.05)
        _fill(head.bias, torch.zeros(head.out_channels))
