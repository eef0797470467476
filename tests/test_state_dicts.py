"""What training scripts save: where the parameters lie, how wrappers change names, which of several sets is taken."""

import argparse
from collections import OrderedDict, defaultdict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hpcm.convert.official import ARCHS, import_checkpoint, official_names, read
from hpcm.errors import WeightsError


@pytest.fixture
def model(tiny_base, build, monkeypatch):
    """A tiny model that passes for one of the authors'."""
    monkeypatch.setitem(ARCHS, "tiny", tiny_base)
    return build(tiny_base)


@pytest.fixture
def weights(model):
    """Its parameters as the authors save them."""
    names = official_names(model)
    shaped = {names[ours]: value.clone() for ours, value in model.state_dict().items()}
    for name in shaped:
        if name.startswith("adaptive_params_list"):
            shaped[name] = shaped[name][:, :, None, None]
    return shaped


def other(weights):
    """Weights of the same shapes: recognised by their sign."""
    return {name: -value for name, value in weights.items()}


def with_prefix(prefix, weights):
    return {f"{prefix}{name}": value for name, value in weights.items()}


OPTIMIZER = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]}

SHAPES = {  # what lies around the weights
    "bare": lambda w: w,
    "an ordered dictionary": lambda w: OrderedDict(w),
    "parameters": lambda w: {name: torch.nn.Parameter(value) for name, value in w.items()},
    "net": lambda w: {"net": w},
    "model": lambda w: {"model": w, "optimizer": OPTIMIZER, "epoch": 3},
    "model_state_dict": lambda w: {"model_state_dict": w, "optimizer_state_dict": OPTIMIZER},
    "nested": lambda w: {"checkpoint": {"state_dict": {"model": w}}, "loss": 0.5},
    "a list": lambda w: [w, OPTIMIZER],
    "numbers among them": lambda w: {**w, "epoch": 3},
    "DDP": lambda w: with_prefix("module.", w),
    "compiled": lambda w: with_prefix("_orig_mod.", w),
    "compiled, then DDP": lambda w: {"state_dict": with_prefix("module._orig_mod.", w)},
    "a compiled part": lambda w: {name.replace("g_a.", "g_a._orig_mod.module.", 1): value for name, value in w.items()},
    "a training module": lambda w: {"state_dict": {**with_prefix("model.", w), "loss.vgg.weight": torch.zeros(3)}},
    "moments of an optimizer": lambda w: {"model": w, "optim": {"exp_avg": other(w)}},
    "twice the same": lambda w: {"a": w, "b": {name: value.clone() for name, value in w.items()}},
    "one under two keys": lambda w: {"a": w, "b": w},
}


def imported(path, content, **options):
    """The model of what is saved, the keys of its weights, and the notes."""
    torch.save(content, path / "theirs.pth")
    notes = []
    model, where = read(path / "theirs.pth", "tiny", "mine", on_note=notes.append, **options)
    return model, where, notes


def same(one, two):
    return all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("shape", SHAPES)
def test_the_parameters_are_found(shape, model, weights, tmp_path):
    taken, _, notes = imported(tmp_path, SHAPES[shape](weights))
    assert same(taken, model)
    assert notes == []


AVERAGES = {  # keys of the averaged weights and what lies around both
    "ema": lambda w, average: {"state_dict": w, "ema": average},
    "state_dict_ema": lambda w, average: {"state_dict": w, "state_dict_ema": average},
    "EMA.shadow": lambda w, average: {"EMA": {"decay": 0.99, "shadow": average}, "model": w},
    "state_dict.ema_model.module": lambda w, average: {
        "state_dict": {**with_prefix("model.", w), **with_prefix("ema_model.module.", average)}
    },
    "second.module": lambda w, average: {
        "first": w,
        "second": {"n_averaged": torch.tensor(7), **with_prefix("module.", average)},  # torch's AveragedModel
    },
}


@pytest.mark.parametrize("where", AVERAGES)
def test_averaged_weights_are_taken_if_they_are_asked_for(where, model, weights, tmp_path):
    content = AVERAGES[where](weights, other(weights))
    plain, _, notes = imported(tmp_path, content)
    assert same(plain, model)
    assert len(notes) == 1
    assert notes[0].endswith(f"; {where}: averaged weights, which --ema takes")
    averaged, keys, notes = imported(tmp_path, content, ema=True)
    assert keys == where
    assert torch.equal(averaged.z_means, -model.z_means)
    assert len(notes) == 1
    assert notes[0].startswith(f"the weights are those of {where}; ")


def test_averaged_weights_alone_are_taken(model, weights, tmp_path):
    taken, where, notes = imported(tmp_path, {"ema": weights})
    assert same(taken, model)
    assert (where, notes) == ("ema", ["the weights are those of ema, averaged ones: there are no others"])
    assert imported(tmp_path, {"ema": weights}, ema=True)[2] == []


def test_no_averaged_weights_that_fit(model, weights, tmp_path):
    with pytest.raises(WeightsError, match=r"no averaged weights that fit, only the checkpoint itself$"):
        imported(tmp_path, weights, ema=True)
    del (part := other(weights))["means_hyper"]
    with pytest.raises(WeightsError, match=r"only model; ema: it has no means_hyper$"):
        imported(tmp_path, {"model": weights, "ema": part}, ema=True)
    assert same(imported(tmp_path, {"model": weights, "ema": part})[0], model)


@pytest.mark.parametrize("ema", [False, True])
def test_two_sets_that_fit_are_an_error_that_lists_them(weights, model, ema, tmp_path):
    keys = ("ema.fast", "ema.slow") if ema else ("generator", "teacher")
    content = {"generator": weights, "teacher": other(weights), "ema": {"fast": {**weights}, "slow": other(weights)}}
    with pytest.raises(WeightsError, match=rf"several sets of weights in it fit: {keys[0]}, {keys[1]}; save one of"):
        imported(tmp_path, content, ema=ema)


def test_what_does_not_fit_is_named(model, weights, tmp_path):
    with pytest.raises(WeightsError, match=r"is no tiny: it has unknown lpips\.weight$"):
        imported(tmp_path, {**weights, "lpips.weight": torch.zeros(2)})
    with pytest.raises(WeightsError, match=r"is no tiny: it has twice context_net\.0\.bias$"):
        imported(tmp_path, {**weights, "context_net._orig_mod.0.bias": weights["context_net.0.bias"]})
    with pytest.raises(WeightsError, match=r"its names are those of hpcm's own networks: .*load_state_dict takes them"):
        imported(tmp_path, {"state_dict": model.state_dict()})


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_other_types_become_float32(model, weights, dtype, tmp_path):
    taken, _, _ = imported(tmp_path, {name: value.to(dtype) for name, value in weights.items()})
    assert {value.dtype for value in taken.state_dict().values()} == {torch.float32}
    assert torch.allclose(taken.z_means, model.z_means, rtol=1e-2)


@pytest.mark.parametrize(
    ("what", "kind"),
    [
        (np.float64(0.5), r"numpy\.\S+\.scalar"),
        (argparse.Namespace(batch=32), r"argparse\.Namespace"),
        (torch.nn.Conv2d(1, 1, 1), r"torch\.nn\.modules\.conv\.Conv2d"),
        (defaultdict(list), r"collections\.defaultdict"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_what_is_more_than_tensors_is_named_and_how_to_save_them(weights, what, kind, zipped, tmp_path):
    path = tmp_path / "theirs.pth"
    torch.save({"state_dict": weights, "what": what}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        WeightsError, match=rf"more than tensors, {kind}, which is never .*weights_only=False"
    ) as caught:
        read(path, "tiny", "mine")
    assert "\n" not in str(caught.value)


def test_a_forged_checkpoint_takes_no_time(weights, model, tmp_path):
    """Lists of the same list over and over, and a dictionary inside itself."""
    lists = []
    for _ in range(8):
        lists = [lists] * 100
    content = {"lists": lists, "state_dict": weights}
    content["itself"] = content
    assert same(imported(tmp_path, content)[0], model)


def test_safetensors(model, weights, tmp_path):
    path = tmp_path / "theirs.safetensors"
    save_file({name: value.contiguous() for name, value in with_prefix("module.", weights).items()}, path)
    import_checkpoint(path, "tiny", tmp_path / "mine.safetensors")
    assert same(read(path, "tiny", "mine").model, model)
    with pytest.raises(WeightsError, match="is a weights file of hpcm already: --model takes it"):
        read(tmp_path / "mine.safetensors", "tiny", "again")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="is damaged"):
        read(path, "tiny", "mine")
    with pytest.raises(WeightsError, match="No such file"):
        read(tmp_path / "none.safetensors", "tiny", "mine")


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        (lambda value: (value * 100).int(), "int32"),
        (lambda value: value > 0, "bool"),
        (lambda value: value.to(torch.complex64), "complex64"),
        (lambda value: value.to_sparse(), "sparse_coo"),
    ],
)
def test_what_is_no_parameter(weights, tmp_path, changed, kind):
    """Integers would be taken for weights, of complex numbers the imaginary part would be dropped."""
    weights["means_hyper"] = changed(weights["means_hyper"])
    message = f"it has what isn't plain floating-point numbers: means_hyper, {kind}$"
    with pytest.raises(WeightsError, match=message):
        imported(tmp_path, weights)
