"""Published curves of other codecs (`anchors.json`) to draw and to compare with.

Each is over a data set and has a name such as `kodak/vtm`. Curves compare only over the same pictures, and only by the
same average: PSNR is the mean over the pictures of the pictures' PSNR, and MS-SSIM comes in two kinds, "dB of mean"
and "mean of dB", which lie 0.2 to 0.3 dB apart and are two metrics here. What else a source says of how it measured,
such as that pixels weren't rounded to 8 bits, is in `convention`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .bdrate import RatePoint

ANCHORS = Path(__file__).with_name("anchors.json")
USUAL = {  # of each data set, what is compared with unless others are named
    "kodak": ("vtm", "bpg", "av1", "elic2022", "hpcm-base", "hpcm-large"),
    "clic": ("vtm-17.0", "bpg", "hpcm-base", "hpcm-large"),
    "tecnick": ("vtm-9.1", "tf-bpg444", "hpcm-base", "hpcm-large"),
}


@dataclass(frozen=True)
class PublishedCurve:
    """Of another codec, over the pictures of a data set."""

    label: str
    kind: str  # "conventional", "learned" or "overfitted" (to each picture)
    source: str  # repository, path, commit, date, licence
    convention: str  # how the source measured
    points: list[tuple[str, float, float | None, float | None]]  # setting, bits per pixel, PSNR and MS-SSIM in dB
    trained_for: str | None = None  # "mse" or "ms-ssim"
    ms_ssim: str | None = None  # its average, "dB of mean" or "mean of dB"; None if there is none
    pictures: str | None = None  # what the source says of them, where it isn't sure that they are all of the data set


@cache
def published() -> dict[str, PublishedCurve]:
    """The curves of anchors.json by data set and name."""
    read = json.loads(ANCHORS.read_text(encoding="utf-8"))
    return {name: _curve(entry, read["sources"]) for name, entry in read["curves"].items()}


def _curve(entry: dict[str, Any], sources: dict[str, dict[str, str]]) -> PublishedCurve:
    fields = {name: value for name, value in entry.items() if name not in ("repository", "path")}
    if repository := entry.get("repository"):
        about = sources[repository]
        made = f"commit {about['commit'][:10]} of {about['date']}, licence: {about['licence']}"
        fields["source"] = f"{repository} {entry['path']}, {made}"
    return PublishedCurve(**fields)


def points_of(curve: PublishedCurve, metric: str) -> list[RatePoint]:
    """Points of a published curve by a metric of `results.METRICS`; none if it doesn't have that."""
    columns = {"psnr": 2}
    if curve.ms_ssim:
        columns["ms_ssim_db" if curve.ms_ssim == "dB of mean" else "ms_ssim_mean_of_db"] = 3
    if metric not in columns:
        return []
    qualities: list[tuple[float, Any]] = [(point[1], point[columns[metric]]) for point in curve.points]
    return [(rate, quality) for rate, quality in qualities if quality is not None]


def set_of(name: str) -> str:
    """The data set of a curve's name."""
    return name.partition("/")[0]


def chosen(names: Sequence[str] | None, data_set: str | None) -> list[str]:
    """The whole names of curves to compare with.

    Args:
        names: such as "vtm", of the pictures' data set, or "kodak/vtm"; None: the usual ones of the data set.
        data_set: what all the pictures are of; None if they are of none.

    Raises UsageError for a curve that isn't there.
    """
    if names is None:
        names = USUAL.get(data_set or "", ())
    return list(dict.fromkeys(whole_name(name, data_set) for name in names))


def whole_name(name: str, data_set: str | None) -> str:
    """A curve's name with its data set. Raises UsageError if there is no such curve."""
    whole = name if "/" in name or data_set is None else f"{data_set}/{name}"
    if whole in published():
        return whole
    if "/" not in whole:
        sets = [set_of(known) for known in published() if known.endswith(f"/{name}")]
        if sets:
            raise UsageError(
                f"the pictures aren't all of a data set with published curves: name the curve's, as in {sets[0]}/{name}"
            )
    of_set = [known for known in published() if set_of(known) == set_of(whole)] or list(published())
    near = get_close_matches(whole, of_set, 3) or of_set
    raise UsageError(f"there is no published curve {whole}: choose from {', '.join(near)}")
