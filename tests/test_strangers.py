"""Files of strangers: nothing in them is run, no path in them is followed, and they get no more than they may claim."""

import io
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from hpcm.codec.api import load
from hpcm.defaults import MAX_DECODED
from hpcm.errors import FormatError, PictureError, WeightsError
from hpcm.format.container import unpack
from hpcm.format.fields import Part
from hpcm.image.metadata import xmp
from hpcm.image.metadata.record import pack_comments
from hpcm.image.picture import Picture, pack_alpha
from hpcm.image.read import read_picture
from hpcm.image.write import save_picture
from hpcm.model.config import BASE, NANO, Config

GOLDEN = Path(__file__).parent / "golden"
WEIGHTS = GOLDEN / "tiny.safetensors"


@pytest.fixture(scope="module")
def codec():
    return load(WEIGHTS)


@pytest.fixture
def forge(tmp_path):
    """Writes the tiny model's file with other tensors and fields of its configuration."""

    def forged(tensors: dict[str, np.ndarray], **fields: object) -> Path:
        with safe_open(WEIGHTS, "np") as file:
            metadata = file.metadata()
        metadata["config"] = json.dumps(json.loads(metadata["config"]) | fields)
        save_file({**load_file(WEIGHTS), **tensors}, tmp_path / "forged.safetensors", metadata)
        return tmp_path / "forged.safetensors"

    return forged


# ---- pictures -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height"), [(1, 1 << 23), (1 << 23, 1), (40, MAX_DECODED // 50)])
def test_narrow_pictures_count_as_what_they_cost(codec, width, height):
    """A column of one pixel takes as long as one of 64, which is what the networks see."""
    container = replace(unpack((GOLDEN / "tiny.hpcm").read_bytes()), width=width, height=height)
    with pytest.raises(FormatError, match="a side counts as at least 64"):
        codec.decompress(replace(container, tiles=((Part(b"", 0),),) * container.tile_count))


def test_alpha_counts_as_a_whole(codec):
    """It is decoded whole, whatever part of the picture is asked for."""
    container = replace(unpack((GOLDEN / "tiny.hpcm").read_bytes()), width=9000, height=9000)
    container = replace(container, alpha=b"", tiles=((Part(b"", 0),),) * container.tile_count)
    with pytest.raises(FormatError, match="claims 9000 x 9000 pixels, over 1,000,000"):
        codec.decompress(container, box=(0, 0, 1, 1), max_pixels=1_000_000)


def test_postscript_is_not_run():
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(PictureError, match="PostScript, a program"):
        read_picture(program)


@pytest.mark.parametrize("inner", [b" " * 1_000_000, b"<b/>" * 250_000, b'<a b="' + b" " * 1_000_000 + b'"/>'])
def test_large_xmp_takes_no_time(inner):
    begin = time.process_time()
    packet = b"<a>" + inner + b"</a>"
    assert xmp.remove_outdated(packet, 6).data == packet
    assert time.process_time() - begin < 5  # an hour, where blanks are tried from each place anew


def test_damaged_exif_and_comments_do_not_stop_a_picture():
    comments = pack_comments([("über � " * 30, "text")])
    picture = Picture(np.zeros((8, 8, 3), np.uint8), exif=b"no EXIF at all", xmp=b"<x/>", comments=comments)
    notes = []
    assert read_picture(save_picture(picture, ".tif", on_note=notes.append)).xmp == b"<x/>"
    assert any("EXIF is damaged and not written" in note for note in notes)
    assert read_picture(save_picture(replace(picture, exif=None), ".png")).comments is not None


# ---- weights: numbers -----------------------------------------------------------------------------------------------


def test_exponents_cannot_blow_weights_up(forge):
    side = 100_000  # 40 GB as float32, of 200 kB
    with pytest.raises(WeightsError, match=r"g_s\.0\.weight has another shape"):
        load(forge({"g_s.0.weight": np.ones((side, 1), np.int8), "g_s.0.exponent": np.zeros((1, side), np.int8)}))
    with pytest.raises(WeightsError, match=r"g_s\.0\.exponent has another shape"):
        load(forge({"g_s.0.exponent": np.zeros((1, side), np.int8)}))


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        (NANO, {"synthesis": ((0, 192), (3, 8192)), "ratio": 8192}, "numbers for each pixel"),
        (BASE, {"synthesis": ((0, 320), (0, 8), (0, 8), (1, 8192))}, "numbers for each pixel"),
        (BASE, {"synthesis": ((0, 320),) + ((0, 8),) * 7}, "pairs"),
        (BASE, {"windows": (64, 64, 64)}, "windows"),  # 1 pixel would be padded to 4096 x 4096
        (BASE, {"windows": (8, 8, 8)}, "divide every tile"),  # 512 pixels, and tiles may have 256
        (BASE, {"windows": (1, 3, 4)}, "divide every tile"),
        (BASE, {"M": 4096, "heads": 8192}, "heads|analysis"),  # 550 GB of attention for a window of 64
        (
            NANO,
            {"synthesis": ((0, 192),) * 2 + ((0, 8),) * 2},
            "2 pairs for the stem",
        ),  # 16 pixels where 1 is asked for
        (NANO, {"hyper_synthesis": ((1, 64), (0, 385))}, "width 384"),
    ],
)
def test_a_configuration_within_each_bound_whose_product_is_not(config, changes, message):
    fields = json.loads(json.dumps({**config.to_dict(), **changes}))
    with pytest.raises(ValueError, match=message):
        Config.from_dict(fields)


def test_nothing_is_taken_for_a_network_that_is_not_in_the_file(forge):
    """Widths and counts near the bounds, 150 GB of weights: what isn't there is missed before anything is taken."""
    wide = {"M": 4096, "N": 8192, "prior_width": 8192, "ratio": 2, "hyper_analysis": [[64, 4096], [64, 8192]]}
    wide |= {"analysis": [[1, 8192], [0, 4096]], "synthesis": [[0, 4096], [1, 8192]]}
    path = forge({}, **wide, hyper_synthesis=[[64, 8192], [0, 8192]])
    with pytest.raises(WeightsError, match=r"layer h_s\.65 is described as no exact layer"):
        load(path, engine="torch")


def test_the_pictures_of_these_tests_are_sound(codec):
    alpha = np.zeros((137, 201), np.uint8)
    container = replace(unpack((GOLDEN / "tiny.hpcm").read_bytes()), alpha=pack_alpha(alpha))
    assert codec.decompress(container).mode == "RGBA"
    assert Image.open(io.BytesIO(pack_alpha(alpha))).size == (201, 137)
