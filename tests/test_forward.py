"""`HPCM.forward` as a module among others: what it takes and refuses, types, copies, wrappers and traces."""

import copy
import io
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from hpcm.nn.exact.make_exact import make_exact
from hpcm.nn.hpcm import HPCM
from hpcm.nn.rate import bits

TYPES = [torch.float64, torch.float16, torch.bfloat16]


def pictures(config, count=2, seed=3):
    side = config.multiple
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed))


def loss_of(x, output):
    return (output["x_hat"] - x).square().mean() + sum(bits(p) / x.numel() for p in output["likelihoods"].values())


def alike(one, two):
    """Whether two outputs are the same numbers."""
    same = all(torch.equal(one["likelihoods"][key], two["likelihoods"][key]) for key in "yz")
    return same and torch.equal(one["x_hat"], two["x_hat"])


# ---- levels ---------------------------------------------------------------------------------------------------------


def test_a_level_is_a_number_or_one_for_each_picture(tiny, build):
    model, x = build(tiny), pictures(tiny)
    expected = model(x, torch.tensor([40, 40]))
    for level in (
        40,
        40.0,
        np.int64(40),
        np.float32(40),
        torch.tensor([40.0, 40.0]),
        torch.tensor([40, 40], dtype=torch.uint8),
    ):
        assert alike(model(x, level), expected)
    assert alike(model(x), model(x, 31))
    between = model(x, torch.tensor([40.5, 40.5]))  # as training draws them
    assert not alike(between, expected)


@pytest.mark.parametrize(
    ("level", "complaint"),
    [
        (64, r"level 64: it must be 0 to 63"),
        (-1, r"level -1: it must be 0 to 63"),
        (float("nan"), r"level nan: it must be 0 to 63"),
        (torch.tensor([3, 64]), r"level \[3, 64\]: it must be 0 to 63"),
        (torch.tensor([3.0, -0.5]), r"level \[3\.0, -0\.5\]: it must be 0 to 63"),
        (torch.tensor([3.0, torch.nan]), r"level \[3\.0, nan\]: it must be 0 to 63"),
        (torch.tensor([3]), r"levels \[1\] for 2 pictures: one of each is needed, \[2\]"),
        (torch.tensor([1, 2, 3]), r"levels \[3\] for 2 pictures"),
        (torch.tensor(3), r"levels \[\] for 2 pictures"),
        (torch.tensor([[1, 2]]), r"levels \[1, 2\] for 2 pictures"),
        (torch.tensor([True, False]), r"a number or a tensor of numbers, not torch\.bool"),
        (torch.tensor([1j, 2j]), r"a number or a tensor of numbers, not torch\.complex64"),
        (True, r"a number or a tensor of numbers, not bool"),
        ([1, 2], r"a number or a tensor of numbers, not list"),
        ("3", r"a number or a tensor of numbers, not str"),
    ],
)
def test_levels_that_are_refused(tiny, build, level, complaint):
    with pytest.raises(ValueError, match=complaint):
        build(tiny)(pictures(tiny), level)


def test_a_model_of_one_level_has_level_0(tiny_base, build):
    model, x = build(tiny_base), pictures(tiny_base, 1)
    assert alike(model(x, 0), model(x))
    with pytest.raises(ValueError, match="level 1: it must be 0, as the model has one"):
        model(x, 1)


# ---- pictures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "complaint"),
    [
        (torch.zeros(3, 64, 64), r"a tensor \[3, 64, 64\]: pictures are \[B, 3, H, W\]"),
        (torch.zeros(1, 1, 64, 64), r"a tensor \[1, 1, 64, 64\]: pictures are \[B, 3, H, W\], red, green and blue"),
        (torch.zeros(1, 4, 64, 64), r"a tensor \[1, 4, 64, 64\]"),
        (torch.zeros(1, 64, 64, 3), r"a tensor \[1, 64, 64, 3\]"),
        (torch.zeros(1, 3, 64, 96), r"a picture of 64 x 96: tiny needs multiples of 64"),
        (torch.zeros(1, 3, 0, 64), r"a picture of 0 x 64: tiny needs multiples of 64"),
        (
            torch.zeros(1, 3, 64, 64, dtype=torch.uint8),
            r"pictures in torch\.uint8: tiny needs torch\.float32 in 0\.\.1",
        ),
        (
            torch.zeros(1, 3, 64, 64).double(),
            r"in torch\.float64, weights in torch\.float32: give x\.to\(torch\.float32",
        ),
        (torch.zeros(1, 3, 64, 64).half(), r"or model\.to\(torch\.float16\)"),
        (torch.zeros(1, 3, 64, 64, device="meta"), r"pictures on meta, weights on cpu"),
        (np.zeros((1, 3, 64, 64), np.float32), r"a tensor \[B, 3, H, W\], not a ndarray"),
    ],
)
def test_pictures_that_are_refused(tiny, build, x, complaint):
    with pytest.raises(ValueError, match=complaint) as caught:
        build(tiny)(x)
    assert "\n" not in str(caught.value)


# ---- types ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("structure", ["tiny", "tiny_base", "tiny_1b"])
def test_a_model_of_another_type(structure, dtype, build, request):
    """Latents, rate and x_hat stay float32 where weights have 16 bits; nothing is far from what float32 gives."""
    config = request.getfixturevalue(structure)
    x = pictures(config, 1)
    expected = build(config)(x)
    model = build(config).to(dtype).requires_grad_(True)
    output = model(x.to(dtype))
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    assert {output["x_hat"].dtype, *(p.dtype for p in output["likelihoods"].values())} == {wide}
    for key, likelihoods in output["likelihoods"].items():
        assert bits(likelihoods).item() == pytest.approx(bits(expected["likelihoods"][key]).item(), rel=0.05)
    loss_of(x, model.train()(x.to(dtype))).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.dtype == dtype for p in model.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast(tiny, build, dtype):
    """The networks compute in 16 bits, whatever the pictures have; the rate in float32."""
    model, x = build(tiny).train().requires_grad_(True), pictures(tiny)
    with torch.autocast("cpu", torch.bfloat16):
        inner = model.g_a(x)
        output = model(x.to(dtype), torch.tensor([3, 40.5]))
        with pytest.raises(ValueError, match=r"pictures in torch\.float64"):
            model(x.double())
    assert inner.dtype == torch.bfloat16
    assert {output["x_hat"].dtype, *(p.dtype for p in output["likelihoods"].values())} == {torch.float32}
    loss_of(x, output).backward()
    assert all(p.grad.isfinite().all() and p.grad.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("dtype", TYPES)
def test_an_exact_model_has_one_type(tiny, build, dtype):
    x = pictures(tiny)
    exact = make_exact(build(tiny), [(x, torch.tensor([20, 40]))])
    assert exact(x)["x_hat"].isfinite().all()
    with pytest.raises(ValueError, match=rf"an exact model in {dtype}: its integers need float32"):
        exact.to(dtype)(x.to(dtype))


# ---- copies and wrappers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", ["tiny", "tiny_base", "tiny_1b"])
def test_copies_compute_the_same(structure, build, request):
    model = build(request.getfixturevalue(structure))
    x = pictures(model.config, 1)
    expected = model(x)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    loaded = HPCM(model.config).eval()
    loaded.load_state_dict(torch.load(file, weights_only=True))  # strict
    for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), loaded):
        assert again.config == model.config
        assert alike(again(x), expected)


def test_a_wrapped_model(tiny, build):
    """DataParallel, whose names DDP has too, and torch's moving average."""
    model, x = build(tiny), pictures(tiny)
    wrapped = torch.nn.DataParallel(model)
    assert alike(wrapped(x, torch.tensor([3, 40])), model(x, torch.tensor([3, 40])))
    names = [name.removeprefix("module.") for name in wrapped.state_dict()]
    assert names == list(model.state_dict())
    averaged = torch.optim.swa_utils.AveragedModel(model)
    averaged.update_parameters(model)
    assert alike(averaged(x), model(x))


# ---- traces ---------------------------------------------------------------------------------------------------------


class Outputs(torch.nn.Module):
    """TorchScript returns no dictionary of both tensors and dictionaries."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        output = self.model(x)
        return output["x_hat"], output["likelihoods"]["y"], output["likelihoods"]["z"]


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("variant", ["psi", "attention", "cdf"])
def test_a_whole_model_is_traced(tiny, tiny_base, build, variant):
    """For pictures of one size, whose masks are constants."""
    config = {"psi": tiny, "attention": tiny_base, "cdf": replace(tiny_base, likelihood="cdf")}[variant]
    whole = Outputs(build(config))
    whole(pictures(config, 1))  # makes the masks: in a trace they would be part of it
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(whole, pictures(config, 1)), file)
    file.seek(0)
    x = pictures(config, 1, seed=4)
    for one, two in zip(torch.jit.load(file)(x), whole(x), strict=True):
        assert torch.allclose(one, two, rtol=1e-4, atol=1e-5)


def test_stand_ins_for_tensors_are_not_kept(tiny, build):
    """Tools run a model on them to count or plan; masks that are made meanwhile must not stay for others."""
    model, x = build(tiny), torch.rand(1, 3, 64, 192)  # a size that no other test has
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert isinstance(model(x)["x_hat"], FakeTensor)
    assert type(model(x)["x_hat"]) is torch.Tensor


@pytest.mark.slow
@pytest.mark.parametrize("structure", ["tiny", "tiny_base"])
def test_a_whole_model_is_exported(structure, build, request):
    model = build(request.getfixturevalue(structure))
    program = torch.export.export(model, (pictures(model.config, 1),))
    x = pictures(model.config, 1, seed=4)
    assert alike(program.module()(x), model(x))
