"""Models for a loop of one's own: what `hpcm.load_model`, `save_model` and `save_exact` refuse."""

from pathlib import Path

import pytest
import torch
from PIL import Image

import hpcm
from hpcm.errors import UsageError, WeightsError

PICTURE = Path(__file__).parent / "data" / "kodim23.png"


@pytest.fixture(autouse=True)
def _folder(monkeypatch, tmp_path, one_thread):
    monkeypatch.chdir(tmp_path)


def test_a_device_that_is_not_there(tiny, build):
    hpcm.save_model(build(tiny), "own.safetensors", name="own-1")
    with pytest.raises(UsageError, match="device nowhere can't be used: "):
        hpcm.load_model("own.safetensors", "nowhere")


def test_parameters_that_are_not_finite_are_not_saved(tiny, build):
    model = build(tiny)
    with torch.no_grad():
        model.z_means[0] = torch.nan
    with pytest.raises(WeightsError, match="1 parameters, z_means among them, aren't finite"):
        hpcm.save_model(model, "own.safetensors", name="own-1")
    assert not Path("own.safetensors").exists()


def test_a_wrapper_of_a_model(tiny, build):
    """It would be saved under other names; torch.compile gives its model's fields on."""
    wrapped = torch.nn.DataParallel(build(tiny))
    for save in (hpcm.save_model, lambda *where, **how: hpcm.save_exact(*where, [PICTURE], **how)):
        with pytest.raises(UsageError, match=r"the model is a DataParallel: give an hpcm\.HPCM, which is in `module`"):
            save(wrapped, "own.safetensors", name="own-1")
    assert not Path("own.safetensors").exists()


def test_pictures_to_calibrate_on(tiny, build):
    model = build(tiny)
    with pytest.raises(UsageError, match="there are no pictures to calibrate on: a dozen are enough"):
        hpcm.save_exact(model, "exact.safetensors", [], name="own-1")
    with pytest.raises(UsageError, match="carrier is 'int8': it must be one of float32, split, float64"):
        hpcm.save_exact(model, "exact.safetensors", [PICTURE], name="own-1", carrier="int8")
    Image.open(PICTURE).crop((0, 0, 128, 128)).save("one.png")
    hpcm.save_exact(model, "exact.safetensors", "one.png", name="own-1")
    assert hpcm.load("exact.safetensors").weights.config["carrier"] == "float32"
