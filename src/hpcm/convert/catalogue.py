"""What the authors have published, as their README (github.com/lyq133/LIC-HPCM, June 2026) links it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..errors import UsageError

FILE = Path(__file__).parent / "catalogue.json"  # a weight without "link" has to be brought along (--from)
REPOSITORY = "github.com/lyq133/LIC-HPCM"
AUTHORS = "Li, Zhang, Li, Liu"
LICENCE = f"MIT, as the repository that links them ({REPOSITORY}); the checkpoints have no other statement"


@dataclass(frozen=True)
class Published:
    """One checkpoint: `name` base-0018 of the family base, trained with `loss` and its lambda."""

    name: str
    family: str
    arch: str
    loss: str  # "mse" or "ms-ssim"
    lmbda: float
    link: str | None

    @property
    def title(self) -> str:
        return f"HPCM-{self.arch.title()}, lambda {self.lmbda:g} ({self.loss.upper()})"


@lru_cache(maxsize=1)
def published() -> tuple[Published, ...]:
    """All checkpoints, by family and rising lambda."""
    families = json.loads(FILE.read_text(encoding="utf-8"))
    checkpoints = []
    for family, about in families.items():
        for number, weights in about["weights"].items():
            name, link = f"{family}-{number}", weights.get("link") or None
            checkpoints.append(Published(name, family, about["arch"], about["loss"], weights["lambda"], link))
    return tuple(checkpoints)


def chosen(name: str) -> list[Published]:
    """The checkpoints of a family, or the one of a name. Raises UsageError."""
    matching = [one for one in published() if name in (one.family, one.name)]
    if not matching:
        families = ", ".join(dict.fromkeys(one.family for one in published()))
        raise UsageError(
            f"the authors have published no {name!r}: choose from {families}, or one of them, as base-0130"
        )
    return matching
