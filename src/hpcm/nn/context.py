"""The parameter networks of a coding step and progressive context fusion (paper, sections 3.3 and 3.4).

Shapes: context [B, 2M, h, w] (scales first, then means), y_hat [B, M, h, w] (zeros where nothing is decoded yet),
psi [B, 2M, h, w], W = prior width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..model.config import Config, Prior
from .layers import dwconv_blocks


class Adaptor(nn.Sequential):
    """[context, y_hat] (3M channels) -> W channels: a 1x1 convolution, or DWConvRB where W = 3M."""

    def __init__(self, config: Config, scale: int) -> None:
        blocks = config.adaptor_blocks[scale]
        width = 3 * config.M
        super().__init__(*(dwconv_blocks(blocks, width) if blocks else [nn.Conv2d(width, config.prior_width, 1)]))


class ParameterNet(nn.Module):
    """after(before(x) * gain): W channels -> 2M channels, scales and means."""

    def __init__(self, config: Config, prior: Prior) -> None:
        super().__init__()
        self.before = nn.Sequential(*dwconv_blocks(prior.before, config.prior_width))
        self.after = nn.Sequential(*dwconv_blocks(prior.after, config.prior_width))
        self.head = nn.Conv2d(config.prior_width, 2 * config.M, 1)
        self.tail = nn.Sequential(*dwconv_blocks(prior.tail, 2 * config.M))

    def forward(self, x: Tensor, gain: Tensor) -> Tensor:
        return self.tail(self.head(self.after(self.before(x) * gain)))


class WindowAttention(nn.Module):
    """Progressive context fusion: queries from psi, keys and values from the context before, in square windows.

    context' = softmax(q k / sqrt(d)) v + 1x1(psi), with d = 2M / heads (paper, section 3.4).
    """

    def __init__(self, width: int, window: int, heads: int) -> None:
        super().__init__()
        self.window, self.heads = window, heads
        self.q = nn.Conv2d(width, width, 1)
        self.k = nn.Conv2d(width, width, 1)
        self.v = nn.Conv2d(width, width, 1)
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, psi: Tensor, context: Tensor) -> Tensor:
        q, k, v = (self._windows(t) for t in (self.q(psi), self.k(context), self.v(context)))
        return self._whole(self.attend(q, k, v), psi.shape) + self.out(psi)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """softmax(q k / sqrt(d)) v for [..., keys, d]."""
        return F.scaled_dot_product_attention(q, k, v)

    def _windows(self, x: Tensor) -> Tensor:
        """[B, C, h, w] -> [B * windows, heads, window * window, d]."""
        b, c, h, w = x.shape
        s, n = self.window, self.heads
        x = x.reshape(b, n, c // n, h // s, s, w // s, s)
        return x.permute(0, 3, 5, 1, 4, 6, 2).reshape(-1, n, s * s, c // n)

    def _whole(self, x: Tensor, shape: torch.Size) -> Tensor:
        """The inverse of `_windows`."""
        b, c, h, w = shape
        s, n = self.window, self.heads
        x = x.reshape(b, h // s, w // s, n, s, s, c // n)
        return x.permute(0, 3, 6, 1, 4, 2, 5).reshape(b, c, h, w)
