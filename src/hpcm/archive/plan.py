"""What is to be done: the inputs, grouped into parts that are done whole or not at all.

A tar or Parquet shard is a part, and so are so many loose pictures. How they are grouped depends on the sources alone,
so that the parts that a run leaves undone are the next run's.

An input is its root, the folder that was named as SRC, and its key, the path in it. Each root has a folder in DST,
which the archive remembers: DST itself if it was the first root and alone, and else a folder of the root's name.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any

from ..defaults import PICTURE_SUFFIXES, SUFFIX
from ..errors import UsageError
from .names import KINDS, Claims
from .places import IS_FOLDER, Found, Place, readable
from .shards import kind_of

SHARD_SIZE = 1000  # loose pictures that become one shard
BATCH, BATCHES = 100, 16  # loose pictures that stay loose and are one part, at most; parts of a small set, at least


@dataclass(frozen=True)
class Job:
    """What all parts have in common."""

    target: str  # URL
    restore: bool = False
    to: str | None = None  # one of names.KINDS; None: as the input
    model: str | None = None
    how: dict[str, Any] = field(default_factory=dict)  # of Codec.compress
    format: str = "png"  # of restored pictures
    column: str | None = None  # of Parquet
    verify: bool = False
    threads: int = 1  # of each worker
    folds: bool = False  # whether DST takes names for equal that differ in case only

    @property
    def wanted(self) -> Collection[str]:
        """Suffixes of the pictures that are looked for."""
        return {SUFFIX} if self.restore else PICTURE_SUFFIXES

    def renamed(self, name: str) -> str:
        """What a picture becomes: with the new suffix in place of a picture's. One as of `img_0.5` is kept."""
        path = PurePosixPath(name)
        suffix = f".{self.format}" if self.restore else SUFFIX
        if path.suffix.lower() in {SUFFIX, *PICTURE_SUFFIXES}:
            return str(path.with_suffix(suffix))
        return f"{path}{suffix}"


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


Input = tuple[str, str]  # root and key, as the manifest has them


@dataclass(frozen=True)
class Kept:
    """What an archive has already.

    Args:
        done: root, key, size and time of change of the inputs that need no more work.
        outputs: what was made of inputs, as (root, key, file).
        folders: of each root in DST, "" for DST itself.
    """

    done: Collection[tuple[str, str, int, int]] = ()
    outputs: Iterable[tuple[str, str, str]] = ()
    folders: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    parts: list[Part]
    wrong: list[tuple[str, Found]]  # roots and inputs of which it is known that they can't be done
    done: int  # inputs that an earlier run has done
    listed: dict[str, list[Found]]  # all inputs of each root
    places: dict[str, Place]  # of each root
    folders: dict[str, str]  # as in Kept, with those of new roots
    skipped: Counter[str]  # files that are no inputs, by kind: a suffix, "hidden", ...


def plan(
    sources: Sequence[str],
    job: Job,
    done: Collection[tuple[str, str, int, int]] = (),
    shard_size: int | None = None,
    kept: Kept | None = None,
) -> Plan:
    """The parts that are left to do. Raises UsageError."""
    kept = kept or Kept(done)
    target = Place(job.target)
    skipped: Counter[str] = Counter()
    places, listed = _listed(sources, job, target, skipped)
    folders = _folders(list(places), kept.folders, target)
    claims = _claimed(kept, job)
    parts: list[Part] = []
    wrong: list[tuple[str, Found]] = []
    count = 0
    for root, files in listed.items():
        judged = [_judged(root, folders[root], found, job, claims) for found in files]
        wrong += [(root, found) for found in judged if found.error]
        sound = [found for found in judged if not found.error]
        count += len(sound)
        parts += _Parts(places[root], folders[root], job, kept.done, shard_size).of(sound)
    if not count and not wrong:
        what = ", ".join(sorted({*job.wanted, *filter(None, KINDS.values())}))
        raise UsageError(f"{', '.join(Place(url).shown for url in sources)}: no file ends in {what}")
    return Plan(parts, wrong, count - sum(len(part.inputs) for part in parts), listed, places, folders, skipped)


def _listed(
    sources: Sequence[str], job: Job, target: Place, skipped: Counter[str]
) -> tuple[dict[str, Place], dict[str, list[Found]]]:
    """The place and the inputs of each root, each input once, by key."""
    places: dict[str, Place] = {}
    found: dict[str, dict[str, Found]] = {}
    for url in sources:
        place, files = listed(url, job, skipped)
        _check_apart(place, target)
        root = root_of(place)
        if places.setdefault(root, place) != place:
            raise UsageError(f"two sources that differ in their options are both called {root}: archive them apart")
        found.setdefault(root, {}).update((file.key, file) for file in files)
    return places, {root: sorted(files.values()) for root, files in found.items()}


def _claimed(kept: Kept, job: Job) -> Claims:
    """The names that the archive has: of its files, and of its loose pictures in whatever they are."""
    claims = Claims(job.folds)
    for root, key, output in kept.outputs:
        claims.take(output, (root, key))
        if kind_of(key) == "loose" and root in kept.folders:
            claims.take(_joined(kept.folders[root], job.renamed(key)), (root, key))
    return claims


def root_of(place: Place) -> str:
    """What the manifest calls a source."""
    return readable(place.shown)


def input_of(root: str, found: Found) -> Input:
    """What the manifest calls an input. A key that isn't UTF-8 begins with ./, as no other does."""
    key = readable(found.key)
    return root, key if key == found.key else f"./{key}"


def _folders(roots: Sequence[str], known: Mapping[str, str], target: Place) -> dict[str, str]:
    """The folder of each root in DST, for new ones a new one."""
    folders = dict(known)
    if not folders and len(roots) == 1:
        return {roots[0]: ""}
    for root in roots:
        if root not in folders:
            folders[root] = _new_folder(root, folders.values(), target)
    return folders


def _new_folder(root: str, taken: Collection[str], target: Place) -> str:
    name = root.rstrip("/").rpartition("/")[2].lstrip("._").replace(".", "-") or "source"
    used = {folder.casefold() for folder in taken}
    count = 1
    folder = name
    while folder.casefold() in used or target.inner(folder).exists():
        count += 1
        folder = f"{name}-{count}"
    return folder


def listed(url: str, job: Job, skipped: Counter[str]) -> tuple[Place, list[Found]]:
    """A source's folder and its pictures and shards, by key; what else is in it is counted in `skipped`."""
    place, only = Place(url), None
    if inside := place.inside():
        place, only = inside
    if not place.exists():
        raise UsageError(f"{place.shown}: there is no such file or folder")
    if only:
        return place, [found for found in place.files() if found.key == only]
    files = place.files(skipped)
    others = [PurePosixPath(f.key) for f in files if not _is_input(f.key, job) and f.error != IS_FOLDER]
    skipped.update(path.suffix.lower() or "without a suffix" for path in others if path.suffix.lower() != SUFFIX)
    return place, [found for found in files if _is_input(found.key, job)]


def _is_input(key: str, job: Job) -> bool:
    """Also a folder that can't be listed, which may hold pictures."""
    return key.endswith("/") or kind_of(key) != "loose" or PurePosixPath(key).suffix.lower() in job.wanted


def _judged(root: str, folder: str, found: Found, job: Job, claims: Claims) -> Found:
    """The input, with an error where its output's name is taken."""
    if found.error is not None:
        return found
    kind = kind_of(found.key)
    name = readable(found.key)
    if kind == "loose":
        output = _joined(folder, job.renamed(name))
    else:
        output = _joined(folder, _stem(name)) + KINDS[job.to or kind]
    rival = claims.take(output, input_of(root, found))
    if rival is None:
        return found
    other, key = rival if isinstance(rival, tuple) else ("", "")
    return found._replace(error=f"{key if other == root else f'{other}/{key}'} becomes {output} already")


def _stem(key: str) -> str:
    return key[: -len(KINDS[kind_of(key)])]


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder and name else folder or name


@dataclass(frozen=True)
class _Parts:
    """The parts of a root whose outputs go into `folder`."""

    root: Place
    folder: str
    job: Job
    done: Collection[tuple[str, str, int, int]]
    shard_size: int | None

    def of(self, files: Sequence[Found]) -> list[Part]:
        shards = [found for found in files if kind_of(found.key) != "loose" and self._is_left(found)]
        pictures = [found for found in files if kind_of(found.key) == "loose"]
        return [self._of_shard(found) for found in shards] + self._of_loose(pictures)

    def _is_left(self, found: Found) -> bool:
        return (*input_of(root_of(self.root), found), found.size, found.modified) not in self.done

    def _of_shard(self, found: Found) -> Part:
        kind = kind_of(found.key)
        output = _joined(self.folder, _stem(readable(found.key)))
        return Part(self._digest([found]), kind, self.root.url, self.job.to or kind, output, (found,))

    def _of_loose(self, pictures: list[Found]) -> list[Part]:
        to = self.job.to or "loose"
        if to == "loose":
            pictures = [found for found in pictures if self._is_left(found)]
        few = max(min(BATCH, len(pictures) // BATCHES), 1)
        size = self.shard_size or (few if to == "loose" else SHARD_SIZE)
        parts = []
        for index in range(0, len(pictures), size):
            group = tuple(found for found in pictures[index : index + size] if self._is_left(found))
            if group:
                name = self._digest(group)
                shard = "" if to == "loose" else f"pictures-{index // size:05d}-{name}"
                parts.append(Part(name, "loose", self.root.url, to, _joined(self.folder, shard), group))
        return parts

    def _digest(self, inputs: Iterable[Found]) -> str:
        facts = [root_of(self.root), [found[:3] for found in inputs]]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _check_apart(source: Place, target: Place) -> None:
    """Raises UsageError where one folder lies in the other."""
    (one, a), (other, b) = source.identity(), target.identity()
    if one == other and (a[: len(b)] == b or b[: len(a)] == a):
        raise UsageError(f"{target.shown} and {source.shown}: one lies in the other; keep them apart")
