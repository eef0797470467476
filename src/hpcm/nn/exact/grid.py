"""Exact arithmetic: what makes the decoder's parameters the same bits on every device.

The decoder must compute the same means and scales as the encoder, to the last bit: one that differs picks another
table, and everything after it is noise. Floating-point sums differ, because each library, device and thread count adds
in an order of its own, and every addition rounds. In float32, which has 24 bits,

    (2^24 + 1) + 1 = 2^24          2^24 + (1 + 1) = 2^24 + 2

So here no addition rounds.

**The grid.** Numbers are integers times powers of two. Before each convolution that leads to means or scales, its input
is rounded to integers m = round(x * 2^b), clamped to |m| <= limit; `b` is chosen per input channel. The weights that
act on m are integers k times 2^-a, with `a` chosen per output channel:

    x    -- * 2^b, round, clamp -->   m   --.
                                             * --> m * k  -- sum over the window, plus the bias -->  s  -- * 2^-a -->  y
    w    -- * 2^a / 2^b, round  -->   k   --'

     float32                       integers    integers in units of 2^-a, and so are all partial sums            float32

An example with few bits, b = 3 and a = 8:

    x = 0.70, -1.30        m = round(2^3 x) = 6, -10
    w = 0.33,  0.12        k = round(2^(8 - 3) w) = 11, 4         6 * 11 - 10 * 4 + 13 = 39      y = 39 / 256 = 0.152
    bias = 0.05            round(2^8 bias) = 13                                         (0.125 without any rounding)

What is rounded is each input and, once, each weight; multiplying and adding round nothing as long as no number needs
more bits than the carrier has:

    limit * sum |k| + |bias| <= 2^24 units (float32)   or   2^53 units (float64)                            (the bound)

    24 bits of a sum:   |<---- log2(sum |k|): 640 weights, |k| about 26 on average ---->|<---- log2(limit) ---->|
                                               14 bits                                            10 bits

Below the bound every product, every partial sum and the sum itself are represented exactly, a fused multiply-add
rounds nothing either, and the result doesn't depend on order, blocking, vector width, threads, layout or device. The
bound is computed from the weights as they are loaded; a model that breaks it is refused with the layer's name. Wide
layers leave few bits to their inputs. make_exact.py chooses a, b and the limit: the finest that the bound allows.

**Split sums.** In the widest layers 24 bits leave too few for each input. With the carrier "split" the input channels
are cut into parts of about 640 products (`layers.parts`). The sum of each part keeps the bound in float32, and
the parts' sums are added one after another, in a given order, each addition an operation of its own on float32.

**Attention** (carriers "split" and "float64") is treated alike, always in float64: q, k, v are rounded to integers,
both products are exact sums, and the exponential is a table of integers that is shipped with the weights
(`GridAttention`).

**What remains** is elementwise: one addition, multiplication, division, comparison, rounding or conversion at a time,
each its own operation on float32. IEEE 754 fixes their results. A float64 carrier is used inside a convolution only:
the exact sum is rounded to float32 once, so that a model whose sums fit float32 gives the same bits with either
carrier. Everything else in the loop moves numbers without changing them (masks, gather, scatter).

**On a GPU** sums of 24 bits are products of matrices: weights and inputs in float16, which holds them, added up in
float32 (products.py). Where the probe finds those inexact, and for all other sums, it is torch's convolutions, as on
the CPU.

**What is assumed of torch**: IEEE 754 float32 and float64 with rounding to nearest even, and kernels that compute a
convolution as sums of products of its inputs. Of a GPU's products of float16 it is assumed that each is exact, and that
they are added up with 24 bits at least, in any order. torch_switches.py switches off what is known to do otherwise;
bound.py checks the bound of every layer when a model is loaded; probe.py then runs the model's hardest layers and
compares with integers.

**g_a, h_a and g_s** lead to no mean or scale. In plain floating point ("float" in `Config.transforms`) the encoder may
choose other symbols elsewhere, and pixels may differ in the last bit, but the decoded latents may not. With "int32"
pixels are the same everywhere, too: inputs and weights are int16, 15 bits and a sign, and sums stay below 2^31. On the
CPU torch computes them in float64, which holds them, and rounds each once to float32. On a GPU they are plain
convolutions in float16, without a grid (half.py), and on other devices the same sums in float32, which rounds more
often: pixels may differ by one level there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, Protocol, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...model import layers
from ...model.config import Config
from ...model.layers import Geometry, Layer, parts
from ..context import WindowAttention
from .bound import EXP_END, EXP_ONE, EXP_STEPS
from .probe import Case, compare, compare_products
from .products import Products, suit
from .torch_switches import arithmetic, has_onednn


class _OnGrid:
    """What the two convolutions below share: rounding of the input, and the carrier."""

    input_scale: Tensor  # 2^b, [in]
    limit: Tensor  # of |m|
    products: Products | None  # what computes the sums instead of torch's convolutions
    plain: nn.Module | None  # what computes a transform's convolution on a GPU instead (half.py)

    def _add_grid(self: Any, carrier: str) -> None:
        """`carrier`: that of the model, or "int32" for a transform's convolution."""
        self.carrier = carrier
        self.products = self.plain = None
        self.parts = parts(tuple(self.weight.shape), geometry_of(self), carrier == "split")
        self.register_buffer("input_scale", torch.ones(self.in_channels))
        self.register_buffer("limit", torch.ones(()))

    def compute(self: Any, x: Tensor) -> Tensor:
        """x [B, in, h, w] -> y [B, out, h', w']."""
        if self.plain is not None:
            return self.plain(x)
        return self.convolve(self.integers(x)).float()

    def integers(self, x: Tensor) -> Tensor:
        """x -> m, as floats."""
        m = x.float().mul(self.input_scale[:, None, None]).round_()
        return torch.minimum(torch.maximum(m, -self.limit), self.limit)

    def convolve(self: Any, m: Tensor) -> Tensor:
        """The exact sums of integers m [B, in, h, w], in the carrier's type; of parts, if they are split."""
        if self.products is not None:
            return self.products(m)
        dtype = _carrier_type(self.carrier, m.device)
        m, weight = m.to(dtype), self.weight.to(dtype)
        bias = None if self.bias is None else self.bias.to(dtype)
        if len(self.parts) == 1:
            return self._sums(m, weight, bias)
        total = None
        for part in self.parts:
            kernel = weight[part] if isinstance(self, nn.ConvTranspose2d) else weight[:, part]
            sums = self._sums(m[:, part], kernel, bias if total is None else None)
            total = sums if total is None else total.add_(sums)
        return cast(Tensor, total)

    def _sums(self: Any, m: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The sums over all given channels at once."""
        if isinstance(self, nn.ConvTranspose2d):
            return F.conv_transpose2d(m, weight, bias, self.stride, self.padding)  # type: ignore[arg-type]
        if self.groups > 1 and (m.dtype == torch.float64 or (m.device.type == "cpu" and not has_onednn())):
            return _depthwise(m, weight, bias)  # torch's own kernels are far slower than nine shifts, or inexact
        return F.conv2d(m, weight, bias, self.stride, self.padding, self.dilation, self.groups)


def _carrier_type(carrier: str, device: torch.device) -> torch.dtype:
    """The type that sums are computed in."""
    if carrier == "float64" or (carrier == "int32" and device.type == "cpu"):
        return torch.float64
    return torch.float32


class GridConv2d(_OnGrid, nn.Conv2d):
    """A convolution whose sums are exact; the weights act on integers."""

    def __init__(self, like: nn.Conv2d, carrier: str) -> None:
        geometry = {"stride": like.stride, "padding": like.padding, "groups": like.groups}
        super().__init__(like.in_channels, like.out_channels, like.kernel_size, **geometry)  # type: ignore[arg-type]
        self._add_grid(carrier)

    def forward(self, input: Tensor) -> Tensor:
        return self.compute(input)


class GridConvTranspose2d(_OnGrid, nn.ConvTranspose2d):
    """A transposed convolution whose sums are exact."""

    def __init__(self, like: nn.ConvTranspose2d, carrier: str) -> None:
        geometry = {"stride": like.stride, "padding": like.padding}
        super().__init__(like.in_channels, like.out_channels, like.kernel_size, **geometry)  # type: ignore[arg-type]
        self._add_grid(carrier)

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        return self.compute(input)


def geometry_of(convolution: Any) -> Geometry:
    """How a convolution, on a grid or not, moves over its input."""
    if isinstance(convolution, nn.ConvTranspose2d):
        kind = "transposed"
    else:
        kind = "depthwise" if convolution.groups > 1 else "dense"
    return Geometry(kind, convolution.kernel_size[0], convolution.stride[0], convolution.padding[0])


def _depthwise(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A 3x3 depthwise convolution, padding 1, as nine shifted multiplications: x [B, C, h, w], weight [C, 1, 3, 3]."""
    height, width = x.shape[2:]
    padded = F.pad(x, (1, 1, 1, 1))
    total = torch.zeros_like(x) if bias is None else bias[None, :, None, None].expand_as(x).clone()
    for i in range(3):
        for j in range(3):
            total += padded[:, :, i : i + height, j : j + width] * weight[None, :, 0, i, j, None, None]
    return total


Convolution = nn.Conv2d | nn.ConvTranspose2d


class Model(Protocol):
    """What these functions need of an HPCM."""

    config: Config

    def entropy_path(self) -> Iterator[tuple[str, nn.Module]]: ...

    def transforms(self) -> Iterator[tuple[str, nn.Module]]: ...

    def arrays_by_name(self) -> dict[str, np.ndarray]: ...


class Site(NamedTuple):
    """Where a convolution is in a model."""

    name: str
    parent: nn.Module
    name_in_parent: str
    convolution: Convolution


def convolutions(model: Model) -> Iterator[Site]:
    """The convolutions that an exact model of this configuration has on grids: those of the entropy path and, where
    they are exact too, of the transforms."""
    for network_name, network in exact_networks(model):
        for name, parent in network.named_modules(prefix=network_name):
            for child_name, child in parent.named_children():
                if isinstance(child, nn.Conv2d | nn.ConvTranspose2d):
                    yield Site(f"{name}.{child_name}", parent, child_name, child)


def exact_networks(model: Model) -> Iterator[tuple[str, nn.Module]]:
    """The networks that such a model computes exactly, by name."""
    yield from model.entropy_path()
    if model.config.transforms == "int32":
        yield from model.transforms()


def geometries_of(model: Model) -> dict[str, Geometry]:
    """The geometries of all exact convolutions, by name. A model that isn't exact has none."""
    if not model.config.carrier:
        return {}
    return {site.name: geometry_of(site.convolution) for site in convolutions(model)}


def stored_numbers(model: Model) -> dict[str, np.ndarray]:
    """A model's parameters as a weights file holds them. Raises WeightsError where they aren't on their grids."""
    return layers.to_integers(model.arrays_by_name(), geometries_of(model))


class GridAttention(WindowAttention):
    """Window attention whose sums are exact; the exponential is looked up in a table that travels with the weights.

    q, k and v are rounded to integers. With d = 2M / heads channels of 20 bits the scores stay below 2^53, and so do
    the sums over at most 64 keys of 20-bit weights times 20-bit values. What rounds are single divisions.
    """

    q_scale: Tensor  # powers of two
    k_scale: Tensor
    v_scale: Tensor
    exp_table: Tensor  # integers as float32

    def __init__(self, like: WindowAttention) -> None:
        super().__init__(like.q.in_channels, like.window, like.heads)
        for name in ("q", "k", "v"):
            self.register_buffer(f"{name}_scale", torch.ones(()))
        table = torch.exp(-torch.arange(EXP_STEPS * EXP_END + 1, dtype=torch.float64) / EXP_STEPS)
        self.register_buffer("exp_table", (EXP_ONE * table).round().float())

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        at_once = 1 if q.device.type == "cpu" else len(q)  # a window's scores stay in the cache
        table = self.exp_table.double()
        pieces = zip(q.split(at_once), k.split(at_once), v.split(at_once), strict=True)
        return torch.cat([self._attend(*piece, table) for piece in pieces])

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, table: Tensor) -> Tensor:
        q = _integers(q, self.q_scale)
        k = _integers(k, self.k_scale)
        v = _integers(v, self.v_scale)
        unit = EXP_STEPS / math.sqrt(q.shape[-1]) / self.q_scale.double() / self.k_scale.double()
        scores = (q @ k.transpose(-1, -2)).mul_(unit)
        below = (scores.amax(-1, keepdim=True) - scores).round_().clamp_(max=EXP_STEPS * EXP_END).int()
        weights = table.index_select(0, below.flatten()).view(below.shape)
        return ((weights @ v) / weights.sum(-1, keepdim=True) / self.v_scale).float()


def _integers(x: Tensor, scale: Tensor) -> Tensor:
    """x in units of 1 / scale, rounded, as float64."""
    return x.double().mul_(scale).round_().clamp_(-EXP_ONE, EXP_ONE)


def attach(model: Model) -> None:
    """Puts grid modules into a model, to be filled by `load_state_dict` or `make_exact`."""
    for _, network in model.entropy_path():
        for name, child in list(network.named_children()):
            if isinstance(child, WindowAttention):
                setattr(network, name, GridAttention(child))
    for site in list(convolutions(model)):
        carrier = "int32" if site.name.startswith(layers.TRANSFORMS) else model.config.carrier
        kind = GridConv2d if isinstance(site.convolution, nn.Conv2d) else GridConvTranspose2d
        setattr(site.parent, site.name_in_parent, kind(site.convolution, carrier))  # type: ignore[arg-type]


def by_input(convolution: Any, values: Tensor) -> Tensor:
    """Values [in] in a shape that multiplies the weight."""
    first = isinstance(convolution, nn.ConvTranspose2d) or convolution.groups > 1
    return values.reshape((-1, 1, 1, 1) if first else (1, -1, 1, 1))


def use_products(model: Any, exact_layers: Iterable[Layer], kind: str) -> None:
    """Makes a model, which has its numbers, compute exact sums in one of `products.KINDS`, where layers suit it."""
    for layer in exact_layers:
        convolution = model.get_submodule(layer.name)
        takes = kind == "float16" and suit(layer)
        convolution.products = Products(layer).to(convolution.weight.device) if takes else None
    model.products = kind


def run_probe(model: Any, cases: Iterable[Case], device: torch.device) -> None:
    """Runs the cases on a model's device. Raises MismatchError where a sum isn't exact."""

    def run(case: Case) -> np.ndarray:
        layer = model.get_submodule(case.layer.name)
        m = torch.from_numpy(case.m).to(device=device, dtype=_carrier_type(layer.carrier, device))
        sums = layer.convolve(m.to(memory_format=torch.channels_last))
        return sums[:, torch.from_numpy(case.channels).to(device)].double().cpu().numpy()

    def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        left, right = (torch.from_numpy(x).to(device).double() for x in (a, b))
        return (left @ right).cpu().numpy()

    with torch.no_grad(), arithmetic(device):
        compare(cases, run, device.type)
        if any(isinstance(module, GridAttention) for module in model.modules()):
            compare_products(product, device.type)
