"""What is to be done: the inputs, grouped into parts that are done whole or not at all.

A tar or Parquet shard is a part, and so are so many loose pictures. How they are grouped depends on the sources alone,
so that the parts that a run leaves undone are the next run's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

from ..errors import UsageError
from ..stores.places import Found, Place
from ..stores.shards import KINDS, kind_of

PICTURES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".avif", ".avifs", ".tif", ".tiff"}
    | {".bmp", ".dib", ".gif", ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx"}
    | {".tga", ".pcx", ".pcd", ".qoi", ".ras", ".sgi"}
)  # as in cli/files.py
SUFFIX = ".hpcm"
SHARD_SIZE = 1000  # loose pictures that become one shard
BATCH, BATCHES = 100, 16  # loose pictures that stay loose and are one part, at most; parts of a small set, at least


@dataclass(frozen=True)
class Job:
    """What all parts have in common."""

    target: str  # URL
    restore: bool = False
    to: str | None = None  # one of shards.KINDS; None: as the input
    model: str | None = None
    how: dict[str, Any] = field(default_factory=dict)  # of Codec.compress
    format: str = "png"  # of restored pictures
    column: str | None = None  # of Parquet
    verify: bool = False
    threads: int = 1  # of each worker

    @property
    def wanted(self) -> Collection[str]:
        """Suffixes of the pictures that are looked for."""
        return {SUFFIX} if self.restore else PICTURES

    def renamed(self, name: str) -> str:
        return str(PurePosixPath(name).with_suffix(f".{self.format}" if self.restore else SUFFIX))


@dataclass(frozen=True)
class Part:
    """Loose pictures, or one shard, of a folder `root`; `output` is a shard's name without suffix, or a folder."""

    name: str
    kind: str
    root: str
    to: str
    output: str
    inputs: tuple[Found, ...]

    def dumps(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def loads(text: str) -> Part:
        fields = json.loads(text)
        return Part(**{**fields, "inputs": tuple(Found(*each) for each in fields["inputs"])})


@dataclass(frozen=True)
class Plan:
    parts: list[Part]
    wrong: list[tuple[str, Found]]  # folders and inputs of which it is known that they can't be done
    done: int  # inputs that an earlier run has done


def plan(
    sources: Sequence[str],
    job: Job,
    done: Collection[tuple[str, int, int]],
    shard_size: int | None = None,
) -> Plan:
    """The parts that are left to do. Raises UsageError."""
    target = Place(job.target)
    used: dict[str, str] = {}  # output -> input
    parts: list[Part] = []
    wrong: list[tuple[str, Found]] = []
    count = 0
    for url in sources:
        root, files = listed(url, job)
        _check_apart(root, target)
        judged = [_judged(found, job, used) for found in files]
        wrong += [(root.shown, found) for found in judged if found.error]
        sound = [found for found in judged if not found.error]
        count += len(sound)
        parts += _parts(root.url, sound, job, done, shard_size)
    if not count and not wrong:
        what = ", ".join(sorted({*job.wanted, *filter(None, KINDS.values())}))
        raise UsageError(f"{', '.join(Place(url).shown for url in sources)}: no file ends in {what}")
    return Plan(parts, wrong, count - sum(len(part.inputs) for part in parts))


def listed(url: str, job: Job) -> tuple[Place, list[Found]]:
    """A source's folder and its pictures and shards, by key."""
    place, only = Place(url), None
    if inside := place.inside():
        place, only = inside
    if not place.exists():
        raise UsageError(f"{place.shown}: there is no such file or folder")
    files = [f for f in place.files() if (f.key == only if only else _is_input(f.key, job))]
    return place, files


def _is_input(key: str, job: Job) -> bool:
    return kind_of(key) != "loose" or PurePosixPath(key).suffix.lower() in job.wanted


def _judged(found: Found, job: Job, used: dict[str, str]) -> Found:
    """The input, with an error where another one has its output's name."""
    kind = kind_of(found.key)
    output = job.renamed(found.key) if kind == "loose" else f"{_stem(found.key)} as {job.to or kind}"
    if found.error is None and used.setdefault(output, found.key) != found.key:
        return found._replace(error=f"{used[output]} becomes {output} already")
    return found


def _stem(key: str) -> str:
    return key[: -len(KINDS[kind_of(key)])]


def _parts(
    root: str, files: Iterable[Found], job: Job, done: Collection[tuple[str, int, int]], shard_size: int | None
) -> list[Part]:
    shards = [found for found in files if kind_of(found.key) != "loose"]
    pictures = [found for found in files if kind_of(found.key) == "loose"]
    parts = []
    for found in shards:
        kind = kind_of(found.key)
        to = job.to or kind
        output = found.key if to == "loose" else _stem(found.key)
        if found[:3] not in done:
            parts.append(Part(_digest([found]), kind, root, to, output, (found,)))
    to = job.to or "loose"
    if to == "loose":
        pictures = [found for found in pictures if found[:3] not in done]
    size = shard_size or (SHARD_SIZE if to != "loose" else max(min(BATCH, len(pictures) // BATCHES), 1))
    for index in range(0, len(pictures), size):
        group = tuple(found for found in pictures[index : index + size] if found[:3] not in done)
        if group:
            name = _digest(group)
            output = "" if to == "loose" else f"pictures-{index // size:05d}-{name[:8]}"
            parts.append(Part(name, "loose", root, to, output, group))
    return parts


def _digest(inputs: Iterable[Found]) -> str:
    return hashlib.sha256(json.dumps([found[:3] for found in inputs]).encode()).hexdigest()[:16]


def _check_apart(source: Place, target: Place) -> None:
    """Raises UsageError where one folder lies in the other."""
    (one, a), (other, b) = source.identity(), target.identity()
    if one == other and (a[: len(b)] == b or b[: len(a)] == a):
        raise UsageError(f"{target.shown} and {source.shown}: one lies in the other; keep them apart")
