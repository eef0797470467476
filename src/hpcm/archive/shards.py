"""What a set of pictures is kept in: loose files, tar shards (WebDataset) or Parquet with a column of bytes.

Both ways go one record at a time and in order, so that memory doesn't grow with a shard.
"""

from __future__ import annotations

import io
import posixpath
import tarfile
import tempfile
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, NamedTuple, Protocol, cast

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import FormatError, UsageError
from .names import KINDS
from .places import Found, Place, readable

ROWS = 16  # of Parquet that are read at once
GROUP_ROWS, GROUP_BYTES = 1000, 64 << 20  # of a row group that is written: at most so many, at least so large
NAME, IMAGE = "name", "image"  # columns of Parquet that wasn't Parquet before
BYTES, PATH = "bytes", "path"  # fields of a column of structs
WRITERS = 4  # loose files that are written at once
BLOCK = tarfile.BLOCKSIZE
LINKS = 40  # that lead to one another in a tar: as many as Linux follows


class Record(NamedTuple):
    """A file, a member of a tar or a row: its name, its bytes or why there are none, and a row without them."""

    name: str
    data: bytes | None
    error: str | None = None
    row: pa.RecordBatch | None = None


class Placed(NamedTuple):
    """Where a record was written: the file's key, and in it the byte (tar) or the row (Parquet) where it begins."""

    key: str
    offset: int


class Column(NamedTuple):
    """The bytes of the pictures in Parquet: a column of bytes, or of structs with a field `bytes`."""

    name: str
    inner: bool
    schema: pa.Schema

    @property
    def number(self) -> int:
        return self.schema.get_field_index(self.name)

    @property
    def written(self) -> pa.Schema:
        """The schema with bytes that may be missing, as those of a picture that failed."""
        field = self.schema.field(self.number).with_nullable(True)
        if self.inner:
            inner = [each.with_nullable(True) if each.name == BYTES else each for each in field.type]
            field = field.with_type(pa.struct(inner))
        return self.schema.set(self.number, field)


def kind_of(key: str) -> str:
    """The kind of a file by its suffix."""
    return next((kind for kind, suffix in KINDS.items() if suffix and key.lower().endswith(suffix)), "loose")


# ---- reading --------------------------------------------------------------------------------------------------------


def loose(place: Place, inputs: Sequence[Found]) -> Iterator[Record]:
    for found in inputs:
        name = readable(found.key)
        try:
            yield Record(name, None if found.error else place.read(found.key), found.error)
        except OSError as error:
            yield Record(name, None, f"it can't be read: {error.strerror or error}")


def tar(place: Place, key: str) -> Iterator[Record]:
    """The members of a tar but for folders. One that was cut gives what is there, then a record with an error.

    Of a link the record has the data of the member that it leads to. Raises OSError.
    """
    with place.open(key) as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        links = _Links(place, key)
        last = 0
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                for member in archive:
                    if not member.isdir():
                        yield _member(archive, member, links.followed(member), size)
                    _forget(archive)
                    last = archive.offset
            file.seek(last)
            if file.read(BLOCK) != bytes(BLOCK):
                raise tarfile.ReadError("its end is missing")
        except (OSError, MemoryError):
            raise
        except Exception as error:  # tarfile's own, and what else forged headers bring about
            yield Record("", None, f"the tar is damaged: {error}")


def _member(archive: tarfile.TarFile, member: tarfile.TarInfo, found: tarfile.TarInfo | str, size: int) -> Record:
    """A member with the data of `found`, or without for the reason that it is; `size` is the tar's in bytes."""
    name = readable(member.name)
    if isinstance(found, str):
        return Record(name, None, found)
    if not found.isfile():
        return Record(name, None, f"it is no file, but of type {found.type.decode('latin-1')!r}")
    if found.size > size and found.issparse():
        return Record(name, None, f"it is a sparse file of {found.size:,} bytes, more than the tar has")
    if found.size > size:  # before so much memory is asked for
        raise tarfile.ReadError(f"{name} is cut off")
    return Record(name, cast(BinaryIO, archive.extractfile(found)).read())


class _Links:
    """What links in a tar lead to. Only if there are any, all headers are read once more and kept."""

    def __init__(self, place: Place, key: str) -> None:
        self.place, self.key = place, key
        self._members: dict[str, list[tarfile.TarInfo]] | None = None

    def followed(self, member: tarfile.TarInfo) -> tarfile.TarInfo | str:
        """The member with the data, or why there is none."""
        found = member
        for _ in range(LINKS):
            if not (found.islnk() or found.issym()):
                return "it is a link to a folder" if found.isdir() else found
            target = self._target(found)
            if target is None:
                return f"it is a link to {readable(member.linkname)}, which isn't in the tar"
            found = target
        return f"it is a link to {readable(member.linkname)}, which leads to itself"

    def _target(self, link: tarfile.TarInfo) -> tarfile.TarInfo | None:
        """A hard link means the last member of that name before it; a symbolic one the last of all."""
        name = link.linkname if link.islnk() else posixpath.join(posixpath.dirname(link.name), link.linkname)
        found = self._named().get(posixpath.normpath(name), [])
        before = [each for each in found if link.issym() or each.offset < link.offset]
        return before[-1] if before else None

    def _named(self) -> dict[str, list[tarfile.TarInfo]]:
        if self._members is None:
            self._members = {}
            with (
                suppress(tarfile.TarError),  # of a cut one what is there
                self.place.open(self.key) as file,
                tarfile.open(fileobj=file, mode="r:") as archive,
            ):
                for member in archive:
                    self._members.setdefault(posixpath.normpath(member.name), []).append(member)
        return self._members


def parquet(place: Place, key: str, column: str | None) -> Iterator[Record]:
    """The rows of a Parquet file, named by a path that goes with the bytes, or by their numbers. Raises OSError."""
    number = 0
    try:
        with _arrows_complaints(), place.open(key) as file, pq.ParquetFile(file) as table:
            found = column_of(table.schema_arrow, column)
            for batch in table.iter_batches(batch_size=ROWS):
                bare = _bare(batch, found)
                for index in range(len(batch)):
                    data, path = _picture(batch, found, index)
                    name = path or f"{number:08d}"
                    yield Record(name, data, None if data else "there are no bytes in this row", bare.slice(index, 1))
                    number += 1
    except FormatError as error:
        yield Record("", None, f"the Parquet file can't be read: {error}")


@contextmanager
def _arrows_complaints() -> Iterator[None]:
    """What pyarrow says of damaged Parquet, some of it as OSError, becomes a FormatError."""
    try:
        yield
    except MemoryError:
        raise
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        if isinstance(error, OSError) and error.errno:  # of the disk or the network: pyarrow's own have no number
            raise
        raise FormatError(str(error).splitlines()[0]) from error


def _picture(batch: pa.RecordBatch, column: Column, index: int) -> tuple[bytes | None, str | None]:
    """The bytes in a row, and a path that names them."""
    value = batch.column(column.number)[index]
    name_index = batch.schema.get_field_index(NAME)
    if not column.inner:
        return value.as_py(), _text(batch.column(name_index)[index]) if name_index >= 0 else None
    if not value.is_valid:
        return None, None
    has_path = value.type.get_field_index(PATH) >= 0
    return value[BYTES].as_py(), _text(value[PATH]) if has_path else None


def _text(value: pa.Scalar) -> str | None:
    kind = value.type.value_type if pa.types.is_dictionary(value.type) else value.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return None
    try:
        return value.as_py() or None
    except UnicodeDecodeError:  # Parquet doesn't check its texts
        return None


def _bare(batch: pa.RecordBatch, column: Column) -> pa.RecordBatch:
    """Rows without the bytes of the pictures, so that what waits to be written doesn't keep the sources in memory."""
    return _with_bytes(batch, column, pa.nulls(len(batch), pa.large_binary()))


def _with_bytes(batch: pa.RecordBatch, column: Column, data: pa.Array) -> pa.RecordBatch:
    """Rows with other bytes of the pictures. All else stays as it is, whatever its type."""
    schema = column.written
    values = batch.columns
    value = values[column.number]
    if column.inner:
        fields = list(schema.field(column.number).type)
        parts = zip(fields, value.flatten(), strict=True)
        made = [data.cast(field.type) if field.name == BYTES else part for field, part in parts]
        values[column.number] = pa.StructArray.from_arrays(made, fields=fields, mask=value.is_null())
    else:
        values[column.number] = data.cast(value.type)
    return pa.RecordBatch.from_arrays(values, schema=schema)


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
        with _arrows_complaints(), place.open(key) as file:
            return pq.read_schema(file)
    except FormatError:
        return None


def column_of(schema: pa.Schema, wanted: str | None = None) -> Column:
    """The column of pictures: that of a name, or the only one of bytes. Raises FormatError."""
    found = [field for field in schema if _is_inner(field.type) or _is_bytes(field.type)]
    if wanted is not None:
        found = [field for field in found if field.name == wanted]
    if not found:
        raise FormatError(f"it has no column {wanted or ''} of bytes".replace("  ", " "))
    names = [field.name for field in found]
    if len(found) > 1:
        raise FormatError(f"several of its columns hold bytes: {', '.join(names)}; --column names one")
    if schema.get_field_index(names[0]) < 0:
        raise FormatError(f"several of its columns are called {names[0]}")
    return Column(names[0], _is_inner(found[0].type), schema)


def _is_inner(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and kind.get_field_index(BYTES) >= 0 and _is_bytes(kind[BYTES].type)


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


# ---- writing --------------------------------------------------------------------------------------------------------


class Sink(Protocol):
    """Takes records in order; nothing of a shard is there before `finish`.

    `put` raises OSError where the whole shard can't be written; `finish` too. It returns the failures of single
    records, by their numbers: those of loose files.
    """

    def put(self, record: Record) -> Placed | None: ...

    def finish(self) -> dict[int, Exception]: ...


class LooseSink:
    """Each record as a file of its own, in `folder`; a few are written at once, while the codec goes on."""

    def __init__(self, place: Place, folder: str, check: bool) -> None:
        self.place, self.folder, self.check = place, folder, check
        self.pool = ThreadPoolExecutor(WRITERS)
        self.waiting: deque[tuple[int, Future[None]]] = deque()
        self.failed: dict[int, Exception] = {}
        self.count = 0

    def put(self, record: Record) -> Placed | None:
        number = self.count
        self.count += 1
        if record.data is None:
            return None
        if len(self.waiting) == WRITERS:
            self._await()
        key = f"{self.folder}/{record.name}" if self.folder else record.name
        self.waiting.append((number, self.pool.submit(self.place.write, key, record.data, self.check)))
        return Placed(key, 0)

    def _await(self) -> None:
        number, written = self.waiting.popleft()
        try:
            written.result()
        except Exception as error:  # of this file alone; the others are written
            self.failed[number] = error

    def finish(self) -> dict[int, Exception]:
        with self.pool:
            while self.waiting:
                self._await()
        return self.failed


class TarSink:
    """A tar shard; its bytes depend on names and data alone. One without members isn't written."""

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

    def finish(self) -> dict[int, Exception]:
        with self.spool:
            if self.archive.offset:
                self.archive.close()
                self.place.write(self.key, cast(BinaryIO, self.spool), self.check)
        return {}


class ParquetSink:
    """A Parquet shard: the columns of the one that was read, or a name and bytes. A failed picture's bytes are null.

    One without pictures isn't written.
    """

    def __init__(self, place: Place, key: str, check: bool, column: Column | None) -> None:
        self.place, self.key, self.check = place, key, check
        self.column = column or Column(IMAGE, False, pa.schema({NAME: pa.string(), IMAGE: pa.large_binary()}))
        self.spool = tempfile.TemporaryFile()  # noqa: SIM115
        self.writer = pq.ParquetWriter(
            self.spool, self.column.written, compression={IMAGE: "none"}, write_statistics=False
        )
        self.rows: list[pa.RecordBatch] = []
        self.bytes = self.count = self.pictures = 0

    def put(self, record: Record) -> Placed | None:
        if record.data is None and record.row is None:
            return None
        row = self._named(record.name) if record.row is None else record.row
        self.rows.append(_with_bytes(row, self.column, pa.array([record.data], pa.large_binary())))
        self.bytes += len(record.data or b"")
        self.count += 1
        self.pictures += record.data is not None
        if len(self.rows) == GROUP_ROWS or self.bytes > GROUP_BYTES:
            self._flush()
        return Placed(self.key, self.count - 1) if record.data is not None else None

    def _named(self, name: str) -> pa.RecordBatch:
        values = [pa.array([name]), pa.nulls(1, pa.large_binary())]
        return pa.RecordBatch.from_arrays(values, schema=self.column.written)

    def _flush(self) -> None:
        if self.rows:
            self.writer.write_table(pa.Table.from_batches(self.rows))
        self.rows, self.bytes = [], 0

    def finish(self) -> dict[int, Exception]:
        with self.spool:
            self._flush()
            self.writer.close()
            if self.pictures:
                self.place.write(self.key, cast(BinaryIO, self.spool), self.check)
        return {}


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
