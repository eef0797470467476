"""The manifest: one row for each picture, whether it was archived or failed.

Each part of the work writes its rows as a Parquet file of its own, after its output: so a part is done or it isn't. At
the end all rows are merged into `_hpcm/manifest.parquet`. If an input was done twice, its newest rows count. An input
is a root and a key.

Several drivers and actors may write at once, and each may die between any two steps. So every file of rows has a unique
name and is written once; a merge removes the files that it has read, and no other; and duplicate rows, as a merge
leaves them that dies before it removes those files, count once.
"""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..errors import UsageError
from .plan import input_of
from .store import FileEntry, Store, escape

FOLDER = "_hpcm"
MERGED = f"{FOLDER}/manifest.parquet"
PARTS = f"{FOLDER}/parts"
ATTEMPTS = 10  # at reading or merging, while other drivers merge
READERS = 32  # files that are read or removed at once
SOURCE_COLUMNS = ("root", "input", "input_size", "input_modified", "position", "name", "source_bytes")
SCHEMA = pa.schema(
    {
        "root": pa.string(),  # SRC
        "input": pa.string(),  # the file or shard in it
        "input_size": pa.int64(),  # bytes
        "input_modified": pa.int64(),  # nanoseconds since 1970
        "position": pa.int32(),  # of the picture in the input
        "name": pa.string(),  # of the member or row; of a loose file as `input`
        "source_bytes": pa.int64(),  # of the picture
        "bytes": pa.int64(),  # of the output of this picture
        "width": pa.int32(),
        "height": pa.int32(),
        "bpp": pa.float64(),  # bits per pixel of the .hpcm file
        "psnr": pa.float64(),  # dB, where it was decoded and compared
        "max_error": pa.int32(),  # no sample is off by more, 0: lossless; null where nothing is promised
        "symbols": pa.string(),  # checksum of the coded symbols, 8 hexadecimal digits; null where there are none
        "verified": pa.bool_(),  # decoded, and read back from DST
        "output": pa.string(),  # the file or shard in DST
        "offset": pa.int64(),  # in it: the byte (tar) or row (Parquet); 0 of a loose file
        "error": pa.string(),
        "retry": pa.bool_(),  # whether the next run tries again: the error may be a passing one
        "notes": pa.string(),  # what was converted or left out, or why a target wasn't met
        "finished": pa.timestamp("us", "UTC"),  # the part
    }
)


def write(store: Store, part: str, rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Writes the rows of a part, which is done from now on. Returns them as a table."""
    now = datetime.now(timezone.utc)
    table = pa.Table.from_pylist([{**row, "finished": now} for row in rows], schema=SCHEMA)
    store.write(f"{PARTS}/{part}-{uuid.uuid4().hex}.parquet", _to_parquet(table))
    return table


def read(store: Store, key: str = MERGED) -> pa.Table:
    """Rows as a table of SCHEMA. Raises OSError (FileNotFoundError is one), and UsageError for a damaged file."""
    try:
        with store.open(key) as file:
            return pq.read_table(file)
    except pa.ArrowInvalid as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"{store.display_url}/{key} is damaged; remove it, and a run does its part again: {reason}"
        ) from error


def read_all(store: Store) -> pa.Table:
    """All rows: the merged ones and those of parts. Raises OSError."""
    return _read_all(store)[0]


def merge(store: Store) -> pa.Table:
    """Writes all rows to one file, by input and position, and removes the files of parts. Raises OSError."""
    for _ in range(ATTEMPTS):
        table, files = _read_all(store)
        if _merged_file(files) == _merged_file(_list_files(store)):  # no other driver has merged since
            break
    table = table.sort_by([("root", "ascending"), ("input", "ascending"), ("position", "ascending")])
    store.write(MERGED, _to_parquet(table))
    parts = [file.key for file in files if file.key != MERGED]
    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(store.delete, parts))
    return table


def done_inputs(table: pa.Table) -> set[tuple[str, str, int, int]]:
    """Root, key, size and modification time of the inputs that need no more work: none of their rows is retried."""
    retried = pc.fill_null(table["retry"], False)
    names = ("root", "input", "input_size", "input_modified")

    def inputs(rows: pa.Table) -> set[tuple[str, str, int, int]]:
        return set(zip(*(rows[name].to_pylist() for name in names), strict=True))

    return inputs(table) - inputs(table.filter(retried))


def outputs(table: pa.Table) -> Iterator[tuple[str, str, str]]:
    """Root, key and output of each picture that has one."""
    written = table.filter(pc.is_valid(table["output"])).select(["root", "input", "output"])
    return zip(*(column.to_pylist() for column in written.columns), strict=True)


def row(root: str, entry: FileEntry, position: int, name: str, **values: Any) -> dict[str, Any]:
    """A row about a picture of an input. Texts that aren't UTF-8 are escaped."""
    root, key = input_of(root, entry)
    source = {"root": root, "input": key, "input_size": entry.size, "input_modified": entry.modified}
    fields = {**source, "position": position, "name": name, **values}
    return {field: escape(value) if isinstance(value, str) else value for field, value in fields.items()}


def _read_all(store: Store) -> tuple[pa.Table, list[FileEntry]]:
    """All rows, and the files that they were read from."""
    for attempt in range(ATTEMPTS):
        files = _list_files(store)
        try:
            with ThreadPoolExecutor(READERS) as pool:
                tables = list(pool.map(lambda file: read(store, file.key), files))
            break
        except FileNotFoundError:  # another driver has merged it: its rows are in another file now
            if attempt == ATTEMPTS - 1:
                raise
    return _newest(pa.concat_tables([SCHEMA.empty_table(), *tables])), files


def _list_files(store: Store) -> list[FileEntry]:
    """The files of rows."""
    folder = store.subfolder(FOLDER)
    files = folder.files() if folder.exists() else []
    return [file._replace(key=f"{FOLDER}/{file.key}") for file in files if file.key.endswith(".parquet")]


def _merged_file(files: Iterable[FileEntry]) -> FileEntry | None:
    return next((file for file in files if file.key == MERGED), None)


def _newest(table: pa.Table) -> pa.Table:
    """The rows of each input that were written last, which have equal times; duplicates once."""
    last = table.group_by(["root", "input"]).aggregate([("finished", "max")])
    table = table.join(last, ["root", "input"])
    table = table.filter(pc.equal(table["finished"], table["finished_max"])).select(SCHEMA.names)
    numbered = table.append_column("number", pa.array(range(len(table)), pa.int64()))
    first = numbered.group_by(["root", "input", "position"]).aggregate([("number", "min")])
    return table.take(first["number_min"])


def _to_parquet(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd")
    return file.getvalue()
