"""The four transforms (paper, section 3.1).

x [B, 3, 16h, 16w] -- g_a --> y [B, M, h, w] -- h_a --> z [B, N, h/4, w/4]
x_hat [B, 3, 16h, 16w] <-- g_s -- y_hat [B, M, h, w];  hyper [B, 2M, h, w] <-- h_s -- z_hat [B, N, h/4, w/4]
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from ..model.config import CELL, PICTURE_CHANNELS, Config
from .layers import down, pconv_blocks, up


def analysis(config: Config) -> nn.Sequential:
    """g_a: picture -> latent."""
    widths = [width for _, width in config.analysis]
    stems: dict[str, list[nn.Module]] = {
        "conv4": [nn.Conv2d(PICTURE_CHANNELS, widths[0], 4, stride=2, padding=1)],
        "conv2": [nn.Conv2d(PICTURE_CHANNELS, widths[0], 2, stride=2)],
        "unshuffle8": [nn.PixelUnshuffle(CELL), nn.Conv2d(PICTURE_CHANNELS * CELL**2, widths[0], 1)],
    }
    layers = stems[config.stem]
    for stage, (blocks, width) in enumerate(config.analysis):
        if stage:
            layers.append(down(widths[stage - 1], width))
        layers += pconv_blocks(blocks, width, config.partial, config.ratio)
    return nn.Sequential(*layers)


def synthesis(config: Config) -> nn.Sequential:
    """g_s: decoded latent -> picture, not clamped."""
    widths = [width for _, width in config.synthesis]
    layers: list[nn.Module] = []
    for (blocks, width), wider in zip(config.synthesis, [*widths[1:], None], strict=True):
        layers += pconv_blocks(blocks, width, config.partial, config.ratio)
        if wider is not None:
            layers.append(up(width, wider))
    heads: dict[str, list[nn.Module]] = {
        "conv4": [nn.ConvTranspose2d(widths[-1], PICTURE_CHANNELS, 4, stride=2, padding=1)],
        "conv2": [nn.ConvTranspose2d(widths[-1], PICTURE_CHANNELS, 2, stride=2)],
        "unshuffle8": [nn.Conv2d(widths[-1], PICTURE_CHANNELS * CELL**2, 1), nn.PixelShuffle(CELL)],
    }
    return nn.Sequential(*layers, *heads[config.stem])


def hyper_analysis(config: Config) -> nn.Sequential:
    """h_a: latent -> hyper latent."""
    layers: list[nn.Module] = []
    widths = [width for _, width in config.hyper_analysis]
    for (blocks, width), narrower in zip(config.hyper_analysis, [*widths[1:], config.N], strict=True):
        layers += [*pconv_blocks(blocks, width, config.partial, config.ratio), down(width, narrower)]
    return nn.Sequential(*layers)


def hyper_synthesis(config: Config) -> nn.Sequential:
    """h_s: decoded hyper latent -> scales (the first M channels) and means (the others)."""
    layers: list[nn.Module] = []
    widths = [config.N, *(width for _, width in config.hyper_synthesis)]
    for (before, width), (blocks, _) in zip(pairwise(widths), config.hyper_synthesis, strict=True):
        layers += [up(before, width), *pconv_blocks(blocks, width, config.partial, config.ratio)]
    return nn.Sequential(*layers)
