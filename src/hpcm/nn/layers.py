"""The residual blocks and the layers that change resolution (paper, section 3 and supplement).

Shapes: everything is [B, C, h, w]; a block keeps its shape, `down` halves and `up` doubles h and w.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

SLOPE = 0.01  # of LeakyReLU, for negative inputs


class PConvRB(nn.Module):
    """x + 1x1(LeakyReLU(1x1(partial 3x3(x)))): a dense 3x3 on the first `width / partial` channels only."""

    def __init__(self, width: int, partial: int, ratio: int) -> None:
        super().__init__()
        self.convolved = width // partial
        self.spatial = nn.Conv2d(self.convolved, self.convolved, 3, padding=1)
        self.expand = nn.Conv2d(width, ratio * width, 1)
        self.act = nn.LeakyReLU(SLOPE, inplace=True)
        self.project = nn.Conv2d(ratio * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        mixed = torch.cat((self.spatial(x[:, : self.convolved]), x[:, self.convolved :]), 1)
        return x + self.project(self.act(self.expand(mixed)))


class DWConvRB(nn.Module):
    """x + 1x1(LeakyReLU(1x1(depthwise 3x3(x)))), twice as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spatial = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.expand = nn.Conv2d(width, 2 * width, 1)
        self.act = nn.LeakyReLU(SLOPE, inplace=True)
        self.project = nn.Conv2d(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.project(self.act(self.expand(self.spatial(x))))


def pconv_blocks(count: int, width: int, partial: int, ratio: int) -> list[nn.Module]:
    return [PConvRB(width, partial, ratio) for _ in range(count)]


def dwconv_blocks(count: int, width: int) -> list[nn.Module]:
    return [DWConvRB(width) for _ in range(count)]


def down(width_in: int, width_out: int) -> nn.Module:
    return nn.Conv2d(width_in, width_out, 2, stride=2)


def up(width_in: int, width_out: int) -> nn.Module:
    return nn.ConvTranspose2d(width_in, width_out, 2, stride=2)
