"""The ONNX Runtime engine: the same symbols and latents as torch's, and a plain word where it can't be used."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import hpcm
from hpcm.codec.api import load
from hpcm.codec.pixels import cropped
from hpcm.engine import choice, onnx
from hpcm.engine.export import graphs
from hpcm.engine.torch import save
from hpcm.errors import MismatchError, UsageError, WeightsError
from hpcm.image.picture import from_image
from hpcm.nn.exact.make_exact import make_exact

onnxruntime = onnx.runtime()
OFF, ALL = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL, onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
session = onnx.session


@pytest.fixture(scope="module", params=["nano", "lite"])
def name(request):
    return request.param


@pytest.fixture(scope="module")
def torchs(name):
    return load(name, engine="torch").networks


@pytest.fixture(scope="module")
def onnxs(name):
    return load(name, engine="onnx").networks


@pytest.fixture(scope="module")
def photograph():
    path = f"{__file__.rpartition('test_onnx')[0]}data/kodim23.png"
    return Image.open(path).crop((100, 60, 356, 188))


@pytest.fixture(scope="module")
def y(torchs, photograph):
    """The latent of a crop of 256 x 128 pixels."""
    with torch.inference_mode():
        return torchs.analyse(torchs.arrays.put(cropped(from_image(photograph), (0, 0, 256, 128))))


@torch.inference_mode()
def replayed(networks, symbols, size, level):
    """All scales that a decoder computes when it is fed with given symbols, and y_hat."""
    asked, waiting = [], iter(symbols)

    def pop(scales):
        asked.append(np.array(scales))
        return next(waiting).values

    y_hat = networks.arrays.get(networks.decode(pop, size, level))
    return [*asked, y_hat]


@torch.inference_mode()
def symbols_of(networks, y, level):
    return networks.encode(y, level)[0]


def same(these, those):
    return all(np.array_equal(a, b) for a, b in zip(these, those, strict=True))


def test_levels_as_torch(name, torchs, onnxs, y):
    for level in range(0, 64, 3 if name == "nano" else 9):
        symbols = symbols_of(torchs, y, level)
        expected = replayed(torchs, symbols, (8, 16), level)
        assert same(expected, replayed(onnxs, symbols, (8, 16), level)), level
        assert np.abs(expected[-1]).max() > 0


@pytest.mark.parametrize(("level", "threads"), [(OFF, 1), (OFF, 2), (ALL, 1), (ALL, 2)])
def test_optimised_or_not_and_threads(name, torchs, y, monkeypatch, level, threads):
    monkeypatch.setattr(onnx, "session", lambda *args: session(*args, graph_optimization_level=level))
    networks = load(name, engine="onnx", threads=threads).networks
    symbols = symbols_of(torchs, y, 50)
    assert same(replayed(torchs, symbols, (8, 16), 50), replayed(networks, symbols, (8, 16), 50))


def test_the_comparison_can_fail(torchs, onnxs, y):
    symbols = symbols_of(torchs, y, 50)
    assert not same(replayed(torchs, symbols, (8, 16), 50), replayed(onnxs, symbols, (8, 16), 51))


def test_alone_and_in_a_batch(onnxs):
    rng = np.random.default_rng(0)
    M, level = onnxs.config.M, np.array([40, 3, 12])
    context = rng.normal(0, 3, (3, 2 * M, 8, 12)).astype(np.float32)
    y_hat = rng.normal(0, 9, (3, M, 8, 12)).astype(np.float32)
    z_hat = rng.normal(0, 9, (3, onnxs.config.N, 2, 3)).astype(np.float32)
    together = onnxs.hyper_synthesise(z_hat)
    assert same(together, [onnxs.hyper_synthesise(z_hat[i : i + 1])[0] for i in range(3)])
    for step in onnxs.plan((8, 12)).steps[1:]:
        together = onnxs.parameters_of(step, context, y_hat, level)
        parts = [slice(i, i + 1) for i in range(3)]
        assert same(together, [onnxs.parameters_of(step, context[p], y_hat[p], level[p])[0] for p in parts])


def test_either_opens_the_others_files(name, photograph):
    one, other = (load(name, engine=engine) for engine in ("torch", "onnx"))
    for encoder, decoder in ((one, other), (other, one)):
        data = encoder.compress(photograph, quality=70)
        pixels = [np.asarray(codec.decompress(data)).astype(int) for codec in (encoder, decoder)]
        assert np.abs(pixels[0] - pixels[1]).max() <= 1


# ---- the probe ------------------------------------------------------------------------------------------------------


class Inexact:
    """A session whose inputs or sums lose bits."""

    def __init__(self, made, bits, where):
        self.made, self.bits, self.where = made, bits, where

    def run(self, names, feeds):
        feeds = {key: self.short(value) for key, value in feeds.items()} if self.where == "inputs" else feeds
        (out,) = self.made.run(names, feeds)
        return [self.short(out)] if self.where == "sums" else [out]

    def short(self, x):
        mantissa, exponent = np.frexp(x)
        return np.ldexp(np.round(np.ldexp(mantissa, self.bits)), exponent - self.bits).astype(np.float32)


@pytest.mark.parametrize(("bits", "where"), [(11, "inputs"), (8, "inputs"), (11, "sums"), (23, "sums")])
def test_inexact_kernels_are_found(name, monkeypatch, bits, where):
    monkeypatch.setattr(onnx, "session", lambda *args: Inexact(session(*args), bits, where))
    with pytest.raises(MismatchError, match="this machine's ONNX Runtime arithmetic isn't exact in layer"):
        load(name, engine="onnx")


def test_exact_kernels_pass_that(name, monkeypatch):
    monkeypatch.setattr(onnx, "session", lambda *args: Inexact(session(*args), 24, "sums"))
    load(name, engine="onnx")


# ---- models of one's own --------------------------------------------------------------------------------------------


@pytest.fixture
def exact(build, tiny):
    """A small model with one set of all that a model may have, also what the bundled ones lack."""
    x = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    return make_exact(build(tiny), [(x, torch.tensor([30.0]))], "float32")


def test_a_model_with_graphs_needs_no_torch(exact, tmp_path, photograph, monkeypatch):
    path = tmp_path / "mine.safetensors"
    save(exact, path, {}, graphs=graphs(exact))
    theirs = load(path, engine="torch")
    data = theirs.compress(photograph, quality=60)
    expected = theirs.decompress(data)
    monkeypatch.setitem(sys.modules, "torch", None)
    codec = load(path)
    assert isinstance(codec.networks, onnx.OnnxNetworks)
    found = codec.decompress(data)
    assert np.abs(np.asarray(found).astype(int) - np.asarray(expected)).max() <= 1


def test_steps_scales_and_context_nets(build, tiny, tmp_path, photograph):
    """Other ablations: what a configuration can be without attention."""
    x = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    for changes in ({"context_net": True}, {"steps": (1, 1, 2)}, {"fusion": "none", "refine": True}):
        model = make_exact(build(replace(tiny, **changes)), [(x, torch.tensor([30.0]))], "float32")
        save(model, tmp_path / "a.safetensors", {}, graphs=graphs(model))
        one, other = (load(tmp_path / "a.safetensors", engine=engine) for engine in ("torch", "onnx"))
        data = one.compress(photograph, quality=60)
        assert np.abs(np.asarray(one.decompress(data)).astype(int) - np.asarray(other.decompress(data))).max() <= 1


def test_a_weights_file_without_graphs(exact, tmp_path, monkeypatch):
    path = tmp_path / "mine.safetensors"
    save(exact, path, {})
    assert not isinstance(load(path).networks, onnx.OnnxNetworks)
    with pytest.raises(UsageError, match=r"can't run .*: its weights file has no graphs"):
        load(path, engine="onnx")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UsageError, match=r"needs PyTorch here \(its weights file has no graphs .*pip install 'hpcm"):
        load(path)


def spoiled(exact):
    """Graphs that don't fit the weights, by what is wrong with them."""
    good = graphs(exact)
    return {
        "one is missing": {key: value for key, value in good.items() if key != "prior-0"},
        "another's": {**good, "g_s": good["g_a"]},
        "damaged": {**good, "h_s": good["h_s"][:-40]},
        "no graph": {**good, "adaptor-1": b"what is this"},
    }


@pytest.mark.parametrize("what", ["one is missing", "another's", "damaged", "no graph"])
def test_graphs_that_dont_fit(exact, tmp_path, what):
    path = tmp_path / "mine.safetensors"
    save(exact, path, {}, graphs=spoiled(exact)[what])
    with pytest.raises(WeightsError, match=r"mine\.safetensors.* graph ") as caught:
        used(path)
    assert "\n" not in str(caught.value)


def used(path):
    networks = load(path).networks
    networks.synthesise(networks.decode(zeros, (8, 16), 30))


def zeros(scales):
    return np.zeros(len(scales), np.int32)


# ---- what can't be --------------------------------------------------------------------------------------------------


def test_models_that_it_does_not_suit(build, tiny, tiny_base, tmp_path):
    x = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    wide = make_exact(build(tiny), [(x, torch.tensor([30.0]))], "float64")
    attention = make_exact(build(tiny_base), [(x, torch.zeros(1))], "float64")
    for model, why in ((build(tiny), "isn't exact"), (wide, "float64"), (attention, "attention")):
        save(model, tmp_path / "a.safetensors", {})
        with pytest.raises(UsageError, match=f"ONNX Runtime can't run tiny.*: .*{why}"):
            load(tmp_path / "a.safetensors", engine="onnx")
        with pytest.raises(WeightsError, match=why):
            graphs(model)
        assert load(tmp_path / "a.safetensors").networks.config.name == model.config.name  # by torch


def test_a_gpu_is_torchs(monkeypatch):
    with pytest.raises(UsageError, match="ONNX Runtime can't run nano-1: it computes on the CPU, not on cuda"):
        hpcm.load("nano", "cuda", engine="onnx")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="device cuda can't be used"):
            hpcm.load("nano", "cuda")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UsageError, match=r"nano-1 needs PyTorch here .*not on cuda"):
        hpcm.load("nano", "cuda")


FORKED = """
import gc, os, signal, time
import hpcm
from PIL import Image

image = Image.linear_gradient("L").convert("RGB")
codec = hpcm.load("nano", threads=2)
data = codec.compress(image)
child = os.fork()
if not child:
    codec.decompress(data)
    codec = None
    gc.collect()  # frees the networks
    os._exit(0)
until = time.monotonic() + 60
while os.waitpid(child, os.WNOHANG) == (0, 0):
    if time.monotonic() > until:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        raise SystemExit("the child hangs")
    time.sleep(0.05)
codec.decompress(data)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system doesn't fork")
def test_a_codec_after_a_fork():
    """The child has none of the threads of the parent's sessions: it neither waits for them to compute nor to end."""
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_an_old_onnxruntime(monkeypatch):
    class Options:
        pass

    monkeypatch.setattr(onnxruntime, "SessionOptions", Options)
    with pytest.raises(UsageError, match=r"onnxruntime .* is too old: 1.20 or later"):
        hpcm.load("nano")


def test_no_such_engine():
    with pytest.raises(UsageError, match="engine is 'tpu': it must be one of auto, onnx, torch"):
        hpcm.load("nano", engine="tpu")


def test_without_onnxruntime_torch_serves(monkeypatch):
    monkeypatch.setattr(choice, "find_spec", lambda name: None if name == "onnxruntime" else True)
    assert not isinstance(load("nano").networks, onnx.OnnxNetworks)
