"""Files made once decode for ever: what lies in tests/golden was made on one machine and stays as it is.

Decoding checks the symbols' checksum; coding the decoded symbols again must give the payload's bytes. All of the
models' arithmetic is exact, so that the pixels are the same, too. tests/golden/make.py made them.
"""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hpcm
from hpcm.codec.api import load
from hpcm.codec.quality import residual_of
from hpcm.codec.tiles import Tiling, extent, latents_inside
from hpcm.core.ans import SymbolDecoder, SymbolEncoder
from hpcm.format.container import pack, unpack
from hpcm.format.fields import Residual
from hpcm.image.metadata.record import Metadata
from hpcm.model.find import ASSETS, alias_of, available, default, find

GOLDEN = Path(__file__).parent / "golden"


RELEASED = {  # never changes but by a line that is added
    "lite-1": "f54adc2253636d69",
    "lite-mse-1": "f3fbc6f9fa4f5c99",
    "nano-1": "c724d01a93eacdf9",
}


def test_every_release_is_at_hand():
    found = [weights for weights in available() if weights.path.parent == ASSETS]
    assert {weights.name: weights.hash.hex() for weights in found} == RELEASED
    assert all(weights.name == weights.path.stem for weights in found)


def test_names_without_a_version():
    """`lite` is never lite-mse-1, whose name begins alike."""
    assert {name: find(name).name for name in ("lite", "lite-mse", "nano")} == {
        "lite": "lite-1",
        "lite-mse": "lite-mse-1",
        "nano": "nano-1",
    }
    assert {alias_of(find(name)) for name in RELEASED} == {"lite", "lite-mse", "nano"}
    assert default() == find("lite-1")


@pytest.mark.parametrize("name", RELEASED)
def test_files_of_released_models(name):
    data = (GOLDEN / f"{name}.hpcm").read_bytes()
    before = np.asarray(Image.open(GOLDEN / f"{name}.png"))
    assert unpack(data).model_hash.hex() == RELEASED[name]
    now = np.asarray(hpcm.decompress(data))
    assert now.shape == (101, 153, 3)
    assert np.array_equal(now, before)
    coded_again(hpcm.load(name, engine="torch"), data)


def test_a_file_of_all_that_the_format_knows():
    """With two tiles, alpha, and all metadata that a file can hold; and grey of 16 bits."""
    data = (GOLDEN / "format.hpcm").read_bytes()
    container = unpack(data)
    assert (len(container.tiles), pack(container)) == (2, data)
    now, before = hpcm.decompress(data), Image.open(GOLDEN / "format.png")
    assert now.mode == before.mode == "RGBA"
    assert np.array_equal(now.getchannel("A"), before.getchannel("A"))
    assert np.array_equal(now, before)
    metadata = Metadata.of(container)
    assert set(metadata.present) == {field.name for field in fields(Metadata)}
    assert Metadata.of_info(now.info) == replace(metadata, gain_map=None)
    gain_map = now.info["gain_map"]
    assert (gain_map.image.size, gain_map.image.mode) == ((275, 4), "L")
    assert gain_map.metadata.channels[0].gamma == (5, 4)
    assert now.getexif()[0x010E] == "a description"
    assert (now.info["cicp"], now.info["gamma"]) == (bytes([1, 13, 0, 1]), 0.45455)

    now, before = hpcm.decompress(GOLDEN / "format-grey.hpcm"), Image.open(GOLDEN / "format-grey.png")
    assert now.mode == before.mode == "I;16"
    assert np.array_equal(now, before)


@pytest.mark.parametrize(
    ("name", "residual"),
    [
        ("lossless", Residual("samples", 0)),
        ("lossless-grey", Residual("samples beside grey", 0)),
        ("near-lossless", Residual("samples", 300)),
        ("quality-90", residual_of(90)),
    ],
)
@pytest.mark.parametrize("engine", ["core", "torch"])
def test_files_with_a_residual_layer(name, residual, engine):
    data, before = (GOLDEN / f"{name}.hpcm").read_bytes(), Image.open(GOLDEN / f"{name}.png")
    container = unpack(data)
    assert (container.residual, pack(container)) == (residual, data)
    now = hpcm.load("nano", engine=engine).decompress(data)
    assert now.mode == before.mode
    assert np.array_equal(now, before)


@pytest.mark.parametrize("name", ["tiny", "tiny-base"])
def test_golden_files(name):
    codec, data = load(GOLDEN / f"{name}.safetensors", engine="torch"), (GOLDEN / f"{name}.hpcm").read_bytes()
    assert codec.decompress(data).size == (201, 137)
    coded_again(codec, data)


def coded_again(codec, data):
    """Decodes the symbols of a file of one tile and codes them: the payload's bytes."""
    container = unpack(data)
    engine, tables = codec.engine, codec.engine.tables
    tiling = Tiling(engine.config, (container.height, container.width), container.tile_side)
    (box,), (tile,) = list(tiling), container.tiles
    payload = b"".join(part.payload for part in tile)
    decoder, encoder = SymbolDecoder(tables, payload), SymbolEncoder(tables)

    def pop(scales):
        indexes = tables.index(scales)
        encoder.push(symbols := decoder.pop(indexes), indexes)
        return symbols

    engine.replay(pop, tiling.padded(extent(box)), container.level, latents_inside(box))
    assert b"".join(encoder.finish()) == payload
