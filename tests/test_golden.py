"""Files made once decode for ever: what lies in tests/golden was made on one machine and stays as it is.

Decoding checks the symbols' checksum; coding the decoded symbols again must give the payload's bytes. The pixels are
made in plain floats: they may differ by one level. Files of retired models were made with the whole model, before it
was retired. tests/golden/make.py made them.
"""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hpcm
from hpcm.container import unpack
from hpcm.entropy.coder import Decoder, Encoder, backwards
from hpcm.ladder import load
from hpcm.tiles import Tiling, extent, latents_inside
from hpcm.weights import ASSETS, RETIRED, describe

GOLDEN = Path(__file__).parent / "golden"


RELEASED = {  # never changes but by a line that is added
    "nano-1": "beec58dba2cf0b49",
    "nano-2": "b653004402f95985",
    "nano-3": "709e8cf6105df2a7",
    "nano-4": "ac32b0f36ce58924",
    "lite-1": "663434002d47a5b2",
    "lite-2": "71a86d93e6e72a63",
    "lite-3": "bd789dd13a56c835",
}


def test_every_release_is_at_hand():
    bundled = [weights for folder in (ASSETS, RETIRED) for weights in map(describe, folder.glob("*.safetensors"))]
    assert {weights.name: weights.hash.hex() for weights in bundled} == RELEASED
    assert all(weights.name == weights.path.stem for weights in bundled)
    assert all(weights.decodes_only == (weights.path.parent == RETIRED) for weights in bundled)


@pytest.mark.parametrize("name", RELEASED)
def test_files_of_released_models(name):
    data = (GOLDEN / f"{name}.hpcm").read_bytes()
    before = np.asarray(Image.open(GOLDEN / f"{name}.png")).astype(int)
    assert unpack(data).model_hash.hex() == RELEASED[name]
    now = np.asarray(hpcm.decompress(data)).astype(int)
    assert now.shape == before.shape == (101, 153, 3)
    assert np.abs(now - before).max() <= 1
    coded_again(hpcm.load(name), data)


@pytest.mark.parametrize("name", ["tiny", "tiny-base"])
def test_golden_files(name):
    codec, data = load(GOLDEN / f"{name}.safetensors"), (GOLDEN / f"{name}.hpcm").read_bytes()
    assert codec.decompress(data).size == (201, 137)
    coded_again(codec, data)


def coded_again(codec, data):
    """Decodes the symbols of a file of one tile and codes them: the payload's bytes."""
    container = unpack(data)
    tiling = Tiling(codec.networks, (container.height, container.width), container.tile_side)
    (box,), (tile,) = list(tiling), container.tiles
    payload = b"".join(part.payload for part in tile)
    payload = backwards(payload) if container.version == 1 else payload
    decoder, encoder = Decoder(codec.tables, payload), Encoder(codec.tables)

    def pop(scales):
        indexes = codec.tables.index(scales)
        encoder.push(symbols := decoder.pop(indexes), indexes)
        return symbols

    codec.networks.decode(pop, tiling.padded(extent(box)), container.level, latents_inside(box))
    assert b"".join(encoder.finish()) == payload
