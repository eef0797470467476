"""The probe: are this machine's sums exact? It runs the loaded model's own hardest layers, before any decoding.

For each kind of layer in the model (kind, kernel, stride, channels) a `Case` holds integers as large as the layer
allows, arranged so that sums reach the bound: around the middle of each picture the inputs have the signs of the
weights of one output, so that this sum is the largest that the bound lets through, and the last bits of the inputs are
random, so that all bits of it are in use. For 3x3 kernels there are as many pictures with one sign in each channel.
What the sums must be is computed in 64-bit integers, or, where they have at most 31 bits, in float64. Sums of parts are
then added as float32, in the order of the parts.

The exact layers of transforms are probed on the CPU alone: on other devices their sums are rounded, as
nn/exact/grid.py says.

A library may choose another algorithm by the size of its input. So each case is run in several sizes (`sizes`): all of
its pictures at once; one picture alone; and, for windows of 3x3 and on a GPU also of 1x1, one large picture of the size
of a tile's latent, with the small ones side by side.

A carrier with fewer bits (TF32, bfloat16), a sum in fewer, products of float16 that aren't added up in float32, or a
kernel that forms other sums on the way (Winograd, FFT) gives other numbers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np

from ...errors import MismatchError
from ...model.layers import CARRIER_BITS, Geometry, Layer
from .bound import EXP_ONE
from .products import WHOLE

IMAGES = 8  # pictures of a case; each leads one sum to the bound
SIDE = 7  # their rows and columns: a 3x3 window in the middle touches no edge
CELLS = 8  # small pictures in a row of the large one, each with a row and column of zeros behind it: 64 x 64
SUSPECTS = {  # environment variables that lower the precision, and their values that don't
    "ONEDNN_DEFAULT_FPMATH_MODE": ("", "strict"),
    "DNNL_DEFAULT_FPMATH_MODE": ("", "strict"),
    "NVIDIA_TF32_OVERRIDE": ("", "0"),
    "HIPBLASLT_ALLOW_TF32": ("", "0"),
    "PYTORCH_MPS_FAST_MATH": ("", "0"),
}
LOW_BITS = 8  # of an input that are random, at most; the others are those of the limit


@dataclass(frozen=True)
class Case:
    """Integers m [B, in, h, w] for a layer, and what its outputs `channels` must be, float64 [B, n, h, w].

    NaN in `expected` stands for what isn't compared.
    """

    layer: Layer
    m: np.ndarray
    channels: np.ndarray
    expected: np.ndarray


def cases(layers: Iterable[Layer], by_halves: bool = False) -> Iterator[Case]:
    """One for each kind of convolution: that whose sums come nearest to the bound.

    Large inputs are cut in two for products of float16, which then have other sizes: a kind of its own.
    """
    kinds: dict[tuple[object, ...], list[Layer]] = {}
    for layer in layers:
        kind = (layer.geometry, layer.weight.shape, layer.bits, by_halves and layer.limit > WHOLE)
        kinds.setdefault(kind, []).append(layer)
    rng = np.random.default_rng(0)
    for alike in kinds.values():
        yield _case(max(alike, key=lambda layer: layer.share), rng)


def _case(layer: Layer, rng: np.random.Generator) -> Case:
    # float64 holds sums of 31 bits, and numpy multiplies it much faster than integers; those of 53 bits need integers.
    dtype = np.float64 if layer.bits < CARRIER_BITS["float64"] else np.int64
    geometry, k, bias = layer.geometry, layer.rows, layer.row_biases
    chosen = np.argsort(-layer.reach)[:IMAGES]  # the rows with the largest sums; each leads in a picture
    m = _large_inputs(layer, len(chosen), rng)
    for image, row in enumerate(chosen):
        read = slice(row, row + 1) if geometry.kind == "depthwise" else slice(None)  # the channels that a row reads
        _lead_to_bound(geometry, m[image, read], k[row], bias[row])
    if geometry.kind == "dense" and geometry.side == 3:
        m = np.concatenate((m, _flat(m, k[chosen], layer.inputs)))
    outputs = np.unique(chosen // geometry.phases)
    rows = (outputs[:, None] * geometry.phases + np.arange(geometry.phases)).ravel()  # all rows of these channels
    sums = _sums(layer, m.astype(dtype), k[rows].astype(dtype), outputs, bias[rows][:, None, None])
    return Case(layer, m, outputs, _in_place(sums * layer.row_units[rows][:, None, None], geometry))


def _large_inputs(layer: Layer, count: int, rng: np.random.Generator) -> np.ndarray:
    """Integers close to the layer's limit, of random signs and low bits, [count, in, SIDE, SIDE]."""
    limit = int(layer.limit)
    low = rng.integers(0, min(1 << LOW_BITS, limit // 2 + 1), (count, layer.inputs, SIDE, SIDE))
    return (limit - low) * rng.choice((-1, 1), low.shape)


def _lead_to_bound(geometry: Geometry, m: np.ndarray, k: np.ndarray, bias: float) -> None:
    """Gives the inputs m [in, SIDE, SIDE] around the middle the signs for which the sum of one row is largest.

    Products then have the sign of the bias, and their magnitudes add up. `m`, a view, is changed.
    """
    signs = np.where(k < 0, -1, 1) * (-1 if bias < 0 else 1)
    start = (SIDE - geometry.reach + 1) // 2
    if not geometry.transposed:  # windows begin at multiples of the stride, counted from the padding
        start -= (start + geometry.padding) % geometry.stride
    window = slice(start, start + geometry.reach)
    patch = m[:, window, window]
    patch[...] = np.abs(patch) * _in_order(geometry, signs.reshape(patch.shape))


def _in_order(geometry: Geometry, taps: np.ndarray) -> np.ndarray:
    """Taps [..., reach, reach] in the order of the inputs that they meet: a transposed kernel begins with the last."""
    return taps[..., ::-1, ::-1] if geometry.transposed else taps


def _flat(m: np.ndarray, k: np.ndarray, channels: int) -> np.ndarray:
    """The same sizes with one sign in each channel, that of its weights' sum: where Winograd's sums are largest."""
    signs = np.where(k.reshape(len(k), channels, -1).sum(2) < 0, -1, 1)
    return np.abs(m) * signs[:, :, None, None]


def _sums(layer: Layer, m: np.ndarray, k: np.ndarray, outputs: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """The sums of rows k [rows, fan in], with the bias, [B, rows, h, w]."""
    reach = layer.geometry.reach
    taps = _in_order(layer.geometry, k.reshape(len(k), -1, reach, reach))  # [rows, in, reach, reach]
    if len(layer.parts) == 1:
        return _part(layer.geometry, m, taps, outputs) + bias
    first, *others = (_part(layer.geometry, m[:, part], taps[:, part], outputs) for part in layer.parts)
    return reduce(np.add, (other.astype(np.float32) for other in others), (first + bias).astype(np.float32))


def _part(geometry: Geometry, m: np.ndarray, taps: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """The sums of rows over the channels of m."""
    reach, border, step = geometry.reach, geometry.border, geometry.window_stride
    padded = np.pad(m, ((0, 0), (0, 0), (border, border), (border, border)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (reach, reach), (2, 3))[:, :, ::step, ::step]
    if geometry.kind == "depthwise":
        return np.einsum("brhwij,rij->brhw", windows[:, outputs], taps[:, 0])
    return np.einsum("bchwij,rcij->brhw", windows, taps, optimize=True)


def _in_place(sums: np.ndarray, geometry: Geometry) -> np.ndarray:
    """The rows of each channel [B, n * phases, h, w] as its pixels [B, n, H, W]; nothing to do for one row."""
    if not geometry.transposed:
        return sums
    stride, padding = geometry.stride, geometry.padding
    images, rows, height, width = sums.shape
    sums = sums.reshape(images, -1, stride, stride, height, width).transpose(0, 1, 4, 2, 5, 3)
    sums = sums.reshape(images, rows // geometry.phases, stride * height, stride * width)
    return sums[:, :, padding : stride * height - padding, padding : stride * width - padding]


def sizes(case: Case, engine: str) -> Iterator[Case]:
    """The same sums in inputs of other sizes.

    On the CPU the large one is for windows of 3x3 alone, for which there are other algorithms than the sum of the
    products. A GPU's library has several for products of matrices, too, and chooses by the number of pixels.
    """
    yield case
    yield replace(case, m=case.m[:1], expected=case.expected[:1])
    geometry = case.layer.geometry
    if geometry.side == 3 or (geometry.side == 1 and engine != "cpu"):
        yield replace(case, m=_side_by_side(case.m, 0), expected=_side_by_side(case.expected, np.nan))


def _side_by_side(pictures: np.ndarray, behind: float) -> np.ndarray:
    """Pictures [B, C, h, w], again and again, as one, [1, C, H, W].

    Behind each is a row and a column, so that no window of 3x3 touches two pictures.
    """
    images, channels = pictures.shape[:2]
    cells = np.full((CELLS, CELLS, channels, SIDE + 1, SIDE + 1), behind, pictures.dtype)
    for number in range(CELLS * CELLS):
        cells[number // CELLS, number % CELLS, :, :SIDE, :SIDE] = pictures[number % images]
    return cells.transpose(2, 0, 3, 1, 4).reshape(1, channels, CELLS * (SIDE + 1), CELLS * (SIDE + 1))


def compare(these: Iterable[Case], run: Callable[[Case], np.ndarray], engine: str) -> None:
    """Raises InexactError where `run` gives other sums than integers do; `engine` is the type of the device."""
    for case in these:
        for sized in sizes(case, engine):
            images, _, height, width = sized.m.shape
            size = f"{images} picture{'s' if images > 1 else ''} of {height} x {width}"
            _check(run(sized), sized.expected, engine, f"layer {case.layer.name} ({size})")


def compare_products(run: Callable[[np.ndarray, np.ndarray], np.ndarray], engine: str) -> None:
    """The products of matrices in attention: 64 keys, operands of 20 bits. Raises as `compare`."""
    rng = np.random.default_rng(0)
    a, b = rng.integers(-EXP_ONE, EXP_ONE + 1, (2, 3, 64, 64))
    _check(run(a, b), a @ b, engine, "a product of matrices")


def _check(sums: np.ndarray, expected: np.ndarray, engine: str, what: str) -> None:
    if sums.shape != expected.shape:
        raise inexact(engine, what, f"sums have the shape {sums.shape} instead of {expected.shape}")
    wrong = (sums != expected) & ~np.isnan(expected)
    if wrong.any():
        first = f"a sum is {sums[wrong][0]:.12g} instead of {expected[wrong][0]:.12g}"
        raise inexact(engine, what, f"{first}, {wrong.sum():,} of {wrong.size:,} differ")


class InexactError(MismatchError):
    """This machine's sums aren't exact; `difference` says where, and what they are."""

    difference: str


def inexact(engine: str, what: str, difference: str) -> InexactError:
    """An error that says what differs, and which settings of the environment may be the cause."""
    given = {name: os.environ.get(name, "") for name in SUSPECTS}
    suspects = [f"{name}={value}" for name, value in given.items() if value.lower() not in SUSPECTS[name]]
    if suspects:
        cause = f"perhaps because of {', '.join(suspects)}: unset it"
    else:
        advice = "try another version of the library, or another engine or device"
        cause = f"and no setting is known to be the cause: {advice}"
    error = InexactError(
        f"this machine's {engine} arithmetic isn't exact in {what}: {difference}, {cause}. "
        "Until then files can't be made or read safely"
    )
    error.difference = f"{what}: {difference}"
    return error
