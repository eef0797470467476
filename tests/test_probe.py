"""The probe of the machine's arithmetic: exact kernels pass, and every inexact kind is found, each emulated here."""

from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

import hpcm
from hpcm.errors import MismatchError
from hpcm.model.layers import exact_layers
from hpcm.nn.exact import grid
from hpcm.nn.exact.make_exact import make_exact
from hpcm.nn.exact.probe import cases, sizes
from hpcm.nn.exact.torch_switches import arithmetic

CPU = torch.device("cpu")
conv2d, conv_transpose2d = torch.nn.functional.conv2d, torch.nn.functional.conv_transpose2d


@pytest.fixture(scope="module", params=["nano", "lite"])
def bundled(request):
    return hpcm.load(request.param, engine="torch").engine.model


@pytest.fixture
def wide(build, tiny_base):
    """A model with attention and float64 carriers."""
    x = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    return make_exact(build(tiny_base), [(x, torch.zeros(1))], "float64")


@pytest.fixture
def split(build, tiny_base, monkeypatch):
    """A model with attention whose sums are split."""
    monkeypatch.setattr("hpcm.model.layers.PART", 12)
    x = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    return make_exact(build(tiny_base), [(x, torch.zeros(1))], "split")


def cases_of(model):
    return cases(layers_of(model))


def layers_of(model):
    return exact_layers(grid.stored_numbers(model), grid.geometries_of(model), model.config)


def probe(model, device):
    grid.run_probe(model, cases_of(model), device)


def shortened(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Rounded to so many bits of mantissa, the leading one included."""
    mantissa, exponent = torch.frexp(x)
    return torch.ldexp((mantissa * 2.0**bits).round(), exponent - bits)


def reduced(convolve, bits, x, weight, bias=None, *rest, **options):
    """Operands of fewer bits, sums in full: TF32 has 11, bfloat16 8."""
    return convolve(shortened(x, bits), shortened(weight, bits), bias, *rest, **options)


def short_sums(convolve, kind, x, weight, bias=None, *rest, **options):
    """Sums in fewer bits than the operands: channel by channel, rounded after each."""
    total = None
    if options.get("groups", 1) > 1 or (len(rest) > 3 and rest[3] > 1):
        return convolve(x, weight, bias, *rest, **options)
    transposed = convolve is conv_transpose2d
    for channel in range(x.shape[1]):
        part = weight[channel : channel + 1] if transposed else weight[:, channel : channel + 1]
        term = convolve(x[:, channel : channel + 1], part, None, *rest, **options)
        total = term.to(kind) if total is None else (total + term.to(kind))
    total = total.to(x.dtype)
    return total if bias is None else total + bias[:, None, None]


def winograd(tile, x, weight, bias=None, stride=1, padding=0, *rest):
    """F(tile x tile, 3x3) of Lavin and Gray (2015), for 3x3 convolutions; the others are left alone."""
    if weight.shape[-1] != 3 or weight.shape[1] == 1:
        return conv2d(x, weight, bias, stride, padding, *rest)
    if tile == 2:
        b_t = [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]
        g = [[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]
        a_t = [[1, 1, 1, 0], [0, 1, -1, -1]]
    else:
        b_t = [
            [4, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ]
        g = [[1 / 4, 0, 0], [-1 / 6] * 3, [-1 / 6, 1 / 6, -1 / 6], [1 / 24, 1 / 12, 1 / 6], [1 / 24, -1 / 12, 1 / 6]]
        g = [*g, [0, 0, 1]]
        a_t = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
    b_t, g, a_t = (torch.tensor(matrix, dtype=x.dtype) for matrix in (b_t, g, a_t))
    height, width = x.shape[2:]
    down, across = -height % tile, -width % tile
    padded = torch.nn.functional.pad(x, (1, 1 + across, 1, 1 + down))
    pieces = padded.unfold(2, tile + 2, tile).unfold(3, tile + 2, tile)  # [B, C, rows, columns, tile + 2, tile + 2]
    pieces, kernels = b_t @ pieces @ b_t.T, g @ weight @ g.T
    sums = torch.einsum("bcrsij,ocij->borsij", pieces, kernels)
    out = (a_t @ sums @ a_t.T).permute(0, 1, 2, 4, 3, 5)
    out = out.reshape(*out.shape[:2], height + down, width + across)[:, :, :height, :width]
    return out if bias is None else out + bias[:, None, None]


def fourier(x, weight, bias=None, stride=1, padding=0, *rest):
    """By the fast Fourier transform, for 3x3 convolutions; the others are left alone."""
    if weight.shape[-1] != 3 or weight.shape[1] == 1:
        return conv2d(x, weight, bias, stride, padding, *rest)
    height, width = x.shape[2:]
    size = (height + 2, width + 2)
    spectra = torch.fft.rfft2(x, size), torch.fft.rfft2(weight.flip(2, 3), size)
    product = torch.einsum("bchw,ochw->bohw", *spectra)
    out = torch.fft.irfft2(product, size)[:, :, 1 : height + 1, 1 : width + 1]
    return out if bias is None else out + bias[:, None, None]


INEXACT = {
    "TF32": {
        "conv2d": partial(reduced, conv2d, 11),
        "conv_transpose2d": partial(reduced, conv_transpose2d, 11),
    },
    "bfloat16 in 1x1 and 3x3": {"conv2d": partial(reduced, conv2d, 8)},
    "bfloat16 in transposed": {"conv_transpose2d": partial(reduced, conv_transpose2d, 8)},
    "float16 sums": {"conv2d": partial(short_sums, conv2d, torch.float16)},
    "float16 sums in transposed": {"conv_transpose2d": partial(short_sums, conv_transpose2d, torch.float16)},
    "Winograd F(2x2, 3x3)": {"conv2d": partial(winograd, 2)},
    "Winograd F(4x4, 3x3)": {"conv2d": partial(winograd, 4)},
    "Fourier": {"conv2d": fourier},
}


def test_exact_kernels_pass(bundled, wide):
    for model in (bundled, wide):
        probe(model, CPU)


@pytest.mark.parametrize("name", INEXACT)
def test_inexact_kernels_are_found(bundled, monkeypatch, name):
    for function, kernel in INEXACT[name].items():
        monkeypatch.setattr(grid.F, function, kernel)
    with pytest.raises(MismatchError, match="isn't exact in layer"):
        probe(bundled, CPU)


@pytest.mark.parametrize("name", ["TF32", "Winograd F(4x4, 3x3)", "Fourier", "float32 sums", "float32 products"])
def test_inexact_kernels_are_found_in_float64(wide, monkeypatch, name):
    kernels = INEXACT.get(name, {})
    if name == "float32 sums":
        kernels = {"conv2d": partial(short_sums, conv2d, torch.float32)}
    if name == "float32 products":
        kernels = {"_depthwise": lambda x, weight, bias: real(x.float(), weight.float(), bias.float()).double()}
        real = grid._depthwise
    for function, kernel in kernels.items():
        monkeypatch.setattr(grid if function == "_depthwise" else grid.F, function, kernel)
    with pytest.raises(MismatchError, match="isn't exact in layer"):
        probe(wide, CPU)


@pytest.fixture(params=["unshuffle8", "conv2", "conv4"])
def transforms(request, build, tiny, tiny_base, tiny_1b):
    """Models of all stems whose transforms are exact."""
    config = {"unshuffle8": tiny, "conv2": tiny_1b, "conv4": replace(tiny_base, fusion="psi")}[request.param]
    assert config.stem == request.param
    x = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    return make_exact(build(config), [(x, torch.zeros(1))])


def in_float32(convolve, x, weight, bias=None, *rest, **options):
    bias = None if bias is None else bias.float()
    return convolve(x.float(), weight.float(), bias, *rest, **options).to(x.dtype)


def test_all_kinds_of_transforms_layers_pass(transforms):
    kinds = {case.layer.geometry for case in cases_of(transforms) if case.layer.is_transform}
    expected = {"unshuffle8": 4, "conv2": 4, "conv4": 6}[transforms.config.stem]
    assert len(kinds) == expected
    probe(transforms, CPU)


@pytest.mark.parametrize("function", ["conv2d", "conv_transpose2d"])
def test_sums_of_transforms_in_float32_are_found(transforms, monkeypatch, function):
    """They have up to 31 bits. Those of the entropy path, of 24, pass."""
    monkeypatch.setattr(grid.F, function, partial(in_float32, getattr(torch.nn.functional, function)))
    with pytest.raises(MismatchError, match=r"isn't exact in layer (g_a|h_a|g_s)\."):
        probe(transforms, CPU)


def test_parts_in_another_order_are_found(split):
    """Their additions round."""
    probe(split, CPU)
    for _, _, _, module in grid.convolutions(split):
        module.parts = module.parts[::-1]
    with pytest.raises(MismatchError, match="isn't exact in layer"):
        probe(split, CPU)


@pytest.mark.parametrize("name", ["TF32", "Fourier"])
def test_inexact_parts_are_found(split, monkeypatch, name):
    for function, kernel in INEXACT[name].items():
        monkeypatch.setattr(grid.F, function, kernel)
    with pytest.raises(MismatchError, match="isn't exact in layer"):
        probe(split, CPU)


def test_inexact_products_of_matrices_are_found(wide, monkeypatch):
    real = torch.Tensor.__matmul__
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda a, b: real(a.float(), b.float()).double())
    with pytest.raises(MismatchError, match="isn't exact in a product of matrices"):
        probe(wide, CPU)


def test_cases_are_as_hard_as_the_bound(bundled, wide):
    """Sums come within a quarter of what the layer's bound allows, and use their last bit."""
    for model in (bundled, wide):
        for case in cases_of(model):
            reach, unit = case.layer.reach, np.ldexp(1.0, case.layer.exponent.astype(int))
            sums = np.abs(case.expected) / unit[case.channels][:, None, None]
            assert sums.max() > 0.75 * reach.max(), case.layer.name
            assert (sums % 2 == 1).any(), case.layer.name
            assert np.abs(case.m).max() == float(case.layer.limit) or float(case.layer.limit) > 1 << 8
            if case.layer.bits < 53 and case.layer.geometry.kind == "dense":  # 16 bits times 20 don't fill a float64
                assert sums.max() > 0.75 * 2**case.layer.bits, case.layer.name


# ---- what the process has set up ------------------------------------------------------------------------------------

settings = pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="an older torch")


@pytest.fixture
def precision():
    """torch's settings of precision, as they were."""
    yield torch.backends
    for place in (torch.backends, torch.backends.mkldnn, torch.backends.mkldnn.conv, torch.backends.mkldnn.matmul):
        place.fp32_precision = "none"


@settings
def test_what_is_inherited_stays_inherited(precision):
    precision.fp32_precision = "bf16"
    with arithmetic(CPU):
        assert precision.mkldnn.conv.fp32_precision == "ieee"
        assert precision.mkldnn.matmul.fp32_precision == "ieee"
    assert precision.mkldnn.conv.fp32_precision == "bf16"
    precision.fp32_precision = "ieee"
    assert precision.mkldnn.conv.fp32_precision == "ieee"
    assert precision.mkldnn.matmul.fp32_precision == "ieee"


@settings
def test_what_is_set_is_set_again(precision):
    precision.mkldnn.matmul.fp32_precision = "bf16"
    with arithmetic(CPU):
        assert precision.mkldnn.matmul.fp32_precision in ("ieee", "none")
    assert precision.mkldnn.matmul.fp32_precision == "bf16"
    precision.fp32_precision = "ieee"
    assert precision.mkldnn.matmul.fp32_precision == "bf16"


def test_cudnn_and_autocast_are_back(bundled):
    before = torch.backends.cudnn.enabled
    with torch.autocast("cpu", torch.bfloat16):
        with arithmetic(CPU):
            assert not torch.backends.cudnn.enabled
            assert not torch.is_autocast_enabled("cpu")
        assert torch.is_autocast_enabled("cpu")
    assert torch.backends.cudnn.enabled == before


@pytest.mark.skipif(not hasattr(torch.backends.cuda.matmul, "allow_fp16_accumulation"), reason="an older torch")
def test_float16_is_added_up_in_float32():
    matmul = torch.backends.cuda.matmul
    names = ("allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction")
    matmul.allow_fp16_accumulation = True
    try:
        with arithmetic(CPU):
            assert not matmul.allow_fp16_accumulation
            assert not any(getattr(matmul, name) for name in names)
        assert matmul.allow_fp16_accumulation
        assert all(getattr(matmul, name) for name in names)
    finally:
        matmul.allow_fp16_accumulation = False


@pytest.mark.skipif(
    not hasattr(torch.backends.cuda.matmul, "allow_fp16_reduced_precision_reduction_split_k"), reason="an older torch"
)
def test_both_parts_of_a_setting_are_back():
    matmul = torch.backends.cuda.matmul
    matmul.allow_fp16_reduced_precision_reduction = (False, False)
    try:
        with arithmetic(CPU):
            pass
        assert not matmul.allow_fp16_reduced_precision_reduction
        assert not matmul.allow_fp16_reduced_precision_reduction_split_k
    finally:
        matmul.allow_fp16_reduced_precision_reduction = True


def test_tf32_by_force_is_refused(monkeypatch):
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    with pytest.raises(MismatchError, match="NVIDIA_TF32_OVERRIDE=1"), arithmetic(torch.device("cuda")):
        pass


# ---- what a library chooses by the sizes at hand ---------------------------------------------------------------------


@contextmanager
def without_onednn():
    """As in a torch that was built without it."""
    before = torch.backends.mkldnn.enabled
    torch.backends.mkldnn.enabled = False
    yield
    torch.backends.mkldnn.enabled = before


@pytest.fixture
def no_onednn():
    with without_onednn():
        yield


@pytest.mark.parametrize("name", ["nano", "lite"])
def test_without_onednn_models_load_and_give_the_same(name):
    """NNPACK would compute 16 pictures by Winograd or FFT."""

    def computed():
        model = hpcm.load(name, engine="torch").engine.model
        z_hat = np.random.default_rng(0).integers(-9, 10, (16, model.config.N, 2, 2)).astype(np.float32)
        with torch.no_grad(), arithmetic(CPU):
            return model.hyper_synthesise(torch.from_numpy(z_hat)).numpy()

    expected = computed()
    with without_onednn():
        assert np.array_equal(computed(), expected)


@pytest.mark.skipif(not torch.backends.nnpack.is_available(), reason="a torch without NNPACK")
def test_nnpack_is_inexact_and_switched_off(no_onednn):
    rng = np.random.default_rng(0)
    x, weight = (torch.from_numpy(rng.integers(-100, 101, size)).float() for size in ((16, 64, 32, 32), (64, 64, 3, 3)))
    exact = conv2d(x.double(), weight.double(), padding=1)
    with torch.no_grad():
        assert not torch.equal(conv2d(x, weight, padding=1).double(), exact)
        with arithmetic(CPU):
            assert torch.equal(conv2d(x, weight, padding=1).double(), exact)
        assert not torch.equal(conv2d(x, weight, padding=1).double(), exact)


@pytest.mark.parametrize("before", [True, False])
def test_nnpack_is_as_it_was(before):
    (own,) = torch.backends.nnpack.set_flags(before)
    try:
        with arithmetic(CPU), arithmetic(CPU):
            assert torch.backends.nnpack.set_flags(False) == (False,)
        assert torch.backends.nnpack.set_flags(own) == (before,)
    finally:
        torch.backends.nnpack.set_flags(own)


def test_without_onednn_depthwise_sums_are_not_the_librarys(no_onednn, monkeypatch):
    """On ARM, torch has a Winograd of its own for them, which can't be switched off."""

    def plain(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        assert groups == 1
        return conv2d(x, weight, bias, stride, padding, dilation)

    model = hpcm.load("nano", engine="torch").engine.model
    depthwise = [layer for layer in layers_of(model) if layer.geometry.kind == "depthwise"]
    assert depthwise
    monkeypatch.setattr(grid.F, "conv2d", plain)
    probe(model, CPU)


BY_SIZE = {
    "many pictures": lambda x: x.shape[0] >= 8,
    "one picture": lambda x: x.shape[0] == 1,
    "a small picture": lambda x: x.shape[0] == 1 and x.shape[2] < 32,
    "a large picture": lambda x: x.shape[0] == 1 and x.shape[2] >= 64,
}


@pytest.mark.parametrize("size", BY_SIZE)
@pytest.mark.parametrize("name", ["Winograd F(4x4, 3x3)", "Fourier"])
def test_what_is_inexact_in_some_sizes_is_found(bundled, monkeypatch, name, size):
    inexact = INEXACT[name]["conv2d"]
    chosen = BY_SIZE[size]
    monkeypatch.setattr(grid.F, "conv2d", lambda x, *rest: (inexact if chosen(x) else conv2d)(x, *rest))
    with pytest.raises(MismatchError, match=r"isn't exact in layer \S+ \(\d+ pictures? of \d+ x \d+\): a sum is"):
        probe(bundled, CPU)


def test_large_pictures_have_the_sums_of_the_small_ones(bundled):
    """Each picture is among them, whole, and nothing else is compared."""
    found = [(case, list(sizes(case, "cuda"))) for case in cases_of(bundled)]
    for case, (_, one, *large) in found:
        geometry = case.layer.geometry
        assert len(large) == (geometry.side in (1, 3))
        assert len([*sizes(case, "cpu")]) == 2 + (geometry.side == 3)
        assert np.array_equal(one.m, case.m[:1])
        for sized in large:
            assert sized.m.shape[2:] == (64, 64)
            assert np.isfinite(sized.expected[0, 0]).sum() == 64 * case.expected[0, 0].size
            assert np.array_equal(sized.expected[0, :, 8:15, :7], case.expected[8 % len(case.m)])


def test_the_message_names_what_was_found(bundled, monkeypatch):
    monkeypatch.delenv("ONEDNN_DEFAULT_FPMATH_MODE", raising=False)
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    monkeypatch.setattr(grid.F, "conv2d", INEXACT["TF32"]["conv2d"])
    with pytest.raises(MismatchError, match=r"a sum is \S+ instead of \S+, \S+ of \S+ differ, and no setting is known"):
        probe(bundled, CPU)
    monkeypatch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "BF16")
    with pytest.raises(MismatchError, match="perhaps because of ONEDNN_DEFAULT_FPMATH_MODE=BF16: unset it"):
        probe(bundled, CPU)
    monkeypatch.setenv("ONEDNN_DEFAULT_FPMATH_MODE", "STRICT")
    with pytest.raises(MismatchError, match="no setting is known to be the cause"):
        probe(bundled, CPU)
