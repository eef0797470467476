"""What an actor does: a part after the other, with one codec.

It reads its part itself, a few pictures ahead of the one that it codes, and keeps no more of a shard than that: what it
makes goes to the target, or of a shard into a temporary file first. So memory depends on the pictures, not on their
number, and no picture passes through Ray's object store.
"""

from __future__ import annotations

import queue
import resource
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from ..errors import FormatError, HPCMError
from ..format.container import is_hpcm, unpack
from ..format.fields import MAX_ENCODED, Container
from ..image.picture import from_image
from ..image.read import lift_pillows_bounds, open_picture
from ..image.write import save_picture
from ..util.metrics import EQUAL, psnr_of_mse
from ..util.notes import OnNote
from . import manifest, shards
from .names import Claims, checked
from .places import BAD_NAME, Place, readable
from .plan import Job, Part, root_of
from .shards import Record, Sink

if TYPE_CHECKING:
    from ..codec.codec import Codec

AHEAD = 4  # pictures that are read before the codec wants them
KILO = 1 if sys.platform == "darwin" else 1024  # bytes of a unit of ru_maxrss
Facts = dict[str, Any]


class Worker:
    """Ray Data makes one for each actor and calls it with parts."""

    def __init__(self, job: Job) -> None:
        from ..codec.api import load

        lift_pillows_bounds()
        self.job, self.target = job, Place(job.target)
        self.codec: Codec | None = load(job.model, threads=job.threads) if job.model else None
        if job.how.get("effort"):
            import torch

            torch.set_num_threads(job.threads)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Parts, as texts, in a column `part`; what they came to, one row each: see `totals`."""
        rows = [self.attempt(Part.loads(str(text))) for text in batch["part"]]
        return {name: [row[name] for row in rows] for name in rows[0]}

    def attempt(self, part: Part) -> Facts:
        try:
            return totals(part, self.do(part))
        except Exception as error:  # of the network, the disk or memory: the next run does this part
            text = f"{readable(part.inputs[0].key)}: {_described(error)}"
            return totals(part, manifest.SCHEMA.empty_table(), text)

    def do(self, part: Part) -> pa.Table:
        """Writes a part's output, then its lines, of which there is one at least. Raises OSError."""
        root, job = Place(part.root), self.job
        column = None
        if "parquet" == part.kind == part.to and (schema := shards.schema_of(root, part.inputs[0].key)) is not None:
            try:
                column = shards.column_of(schema, job.column)
            except HPCMError as error:
                return manifest.write(self.target, part.name, [_no_picture(part, str(error))])
        sink = shards.sink(part.to, self.target, part.output, job.verify, column)
        claims = Claims(job.folds and part.to == "loose")
        lines: dict[int, Facts] = {}  # of pictures and of what is wrong, by the numbers of the records
        carried: dict[int, Facts] = {}  # of what else is in a shard, which need none if all goes well
        for number, record in enumerate(ahead(records(root, part, job.column), AHEAD)):
            made, facts = self.made(record, part, claims, number)
            placed = sink.put(made)
            where = {} if placed is None else {"output": placed.key, "offset": placed.offset}
            kind = carried if facts is None else lines
            kind[number] = _line(part, number, record.name, **(facts or {}), **where)
        for number, failure in _unwritten(sink, lines).items():
            lines[number] = _taken_down(lines.get(number) or carried[number], failure)
        rows = list(lines.values()) or [_no_picture(part, "there is no picture in it")]
        return manifest.write(self.target, part.name, rows)

    def made(self, record: Record, part: Part, claims: Claims, number: int) -> tuple[Record, Facts | None]:
        """A record's successor and what the manifest says of it: nothing of what is no picture and is carried along."""
        if record.error is not None:
            return record._replace(data=None), {"error": record.error, "again": part.kind == "loose"}
        assert record.data is not None
        source = record.data
        picture = self.is_picture(record, part.kind)
        facts: Facts = {"source_bytes": len(source), "again": False}
        try:
            record = record._replace(name=self.named(record.name, picture, part, claims, number))
            if not picture:
                return record, None
            notes: list[str] = []
            code = self.restored if self.job.restore else self.compressed
            data, told = code(source, notes.append)
        except HPCMError as error:
            return record._replace(data=None), {**facts, "error": str(error)}
        except Exception as error:  # whatever is wrong with one picture doesn't end the run
            return record._replace(data=None), {**facts, "error": _described(error), "again": True}
        facts |= {"bytes": len(data), "notes": "; ".join(notes) or None, **told}
        return record._replace(data=data), facts

    def named(self, name: str, picture: bool, part: Part, claims: Claims, number: int) -> str:
        """What a record of that name is called in the output. Raises FormatError where it can't be called so."""
        if part.to != "parquet":  # in a table a name is a text as any
            name = checked(name)
        if picture:
            name = self.job.renamed(name)
        if part.to != "parquet" and claims.take(name, number) is not None:
            raise FormatError(f"another picture becomes {name} already")
        return name

    def is_picture(self, record: Record, kind: str) -> bool:
        """Every row of Parquet is to be one, but an archive's may hold what a tar had beside its pictures."""
        if kind == "parquet":
            return not self.job.restore or is_hpcm(record.data or b"")
        return kind == "loose" or PurePosixPath(record.name).suffix.lower() in self.job.wanted

    def compressed(self, data: bytes, on_note: OnNote) -> tuple[bytes, Facts]:
        assert self.codec is not None
        image = open_picture(data, on_note=on_note)
        made = self.codec.compress(image, **self.job.how, on_note=on_note)
        container = unpack(made)
        facts = facts_of(container, len(made))
        if self.job.verify:
            facts |= {"psnr": psnr(image, self.codec.decompress(container, max_pixels=MAX_ENCODED)), "verified": True}
        return made, facts

    def restored(self, data: bytes, on_note: OnNote) -> tuple[bytes, Facts]:
        from ..codec.api import codec_for

        container = unpack(data)
        codec = self.codec or codec_for(container, threads=self.job.threads)
        image = codec.decompress(container, max_pixels=MAX_ENCODED)
        picture = save_picture(image, f".{self.job.format}", on_note=on_note)
        return picture, {**facts_of(container, len(data)), "verified": True}


def records(root: Place, part: Part, column: str | None) -> Iterator[Record]:
    if part.kind == "loose":
        return shards.loose(root, part.inputs)
    key = part.inputs[0].key
    return shards.tar(root, key) if part.kind == "tar" else shards.parquet(root, key, column)


def ahead(source: Iterator[Record], count: int) -> Iterator[Record]:
    """The same records, of which a thread reads at most `count` before they are asked for."""
    waiting: queue.Queue[Record | BaseException | None] = queue.Queue()
    room, over = threading.Semaphore(count), threading.Event()

    def read() -> None:
        try:
            while room.acquire() and not over.is_set():
                waiting.put(next(source))
        except StopIteration:
            waiting.put(None)
        except BaseException as error:  # raised where it is asked for
            waiting.put(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        while (found := waiting.get()) is not None:
            if isinstance(found, BaseException):
                raise found
            room.release()
            yield found
    finally:
        over.set()
        room.release()
        thread.join()


def totals(part: Part, lines: pa.Table, failed: str = "") -> Facts:
    """What a part came to, and the most memory that this process has had.

    Inputs with a line that is to be tried again aren't done, and a part of such lines has failed.
    """

    def total(name: str) -> int:
        return pc.sum(lines[name]).as_py() or 0

    again = lines.filter(pc.fill_null(lines["again"], False))
    for line in again.slice(0, 1).to_pylist():
        failed = " ".join(dict.fromkeys([line["input"], line["name"]])) + f": {line['error']}"
    pixels = pc.sum(pc.multiply(lines["width"].cast(pa.int64()), lines["height"].cast(pa.int64()))).as_py()
    return {
        "part": part.name,
        "inputs": len(set(lines["input"].to_pylist()) - set(again["input"].to_pylist())),
        "pictures": len(lines) - lines["bytes"].null_count,
        "errors": len(lines) - lines["error"].null_count,
        "pixels": pixels or 0,
        "bytes_in": total("source_bytes"),
        "bytes_out": total("bytes"),
        "failed": " ".join(failed.split())[:500],
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KILO,
    }


def facts_of(container: Container, size: int) -> Facts:
    checksums = b"".join(tile[-1].checksum.to_bytes(4, "little") for tile in container.tiles)
    symbols = container.tiles[0][-1].checksum if len(container.tiles) == 1 else zlib.crc32(checksums)
    pixels = container.width * container.height
    sides = {"width": container.width, "height": container.height}
    return {**sides, "bpp": 8 * size / pixels, "symbols": f"{symbols:08x}"}


def psnr(a: Image.Image, b: Image.Image) -> float:
    """Of two pictures in dB, over all pixels and channels but alpha, at most EQUAL."""
    one, other = from_image(a), from_image(b)
    rows = zip(one.pixels, other.pixels, strict=True)
    mse = float(np.mean([np.mean((x.astype(np.float32) - y) ** 2) for x, y in rows]))
    return min(psnr_of_mse(mse, one.peak), EQUAL)


def _line(part: Part, number: int, name: str, **facts: Any) -> Facts:
    """The manifest's line about a record of a part."""
    found, position = (part.inputs[number], 0) if part.kind == "loose" else (part.inputs[0], number)
    return manifest.line(root_of(Place(part.root)), found, position, name, **facts)


def _no_picture(part: Part, why: str) -> Facts:
    return _line(part, 0, "", error=why, again=False)


def _unwritten(sink: Sink, lines: dict[int, Facts]) -> dict[int, Exception]:
    """Writes what is left to write. Which of the records couldn't be written: all, where a shard's name is no name."""
    try:
        return sink.finish()
    except OSError as error:
        if error.errno not in BAD_NAME:
            raise
        return dict.fromkeys(lines, error)


def _taken_down(line: Facts, error: Exception) -> Facts:
    """The line about a record that couldn't be written. A name that the place doesn't take isn't tried again."""
    hopeless = isinstance(error, OSError) and error.errno in BAD_NAME
    reason = getattr(error, "strerror", None) or _described(error)
    origin = {name: line.get(name) for name in manifest.ORIGIN}
    return {**origin, "error": readable(f"it can't be written: {reason}"), "again": not hopeless}


def _described(error: Exception) -> str:
    return readable(f"{error.__class__.__name__}: {error}")
