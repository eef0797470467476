"""A part of a picture from a part of its file: beginnings, regions, reduced pictures."""

import contextlib
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hpcm
from hpcm.codec.codec import Codec, reduction
from hpcm.codec.decoder import TileDecoder
from hpcm.codec.pixels import cropped
from hpcm.errors import FormatError, HPCMError, MismatchError, TruncatedError, UsageError
from hpcm.format.container import pack, unpack
from hpcm.format.fields import Part
from hpcm.image.picture import from_image
from hpcm.model.order import table

DATA, GOLDEN = Path(__file__).parent / "data", Path(__file__).parent / "golden"
TILE = 256


@pytest.fixture(scope="module")
def codec() -> Codec:
    return hpcm.load("nano")


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.open(DATA / "kodim23.png").convert("RGB").crop((0, 0, 600, 300))


@pytest.fixture(scope="module")
def file(codec, photo) -> bytes:
    """Six tiles."""
    return codec.compress(photo, quality=40, tile=TILE, progressive=True)


@pytest.fixture(scope="module")
def whole(codec, file) -> dict[int, Image.Image]:
    """The file's picture at each scale."""
    return {scale: codec.decompress(file, scale=scale) for scale in (1, 2, 3)}


@pytest.fixture(scope="module")
def strip(codec, photo) -> bytes:
    """Two tiles."""
    return codec.compress(photo.crop((100, 0, 400, 128)), quality=40, tile=TILE, progressive=True)


def psnr(a, b) -> float:
    return float(10 * np.log10(255**2 / np.mean((np.asarray(a, float) - np.asarray(b, float)) ** 2)))


def difference(a, b) -> int:
    return int(np.abs(np.asarray(a, int) - np.asarray(b, int)).max())


# ---- beginnings -----------------------------------------------------------------------------------------------------


def ends(file: bytes) -> list[int]:
    """Where each part of a file ends: its CRC's last byte."""
    container = unpack(file)
    sizes = [
        len(tile[turn].payload) + (4 if turn == container.passes - 1 else 2)
        for turn in range(container.passes)
        for tile in container.tiles
    ]
    head = len(file) - sum(sizes)
    return [head + sum(sizes[: i + 1]) for i in range(len(sizes))]


def test_more_of_the_file_is_a_better_picture(codec, photo, strip):
    pictures = [codec.preview(strip[:stop]) for stop in ends(strip)]
    qualities = [psnr(picture, photo.crop((100, 0, 400, 128))) for picture in pictures]
    assert [picture.info["progress"] for picture in pictures] == [(i + 1) / 6 for i in range(6)]
    assert [picture.info["scale"] for picture in pictures] == [0, 1, 1, 2, 2, 3]
    assert qualities[0] < qualities[1] < qualities[3] < qualities[5]
    assert qualities[1] > 15
    assert qualities[3] > 19
    assert pictures[-1].tobytes() == codec.decompress(strip).tobytes()


def test_scales_of_a_whole_file(codec, strip):
    stops = ends(strip)
    for scale in (1, 2):
        assert codec.decompress(strip, scale=scale).tobytes() == codec.preview(strip[: stops[2 * scale - 1]]).tobytes()
    assert codec.decompress(strip, scale=3).tobytes() == codec.decompress(strip).tobytes()
    for scale in (0, 4):
        with pytest.raises(UsageError, match=f"scale is {scale}"):
            codec.decompress(strip, scale=scale)


def test_a_cut_within_a_part_is_as_one_before_it(codec, strip):
    stops = ends(strip)
    for i in (0, 2, 4):
        assert codec.preview(strip[: stops[i + 1] - 1]).tobytes() == codec.preview(strip[: stops[i]]).tobytes()


@pytest.mark.parametrize("name", ["nano-1", "tiny", "progressive"])
def test_every_beginning(codec, monkeypatch, name):
    """A picture or a named error, whatever the length; and never a picture that calls itself complete."""
    monkeypatch.setenv("HPCM_WEIGHTS", str(GOLDEN))
    data = (GOLDEN / f"{name}.hpcm").read_bytes()
    stops = ends(data)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for size in range(len(data)):
            with pytest.raises(TruncatedError):
                unpack(data[:size])
            if size < stops[0]:
                with pytest.raises(TruncatedError):
                    hpcm.preview(data[:size])
            elif size in (stops[0], stops[-1] - 1) or size in stops or size % 499 == 0:
                assert (
                    hpcm.preview(data[:size]).info["progress"] == sum(stop <= size for stop in stops) / len(stops) < 1
                )
    with pytest.raises(FormatError, match="1 bytes follow"):
        hpcm.preview(data + b"x")


def test_a_damaged_beginning_is_named(codec, file):
    data = bytearray(file[: ends(file)[8]])
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(data), 200):
        data[place] ^= 0x10
        with contextlib.suppress(HPCMError):  # a length that has grown cuts the file earlier
            assert codec.preview(bytes(data)).info["progress"] < 0.5
        data[place] ^= 0x10


def test_forged_parts(codec, file):
    """With every CRC right: symbols that aren't those of the checksum are noticed at each scale."""
    container = unpack(file)
    for turn in range(3):
        tile = list(container.tiles[0])
        payload = bytearray(tile[turn].payload)
        payload[len(payload) // 2] ^= 1
        tile[turn] = Part(bytes(payload), tile[turn].checksum)
        forged = pack(container.__class__(**{**container.__dict__, "tiles": (tuple(tile), *container.tiles[1:])}))
        with pytest.raises(MismatchError, match=r"tile at \(0, 0\)"):
            codec.decompress(forged, scale=turn + 1)


def test_a_cut_file_is_not_whole(codec, file):
    container = unpack(file[:-1], partial=True)
    assert container.progress == 17 / 18
    with pytest.raises(TruncatedError, match="only 94% of the file is there"):
        codec.decompress(container)
    with pytest.raises(FormatError, match="2 of its 3 parts"):
        pack(container)


def test_what_being_progressive_costs(codec, photo):
    plain, progressive = (codec.compress(photo, tile=TILE, progressive=choice) for choice in (False, True))
    assert (unpack(plain).passes, unpack(progressive).passes) == (1, 3)
    assert 6 * 10 <= len(progressive) - len(plain) <= 6 * 14
    assert codec.decompress(plain).tobytes() == codec.decompress(progressive).tobytes()
    notes: list[str] = []
    whole = codec.decompress(plain, scale=1, on_note=notes.append)
    assert whole.tobytes() == codec.decompress(plain).tobytes()  # it has but one part
    assert notes == ["the file isn't progressive: decoded whole"]
    assert codec.preview(plain[:-1]).info["scale"] == 0


def test_by_default_where_it_costs_little(codec, photo):
    assert unpack(codec.compress(photo, quality=100)).passes == 3
    assert unpack(codec.compress(photo, quality=1)).passes == 1


# ---- no seams in previews -------------------------------------------------------------------------------------------


def steps(image: Image.Image, lines: range) -> float:
    """The mean difference of the pixels on both sides of some columns' left edges."""
    pixels = np.asarray(image, float)
    return float(np.mean([np.abs(pixels[:, at] - pixels[:, at - 1]).mean() for at in lines]))


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("turned", [False, True])
def test_tiles_are_not_seen_in_a_preview(codec, photo, scale, turned):
    """At the borders of tiles steps are as large as in the same places of one tile, and as those nearby."""
    turn = Image.Transpose.TRANSPOSE

    def coarse(tile: int) -> Image.Image:
        image = photo.transpose(turn) if turned else photo
        image = codec.decompress(codec.compress(image, quality=40, tile=tile, progressive=True), scale=scale)
        return image.transpose(turn) if turned else image

    tiles, one = coarse(TILE), coarse(1024)
    borders = range(TILE, 600, TILE)
    assert steps(tiles, borders) < 1.2 * steps(one, borders)  # 5 and 25 times as large without the neighbours
    assert steps(tiles, borders) < 1.5 * steps(tiles, range(16, 600, 16))  # latents' own grid


@pytest.fixture(scope="module")
def cut(codec, file) -> dict[int, tuple[bytes, Image.Image]]:
    """Beginnings by scale, and their pictures: of the first three tiles there is one part more than of the others."""
    beginnings = {scale: file[: ends(file)[6 * scale + 2]] for scale in (1, 2)}
    return {scale: (beginning, codec.preview(beginning)) for scale, beginning in beginnings.items()}


@pytest.mark.parametrize("box", [(0, 0, 600, 300), (250, 250, 260, 260), (17, 33, 130, 41), (300, 100, 600, 300)])
@pytest.mark.parametrize("scale", [1, 2])
def test_a_region_of_a_preview_is_the_crop_of_the_whole_one(codec, file, whole, cut, box, scale):
    assert difference(codec.decompress(file, scale=scale, box=box), whole[scale].crop(box)) == 0
    beginning, picture = cut[scale]
    assert difference(codec.preview(beginning, box=box), picture.crop(box)) == 0


def test_what_is_known_stays_as_it_is(codec, photo):
    """Filling in changes nothing that was decoded."""
    engine, level, size = codec.engine, 30, (16, 16)
    y = engine.analyse(cropped(from_image(photo), (0, 0, 256, 256)), 255, (256, 256))
    parts, _, y_hat = engine.encode(y, level)
    known, _ = engine.decode_known(b"".join(parts), 12, size, level)
    assert np.array_equal(engine.fill(known, level), y_hat)
    (known, _), whole = engine.decode_known(b"".join(parts[:2]), 6, size, level), engine.unknown(size)
    assert [part.shape for part in known] == [part.shape for part in whole[:3]]
    coarse = engine.fill([*known, whole[3]], level)
    order = np.tile(table(engine.config.steps), (1, 2, 2)).transpose(1, 2, 0)
    coded = np.repeat(order < 5, engine.config.M // 8, axis=2)  # by scales 1 and 2
    assert np.array_equal(coarse[coded], y_hat[coded])
    assert not np.array_equal(coarse, y_hat)


def test_a_preview_keeps_three_rows_of_tiles(codec, photo, monkeypatch):
    """However high the picture is."""
    held, filled = [], TileDecoder._filled
    monkeypatch.setattr(
        TileDecoder, "_filled", lambda self, *boxes: (filled(self, *boxes), held.append(len(self._kept)))[0]
    )
    high = photo.transpose(Image.Transpose.ROTATE_90).resize((270, 1500))
    codec.decompress(codec.compress(high, quality=20, tile=TILE, progressive=True), scale=1)
    assert len(held) == 12
    assert max(held) <= 3 * 2


# ---- regions --------------------------------------------------------------------------------------------------------

BOXES = [
    (0, 0, 600, 300),
    (0, 0, 1, 1),
    (599, 299, 600, 300),
    (255, 255, 257, 257),
    (256, 0, 512, 256),
    (17, 33, 130, 41),
    (500, 100, 600, 300),
    (3, 250, 598, 262),
]


@pytest.mark.parametrize("box", BOXES)
def test_a_region_is_the_crop_of_the_whole(codec, file, whole, box):
    region = codec.decompress(file, box=box)
    assert region.size == (box[2] - box[0], box[3] - box[1])
    assert difference(region, whole[3].crop(box)) == 0


@pytest.mark.parametrize("box", [(0, 0, 10), (0.5, 0, 10, 10), (0, 0, 10, "10"), np.zeros((2, 4), int)])
def test_boxes_that_are_none(box):
    with pytest.raises(UsageError, match="it must be four whole numbers"):
        hpcm.decompress(GOLDEN / "nano-1.hpcm", box=box)


def test_a_box_in_an_array():
    box = (3, 5, 40, 30)
    assert np.array_equal(
        hpcm.decompress(GOLDEN / "nano-1.hpcm", box=np.array(box)), hpcm.decompress(GOLDEN / "nano-1.hpcm", box=box)
    )


@pytest.mark.parametrize("mode", ["L", "RGBA", "LA", "I;16"])
def test_regions_of_every_kind(codec, photo, mode):
    image = photo.crop((0, 0, 300, 300)).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    if mode in ("RGBA", "LA"):
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    data, box = codec.compress(image, tile=TILE), (200, 100, 300, 290)
    region, picture = codec.decompress(data, box=box), codec.decompress(data)
    assert region.mode == picture.mode == mode
    assert difference(region, np.asarray(picture)[100:290, 200:300]) <= (300 if mode == "I;16" else 1)


def test_only_the_tiles_that_are_needed_are_decoded(codec, file, monkeypatch):
    decoded, decode = [], codec.engine.decode
    monkeypatch.setattr(codec.engine, "decode", lambda *given: (decoded.append(given), decode(*given))[1])
    for box, count in (((100, 100, 150, 150), 1), ((200, 100, 250, 110), 2), ((250, 250, 260, 260), 4)):
        decoded.clear()
        codec.decompress(file, box=box)
        assert len(decoded) == count, box


def test_a_region_of_a_hundred_megapixels(codec, large):
    """On the corner of four tiles, which are all the same one: a tile further, the same pixels."""
    (left, top), side = (5 * 1024 - 100, 4 * 1024 - 60), 192
    one = codec.decompress(large, box=(left, top, left + side, top + side))
    other = codec.decompress(large, box=(left + 1024, top - 1024, left + 1024 + side, top - 1024 + side))
    assert difference(one, other) <= 1
    photo = Image.open(DATA / "kodim23.png").resize((1024, 1024))
    assert psnr(one.crop((100, 60, 192, 192)), photo.crop((0, 0, 92, 132))) > 28


def test_a_damaged_tile_elsewhere_does_no_harm(codec, file):
    container = unpack(file)
    tiles = [*container.tiles]
    tiles[5] = (*tiles[5][:2], Part(tiles[5][2].payload[:-4], 0))
    forged = pack(container.__class__(**{**container.__dict__, "tiles": tuple(tiles)}))
    box = (0, 0, 100, 100)
    assert difference(codec.decompress(forged, box=box), codec.decompress(file, box=box)) == 0
    with pytest.raises(MismatchError):
        codec.decompress(forged)


@pytest.mark.parametrize(
    "box",
    [(0, 0, 0, 0), (5, 5, 5, 9), (9, 5, 5, 9), (-1, 0, 5, 5), (0, 0, 601, 300), (0, 0, 600, 301), (700, 0, 800, 9)],
)
def test_boxes_outside(codec, file, box):
    with pytest.raises(UsageError, match="must be inside the picture of 600 x 300 pixels"):
        codec.decompress(file, box=box)


def test_the_bound_counts_what_is_decoded(codec, file):
    assert codec.decompress(file, box=(0, 0, 10, 10), max_pixels=100).size == (10, 10)
    with pytest.raises(FormatError, match="claims 10 x 11 pixels, over 100"):
        codec.decompress(file, box=(0, 0, 10, 11), max_pixels=100)


@pytest.mark.parametrize("tile", [256, 512, 4096])
def test_tiles_of_any_size(codec, photo, tile):
    data = codec.compress(photo, tile=tile)
    assert unpack(data).tile_side == tile
    assert psnr(codec.decompress(data), photo) > 30


@pytest.mark.parametrize("tile", [0, 128, 300, 8192])
def test_tiles_of_wrong_sizes(codec, photo, tile):
    with pytest.raises(UsageError, match=f"tile is {tile}"):
        codec.compress(photo, tile=tile)


# ---- reduced --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("draft", "factor"), [((600, 300), 1), ((301, 10), 1), ((300, 150), 2), ((30, 60), 4), ((9, 4), 64)]
)
def test_reduced(codec, file, whole, draft, factor):
    small = codec.decompress(file, draft=draft)
    assert small.size == (-(-600 // factor), -(-300 // factor))
    assert difference(small, whole[3].reduce(factor) if factor > 1 else whole[3]) <= 1


def test_reduced_with_alpha_and_16_bits(codec, photo):
    image = photo.convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize(image.size))
    data = codec.compress(image)
    alpha = np.asarray(codec.decompress(data, draft=(150, 75)))[..., 3]
    assert difference(alpha, image.getchannel("A").reduce(4)) <= 1
    wide = Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)
    small = codec.decompress(codec.compress(wide), draft=(150, 75))
    assert (small.mode, small.size) == ("I;16", (150, 75))


def test_reduction():
    assert reduction((600, 300), (600, 300)) == 1
    assert reduction((600, 300), (1000, 1)) == 1
    assert reduction((1000, 1000), (250, 251)) == 2
    assert reduction((1 << 20, 1 << 20), (1, 1)) == 256
    with pytest.raises(UsageError, match="must be positive"):
        reduction((600, 300), (0, 5))


def test_box_and_draft_exclude_one_another(codec, file):
    with pytest.raises(UsageError, match="exclude one another"):
        codec.decompress(file, box=(0, 0, 10, 10), draft=(5, 5))
