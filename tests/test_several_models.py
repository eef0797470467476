"""Families: models of one quality level under one name, which quality, bpp and psnr choose among."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import hpcm
from hpcm.cli import main
from hpcm.codec import search
from hpcm.codec.encoder import Encoding
from hpcm.errors import MismatchError, ModelNotFoundError, UsageError
from hpcm.eval.evaluate import Options, codec_specs
from hpcm.eval.hpcm_codec import HpcmCodec
from hpcm.format.container import unpack
from hpcm.model import find as weights
from hpcm.nn.weights import save

LAMBDAS = (0.0018, 0.0035, 0.0067, 0.013, 0.025, 0.0483)
NAMES = [f"mine-{round(10_000 * lmbda):04d}" for lmbda in LAMBDAS]
PHOTO = Image.open(Path(__file__).parent / "data" / "kodim23.png").crop((130, 90, 130 + 96, 90 + 72))


@pytest.fixture(scope="module")
def write(build, tiny):
    """Writes a model of one level; its latents are the finer the higher its lambda."""

    def written(folder: Path, name: str, lmbda: float, levels: int = 1) -> None:
        model = build(replace(tiny, name=name, levels=levels, lambda_min=lmbda))
        with torch.no_grad():
            for gain in [model.g_a[-1].weight, model.g_a[-1].bias]:
                gain.mul_(float(np.sqrt(lmbda / LAMBDAS[0])))
        save(model, folder / f"{name}.safetensors", {})

    return written


@pytest.fixture(scope="module")
def six_files(write, tmp_path_factory):
    folder = tmp_path_factory.mktemp("six")
    for name, lmbda in zip(NAMES, LAMBDAS, strict=True):
        write(folder, name, lmbda)
    return folder


@pytest.fixture
def six(six_files, monkeypatch):
    monkeypatch.setenv("HPCM_WEIGHTS", str(six_files))
    return hpcm.load("mine")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The user's weights folder, empty."""
    monkeypatch.setenv("HPCM_WEIGHTS", str(tmp_path))
    return tmp_path


def made_with(data: bytes) -> str:
    return unpack(data).model


# ---- names ----------------------------------------------------------------------------------------------------------


def test_one_name_stands_for_all_models(six):
    assert [model.name for model in weights.find_all("mine")] == NAMES
    assert [model.lmbda for model in weights.find_all("mine")] == list(LAMBDAS)
    assert [model.name for model in weights.find_all("mine-0130")] == ["mine-0130"]
    assert {weights.family_of(weights.find(name)) for name in NAMES} == {"mine"}
    assert {weights.alias_of(weights.find(name)) for name in NAMES} == {None}
    with pytest.raises(UsageError, match=r"mine stands for 6 models: name one of mine-0018, mine-0035, .*mine-0483$"):
        weights.find("mine")


def test_versions_of_one_lambda_are_no_family(write, folder):
    write(folder, "mine-1", 0.013)
    write(folder, "mine-2", 0.013)
    assert weights.find("mine").name == "mine-2"
    write(folder, "mine-3", 0.025)
    assert [model.name for model in weights.find_all("mine")] == ["mine-2", "mine-3"]
    write(folder, "mine-4", 0.001, levels=8)  # one that has all levels replaces them
    assert weights.find("mine").name == "mine-4"


def test_a_name_without_a_model(six):
    with pytest.raises(ModelNotFoundError, match="no model 'family'"):
        hpcm.load("family")


# ---- what is chosen -------------------------------------------------------------------------------------------------


def test_quality_takes_the_nearest_model(six):
    levels = [six.level_of(quality) for quality in range(1, 101)]
    assert levels == sorted(levels)
    assert [levels.count(level) for level in range(6)] == [8, 16, 16, 16, 16, 28]
    for quality in (1, 50, 100):
        data = six.compress(PHOTO, quality=quality)
        assert made_with(data) == NAMES[levels[quality - 1]]
        assert data == hpcm.load(made_with(data)).compress(PHOTO)
    assert made_with(six.compress(PHOTO)) == NAMES[levels[50 - 1]]
    for wrong in (0, 101):
        with pytest.raises(UsageError, match=f"quality is {wrong}"):
            six.compress(PHOTO, quality=wrong)


def test_missing_models_are_done_without(write, folder):
    for i in (0, 3, 5):
        write(folder, NAMES[i], LAMBDAS[i])
    few = hpcm.load("mine")
    assert [made_with(few.compress(PHOTO, quality=quality)) for quality in (1, 24, 25, 64, 65, 100)] == [
        *["mine-0018"] * 2,
        *["mine-0130"] * 2,
        *["mine-0483"] * 2,
    ]


def test_bpp_takes_the_best_that_fits(six):
    sizes = [len(hpcm.compress(PHOTO, model=name)) for name in NAMES]
    assert sizes == sorted(set(sizes))
    pixels = PHOTO.width * PHOTO.height
    for i, size in list(enumerate(sizes))[::2]:
        data = six.compress(PHOTO, bpp=8 * (size + 0.5) / pixels)
        assert (made_with(data), len(data)) == (NAMES[i], size)
    notes = []
    assert made_with(six.compress(PHOTO, bpp=0.001, on_note=notes.append)) == NAMES[0]
    assert "no level takes 0.001 bits per pixel or less" in notes[-1]


def test_psnr_takes_the_smallest_that_reaches_it(six, monkeypatch):
    """These models have learned nothing, so that which one reaches what is made up."""
    monkeypatch.setattr(Encoding, "psnr", lambda self, level, residual: 100 * self.weights.lmbda)
    for i, lmbda in list(enumerate(LAMBDAS))[::3]:
        assert made_with(six.compress(PHOTO, psnr=100 * lmbda - 0.01)) == NAMES[i]
    notes = []
    assert made_with(six.compress(PHOTO, psnr=60, on_note=notes.append)) == NAMES[-1]
    assert "no level of mine-0483 reaches 60 dB" in notes[-1]


def test_targets_where_a_higher_model_is_worse_or_smaller(six, monkeypatch):
    sizes, quality = (900, 500, 700, 600, 800, 850), (30.0, 36.0, 33.0, 40.0, 39.0, 38.0)
    place = {name: i for i, name in enumerate(NAMES)}
    monkeypatch.setattr(
        Encoding,
        "file",
        lambda self, level, residual: bytes([place[self.weights.name]] * sizes[place[self.weights.name]]),
    )
    monkeypatch.setattr(Encoding, "psnr", lambda self, level, residual: quality[place[self.weights.name]])
    for target in (29, 32, 35, 37, 39.5):
        fitting = [i for i in range(6) if quality[i] >= target]
        assert six.compress(PHOTO, psnr=target)[0] == min(fitting, key=lambda i: sizes[i])
    for limit in (550, 650, 750, 820, 870, 950):
        data = six.compress(PHOTO, bpp=8 * limit / (PHOTO.width * PHOTO.height))
        assert data[0] == max(i for i in range(6) if sizes[i] <= limit)
    notes = []
    assert six.compress(PHOTO, psnr=60, on_note=notes.append)[0] == 3
    assert "no level of mine-0130 reaches 60 dB on this picture: the best one, 40.00" in notes[-1]


def test_effort_searches_at_the_model_that_is_chosen(six, monkeypatch):
    asked = []

    def refined(job, level, **how):
        asked.append((job.weights.name, level, how["effort"]))
        return job._latents

    monkeypatch.setattr(search, "refined", refined)
    best = six.compress(PHOTO, quality=100)
    target = {"bpp": 8 * (len(best) + 0.5) / (PHOTO.width * PHOTO.height)}
    assert six.compress(PHOTO, **target, effort=1) == best
    assert asked == [("mine-0483", 0, 1)]


@pytest.mark.parametrize("targets", [{"quality": 5, "bpp": 1}, {"bpp": 0}, {"psnr": float("nan")}])
def test_targets_that_make_no_sense(six, targets):
    with pytest.raises(UsageError):
        six.compress(PHOTO, **targets)


# ---- loading --------------------------------------------------------------------------------------------------------


def test_one_model_is_in_memory_unless_one_is_searched(six, monkeypatch):
    loaded = []
    load = six._load

    def noting(weights):
        loaded.append(weights.name)
        return load(weights)

    monkeypatch.setattr(six, "_load", noting)
    for quality in (1, 1, 100, 1):
        six.compress(PHOTO, quality=quality)
    assert loaded == [NAMES[0], NAMES[5], NAMES[0]]
    loaded.clear()
    six.compress(PHOTO, bpp=1)
    first = list(loaded)
    assert len(first) == len(set(first)) > 1
    six.compress(PHOTO, bpp=1)
    assert loaded == first


def test_threads_may_share_a_family(six):
    images = [PHOTO, PHOTO.rotate(180)] * 2
    expected = [six.compress(image, quality=70) for image in images[:2]] * 2
    assert list(hpcm.load("mine").compress_many(images, workers=3, quality=70)) == expected


def test_a_file_opens_without_its_family(six):
    data = six.compress(PHOTO, quality=100)
    picture = hpcm.decompress(data)
    assert (
        picture
        == six.decompress(data)
        == hpcm.load("mine-0483").decompress(data)
        == hpcm.decompress(data, model="mine")
    )
    assert six.preview(data).size == PHOTO.size
    with pytest.raises(MismatchError, match=r"made with model 'nano-1' of hash .*, which is none of mine-0018, "):
        six.decompress(hpcm.compress(PHOTO, model="nano"))


# ---- evaluation -----------------------------------------------------------------------------------------------------


def test_a_family_is_one_curve(six):
    (spec,) = codec_specs(Options(models=["mine"], codecs=[]))
    measured = HpcmCodec(spec.weights)
    assert (spec.name, measured.label, len(measured.settings)) == ("mine", "hpcm mine", 6)
    assert [six.level_of(quality) for quality in measured.settings] == list(range(6))
    for quality in (measured.settings[0], measured.settings[-1]):
        data = measured.compress(PHOTO, quality)
        assert data == six.compress(PHOTO, quality=quality)
        assert 0 < measured.encode_split(1e3).transforms < 1e3


# ---- command line ---------------------------------------------------------------------------------------------------


def test_the_command_line_knows_families(six, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    PHOTO.save("photo.png")
    assert main(["compress", "photo.png", "--model", "mine", "--quality", "100"]) == 0
    assert made_with(Path("photo.hpcm").read_bytes()) == "mine-0483"
    assert main(["decompress", "photo.hpcm", "-o", "back.png"]) == 0
    capsys.readouterr()
    assert main(["models"]) == 0
    told = capsys.readouterr().out
    assert "mine  a family of 6 models, lambda 0.0018 to 0.0483: mine-0018, mine-0035" in told
    assert main(["exact", "mine", "photo.png", "-o", "x.safetensors"]) == 1
    assert "mine stands for 6 models: name one of" in capsys.readouterr().err
