"""The checkpoint of a run: one file, or pieces of a given size for machines that move only small files.

Either appears in one instant, complete, whenever the process may die: a file takes its name when it is on the disk, and
pieces count only once the list of them, `checkpoint.json`, names them. What was there before is removed after that.
"""

from __future__ import annotations

import io
import json
import pickle
import re
from bisect import bisect_right
from contextlib import ExitStack
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import torch

from ..errors import TrainingError
from ..model.config import Config
from ..util import atomic

if TYPE_CHECKING:
    from typing_extensions import Buffer

FILE, LIST = "checkpoint.pt", "checkpoint.json"
PIECE = re.compile(r"checkpoint-([1-9][0-9]*)-[0-9]{4,}")  # its generation, which each save of a run counts up
MEGABYTE = 1_000_000

State = dict[str, Any]  # what a checkpoint holds: see Run.state


def write(state: State, folder: Path, shard_size: float | None = None) -> None:
    """Writes a checkpoint, in pieces of at most `shard_size` MB if that is given; the one before is gone after it."""
    old = pieces_in(folder)
    if shard_size is None:
        with atomic.replacing(folder / FILE) as temporary, temporary.open("xb") as file:
            torch.save(state, file)
        (folder / LIST).unlink(missing_ok=True)
    else:
        generation = 1 + max((int(path.name.split("-")[1]) for path in old), default=0)
        with PieceWriter(folder, generation, int(shard_size * MEGABYTE)) as pieces:
            torch.save(state, cast(BinaryIO, pieces))
        told = {"step": state["position"]["step"], "bytes": pieces.bytes, "pieces": pieces.names}
        atomic.write(folder / LIST, json.dumps(told).encode())
        (folder / FILE).unlink(missing_ok=True)
    for path in old:
        path.unlink(missing_ok=True)


def exists(folder: Path) -> bool:
    return (folder / FILE).exists() or (folder / LIST).exists()


def pieces_in(folder: Path) -> list[Path]:
    """All pieces, also those that no list names. What else is called `checkpoint-...` isn't the trainer's."""
    return [path for path in folder.glob("checkpoint-*") if PIECE.fullmatch(path.name) and path.is_file()]


def remove(folder: Path) -> None:
    """Removes the checkpoint, the file and the list before the pieces: what is left is never taken for a whole one."""
    for path in (folder / FILE, folder / LIST, *pieces_in(folder)):
        path.unlink(missing_ok=True)


def read(folder: Path) -> State:
    """The newer of the checkpoint's file and its pieces; writes nothing. Raises TrainingError."""
    found = [path for name in (FILE, LIST) if (path := folder / name).exists()]
    newest = max(found, key=lambda path: path.stat().st_mtime_ns)
    try:
        with newest.open("rb") if newest.name == FILE else _joined(newest) as file:
            state: State = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise TrainingError(f"a piece of the checkpoint is missing: {error.filename}") from error
    except (pickle.UnpicklingError, RuntimeError, ValueError, KeyError, TypeError, EOFError) as error:
        raise TrainingError(f"{newest} is no checkpoint, or a damaged one") from error
    return state


def config_in(state: State) -> Config:
    """The model that a checkpoint is of. Raises TrainingError."""
    try:
        return Config.from_dict(state["config"])
    except (TypeError, ValueError, KeyError) as error:
        raise TrainingError(f"the checkpoint's model is unknown to this hpcm: {error}") from error


# ---- pieces ---------------------------------------------------------------------------------------------------------


class PieceWriter:
    """A file to write into, whose bytes go to pieces of at most `size` bytes; each appears whole, or not at all.

    If the block under `with` fails, the pieces vanish.
    """

    def __init__(self, folder: Path, generation: int, size: int) -> None:
        self.folder, self.stem, self.size = folder, f"checkpoint-{generation}", size
        self.names: list[str] = []
        self.bytes = self.room = 0  # written in all; left in the last piece
        self.last: BinaryIO
        self.opened = ExitStack()

    def __enter__(self) -> PieceWriter:
        return self

    def __exit__(self, *failure: Any) -> None:
        failed = True
        try:
            self.opened.__exit__(*failure)  # the last piece takes its name, or vanishes
            failed = failure[0] is not None
        finally:
            for name in self.names if failed else ():
                (self.folder / name).unlink(missing_ok=True)

    def write(self, data: Buffer) -> int:
        rest = whole = memoryview(data).cast("B")
        while rest:
            if not self.room:
                self._begin()
            now = min(self.room, len(rest))
            self.last.write(rest[:now])
            self.room -= now
            rest = rest[now:]
        self.bytes += len(whole)
        return len(whole)

    def flush(self) -> None:
        """torch asks for it; a piece is flushed when it is full."""

    def _begin(self) -> None:
        """The next piece; the one before takes its name."""
        self.opened.close()
        self.names.append(f"{self.stem}-{len(self.names):04}")
        temporary = self.opened.enter_context(atomic.replacing(self.folder / self.names[-1]))
        self.last = self.opened.enter_context(temporary.open("xb"))
        self.room = self.size


class PieceReader(io.RawIOBase):
    """Files one after another, as one file to read; one of them is open at a time. Raises FileNotFoundError."""

    def __init__(self, paths: list[Path]) -> None:
        self.number, self.file = -1, cast(BinaryIO, io.BytesIO())  # the file that is open
        self.paths, self.place = paths, 0
        self.starts = [0, *accumulate(path.stat().st_size for path in paths)]  # of each file; then the end

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.place, io.SEEK_END: self.starts[-1]}[whence]
        return self.place

    def tell(self) -> int:
        return self.place

    def readinto(self, buffer: Buffer) -> int:
        """Reads up to the end of a piece at most, as a RawIOBase may; io.BufferedReader asks again."""
        if self.place >= self.starts[-1]:
            return 0
        number = bisect_right(self.starts, self.place) - 1
        if number != self.number:
            self.file.close()
            self.number, self.file = number, cast(BinaryIO, self.paths[number].open("rb", buffering=0))
        self.file.seek(self.place - self.starts[number])
        count: int = self.file.readinto(buffer) or 0  # type: ignore[attr-defined]
        self.place += count
        return count

    def close(self) -> None:
        self.file.close()
        super().close()


def _joined(listing: Path) -> BinaryIO:
    """The pieces that a list names, as one file. Raises FileNotFoundError, or ValueError and the like."""
    told = json.loads(listing.read_text())
    reader = PieceReader([listing.with_name(name) for name in told["pieces"] if PIECE.fullmatch(name)])
    if reader.starts[-1] != told["bytes"]:
        raise ValueError(f"its pieces have {reader.starts[-1]} bytes together, not {told['bytes']}")
    return cast(BinaryIO, io.BufferedReader(reader))
