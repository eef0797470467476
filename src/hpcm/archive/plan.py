"""The plan of a run: which inputs are left to do, grouped into parts that are done completely or not at all.

A tar or Parquet shard is a part, and so is a group of loose pictures. The grouping depends only on the sources: so the
next run has the parts that this one leaves undone.

An input is its root, the folder that was named as SRC, and its key, the path in it. Each root has a folder in DST,
which the archive's settings keep: DST itself if the first run had one root, and else a folder of the root's name.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import Any, cast

from ..defaults import PICTURE_SUFFIXES, SUFFIX
from ..errors import UsageError
from .names import KINDS, Claims
from .shards import kind_of
from .store import IS_FOLDER, FileEntry, Store, escape

SHARD_SIZE = 1000  # loose pictures that become one shard
MAX_LOOSE = 100  # loose pictures that stay loose and are one part, at most
MIN_PARTS = 16  # that loose pictures are divided into, if they are enough, so that there is work for several actors


@dataclass(frozen=True)
class Job:
    """The settings of a run, which every actor has."""

    target: str  # URL
    restore: bool = False
    to: str | None = None  # one of names.KINDS; None: as the input
    model: str | None = None
    codec_options: dict[str, Any] = field(default_factory=dict)  # of Codec.compress
    appearance: dict[str, Any] = field(default_factory=dict)  # strip and icc, both ways
    format: str = "png"  # of restored pictures
    column: str | None = None  # of Parquet
    verify: bool = False
    device: str = "cpu"
    threads: int = 1  # of each worker
    case_insensitive: bool = False  # whether DST ignores case in names

    @property
    def suffixes(self) -> Collection[str]:
        """Of the pictures that are inputs."""
        return {SUFFIX} if self.restore else PICTURE_SUFFIXES

    def output_name(self, name: str) -> str:
        """The name with the output's suffix, which replaces a picture's; another one, as of `img_0.5`, is kept."""
        path = PurePosixPath(name)
        suffix = f".{self.format}" if self.restore else SUFFIX
        if path.suffix.lower() in {SUFFIX, *PICTURE_SUFFIXES}:
            return str(path.with_suffix(suffix))
        return f"{path}{suffix}"


@dataclass(frozen=True)
class Part:
    """Loose pictures, or one shard, of one root: what an actor does at a time."""

    name: str  # a digest of the inputs
    kind: str  # of the inputs: one of names.KINDS
    root: str  # URL
    to: str  # kind of the output
    output: str  # a shard's key without suffix, or the folder of loose pictures
    inputs: tuple[FileEntry, ...]

    def dumps(self) -> str:
        return json.dumps(asdict(self))

    @staticmethod
    def loads(text: str) -> Part:
        fields = json.loads(text)
        return Part(**{**fields, "inputs": tuple(FileEntry(*each) for each in fields["inputs"])})


Input = tuple[str, str]  # root and key, as the manifest has them


@dataclass(frozen=True)
class ArchiveState:
    """What earlier runs have done in DST.

    Args:
        done: root, key, size and modification time of the inputs that need no more work.
        outputs: root, key and output of each archived picture.
        folders: the folder in DST of each root, "" for DST itself.
    """

    done: Collection[tuple[str, str, int, int]] = ()
    outputs: Iterable[tuple[str, str, str]] = ()
    folders: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    parts: list[Part]
    rejected: list[tuple[str, FileEntry]]  # root and input, which has an error: it can't be archived
    done: int  # inputs that earlier runs have done
    inputs: dict[str, list[FileEntry]]  # all inputs of each root
    stores: dict[str, Store]  # of each root
    folders: dict[str, str]  # as in ArchiveState, with those of new roots
    skipped: Counter[str]  # files that are no inputs, by reason: a suffix, "hidden", ...


def plan(sources: Sequence[str], job: Job, state: ArchiveState | None = None, shard_size: int | None = None) -> Plan:
    """The parts that are left to do. Raises UsageError."""
    state = state or ArchiveState()
    target = Store(job.target)
    skipped: Counter[str] = Counter()
    stores, inputs = _list_sources(sources, job, target, skipped)
    folders = _output_folders(list(stores), state.folders, target)
    claims = _earlier_claims(state, job)
    parts: list[Part] = []
    rejected: list[tuple[str, FileEntry]] = []
    accepted = 0
    for root, entries in inputs.items():
        checked = [_claim_output(root, folders[root], entry, job, claims) for entry in entries]
        valid = [entry for entry in checked if not entry.error]
        accepted += len(valid)
        rejected += [(root, entry) for entry in checked if entry.error]
        parts += _Grouping(stores[root], folders[root], job, state.done, shard_size).parts_of(valid)
    left = sum(len(part.inputs) for part in parts)
    return Plan(parts, rejected, accepted - left, inputs, stores, folders, skipped)


# ---- inputs ---------------------------------------------------------------------------------------------------------


def root_of(store: Store) -> str:
    """A source's name in the manifest."""
    return escape(store.display_url)


def input_of(root: str, entry: FileEntry) -> Input:
    """An input's name in the manifest. A key that was escaped begins with ./, as no other does."""
    key = escape(entry.key)
    return root, key if key == entry.key else f"./{key}"


def _list_sources(
    sources: Sequence[str], job: Job, target: Store, skipped: Counter[str]
) -> tuple[dict[str, Store], dict[str, list[FileEntry]]]:
    """The store and the inputs of each root, by key; each input once, however many sources it is in.

    Raises UsageError where there is none.
    """
    stores: dict[str, Store] = {}
    by_key: dict[str, dict[str, FileEntry]] = {}
    for url in sources:
        store, entries = _list_source(url, job, skipped)
        _check_apart(store, target)
        root = root_of(store)
        if stores.setdefault(root, store) != store:
            raise UsageError(f"two sources that differ in their options are both called {root}: archive them apart")
        by_key.setdefault(root, {}).update((entry.key, entry) for entry in entries)
    if not any(by_key.values()):
        suffixes = ", ".join(sorted({*job.suffixes, *filter(None, KINDS.values())}))
        raise UsageError(f"{', '.join(Store(url).display_url for url in sources)}: no file ends in {suffixes}")
    return stores, {root: sorted(entries.values()) for root, entries in by_key.items()}


def _list_source(url: str, job: Job, skipped: Counter[str]) -> tuple[Store, list[FileEntry]]:
    """A source's folder and its inputs; the other files are counted in `skipped`, by suffix."""
    store = Store(url)
    if single := store.split_file():
        folder, key = single
        return folder, [entry for entry in folder.files() if entry.key == key]
    if not store.exists():
        raise UsageError(f"{store.display_url}: there is no such file or folder")
    inputs = []
    for entry in store.files(skipped):
        suffix = PurePosixPath(entry.key).suffix.lower()
        if _is_input(entry.key, job):
            inputs.append(entry)
        elif suffix != SUFFIX and entry.error != IS_FOLDER:
            skipped[suffix or "without a suffix"] += 1
    return store, inputs


def _is_input(key: str, job: Job) -> bool:
    """Also of a folder that can't be listed, which may hold pictures."""
    return key.endswith("/") or kind_of(key) != "loose" or PurePosixPath(key).suffix.lower() in job.suffixes


def _check_apart(source: Store, target: Store) -> None:
    """Raises UsageError where one folder is in the other."""
    (one, a), (other, b) = source.identity(), target.identity()
    if one == other and (a[: len(b)] == b or b[: len(a)] == a):
        raise UsageError(f"{target.display_url} and {source.display_url}: one lies in the other; keep them apart")


# ---- names of outputs -----------------------------------------------------------------------------------------------


def _output_folders(roots: Sequence[str], known: Mapping[str, str], target: Store) -> dict[str, str]:
    """The folder in DST of each root; a new one for a new root."""
    folders = dict(known)
    if not folders and len(roots) == 1:
        return {roots[0]: ""}
    for root in roots:
        if root not in folders:
            folders[root] = _new_folder(root, folders.values(), target)
    return folders


def _new_folder(root: str, taken: Collection[str], target: Store) -> str:
    name = root.rstrip("/").rpartition("/")[2].lstrip("._").replace(".", "-") or "source"
    used = {folder.casefold() for folder in taken}
    count = 1
    folder = name
    while folder.casefold() in used or target.subfolder(folder).exists():
        count += 1
        folder = f"{name}-{count}"
    return folder


def _earlier_claims(state: ArchiveState, job: Job) -> Claims:
    """The names of the archive's files, and those that its loose pictures would have as loose files."""
    claims = Claims(job.case_insensitive)
    for root, key, output in state.outputs:
        claims.take(output, (root, key))
        if kind_of(key) == "loose" and root in state.folders:
            claims.take(_join(state.folders[root], job.output_name(key)), (root, key))
    return claims


def _claim_output(root: str, folder: str, entry: FileEntry, job: Job, claims: Claims) -> FileEntry:
    """The input, with an error if the name of its output is taken."""
    if entry.error is not None:
        return entry
    kind = kind_of(entry.key)
    name = escape(entry.key)
    if kind == "loose":
        output = _join(folder, job.output_name(name))
    else:
        output = _join(folder, _stem(name)) + KINDS[job.to or kind]
    owner = claims.take(output, input_of(root, entry))
    if owner is None:
        return entry
    other_root, key = cast(Input, owner)
    other = key if other_root == root else f"{other_root}/{key}"
    return entry._replace(error=f"{other} becomes {output} already")


def _stem(key: str) -> str:
    return key[: -len(KINDS[kind_of(key)])]


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder and name else folder or name


# ---- parts ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Grouping:
    """How the inputs of a root become parts.

    Args:
        folder: in DST, for the outputs.
        done: as in ArchiveState.
        shard_size: loose pictures of one part; None: by default.
    """

    root: Store
    folder: str
    job: Job
    done: Collection[tuple[str, str, int, int]]
    shard_size: int | None

    def parts_of(self, entries: Sequence[FileEntry]) -> list[Part]:
        shards = [entry for entry in entries if kind_of(entry.key) != "loose"]
        pictures = [entry for entry in entries if kind_of(entry.key) == "loose"]
        parts = [self._of_shard(entry) for entry in self._undone(shards)]
        if self.job.to in (None, "loose"):
            return parts + list(self._of_loose(pictures))
        return parts + list(self._of_new_shards(pictures, self.job.to))

    def _undone(self, entries: Iterable[FileEntry]) -> list[FileEntry]:
        root = root_of(self.root)
        return [entry for entry in entries if (*input_of(root, entry), entry.size, entry.modified) not in self.done]

    def _of_shard(self, entry: FileEntry) -> Part:
        kind = kind_of(entry.key)
        output = _join(self.folder, _stem(escape(entry.key)))
        return Part(self._digest([entry]), kind, self.root.url, self.job.to or kind, output, (entry,))

    def _of_loose(self, pictures: Sequence[FileEntry]) -> Iterator[Part]:
        """Loose pictures that stay loose: any of them may be one part."""
        undone = self._undone(pictures)
        size = max(min(MAX_LOOSE, len(undone) // MIN_PARTS), 1)
        for group in _groups(undone, self.shard_size or size):
            yield Part(self._digest(group), "loose", self.root.url, "loose", self.folder, tuple(group))

    def _of_new_shards(self, pictures: Sequence[FileEntry], to: str) -> Iterator[Part]:
        """Loose pictures that become shards. Done ones are left out of their groups, which stay the same."""
        for number, group in enumerate(_groups(pictures, self.shard_size or SHARD_SIZE)):
            if undone := self._undone(group):
                digest = self._digest(undone)
                output = _join(self.folder, f"pictures-{number:05d}-{digest}")
                yield Part(digest, "loose", self.root.url, to, output, tuple(undone))

    def _digest(self, inputs: Iterable[FileEntry]) -> str:
        facts = [root_of(self.root), [(entry.key, entry.size, entry.modified) for entry in inputs]]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _groups(entries: Sequence[FileEntry], size: int) -> Iterator[Sequence[FileEntry]]:
    for begin in range(0, len(entries), size):
        yield entries[begin : begin + size]
