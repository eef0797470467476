"""Checkouts of other codecs: stand-ins of their form are counted, what isn't one is refused."""

import sys

import pytest

from hpcm.errors import UsageError
from hpcm.eval.others import Other

LAYERS = "self.net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 2, stride=2), torch.nn.Conv2d(8, 4, 1))"
DCAE = f"""
import torch
class DCAE(torch.nn.Module):
    def __init__(self):
        super().__init__()
        {LAYERS}
    def forward(self, x):
        return self.net(x)
"""
LALIC = (
    DCAE.replace("DCAE", "LALIC")
    + """
        return RUN_BiWKV4(1, 1, x, self.net(x))
def load_biwkv4():
    raise RuntimeError("no CUDA")
"""
)


@pytest.mark.parametrize(
    ("file", "code"), [("dcae", DCAE), ("lalic", LALIC.replace("        return self.net(x)\n", ""))]
)
def test_parameters_and_kmacs(tmp_path, file, code):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / f"{file}.py").write_text(code)
    other = Other(tmp_path)
    assert other.name == file.upper()
    assert other.parameters == 8 * 12 + 8 + 4 * 8 + 4
    assert other.kmacs() == pytest.approx((8 * 12 + 4 * 8) / 4 / 1000)
    assert not any(name.split(".")[0] == "models" for name in sys.modules)


def test_what_is_no_checkout_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"no checkout of DCAE or LALIC: it has none of models/dcae\.py"):
        Other(tmp_path)


def test_what_cant_be_imported_is_told(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "dcae.py").write_text("import surely_not_installed")
    with pytest.raises(UsageError, match="surely_not_installed'; it needs pip install compressai"):
        Other(tmp_path)
