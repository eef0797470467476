"""Files made once decode for ever: what lies in tests/golden was made on one machine and stays as it is.

The models are tiny and exact. Decoding checks the symbols' checksum; coding the decoded symbols again must give the
payload's bytes. tests/golden/make.py made them.
"""

from pathlib import Path

import pytest

from hpcm.codec import load
from hpcm.container import unpack
from hpcm.entropy.coder import Decoder, Encoder
from hpcm.tiles import Tiling, extent, latents_inside

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", ["tiny", "tiny-base"])
def test_golden_files(name):
    codec, data = load(GOLDEN / f"{name}.safetensors"), (GOLDEN / f"{name}.hpcm").read_bytes()
    assert codec.decompress(data).size == (201, 137)

    container = unpack(data)
    tiling = Tiling(codec.model, (container.height, container.width), container.tile_side)
    (box,), (tile,) = list(tiling), container.tiles
    decoder, encoder = Decoder(codec.tables, tile.payload), Encoder(codec.tables)

    def pop(scales):
        indexes = codec.tables.index(scales)
        encoder.push(symbols := decoder.pop(indexes), indexes)
        return symbols

    codec.model.decode(pop, tiling.padded(extent(box)), container.level, latents_inside(box))
    assert encoder.finish() == tile.payload
