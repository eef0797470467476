"""Known data sets: whether pictures are those of Kodak, of CLIC 2020 (professional validation) or of Tecnick.

Nothing is downloaded. Pictures that look like a data set, by their names or their number and size, are compared with
the list in `datasets.json`: Kodak's by a hash of the pixels, which a PNG file keeps whoever wrote it; CLIC's by name
and number of pixels, Tecnick's by number and size, because no hashes of theirs are known here. Of CLIC's test sets,
and of CLIC 2021 to 2025, there is no list.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

LISTS = Path(__file__).with_name("datasets.json")
SHOWN = 5  # names of pictures in a sentence


class Picture(Protocol):
    """What is compared of a picture."""

    @property
    def name(self) -> str: ...

    @property
    def hash(self) -> str: ...

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...


@dataclass(frozen=True)
class DataSet:
    """The data set that pictures look like, and how far they are its pictures."""

    name: str  # in the names of published curves
    label: str
    count: int  # pictures of the whole set
    checked: str  # what was compared
    right: list[str] = field(default_factory=list)  # pictures as listed
    missing: list[str] = field(default_factory=list)
    different: dict[str, str] = field(default_factory=dict)  # picture -> what is different
    others: list[str] = field(default_factory=list)  # pictures that aren't in the set

    @property
    def is_whole(self) -> bool:
        """Whether these are all pictures of the set as listed, and no others."""
        return len(self.right) == self.count and not self.others

    def sentence(self) -> str:
        """Such as "Kodak, 24 of 24 pictures, hashes of the pixels right."."""
        parts = [f"{self.label}, {len(self.right)} of {self.count} pictures, {self.checked}"]
        if self.different:
            parts.append(_listed([f"{name} differs ({how})" for name, how in self.different.items()]))
        if self.missing and len(self.missing) <= SHOWN:
            parts.append(f"not there: {', '.join(self.missing)}")
        if self.others:
            parts.append(f"not of this set: {_listed(self.others)}")
        return "; ".join(parts) + "."


def recognised(pictures: Sequence[Picture]) -> DataSet | None:
    """The data set that most of the pictures are of by name, or all by number and size; None if there is none."""
    for name, about in _lists().items():
        listed = about.get("pictures")
        if listed and 2 * sum(picture.name in listed for picture in pictures) > len(pictures):
            return _compared(name, about, pictures)
        if not listed and len(pictures) == about["count"] and all(_has_size(picture, about) for picture in pictures):
            names = [picture.name for picture in pictures]
            return DataSet(name, about["label"], about["count"], "number and size right", right=names)
    return None


def label_of(name: str) -> str:
    """What a data set is called."""
    return str(_lists()[name]["label"])


def _compared(name: str, about: dict[str, Any], pictures: Sequence[Picture]) -> DataSet:
    """The pictures against the list of a data set."""
    listed = about["pictures"]
    different = {p.name: how for p in pictures if p.name in listed and (how := _difference(p, listed[p.name]))}
    there = [picture.name for picture in pictures]
    has_hashes = all("hash" in one for one in listed.values())
    return DataSet(
        name=name,
        label=about["label"],
        count=about["count"],
        checked="hashes of the pixels right" if has_hashes else "names and numbers of pixels right",
        right=[one for one in there if one in listed and one not in different],
        missing=[one for one in listed if one not in there],
        different=different,
        others=[one for one in there if one not in listed],
    )


def _difference(picture: Picture, listed: dict[str, Any]) -> str:
    """What is different about a picture; empty if nothing is."""
    if "pixels" in listed:
        pixels = picture.width * picture.height
        return "" if pixels == listed["pixels"] else f"{pixels} pixels instead of {listed['pixels']}"
    if not _has_size(picture, listed):
        return f"{picture.width} x {picture.height} instead of {listed['width']} x {listed['height']}"
    return "" if picture.hash == listed["hash"] else "other pixels"


def _has_size(picture: Picture, listed: dict[str, Any]) -> bool:
    return (picture.width, picture.height) == (listed["width"], listed["height"])


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


@cache
def _lists() -> dict[str, Any]:
    return dict(json.loads(LISTS.read_text(encoding="utf-8"))["sets"])
