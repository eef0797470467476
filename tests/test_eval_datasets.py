"""Data sets that pictures look like, and how far they are their pictures."""

from dataclasses import replace
from pathlib import Path

import pytest

from hpcm.eval.datasets import _lists, recognised
from hpcm.eval.measure import Source, read_source

KODIM = Path(__file__).parent / "data" / "kodim23.png"


def kodak():
    """All of Kodak's pictures as they are listed."""
    listed = _lists()["kodak"]["pictures"]
    return [Source(Path(f"{name}.png"), one["hash"], one["width"], one["height"]) for name, one in listed.items()]


def clic():
    listed = _lists()["clic"]["pictures"]
    return [Source(Path(f"{name}.png"), "unknown", one["pixels"], 1) for name, one in listed.items()]


def test_kodaks_pictures_are_known_by_their_pixels():
    real = read_source(KODIM)
    (listed,) = (source for source in kodak() if source.name == "kodim23")
    assert (real.hash, real.width, real.height) == (listed.hash, listed.width, listed.height)
    assert len(kodak()) == 24
    assert {(source.width, source.height) for source in kodak()} == {(768, 512), (512, 768)}


@pytest.mark.parametrize(
    ("pictures", "sentence"),
    [
        (kodak(), "Kodak, 24 of 24 pictures, hashes of the pixels right."),
        (clic(), "CLIC 2020 professional validation, 41 of 41 pictures, names and numbers of pixels right."),
        (
            [Source(Path(f"{k}.png"), "", 1200, 1200) for k in range(100)],
            "Tecnick, 100 of 100 pictures, number and size right.",
        ),
    ],
    ids=["kodak", "clic", "tecnick"],
)
def test_whole_sets(pictures, sentence):
    found = recognised(pictures)
    assert found.is_whole
    assert found.sentence() == sentence


def test_what_is_wrong_is_named():
    pictures = kodak()
    pictures[2] = replace(pictures[2], hash="0" * 64)
    pictures[4] = replace(pictures[4], width=384, height=256)
    pictures[23] = Source(Path("peppers.png"), "0" * 64, 512, 512)
    found = recognised(pictures)
    assert not found.is_whole
    assert found.sentence() == (
        "Kodak, 21 of 24 pictures, hashes of the pixels right; kodim03 differs (other pixels), kodim05 differs "
        "(384 x 256 instead of 768 x 512); not there: kodim24; not of this set: peppers."
    )


def test_one_more_picture_is_another_set():
    found = recognised([*kodak(), Source(Path("peppers.png"), "0" * 64, 512, 512)])
    assert len(found.right) == 24
    assert not found.is_whole


def test_a_part_is_told_without_a_list_of_the_rest():
    assert recognised(kodak()[:2]).sentence() == "Kodak, 2 of 24 pictures, hashes of the pixels right."


@pytest.mark.parametrize(
    "pictures",
    [
        [Source(Path("a.png"), "", 768, 512)],
        [Source(Path(f"{k}.png"), "", 1200, 1200) for k in range(99)],
        [*kodak()[:2], *(Source(Path(f"{k}.png"), "", 9, 9) for k in range(3))],
    ],
    ids=["one", "99", "few"],
)
def test_others_are_no_data_set(pictures):
    assert recognised(pictures) is None
