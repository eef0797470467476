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
import warnings
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from ..container import is_hpcm, unpack
from ..errors import HPCMError, PictureNotice
from ..fields import MAX_ENCODED, Container
from ..metrics import EQUAL, psnr_of_mse
from ..picture import from_image
from ..saving import save_picture
from ..sources import open_picture
from ..stores import shards
from ..stores.places import Place
from ..stores.shards import Record
from . import manifest
from .plan import Job, Part

if TYPE_CHECKING:
    from ..codec import Codec

AHEAD = 4  # pictures that are read before the codec wants them
KILO = 1 if sys.platform == "darwin" else 1024  # bytes of a unit of ru_maxrss
Facts = dict[str, Any]


class Worker:
    """Ray Data makes one for each actor and calls it with parts."""

    def __init__(self, job: Job) -> None:
        from ..ladder import load

        Image.MAX_IMAGE_PIXELS = MAX_ENCODED
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
            if self.target.exists(manifest.path_of(part.name)):  # by an actor that died before it could tell
                return totals(part, manifest.read(self.target, manifest.path_of(part.name)))
            return totals(part, self.do(part))
        except Exception as error:  # of the network, the disk or memory: the next run does this part
            text = f"{part.inputs[0].key}: {error.__class__.__name__}: {error}"
            return totals(part, manifest.SCHEMA.empty_table(), " ".join(text.split())[:500])

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
        lines: list[Facts] = []
        names: set[str] = set()
        kept = 0
        for position, record in enumerate(ahead(records(root, part, job.column), AHEAD)):
            found = part.inputs[position] if part.kind == "loose" else part.inputs[0]
            made, facts = self.made(record, part, names)
            placed = sink.put(made)
            kept += placed is not None
            if facts is not None:
                where = {} if placed is None else {"output": placed.key, "offset": placed.offset}
                index = 0 if part.kind == "loose" else position
                lines.append(manifest.line(Place(part.root).shown, found, index, record.name, **facts, **where))
        if kept:
            sink.finish()
        lines = lines or [_no_picture(part, "there is no picture in it")]
        return manifest.write(self.target, part.name, lines)

    def made(self, record: Record, part: Part, names: set[str]) -> tuple[Record, Facts | None]:
        """A record's successor and what the manifest says of it: nothing of what is no picture and is carried along."""
        if record.error is not None:
            return record._replace(data=None), {"error": record.error, "again": part.kind == "loose"}
        assert record.data is not None
        picture = self.is_picture(record, part.kind)
        name = self.job.renamed(record.name) if picture else record.name
        facts: Facts = {"source_bytes": len(record.data), "again": False}
        if reason := _unsafe(name, names) if part.to != "parquet" else None:
            return record._replace(data=None), {**facts, "error": reason}
        names.add(name)
        if not picture:
            return record, None
        try:
            with warnings.catch_warnings(record=True) as notes:
                warnings.simplefilter("always", PictureNotice)
                data, told = self.restored(record.data) if self.job.restore else self.compressed(record.data)
        except Exception as error:  # whatever is wrong with one picture doesn't end the run
            known = isinstance(error, HPCMError)
            text = str(error) if known else f"{error.__class__.__name__}: {error}"
            return record._replace(name=name, data=None), {**facts, "error": text, "again": not known}
        notes_ = "; ".join(str(note.message) for note in notes if issubclass(note.category, PictureNotice))
        facts |= {"bytes": len(data), "notes": notes_ or None, **told}
        return record._replace(name=name, data=data), facts

    def is_picture(self, record: Record, kind: str) -> bool:
        """Every row of Parquet is to be one, but an archive's may hold what a tar had beside its pictures."""
        if kind == "parquet":
            return not self.job.restore or is_hpcm(record.data or b"")
        return kind == "loose" or PurePosixPath(record.name).suffix.lower() in self.job.wanted

    def compressed(self, data: bytes) -> tuple[bytes, Facts]:
        assert self.codec is not None
        image = open_picture(data)
        made = self.codec.compress(image, **self.job.how)
        container = unpack(made)
        facts = facts_of(container, len(made))
        if self.job.verify:
            facts |= {"psnr": psnr(image, self.codec.decompress(container, max_pixels=MAX_ENCODED)), "verified": True}
        return made, facts

    def restored(self, data: bytes) -> tuple[bytes, Facts]:
        from ..shortest import load_for

        container = unpack(data)
        codec = self.codec or load_for(container, threads=self.job.threads)
        image = codec.decompress(container, max_pixels=MAX_ENCODED)
        return save_picture(image, f".{self.job.format}"), {**facts_of(container, len(data)), "verified": True}


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
    """What a part came to, and the most memory that this process has had."""

    def total(name: str) -> int:
        return pc.sum(lines[name]).as_py() or 0

    pixels = pc.sum(pc.multiply(lines["width"].cast(pa.int64()), lines["height"].cast(pa.int64()))).as_py()
    return {
        "inputs": 0 if failed else len(part.inputs),
        "pictures": len(lines) - lines["bytes"].null_count,
        "errors": len(lines) - lines["error"].null_count,
        "pixels": pixels or 0,
        "bytes_in": total("source_bytes"),
        "bytes_out": total("bytes"),
        "failed": failed,
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


def _unsafe(name: str, names: set[str]) -> str | None:
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts or not PurePosixPath(name).name:
        return f"its name {name!r} leads out of the folder"
    return f"another picture becomes {name} already" if name in names else None


def _no_picture(part: Part, why: str) -> Facts:
    return manifest.line(Place(part.root).shown, part.inputs[0], 0, "", error=why, again=False)
