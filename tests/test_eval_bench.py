"""`hpcm bench`: counts that are known, a row for every size, batch and codec, and the authors' code beside ours."""

import json
import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hpcm import cli
from hpcm.codec.codec import Codec
from hpcm.convert.official import official_names
from hpcm.core.ans import SymbolDecoder
from hpcm.core.engine import CoreEngine
from hpcm.errors import MismatchError, UsageError
from hpcm.eval import machine
from hpcm.eval.bench import bench, forms, reference, runners
from hpcm.eval.bench.agreement import agreement
from hpcm.eval.bench.forms import forms_of, picture, pictures_of
from hpcm.eval.bench.runners import OurCodec, measure
from hpcm.eval.bench.split import coder_seconds
from hpcm.eval.bench.text import text
from hpcm.eval.cost import NETWORKS, kmacs, parameters
from hpcm.eval.machine import Gpu
from hpcm.model.config import BASE, LARGE, NANO
from hpcm.model.file import describe
from hpcm.model.find import find
from hpcm.nn.engine import TorchEngine
from hpcm.nn.hpcm import HPCM
from hpcm.nn.weights import load_model, save

STAND_IN = '''
import json
from pathlib import Path
import torch

class HPCM(torch.nn.Module):
    """Has the authors' names and shapes, and remembers what it is given."""

    def __init__(self):
        super().__init__()
        self.ones = torch.ones((1, 3), device="cuda")
        shapes = json.loads(Path(__file__).with_name("shapes.json").read_text())
        self.table = {name: torch.zeros(shape) for name, shape in shapes.items()}

    def state_dict(self):
        return self.table

    def load_state_dict(self, weights, strict):
        assert all(value.shape == self.table[name].shape for name, value in weights.items())
        self.table.update(weights)

    def update(self, scale_table):
        assert scale_table.shape == (60,)

    def compress(self, x):
        from src.models.coder import Y
        assert x.shape == (1, 3, 256, 512) and float(self.table["means_hyper"].sum()) == 24
        return {"strings": [Y, b"z"], "shape": x.shape}

    def decompress(self, strings, shape):
        return {"x_hat": torch.zeros(shape)}
'''


@pytest.fixture
def weights_file(tmp_path, tiny_base):
    """A file of tiny weights with Base's structure, whose means of z are 3."""
    torch.manual_seed(0)
    model = HPCM(tiny_base)
    model.z_means.data.fill_(3)
    save(model, tmp_path / "tiny.safetensors", {})
    return tmp_path / "tiny.safetensors"


@pytest.fixture
def checkout(tmp_path, tiny_base):
    """A folder that looks like a checkout of the authors' code."""
    models = tmp_path / "checkout" / "src" / "models"
    models.mkdir(parents=True)
    model = HPCM(tiny_base)
    shapes = {their: list(model.state_dict()[own].shape) for own, their in official_names(model).items()}
    (models / "shapes.json").write_text(json.dumps(shapes))
    (models / "HPCM_Base.py").write_text(STAND_IN)
    (models / "coder.py").write_text("Y = b'y'\n")
    return tmp_path / "checkout"


@pytest.fixture
def quick(monkeypatch):
    """Benchmarks without the processes that take the time of a start, and with small products."""
    monkeypatch.setattr(bench, "_start", lambda *_: 0.5)
    monkeypatch.setattr(bench, "GEMM_SIDE", {"cpu": 64})


def test_macs_by_group():
    found = kmacs(NANO)
    assert sum(found.values()) == pytest.approx(16.191, abs=0.001)
    assert found["g_a"] == found["g_s"] == pytest.approx(4.272)
    assert "context fusion" not in found  # psi is the context
    base = kmacs(BASE)
    assert sum(base.values()) == pytest.approx(911.840, abs=0.001)
    assert list(base) == list(NETWORKS.values())


def test_bench(weights_file, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench, "GEMM_SIDE", {"cpu": 256})
    line = ["bench", str(weights_file), "--size", "128x128", "--size", "100x70", "--batch", "1", "--batch", "2"]
    line += ["--repeats", "1", "--threads", "1", "--device", "cpu", "--json", str(tmp_path / "out.json")]
    assert cli.main(line) == 0
    out = capsys.readouterr().out
    (found,) = json.loads((tmp_path / "out.json").read_text())["models"]
    kinds = [(128, 128, 1), (128, 128, 2), (100, 70, 1), (100, 70, 2)]
    assert [(row["width"], row["height"], row["batch"]) for row in found["rows"]] == kinds
    assert out.startswith("tiny.safetensors\n  parameters        ")
    assert "  100x70: symbols not compared: the model isn't exact\n" in out
    for row in found["rows"]:
        assert row["code"] == "tiny-base, floating point"
        assert row["encode_share"] > 0 < row["decode_share"]
        assert row["products"] == "float32"
        assert row["encode_s"] > 0 < row["decode_s"]
    one, two = (row["bytes"] for row in found["rows"][:2])
    assert one < two
    assert found["start_s"] > 0


def test_bench_with_efforts(weights_file, capsys, quick):
    line = ["bench", str(weights_file), "--size", "64x64", "--repeats", "1", "--effort", "0,1", "--threads", "1"]
    assert cli.main(line) == 0
    out = capsys.readouterr().out
    assert "s with effort 0, " in out
    assert "s with effort 1, " in out


def test_an_architecture_with_random_weights(monkeypatch, tmp_path, tiny, quick):
    monkeypatch.setenv("HPCM_WEIGHTS", str(tmp_path))
    monkeypatch.setitem(forms.MODELS, "tiny", tiny)
    assert forms.heading("tiny") == "tiny, random weights"
    found = bench.bench("tiny", [(64, 64)], repeats=1, threads=1)
    assert found.parameters == parameters(tiny) == sum(parameter.numel() for parameter in HPCM(tiny).parameters())


def test_against_the_authors_code(weights_file, checkout, capsys, monkeypatch, tiny_base, quick):
    monkeypatch.setitem(reference.MODELS, "base", replace(tiny_base, name="base"))
    line = ["bench", str(weights_file), "--size", "300x200", "--batch", "2", "--repeats", "1", "--threads", "1"]
    assert cli.main([*line, "--device", "cpu", "--against", str(checkout)]) == 0
    rows = [row.split("|") for row in capsys.readouterr().out.splitlines() if row.startswith("| 300x200 ")]
    codes, first, sizes = ([row[k].strip() for row in rows] for k in (3, 6, 10))
    assert codes == ["tiny-base, exact", "tiny-base, floating point", "the authors' code"]
    assert first[0] == "1.00, 1.00"
    assert sizes[2] == "4"  # of each picture y and z
    assert cli.main([*line, "--against", str(checkout / "src")]) == 1
    assert "is no checkout of any of LIC-HPCM, DCAE, LALIC, DCVC-UF-Intra: it has no src" in capsys.readouterr().err


def test_the_authors_code_gets_the_weights_of_an_exact_model_in_their_own_units(tmp_path, checkout, build, tiny_base):
    """Those of a grid act on integers."""
    plain = build(tiny_base)
    save(plain, tmp_path / "plain.safetensors", {})
    with forms_of(describe(tmp_path / "plain.safetensors"), both=True) as (exact, given):
        assert (exact.is_exact, given.is_exact) == (True, False)
        floats = forms.floating(exact.weights)
    name = "priors.0.head.weight"
    units = plain.state_dict()[name].abs().max() / 64  # the weights have 8 bits
    assert torch.allclose(floats.state_dict()[name], plain.state_dict()[name], atol=float(units))


def test_models_that_the_authors_have():
    assert reference.architecture(replace(LARGE, name="mine", hyper_placement="released")) == "large"
    with pytest.raises(UsageError, match="no model like nano"):
        reference.architecture(NANO)


def test_an_exact_model_is_timed_in_floating_point_too():
    with forms_of(find("nano"), both=True) as (exact, floats):
        assert [form.label for form in (exact, floats)] == ["nano-1, exact", "nano-1, floating point"]
        model = load_model(floats.weights).model
        assert not model.config.carrier
        images = [OurCodec(Codec([form.weights])).codec for form in (exact, floats)]
        one, two = (np.asarray(codec.decompress(codec.compress(picture((128, 64)))), np.int16) for codec in images)
    assert np.abs(one - two).mean() < 2  # the same weights


def test_a_batch_is_coded_side_by_side(monkeypatch):
    """All pictures of a batch are in work before the first is done."""
    codec, waiting = Codec([find("nano")], threads=1), threading.Barrier(3, timeout=60)
    compress, decompress = codec.compress, codec.decompress

    def together(work):
        def worked(*args, **kwargs):
            waiting.wait()
            return work(*args, **kwargs)

        return worked

    monkeypatch.setattr(codec, "compress", together(compress))
    monkeypatch.setattr(codec, "decompress", together(decompress))
    runner, pictures = OurCodec(codec), pictures_of((64, 64), 3)
    files = runner.encode(runner.load(pictures))
    assert files == [compress(image, quality=runners.QUALITY) for image in pictures]
    assert runner.size(files) == sum(map(len, files))
    assert [np.array_equal(image, decompress(file)) for image, file in zip(runner.decode(files), files, strict=True)]


def test_symbols_are_compared():
    found = agreement(find("nano"), "cpu", 1, pictures_of((200, 100), 2))
    assert found == "symbols equal in core and torch; pixels differ by 0 of 255 at most"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"checksums": [1, 2, 3]}, "core and torch make different symbols in scale 1 of 3 of the same y, which core"),
        ({"parts": [b"", b"", b""]}, "make different bytes of the same symbols"),
        ({"y_hat": np.zeros(1)}, "make different y_hat from the same symbols"),
    ],
)
def test_symbols_that_differ_are_an_error(monkeypatch, capsys, quick, change, said):
    encode = CoreEngine.encode
    monkeypatch.setattr(CoreEngine, "encode", lambda *args: encode(*args)._replace(**change))
    with pytest.raises(MismatchError, match=said):
        agreement(find("nano"), "cpu", 1, pictures_of((64, 64), 2))
    assert cli.main(["bench", "nano", "--size", "64x64", "--repeats", "1", "--device", "cpu"]) == 1
    assert said in capsys.readouterr().err


def test_what_decodes_to_other_symbols_is_an_error(monkeypatch):
    decode = TorchEngine.decode
    monkeypatch.setattr(TorchEngine, "decode", lambda *args: decode(*args)._replace(checksum=1))
    with pytest.raises(MismatchError, match="what one encoded of the y of core decodes to other symbols"):
        agreement(find("nano"), "cpu", 1, pictures_of((64, 64), 2))


def test_a_file_of_a_batch_that_the_other_engine_cant_open_is_an_error(monkeypatch):
    """Torch opens what it has made, be it right or not."""

    def encode(self, pictures):
        files = list(map(self.codec.compress, pictures))
        monkeypatch.setattr(CoreEngine, "decode", lambda *args: decode(*args)._replace(checksum=1))
        return files

    decode = CoreEngine.decode
    monkeypatch.setattr(OurCodec, "encode", encode)
    with pytest.raises(MismatchError, match="the decoded symbols of the tile at"):
        agreement(find("nano"), "cpu", 1, pictures_of((64, 64), 2))


def test_what_only_torch_computes_isnt_compared(tmp_path, build, tiny_base):
    save(build(tiny_base), tmp_path / "plain.safetensors", {})
    with forms_of(describe(tmp_path / "plain.safetensors"), both=True) as (exact, _):
        found = agreement(exact.weights, "cpu", 1, pictures_of((64, 64), 2))
    assert found == "symbols not compared: the native library can't run the model, it has attention"


def test_warm_up_and_repeats(monkeypatch):
    class Counting:
        products = "float32"
        encoded = decoded = 0

        def load(self, pictures):
            return len(pictures)

        def encode(self, loaded):
            self.encoded += 1
            return loaded

        def decode(self, coded):
            self.decoded += 1

        def size(self, coded):
            return 10 * coded

    seconds = iter([(3.0, None), (1.0, None), (2.0, None), (6.0, None), (4.0, None), (5.0, None)])
    monkeypatch.setitem(runners.WARM_UPS, "cpu", 2)
    runner = Counting()
    found = measure(runner, pictures_of((8, 8), 2), 3, "cpu", lambda work, device: (work(), next(seconds))[1])
    assert (found.encode_s, found.decode_s, found.bytes) == (2, 5, 20)
    assert runner.encoded == runner.decoded == 2 + 3


def test_too_little_memory_is_a_line():
    class Large:
        def load(self, pictures):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    with pytest.raises(UsageError, match="the GPU has too little memory for a batch of 8 of 64x32: take a smaller"):
        measure(Large(), pictures_of((64, 32), 8), 1, "cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_a_line(capsys):
    assert cli.main(["bench", "nano", "--device", "cuda", "--batch", "1"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("hpcm: error: device cuda can't be used: ")


def test_no_pictures_are_no_batch(capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main(["bench", "nano", "--batch", "0"])
    assert exit.value.code == 2
    assert "'0' is no whole number from 1" in capsys.readouterr().err


def test_the_entropy_coder_alone(monkeypatch):
    """It decodes all symbols of a file, y's and z's, in each run."""
    weights, popped = find("nano"), []
    pop = SymbolDecoder.pop
    codec = Codec([weights])
    data = codec.compress(picture((64, 64)))
    monkeypatch.setattr(SymbolDecoder, "pop", lambda self, indexes: popped.append(len(indexes)) or pop(self, indexes))
    assert coder_seconds(weights, data, "cpu", 2) > 0
    config = codec.engine.config
    assert popped[-2:] == [4 * 4 * config.M + config.N] * 2


def test_a_gpu_in_the_text(quick):
    found = bench.bench("nano", [(64, 64)], repeats=1, threads=1)
    gpu = Gpu("NVIDIA H200", 140 << 30, "2.13.0", "13.0", None)
    row = replace(found.rows[0], gpu_bytes=3 << 29, products="float16")
    on_gpu = replace(found, device="cuda", gpu=gpu, peaks={"float32": 5e4, "float16": 7e5}, rows=[row])
    lines = text(on_gpu).splitlines()
    assert "  device            NVIDIA H200, 140 GiB, torch 2.13.0, CUDA 13.0, 1 threads" in lines
    assert "  peak              50,000 GFLOP/s in float32, 700,000 GFLOP/s in float16" in lines
    heads, _, cells = ([cell.strip() for cell in line.split("|")] for line in lines if line.startswith("|"))
    assert dict(zip(heads, cells, strict=True))["GPU memory"] == "1.50 GiB"
    assert dict(zip(heads, cells, strict=True))["of the peak"].endswith("of float16")


def test_the_driver(monkeypatch):
    monkeypatch.setattr(machine, "printed", lambda *_: "580.65.06\n580.65.06\n")
    assert machine.driver_version() == "580.65.06"
    monkeypatch.setattr(machine, "printed", lambda *_: "")
    assert machine.driver_version() is None
    monkeypatch.undo()
    assert machine.printed("surely-no-such-program") == machine.printed("false") == ""


def test_the_gpu(monkeypatch):
    properties = SimpleNamespace(name="NVIDIA H200", total_memory=140 << 30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(machine, "driver_version", lambda: "580.65.06")
    assert machine.gpu("cuda") == Gpu("NVIDIA H200", 140 << 30, torch.__version__, torch.version.cuda, "580.65.06")
    assert machine.gpu("cpu") is None


def test_the_memory_of_a_codec_is_its_own(monkeypatch, quick):
    """What others have taken before isn't."""
    begun = []
    monkeypatch.setattr(bench, "gpu_memory", lambda device: 100)
    monkeypatch.setattr(bench, "gpu_peak", lambda device: 100 + 7 * len(begun))
    monkeypatch.setattr(bench, "reset_gpu_peak", begun.append)
    found = bench.bench("nano", [(64, 64)], repeats=1, threads=1, batches=[1, 2])
    assert [row.gpu_bytes for row in found.rows] == [7, 14]
    assert begun == ["cpu", "cpu"]
