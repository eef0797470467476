"""Exact sums as products of float16 matrices: the same bits as convolutions, and a GPU's inexact ones are found."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d, conv_transpose2d

import hpcm
from hpcm.errors import MismatchError
from hpcm.model import storage
from hpcm.model.file import describe, read
from hpcm.model.find import find
from hpcm.model.layers import GEOMETRIES, Geometry, Layer, exact_layers
from hpcm.model.tables import make_tables
from hpcm.nn.engine import TorchEngine
from hpcm.nn.exact import grid, products
from hpcm.nn.exact.make_exact import make_exact
from hpcm.nn.exact.probe import cases
from hpcm.nn.exact.products import LARGEST, WHOLE, Products, suit
from hpcm.nn.weights import build, save

pytestmark = pytest.mark.usefixtures("one_thread")

BOTH = ("float16", "float32")
MATRICES = [geometry for geometry in GEOMETRIES if geometry.kind != "depthwise"]
SIZE = (16, 16)  # of a latent, rows and columns
real_product = products.product


def layer_of(geometry: Geometry, limit: int, inputs: int = 24, carrier: str = "float32", peak: int = 127) -> Layer:
    """A layer of random weights whose sums reach the bound."""
    rng = np.random.default_rng(0)
    outputs = 5
    shape = (inputs, outputs) if geometry.transposed else (outputs, inputs)
    k = rng.integers(-peak, peak + 1, (*shape, geometry.side, geometry.side))
    room = 2**24 - 1000
    while (np.abs(geometry.rows(k.astype(float))).sum(1) * limit).max() > room:
        k //= 2  # toward -1, which stays odd
    return Layer(
        name="a",
        geometry=geometry,
        weight=k.astype(np.int16),
        bias=rng.integers(-999, 1000, outputs).astype(np.int32),
        exponent=rng.integers(-20, -8, outputs).astype(np.int8),
        input_bits=np.zeros(inputs, np.int8),
        limit=np.int32(limit),
        carrier=carrier,
    )


def by_convolution(layer: Layer, m: torch.Tensor) -> torch.Tensor:
    """The same in float64, the parts of a split sum one after another in float32."""
    geometry = layer.geometry
    convolve = conv_transpose2d if geometry.transposed else conv2d
    weight = torch.from_numpy(layer.weight.astype(np.float64))
    total = torch.from_numpy(layer.bias.astype(np.float32))[:, None, None]
    for part in layer.parts:
        taps = weight[part] if geometry.transposed else weight[:, part]
        sums = convolve(m[:, part].double(), taps, None, geometry.stride, geometry.padding)
        total = (total + sums).float()
    unit = torch.from_numpy(np.ldexp(np.float32(1), layer.exponent.astype(np.int32)))
    return total * unit[:, None, None]


def integers(layer: Layer, images: int = 2) -> torch.Tensor:
    """Random inputs of any size up to the limit, some of them just there, in channels-last memory."""
    rng = np.random.default_rng(1)
    limit = int(layer.limit)
    m = rng.integers(-limit, limit + 1, (images, layer.inputs, 6, 8)).astype(np.float32)
    m[:, :, 0] = limit * rng.choice((-1, 1), m[:, :, 0].shape)
    return torch.from_numpy(m).contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("limit", [1, 1162, WHOLE, WHOLE + 1, 8206, 32767, LARGEST])
@pytest.mark.parametrize("geometry", MATRICES, ids=str)
def test_every_geometry_and_limit(geometry, limit):
    layer = layer_of(geometry, limit)
    m = integers(layer)
    y = Products(layer)(m)
    assert torch.equal(y, by_convolution(layer, m))
    assert torch.equal(y, Products(layer)(m.contiguous()))  # whatever the memory's order


@pytest.mark.parametrize("limit", [300, 5003])
@pytest.mark.parametrize("geometry", MATRICES, ids=str)
def test_parts(geometry, limit, monkeypatch):
    """Sums of parts are added in order, and their additions round."""
    monkeypatch.setattr("hpcm.model.layers.PART", 40)
    layer = layer_of(geometry, limit, inputs=50, carrier="split")
    assert len(layer.parts) > 1
    m = integers(layer)
    assert torch.equal(Products(layer)(m), by_convolution(layer, m))


def test_which_layers_suit():
    dense = layer_of(GEOMETRIES[0], 1000)
    assert suit(dense)
    assert suit(replace(dense, carrier="split"))
    assert not suit(replace(dense, carrier="float64"))
    assert not suit(replace(dense, name="g_s.0.expand"))  # sums of 31 bits
    assert not suit(replace(dense, geometry=Geometry("depthwise", 3, 1, 1)))
    assert not suit(replace(dense, limit=np.int32(LARGEST + 1)))
    assert not suit(replace(dense, weight=np.full_like(dense.weight, WHOLE + 1)))
    with pytest.raises(ValueError, match="layer a don't fit"):
        Products(replace(dense, carrier="float64"))


def test_no_number_is_waited_for():
    """A CUDA graph records it: on the device "meta", which has no numbers, it runs as well."""
    layer = layer_of(MATRICES[1], 5003)
    made = Products(layer).to("meta")
    assert {buffer.device.type for buffer in made.buffers()} == {"meta"}
    assert made(integers(layer).to("meta")).shape == (2, 5, 6, 8)


# ---- models ----------------------------------------------------------------------------------------------------------


def built(name="nano", kinds=BOTH):
    weights, data = read(find(name))
    return build(weights, storage.unpack(data, name).parameters, "cpu", products=kinds)


def coded(model):
    """The symbols of a random latent with their scales, and y_hat."""
    rng = np.random.default_rng(0)
    y = (20 * rng.standard_normal((*SIZE, model.config.M))).astype(np.float32)
    symbols, y_hat = TorchEngine(model, make_tables()).record(y, 0 if model.config.levels == 1 else 40)
    return b"".join(array.tobytes() for step in symbols for array in step), y_hat.tobytes()


def test_a_model_computes_the_same_bits():
    model = built(kinds=("float16",))
    assert model.products == "float16"
    made = [layer for layer in model.modules() if isinstance(layer, Products)]
    assert len(made) == 20
    assert any(layer.cut for layer in made)
    assert not all(layer.cut for layer in made)
    plain = built(kinds=("float32",))
    assert plain.products == "float32"
    assert coded(model) == coded(plain)


def test_on_the_cpu_float32_is_the_default():
    assert built(kinds=None).products == "float32"
    assert hpcm.load("nano", engine="torch").engine.model.products == "float32"


@pytest.mark.parametrize("carrier", ["split", "float64"])
def test_models_with_attention(carrier, build, tiny_base, monkeypatch, tmp_path):
    monkeypatch.setattr("hpcm.model.layers.PART", 12)
    x = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    save(make_exact(build(tiny_base), [(x, torch.zeros(1))], carrier), tmp_path / "exact.safetensors", {})
    first, second = (built(tmp_path / "exact.safetensors", (kind,)) for kind in BOTH)
    assert any(isinstance(layer, Products) for layer in first.modules()) == (carrier == "split")
    assert coded(first) == coded(second)


def test_nothing_more_is_stored(tmp_path):
    model = built(kinds=("float16",))
    assert model.state_dict().keys() == built(kinds=("float32",)).state_dict().keys()
    save(model, tmp_path / "again.safetensors", {})
    again = storage.unpack(read(describe(tmp_path / "again.safetensors"))[1], "again").parameters
    stored = storage.unpack(read(find("nano"))[1], "nano").parameters
    assert again.keys() == stored.keys()
    assert all(np.array_equal(again[name], stored[name]) for name in stored)


# ---- the probe -------------------------------------------------------------------------------------------------------


def cut_off(sums, bits):
    """Toward zero, to so many bits."""
    mantissa, exponent = torch.frexp(sums)
    return torch.ldexp((mantissa * 2.0**bits).trunc(), exponent - bits)


def short_sums(bits, a, b):
    """Accumulators that keep fewer bits than a float32, cut off after every 16 products, as a matrix unit would."""
    total = torch.zeros(len(a), b.shape[1])
    for left, right in zip(a.float().split(16, 1), b.float().split(16, 0), strict=True):
        total = cut_off(total + left @ right, bits)
    return total


def float16_sums(a, b):
    return sum(left @ right for left, right in zip(a.float().split(16, 1), b.float().split(16, 0), strict=True)).half()


def float16_reduction(a, b):
    """Two blocks of threads add up a half of the products each, and reduce them in float16."""
    half = a.shape[1] // 2
    first, second = a[:, :half].float() @ b[:half].float(), a[:, half:].float() @ b[half:].float()
    return (first.half() + second.half()).float()


def where(wrong, otherwise, chosen):
    return lambda a, b: (wrong if chosen(a, b) else otherwise)(a, b)


def last_bit(a, b):
    return cut_off(real_product(a, b), 23)


INEXACT = {
    **{f"sums of {bits} bits": lambda a, b, bits=bits: short_sums(bits, a, b) for bits in (11, 14, 23)},
    "float16 sums": lambda a, b: float16_sums(a, b).float(),
    "float16 reduction": float16_reduction,
    "bfloat16 inputs": lambda a, b: a.bfloat16().float() @ b.float(),
    "low halves lost": where(
        lambda a, b: real_product(a[:, : a.shape[1] // 2], b[: len(b) // 2]),
        real_product,
        lambda a, b: torch.equal(b[: len(b) // 2], b[len(b) // 2 :]),  # 1x1 and 2x2 layers whose inputs are cut
    ),
    "many pixels": where(last_bit, real_product, lambda a, b: len(a) >= 64 * 64),
    "few pixels": where(last_bit, real_product, lambda a, b: len(a) < 64),
    "a long sum": where(last_bit, real_product, lambda a, b: a.shape[1] >= 576),
    "not there": lambda a, b: (_ for _ in ()).throw(RuntimeError("not implemented for 'Half'")),
}


@pytest.mark.parametrize("name", INEXACT)
def test_inexact_products_are_not_taken(name, monkeypatch, caplog):
    monkeypatch.setattr(products, "product", INEXACT[name])
    with pytest.raises(RuntimeError if name == "not there" else MismatchError):
        built(kinds=("float16",))
    with caplog.at_level(logging.INFO, "hpcm"):
        model = built()
    assert model.products == "float32"
    assert not any(isinstance(layer, Products) for layer in model.modules())
    (note,) = caplog.messages
    assert note.startswith("exact sums aren't computed in float16 on cpu: ")
    assert ("instead of" in note) == (name != "not there")


def test_both_kinds_of_inputs_are_probed():
    """Those that are cut in two make products of other sizes."""
    model = built(kinds=("float32",))
    exact = exact_layers(grid.stored_numbers(model), grid.geometries_of(model), model.config)
    layers = [layer for layer in exact if suit(layer)]

    def kinds_of(some):
        return {(layer.geometry, layer.weight.shape, layer.limit > WHOLE) for layer in some}

    assert kinds_of(case.layer for case in cases(layers, by_halves=True)) == kinds_of(layers)
    assert kinds_of(case.layer for case in cases(layers)) < kinds_of(layers)


def test_exact_sums_in_another_order_are_taken(monkeypatch):
    """Those of 24 bits, cut off after every 16 products: as exact as others."""
    monkeypatch.setattr(products, "product", lambda a, b: short_sums(24, a, b))
    assert built().products == "float16"


def test_where_nothing_is_exact_there_is_no_model(monkeypatch):
    monkeypatch.setattr(products, "product", lambda a, b: short_sums(14, a, b))
    monkeypatch.setattr(grid.F, "conv2d", lambda *given: conv2d(*given) + 1)
    with pytest.raises(MismatchError, match="isn't exact in layer"):
        built()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["nano", "lite"])
def test_on_a_gpu(name):
    """float16 is taken there, and gives the CPU's bits."""
    weights, data = read(find(name))
    model = build(weights, storage.unpack(data, name).parameters, "cuda")
    assert model.products == "float16"
    assert coded(model) == coded(built(name, None))
