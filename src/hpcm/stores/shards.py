"""What a set of pictures is kept in: loose files, tar shards (WebDataset) or Parquet with a column of bytes.

Both ways go one record at a time and in order, so that memory doesn't grow with a shard.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO, NamedTuple, Protocol, cast

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import FormatError, UsageError
from .places import Found, Place

KINDS = {"loose": "", "tar": ".tar", "parquet": ".parquet"}  # and what the names of their files end in
ROWS = 16  # of Parquet that are read at once
GROUP_ROWS, GROUP_BYTES = 1000, 64 << 20  # of a row group that is written: at most so many, at least so large
NAME, IMAGE = "name", "image"  # columns of Parquet that wasn't Parquet before
WRITERS = 4  # loose files that are written at once
BLOCK = tarfile.BLOCKSIZE


class Record(NamedTuple):
    """A file, a member of a tar or a row: its name, its bytes or why there are none, and a row's other columns."""

    name: str
    data: bytes | None
    error: str | None = None
    row: dict[str, Any] | None = None


class Placed(NamedTuple):
    """Where a record was written: the file's key, and in it the byte (tar) or the row (Parquet) where it begins."""

    key: str
    offset: int


class Column(NamedTuple):
    """The bytes of the pictures in Parquet: a column of bytes, or of structs with a field `bytes`."""

    name: str
    inner: bool
    schema: pa.Schema


def kind_of(key: str) -> str:
    """The kind of a file by its suffix."""
    return next((kind for kind, suffix in KINDS.items() if suffix and key.lower().endswith(suffix)), "loose")


# ---- reading --------------------------------------------------------------------------------------------------------


def loose(place: Place, inputs: Sequence[Found]) -> Iterator[Record]:
    for found in inputs:
        try:
            yield Record(found.key, None if found.error else place.read(found.key), found.error)
        except OSError as error:
            yield Record(found.key, None, f"it can't be read: {error.strerror or error}")


def tar(place: Place, key: str) -> Iterator[Record]:
    """The members of a tar. One that was cut gives what is there, then a record with an error."""
    with place.open(key) as file:
        last = 0
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                for member in archive:
                    if member.isfile():
                        yield Record(member.name, cast(BinaryIO, archive.extractfile(member)).read())
                    _forget(archive)
                    last = archive.offset
            file.seek(last)
            if file.read(BLOCK) != bytes(BLOCK):
                raise tarfile.ReadError("its end is missing")
        except tarfile.TarError as error:
            yield Record("", None, f"the tar is damaged: {error}")


def parquet(place: Place, key: str, column: str | None) -> Iterator[Record]:
    """The rows of a Parquet file, named by a path that goes with the bytes, or by their numbers."""
    number = 0
    try:
        with place.open(key) as file, pq.ParquetFile(file) as table:
            found = column_of(table.schema_arrow, column)
            for batch in table.iter_batches(batch_size=ROWS):
                for row in batch.to_pylist():
                    value = row[found.name]
                    path = (value or {}).get("path") if found.inner else row.get(NAME)
                    data = (value or {}).get("bytes") if found.inner else value
                    name = path if isinstance(path, str) and path else f"{number:08d}"
                    yield Record(name, data, None if data else "there are no bytes in this row", row)
                    number += 1
    except (pa.ArrowInvalid, FormatError) as error:
        yield Record("", None, f"the Parquet file can't be read: {str(error).splitlines()[0]}")


def pictures_at(
    place: Place, key: str, wanted: Iterable[tuple[int, int]], column: str | None = None
) -> Iterator[bytes]:
    """The bytes of pictures in one file, as (offset, bytes) in the order of their offsets: see `Placed`.

    Of Parquet whole row groups are read. Raises OSError, FormatError.
    """
    with place.open(key) as file:
        found = _rows(file, column) if kind_of(key) == "parquet" else _ranges(file)
        next(found)
        for offset, size in wanted:
            data = found.send((offset, size))
            if len(data) != size:
                raise FormatError(f"{key}: {len(data)} bytes are there of {size}: it isn't what was archived")
            yield data


def _ranges(file: BinaryIO) -> Generator[bytes, tuple[int, int], None]:
    data = b""
    while True:
        offset, size = yield data
        file.seek(offset)
        data = file.read(size)


def _rows(file: BinaryIO, wanted: str | None) -> Generator[bytes, tuple[int, int], None]:
    table = pq.ParquetFile(file)
    column = column_of(table.schema_arrow, wanted)
    data, values = b"", pa.array([])
    group, begin, end = -1, 0, 0  # the row group at hand, and its rows
    while True:
        row, _ = yield data
        while row >= end and group + 1 < table.num_row_groups:
            group, begin = group + 1, end
            end += table.metadata.row_group(group).num_rows
            if row < end:
                values = table.read_row_group(group, [column.name])[column.name]
        value = values[row - begin].as_py() if row < end else None
        data = ((value or {}).get("bytes") if column.inner else value) or b""


def _forget(archive: Any) -> None:
    """Makes a tarfile keep nothing of the members that have passed."""
    archive.members = []


def schema_of(place: Place, key: str) -> pa.Schema | None:
    """Of a Parquet file; None where it has none."""
    try:
        with place.open(key) as file:
            return pq.read_schema(file)
    except pa.ArrowInvalid:
        return None


def column_of(schema: pa.Schema, wanted: str | None = None) -> Column:
    """The column of pictures: that of a name, or the only one of bytes. Raises FormatError."""

    def inner(kind: pa.DataType) -> bool:
        return pa.types.is_struct(kind) and "bytes" in [field.name for field in kind] and is_bytes(kind["bytes"].type)

    def is_bytes(kind: pa.DataType) -> bool:
        return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)

    found = {field.name: inner(field.type) for field in schema if inner(field.type) or is_bytes(field.type)}
    if wanted is not None:
        found = {name: value for name, value in found.items() if name == wanted}
    if len(found) == 1:
        ((name, value),) = found.items()
        return Column(name, value, schema)
    if found:
        raise FormatError(f"several of its columns hold bytes: {', '.join(found)}; --column names one")
    raise FormatError(f"it has no column {wanted or ''} of bytes".replace("  ", " "))


# ---- writing --------------------------------------------------------------------------------------------------------


class Sink(Protocol):
    """Takes records in order; nothing of a shard is there before `finish`."""

    def put(self, record: Record) -> Placed | None: ...

    def finish(self) -> None: ...


class LooseSink:
    """Each record as a file of its own, in `folder`; a few are written at once, while the codec goes on."""

    def __init__(self, place: Place, folder: str, check: bool) -> None:
        self.place, self.folder, self.check = place, folder, check
        self.pool = ThreadPoolExecutor(WRITERS)
        self.waiting: deque[Future[None]] = deque()

    def put(self, record: Record) -> Placed | None:
        if record.data is None:
            return None
        if len(self.waiting) == WRITERS:
            self.waiting.popleft().result()
        key = f"{self.folder}/{record.name}" if self.folder else record.name
        self.waiting.append(self.pool.submit(self.place.write, key, record.data, self.check))
        return Placed(key, 0)

    def finish(self) -> None:
        with self.pool:
            while self.waiting:
                self.waiting.popleft().result()


class TarSink:
    """A tar shard; its bytes depend on names and data alone."""

    def __init__(self, place: Place, key: str, check: bool) -> None:
        self.place, self.key, self.check = place, key, check
        self.spool = tempfile.TemporaryFile()  # noqa: SIM115
        self.archive = tarfile.open(fileobj=self.spool, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115

    def put(self, record: Record) -> Placed | None:
        if record.data is None:
            return None
        member = tarfile.TarInfo(record.name)
        member.size = len(record.data)
        self.archive.addfile(member, io.BytesIO(record.data))
        _forget(self.archive)
        return Placed(self.key, self.archive.offset - -(-member.size // BLOCK) * BLOCK)

    def finish(self) -> None:
        self.archive.close()
        with self.spool:
            self.place.write(self.key, cast(BinaryIO, self.spool), self.check)


class ParquetSink:
    """A Parquet shard: the columns of the one that was read, or a name and bytes. A failed picture's bytes are null."""

    def __init__(self, place: Place, key: str, check: bool, column: Column | None) -> None:
        self.place, self.key, self.check = place, key, check
        self.column = column or Column(IMAGE, False, pa.schema({NAME: pa.string(), IMAGE: pa.large_binary()}))
        index = self.column.schema.get_field_index(self.column.name)
        self.schema = self.column.schema.set(index, self.column.schema.field(index).with_nullable(True))
        self.spool = tempfile.TemporaryFile()  # noqa: SIM115
        self.writer = pq.ParquetWriter(self.spool, self.schema, compression={IMAGE: "none"}, write_statistics=False)
        self.rows: list[dict[str, Any]] = []
        self.bytes = self.count = 0

    def put(self, record: Record) -> Placed | None:
        if record.data is None and record.row is None:
            return None
        row = dict(record.row or {NAME: record.name})
        inner = {**(row[self.column.name] or {}), "bytes": record.data} if self.column.inner else record.data
        row[self.column.name] = inner
        self.rows.append(row)
        self.bytes += len(record.data or b"")
        self.count += 1
        if len(self.rows) == GROUP_ROWS or self.bytes > GROUP_BYTES:
            self._flush()
        return Placed(self.key, self.count - 1) if record.data is not None else None

    def _flush(self) -> None:
        self.writer.write_table(pa.Table.from_pylist(self.rows, schema=self.schema))
        self.rows, self.bytes = [], 0

    def finish(self) -> None:
        self._flush()
        self.writer.close()
        with self.spool:
            self.place.write(self.key, cast(BinaryIO, self.spool), self.check)


def sink(kind: str, place: Place, name: str, check: bool, column: Column | None) -> Sink:
    """Args: name: the shard's without a suffix, or the folder of loose files; column: of the Parquet that is read."""
    makers: dict[str, Callable[[], Sink]] = {
        "loose": lambda: LooseSink(place, name, check),
        "tar": lambda: TarSink(place, f"{name}.tar", check),
        "parquet": lambda: ParquetSink(place, f"{name}.parquet", check, column),
    }
    if kind not in makers:
        raise UsageError(f"the output can be {', '.join(makers)}, not {kind}")
    return makers[kind]()
