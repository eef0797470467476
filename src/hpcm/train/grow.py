"""A larger model that starts as a smaller one of the same kind: `hpcm train --config lite --init nano`.

The smaller one's channels keep what they read and write; what is added begins without effect on them, but with a
gradient (function-preserving growth: Chen, Goodfellow and Shlens, "Net2Net", ICLR 2016).

The place of a channel matters: the latent is coded in eight groups of neighbouring channels, and a PConvRB convolves
only the first of its channels. So both widths are cut into eight equal parts, and what is in a part of the smaller
model goes to the front of the same part of the larger one:

    smaller, 16 wide    aa      bb      cc      dd      ee      ff      gg      hh
    larger, 24 wide     aa.     bb.     cc.     dd.     ee.     ff.     gg.     hh.        . is added

Latents that are added carry what the smaller transforms lose. Let p be the pixels of a 16x16 cell in principal
components, and r the error of the smaller model's picture there. The added rows of g_a and g_s are the best linear
prediction of r from p that as many numbers as there are added latents can carry (reduced-rank regression).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UsageError
from ..model.config import CELL, GROUPS, Config
from ..nn.context import ParameterNet
from ..nn.gains import Gain
from ..nn.hpcm import HPCM
from ..nn.layers import DWConvRB, PConvRB
from .start import SCALE_SHARE, UNIT, components, knot_steps

Layer = nn.Conv2d | nn.ConvTranspose2d
NEW_HYPER_SCALE = 0.2  # of the hyper latents that are added, which start at zero
FIT_LEVEL = 0.9  # of the quality levels: where added latents are fitted
BATCH = 32  # crops that are decoded together for that
SIZES = ("M", "N", "analysis", "synthesis", "hyper_analysis", "hyper_synthesis", "ratio", "prior_width")
FREE = ("name", *SIZES, "prior_coarse", "prior_fine", "carrier", "transforms", "interpolation")  # may differ


def can_grow(small: Config, large: Config) -> bool:
    """Whether `large` can start as `small`.

    Both must be of nano's and lite's kind and differ in nothing but sizes, none of which is smaller in `large`. Widths
    that change are multiples of 8. At most four latents are added for each channel by which the first stage of the
    analysis and the last one of the synthesis grow.
    """
    alike = all(getattr(small, f.name) == getattr(large, f.name) for f in fields(Config) if f.name not in FREE)
    family = large.stem == "unshuffle8" and large.levels > 1 and large.fusion == "psi" and large.refine
    if not alike or not family or _shrinks(small, large):
        return False
    beside = min(large.analysis[0][1] - small.analysis[0][1], large.synthesis[-1][1] - small.synthesis[-1][1])
    return 4 * min(beside, 3 * CELL**2) >= large.M - small.M and _keeps_sides(small, large)


def _keeps_sides(small: Config, large: Config) -> bool:
    """Whether a channel that a PConvRB convolves still is one that it convolves, and the others aren't."""
    stages = ("analysis", "synthesis", "hyper_analysis", "hyper_synthesis")
    widths = {
        (before, after)
        for name in stages
        for (blocks, before), (_, after) in zip(getattr(small, name), getattr(large, name), strict=True)
        if blocks and before != after
    }
    return not widths or (GROUPS % large.partial == 0 and not any(w % GROUPS for pair in widths for w in pair))


def _shrinks(small: Config, large: Config) -> bool:
    def sizes(config: Config) -> list[int]:
        stages = (config.analysis, config.synthesis, config.hyper_analysis, config.hyper_synthesis)
        numbers = [config.M, config.N, config.ratio, config.prior_width]
        numbers += [number for stage in stages for pair in stage for number in pair]
        for prior in (config.prior_coarse, config.prior_fine or config.prior_coarse):
            numbers += [prior.before, prior.after, prior.tail]
        return numbers

    before, after = sizes(small), sizes(large)
    split = small.prior_fine is not None and large.prior_fine is None
    return split or len(before) != len(after) or any(a > b for a, b in zip(before, after, strict=True))


@torch.no_grad()
def grow(small: HPCM, large: HPCM, crops: Tensor) -> None:
    """Makes `large`, as torch has initialised it, start as `small`; both in floating point.

    Args:
        crops: [B, 3, H, W] in 0..1, on which the added latents are fitted.

    Raises UsageError where `large` can't start as `small` (see `can_grow`).
    """
    if not can_grow(small.config, large.config):
        raise UsageError(f"{large.config.name} is no larger model of the same kind as {small.config.name}")
    Growth(small, large).grow(crops)


class Growth:
    """The two models and how channels of the smaller one lie in the larger one."""

    def __init__(self, small: HPCM, large: HPCM) -> None:
        self.small, self.large = small, large
        self.M = (small.config.M, large.config.M)
        self.new_latents = _others(self.places(*self.M), large.config.M)

    def places(self, small: int, large: int) -> Tensor:
        """Where each of `small` channels goes among `large`, [small].

        Layers with 2M or 3M channels have several values per latent; each M of them are placed as the latents are.
        """
        pieces = next((k for k in (1, 2, 3) if (small, large) == (k * self.M[0], k * self.M[1])), 1)
        narrow, wide = small // (pieces * GROUPS), large // (pieces * GROUPS)
        if small == large or narrow == 0 or small % (pieces * GROUPS) or large % (pieces * GROUPS):
            return torch.arange(small)
        index = torch.arange(small)
        return index // narrow * wide + index % narrow

    def grow(self, crops: Tensor) -> None:
        small, large = self.small, self.large
        for name in ("g_a", "g_s", "h_a", "h_s"):
            self.chain(getattr(small, name), getattr(large, name))
        for old, new in zip(small.adaptors, large.adaptors, strict=True):
            self.chain(cast(nn.Sequential, old), cast(nn.Sequential, new))
        for i, prior in enumerate(large.priors):
            new, old = cast(ParameterNet, prior), cast(ParameterNet, small.priors[min(i, len(small.priors) - 1)])
            for part in ("before", "after", "tail"):
                self.chain(getattr(old, part), getattr(new, part))
            self.layer(old.head, new.head)
            added = _others(self.places(old.head.out_channels, new.head.out_channels), new.head.out_channels)
            _silence(new.head, added)
        for before, after in zip(_gains(small), _gains(large), strict=True):
            after.knots[:, self.places(before.knots.shape[1], after.knots.shape[1])] = before.knots
        self.hyper_latents()
        if len(self.new_latents):
            self.latents(crops)

    # ---- layers -----------------------------------------------------------------------------------------------------

    def chain(self, old: nn.Sequential, new: nn.Sequential) -> None:
        """Layers and the blocks between them; blocks that only the larger model has begin as the identity."""
        for (blocks, layer), (new_blocks, new_layer) in zip(_runs(old), _runs(new), strict=True):
            for i, block in enumerate(new_blocks):
                if i < len(blocks):
                    self.block(blocks[i], block)
                else:
                    _silence(block.project)
            if layer is not None and new_layer is not None:
                self.layer(layer, new_layer)

    def block(self, old: PConvRB | DWConvRB, new: PConvRB | DWConvRB) -> None:
        """It does to the old channels what it did, and at first nothing to the others."""
        width = self.places(old.expand.in_channels, new.expand.in_channels)
        hidden = self.places(old.expand.out_channels, new.expand.out_channels)
        spatial = width[: old.spatial.in_channels]  # of a PConvRB: those that are convolved
        self.layer(old.spatial, new.spatial, spatial, spatial)
        self.layer(old.expand, new.expand, hidden, width)
        _silence(new.project)
        self.layer(old.project, new.project, width, hidden)

    def layer(self, old: Layer, new: Layer, outs: Tensor | None = None, ins: Tensor | None = None) -> None:
        """Old outputs read the old inputs only; new outputs stay as they are."""
        outs = self.places(old.out_channels, new.out_channels) if outs is None else outs
        ins = self.places(old.in_channels, new.in_channels) if ins is None else ins
        source, target = _by_output(old), _by_output(new)
        if old.groups > 1:  # depthwise
            target[outs] = source
        else:
            target[outs] = 0
            target[outs[:, None], ins] = source
        assert old.bias is not None, "all convolutions of the models have a bias"
        assert new.bias is not None, "all convolutions of the models have a bias"
        new.bias[outs] = old.bias

    # ---- what is added ----------------------------------------------------------------------------------------------

    def hyper_latents(self) -> None:
        """Added hyper latents start at zero, cheap, and read by all."""
        old, new = self.small, self.large
        kept = self.places(old.config.N, new.config.N)
        added = _others(kept, new.config.N)
        new.z_means[:, kept], new.z_scales[:, kept] = old.z_means, old.z_scales
        gain = knot_steps(new.config)[:, None].sqrt()
        new.z_scales[:, added] = NEW_HYPER_SCALE / gain.mean()
        new.z_gain.knots[:, added], new.z_inverse.knots[:, added] = gain, 1 / gain
        _silence(_layers(new.h_a)[-1], added)
        reader = _layers(new.h_s)[0]
        fresh = nn.ConvTranspose2d(reader.in_channels, reader.out_channels, 2, stride=2)
        _by_output(reader)[:, added] = _by_output(fresh)[:, added]

    def latents(self, crops: Tensor) -> None:
        """Fits the added latents to what the smaller transforms lose, through the added channels beside them."""
        stem, _ = _layers(self.large.g_a)
        small_stem, _ = _layers(self.small.g_a)
        _, head = _layers(self.large.g_s)
        _, small_head = _layers(self.small.g_s)
        inside = _others(self.places(small_stem.out_channels, stem.out_channels), stem.out_channels)
        outside = _others(self.places(small_head.in_channels, head.in_channels), head.in_channels)
        width = min(len(inside), len(outside), stem.in_channels)
        inside, outside = inside[:width], outside[:width]

        cells = F.pixel_unshuffle(crops, CELL)
        basis, _, mean = components(cells.permute(0, 2, 3, 1).reshape(-1, cells.shape[1]), width)
        pixels = _patches(cells - mean[:, None, None], basis)
        lost = crops - torch.cat([self.decoded(part) for part in crops.split(BATCH)])
        lost_patches = _patches(F.pixel_unshuffle(lost, CELL), basis)
        read, write, root = _prediction(pixels, lost_patches, len(self.new_latents))

        self.read_latents(inside, basis, mean, read)
        self.write_latents(outside, basis, write)
        self.rate_of_latents(root)

    def read_latents(self, inside: Tensor, basis: Tensor, mean: Tensor, read: Tensor) -> None:
        """Analysis: channels `inside` take the components of a cell, from which the added latents are read."""
        stem, squeeze = _layers(self.large.g_a)
        _put(stem, inside, basis[:, :, None, None] / UNIT, -basis @ mean / UNIT)
        _silence(squeeze, self.new_latents)
        _by_output(squeeze)[self.new_latents[:, None], inside] = read.reshape(-1, len(inside), 2, 2)

    def write_latents(self, outside: Tensor, basis: Tensor, write: Tensor) -> None:
        """Synthesis: the added latents write components to channels `outside`, and these add up to pixels."""
        spread, head = _layers(self.large.g_s)
        width = len(outside)
        _put(spread, outside, torch.zeros(width, spread.in_channels, 2, 2), torch.zeros(width))
        _by_output(spread)[outside[:, None], self.new_latents] = write.reshape(-1, width, 2, 2).transpose(0, 1)
        _by_output(head)[:, outside] = basis.T[:, :, None, None] * UNIT

    def rate_of_latents(self, root: Tensor) -> None:
        """The added latents' gains and first predicted scales; `root` [added] as in `pca_start`."""
        large, added = self.large, self.new_latents
        gain = knot_steps(large.config)[:, None] * root
        large.y_gain.knots[:, added], large.y_inverse.knots[:, added] = gain, 1 / gain
        last = _layers(large.h_s)[-1]
        scales, means = added, added + large.config.M
        _silence(last, torch.cat((scales, means)))
        assert last.bias is not None, "all convolutions of the models have a bias"
        last.bias[scales] = SCALE_SHARE * root

    def decoded(self, x: Tensor) -> Tensor:
        """What the smaller model gives back at a high quality level."""
        level = torch.full((len(x),), FIT_LEVEL * (self.small.config.levels - 1))
        return cast(Tensor, self.small.eval()(x, level)["x_hat"])


def _patches(cells: Tensor, basis: Tensor) -> Tensor:
    """8x8 cells [B, 192, h, w] -> 2x2 of them in components `basis` [K, 192], [n, 4K], in units of a latent."""
    inner = F.conv2d(cells, basis[:, :, None, None] / UNIT)
    return F.unfold(inner, 2, stride=2).transpose(1, 2).reshape(-1, 4 * len(basis))


def _prediction(inputs: Tensor, targets: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """The best linear prediction of `targets` [n, D] from `inputs` [n, D] by `rank` numbers.

    Returns how they read `inputs` and write `targets`, both [rank, D], and the square root of their deviation [rank],
    by which they are divided as in `pca_start`.
    """
    inputs, targets = inputs.double(), targets.double()
    ridge = 1e-4 * inputs.square().mean() * torch.eye(inputs.shape[1], dtype=inputs.dtype)
    full = torch.linalg.solve(inputs.T @ inputs / len(inputs) + ridge, inputs.T @ targets / len(inputs))  # [D, D]
    basis, deviation, _ = components((inputs @ full).float(), rank)
    root = deviation.clamp(min=0.01).sqrt()
    return basis @ full.T.float() / root[:, None], basis * root[:, None], root


# ---- layers and weights ----------------------------------------------------------------------------------------------


def _by_output(layer: Layer) -> Tensor:
    """The weight as [out, in, k, k], also of a transposed convolution; a view."""
    return layer.weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else layer.weight


def _put(layer: Layer, outs: Tensor, weight: Tensor, bias: Tensor) -> None:
    assert layer.bias is not None, "all convolutions of the models have a bias"
    _by_output(layer)[outs], layer.bias[outs] = weight, bias


def _silence(layer: Layer, outs: Tensor | None = None) -> None:
    """Outputs, all by default, become zero."""
    outs = torch.arange(layer.out_channels) if outs is None else outs
    _put(layer, outs, torch.zeros_like(_by_output(layer)[outs]), torch.zeros(len(outs)))


def _others(kept: Tensor, count: int) -> Tensor:
    free = torch.ones(count, dtype=torch.bool)
    free[kept] = False
    return free.nonzero()[:, 0]


def _layers(net: nn.Sequential) -> list[Layer]:
    """The layers between the blocks."""
    return [module for module in net if isinstance(module, Layer)]


def _runs(net: nn.Sequential) -> Iterator[tuple[list[PConvRB | DWConvRB], Layer | None]]:
    """(blocks, the layer after them) from first to last; after the last layer there is none."""
    blocks: list[PConvRB | DWConvRB] = []
    for module in net:
        if isinstance(module, PConvRB | DWConvRB):
            blocks.append(module)
        elif isinstance(module, Layer):
            yield blocks, module
            blocks = []
    yield blocks, None


def _gains(model: HPCM) -> list[Gain]:
    own = [model.y_gain, model.y_inverse, model.z_gain, model.z_inverse]
    return [cast(Gain, gain) for gain in model.gains] + own
