"""Checkouts of other codecs: stand-ins of their form are counted and timed, what isn't one is refused."""

import json
import sys

import pytest

from hpcm import cli
from hpcm.errors import UsageError
from hpcm.eval import bench
from hpcm.eval.learned import LearnedBaseline
from hpcm.nn.hpcm import HPCM
from hpcm.nn.weights import save

LAYERS = "self.net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 2, stride=2), torch.nn.Conv2d(8, 4, 1))"
DCAE = f"""
import torch
class DCAE(torch.nn.Module):
    def __init__(self):
        super().__init__()
        {LAYERS}
        self.updated = False
    def update(self):
        self.updated = True
    def forward(self, x):
        return self.net(x)
    def compress(self, x):
        assert self.updated and x.shape == (1, 3, 256, 384) and 0 < x.max() <= 1 and x[..., 200:, :].max() == 0
        return {{"strings": [[b"yyyy"], [b"z"]], "shape": self(x).shape[2:]}}
    def decompress(self, strings, shape):
        assert strings == [[b"yyyy"], [b"z"]] and shape == (128, 192)
        return {{"x_hat": torch.zeros(1, 3, 256, 384)}}
"""
LALIC = f"""
import torch
class LALIC(torch.nn.Module):
    def __init__(self):
        super().__init__()
        load_biwkv4()
        {LAYERS}
    def forward(self, x):
        return RUN_BiWKV4(1, 1, x, self.net(x))
def load_biwkv4():
    raise RuntimeError("no CUDA")
"""


def checkout(folder, file, code):
    (folder / "models").mkdir(parents=True)
    (folder / "models" / f"{file}.py").write_text(code)
    return folder


@pytest.mark.parametrize(("file", "code"), [("dcae", DCAE), ("lalic", LALIC)])
def test_parameters_and_kmacs(tmp_path, file, code):
    other = LearnedBaseline(checkout(tmp_path, file, code))
    assert other.name == file.upper()
    assert other.parameters == 8 * 12 + 8 + 4 * 8 + 4
    assert other.kmacs == pytest.approx((8 * 12 + 4 * 8) / 4 / 1000)
    assert not any(name.split(".")[0] == "models" for name in sys.modules)


def test_they_stand_beside_ours(tmp_path, tiny, capsys, monkeypatch):
    monkeypatch.setattr(bench, "GEMM_SIDE", 64)
    save(HPCM(tiny), tmp_path / "tiny.safetensors", {})
    line = [
        "bench",
        str(tmp_path / "tiny.safetensors"),
        "--size",
        "300x200",
        "--repeats",
        "1",
        "--device",
        "cpu",
        "--threads",
        "1",
    ]
    line += ["--json", str(tmp_path / "out.json"), "--against", str(checkout(tmp_path / "a", "dcae", DCAE))]
    assert cli.main([*line, "--against", str(checkout(tmp_path / "b", "lalic", LALIC))]) == 0
    lines = capsys.readouterr().out.splitlines()[-4:]
    assert lines[0] == "    DCAE: 0.000 M parameters, 0.03 kMACs per pixel, random weights, 5 bytes"
    assert [text.split()[0] for text in lines[1:3]] == ["encode", "decode"]
    assert lines[1].endswith(" times as long")
    assert lines[3].endswith("random weights; not timed: its WKV kernel needs CUDA")
    dcae, lalic = json.loads((tmp_path / "out.json").read_text())["models"][0]["speeds"][0]["baselines"]
    assert dcae["seconds"]["encode_s"] > 0 < dcae["seconds"]["decode_s"]
    assert lalic["parameters"] == dcae["parameters"]
    assert lalic["seconds"] is None


def test_what_is_no_checkout_is_refused(tmp_path, tiny, capsys):
    with pytest.raises(UsageError, match=r"no checkout of DCAE or LALIC: it has none of models/dcae\.py"):
        LearnedBaseline(tmp_path)
    save(HPCM(tiny), tmp_path / "tiny.safetensors", {})
    assert cli.main(["bench", str(tmp_path / "tiny.safetensors"), "--against", "here", "--against", "there"]) == 1
    assert "there is no checkout of DCAE or LALIC, and only one can be of" in capsys.readouterr().err


def test_what_cant_be_imported_is_named(tmp_path):
    with pytest.raises(UsageError, match="surely_not_installed'; it needs pip install compressai"):
        LearnedBaseline(checkout(tmp_path, "dcae", "import surely_not_installed"))


def test_a_kernel_that_cant_be_compiled_is_named(tmp_path):
    with pytest.raises(UsageError, match="the code of LALIC can't be used: no CUDA; it needs"):
        LearnedBaseline(checkout(tmp_path, "lalic", LALIC), "cuda")
