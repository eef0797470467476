"""Qualities above a model's best level: its decoded picture and a residual layer of coefficients."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hpcm
from hpcm import cli
from hpcm.codec.codec import Codec
from hpcm.codec.info import file_info
from hpcm.codec.quality import quality_of, residual_of
from hpcm.defaults import BASE_QUALITY, MAX_QUALITY, STEPS
from hpcm.errors import CorruptError, MismatchError
from hpcm.format.container import pack, unpack
from hpcm.format.fields import Part, Residual
from hpcm.util.metrics import psnr
from test_lossless import GOLDEN, PHOTO, RGB, of_depth, with_channels, wrong

ABOVE = range(BASE_QUALITY + 1, MAX_QUALITY + 1)
SEVERAL = {"tile": 256}


@pytest.fixture(scope="module")
def codec() -> Codec:
    return hpcm.load("nano", threads=1)


@pytest.fixture(scope="module")
def files(codec) -> dict[int, bytes]:
    """By quality, of two tiles."""
    return {quality: codec.compress(RGB, quality=quality, **SEVERAL) for quality in (79, *range(80, 101, 4))}


def test_each_quality_has_its_step():
    assert len(STEPS) == len(ABOVE)
    assert sorted(STEPS, reverse=True) == [*STEPS]
    assert [residual_of(quality).number for quality in ABOVE] == [*STEPS]
    assert [quality_of(63, 64, residual_of(quality)) for quality in ABOVE] == [*ABOVE]
    assert quality_of(62, 64, residual_of(90)) is None  # no quality gives it
    assert quality_of(63, 64, Residual("coefficients", 1)) is None
    assert residual_of(BASE_QUALITY) is None


def test_a_higher_quality_is_larger_and_better(codec, files):
    sizes = [len(data) for data in files.values()]
    decibels = [psnr(np.asarray(codec.decompress(data)), RGB) for data in files.values()]
    assert sizes == sorted(sizes)
    assert decibels == sorted(decibels)
    assert decibels[-1] > decibels[1] + 1
    assert sizes[2] < 1.5 * sizes[1]  # no step at the seam of the two halves of the scale


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("bit_depth", [8, 9, 10, 16])
def test_kinds_of_pictures(codec, channels, bit_depth):
    samples = of_depth(with_channels(channels), bit_depth)
    given = {"bit_depth": bit_depth} if bit_depth > 8 else {}
    best, base = (
        codec.decompress_array(codec.compress(samples, quality=quality, **given)) for quality in (MAX_QUALITY, 80)
    )
    assert best.dtype == samples.dtype
    errors = [np.mean((decoded.astype(float) - samples) ** 2) for decoded in (best, base)]  # alpha's are 0
    assert errors[0] < 0.8 * errors[1]
    if channels % 2 == 0:
        assert np.array_equal(best[..., -1], samples[..., -1])


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (65, 1), (7, 9), (64, 257)])
def test_sizes(codec, size):
    samples = np.random.default_rng(1).integers(0, 256, (*size, 3)).astype(np.uint8)
    best, base = (codec.decompress_array(codec.compress(samples, quality=quality, **SEVERAL)) for quality in (100, 80))
    assert best.shape == samples.shape
    if samples.size > 300:  # of fewer any rounding may be the better one
        assert np.abs(best.astype(int) - samples).mean() < 0.8 * np.abs(base.astype(int) - samples).mean()


def test_both_engines_and_any_threads_give_the_same(codec, files):
    for options in ({"engine": "torch"}, {"threads": 2}):
        other = hpcm.load("nano", **options)
        assert other.compress(RGB, quality=92, **SEVERAL) == files[92]
        assert np.array_equal(other.decompress(files[92]), codec.decompress(files[92]))


def test_another_device_makes_them_on_the_cpu(codec, files):
    other = hpcm.load("nano", "cpu:0")
    other.engine.synthesise = wrong
    assert other.compress(RGB, quality=92, **SEVERAL) == files[92]
    assert np.array_equal(other.decompress(files[92]), codec.decompress(files[92]))


def test_parts(codec, files):
    """Regions are those of the picture; coarse and reduced pictures are those of the best level alone."""
    whole = np.asarray(codec.decompress(files[92]))
    for left, top, right, bottom in ((10, 20, 60, 50), (250, 100, 262, 140)):
        part = codec.decompress(files[92], box=(left, top, right, bottom))
        assert np.array_equal(part, whole[top:bottom, left:right])
    assert np.array_equal(codec.decompress(files[92], scale=3), codec.decompress(files[80]))
    assert np.array_equal(codec.decompress(files[92], draft=(150, 100)), codec.decompress(files[80], draft=(150, 100)))


def test_a_file_that_was_cut(codec, files):
    base, notes = np.asarray(codec.decompress(files[80])), []
    image = np.asarray(codec.preview(files[92][:-5], on_note=notes.append))
    whole = np.asarray(codec.decompress(files[92]))
    assert np.array_equal(image[:, :256], whole[:, :256])
    assert np.array_equal(image[:, 256:], base[:, 256:])
    rest = "its residual layer is there for 1 of 2 tiles, the rest is the lossy picture"
    assert notes == [f"the file was cut short: {rest}"]


def test_forged_layers(codec, files):
    container, rng = unpack(files[92]), np.random.default_rng(4)

    def with_parts(change) -> bytes:
        return pack(replace(container, tiles=tuple((*tile[:-1], change(tile[-1])) for tile in container.tiles)))

    with pytest.raises(MismatchError, match="isn't the one that its residual was made for"):
        codec.decompress(with_parts(lambda part: Part(part.payload, part.checksum ^ 1)))
    for size in (0, 1, 9, 3000):
        payload = rng.integers(0, 256, size).astype(np.uint8).tobytes()
        forged = with_parts(lambda part, payload=payload: Part(payload, part.checksum))
        try:
            assert codec.decompress(forged).size == PHOTO.size
        except CorruptError:
            continue


def test_targets_reach_them(codec, files):
    """Each between two of the files."""
    limit = (len(files[88]) + len(files[92])) // 2
    file = codec.compress(PHOTO, bpp=8 * limit / (PHOTO.width * PHOTO.height), **SEVERAL)
    assert len(files[88]) <= len(file) <= limit
    low, high = (psnr(np.asarray(codec.decompress(files[quality])), RGB) for quality in (88, 92))
    file = codec.compress(PHOTO, psnr=(low + high) / 2, **SEVERAL)
    assert (low + high) / 2 <= psnr(np.asarray(codec.decompress(file)), RGB) <= high
    assert unpack(file).residual is not None


def test_models_without_exact_pixels_have_none(tmp_path):
    codec = hpcm.load(GOLDEN / "tiny-base.safetensors")
    assert codec.levels == codec.lossy_levels == 1
    assert codec.compress(RGB, quality=90) == codec.compress(RGB, quality=10)
    assert unpack(codec.compress(RGB, quality=100)).residual is None


def test_info(codec, files, tmp_path, capsys):
    for quality in (79, 80, 92):
        fields = file_info(unpack(files[quality]), len(files[quality]), codec.weights)
        assert fields["quality"] == quality
    assert fields["residual"] == {"beside": "lossy picture", "max_error": None, "lossless": False}
    path = Path(tmp_path / "photo.hpcm")
    path.write_bytes(files[92])
    assert cli.main(["info", str(path)]) == 0
    line = "  quality  92 of 1 to 100, level 63 of 0 to 63, with a residual layer"
    assert line in capsys.readouterr().out.splitlines()


class Enough(Exception):
    pass


def test_a_check_ends_the_work(codec, files):
    for work in (
        lambda check: codec.compress(RGB, quality=92, check=check, **SEVERAL),
        lambda check: codec.decompress(files[92], check=check),
    ):
        counted = []
        work(lambda counted=counted: counted.append(1))
        left = iter(range(len(counted) - 1))

        def check(left=left) -> None:
            if next(left, None) is None:
                raise Enough

        with pytest.raises(Enough):
            work(check)


def test_pillow_saves_them(tmp_path, codec, files):
    PHOTO.save(tmp_path / "photo.hpcm", quality=96, model="nano")
    with Image.open(tmp_path / "photo.hpcm") as image:
        assert psnr(np.asarray(image), RGB) > psnr(np.asarray(codec.decompress(files[80])), RGB)
