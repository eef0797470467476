"""Published curves: where they are from, and how they are named."""

import re
from collections import Counter
from pathlib import Path

import pytest

from hpcm.errors import UsageError
from hpcm.eval.anchors import USUAL, chosen, points_of, published, set_of, whole_name
from hpcm.eval.bdrate import Curve
from hpcm.eval.datasets import label_of
from hpcm.eval.results import METRICS

ROOT = Path(__file__).resolve().parents[1]

pytest.importorskip("bjontegaard")


@pytest.mark.parametrize("name", published())
def test_curves_have_sources_and_can_be_compared(name):
    curve = published()[name]
    assert re.search(r"commit [0-9a-f]{10} of 20\d\d-\d\d-\d\d, licence: |^measured by hpcm: ", curve.source)
    assert curve.convention
    assert curve.ms_ssim in (None, "dB of mean", "mean of dB")
    assert label_of(set_of(name))
    shown = [metric for metric in METRICS if points_of(curve, metric)]
    assert shown
    for metric in shown:
        assert len(Curve(points_of(curve, metric)).rates) >= 3
    rates = [point[1] for point in curve.points]
    assert rates == sorted(rates)


def test_the_averages_of_ms_ssim_are_two_metrics():
    """Otherwise HPCM's, which are 0.2 to 0.3 dB higher for the same files, would be compared with the others'."""
    curves = published()
    assert points_of(curves["kodak/vtm"], "ms_ssim_db")
    assert not points_of(curves["kodak/vtm"], "ms_ssim_mean_of_db")
    assert points_of(curves["kodak/hpcm-base-ms-ssim"], "ms_ssim_mean_of_db")
    assert not points_of(curves["kodak/hpcm-base-ms-ssim"], "ms_ssim_db")
    assert not points_of(curves["kodak/hpcm-base-ms-ssim"], "psnr")  # its authors give none


def test_labels_of_a_data_set_differ():
    labels = Counter((set_of(name), curve.label) for name, curve in published().items() if "measured-" not in name)
    assert [label for label, count in labels.items() if count > 1] == []


def test_names():
    assert chosen(None, "kodak") == [f"kodak/{name}" for name in USUAL["kodak"]]
    assert chosen(None, None) == chosen([], "kodak") == []
    assert chosen(["vtm", "clic/bpg", "kodak/vtm"], "kodak") == ["kodak/vtm", "clic/bpg"]
    assert whole_name("kodak/vtm", None) == "kodak/vtm"
    for data_set in USUAL:
        assert len(chosen(None, data_set)) >= 4


@pytest.mark.parametrize(
    ("name", "data_set", "message"),
    [
        ("vtm", None, "the pictures aren't all of a data set with published curves: name the curve's, as in kodak/vtm"),
        ("hpcm-bse", "kodak", "there is no published curve kodak/hpcm-bse: choose from kodak/hpcm-base, "),
        ("x", "tecnick", "there is no published curve tecnick/x: choose from tecnick/"),
        ("imagenet/x", None, "there is no published curve imagenet/x: choose from kodak/"),
        ("x", None, "there is no published curve x: choose from kodak/"),
    ],
)
def test_a_name_that_is_not_there(name, data_set, message):
    with pytest.raises(UsageError) as error:
        whole_name(name, data_set)
    assert str(error.value).startswith(message)


def test_the_documentation_names_every_curve():
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w./-]+)`", text))
    assert [name for name in published() if name not in named and name.partition("/")[2] not in named] == []
