"""Checkouts of other codecs: stand-ins of their form are counted and timed, what isn't one is refused."""

import contextlib
import json
import sys

import pytest
import torch

from hpcm import cli
from hpcm.errors import UsageError
from hpcm.eval.bench import bench, dcvc
from hpcm.eval.bench.checkouts import module_of
from hpcm.eval.bench.forms import pictures_of
from hpcm.eval.bench.learned import open_checkout
from hpcm.eval.bench.runners import tensor_of
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
    other = open_checkout(checkout(tmp_path, file, code))
    assert other.name == file.upper()
    assert other.parameters == 8 * 12 + 8 + 4 * 8 + 4
    assert other.kmacs == pytest.approx((8 * 12 + 4 * 8) / 4 / 1000)
    assert not any(name.split(".")[0] == "models" for name in sys.modules)


def test_they_stand_beside_ours(tmp_path, tiny, capsys, monkeypatch):
    monkeypatch.setattr(bench, "GEMM_SIDE", {"cpu": 64})
    monkeypatch.setattr(bench, "_start", lambda *_: 0.5)
    save(HPCM(tiny), tmp_path / "tiny.safetensors", {})
    line = ["bench", str(tmp_path / "tiny.safetensors"), "--size", "300x200", "--repeats", "1", "--device", "cpu"]
    line += ["--threads", "1", "--json", str(tmp_path / "out.json")]
    line += ["--against", str(checkout(tmp_path / "a", "dcae", DCAE))]
    assert cli.main([*line, "--against", str(checkout(tmp_path / "b", "lalic", LALIC))]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "  DCAE: 0.000 M parameters, 0.03 kMACs per pixel, random weights" in lines
    size = "0.000 M parameters, 0.03 kMACs per pixel, random weights"
    assert f"  LALIC: {size}; not timed: its WKV kernel needs CUDA" in lines
    found = json.loads((tmp_path / "out.json").read_text())["models"][0]
    assert [row["code"] for row in found["rows"]] == ["tiny, exact", "tiny, floating point", "DCAE"]
    assert found["rows"][2]["encode_s"] > 0 < found["rows"][2]["decode_s"]
    assert found["rows"][2]["bytes"] == 5
    dcae, lalic = found["others"]
    assert lalic["parameters"] == dcae["parameters"]


def test_what_is_no_checkout_is_refused(tmp_path, tiny, capsys):
    with pytest.raises(
        UsageError, match=r"no checkout of DCAE, LALIC or DCVC-UF-Intra: it has none of models/dcae\.py"
    ):
        open_checkout(tmp_path)
    save(HPCM(tiny), tmp_path / "tiny.safetensors", {})
    assert cli.main(["bench", str(tmp_path / "tiny.safetensors"), "--against", "here", "--against", "there"]) == 1
    assert "there is no checkout of DCAE, LALIC or DCVC-UF-Intra, and only one" in capsys.readouterr().err


def test_what_cant_be_imported_is_named(tmp_path):
    with pytest.raises(UsageError, match="surely_not_installed'; it needs pip install compressai"):
        open_checkout(checkout(tmp_path, "dcae", "import surely_not_installed"))


def test_a_kernel_that_cant_be_compiled_is_named(tmp_path):
    with pytest.raises(UsageError, match="the code of LALIC can't be used: no CUDA; it needs"):
        open_checkout(checkout(tmp_path, "lalic", LALIC), "cuda")


def test_modules_of_two_checkouts_with_one_name(tmp_path):
    for folder in ("one", "two"):
        package = tmp_path / folder / "twin"
        package.mkdir(parents=True)
        (package / "main.py").write_text("def name():\n    from twin.other import NAME\n    return NAME\n")
        (package / "other.py").write_text(f"NAME = {folder!r}\n")
    one = module_of(tmp_path / "one", "twin.main", keep=True)
    module_of(tmp_path / "two", "twin.main")
    assert one.name() == "one"  # it imports the rest when it runs
    two = module_of(tmp_path / "two", "twin.main", keep=True)
    assert two.name() == "two"
    assert str(tmp_path / "two") not in sys.path


# ---- DCVC-UF-Intra ---------------------------------------------------------------------------------------------------

IMAGE_MODEL = """
import torch
class DMCI(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.net = torch.nn.Conv2d(3, 8, 2, stride=2)
        self.log = []
    def forward_one_frame(self, x, qp, recon_only):
        assert qp.tolist() == [32] and recon_only and -0.5 <= x.min() < x.max() <= 0.5
        return self.net(x)
    def update(self, skip_thres):
        self.log.append(skip_thres)
    @staticmethod
    def get_padding_size(height, width, multiple):
        return -width % multiple, -height % multiple
    def compress(self, x, qp, bottom, right):
        assert self.log == [0.15] and x.dtype == torch.float16 and -0.5 <= x.min() < x.max() <= 0.5
        self.log_of_padding = bottom, right
        return {"bit_stream": bytes(7), "x_hat": x, "ec_parallel": 3}
    def decompress(self, bit_stream, sps, qp, ec_part):
        assert qp == 32 and ec_part == 3 and len(bit_stream) == 7
        return {"x_hat": torch.zeros(1, 3, sps["height"], sps["width"])}
"""


@pytest.fixture
def uf(tmp_path):
    """A folder of the form of DCVC-UF's checkout."""
    files = {
        dcvc.MARK: "",
        "src/models/image_model.py": IMAGE_MODEL,
        "src/utils/transforms.py": "def rgb2ycbcr(x):\n    return x.flip(1)\n",
        "src/utils/common.py": "import torch\nget_state_dict = torch.load\n",
    }
    for name, code in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(code)
    return tmp_path


def test_dcvc_is_counted_on_a_cpu(uf):
    other = open_checkout(uf)
    assert (other.name, other.weights, other.untimed) == ("DCVC-UF-Intra", "random weights", "its kernels need CUDA")
    assert other.parameters == 8 * 12 + 8
    assert other.kmacs == pytest.approx(8 * 12 / 4 / 1000)
    assert not any(name.split(".")[0] == "src" and "image_model" in name for name in sys.modules)


def test_dcvc_takes_the_weights_that_are_there(uf):
    weights = {"net.weight": torch.zeros(8, 3, 2, 2), "net.bias": torch.full((8,), 2.0)}
    (uf / "checkpoints").mkdir()
    torch.save(weights, uf / dcvc.WEIGHTS)
    assert open_checkout(uf).weights == "the weights in checkpoints/cvpr2026_image.pth.tar"
    torch.save({"other": torch.zeros(1)}, uf / dcvc.WEIGHTS)
    with pytest.raises(UsageError, match=r"the code of DCVC-UF-Intra can't be used: Error.* in loading state_dict"):
        open_checkout(uf)


def test_dcvc_needs_what_is_compiled_of_it(uf):
    with pytest.raises(UsageError) as refused:
        open_checkout(uf, "cuda")
    message = str(refused.value)
    assert message.startswith("DCVC-UF-Intra needs MLCodec_extensions_cpp and inference_extensions_cuda: in ")
    assert "\n" not in message


def test_dcvc_as_it_is_timed(uf, monkeypatch):
    """On a CPU, whose stream stands for a GPU's."""
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    net = module_of(uf, "src.models.image_model").DMCI()
    codec = dcvc.DcvcCodec(net, lambda x: x.flip(1), "cpu")
    pictures = pictures_of((50, 30), 2)
    loaded = codec.load(pictures)
    assert torch.equal(loaded[0][0, 0], (tensor_of(pictures[0], "cpu").half() - 0.5)[0, 2])  # Y' is the first
    coded = codec.encode(loaded)
    assert net.log_of_padding == (2, 14)
    assert codec.size(coded) == 14
    assert [tuple(x_hat.shape) for x_hat in codec.decode(coded)] == [(1, 3, 30, 50)] * 2
