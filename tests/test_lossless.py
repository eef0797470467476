"""Lossless and near-lossless files: every sample, whatever the picture, whole and in parts, and what is refused."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

import hpcm
import hpcm.pillow
from hpcm import cli
from hpcm.codec import lossless
from hpcm.codec import residual as layer
from hpcm.codec.codec import Codec
from hpcm.codec.info import file_info
from hpcm.codec.lossless import has_few_colours, repeats
from hpcm.codec.quality import quality_of
from hpcm.errors import CorruptError, FormatError, MismatchError, PictureError, TruncatedError, UsageError
from hpcm.format.container import pack, unpack
from hpcm.format.fields import Part, Residual
from hpcm.image import deep
from hpcm.image.hdr import GainMap
from hpcm.image.picture import from_image, picture_of_planes
from hpcm.image.planes import Planes
from hpcm.image.read import read_picture
from hpcm.image.write import save_picture
from hpcm.nn.weights import save
from hpcm.util.notes import ignore_note
from test_samples import AVIF_OF_10_BITS
from test_samples import tiff as tiff_of

HERE = Path(__file__).parent
GOLDEN = HERE / "golden"
PHOTO = Image.open(HERE / "data" / "kodim23.png").convert("RGB").crop((300, 100, 300 + 300, 100 + 201))
RGB = np.asarray(PHOTO)  # two tiles of 256, of odd sides
SEVERAL = {"tile": 256}
DEPTHS = (8, 9, 10, 12, 16)


@pytest.fixture(scope="module")
def codec() -> Codec:
    """Exact, with random weights: its lossy picture says little of the original."""
    return hpcm.load(GOLDEN / "tiny.safetensors", threads=1)


@pytest.fixture(scope="module")
def file(codec) -> bytes:
    """Two tiles, not progressive."""
    return codec.compress(RGB, lossless=True, **SEVERAL)


@pytest.fixture(scope="module")
def progressive(codec) -> bytes:
    return codec.compress(RGB, lossless=True, progressive=True, **SEVERAL)


def of_depth(samples: np.ndarray, bit_depth: int) -> np.ndarray:
    """Samples of 8 bits as those of more, in which the lower bits are noise."""
    if bit_depth == 8:
        return samples
    noise = np.random.default_rng(0).integers(0, 1 << bit_depth - 8, samples.shape)
    return (samples.astype(np.uint16) << bit_depth - 8) + noise.astype(np.uint16)


def with_channels(channels: int) -> np.ndarray:
    """The photograph: grey, with alpha, RGB, with alpha."""
    alpha = np.linspace(0, 255, RGB[..., 0].size).reshape(RGB.shape[:2]).astype(np.uint8)
    colours = RGB[..., 1:2] if channels < 3 else RGB
    return np.dstack((colours, alpha)) if channels % 2 == 0 else colours[..., 0] if channels == 1 else colours


def screen(size: tuple[int, int] = (300, 201)) -> Image.Image:
    """As a page on a screen: few colours, letters, repeated rows."""
    image = Image.new("RGB", size, (250, 250, 245))
    draw = ImageDraw.Draw(image)
    for row in range(8, size[1], 22):
        draw.text((10, row), "the same words again and again 0123456789", (20, 20, 60))
        draw.line((0, row - 3, size[0], row - 3), (200, 120, 40))
    return image


# ---- every sample ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("bit_depth", DEPTHS)
def test_every_sample_comes_back(codec, channels, bit_depth):
    samples = of_depth(with_channels(channels), bit_depth)
    given = {"bit_depth": bit_depth} if bit_depth > 8 else {}
    for bound in (0, 3):
        data = codec.compress(samples, max_error=bound, **given, **SEVERAL)
        decoded = codec.decompress_array(data)
        assert decoded.dtype == samples.dtype
        off = np.abs(decoded.astype(int) - samples)
        assert off.max() == bound  # it is used, too
        if channels % 2 == 0:
            assert off[..., -1].max() == 0
        assert unpack(data).residual == Residual("samples", bound)


@pytest.mark.parametrize("size", [(1, 1), (1, 70), (65, 1), (63, 64), (64, 65), (7, 257)])
def test_sizes(codec, size):
    samples = np.random.default_rng(1).integers(0, 256, (*size, 3)).astype(np.uint8)
    data = codec.compress(samples, lossless=True, **SEVERAL)
    assert np.array_equal(codec.decompress_array(data), samples)


@pytest.mark.parametrize("name", ["flat", "noise", "checks", "ends"])
def test_hard_pictures(codec, name):
    rng, checks = np.random.default_rng(2), np.indices((90, 70)).sum(axis=0) % 2
    picture = {
        "flat": np.full((90, 70, 3), 77),
        "noise": rng.integers(0, 256, (90, 70, 3)),
        "checks": np.dstack((checks, 1 - checks, checks)) * 255,
        "ends": rng.integers(0, 2, (90, 70, 3)) * 255,
    }[name].astype(np.uint8)
    for bound in (0, 1, 127):
        decoded = codec.decompress_array(codec.compress(picture, max_error=bound, on_note=ignore_note))
        assert np.abs(decoded.astype(int) - picture).max() <= bound


def test_a_larger_error_saves_bytes(codec):
    sizes = [len(codec.compress(RGB, max_error=bound)) for bound in (0, 1, 2, 4, 8)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[1] < 0.8 * sizes[0]


def test_lossless_is_a_largest_error_of_0(codec, file):
    assert codec.compress(RGB, max_error=0, **SEVERAL) == codec.compress(RGB, lossless=True, max_error=0, **SEVERAL)
    assert codec.compress(RGB, max_error=0, **SEVERAL) == file


@pytest.mark.parametrize("quality", [1, 40, 80])
def test_the_lossy_picture_has_the_quality_that_is_asked_for(codec, quality):
    data = codec.compress(RGB, lossless=True, quality=quality, **SEVERAL)
    assert np.array_equal(codec.decompress_array(data), RGB)
    lossy = codec.decompress(codec.compress(RGB, quality=quality, **SEVERAL))
    assert np.array_equal(codec.decompress(data, scale=3), lossy)
    container = unpack(data)
    assert quality_of(container.level, codec.engine.config.levels, container.residual) == quality


def test_a_screen_is_coded_beside_grey(codec):
    data = codec.compress(screen(), lossless=True, **SEVERAL)
    container = unpack(data)
    assert container.residual == Residual("samples beside grey", 0)
    assert np.array_equal(codec.decompress(data), screen())
    png = io.BytesIO()
    screen().save(png, "png", optimize=True)
    assert len(data) < len(png.getvalue())
    with_picture = codec.compress(screen(), lossless=True, quality=1, **SEVERAL)
    assert unpack(with_picture).residual == Residual("samples", 0)
    assert len(with_picture) > len(data)


@pytest.mark.parametrize("name", ["lite", "nano"])
def test_bundled_models(name):
    codec = hpcm.load(name)
    data = codec.compress(PHOTO, lossless=True)
    assert np.array_equal(codec.decompress(data), PHOTO)
    assert len(data) < 1.03 * len(webp(PHOTO))


def webp(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "webp", lossless=True, quality=100, method=6)
    return file.getvalue()


def test_both_engines_and_any_threads_give_the_same(file, progressive):
    for options in ({"engine": "torch"}, {"threads": 2}, {"engine": "torch", "threads": 2}):
        codec = hpcm.load(GOLDEN / "tiny.safetensors", **options)
        assert codec.compress(RGB, lossless=True, **SEVERAL) == file
        assert codec.compress(RGB, lossless=True, progressive=True, **SEVERAL) == progressive
        assert np.array_equal(codec.decompress(file), RGB)


def test_another_device_makes_them_on_the_cpu(file):
    """A GPU's pixels aren't those of others; here the device is torch's CPU by another name."""
    codec = hpcm.load(GOLDEN / "tiny.safetensors", "cpu:0")
    codec.engine.synthesise = wrong  # as a GPU may
    assert codec.compress(RGB, lossless=True, **SEVERAL) == file
    assert np.array_equal(codec.decompress(file), RGB)
    with pytest.raises(ArithmeticError):
        codec.decompress(file, scale=3)


def wrong(*arguments, **options):
    raise ArithmeticError("not by this one")


def test_many_at_once(codec):
    images = [PHOTO, PHOTO.rotate(90, expand=True), PHOTO.convert("L")]
    for image, data in zip(images, codec.compress_many(images, workers=2, lossless=True), strict=True):
        assert np.array_equal(codec.decompress(data), image)


def test_a_gain_map_is_kept_without_loss_too(codec):
    image = Image.fromarray(RGB)
    gains = Image.linear_gradient("L").resize((75, 50))
    iso = hpcm.decompress(GOLDEN / "format.hpcm").info["gain_map"].iso
    image.info["gain_map"] = GainMap(iso, gains)
    back = codec.decompress(codec.compress(image, lossless=True)).info["gain_map"]
    assert np.array_equal(back.image, gains)
    lossy = codec.decompress(codec.compress(image, quality=40)).info["gain_map"]
    assert not np.array_equal(lossy.image, gains)
    deep_image = replace(from_image(image), bit_depth=10, pixels=of_depth(RGB, 10))
    near = codec.decompress_picture(codec.compress(deep_image, max_error=9)).hdr
    assert 0 < np.abs(np.asarray(near.image).astype(int) - gains).max() <= 9 >> 2


# ---- what is promised is proved -------------------------------------------------------------------------------------


def test_a_file_that_was_not_decoded_rightly_is_not_given(codec, monkeypatch):
    def decode(loaded, container, **options):
        picture = right(loaded, container, **options)
        picture.pixels[50, 60] ^= 1
        return picture

    right = lossless.decode
    monkeypatch.setattr(lossless, "decode", decode)
    for how in ({"lossless": True}, {"lossless": True, "quality": 30}):
        with pytest.raises(MismatchError, match="samples are off by more than 0: this machine computes wrongly"):
            codec.compress(RGB, **how)
    codec.compress(RGB, quality=30)
    with pytest.raises(MismatchError):
        codec.compress(screen(), lossless=True)


def test_wrong_alpha_is_no_less_wrong(codec, monkeypatch):
    def decode(*given, **options):
        return replace(right(*given, **options), alpha=None)

    right = lossless.decode
    monkeypatch.setattr(lossless, "decode", decode)
    with pytest.raises(MismatchError):
        codec.compress(with_channels(4), lossless=True)


def other_base(data: bytes) -> bytes:
    """A sound file whose residual of the second tile was made beside another picture."""
    container = unpack(data)
    first, second = container.tiles
    changed = (*second[:-1], Part(second[-1].payload, second[-1].checksum ^ 1))
    return pack(replace(container, tiles=(first, changed)))


def test_another_base_is_an_error_never_a_wrong_picture(codec, file):
    data = other_base(file)
    with pytest.raises(MismatchError, match=r"tile at \(256, 0\) isn't the one .* `hpcm selftest`"):
        codec.decompress(data)
    assert np.array_equal(codec.decompress(data, scale=3), codec.decompress(file, scale=3))
    assert np.array_equal(codec.decompress(data, box=(0, 0, 256, 201)), RGB[:, :256])
    with pytest.raises(MismatchError):
        codec.decompress(data, box=(255, 0, 257, 1))


def test_forged_residuals(codec, file):
    """With right CRCs of their bytes: an error by name, never wrong samples."""
    container, rng = unpack(file), np.random.default_rng(3)
    first, second = (tile[-1].payload for tile in container.tiles)
    random = (rng.integers(0, 256, size).astype(np.uint8).tobytes() for size in (0, 1, 3, 4, 40, 4000))
    sound = (first[: len(first) // 2] + first[-4:], b"\0" + first[-4:], second, bytes(4), first[:-4])
    for payload in (*random, *sound, bytes([first[0], first[1] ^ 1]) + first[2:]):
        tiles = tuple((*tile[:-1], Part(payload, tile[-1].checksum)) for tile in container.tiles)
        with pytest.raises((CorruptError, MismatchError), match="the residual of the tile at"):
            codec.decompress(pack(replace(container, tiles=tiles)))


def test_a_decoder_that_computes_wrongly_is_noticed(codec, file, monkeypatch):
    right = layer.decode_residual

    def wrong(*given):
        samples = right(*given)
        samples[-1, -1, -1] ^= 1
        return samples

    monkeypatch.setattr(layer, "decode_residual", wrong)
    with pytest.raises(MismatchError, match="decodes to other samples than it was made of"):
        codec.decompress(file)


def test_layers_that_no_file_has(file):
    container = unpack(file)
    for residual in (Residual("samples", 128), Residual("coefficients", 0)):
        with pytest.raises(FormatError, match="of the residual layer is"):
            pack(replace(container, residual=residual))


# ---- parts of a file ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("box", [(0, 0, 300, 201), (10, 20, 60, 50), (250, 100, 262, 140), (299, 200, 300, 201)])
def test_a_region_is_that_of_the_picture(codec, file, box):
    left, top, right, bottom = box
    assert np.array_equal(codec.decompress(file, box=box), RGB[top:bottom, left:right])


def test_reduced_pictures(codec, file):
    """Below an eighth of the exact picture, from then on of the lossy one; beside grey there is none."""
    plain = codec.compress(RGB, quality=1, **SEVERAL)
    exact = RGB[:200, :300].reshape(100, 2, 150, 2, 3).mean(axis=(1, 3))
    half = np.asarray(codec.decompress(file, draft=(150, 100)))
    assert np.abs(half[:100] - exact).max() <= 0.5
    assert np.array_equal(codec.decompress(file, draft=(37, 25)), codec.decompress(plain, draft=(37, 25)))
    drawn = codec.compress(screen(), lossless=True, **SEVERAL)
    exact = np.asarray(screen())[:200, :296].reshape(25, 8, 37, 8, 3).mean(axis=(1, 3))
    assert np.abs(np.asarray(codec.decompress(drawn, draft=(37, 25)))[:25, :37] - exact).max() <= 0.5


def test_previews(codec, file, progressive):
    lossy = codec.decompress(codec.compress(RGB, quality=1, **SEVERAL))
    plain = codec.compress(RGB, quality=1, progressive=True, **SEVERAL)
    for scale in (1, 2, 3):
        assert np.array_equal(codec.decompress(progressive, scale=scale), codec.decompress(plain, scale=scale))
    assert np.array_equal(codec.decompress(file, scale=3), lossy)
    for scale, note in ((1, "the file isn't progressive: its lossy picture was decoded"), (3, None)):
        notes = []
        assert np.array_equal(codec.decompress(file, scale=scale, on_note=notes.append), lossy)
        assert notes == ([] if note is None else [note])
    notes = []
    drawn = codec.compress(screen(), lossless=True)
    assert np.array_equal(codec.decompress(drawn, scale=3, on_note=notes.append), screen())
    assert notes == ["the file has no lossy picture: decoded whole"]


def ends_of_parts(data: bytes) -> list[int]:
    """Where the parts of a file end, in bytes, in their order."""
    ends, cut = [], len(data)
    whole = sum(map(len, unpack(data).tiles))
    while whole:
        ends.append(cut)
        low, high = 0, cut - 1  # the longest beginning with fewer parts
        whole -= 1
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (low, middle - 1) if parts_in(data[:middle]) > whole - 1 else (middle, high)
        cut = low + 1 if whole else 0
    return ends[::-1]


def parts_in(beginning: bytes) -> int:
    try:
        return sum(map(len, unpack(beginning, partial=True).tiles))
    except TruncatedError:
        return 0


@pytest.mark.parametrize("name", ["file", "progressive"])
def test_a_file_that_was_cut(codec, request, name):
    """At every part: what is there of the lossy picture, and exact tiles as far as they go."""
    data = request.getfixturevalue(name)
    container = unpack(data)
    layer = "the file was cut short: its residual layer is there for {} of 2 tiles, the rest is the lossy picture"
    for count in range(1, 2 * container.parts):
        tiles = tuple(
            tile[: sum(turn * 2 + i < count for turn in range(container.parts))]
            for i, tile in enumerate(container.tiles)
        )
        beginning, notes = replace(container, tiles=tiles), []
        with pytest.raises(TruncatedError):
            codec.decompress(beginning)
        image = np.asarray(codec.preview(beginning, on_note=notes.append))
        exact = max(count - 2 * (container.parts - 1), 0)
        assert notes == [layer.format(exact)]
        lossy = codec.decompress(
            replace(container, residual=None, tiles=tuple(t[: container.passes] for t in tiles)), partial=True
        )
        assert np.array_equal(image[:, :256], RGB[:, :256] if exact else np.asarray(lossy)[:, :256])
        assert np.array_equal(image[:, 256:], np.asarray(lossy)[:, 256:])


def test_cut_bytes(codec, progressive):
    """Of a real beginning of the file: never an exact picture, never something that isn't expected."""
    for size in range(0, len(progressive), len(progressive) // 40):
        notes = []
        try:
            image = codec.preview(progressive[:size], on_note=notes.append)
        except TruncatedError:
            assert size < 200
            continue
        assert image.size == PHOTO.size
        assert image.info["progress"] < 1
        assert len(notes) == 1
    assert codec.preview(progressive, on_note=notes.append).info["progress"] == 1
    assert len(notes) == 1


def test_a_file_beside_grey_that_was_cut(codec):
    data, notes = codec.compress(screen(), lossless=True, **SEVERAL), []
    image = np.asarray(codec.preview(data[:-3], on_note=notes.append))
    assert np.array_equal(image[:, :256], np.asarray(screen())[:, :256])
    assert {*image[:, 256:].ravel()} == {128}
    assert notes == ["the file was cut short: its residual layer is there for 1 of 2 tiles, the rest is grey"]


# ---- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"lossless": True, "bpp": 1.0}, "lossless and max_error exclude bpp and psnr"),
        ({"max_error": 0, "psnr": 40.0}, "lossless and max_error exclude bpp and psnr"),
        ({"lossless": True, "max_error": 2}, "lossless and max_error exclude one another"),
        (
            {"lossless": True, "quality": 90},
            "quality is 90: that of the lossy picture in a lossless file is at most 80",
        ),
        ({"max_error": -1}, "max_error is -1: it must be 0"),
        ({"max_error": 1.5}, "max_error is 1.5: it must be 0"),
        ({"max_error": 200}, "max_error is 200: for samples of 8 bits it must be 0 to 127"),
    ],
)
def test_wrong_promises(codec, how, message):
    with pytest.raises(UsageError, match=message):
        codec.compress(RGB, **how)


def test_the_largest_error_depends_on_the_depth(codec):
    flat = np.zeros((8, 8), np.uint16)
    codec.compress(flat, bit_depth=10, max_error=511, on_note=ignore_note)
    with pytest.raises(UsageError, match="of 10 bits it must be 0 to 511"):
        codec.compress(flat, bit_depth=10, max_error=512)


def test_models_without_exact_pixels(tmp_path, build, tiny):
    save(build(tiny), tmp_path / "loose.safetensors", {})
    for path in (tmp_path / "loose.safetensors", GOLDEN / "tiny-base.safetensors"):
        codec = hpcm.load(path)
        with pytest.raises(UsageError, match="can't make lossless files: its pixels differ from machine to machine"):
            codec.compress(RGB, lossless=True)


LOSSY_SOURCES = {  # what a note says of samples that are lost
    **{mode: f"mode {mode} was converted to RGB" for mode in ("CMYK", "LAB", "HSV", "YCbCr")},
    "RGBa": "multiplied by alpha",
    "La": "multiplied by alpha",
    "extra channel": "extra channels are not kept",
    "rotated": "16 bits a sample, and 8 are kept",
}


@pytest.mark.parametrize("name", LOSSY_SOURCES)
def test_pictures_of_which_samples_are_lost_are_refused(codec, name):
    small = PHOTO.resize((24, 16))
    if name == "extra channel":
        image = tiff_of(np.asarray(small.convert("RGBA")), 8, 2, extra=(0,))
    elif name == "rotated":
        image = Image.open(io.BytesIO(deep_png())).rotate(90)
        image.info["bit_depth"] = 16
    elif name in ("RGBa", "La"):
        image = small.convert("RGBA" if name == "RGBa" else "LA").convert(name)
    else:
        image = small.convert("RGB") if name == "LAB" else small.convert(name)
        image = Image.merge("LAB", image.split()) if name == "LAB" else image
    notes = []
    codec.compress(image, quality=20, on_note=notes.append)
    assert any(LOSSY_SOURCES[name] in note for note in notes)
    for promise in ({"lossless": True}, {"max_error": 5}):
        with pytest.raises(PictureError, match=f"neither lossless nor max_error .*{LOSSY_SOURCES[name]}"):
            codec.compress(image, **promise)


def deep_png() -> bytes:
    """Colours of 16 bits."""
    return save_picture(picture_of_planes(Planes(of_depth(RGB, 16), 16)), ".png")


def test_what_pillow_reads_in_part_is_refused(codec, monkeypatch):
    """Without the package that reads 10 bits."""
    monkeypatch.setattr(deep, "_imagecodecs", lambda: None)
    with pytest.raises(PictureError, match="10 bits a sample, and 8 are kept; all are with: pip install"):
        codec.compress(AVIF_OF_10_BITS, lossless=True)


@pytest.mark.parametrize("mode", ["P", "PA", "RGBX", "1", "L", "LA", "RGBA", "I;16", "I"])
def test_pictures_that_are_only_written_in_another_way(codec, mode):
    image = PHOTO.quantize(64) if mode == "P" else PHOTO.convert("L") if mode in ("I;16", "I") else PHOTO
    image = image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)
    expected = image.convert({"P": "RGB", "PA": "RGBA", "RGBX": "RGB", "1": "L", "I": "I;16"}.get(mode, mode))
    back = codec.decompress(codec.compress(image, lossless=True, on_note=ignore_note))
    assert back.mode == expected.mode
    assert np.array_equal(back, expected)


@pytest.mark.parametrize("kind", ["array", "half", "image"])
def test_floats_are_refused(codec, kind):
    floats = RGB[..., 0].astype(np.float16 if kind == "half" else np.float32)
    source = Image.fromarray(floats) if kind == "image" else floats
    with pytest.raises(PictureError, match=r"must be uint8 or uint16|mode F can't be coded"):
        codec.compress(source, lossless=True)


def test_colours_in_srgb_are_kept_as_they_were_converted(codec):
    """The wish for other colours comes first; with a profile that can be applied CMYK isn't refused."""
    image = codec.decompress(codec.compress(PHOTO, lossless=True, icc="srgb"))
    assert np.array_equal(image, PHOTO)
    with pytest.raises(PictureError, match="mode CMYK was converted"):
        codec.compress(PHOTO.convert("CMYK"), lossless=True, icc="srgb")


# ---- stopping -------------------------------------------------------------------------------------------------------


class Enough(Exception):
    pass


@pytest.mark.parametrize("threads", [1, 2])
def test_a_check_ends_the_work(file, threads):
    codec = hpcm.load(GOLDEN / "tiny.safetensors", threads=threads)
    counted = []
    assert codec.compress(RGB, lossless=True, check=lambda: counted.append(1), **SEVERAL) == file
    for last in (1, len(counted) // 2, len(counted) - 2):
        left = iter(range(last))

        def check(left=left) -> None:
            if next(left, None) is None:
                raise Enough

        with pytest.raises(Enough):
            codec.compress(RGB, lossless=True, check=check, **SEVERAL)
    counted.clear()
    codec.decompress(file, check=lambda: counted.append(1))
    left = iter(range(len(counted) - 1))
    with pytest.raises(Enough):
        codec.decompress(file, check=check)


# ---- notes, info, choices -------------------------------------------------------------------------------------------


def test_a_note_offers_lossless_files(codec):
    png, notes = io.BytesIO(), []
    screen().save(png, "png", compress_level=0)
    codec.compress(png.getvalue(), quality=1, on_note=notes.append)
    assert notes == ["the picture has few colours: a lossless file (--lossless) keeps them, often in fewer bytes"]
    notes.clear()
    jpeg = io.BytesIO()
    PHOTO.save(jpeg, "jpeg", quality=2)
    codec.compress(jpeg.getvalue(), quality=80, on_note=notes.append)
    assert len(notes) == 1
    assert notes[0].endswith("; of drawings, pages and screens, lossless files (--lossless) may be smaller")
    notes.clear()
    codec.compress(png.getvalue(), lossless=True, on_note=notes.append)
    codec.compress(screen(), quality=1, on_note=notes.append)  # which is no file
    assert notes == []


def test_few_colours():
    assert has_few_colours(np.asarray(screen()))
    assert has_few_colours(np.asarray(screen().convert("1").convert("L")))
    assert not has_few_colours(RGB)
    assert not has_few_colours(RGB[..., 0])
    assert not has_few_colours(RGB[:8, :8])  # any picture of 64 pixels has few
    assert has_few_colours(np.asarray(screen((3000, 2000))))
    assert repeats(np.asarray(screen()))
    assert not repeats(RGB)


def test_info(codec, file, progressive):
    fields = file_info(unpack(file), len(file), codec.weights)
    assert fields["residual"] == {"beside": "lossy picture", "max_error": 0, "lossless": True}
    assert (fields["quality"], fields["level"], fields["progress"]) == (1, 0, 1)
    cut = unpack(progressive[:-3], partial=True)
    assert file_info(cut, len(progressive) - 3, codec.weights)["progress"] == 7 / 8
    drawn = codec.compress(screen(), max_error=2)
    fields = file_info(unpack(drawn), len(drawn), codec.weights)
    assert fields["residual"] == {"beside": "grey", "max_error": 2, "lossless": False}
    assert fields["quality"] is None
    assert file_info(unpack(file), len(file), None)["quality"] is None


# ---- the command line -----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    PHOTO.save("photo.png")
    return tmp_path


def run(*arguments: str) -> int:
    return cli.main(list(map(str, arguments)))


MODEL = ("--model", GOLDEN / "tiny.safetensors")


@pytest.mark.parametrize("suffix", [".png", ".tif", ".ppm", ".webp"])
@pytest.mark.parametrize("kind", ["photo", "deep", "alpha"])
def test_from_a_file_to_a_file(folder, capfd, suffix, kind):
    if (kind, suffix) in (("deep", ".webp"), ("alpha", ".ppm")):
        pytest.skip("the format has no place for it")
    if kind == "deep":
        Path("photo.png").write_bytes(deep_png())
    elif kind == "alpha":  # colours of transparent pixels, too
        Image.fromarray(with_channels(4)).save("photo.png")
    assert run("compress", "photo.png", "--lossless", *MODEL) == 0
    assert run("decompress", "photo.hpcm", "-o", f"back{suffix}", *MODEL) == 0
    back, source = (read_picture(Path(name).read_bytes()) for name in (f"back{suffix}", "photo.png"))
    assert back.bit_depth == source.bit_depth == (16 if kind == "deep" else 8)
    assert np.array_equal(back.joined, source.joined)
    assert capfd.readouterr().err == ""


def test_previews_on_the_command_line(folder, capfd):
    assert run("compress", "photo.png", "--lossless", "--quality", "30", "--progressive", *MODEL) == 0
    assert run("compress", "photo.png", "--quality", "30", "-o", "lossy.hpcm", *MODEL) == 0
    assert run("decompress", "photo.hpcm", "--preview", "3", "-o", "preview.png", *MODEL) == 0
    assert run("decompress", "lossy.hpcm", "-o", "lossy.png", *MODEL) == 0
    assert np.array_equal(Image.open("preview.png"), Image.open("lossy.png"))
    assert capfd.readouterr().err == ""
    data = Path("photo.hpcm").read_bytes()
    Path("cut.hpcm").write_bytes(data[:-100])
    assert run("decompress", "cut.hpcm", "-o", "cut.png", *MODEL) == 1
    assert "take --partial for what is there" in capfd.readouterr().err
    assert run("decompress", "cut.hpcm", "-o", "cut.png", "--partial", *MODEL) == 0
    printed = capfd.readouterr()
    note = "its residual layer is there for 0 of 1 tiles, the rest is the lossy picture"
    assert printed.err == f"hpcm: note: cut.hpcm: the file was cut short: {note}\n"
    assert "75% of the file" in printed.out
    assert np.array_equal(Image.open("cut.png"), Image.open("lossy.png"))


def test_another_base_on_the_command_line(folder, capfd, file):
    Path("other.hpcm").write_bytes(other_base(file))
    assert run("decompress", "other.hpcm", "-o", "out.png", *MODEL) == 1
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("hpcm: error: other.hpcm: the decoded picture of the tile at (256, 0) isn't the one")
    assert "HPCM_KERNELS" in lines[0]
    assert not Path("out.png").exists()
    assert run("decompress", "other.hpcm", "--preview", "3", "-o", "out.png", *MODEL) == 0


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--lossless", "--bpp", "1"], "--lossless and --bpp exclude one another: give one"),
        (["--max-error", "2", "--psnr", "40"], "--max-error and --psnr exclude one another: give one"),
        (
            ["--lossless", "--quality", "90"],
            "--quality 90 and --lossless exclude one another: beside --lossless it is that of the lossy picture in the "
            "file, up to 80",
        ),
        (["--max-error", "200"], "photo.png: max_error is 200: for samples of 8 bits it must be 0 to 127"),
    ],
)
def test_wrong_promises_on_the_command_line(folder, capfd, options, line):
    assert run("compress", "photo.png", *options, *MODEL) == 1
    assert capfd.readouterr().err == f"hpcm: error: {line}\n"
    assert [*folder.glob("*.hpcm")] == []


@pytest.mark.parametrize(
    "options", [["--max-error", "-1"], ["--max-error", "1.5"], ["--lossless", "--max-error", "2"], ["--preview", "4"]]
)
def test_wrong_usage(folder, capfd, options):
    command = "decompress" if options[0] == "--preview" else "compress"
    with pytest.raises(SystemExit) as exit_:
        run(command, "photo.png", *options)
    assert exit_.value.code == 2
    assert options[-2 if options[0] != "--lossless" else 0] in capfd.readouterr().err


def test_a_picture_that_is_refused_is_one_line(folder, capfd):
    PHOTO.convert("CMYK").save("photo.tif")
    assert run("compress", "photo.tif", "--lossless", *MODEL) == 1
    reason = "neither lossless nor max_error can be promised: the picture's mode CMYK was converted to RGB"
    assert capfd.readouterr().err == f"hpcm: error: photo.tif: {reason}\n"


def test_info_on_the_command_line(folder, capsys, codec, file):
    def quality_of(data: bytes) -> str:
        Path("x.hpcm").write_bytes(data)
        assert run("info", "x.hpcm") == 0
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  quality")]
        return line.removeprefix("  quality  ")

    nano = hpcm.load("nano", threads=1)
    small = PHOTO.crop((0, 0, 70, 50))
    lossy = "with a lossy picture (1 of 1 to 100, level 0 of 0 to 63)"
    assert quality_of(nano.compress(small, lossless=True)) == f"lossless, {lossy}"
    assert quality_of(nano.compress(small, max_error=2)) == f"no sample off by more than 2, {lossy}"
    assert quality_of(nano.compress(screen(), lossless=True)) == "lossless, without a lossy picture"
    assert quality_of(file) == "lossless, with a lossy picture (level 0)"  # whose model isn't installed


# ---- Pillow ---------------------------------------------------------------------------------------------------------


def test_pillow(tmp_path):
    path = tmp_path / "photo.hpcm"
    PHOTO.save(path, lossless=True, model="nano")
    with Image.open(path) as image:
        assert np.array_equal(image, PHOTO)
    PHOTO.save(path, max_error=2, model="nano")
    with Image.open(path) as image:
        assert np.abs(np.asarray(image).astype(int) - RGB).max() == 2
    with Image.open(path) as image:
        image.draft(None, (150, 100))
        assert image.size == (150, 101)
        exact = RGB[:200].reshape(100, 2, 150, 2, 3).mean(axis=(1, 3))
        assert np.abs(np.asarray(image)[:100] - exact).max() <= 2.5
    with pytest.raises(OSError, match="cannot write mode CMYK as HPCM: neither lossless"):
        PHOTO.convert("CMYK").save(path, lossless=True, model="nano")
    with pytest.raises(ValueError, match="exclude bpp"):
        PHOTO.save(path, lossless=True, bpp=1, model="nano")
