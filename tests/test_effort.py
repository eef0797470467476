"""Effort: smaller files of the same format, never a larger loss, and the promises of targets kept."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import hpcm
from hpcm.codec import search as module
from hpcm.codec.codec import Codec
from hpcm.codec.encoder import Encoding
from hpcm.codec.pixels import assemble, synthesise
from hpcm.codec.search import EFFORTS, Annealing, refined
from hpcm.defaults import TILE_SIDE
from hpcm.errors import UsageError, WeightsError
from hpcm.format.container import unpack
from hpcm.image.picture import from_image
from hpcm.util.metrics import psnr

PHOTO = Path(__file__).parent / "data" / "kodim23.png"
FEW = 10  # iterations


@pytest.fixture(scope="module")
def codec() -> Codec:
    return hpcm.load("nano")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Effort 1 for tests."""
    monkeypatch.setattr(module, "EFFORTS", (EFFORTS[0], replace(EFFORTS[1], iterations=FEW)))


def photo(width: int = 64, height: int = 64) -> Image.Image:
    """A crop with much detail as far as it goes: there a search for a target tries few levels."""
    image = Image.open(PHOTO).convert("RGB")
    left, top = min(250, image.width - width), min(330, image.height - height)
    return image.crop((left, top, left + width, top + height))


def loss(codec: Codec, image: Image.Image, data: bytes) -> float:
    """In bits: what was sent of the tiles, and lambda times the distortion."""
    container, decoded = unpack(data), np.asarray(codec.decompress(data)).astype(float)
    error = np.mean((decoded - np.asarray(image)) ** 2) * image.width * image.height
    coded = 8 * sum(len(part.payload) for tile in container.tiles for part in tile)
    return coded + codec.engine.config.lambda_of(container.level) * float(error)


@pytest.mark.parametrize("quality", [20, 70])
@pytest.mark.parametrize("size", [(128, 64), (100, 77)])
def test_the_loss_falls(codec, quality, size):
    image = photo(*size)
    plain, searched = (codec.compress(image, quality=quality, effort=effort) for effort in (0, 1))
    assert loss(codec, image, searched) < loss(codec, image, plain)
    assert codec.compress(image, quality=quality, effort=1) == searched  # the same every time


def test_tiles_are_searched_among_their_neighbours(codec):
    image = photo(300, 280)
    plain, searched = (codec.compress(image, quality=60, tile=256, effort=effort) for effort in (0, 1))
    assert len(unpack(searched).tiles) == 4
    assert loss(codec, image, searched) < 0.995 * loss(codec, image, plain)


def test_what_is_compared_is_what_tiles_change(codec):
    """Another tile's change of latents changes no pixel outside the window's, and the window's are those decoded."""
    job = Encoding(codec.loaded(), from_image(photo(600, 300)), tile=256)
    boxes, refiner = list(job.tiling), module._Refiner(job, 30, EFFORTS[1])
    y_hats = {box: job.coded(box, 30, job.latents(box))[1] for box in boxes}

    def picture(changed=None):
        moved = [y_hats[box] + (box == changed) for box in boxes]
        whole = job.tiling.whole
        return assemble(synthesise(job.engine, job.tiling, moved, whole, 8, grey=False), whole).astype(int)

    for box in boxes:
        around = refiner._surroundings(box)
        left, top, right, bottom = job.tiling.with_halo(job.tiling.cells(box))
        area = slice(16 * top, min(16 * bottom, 300)), slice(16 * left, min(16 * right, 600))
        pixels = refiner._decoded_pixels(around, refiner._tensor(y_hats[box] + 1))
        expected = picture(box)
        assert np.abs(pixels[0].permute(1, 2, 0).numpy() * 255 - expected[area]).max() < 1.01
        expected[area] = picture()[area]
        assert np.array_equal(expected, picture())


def test_a_search_that_finds_nothing_changes_nothing(codec, monkeypatch):
    monkeypatch.setattr(Annealing, "mixed", lambda self, x: x + 3 * torch.rand(x.shape))
    image = photo()
    assert codec.compress(image, quality=50, effort=1) == codec.compress(image, quality=50)


@pytest.mark.parametrize("mode", ["L", "RGBA", "I;16"])
def test_every_kind_of_picture(codec, mode):
    image = photo().convert("L").convert("I").point(lambda v: 257 * v).convert(mode) if mode == "I;16" else photo()
    image = image.convert(mode)
    data = codec.compress(image, quality=50, effort=1)
    assert codec.decompress(data).mode == mode
    assert codec.decompress(data).size == image.size


def test_a_limit_of_bytes_is_kept(codec):
    image = photo()
    for bpp in (0.3, 0.8):  # the picture takes 0.24 at quality 1, and 1.1 at quality 100
        plain, searched = (codec.compress(image, bpp=bpp, effort=effort) for effort in (0, 1))
        assert 8 * len(searched) <= bpp * image.width * image.height
        assert unpack(searched).level >= unpack(plain).level
    notes = []
    codec.compress(image, bpp=0.001, effort=1, on_note=notes.append)
    assert [note[:8] for note in notes] == ["no level"]


def test_a_quality_in_db_is_reached(codec):
    image = photo()
    smaller = 0
    for target in (30, 34):  # the picture has 27.8 dB at quality 1, and 36.1 at quality 100
        plain, searched = (codec.compress(image, psnr=target, effort=effort) for effort in (0, 1))
        assert psnr(np.asarray(image), np.asarray(codec.decompress(searched))) >= target
        assert len(searched) <= len(plain)
        smaller += len(searched) < len(plain)
    assert smaller
    notes = []
    codec.compress(image, psnr=90, effort=1, on_note=notes.append)
    assert [note[:8] for note in notes] == ["no level"]


def test_it_is_told_how_far_it_is(codec):
    shares = []
    codec.compress(photo(260, 40), tile=256, effort=1, on_progress=shares.append)
    assert len(shares) == 2 * FEW
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_the_callers_settings():
    codec = hpcm.load("nano")
    image = photo()
    with torch.no_grad(), torch.random.fork_rng():
        before = torch.random.get_rng_state()
        data = codec.compress(image, effort=1)
        assert torch.equal(torch.random.get_rng_state(), before)
    with torch.inference_mode():
        assert codec.compress(image, effort=1) == data
    assert codec.decompress(data).size == image.size


def test_weights_that_are_gone_or_written_anew(tmp_path, codec):
    """With torch a loaded codec needs its file no more; without, another file's weights are refused."""
    path = tmp_path / "mine.safetensors"
    shutil.copy(codec.weights.path, path)
    own, other = hpcm.load(path, engine="torch"), hpcm.load(path, engine="core")
    shutil.copy(hpcm.load("lite").weights.path, path)
    with pytest.raises(WeightsError, match="written anew since the model was loaded"):
        other.compress(photo(), effort=1)
    path.unlink()
    assert own.compress(photo(), effort=1) == hpcm.load("nano", engine="torch").compress(photo(), effort=1)


def test_under_another_default_dtype(codec):
    expected = codec.compress(photo(), effort=1)
    torch.set_default_dtype(torch.float64)
    try:
        assert codec.compress(photo(), effort=1) == expected
    finally:
        torch.set_default_dtype(torch.float32)


def test_ms_ssim_where_the_model_was_trained_for_it(codec):
    weights = replace(codec.weights, provenance={**codec.weights.provenance, "loss": "ms-ssim"})
    loaded = codec.loaded()._replace(weights=weights)
    image = photo(256, 192)
    job = Encoding(loaded, from_image(image))
    found = refined(job, 40, effort=1, on_progress=lambda share: None)
    refiner = module._Refiner(job, 40, EFFORTS[1])
    box = next(iter(job.tiling))
    before, after = (
        refiner._measured(box, latents, refiner._surroundings(box))[0] for latents in (job.latents(box), found[box])
    )
    assert after < before
    small = Encoding(loaded, from_image(photo(100, 100)))  # too small for MS-SSIM
    (box,) = small.tiling
    assert refined(small, 40, effort=1, on_progress=lambda share: None)[box].z is None


def test_effort_is_refused(codec, monkeypatch):
    for effort in (-1, 10):
        with pytest.raises(UsageError, match=f"effort is {effort}: it must be 0"):
            codec.compress(photo(), effort=effort)
    monkeypatch.setattr("hpcm.codec.codec.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"effort 1 needs PyTorch: pip install 'hpcm-codec\[torch\]'"):
        codec.compress(photo(), effort=1)


def test_efforts_rise():
    counts = [search.iterations for search in EFFORTS]
    assert counts == sorted(set(counts))
    assert len(counts) == 10
    assert TILE_SIDE % 256 == 0


def test_mixtures_are_of_the_two_numbers_around():
    x = torch.linspace(-3, 3, 1001)
    hot, cold = (Annealing([x], [], t, torch.Generator().manual_seed(1)).mixed(x) for t in (1.0, 0.01))
    for mixed in (hot, cold):
        assert ((mixed >= x.floor()) & (mixed <= x.floor() + 1)).all()
    near = (x - x.round()).abs() < 0.4
    assert (cold.round() == x.round())[near].float().mean() > 0.99
    assert (hot.round() != x.round())[near].any()
