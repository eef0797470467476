"""The codec: pictures of every size there and back, tiles without seams, padding without cost, and no garbage."""

import dataclasses
import re
import shutil
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache, lru_cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import hpcm
from hpcm.codec import api
from hpcm.codec import decoder as decoding
from hpcm.codec.codec import Codec
from hpcm.codec.encoder import Encoding
from hpcm.codec.engine import Engine
from hpcm.codec.pixels import analyse, assemble, synthesise
from hpcm.codec.targets import ABOVE, BELOW, Level, Trials, explored
from hpcm.codec.tiles import Tiling, latents_inside
from hpcm.defaults import MAX_DECODED, MAX_QUALITY, MAX_TILE_SIDE, STEPS
from hpcm.errors import (
    CorruptError,
    FormatError,
    HPCMError,
    MismatchError,
    PictureError,
    TruncatedError,
    UsageError,
)
from hpcm.format.container import pack, unpack
from hpcm.format.fields import MAX_METADATA, MAX_SIDE, Container, Part, Residual, Tile
from hpcm.image.picture import Picture, from_image
from hpcm.model.config import LATENT_STRIDE, NANO, Config
from hpcm.model.tables import make_tables
from hpcm.nn import engine as engines
from hpcm.nn.engine import TorchEngine
from hpcm.nn.hpcm import HPCM
from hpcm.nn.rate import bits
from hpcm.nn.weights import save

KODAK = Path(__file__).parent / "data"
CONFIGS = ("tiny", "tiny_base", "tiny_1b")
SIZES = [(1, 1), (1, 2), (2, 1), (1, 300), (300, 1), (15, 16), (17, 33), (63, 64), (64, 65), (65, 63), (129, 77)]
SMALL_TILE = 256  # pixels; the smallest that a file may have


@pytest.fixture(scope="session")
def written(build, tmp_path_factory) -> Callable[[Config], Path]:
    """A weights file of random weights, which is written once for each configuration."""
    folder = tmp_path_factory.mktemp("written")

    @cache
    def written(config: Config) -> Path:
        path = folder / f"{written.cache_info().misses}.safetensors"
        save(build(config), path, {}, name=config.name)
        return path

    return written


@pytest.fixture
def make(written, tmp_path) -> Callable[[Config], Codec]:
    """A codec of random weights, by way of a weights file of its own."""

    def make(config: Config) -> Codec:
        return hpcm.load(shutil.copy(written(config), tmp_path / f"{config.name}.safetensors"))

    return make


@pytest.fixture
def codec(make, tiny) -> Codec:
    return make(tiny)


@pytest.fixture
def bundled() -> Codec:
    """The default model, where quality matters."""
    return _bundled()


@lru_cache
def _bundled() -> Codec:
    return hpcm.load()


@pytest.fixture
def small_tiles(monkeypatch) -> None:
    """Compresses to tiles of 256 pixels."""
    monkeypatch.setattr("hpcm.codec.encoder.Tiling", lambda config, size, _: Tiling(config, size, SMALL_TILE))


def photo(width: int, height: int, mode: str = "RGB") -> Image.Image:
    """A piece of a photograph, of any size."""
    image = Image.open(KODAK / "kodim23.png").convert("RGB")
    across, down = (-(-wanted // have) for wanted, have in zip((width, height), image.size, strict=True))
    return Image.fromarray(np.tile(np.asarray(image), (down, across, 1))[:height, :width]).convert(mode)


def length(tile: Tile) -> int:
    """Bytes of a tile's parts."""
    return sum(len(part.payload) for part in tile)


def psnr(a: Image.Image, b: Image.Image) -> float:
    error = np.mean((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2)
    return float(10 * np.log10(255**2 / error))


def encoded(codec: Codec, picture: Picture, side: int = 1024, level: int = 0) -> Iterator[tuple[list, np.ndarray]]:
    """The symbols and y_hat of each tile."""
    engine, tiling = codec.engine, Tiling(codec.engine.config, picture.size, side)
    for box in tiling:
        yield engine.record(analyse(engine, tiling, picture, box), level, latents_inside(box))


def decoded_from(engine: Engine, tiling: Tiling, y_hats: Iterable[np.ndarray], bit_depth: int = 8) -> np.ndarray:
    """The picture that the latents of all tiles, row by row, are decoded to."""
    pieces = synthesise(engine, tiling, y_hats, tiling.whole, bit_depth, grey=False)
    return assemble(pieces, tiling.whole)


# ---- there and back -------------------------------------------------------------------------------------------------


def check_round_trip(codec: Codec, width: int, height: int) -> None:
    """What is decoded is what the encoder has made: its y_hat, synthesised."""
    image = photo(width, height)
    decoded = codec.decompress(codec.compress(image))
    ((_, y_hat),) = encoded(codec, from_image(image), level=codec.level_of(50))
    expected = decoded_from(codec.engine, Tiling(codec.engine.config, (height, width)), [y_hat])
    assert np.array_equal(np.asarray(decoded), expected)
    assert (decoded.mode, decoded.size) == ("RGB", (width, height))


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("name", CONFIGS)
def test_sizes(make, request, name, width, height):
    check_round_trip(make(request.getfixturevalue(name)), width, height)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(width=st.integers(1, 200), height=st.integers(1, 200))
def test_any_size(codec, width, height):
    check_round_trip(codec, width, height)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (70, 40)])
def test_modes(codec, mode, width, height):
    image = photo(width, height, "L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    if mode.endswith("A"):
        image.putalpha(photo(width, height, "L").transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    decoded = codec.decompress(codec.compress(image))
    assert (decoded.mode, decoded.size) == (mode, image.size)
    if mode.endswith("A"):
        assert np.array_equal(np.asarray(decoded.getchannel("A")), np.asarray(image.getchannel("A")))


@pytest.mark.parametrize("bits", [9, 10, 12, 16])
@pytest.mark.parametrize(("channels", "mode"), [(1, "I;16"), (2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_more_than_8_bits(codec, channels, mode, bits):
    """They come back as an array; an image has them as far as Pillow has a mode for them. Alpha is lossless."""
    shallow = np.asarray(photo(30, 20, "RGBA"))[..., 4 - channels :].astype(np.uint16)
    samples = np.squeeze(shallow << (bits - 8) | shallow >> (16 - bits))
    data = codec.compress(samples, bit_depth=bits, quality=90)
    assert unpack(data).bit_depth == bits
    decoded = codec.decompress_array(data)
    assert (decoded.shape, decoded.dtype) == (samples.shape, np.uint16)
    assert decoded.max() < 2**bits
    if channels in (2, 4):
        assert np.array_equal(decoded[..., -1], samples[..., -1])
    image = codec.decompress(data)
    assert (image.mode, image.info["bit_depth"]) == (mode, bits)
    as_image = codec.decompress_array(data, bit_depth=16 if mode == "I;16" else 8)
    assert np.array_equal(np.asarray(image), as_image)
    assert np.abs(as_image / np.iinfo(as_image.dtype).max - decoded / (2**bits - 1)).max() < 0.6 / 255


def test_a_gradient_of_16_bits_has_no_steps_of_8():
    """Between two grey levels of 8 bits a slow gradient goes on; decoded as 8 bits it stands still."""
    codec = hpcm.load("nano")
    row = np.linspace(30_000, 32_570, 256)  # ten levels of 8 bits
    ramp = np.broadcast_to(row.astype(np.uint16)[None, :, None], (128, 256, 3)).copy()
    data = codec.compress(ramp, quality=90)

    def longest_step(samples: np.ndarray) -> int:
        """Pixels of a row that are alike, one beside the other."""
        changes = np.flatnonzero(np.diff(samples[64, 16:-16, 1].astype(int)))
        return np.diff(changes).max(initial=0)

    deep, shallow = codec.decompress_array(data), codec.decompress_array(data, bit_depth=8)
    assert longest_step(shallow) >= 8
    assert longest_step(deep) <= 4
    assert len(np.unique(deep[64, :, 1])) > 10 * len(np.unique(shallow[64, :, 1]))


@pytest.mark.parametrize(
    ("array", "bit_depth", "message"),
    [
        (np.zeros((4, 4), np.uint16), 8, "an array of uint16 has a bit depth of 9 to 16, not 8"),
        (np.zeros((4, 4), np.uint8), 10, "an array of uint8 has a bit depth of 8 to 8, not 10"),
        (np.full((4, 4), 1024, np.uint16), 10, "the array has the value 1024: 10 bits go to 1023"),
        (np.zeros((4, 4, 5), np.uint16), None, "an array must be uint8 or uint16"),
        (np.zeros((4, 4), np.float32), None, "an array must be uint8 or uint16"),
        (np.zeros((0, 4), np.uint16), None, "an array must be uint8 or uint16"),
    ],
)
def test_arrays_that_say_something_else(codec, array, bit_depth, message):
    with pytest.raises(PictureError, match=message):
        codec.compress(array, bit_depth=bit_depth)


def test_bit_depths_that_are_refused(codec):
    with pytest.raises(PictureError, match="a bit depth is given for arrays alone"):
        codec.compress(photo(20, 30), bit_depth=8)
    with pytest.raises(UsageError, match="bit_depth is 7: it must be 8 to 16"):
        codec.decompress_array(codec.compress(photo(20, 30)), bit_depth=7)


def test_alpha_beyond_its_depth_is_refused(codec):
    samples = np.full((20, 30, 4), 1000, np.uint16)
    container = unpack(codec.compress(samples, bit_depth=10))
    with pytest.raises(CorruptError, match="the alpha plane has the value 1000, over 511"):
        codec.decompress(pack(replace(container, bit_depth=9)))
    with pytest.raises(CorruptError, match="the alpha plane is 30 x 20 I;16, not 30 x 20 L"):
        codec.decompress(pack(replace(container, bit_depth=8)))


def test_metadata(codec):
    image = photo(20, 30)
    exif = Image.Exif()
    exif[0x010E] = "a description"
    image.info.update(icc_profile=b"a profile", exif=exif.tobytes())
    decoded = codec.decompress(codec.compress(image))
    assert decoded.info["icc_profile"] == b"a profile"
    assert dict(decoded.getexif()) == {0x010E: "a description"}


def test_one_level_takes_any_quality(make, tiny_base):
    """As an imported checkpoint."""
    codec = make(tiny_base)
    assert codec.levels == 1
    data = {codec.compress(photo(60, 40), quality=quality) for quality in (1, 50, 100)}
    assert len(data) == 1


# ---- tiles ----------------------------------------------------------------------------------------------------------


def place(y: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
    """The latents of a tile, of those of the whole picture; a tile at the edge takes the padding with it."""
    left, top, right, bottom = box
    rows, columns = (
        slice(a // LATENT_STRIDE, None if b % SMALL_TILE else b // LATENT_STRIDE)
        for a, b in ((top, bottom), (left, right))
    )
    return y[rows, columns]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(("width", "height"), [(600, 500), (513, 257), (256, 1000)])
def test_no_seams(build, request, name, width, height):
    """A picture in pieces has the same y and the same pixels as the whole."""
    config = request.getfixturevalue(name)
    if name == "tiny":
        config = replace(config, analysis=((3, 16), (0, 16)), synthesis=((0, 16), (3, 16)))  # NANO's reach
    engine, picture = TorchEngine(build(config), make_tables()), from_image(photo(width, height))
    whole, pieces = (Tiling(engine.config, picture.size, side) for side in (1024, SMALL_TILE))
    (box,) = whole
    assert len(list(pieces)) > 1
    y = analyse(engine, whole, picture, box)
    for part in pieces:
        piece, there = analyse(engine, pieces, picture, part), place(y, part)
        assert np.allclose(piece, there, rtol=1e-4, atol=1e-4 * np.abs(y).max())
    one, many = (decoded_from(engine, tiling, (place(y, part) for part in tiling), 16) for tiling in (whole, pieces))
    difference = one.astype(int) - many.astype(int)
    assert np.abs(difference).max() <= 3  # of 65535


def test_too_small_a_halo_would_be_seen(build, tiny, monkeypatch):
    """That is, the test above can fail."""
    monkeypatch.setattr("hpcm.codec.tiles.receptive_halo", lambda config: 0)
    engine, picture = TorchEngine(build(tiny), make_tables()), from_image(photo(300, 300))
    whole, pieces = (Tiling(engine.config, picture.size, side) for side in (1024, SMALL_TILE))
    y = analyse(engine, whole, picture, next(iter(whole)))
    first = analyse(engine, pieces, picture, next(iter(pieces)))
    assert not np.allclose(y[:16, :16], first, atol=1e-3)


@pytest.mark.parametrize("name", ["tiny", "tiny_base"])
def test_tiles_there_and_back(make, request, small_tiles, name):
    codec, image = make(request.getfixturevalue(name)), photo(520, 300)
    data = codec.compress(image)
    container = unpack(data)
    assert (container.tile_side, len(container.tiles)) == (SMALL_TILE, 6)
    tiling = Tiling(codec.engine.config, (300, 520), SMALL_TILE)
    y_hats = [y_hat for _, y_hat in encoded(codec, from_image(image), SMALL_TILE, container.level)]
    assert np.array_equal(np.asarray(codec.decompress(data)), decoded_from(codec.engine, tiling, y_hats))


@pytest.mark.parametrize("changed", [{}, {"hierarchy": False}, {"steps": (1, 1, 1)}])
@pytest.mark.parametrize("name", CONFIGS)
def test_previews_of_tiles(make, request, small_tiles, name, changed):
    """Of every kind of model: a region is the crop of the whole preview, and a single tile is as it was."""
    codec = make(replace(request.getfixturevalue(name), hyper_placement="aligned", **changed))
    data = codec.compress(photo(300, 280), progressive=True)  # four tiles
    for scale in (1, 2):
        whole = np.asarray(codec.decompress(data, scale=scale)).astype(int)
        region = np.asarray(codec.decompress(data, scale=scale, box=(250, 200, 300, 280)))
        assert np.abs(whole[200:280, 250:300] - region).max() <= 1


def test_a_tile_is_decoded_without_the_others(codec, small_tiles):
    container = unpack(codec.compress(photo(520, 300)))
    whole = np.asarray(codec.decompress(pack(container)))
    halo = 2 * LATENT_STRIDE
    for (left, top, right, bottom), tile in zip(container.tile_boxes(), container.tiles, strict=True):
        alone = replace(container, width=right - left, height=bottom - top, tiles=(tile,))
        part = np.asarray(codec.decompress(pack(alone)))[halo:-halo, halo:-halo].astype(int)
        assert np.abs(part - whole[top:bottom, left:right][halo:-halo, halo:-halo]).max(initial=0) <= 1


def test_a_damaged_tile_is_named(codec, small_tiles):
    container = unpack(codec.compress(photo(520, 300)))
    *parts, last = container.tiles[4]
    payload = bytearray(last.payload)
    payload[len(payload) // 2] ^= 1
    tiles = [*container.tiles]
    tiles[4] = (*parts, Part(bytes(payload), last.checksum))
    with pytest.raises(MismatchError, match=r"the tile at \(256, 256\)"):
        codec.decompress(pack(replace(container, tiles=tuple(tiles))))


# ---- padding costs nothing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 130), (33, 16), (65, 64), (256, 255)])
def test_only_what_touches_the_picture_is_coded(make, request, name, width, height):
    codec = make(request.getfixturevalue(name))
    ((symbols, _),) = encoded(codec, from_image(photo(width, height)))
    cells, hyper_cells = (-(-width // side) * -(-height // side) for side in (16, 64))
    config = codec.engine.config
    assert len(symbols[0].values) == config.N * hyper_cells
    assert sum(len(step.values) for step in symbols[1:]) == config.M * cells


@pytest.mark.parametrize("name", CONFIGS)
def test_one_pixel_is_few_bytes(make, request, name):
    codec = make(request.getfixturevalue(name))
    container = unpack(codec.compress(photo(1, 1)))
    config = codec.engine.config
    assert length(container.tiles[0]) <= config.M + config.N  # at most 8 bits each on random weights
    whole = unpack(codec.compress(photo(256, 256)))
    assert length(container.tiles[0]) < length(whole.tiles[0]) / 10


def test_padding_is_not_coded_whatever_it_holds(build, tiny_base):
    """16 x 16 latents, of which 3 x 2 touch the picture; the first hyper latent sees no latent beyond the eighth."""
    engine, random = TorchEngine(build(tiny_base), make_tables()), np.random.default_rng(0)
    y = random.normal(size=(16, 16, tiny_base.M)).astype(np.float32)
    other = y.copy()
    other[8:] = other[:, 8:] = 50
    (symbols, y_hat), (same, _) = (engine.record(latent, 0, (3, 2)) for latent in (y, other))
    for step, again in zip(symbols, same, strict=True):
        assert np.array_equal(step.values, again.values)
    left = iter(symbols)
    replayed = engine.replay(lambda scales: next(left).values, (16, 16), 0, (3, 2))
    assert np.array_equal(y_hat, replayed)  # also outside: its mean


# ---- quality and targets --------------------------------------------------------------------------------------------


def test_better_is_larger(bundled):
    image = photo(128, 128)
    files = [bundled.compress(image, quality=quality) for quality in (1, 25, 50, 75, 100)]
    sizes, qualities = [len(data) for data in files], [psnr(image, bundled.decompress(data)) for data in files]
    assert sizes == sorted(set(sizes))
    assert qualities == sorted(set(qualities))
    assert qualities[0] > 25  # dB


@pytest.mark.parametrize(("name", "quality"), [("kodim20", 1), ("kodim23", 40), ("kodim23", 80)])
def test_coded_size_is_the_estimate(bundled, name, quality):
    """The payload's bits, z and y, against the likelihoods of `forward`; the rest (under 52 bytes) doesn't count."""
    image = Image.open(KODAK / f"{name}.png").convert("RGB")
    image.info.clear()  # metadata
    data = bundled.compress(image, quality=quality)
    container = unpack(data)
    payload = 8 * sum(map(length, container.tiles))
    x = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None] / 255
    model = hpcm.load(engine="torch").engine.model
    with torch.no_grad():
        likelihoods = model(x, torch.tensor([container.level]))["likelihoods"]
    estimate = float(sum(bits(values.double()) for values in likelihoods.values()))
    assert 0.995 * estimate < payload < 1.005 * estimate
    assert len(data) - payload / 8 < 52  # 14 of them for being progressive


def quality_of(codec: Codec, level: int) -> int:
    return next(quality for quality in range(1, MAX_QUALITY + 1) if codec.level_of(quality) == level)


def test_bits_per_pixel(bundled):
    image = photo(256, 192)
    limit = len(bundled.compress(image, quality=50))  # bytes
    data = bundled.compress(image, bpp=8 * limit / (256 * 192))
    better = bundled.compress(image, quality=quality_of(bundled, unpack(data).level + 1))
    assert unpack(data).level >= bundled.level_of(50)
    assert len(data) <= limit < len(better)


def test_decibels(bundled):
    image = photo(256, 192)
    limit = psnr(image, bundled.decompress(bundled.compress(image, quality=50))) - 1e-3  # a sum of floats
    data = bundled.compress(image, psnr=limit)
    worse = bundled.compress(image, quality=quality_of(bundled, unpack(data).level - 1))
    assert unpack(data).level <= bundled.level_of(50)
    assert psnr(image, bundled.decompress(data)) >= limit > psnr(image, bundled.decompress(worse))


def test_targets_out_of_reach():
    """By the model whose PSNR rises with the level, also at the upper end."""
    image, bundled = photo(64, 64), hpcm.load("lite-mse")
    notes: list[str] = []
    data = bundled.compress(image, bpp=0.001, on_note=notes.append)
    assert unpack(data).level == 0
    smallest = f"the smallest file has {8 * len(data) / 64**2:.3f} ({len(data):,} bytes)"
    assert notes == [f"no level takes 0.001 bits per pixel or less: {smallest}"]
    notes.clear()
    data = bundled.compress(image, psnr=90, on_note=notes.append)
    assert unpack(data).level == bundled.engine.config.levels - 1
    assert unpack(data).residual == Residual("coefficients", STEPS[-1])
    used = f"the best one, {psnr(image, bundled.decompress(data)):.2f} dB, was used"
    assert notes == [f"no level of {bundled.weights.name} reaches 90 dB on this picture: {used}"]


UNEVEN = {  # pictures of which a higher level may have a lower PSNR or fewer bytes
    "white": np.full((64, 64, 3), 255, np.uint8),
    "black": np.zeros((64, 64, 3), np.uint8),
    "grey": np.full((64, 64), 128, np.uint8),
    "gradient": np.tile(np.linspace(0, 255, 128).astype(np.uint8), (64, 1)),
    "tiny": np.asarray(photo(107, 105))[100:, 100:],
}
TARGETS = 40  # of each picture


def trials(job: Encoding, notes: list[str]) -> Trials:
    """A picture at all levels of the model that it is encoded by."""
    levels = [Level(0, level) for level in range(job.levels)]
    height, width = job.picture.size
    return Trials(height * width, levels, lambda model: job, job.refine is not None, notes.append)


@pytest.mark.parametrize("name", UNEVEN)
def test_targets_where_levels_are_uneven(monkeypatch, name):
    """The smallest file that reaches a PSNR, the highest level within a size; against all levels."""
    bundled = hpcm.load("nano")
    job = Encoding(bundled.loaded(), from_image(Image.fromarray(UNEVEN[name])))
    job.keep_latents()
    files = [job.file(level) for level in range(job.levels)]
    quality = [job.psnr(level) for level in range(job.levels)]
    sizes = list(map(len, files))
    assert quality != sorted(quality)
    notes: list[str] = []
    monkeypatch.setattr(Encoding, "file", lambda self, level, residual: files[level])
    monkeypatch.setattr(Encoding, "psnr", lambda self, level, residual: quality[level])
    for target in np.linspace(min(quality), max(quality), TARGETS):
        data = trials(job, notes).reaching(float(target))
        assert len(data) == min(size for size, value in zip(sizes, quality, strict=True) if value >= target)
        assert quality[files.index(data)] >= target
    for size in range(min(sizes), max(sizes) + 1):
        data = trials(job, notes).smaller_than(8 * size / (job.picture.size[0] * job.picture.size[1]))
        assert data == files[max(level for level, taken in enumerate(sizes) if taken <= size)]
    assert not notes


def test_nothing_is_said_to_be_out_of_reach_that_is_not():
    """The best PSNR of a white picture isn't the last level's."""
    bundled = hpcm.load("nano")
    image = Image.fromarray(UNEVEN["white"])
    job = Encoding(bundled.loaded(), from_image(image))
    quality = [job.psnr(level) for level in range(job.levels)]
    assert quality[-1] < max(quality) - 0.1
    notes: list[str] = []
    data = trials(job, notes).reaching(max(quality) - 0.01)
    assert psnr(image, bundled.decompress(data)) >= max(quality) - 0.01
    assert not notes
    data = trials(job, notes).reaching(max(quality) + 0.01)
    assert len(notes) == 1
    assert f"the best one, {max(quality):.2f} dB, was used" in notes[0]
    assert unpack(data).level == int(np.argmax(quality))


def test_what_only_a_search_reaches_is_reached(bundled, monkeypatch):
    """With effort, a level counts with its refined latents before it is said that none reaches the target."""
    job = Encoding(bundled.loaded(), from_image(photo(64, 64)), refine=lambda job, level: job._latents)
    monkeypatch.setattr(Encoding, "psnr", lambda self, level, residual: 30 + level / 64 + (self.refine is None))
    monkeypatch.setattr(Encoding, "file", lambda self, level, residual: bytes(100 + level - 50 * (self.refine is None)))
    notes: list[str] = []
    assert len(trials(job, notes).reaching(31.5)) == 50 + 63
    assert len(trials(job, notes).smaller_than(8 * 80 / 64**2)) <= 80
    assert not notes
    trials(job, notes).reaching(32)
    trials(job, notes).smaller_than(8 * 40 / 64**2)
    best, smallest = notes
    assert "the best one, 31.98 dB, was used" in best
    assert re.search(r"the smallest file has .* \(50 bytes\)", smallest)


@pytest.mark.parametrize("target", [{"psnr": 30}, {"psnr": 36}, {"bpp": 0.3}, {"bpp": 1}])
def test_few_levels_are_tried_of_a_photograph(bundled, monkeypatch, target):
    tried = set()
    for name in ("file", "psnr"):
        method = getattr(Encoding, name)
        monkeypatch.setattr(
            Encoding, name, lambda self, *level, method=method: (tried.add(level), method(self, *level))[1]
        )
    bundled.compress(photo(256, 192), **target)
    assert 6 <= len(tried) <= bundled.levels.bit_length() + BELOW


def test_values_that_fall_are_noticed():
    """Whatever the values are: what is found reaches the target, or none does; with rising ones, it is the first."""
    random = np.random.default_rng(0)
    for _ in range(300):
        levels = int(random.integers(1, 65))
        rising = np.cumsum(random.uniform(0.1, 1, levels))
        uneven = rising + random.normal(0, random.choice([0.1, 2, 20]), levels)
        for values in (rising, uneven):
            target = float(random.uniform(values.min() - 1, values.max() + 1))
            tried = explored(range(levels), lambda level, values=values: float(values[level]), target)
            reached = [level for level, value in tried.items() if value >= target]
            assert tried == {level: values[level] for level in tried}
            assert bool(reached) == (values.max() >= target)
            if values is rising and reached:
                assert min(reached) == int(np.argmax(values >= target))
                assert len(tried) <= levels.bit_length() + BELOW + ABOVE


def test_a_model_that_is_not_exact_says_so_once(codec, bundled):
    notes: list[str] = []
    codec.compress(photo(8, 8), on_note=notes.append)
    assert len(notes) == 1
    assert notes[0].startswith("tiny isn't exact: its files may not decode on another machine")
    codec.compress(photo(8, 8), on_note=notes.append)
    bundled.compress(photo(8, 8), on_note=notes.append)
    assert len(notes) == 1


def test_notes_are_warnings_of_a_logger_unless_they_are_asked_for(codec, bundled, caplog):
    codec.compress(photo(8, 8))
    image = photo(8, 8).convert("P")
    hpcm.compress(image)
    (exact, converted) = caplog.records
    assert (exact.name, exact.levelname, converted.name, converted.levelname) == ("hpcm", "WARNING") * 2
    assert converted.getMessage() == "the picture's mode P was converted to RGB"
    caplog.clear()
    notes: list[str] = []
    bundled.compress(image, on_note=notes.append)
    assert notes == ["the picture's mode P was converted to RGB"]
    assert not caplog.records


def test_every_level_has_a_quality(codec):
    assert {codec.level_of(quality) for quality in range(1, MAX_QUALITY + 1)} == set(range(codec.levels))


@pytest.mark.parametrize(
    "wish",
    [
        {"quality": 0},
        {"quality": 101},
        {"quality": float("nan")},
        {"bpp": 0},
        {"bpp": float("nan")},
        {"psnr": -1},
        {"psnr": float("inf")},
        {"quality": 50, "bpp": 1},
        {"bpp": 1, "psnr": 30},
    ],
)
def test_impossible_wishes(codec, wish):
    with pytest.raises(UsageError, match=r"must be|exclude one another"):
        codec.compress(photo(8, 8), **wish)


# ---- limits come first ----------------------------------------------------------------------------------------------


class Untouchable:
    """Networks that nobody may use."""

    def __init__(self, levels: int = 64) -> None:
        self.config = SimpleNamespace(**{**vars(NANO), "levels": levels, "multiple": NANO.multiple})

    def __getattr__(self, name: str):
        raise AssertionError(f"{name} was asked for")


def flat(height: int, width: int) -> np.ndarray:
    """Grey pixels of any size, which take no memory."""
    return np.broadcast_to(np.zeros((1, 1), np.uint8), (height, width))


def pretended(**claims) -> SimpleNamespace:
    """A picture that claims what no Picture can."""
    return SimpleNamespace(**vars(Picture(flat(9, 9))), size=(9, 9), ancillary=(), **claims)


SOUND = {"engine": Untouchable(), "picture": Picture(flat(9, 9)), "name": "nano", "hash": bytes(8), "tile": 1024}
LONG = bytes(MAX_METADATA + 1)
REFUSED = {  # a field of the container: what makes it impossible, and what is said
    "width": ({"picture": Picture(flat(1, MAX_SIDE + 1))}, "width is 16777217"),
    "height": ({"picture": Picture(flat(MAX_SIDE + 1, 1))}, "height is 16777217"),
    "width and height": ({"picture": Picture(flat(65_537, 65_536))}, "number of pixels is 4295032832"),
    "model": ({"name": "../nano"}, "model name is '../nano'"),
    "model_hash": ({"hash": bytes(7)}, "length of the model hash is 7"),
    "level": ({"engine": Untouchable(levels=65)}, "quality level is 64"),
    "colour": (
        {"picture": SimpleNamespace(**vars(Picture(flat(9, 9))), size=(9, 9), colour="cmyk", ancillary=())},
        "cmyk",
    ),
    "bit_depth": (
        {
            "picture": SimpleNamespace(
                **vars(Picture(flat(9, 9), bit_depth=17)), size=(9, 9), colour="grey", ancillary=()
            )
        },
        "17",
    ),
    "tile_side": ({"tile": 1000}, "tile side is 1000"),
    "icc": ({"picture": Picture(flat(9, 9), icc=LONG)}, "length of the icc chunk is 16777217"),
    "exif": ({"picture": Picture(flat(9, 9), exif=LONG)}, "length of the exif chunk is 16777217"),
    "alpha": ({"picture": Picture(flat(9, 9), alpha=flat(99, 99))}, "length of the alpha chunk is"),
    "ancillary": ({"picture": Picture(flat(9, 9), xmp=LONG)}, "length of the ancillary chunk 'x' is 16777217"),
}


@pytest.mark.parametrize("field", REFUSED)
def test_what_a_file_can_not_say_is_refused_before_work_begins(monkeypatch, field):
    changed, message = REFUSED[field]
    given = {**SOUND, **changed}
    monkeypatch.setattr("hpcm.codec.encoder.pack_alpha", lambda alpha: bytes(alpha.size))
    loaded = (given["engine"], SimpleNamespace(name=given["name"], hash=given["hash"]))
    with pytest.raises(FormatError, match=message):
        Encoding(loaded, given["picture"], given["tile"])


def test_all_fields_are_refused():
    """That is, the list above is complete; the others don't depend on the picture."""
    named = {name for key in REFUSED for name in key.split(" and ")}
    assert named == {field.name for field in dataclasses.fields(Container)} - {"version", "passes", "residual", "tiles"}


def png_header(width: int, height: int) -> bytes:
    """The beginning of a grey PNG; whoever decodes pixels finds none."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))


@pytest.mark.parametrize("size", [(MAX_SIDE + 1, 1), (1, MAX_SIDE + 1), (1 << 15, (1 << 14) + 1)])
def test_a_picture_too_large_is_refused_by_its_header(codec, tmp_path, monkeypatch, size):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    width, height = size
    data, path = png_header(width, height), tmp_path / "long.png"
    data += struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    path.write_bytes(data)
    message = rf"the picture has {width} x {height} pixels: 1 to 536,870,912 are allowed, and 16,777,216 on a side"
    codec.engine.analyse = None  # nobody may use it
    with Image.open(path) as image:
        for source in (data, path, image):
            with pytest.raises(PictureError, match=message):
                codec.compress(source)
            with pytest.raises(PictureError, match=message):
                list(codec.compress_many([source]))


def test_an_array_too_large_is_refused(codec):
    codec.engine.analyse = None  # nobody may use it
    for shape in ((1, MAX_SIDE + 1), (MAX_SIDE + 1, 1)):
        with pytest.raises(PictureError, match="and 16,777,216 on a side"):
            codec.compress(np.zeros(shape, np.uint8))


# ---- wrong models and damaged files ---------------------------------------------------------------------------------


def test_another_model(codec, make, tiny):
    data = make(replace(tiny, name="other")).compress(photo(40, 30))
    with pytest.raises(MismatchError, match=r"made with model 'other' of hash [0-9a-f]{16}, this is 'tiny' of hash"):
        codec.decompress(data)


@pytest.mark.parametrize("factor", [1.05, 3.0])
def test_other_arithmetic_is_no_garbage(codec, factor):
    """The right model by its hash, whose numbers differ: the checksum notices."""
    data = codec.compress(photo(100, 60))
    for parameter in codec.engine.model.priors.parameters():
        parameter.mul_(factor)
    with pytest.raises(MismatchError, match="arithmetic"):
        codec.decompress(data)


def test_every_truncation(codec):
    data = codec.compress(photo(40, 30, "LA"))
    for length in range(len(data)):
        with pytest.raises(TruncatedError):
            codec.decompress(data[:length])


def test_random_flips(codec):
    image, random = photo(40, 30, "RGBA"), np.random.default_rng(0)
    image.info["icc_profile"] = b"a profile"
    data = codec.compress(image)
    for place, change in zip(random.integers(0, len(data), 1000), random.integers(1, 256, 1000), strict=True):
        damaged = bytearray(data)
        damaged[place] ^= change
        with pytest.raises(HPCMError):
            codec.decompress(bytes(damaged))


def test_forged_payloads(codec):
    """With every CRC right: what is decoded isn't what the checksum says."""
    container, random = unpack(codec.compress(photo(40, 30))), np.random.default_rng(0)
    ((tile,),) = container.tiles
    payloads = [
        b"",
        b"\1\2\3\4",
        b"\xff" * 4000,
        tile.payload + b"\1\0\0\0",
        tile.payload[4:],
        b"odd",
        tile.payload[:-4],
    ]
    payloads += [random.bytes(len(tile.payload)) for _ in range(50)]
    for payload in payloads:
        with pytest.raises((MismatchError, FormatError)):
            codec.decompress(pack(replace(container, tiles=((Part(payload, tile.checksum),),))))


def test_forged_symbols_are_just_wrong_pixels(codec):
    """Even the checksum may be right: huge latents give pixels, not errors and not warnings."""
    container = unpack(codec.compress(photo(40, 30)))
    for parameter in codec.engine.model.g_s.parameters():
        parameter.mul_(1e20)  # infinities, and their differences

    class Huge:
        def __init__(self, *_: object) -> None:
            pass

        def pop(self, indexes: np.ndarray) -> np.ndarray:
            return np.full(len(indexes), 2**31 - 1, np.int32)

        words_left = 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "SymbolDecoder", Huge)
        patch.setattr(engines, "checksum", lambda values, start: 0)
        decoded = codec.decompress(pack(replace(container, tiles=((Part(b"", 0),),))))
    assert decoded.size == (40, 30)


@pytest.mark.parametrize(
    ("width", "height", "side", "message"),
    [
        (1 << 14, (1 << 14) + 1, 1024, f"claims 16384 x 16385 pixels, over {MAX_DECODED:,}: allow more"),
        (1 << 16, 1 << 16, 1 << 16, "claims 65536 x 65536 pixels"),
        (1 << 14, 1 << 14, 1 << 16, f"tiles of 65536 pixels, this hpcm reads {MAX_TILE_SIDE}"),
    ],
)
def test_bombs(codec, monkeypatch, width, height, side, message):
    """A small file that claims a huge picture is refused before anything is allocated for it."""
    container: Container = replace(unpack(codec.compress(photo(1, 1))), width=width, height=height, tile_side=side)
    tiles = len(container.tile_boxes())
    bomb = pack(replace(container, tiles=((Part(b"", 0),),) * tiles))
    monkeypatch.setattr(decoding, "Tiling", None)
    with pytest.raises(FormatError, match=message):
        codec.decompress(bomb)


def test_the_caller_bounds_the_pixels(codec, make, tiny, monkeypatch):
    data = codec.compress(photo(40, 30))
    assert codec.decompress(data, max_pixels=1200).size == (40, 30)
    refused = pytest.raises(FormatError, match=r"claims 40 x 30 pixels, over 1,199: .* \(max_pixels, --max-pixels\)")
    with refused:
        codec.decompress(data, max_pixels=1199)
    with refused:
        hpcm.load(codec.weights.path, max_pixels=1199).decompress(data)
    monkeypatch.setenv("HPCM_WEIGHTS", str(codec.weights.path.parent))
    with refused:
        hpcm.decompress(data, max_pixels=1199)


def test_memory_is_taken_for_what_was_decoded(codec, monkeypatch):
    """A file within the bounds whose first tile is wrong: 0.8 GB of pixels are never asked for."""
    small = unpack(codec.compress(photo(1, 1)))
    container: Container = replace(small, width=1 << 14, height=1 << 14, tile_side=4096)
    bomb = pack(replace(container, tiles=((Part(b"", 0),),) * len(container.tile_boxes())))
    assert len(bomb) < 1000
    taken = []
    empty = np.empty
    monkeypatch.setattr(np, "empty", lambda shape, *rest: (taken.append(np.prod(shape)), empty(shape, *rest))[1])
    monkeypatch.setattr(codec.engine, "decode", lambda *_: (_ for _ in ()).throw(CorruptError("no more symbols")))
    with pytest.raises(MismatchError, match=r"tile at \(0, 0\)"):
        codec.decompress(bomb)
    assert max(taken, default=0) < 1 << 20


def test_a_container_is_unpacked_once(codec, monkeypatch):
    data = codec.compress(photo(40, 30))
    monkeypatch.setenv("HPCM_WEIGHTS", str(codec.weights.path.parent))
    unpacked = []
    monkeypatch.setattr(api, "unpack", lambda data: (unpacked.append(data), unpack(data))[1])
    assert hpcm.decompress(data).size == (40, 30)
    assert unpacked == [data]


def test_level_out_of_range(make, tiny_base):
    codec = make(tiny_base)
    container = unpack(codec.compress(photo(20, 20)))
    with pytest.raises(FormatError, match="quality level 1, the model only 1"):
        codec.decompress(pack(replace(container, level=1)))


def test_a_picture_of_too_many_pixels(codec):
    class Huge(Image.Image):
        size = (1 << 15, 1 << 15)
        width = height = 1 << 15

    with pytest.raises(PictureError, match=r"has 32768 x 32768 pixels: 1 to 536,870,912 are allowed"):
        codec.compress(Huge())


# ---- several at once ------------------------------------------------------------------------------------------------


def test_many(codec):
    images = [photo(30 + i, 20) for i in range(11)]
    assert list(codec.compress_many(iter(images), quality=20, workers=3)) == [
        codec.compress(image, quality=20) for image in images
    ]
    assert list(codec.compress_many([])) == []


def test_many_are_read_as_needed(codec):
    taken = []
    files = codec.compress_many((taken.append(i) or photo(30, 20) for i in range(100)), workers=2)
    next(files)
    assert len(taken) <= 5
    files.close()


def test_one_of_many_fails(codec):
    files = codec.compress_many([photo(30, 20), b"no picture", photo(30, 20)], workers=2)
    assert next(files) == codec.compress(photo(30, 20))
    with pytest.raises(PictureError):
        next(files)


# ---- whatever surrounds it ------------------------------------------------------------------------------------------


def test_threads_at_once(codec):
    images = [photo(100 + i, 80) for i in range(6)]
    expected = [codec.compress(image, quality=60) for image in images]
    with ThreadPoolExecutor(2) as pool:
        files = list(pool.map(lambda image: codec.compress(image, quality=60), images))
        pictures = list(pool.map(codec.decompress, files))
    assert files == expected
    for picture, data in zip(pictures, expected, strict=True):
        assert np.array_equal(np.asarray(picture), np.asarray(codec.decompress(data)))


@pytest.fixture
def double() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def test_under_another_default_dtype(make, tiny, double):
    codec = make(tiny)
    data = codec.compress(photo(70, 50))
    torch.set_default_dtype(torch.float32)
    plain = hpcm.load(codec.weights.path)
    plain.decompress(data)
    assert unpack(plain.compress(photo(70, 50))).tiles == unpack(data).tiles


@pytest.mark.parametrize(
    "context", [lambda: torch.autocast("cpu", torch.bfloat16), torch.enable_grad, torch.inference_mode]
)
def test_under_another_mode(make, tiny, context):
    """Neither the file nor the picture depends on the caller's mode."""
    codec = make(replace(tiny, levels=4))  # few, for all may be tried
    codec.engine.model.requires_grad_(True)
    image = photo(70, 50)
    data = codec.compress(image, psnr=1)
    with context():
        assert codec.compress(image, psnr=1) == data
        decoded = codec.decompress(data)
    assert np.array_equal(np.asarray(decoded), np.asarray(codec.decompress(data)))


def test_training_goes_on_after_coding(codec, tiny):
    """What coding caches for a size of latents is of use to training."""
    model = HPCM(tiny).train()
    with torch.inference_mode():
        codec.decompress(codec.compress(photo(192, 64)))
        model(torch.rand(1, 3, 128, 192), torch.tensor([3]))
    model(torch.rand(1, 3, 128, 192), torch.tensor([3]))["x_hat"].mean().backward()
    out = model(torch.rand(1, 3, 64, 192), torch.tensor([3]))
    (out["x_hat"].mean() + bits(out["likelihoods"]["y"])).backward()
    assert model.h_s[0].weight.grad is not None


def test_weights_that_are_written_anew_meanwhile(codec):
    """As a training run does: the file names the model that made it."""
    before = codec.weights.hash
    path = codec.weights.path
    fresh = hpcm.load(path)
    path.write_bytes(path.read_bytes() + b" ")
    assert unpack(fresh.compress(photo(8, 8))).model_hash == before


@pytest.mark.parametrize("device", ["cuda", "nonsense"])
def test_a_device_that_is_not_there(codec, device):
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(UsageError, match=f"device {device} can't be used: "):
        hpcm.load(codec.weights.path, device)


def test_the_shortest_way(codec, monkeypatch):
    monkeypatch.setenv("HPCM_WEIGHTS", str(codec.weights.path.parent))
    data = hpcm.compress(photo(40, 30), quality=70, model="tiny")
    assert data == codec.compress(photo(40, 30), quality=70)
    assert hpcm.decompress(data) == hpcm.decompress(data, model=codec.weights.path) == codec.decompress(data)


@pytest.mark.parametrize("how", [{"quality": "50"}, {"quality": 50.5}, {"quality": 0}, {"bpp": "1"}, {"psnr": -1}])
def test_targets_that_are_none(codec, how):
    ((name, value),) = how.items()
    with pytest.raises(UsageError, match=re.escape(f"{name} is {value!r}: it must be ")):
        codec.compress(photo(8, 8), **how)


def test_threads_that_are_none():
    with pytest.raises(UsageError, match="threads is 0: it must be 1 to 256"):
        hpcm.load("nano", threads=0)
