"""`hpcm bench`: counts that are known, a line for every number, and the authors' code beside ours."""

import json
from dataclasses import replace

import pytest
import torch

from hpcm import cli
from hpcm.convert.official import official_names
from hpcm.errors import UsageError
from hpcm.eval import bench, reference
from hpcm.model.config import BASE, LARGE, NANO
from hpcm.nn.hpcm import HPCM
from hpcm.nn.weights import save

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
        assert x.shape == (1, 3, 256, 512) and float(self.table["means_hyper"].sum()) == 24
        return {"strings": [b"y", b"z"], "shape": x.shape}

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
    return tmp_path / "checkout"


def test_macs_by_group():
    found = bench.kmacs(NANO)
    assert sum(found.values()) == pytest.approx(16.191, abs=0.001)
    assert found["g_a"] == found["g_s"] == pytest.approx(4.272)
    assert "context fusion" not in found  # psi is the context
    base = bench.kmacs(BASE)
    assert sum(base.values()) == pytest.approx(911.840, abs=0.001)
    assert list(base) == list(bench.NETWORKS.values())


def test_bench(weights_file, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(bench, "GEMM_SIDE", 256)
    line = ["bench", str(weights_file), "--size", "256x256", "--size", "300x200", "--repeats", "1"]
    assert cli.main([*line, "--json", str(tmp_path / "out.json")]) == 0
    out = capsys.readouterr().out
    (found,) = json.loads((tmp_path / "out.json").read_text())["models"]
    assert [(speed["width"], speed["height"]) for speed in found["speeds"]] == [(256, 256), (300, 200)]
    assert out.startswith("tiny.safetensors\n  parameters        ")
    assert len(out.splitlines()) == 3 + len(found["kmacs"]) + 2 + 2 * 3
    for speed in found["speeds"]:
        assert 0 < speed["encode_share"] < 2
        assert speed["encode_s"] > 0 < speed["decode_s"]


def test_bench_with_efforts(weights_file, capsys, monkeypatch):
    monkeypatch.setattr(bench, "GEMM_SIDE", 64)
    line = ["bench", str(weights_file), "--size", "64x64", "--repeats", "1", "--effort", "0,1"]
    assert cli.main(line) == 0
    out = capsys.readouterr().out
    assert "s  with effort 0, " in out
    assert "s  with effort 1, " in out


def test_an_architecture_with_random_weights(monkeypatch, tmp_path, tiny):
    monkeypatch.setenv("HPCM_WEIGHTS", str(tmp_path))
    monkeypatch.setitem(bench.MODELS, "tiny", tiny)
    assert bench.heading("tiny") == "tiny, random weights"
    monkeypatch.setattr(bench, "GEMM_SIDE", 64)
    found = bench.bench("tiny", [(64, 64)], repeats=1)
    assert found.parameters == sum(parameter.numel() for parameter in HPCM(tiny).parameters())


def test_against_the_authors_code(weights_file, checkout, capsys, monkeypatch, tiny_base):
    monkeypatch.setitem(reference.MODELS, "base", replace(tiny_base, name="base"))
    monkeypatch.setattr(bench, "GEMM_SIDE", 64)
    line = ["bench", str(weights_file), "--size", "300x200", "--repeats", "1", "--against"]
    assert cli.main([*line, str(checkout)]) == 0
    assert capsys.readouterr().out.count("the authors' code 0.0") == 2
    assert cli.main([*line, str(checkout / "src")]) == 1
    assert "is no checkout of LIC-HPCM, DCAE or LALIC: it has no src/models" in capsys.readouterr().err


def test_models_that_the_authors_have():
    assert reference.architecture(replace(LARGE, name="mine", hyper_placement="released")) == "large"
    with pytest.raises(UsageError, match="no model like nano"):
        reference.architecture(NANO)
