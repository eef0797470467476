"""The authors' checkpoints: parity with the released code, the names of every architecture, and files that are wrong.

parity/ARCH-256x256.npz is what the released code (LIC-HPCM at c271cfe, float32 on a CPU) computes from weights and a
picture that parity/recipe.py makes; parity/manifest_*.json are its parameter names and shapes, in its own order. Of
Base, all tensors are compared; of the others, which parity/make.py made, all symbols, the rates and a part of the
tensors. The 1B model takes 9 GB and half a minute, and Large five seconds: their tests are among the slow ones.
"""

import json
import os
import runpy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hpcm.convert.official import ARCHS, from_official, import_checkpoint, official_names
from hpcm.errors import UsageError, WeightsError
from hpcm.model import find as weights
from hpcm.model.order import table
from hpcm.nn.estimating import Estimating
from hpcm.nn.rate import bits, likelihood, likelihood_by_cdf
from hpcm.nn.weights import load_model

PARITY = Path(__file__).parent / "parity"
RECIPE = runpy.run_path(str(PARITY / "recipe.py"))
FLIPS = 8  # symbols of 82 thousand that float noise may round otherwise; none is where this was written
BUFFERS = {
    name: torch.zeros(0, dtype=torch.int32)
    for name in ["scale_table", "quantized_cdf_y", "cdf_length_z", "offset_y", "entropy_estimation.beta"]
}


def manifest(arch):
    return json.loads((PARITY / f"manifest_{arch}.json").read_text())


def hollow(arch):
    """A checkpoint of the right names and shapes, without the numbers."""
    return {name: torch.empty(shape, device="meta") for name, shape in manifest(arch).items()}


# ---- parity ---------------------------------------------------------------------------------------------------------


def reference_of(arch):
    with np.load(PARITY / f"{arch}-256x256.npz") as file:
        arrays = dict(file)
    return SimpleNamespace(**{**arrays, **json.loads(str(arrays.pop("meta")))})


@pytest.fixture(scope="module")
def reference():
    return reference_of("base")


class Guided(Estimating):
    """Decodes given symbols whatever y says, so that one rounding that falls otherwise doesn't move its neighbours."""

    def __init__(self, pyramid, places, plan, symbols):
        super().__init__(pyramid, places, plan)
        self.symbols = symbols

    def __call__(self, step, means, scales):
        super().__call__(step, means, scales)
        return (self.symbols[step.scale] + means) * self.places[step.index].mask


@pytest.fixture(scope="module")
def ours(reference):
    return computed("base", reference)


def computed(arch, reference):
    """What our network computes from the same weights and picture, guided by the released code's symbols."""
    drawn = RECIPE["reference_weights"](manifest(arch), reference.weight_seed)
    model = from_official({name: torch.from_numpy(value) for name, value in drawn.items()}, arch)
    picture = RECIPE["reference_image"](reference.height, reference.width, reference.image_seed)
    x = torch.from_numpy(picture).permute(2, 0, 1)[None] / 255
    symbols_y, symbols_z = (torch.from_numpy(s).float() for s in (reference.y_symbols, reference.z_symbols))
    with torch.no_grad():
        y = model.analyse(x)
        z, level = model.h_a(y), torch.zeros(1)
        plan, places = model.plan((16, 16)), model.places((16, 16))
        drive_z = Guided([z], places.hyper, None, [symbols_z])
        hyper = model.hyper_decode(drive_z, (4, 4), level)
        drive_y = Guided(plan.pyramid(y), places.latent, plan, plan.pyramid(symbols_y))
        y_hat = model.code_latent(hyper, drive_y, level)
        return SimpleNamespace(
            hyper=hyper,
            y_hat=y_hat,
            x_hat=model.synthesise(y_hat),
            scales=drive_y.scales,
            z_scales=drive_z.scales,
            y_symbols=(y - drive_y.means).round(),
            z_symbols=(z - drive_z.means).round(),
            y_likelihoods=likelihood_by_cdf(symbols_y, drive_y.scales),
            z_likelihoods=likelihood_by_cdf(symbols_z, drive_z.scales),
            model=model,
            x=x,
        )


def test_parity_of_symbols(ours, reference):
    assert np.count_nonzero(ours.y_symbols.numpy() != reference.y_symbols) <= FLIPS
    assert np.count_nonzero(ours.z_symbols.numpy() != reference.z_symbols) <= FLIPS


def test_parity_of_tensors(ours, reference):
    assert np.abs(ours.hyper.numpy() - reference.hyper_params).max() < 2e-3  # the reference is rounded to float16
    assert np.abs(ours.scales.numpy() - reference.scales).max() < 1e-4
    assert np.abs(ours.y_hat.numpy() - reference.y_hat).max() < 1e-4
    assert np.sqrt(np.square(ours.x_hat.numpy() - reference.x_hat).mean()) < 1e-4


def test_parity_of_the_rate(ours, reference):
    assert bits(ours.y_likelihoods).item() == pytest.approx(reference.bits_y, rel=1e-5)
    by_place = -ours.y_likelihoods[0].log2().numpy()
    order = np.tile(np.repeat(table((2, 3, 6)), by_place.shape[0] // 8, axis=0), (1, 2, 2))
    by_step = [by_place[order == step].sum() for step in range(11)]
    assert by_step == pytest.approx(reference.bits_per_step, rel=1e-4)
    # Of z, some symbols lie so far out (probabilities around 1e-8) that the released formula, the difference of two
    # float32 CDFs near 1, is left with no digits and charges 30 bits; Config.likelihood "cdf" does the same. The tails'
    # formula charges what they are worth, here 0.37% less.
    assert bits(ours.z_likelihoods).item() == pytest.approx(reference.bits_z, rel=1e-4)
    symbols = torch.from_numpy(reference.z_symbols).float()
    tails = likelihood(symbols, ours.z_scales)
    assert bits(tails).item() == pytest.approx(reference.bits_z, rel=5e-3)
    well_inside = tails > 1e-4
    assert torch.allclose(ours.z_likelihoods[well_inside], tails[well_inside], rtol=1e-3)


def test_parity_of_forward(ours, reference):
    """Left to itself, the network comes to the same: bits within 1e-4.

    Where a symbol flips, its neighbours follow: with one thread none did and x_hat was within 1e-6 rms, with two
    threads two did and it was 0.007.
    """
    with torch.no_grad():
        forward = ours.model(ours.x)
    likelihoods = forward["likelihoods"]
    assert bits(likelihoods["y"]).item() == pytest.approx(reference.bits_y, rel=1e-4)
    assert bits(likelihoods["z"]).item() == pytest.approx(reference.bits_z, rel=1e-4)
    assert np.sqrt(np.square(forward["x_hat"].numpy() - reference.x_hat).mean()) < 0.02


@pytest.mark.parametrize(
    "arch", ["base-phi", *(pytest.param(arch, marks=pytest.mark.slow) for arch in ("large", "1b"))]
)
def test_parity_of_the_other_models(arch):
    reference = reference_of(arch)
    ours = computed(arch, reference)
    assert np.count_nonzero(ours.y_symbols.numpy() != reference.y_symbols) <= FLIPS
    assert np.count_nonzero(ours.z_symbols.numpy() != reference.z_symbols) <= FLIPS
    assert close(ours.hyper[:, :: reference.channels].numpy(), reference.hyper_params)
    assert close(ours.scales[:, :: reference.channels].numpy(), reference.scales)
    assert close(ours.y_hat[:, :: reference.channels].numpy(), reference.y_hat)
    assert close(ours.x_hat[:, :, :: reference.pixels, :: reference.pixels].numpy(), reference.x_hat)
    assert bits(ours.y_likelihoods).item() == pytest.approx(reference.bits_y, rel=1e-5)
    assert bits(ours.z_likelihoods).item() == pytest.approx(reference.bits_z, rel=1e-4)


def close(ours, theirs):
    """Within float noise, by the spread of the values."""
    assert theirs.std() > 0.1
    return np.abs(ours - theirs).max() < 1e-4 * theirs.std()


# ---- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", ARCHS)
def test_every_architecture_is_imported(arch):
    checkpoint = {f"module.{name}": value for name, value in {**hollow(arch), **BUFFERS}.items()}
    model = from_official(checkpoint, arch)
    assert model.config == ARCHS[arch]
    assert model.config.hyper_placement == "released"
    assert not model.training
    names = official_names(model)
    assert sorted(names.values()) == sorted(manifest(arch))  # each asked for exactly once
    for net in ("g_a.", "g_s.", "h_a.", "h_s."):  # in the order in which they run
        theirs = [name for name in manifest(arch) if name.startswith(net)]
        assert [their for our, their in names.items() if our.startswith(net)] == theirs


@pytest.mark.parametrize("arch", ARCHS)
def test_steps_have_their_adaptors_and_gains(arch):
    names = official_names(from_official(hollow(arch), arch))
    block = ".0.branch.0.weight" if arch == "1b" else ".weight"
    first = ".0.spatial.weight" if arch == "1b" else ".0.weight"
    used = [names[f"adaptors.{k}{first}"].removesuffix(block) for k in range(10)]
    order = ["s1.0", "s2.2", "s2.0", "s2.1", "s3.5", "s3.0", "s3.1", "s3.2", "s3.3", "s3.4"]
    assert used == [f"y_spatial_prior_adaptor_list_{number}" for number in order]
    assert [names[f"gains.{k}.knots"] for k in range(10)] == [f"adaptive_params_list.{k}" for k in range(10)]


def test_names_in_the_parameter_networks_of_1b():
    names = official_names(from_official(hollow("1b"), "1b"))
    for prior, theirs, head in ((0, "y_spatial_prior_s1_s2", 3), (1, "y_spatial_prior_s3", 4)):
        assert names[f"priors.{prior}.before.1.expand.weight"] == f"{theirs}.branch_1.1.branch.1.weight"
        assert names[f"priors.{prior}.after.2.project.bias"] == f"{theirs}.branch_2.2.branch.3.bias"
        assert names[f"priors.{prior}.head.weight"] == f"{theirs}.branch_2.{head}.weight"
        assert names[f"priors.{prior}.tail.1.spatial.bias"] == f"{theirs}.branch_2.{head + 2}.branch.0.bias"


# ---- what is wrong --------------------------------------------------------------------------------------------------


def test_an_unknown_architecture():
    with pytest.raises(UsageError, match=r"'huge'.*base, large, 1b, base-phi"):
        from_official({}, "huge")


def test_missing_names_are_named():
    checkpoint = hollow("base")
    for name in [name for name in checkpoint if name.startswith("context_net")]:
        del checkpoint[name]
    with pytest.raises(WeightsError, match=r"has no context_net\.0\.bias, context_net\.0\.weight, .* and 1 more"):
        from_official(checkpoint, "base")


def test_unknown_names_are_named():
    with pytest.raises(WeightsError, match=r"is no base-phi: it has unknown attn_s1\.conv_k\.bias, .* and 21 more"):
        from_official(hollow("base"), "base-phi")


def test_wrong_shapes_are_named():
    checkpoint = {**hollow("base"), "means_hyper": torch.zeros(1, 192, 1, 1), "adaptive_params_list.0": torch.ones(960)}
    expected = r"adaptive_params_list\.0 of shape \[960\] instead of \[1, 960, 1, 1\], means_hyper .* \[1, 256, 1, 1\]$"
    with pytest.raises(WeightsError, match=expected):
        from_official(checkpoint, "base")


# ---- files ----------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["tiny_base", "tiny_1b"])
def small(request, build, monkeypatch):
    """A tiny model that passes for one of the authors', and its checkpoint."""
    model = build(request.getfixturevalue(request.param))
    monkeypatch.setitem(ARCHS, "tiny", model.config)
    names = official_names(model)
    checkpoint = {names[our]: value.clone() for our, value in model.state_dict().items()}
    for name in checkpoint:
        if name.startswith("adaptive_params_list"):
            checkpoint[name] = checkpoint[name][:, :, None, None]
    return model, {**checkpoint, **BUFFERS}


def test_a_checkpoint_becomes_a_weights_file(small, tmp_path):
    model, checkpoint = small
    torch.save({"state_dict": checkpoint, "epoch": 3}, tmp_path / "theirs.pth.tar")
    import_checkpoint(tmp_path / "theirs.pth.tar", "tiny", tmp_path / "base-0013.safetensors")
    found = weights.find(tmp_path / "base-0013.safetensors")
    assert found.name == "base-0013"
    assert (found.provenance["source"], found.provenance["weights"]) == ("theirs.pth.tar", "state_dict")
    again = load_model(found).model
    assert again.config == replace(model.config, name="base-0013")
    assert again.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base-0013.safetensors", "theirs.pth.tar"]


@pytest.mark.parametrize("stem", ["Base", "-base", "a" * 33, "a b"])
def test_a_name_that_no_file_can_carry(stem, tmp_path):
    with pytest.raises(UsageError, match=f"not '{stem}': the weights file's name is the model's"):
        import_checkpoint(tmp_path / "theirs.pth", "base", tmp_path / f"{stem}.safetensors")


def test_the_name_of_a_released_model(tmp_path):
    with pytest.raises(UsageError, match="lite-1 is a released model, which never changes: the weights file's name"):
        import_checkpoint(tmp_path / "theirs.pth", "base", tmp_path / "lite-1.safetensors")


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("touched",)


@pytest.mark.parametrize("content", [Hostile(), {"means_hyper": Hostile()}, {"model": {"state": Hostile()}}])
def test_code_is_never_run(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(content, "theirs.pth")
    expected = r"theirs\.pth holds more than tensors, (posix|nt)\.mkdir, which is never loaded$"
    with pytest.raises(WeightsError, match=expected) as caught:
        import_checkpoint(Path("theirs.pth"), "base", Path("base.safetensors"))
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.pth"]  # no code has run, nothing is written


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {"model": []}, {"model": {1: torch.zeros(1)}}])
def test_content_that_is_no_state_dict(content, tmp_path):
    torch.save(content, tmp_path / "theirs.pth")
    with pytest.raises(WeightsError, match=r"theirs\.pth holds no state dict"):
        import_checkpoint(tmp_path / "theirs.pth", "base", tmp_path / "base.safetensors")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"\x80\x02nonsense", bytes(1000)])
def test_bytes_that_are_no_checkpoint(content, tmp_path):
    path = tmp_path / "theirs.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"is damaged, or holds more than tensors"):
        import_checkpoint(path, "base", tmp_path / "base.safetensors")


def test_a_checkpoint_that_is_not_there(tmp_path):
    with pytest.raises(WeightsError, match="No such file"):
        import_checkpoint(tmp_path / "theirs.pth", "base", tmp_path / "base.safetensors")
