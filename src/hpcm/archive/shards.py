"""Readers and writers of loose files, tar shards (WebDataset) and Parquet with a column of bytes.

Records are read and written one at a time and in order, so that memory doesn't grow with a shard.
"""

from __future__ import annotations

import io
import posixpath
import tarfile
import tempfile
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import lru_cache
from itertools import accumulate
from typing import Any, BinaryIO, NamedTuple, Protocol, cast

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import FormatError, UsageError
from .names import KINDS
from .store import FileEntry, Store, escape

READ_ROWS = 16  # of Parquet that are read at once
GROUP_ROWS = 1000  # a row group is written when it has so many rows
GROUP_BYTES = 64 << 20  # or more bytes than these
NAME, IMAGE = "name", "image"  # columns of Parquet whose source wasn't Parquet
BYTES, PATH = "bytes", "path"  # fields of a column of structs
WRITERS = 4  # loose files that are written at once
BLOCK = tarfile.BLOCKSIZE
MAX_LINKS = 40  # of a chain in a tar: as many as Linux follows


class Record(NamedTuple):
    """A file, a member of a tar or a row of Parquet."""

    name: str
    data: bytes | None
    error: str | None = None  # why there is no data
    row: pa.RecordBatch | None = None  # of Parquet: one row, whose picture is null


class Location(NamedTuple):
    """Where a record was written."""

    key: str  # of the file
    offset: int  # in it: the byte (tar) or the row (Parquet); 0 in a loose file


class Column(NamedTuple):
    """The column of pictures in Parquet: a column of bytes, or of structs with a field `bytes`."""

    name: str
    is_struct: bool
    schema: pa.Schema  # of the whole file

    @property
    def position(self) -> int:
        return self.schema.get_field_index(self.name)

    @property
    def output_schema(self) -> pa.Schema:
        """The schema with nullable bytes, for pictures that failed."""
        field = self.schema.field(self.position).with_nullable(True)
        if self.is_struct:
            inner = [each.with_nullable(True) if each.name == BYTES else each for each in field.type]
            field = field.with_type(pa.struct(inner))
        return self.schema.set(self.position, field)


def kind_of(key: str) -> str:
    """The kind of a file by its suffix."""
    return next((kind for kind, suffix in KINDS.items() if suffix and key.lower().endswith(suffix)), "loose")


# ---- reading --------------------------------------------------------------------------------------------------------


def read_loose(store: Store, entries: Sequence[FileEntry]) -> Iterator[Record]:
    for entry in entries:
        name = escape(entry.key)
        try:
            yield Record(name, None if entry.error else store.read(entry.key), entry.error)
        except OSError as error:
            yield Record(name, None, f"it can't be read: {error.strerror or error}")


def read_tar(store: Store, key: str) -> Iterator[Record]:
    """The members of a tar but for folders. If the tar is damaged, the last record is an error.

    A link's record has the data of the member that it leads to. Raises OSError.
    """
    with store.open(key) as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        links = _Links(store, key)
        end = 0  # of the last member
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                for member in archive:
                    if not member.isdir():
                        yield _member(archive, member, links.resolve(member), size)
                    _forget_members(archive)
                    end = archive.offset
            file.seek(end)
            if file.read(BLOCK) != bytes(BLOCK):
                raise tarfile.ReadError("its end is missing")
        except (OSError, MemoryError):
            raise
        except Exception as error:  # tarfile's own, and any that forged headers cause
            yield Record("", None, f"the tar is damaged: {error}")


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo, resolved: tarfile.TarInfo | str, size: int) -> Record:
    """A record of a member.

    Args:
        resolved: the member with the data, or why there is none.
        size: of the tar in bytes.
    """
    name = escape(member.name)
    if isinstance(resolved, str):
        return Record(name, None, resolved)
    if not resolved.isfile():
        return Record(name, None, f"it is no file, but of type {resolved.type.decode('latin-1')!r}")
    if resolved.size > size and resolved.issparse():
        return Record(name, None, f"it is a sparse file of {resolved.size:,} bytes, more than the tar has")
    if resolved.size > size:  # checked before so much memory is allocated
        raise tarfile.ReadError(f"{name} is cut off")
    return Record(name, cast(BinaryIO, archive.extractfile(resolved)).read())


def _forget_members(archive: Any) -> None:
    """Empties the list of all members so far that a TarFile keeps."""
    archive.members = []


class _Links:
    """Links in a tar. At the first one, the headers of all members are read and kept."""

    def __init__(self, store: Store, key: str) -> None:
        self.store, self.key = store, key
        self._members: dict[str, list[tarfile.TarInfo]] | None = None

    def resolve(self, member: tarfile.TarInfo) -> tarfile.TarInfo | str:
        """The member with the data, or why there is none."""
        target = member
        for _ in range(MAX_LINKS):
            if not (target.islnk() or target.issym()):
                return "it is a link to a folder" if target.isdir() else target
            following = self._target(target)
            if following is None:
                return f"it is a link to {escape(member.linkname)}, which isn't in the tar"
            target = following
        return f"it is a link to {escape(member.linkname)}, which leads to itself"

    def _target(self, link: tarfile.TarInfo) -> tarfile.TarInfo | None:
        """A hard link means the last member of that name before it, a symbolic one the last of all."""
        name = link.linkname if link.islnk() else posixpath.join(posixpath.dirname(link.name), link.linkname)
        members = self._members_by_name().get(posixpath.normpath(name), [])
        before = [member for member in members if link.issym() or member.offset < link.offset]
        return before[-1] if before else None

    def _members_by_name(self) -> dict[str, list[tarfile.TarInfo]]:
        if self._members is None:
            self._members = {}
            with (
                suppress(tarfile.TarError),  # of a damaged tar: those before the damage
                self.store.open(self.key) as file,
                tarfile.open(fileobj=file, mode="r:") as archive,
            ):
                for member in archive:
                    self._members.setdefault(posixpath.normpath(member.name), []).append(member)
        return self._members


def read_parquet(store: Store, key: str, column_name: str | None) -> Iterator[Record]:
    """The rows of a Parquet file, named by the path beside the bytes, or by their numbers. Raises OSError."""
    number = 0
    try:
        with _arrow_errors_as_format_errors(), store.open(key) as file, pq.ParquetFile(file) as table:
            column = column_of(table.schema_arrow, column_name)
            for batch in table.iter_batches(batch_size=READ_ROWS):
                # Without the bytes, so that rows that wait to be written don't keep the sources in memory.
                rows = _with_bytes(batch, column, pa.nulls(len(batch), pa.large_binary()))
                for index in range(len(batch)):
                    data, path = _picture(batch, column, index)
                    error = None if data else "there are no bytes in this row"
                    yield Record(path or f"{number:08d}", data, error, rows.slice(index, 1))
                    number += 1
    except FormatError as error:
        yield Record("", None, f"the Parquet file can't be read: {error}")


@contextmanager
def _arrow_errors_as_format_errors() -> Iterator[None]:
    """Raises pyarrow's errors about damaged Parquet, some of which are OSErrors, as FormatError."""
    try:
        yield
    except MemoryError:
        raise
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        if isinstance(error, OSError) and error.errno:  # of the disk or the network: pyarrow's own have no number
            raise
        raise FormatError(str(error).splitlines()[0]) from error


def _picture(batch: pa.RecordBatch, column: Column, index: int) -> tuple[bytes | None, str | None]:
    """The bytes in a row, and the path that names them, if there is one."""
    value = batch.column(column.position)[index]
    name_index = batch.schema.get_field_index(NAME)
    if not column.is_struct:
        return value.as_py(), _text(batch.column(name_index)[index]) if name_index >= 0 else None
    if not value.is_valid:
        return None, None
    has_path = value.type.get_field_index(PATH) >= 0
    return value[BYTES].as_py(), _text(value[PATH]) if has_path else None


def _text(value: pa.Scalar) -> str | None:
    """The value of a column of texts, None for other columns and damaged texts."""
    kind = value.type.value_type if pa.types.is_dictionary(value.type) else value.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return None
    try:
        return value.as_py() or None
    except UnicodeDecodeError:  # Parquet doesn't check its texts
        return None


def _with_bytes(batch: pa.RecordBatch, column: Column, data: pa.Array) -> pa.RecordBatch:
    """Rows whose pictures are replaced by `data`. The other columns are kept, whatever their types."""
    schema = column.output_schema
    values = batch.columns
    value = values[column.position]
    if column.is_struct:
        fields = list(schema.field(column.position).type)
        children = zip(fields, value.flatten(), strict=True)
        replaced = [data.cast(field.type) if field.name == BYTES else child for field, child in children]
        values[column.position] = pa.StructArray.from_arrays(replaced, fields=fields, mask=value.is_null())
    else:
        values[column.position] = data.cast(value.type)
    return pa.RecordBatch.from_arrays(values, schema=schema)


def schema_of(store: Store, key: str) -> pa.Schema | None:
    """The schema of a Parquet file; None where it is damaged. Raises OSError."""
    try:
        with _arrow_errors_as_format_errors(), store.open(key) as file:
            return pq.read_schema(file)
    except FormatError:
        return None


def column_of(schema: pa.Schema, name: str | None = None) -> Column:
    """The column of pictures: the one of that name, or the only one of bytes. Raises FormatError."""
    candidates = [field for field in schema if _holds_pictures(field.type) and name in (None, field.name)]
    if not candidates:
        raise FormatError(f"it has no column {name} of bytes" if name else "it has no column of bytes")
    if len(candidates) > 1:
        names = ", ".join(field.name for field in candidates)
        raise FormatError(f"several of its columns hold bytes: {names}; --column names one")
    (field,) = candidates
    if schema.get_field_index(field.name) < 0:  # pyarrow's answer for a name that isn't unique
        raise FormatError(f"several of its columns are called {field.name}")
    return Column(field.name, pa.types.is_struct(field.type), schema)


def _holds_pictures(kind: pa.DataType) -> bool:
    """Whether a column of this type can be one of pictures: bytes, or structs with a field `bytes`."""
    if pa.types.is_struct(kind):
        return kind.get_field_index(BYTES) >= 0 and _is_bytes(kind[BYTES].type)
    return _is_bytes(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


# ---- random access --------------------------------------------------------------------------------------------------


def read_pictures(
    store: Store, key: str, locations: Iterable[tuple[int, int]], column: str | None = None
) -> Iterator[bytes]:
    """The bytes of pictures in one file.

    Args:
        locations: offset (see Location) and bytes of each, in ascending order of offset.
        column: of Parquet, where several hold bytes.

    Of Parquet, whole row groups are read. Raises OSError, FormatError.
    """
    with store.open(key) as file:
        read = _parquet_reader(file, column) if kind_of(key) == "parquet" else _range_reader(file)
        for offset, size in locations:
            data = read(offset, size)
            if len(data) != size:
                raise FormatError(f"{key}: {len(data)} bytes are there of {size}: it isn't what was archived")
            yield data


def _range_reader(file: BinaryIO) -> Callable[[int, int], bytes]:
    def read(offset: int, size: int) -> bytes:
        file.seek(offset)
        return file.read(size)

    return read


def _parquet_reader(file: BinaryIO, column_name: str | None) -> Callable[[int, int], bytes]:
    """Reads single rows. It keeps the last row group, so that rows in ascending order need each group once."""
    table = pq.ParquetFile(file)
    column = column_of(table.schema_arrow, column_name)
    sizes = [table.metadata.row_group(group).num_rows for group in range(table.num_row_groups)]
    ends = list(accumulate(sizes))

    @lru_cache(maxsize=1)
    def pictures(group: int) -> pa.ChunkedArray:
        return table.read_row_group(group, [column.name])[column.name]

    def read(row: int, _: int) -> bytes:
        group = bisect_right(ends, row)
        if group == len(ends):
            return b""
        value = pictures(group)[row - ends[group] + sizes[group]].as_py()
        return (value.get(BYTES) if value and column.is_struct else value) or b""

    return read


# ---- writing --------------------------------------------------------------------------------------------------------


class Sink(Protocol):
    """A writer of records, which come in order."""

    def put(self, record: Record) -> Location | None:
        """Where the record will be, None for one without data. Raises OSError where the shard can't be written."""

    def finish(self) -> dict[int, Exception]:
        """Writes the rest; no shard appears before. Raises OSError where the shard can't be written.

        Returns the errors of loose files that couldn't be written, by the numbers of their records.
        """


class LooseSink:
    """Writes each record to a file of its own in `folder`, a few at once in threads, while the codec works."""

    def __init__(self, store: Store, folder: str, verify: bool) -> None:
        self.store, self.folder, self.verify = store, folder, verify
        self.pool = ThreadPoolExecutor(WRITERS)
        self.pending: deque[tuple[int, Future[None]]] = deque()
        self.failed: dict[int, Exception] = {}
        self.count = 0

    def put(self, record: Record) -> Location | None:
        number = self.count
        self.count += 1
        if record.data is None:
            return None
        if len(self.pending) == WRITERS:
            self._wait_for_first()
        key = f"{self.folder}/{record.name}" if self.folder else record.name
        self.pending.append((number, self.pool.submit(self.store.write, key, record.data, self.verify)))
        return Location(key, 0)

    def _wait_for_first(self) -> None:
        number, write = self.pending.popleft()
        try:
            write.result()
        except Exception as error:  # of this file; the others may succeed
            self.failed[number] = error

    def finish(self) -> dict[int, Exception]:
        with self.pool:
            while self.pending:
                self._wait_for_first()
        return self.failed


class TarSink:
    """Writes a tar shard, whose bytes depend on names and data alone. One without members isn't written."""

    def __init__(self, store: Store, key: str, verify: bool) -> None:
        self.store, self.key, self.verify = store, key, verify
        self.spool = tempfile.TemporaryFile()  # noqa: SIM115
        self.archive = tarfile.open(fileobj=self.spool, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115

    def put(self, record: Record) -> Location | None:
        if record.data is None:
            return None
        member = tarfile.TarInfo(record.name)
        member.size = len(record.data)
        self.archive.addfile(member, io.BytesIO(record.data))
        _forget_members(self.archive)
        padded = -(-member.size // BLOCK) * BLOCK  # tar fills the last block of a member
        return Location(self.key, self.archive.offset - padded)

    def finish(self) -> dict[int, Exception]:
        with self.spool:
            if self.archive.offset:
                self.archive.close()
                self.store.write(self.key, cast(BinaryIO, self.spool), self.verify)
        return {}


class ParquetSink:
    """Writes a Parquet shard. A failed picture's bytes are null; a shard without pictures isn't written.

    Args:
        column: of the Parquet file that is read, whose other columns are kept. None: write a name and bytes.
    """

    def __init__(self, store: Store, key: str, verify: bool, column: Column | None) -> None:
        self.store, self.key, self.verify = store, key, verify
        self.column = column or Column(IMAGE, False, pa.schema({NAME: pa.string(), IMAGE: pa.large_binary()}))
        self.spool = tempfile.TemporaryFile()  # noqa: SIM115
        self.writer = pq.ParquetWriter(
            self.spool, self.column.output_schema, compression={IMAGE: "none"}, write_statistics=False
        )
        self.rows: list[pa.RecordBatch] = []
        self.bytes = self.count = self.pictures = 0

    def put(self, record: Record) -> Location | None:
        if record.data is None and record.row is None:
            return None
        row = self._empty_row(record.name) if record.row is None else record.row
        self.rows.append(_with_bytes(row, self.column, pa.array([record.data], pa.large_binary())))
        self.bytes += len(record.data or b"")
        self.count += 1
        self.pictures += record.data is not None
        if len(self.rows) == GROUP_ROWS or self.bytes > GROUP_BYTES:
            self._flush()
        return Location(self.key, self.count - 1) if record.data is not None else None

    def _empty_row(self, name: str) -> pa.RecordBatch:
        values = [pa.array([name]), pa.nulls(1, pa.large_binary())]
        return pa.RecordBatch.from_arrays(values, schema=self.column.output_schema)

    def _flush(self) -> None:
        if self.rows:
            self.writer.write_table(pa.Table.from_batches(self.rows))
        self.rows, self.bytes = [], 0

    def finish(self) -> dict[int, Exception]:
        with self.spool:
            self._flush()
            self.writer.close()
            if self.pictures:
                self.store.write(self.key, cast(BinaryIO, self.spool), self.verify)
        return {}


def open_sink(kind: str, store: Store, name: str, verify: bool, column: Column | None) -> Sink:
    """A sink for a kind of output.

    Args:
        name: of the shard without a suffix, or of the folder of loose files.
        verify: whether to read back what was written.
        column: of the Parquet file that is read, if it is one.

    Raises UsageError for an unknown kind.
    """
    match kind:
        case "loose":
            return LooseSink(store, name, verify)
        case "tar":
            return TarSink(store, f"{name}.tar", verify)
        case "parquet":
            return ParquetSink(store, f"{name}.parquet", verify, column)
    raise UsageError(f"the output can be {', '.join(KINDS)}, not {kind}")
