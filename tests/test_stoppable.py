"""Work that can be stopped: wherever it is, it ends before the next network runs; what isn't stopped stays the same."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hpcm
from hpcm.codec.codec import Codec
from hpcm.core.residual import decode_dct, decode_residual, encode_dct, encode_residual
from hpcm.format.container import pack, unpack
from hpcm.nn.hpcm import HPCM

PHOTO = Image.open(Path(__file__).parent / "data" / "kodim23.png").crop((500, 300, 564, 340))
TILE = np.asarray(PHOTO)
CODERS = {
    "encode samples": lambda check: encode_residual(TILE, TILE, check=check),
    "decode samples": lambda check: decode_residual(encode_residual(TILE, TILE), TILE, check=check),
    "encode coefficients": lambda check: encode_dct(TILE, TILE, 9, check=check),
    "decode coefficients": lambda check: decode_dct(encode_dct(TILE, TILE, 9), TILE, 9, check=check),
}
NETWORKS = ("analyse", "hyper_analyse", "hyper_synthesise", "parameters_of", "synthesise")


class Enough(Exception):
    pass


@pytest.fixture(scope="module")
def codec() -> Codec:
    return hpcm.load("nano", engine="torch", threads=1)


@pytest.fixture(scope="module")
def file() -> bytes:
    """Two tiles in three parts each."""
    return hpcm.load("nano", threads=1).compress(PHOTO.resize((300, 40)), tile=256, progressive=True)


def beginning(file: bytes) -> bytes:
    """The first scale of both tiles."""
    one = unpack(file)
    return pack(one)[: -sum(len(part.payload) for tile in one.tiles for part in tile[1:])]


WAYS = {
    "compress": lambda codec, file, check: codec.compress(PHOTO, check=check),
    "bpp": lambda codec, file, check: codec.compress(PHOTO, bpp=1.0, check=check),
    "psnr": lambda codec, file, check: codec.compress(PHOTO, psnr=28, check=check),
    "effort": lambda codec, file, check: codec.compress(PHOTO, effort=1, check=check),
    "decompress": lambda codec, file, check: codec.decompress(file, check=check).tobytes(),
    "box": lambda codec, file, check: codec.decompress(file, box=(0, 0, 9, 9), check=check).tobytes(),
    "draft": lambda codec, file, check: codec.decompress(file, draft=(9, 9), check=check).tobytes(),
    "preview": lambda codec, file, check: codec.preview(beginning(file), check=check).tobytes(),
}


@pytest.mark.parametrize("way", WAYS)
def test_it_ends_before_the_next_network(codec, file, monkeypatch, way):
    runs, checks = [], []
    for name in NETWORKS:
        real = getattr(HPCM, name)
        run = lambda self, *given, real=real, name=name: runs.append(name) or real(self, *given)  # noqa: E731
        monkeypatch.setattr(HPCM, name, run)
    expected = WAYS[way](codec, file, None)
    runs.clear()
    assert WAYS[way](codec, file, lambda: checks.append(len(runs))) == expected
    every = list(runs)
    assert len(checks) >= (len(every) if way != "effort" else 8)
    for last in (1, len(checks) // 2, len(checks)):
        runs.clear()
        left = iter(range(last - 1))

        def check(left=left) -> None:
            if next(left, None) is None:
                raise Enough

        with pytest.raises(Enough):
            WAYS[way](codec, file, check)
        assert len(runs) == checks[last - 1]


def test_a_codec_of_several_models_stops_in_its_search():
    codec = hpcm.load("nano", threads=1)
    several = Codec([codec.weights, codec.weights])
    for how in ({"quality": 50}, {"bpp": 1.0}, {"psnr": 30.0}):
        with pytest.raises(Enough):
            several.compress(PHOTO, **how, check=enough)
    with pytest.raises(Enough):
        several.decompress(codec.compress(PHOTO), check=enough)


def enough() -> None:
    raise Enough


@pytest.mark.parametrize("way", CODERS)
def test_coders_of_residuals_end_with_what_a_check_raises(way):
    checks = []

    def check():
        checks.append(1)
        if len(checks) == 3:
            raise Enough

    with pytest.raises(Enough):
        CODERS[way](check)
    assert len(checks) == 3
