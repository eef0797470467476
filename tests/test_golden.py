"""Files made once decode for ever: what lies in tests/golden was made on one machine and stays as it is.

Decoding checks the symbols' checksum; coding the decoded symbols again must give the payload's bytes. The pixels are
made in plain floats: they may differ by one level. Files of retired models were made with the whole model, before it
was retired; they need hpcm-codec-models. tests/golden/make.py made them.
"""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hpcm
from hpcm.container import pack, unpack
from hpcm.entropy.coder import Decoder, Encoder, backwards
from hpcm.fields import VERSION
from hpcm.ladder import load
from hpcm.tiles import Tiling, extent, latents_inside
from hpcm.weights import ASSETS, IN_MODELS_PACKAGE, MODELS_PACKAGE, available, user_folder

GOLDEN = Path(__file__).parent / "golden"


RELEASED = {  # never changes but by a line that is added
    "nano-1": "beec58dba2cf0b49",
    "nano-2": "b653004402f95985",
    "nano-3": "709e8cf6105df2a7",
    "nano-4": "ac32b0f36ce58924",
    "nano-5": "7b4f02ed3ef1de23",
    "lite-1": "663434002d47a5b2",
    "lite-2": "71a86d93e6e72a63",
    "lite-3": "bd789dd13a56c835",
    "lite-ssim-1": "af22790b8447b2e2",
}


def released(name: str):
    """A parameter of a test."""
    return pytest.param(name, marks=[pytest.mark.models] if name in IN_MODELS_PACKAGE.values() else [])


def test_every_release_is_at_hand():
    found = [weights for weights in available(retired=True) if weights.path.parent != user_folder()]
    bundled = {name: digest for name, digest in RELEASED.items() if name not in IN_MODELS_PACKAGE.values()}
    expected = RELEASED if find_spec(MODELS_PACKAGE) else bundled
    assert {weights.name: weights.hash.hex() for weights in found} == expected
    assert all(weights.name == weights.path.stem for weights in found)
    assert not any(weights.decodes_only for weights in found if weights.path.parent == ASSETS)


@pytest.mark.parametrize("name", [*map(released, RELEASED)])
def test_files_of_released_models(name):
    data = (GOLDEN / f"{name}.hpcm").read_bytes()
    before = np.asarray(Image.open(GOLDEN / f"{name}.png")).astype(int)
    assert unpack(data).model_hash.hex() == RELEASED[name]
    now = np.asarray(hpcm.decompress(data)).astype(int)
    assert now.shape == before.shape == (101, 153, 3)
    assert np.abs(now - before).max() <= 1
    coded_again(hpcm.load(name), data)


@pytest.mark.models  # they were made by nano-4
@pytest.mark.parametrize("version", range(1, VERSION + 1))
def test_files_of_every_version(version):
    """With two tiles, alpha, and all metadata that a file can hold; and grey of 16 bits."""
    data = (GOLDEN / f"version-{version}.hpcm").read_bytes()
    container = unpack(data)
    assert (container.version, len(container.tiles), pack(container)) == (version, 2, data)
    now, before = hpcm.decompress(data), Image.open(GOLDEN / f"version-{version}.png")
    assert now.mode == before.mode == "RGBA"
    assert np.array_equal(now.getchannel("A"), before.getchannel("A"))
    assert np.abs(np.asarray(now, int) - np.asarray(before, int)).max() <= 1
    assert {name: now.info[name] for name in ("icc_profile", "cicp", "comments")} == {
        "icc_profile": b"a profile",
        "cicp": bytes([1, 13, 0, 1]),
        "comments": {"Comment": "made for the tests"},
    }
    assert (now.getexif()[0x010E], now.info["xmp"]) == ("a description", b"<x:xmpmeta/>")

    now, before = (
        hpcm.decompress(GOLDEN / f"version-{version}-grey.hpcm"),
        Image.open(GOLDEN / f"version-{version}-grey.png"),
    )
    assert now.mode == before.mode == "I;16"
    assert np.abs(np.asarray(now, int) - np.asarray(before, int)).max() <= 1 << 8


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
