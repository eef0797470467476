"""A metric's mean is over the same pictures for every codec and setting, and what it leaves out is said."""

import csv
import io
import json
import math
import statistics
from dataclasses import replace

import pytest

from hpcm.eval.anchors import published
from hpcm.eval.comparison import compared
from hpcm.eval.machine import Machine
from hpcm.eval.report import left_out, summary
from hpcm.eval.results import CodecResult, Measurement, PictureInfo, Point, Results, load, save

pytest.importorskip("bjontegaard")

NAMES = ("a", "b", "c", "d")
TIMES = {"encode_s": 0.1, "decode_s": 0.1, "encode_cpu_s": 0.1, "decode_cpu_s": 0.1, "jobs": 1}


def measured(place, setting, **changed):
    """Of the picture at a place: later ones take fewer bits, and are better."""
    bpp = 0.1 * setting / (1 + place)
    values = {"bytes": round(bpp * 1e5), "bpp": bpp, "psnr": 25 + 3 * setting + 5 * place, "ms_ssim": 1 - 0.1 / setting}
    return Measurement(NAMES[place], **{**values, **changed}, **TIMES)


def results(lacking, options=None):
    """Of two codecs at four settings on four pictures.

    Args:
        lacking: (codec, setting, picture) -> the fields of a measurement that are different.
    """
    codecs = {}
    for name in ("jpeg", "webp"):
        points = []
        for setting in (1, 2, 3, 4):
            of = [measured(k, setting, **lacking(name, setting, NAMES[k])) for k in range(len(NAMES))]
            points.append(Point.of(setting, of))
        codecs[name] = CodecResult(name.upper(), "", {}, threads=1, points=points)
    pictures = [PictureInfo(name, 200, 100, name) for name in NAMES]
    machine = Machine("a processor", 2, "Linux", "3.11")
    return compared(Results("2026-01-02", None, machine, {}, options or {}, [], pictures, codecs))


def nothing(*_):
    return {}


def test_nothing_is_left_out_if_everything_can_be_computed():
    found = results(nothing)
    assert found.left_out == {}
    assert left_out(found) == []
    for codec in found.codecs.values():
        assert [rate for rate, _ in codec.curve("ms_ssim_db")] == [point.bpp for point in codec.points]
        assert all(point.rates == {} for point in codec.points)


def test_a_small_picture_is_left_out_of_ms_ssim_alone():
    """The mean of MS-SSIM and the rates beside it are over the others; PSNR is over all."""
    plain = results(nothing)
    found = results(lambda codec, setting, picture: {"ms_ssim": None} if picture == "c" else {})
    why = "has a side of 160 pixels or less"
    assert found.left_out["ms_ssim_db"] == {"c": why}
    assert left_out(found) == [
        f"MS-SSIM is over 3 of 4 pictures, and so are the rates beside it; left out, because each {why}: c."
    ]
    for name, codec in found.codecs.items():
        assert codec.curve("psnr") == plain.codecs[name].curve("psnr")
        for point, (rate, quality) in zip(codec.points, codec.curve("ms_ssim_db"), strict=True):
            kept = [one for one in point.pictures if one.picture != "c"]
            assert rate == pytest.approx(statistics.mean(one.bpp for one in kept))
            assert rate > point.bpp  # c takes few bits
            mean = statistics.mean(one.ms_ssim for one in kept)
            assert quality == pytest.approx(-10 * math.log10(1 - mean))
    assert found.bd_rate["ms_ssim_db"]["jpeg"]["webp"].percent == pytest.approx(0)
    heads = summary(found).heads
    assert heads[:3] == ["codec", "PSNR at 0.5 bpp", "MS-SSIM (3 of 4 pictures)"]


def test_a_picture_that_came_back_exactly_is_left_out_everywhere():
    """It is so at one setting of one codec: else a curve's last point would be over other pictures than the rest."""

    def lacking(codec, setting, picture):
        return {"psnr": None, "ms_ssim": 1.0} if (codec, setting, picture) == ("webp", 4, "d") else {}

    found = results(lacking)
    assert found.left_out["psnr"] == {"d": "came back exactly, and its PSNR is infinite"}
    assert "ms_ssim_db" not in found.left_out  # 1 is a number
    assert found.left_out["ms_ssim_mean_of_db"].keys() == {"d"}
    for codec in found.codecs.values():
        for point in codec.points:
            kept = [one for one in point.pictures if one.picture != "d"]
            assert point.psnr == pytest.approx(statistics.mean(one.psnr for one in kept))
            mse = statistics.mean(255**2 / 10 ** (one.psnr / 10) for one in kept)
            assert point.psnr_of_mean_mse == pytest.approx(10 * math.log10(255**2 / mse))
            assert point.psnr_of_mean_mse < point.psnr
    assert found.bd_rate["psnr"]["jpeg"]["webp"].percent == pytest.approx(0)
    assert [text for text in left_out(found) if "mean of dB" in text] == []  # a metric that isn't shown


def test_a_lossless_setting_leaves_its_curve_and_no_picture():
    found = results(lambda codec, setting, picture: {"psnr": None} if (codec, setting) == ("webp", 4) else {})
    assert "psnr" not in found.left_out
    assert [len(codec.curve("psnr")) for codec in found.codecs.values()] == [4, 3]
    assert found.codecs["webp"].points[3].psnr is None
    assert (
        "PSNR, WEBP: setting 4 isn't in the curve, 4 of 4 pictures have none: each came back exactly, "
        "and its PSNR is infinite" in found.warnings
    )


def test_a_lossless_codec_has_no_curve_and_takes_none_from_others():
    found = results(lambda codec, setting, picture: {"psnr": None} if codec == "webp" else {})
    assert found.codecs["webp"].curve("psnr") is None
    assert found.codecs["jpeg"].curve("psnr") == results(nothing).codecs["jpeg"].curve("psnr")
    assert sum("isn't in the curve" in text for text in found.warnings) == 4


def test_most_pictures_may_be_small():
    """They are left out, and the settings stay."""
    found = results(lambda codec, setting, picture: {"ms_ssim": None} if picture != "a" else {})
    assert list(found.left_out["ms_ssim_db"]) == ["b", "c", "d"]
    assert len(found.codecs["jpeg"].curve("ms_ssim_db")) == 4


def test_a_column_that_is_gone_is_said():
    found = results(lambda *_: {"ms_ssim": None})
    assert found.metrics == ["psnr"]
    assert left_out(found)[0].startswith("MS-SSIM is over 0 of 4 pictures")


@pytest.mark.parametrize("metric", ["ssimulacra2", "lpips"])
def test_a_metric_that_was_not_asked_for_leaves_nothing_out(metric):
    assert metric not in results(nothing).left_out
    asked = results(nothing, {"extra": (metric,)})
    assert list(asked.left_out[metric]) == list(NAMES)
    some = results(lambda codec, setting, picture: {metric: 50.0} if picture != "b" else {})
    assert list(some.left_out[metric]) == ["b"]
    of_one = results(lambda codec, setting, picture: {metric: 50.0} if codec == "jpeg" else {})
    assert metric not in of_one.left_out  # the other codec is from a report without it


def test_published_curves_over_more_pictures_are_told():
    found = results(lambda codec, setting, picture: {"ms_ssim": None} if picture == "c" else {})
    warned = compared(replace(found, published={"kodak/vtm": published()["kodak/vtm"]})).warnings
    assert "MS-SSIM: the published curves are over all pictures, the others over 3" in warned
    assert not any(text.startswith("PSNR: the published") for text in warned)


def test_rates_of_large_pictures():
    """Two averages of the rate: of the pictures, and of the pixels."""
    point = Point.of(1, [measured(0, 1, bpp=1.0, bytes=1000), measured(1, 1, bpp=0.5, bytes=4500)])
    assert point.bpp == 0.75
    assert point.bpp_of_all_pixels == pytest.approx(8 * 5500 / (8000 + 72000))


def test_files_keep_what_is_left_out(tmp_path):
    found = results(lambda codec, setting, picture: {"ms_ssim": None} if picture == "c" else {})
    save(found, tmp_path)
    assert load(tmp_path) == found
    read = json.loads((tmp_path / "results.json").read_text())
    assert read["left_out"]["ms_ssim_db"] == {"c": "has a side of 160 pixels or less"}
    rows = list(csv.DictReader(io.StringIO((tmp_path / "pictures.csv").read_text())))
    assert len(rows) == 2 * 4 * 4
    first, small = rows[0], rows[2]
    assert (first["codec"], first["setting"], first["picture"], first["width"]) == ("jpeg", "1", "a", "200")
    assert float(first["psnr"]) == found.codecs["jpeg"].points[0].pictures[0].psnr
    assert (small["picture"], small["ms_ssim"], small["ssimulacra2"]) == ("c", "", "")
