"""The actors: each does one part after the other, with one codec.

An actor reads its part itself and prefetches a few pictures. On a GPU it converts several at once. It writes loose
files at once, and a shard to a temporary file first. So memory depends on the size of the pictures, not on their
number, and no picture passes through Ray's object store.

    part --(records)--> record --(_task)--> name in the output --(_convert, on threads)--> record to write --> sink
"""

from __future__ import annotations

import queue
import resource
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import FormatError, HPCMError
from ..format.container import is_hpcm, unpack
from ..format.fields import MAX_ENCODED, Container
from ..image.picture import Picture
from ..image.read import lift_pillows_bounds, read_picture
from ..image.write import save_picture
from ..util.metrics import EQUAL, psnr_of_mse
from ..util.notes import OnNote
from ..util.parallel import Check, side_by_side
from . import manifest, shards
from .names import Claims, checked_name
from .plan import Job, Part, root_of
from .shards import Column, Record, Sink
from .store import BAD_NAME_ERRNOS, Store, escape

if TYPE_CHECKING:
    from ..codec.codec import Codec

PREFETCH = 4  # records that are read before the codec needs them
MAX_FAILURE = 500  # characters of a part's failure
RSS_UNIT = 1 if sys.platform == "darwin" else 1024  # bytes, of ru_maxrss
Values = dict[str, Any]  # of columns of the manifest, by name


class Task(NamedTuple):
    """A record of a part, and what is to become of it."""

    record: Record
    name: str  # in the output
    is_picture: bool = True  # other records are copied
    failure: Values | None = None  # of its row, if there will be no output


class Worker:
    """Ray Data makes one for each actor and calls it with parts."""

    def __init__(self, job: Job) -> None:
        from ..codec.api import load
        from ..codec.engine import files_at_once

        lift_pillows_bounds()
        self.job, self.target = job, Store(job.target)
        self.codec: Codec | None = load(job.model, job.device, threads=job.threads) if job.model else None
        effort = job.codec_options.get("effort", 0)
        self.at_once = files_at_once(job.device, effort)  # records
        if effort:
            import torch

            torch.set_num_threads(job.threads)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Parts, as texts in a column `part`, to the columns of `totals`, with one row for each part."""
        rows = [self.attempt(Part.loads(str(text))) for text in batch["part"]]
        return {name: [row[name] for row in rows] for name in rows[0]}

    def attempt(self, part: Part) -> Values:
        """Does a part; its totals, also if it failed as a whole."""
        try:
            return totals(part, self.do(part))
        except Exception as error:  # of the network, the disk or memory: the next run does this part
            failure = f"{escape(part.inputs[0].key)}: {_described(error)}"
            return totals(part, manifest.SCHEMA.empty_table(), failure)

    def do(self, part: Part) -> pa.Table:
        """Writes a part's output, then its rows of the manifest, at least one. Raises OSError."""
        try:
            column = self._column_to_keep(part)
        except FormatError as error:
            return manifest.write(self.target, part.name, [_error_row(part, str(error))])
        rows = self._write_output(part, column) or [_error_row(part, "there is no picture in it")]
        return manifest.write(self.target, part.name, rows)

    def _column_to_keep(self, part: Part) -> Column | None:
        """The column of pictures, if Parquet becomes Parquet. Raises FormatError where it can't be chosen."""
        if part.kind != "parquet" or part.to != "parquet":
            return None
        schema = shards.schema_of(Store(part.root), part.inputs[0].key)
        return None if schema is None else shards.column_of(schema, self.job.column)

    def _write_output(self, part: Part, column: Column | None) -> list[Values]:
        """Compresses or restores the records of a part and writes them. Returns the rows about them."""
        sink = shards.open_sink(part.to, self.target, part.output, self.job.verify, column)
        rows: dict[int, Values] = {}  # about pictures and errors, by the numbers of the records
        copied: dict[int, Values] = {}  # about other files of a shard: these have rows only if writing fails
        with closing(side_by_side(self._convert, self._tasks(part), self.at_once)) as converted:
            for number, (task, output, values) in enumerate(converted):
                location = sink.put(output)
                where = {} if location is None else {"output": location.key, "offset": location.offset}
                destination = copied if values is None else rows
                destination[number] = _row(part, number, task.record.name, **(values or {}), **where)
        for number, error in _finish(sink, rows).items():
            rows[number] = _write_error_row(rows.get(number) or copied[number], error)
        return list(rows.values())

    def _tasks(self, part: Part) -> Iterator[Task]:
        """The records of a part. They get their names in their order: of two that want one name the first has it."""
        claims = Claims(self.job.case_insensitive and part.to == "loose")
        for number, record in enumerate(prefetch(records(part, self.job.column), PREFETCH)):
            if record.error is not None:
                yield Task(record, record.name, failure={"error": record.error, "retry": part.kind == "loose"})
                continue
            is_picture = self._is_picture(record, part.kind)
            try:
                yield Task(record, self._output_name(record.name, is_picture, part, claims, number), is_picture)
            except FormatError as error:
                values = {"source_bytes": len(record.data or b""), "error": str(error), "retry": False}
                yield Task(record, record.name, failure=values)

    def _convert(self, task: Task, check: Check | None) -> tuple[Task, Record, Values | None]:
        """The record to write and the values of its row, errors among them; None for a file that is only copied."""
        record = task.record._replace(name=task.name)
        if task.failure is not None:
            return task, record._replace(data=None), task.failure
        if not task.is_picture:
            return task, record, None
        assert record.data is not None
        values: Values = {"source_bytes": len(record.data), "retry": False}
        notes: list[str] = []
        convert = self.restore if self.job.restore else self.compress
        try:
            data, more_values = convert(record.data, notes.append, check)
        except HPCMError as error:
            return task, record._replace(data=None), {**values, "error": str(error)}
        except Exception as error:  # any error of one picture: the run goes on
            return task, record._replace(data=None), {**values, "error": _described(error), "retry": True}
        values |= {"bytes": len(data), "notes": "; ".join(notes) or None, **more_values}
        return task, record._replace(data=data), values

    def _output_name(self, name: str, is_picture: bool, part: Part, claims: Claims, number: int) -> str:
        """The name of a record in the output. Raises FormatError for a name that is taken or that no file may have."""
        if part.to == "parquet":  # where a name is a text and may be any
            return self.job.output_name(name) if is_picture else name
        name = checked_name(name)
        if is_picture:
            name = self.job.output_name(name)
        if claims.take(name, number) is not None:
            raise FormatError(f"another picture becomes {name} already")
        return name

    def _is_picture(self, record: Record, kind: str) -> bool:
        """Other records are copied: files beside the pictures of a tar, also where Parquet was made of a tar."""
        if kind == "parquet":
            return not self.job.restore or is_hpcm(record.data or b"")
        return kind == "loose" or PurePosixPath(record.name).suffix.lower() in self.job.suffixes

    def compress(self, data: bytes, on_note: OnNote, check: Check | None) -> tuple[bytes, Values]:
        """A picture's bytes to those of a .hpcm file, and values for its row."""
        assert self.codec is not None
        picture = read_picture(data, **self.job.appearance)
        compressed = self.codec.compress(picture, **self.job.codec_options, check=check, on_note=on_note)
        container = unpack(compressed)
        values = values_of(container, len(compressed))
        if self.job.verify:
            decoded = self.codec.decompress_picture(container, max_pixels=MAX_ENCODED, check=check)
            values |= {"psnr": psnr(picture, decoded), "verified": True}
        return compressed, values

    def restore(self, data: bytes, on_note: OnNote, check: Check | None) -> tuple[bytes, Values]:
        """The bytes of a .hpcm file to those of a picture, and values for its row."""
        from ..codec.api import codec_for

        container = unpack(data)
        codec = self.codec or codec_for(container, self.job.device, threads=self.job.threads)
        how = {**self.job.appearance, "max_pixels": MAX_ENCODED}
        decoded = codec.decompress_picture(container, **how, check=check, on_note=on_note)
        picture = save_picture(decoded, f".{self.job.format}", on_note=on_note)
        return picture, {**values_of(container, len(data)), "verified": True}


def records(part: Part, column: str | None) -> Iterator[Record]:
    """The records of a part; `column`: of Parquet."""
    root, key = Store(part.root), part.inputs[0].key
    match part.kind:
        case "tar":
            return shards.read_tar(root, key)
        case "parquet":
            return shards.read_parquet(root, key, column)
    return shards.read_loose(root, part.inputs)


def prefetch(source: Iterator[Record], count: int) -> Iterator[Record]:
    """The same records. A thread reads at most `count` of them before they are needed."""
    ready: queue.Queue[Record | BaseException | None] = queue.Queue()
    slots, stopped = threading.Semaphore(count), threading.Event()

    def read() -> None:
        try:
            while slots.acquire() and not stopped.is_set():
                ready.put(next(source))
        except StopIteration:
            ready.put(None)
        except BaseException as error:  # raised in the thread that needs the record
            ready.put(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    try:
        while (record := ready.get()) is not None:
            if isinstance(record, BaseException):
                raise record
            slots.release()
            yield record
    finally:
        stopped.set()
        slots.release()
        thread.join()


def totals(part: Part, rows: pa.Table, failure: str = "") -> Values:
    """Totals of the rows of a part, and the peak memory of this process in bytes.

    Inputs with a row that is to be retried aren't done, and a part with such a row has failed.
    """

    def total(name: str) -> int:
        return pc.sum(rows[name]).as_py() or 0

    retried = rows.filter(pc.fill_null(rows["retry"], False))
    for row in retried.slice(0, 1).to_pylist():
        failure = " ".join(dict.fromkeys([row["input"], row["name"]])) + f": {row['error']}"
    pixels = pc.sum(pc.multiply(rows["width"].cast(pa.int64()), rows["height"].cast(pa.int64()))).as_py()
    return {
        "part": part.name,
        "inputs": len(set(rows["input"].to_pylist()) - set(retried["input"].to_pylist())),
        "pictures": len(rows) - rows["bytes"].null_count,
        "errors": len(rows) - rows["error"].null_count,
        "pixels": pixels or 0,
        "bytes_in": total("source_bytes"),
        "bytes_out": total("bytes"),
        "failure": " ".join(failure.split())[:MAX_FAILURE],
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT,
    }


def values_of(container: Container, size: int) -> Values:
    """Values of the manifest about a .hpcm file of `size` bytes."""
    return {
        "width": container.width,
        "height": container.height,
        "bpp": 8 * size / (container.width * container.height),
        "max_error": None if container.residual is None else container.residual.max_error,
        "symbols": symbols_of(container),
    }


def symbols_of(container: Container) -> str | None:
    """A checksum of the coded symbols, in hexadecimal digits; None for a file without a lossy picture."""
    if not container.base_parts:
        return None
    checksums = [tile[container.base_parts - 1].checksum for tile in container.tiles]
    joined = b"".join(checksum.to_bytes(4, "little") for checksum in checksums)
    return f"{checksums[0] if len(checksums) == 1 else zlib.crc32(joined):08x}"


def psnr(first: Picture, second: Picture) -> float:
    """The PSNR of two pictures of one depth in dB, over all pixels and channels but alpha, at most EQUAL."""
    rows = zip(first.pixels, second.pixels, strict=True)
    mse = float(np.mean([np.mean((x.astype(np.float32) - y) ** 2) for x, y in rows]))
    return min(psnr_of_mse(mse, first.peak), EQUAL)


def _row(part: Part, number: int, name: str, **values: Any) -> Values:
    """The manifest's row about a record of a part."""
    entry, position = (part.inputs[number], 0) if part.kind == "loose" else (part.inputs[0], number)
    return manifest.row(root_of(Store(part.root)), entry, position, name, **values)


def _error_row(part: Part, error: str) -> Values:
    """About a whole shard, which isn't retried."""
    return _row(part, 0, "", error=error, retry=False)


def _finish(sink: Sink, rows: dict[int, Values]) -> dict[int, Exception]:
    """Writes what isn't written yet. Returns errors by record: of all records if the shard's name can't be written."""
    try:
        return sink.finish()
    except OSError as error:
        if error.errno not in BAD_NAME_ERRNOS:
            raise
        return dict.fromkeys(rows, error)


def _write_error_row(row: Values, error: Exception) -> Values:
    """The row about a record that couldn't be written. One whose name the store can't hold isn't retried."""
    is_bad_name = isinstance(error, OSError) and error.errno in BAD_NAME_ERRNOS
    reason = getattr(error, "strerror", None) or _described(error)
    source = {name: row.get(name) for name in manifest.SOURCE_COLUMNS}
    return {**source, "error": escape(f"it can't be written: {reason}"), "retry": not is_bad_name}


def _described(error: Exception) -> str:
    return escape(f"{error.__class__.__name__}: {error}")
