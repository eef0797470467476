"""The manifest: one line for each picture, whatever became of it.

Each part of the work writes its lines as a Parquet file of its own, after its output; so a part is done or it isn't.
At the end all lines are merged into `_hpcm/manifest.parquet`. Of an input that was done twice the newest
lines count. An input is a root and a key.

Several drivers and actors may write at once, and each may die between any two steps. So every file of lines has a name
of its own and is written once; a merge removes those that it has read, and no other; and lines that are there twice,
as a merge leaves them that died before it removed anything, count once.
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
from .places import Found, Place, readable
from .plan import input_of

FOLDER = "_hpcm"
MERGED = f"{FOLDER}/manifest.parquet"
PARTS = f"{FOLDER}/parts"
ATTEMPTS = 10  # at reading or merging what other drivers merge meanwhile
READERS = 32  # files at once
ORIGIN = ("root", "input", "input_size", "input_modified", "position", "name", "source_bytes")  # what is the source's
SCHEMA = pa.schema(
    {
        "root": pa.string(),  # SRC
        "input": pa.string(),  # the file or shard in it
        "input_size": pa.int64(),  # bytes
        "input_modified": pa.int64(),  # nanoseconds since 1970
        "position": pa.int32(),  # of the picture in the input
        "name": pa.string(),  # of the member or row; of a loose file as `input`
        "source_bytes": pa.int64(),  # of the picture
        "bytes": pa.int64(),  # of what was made of it
        "width": pa.int32(),
        "height": pa.int32(),
        "bpp": pa.float64(),  # bits per pixel of the .hpcm file
        "psnr": pa.float64(),  # dB, where it was decoded and compared
        "symbols": pa.string(),  # checksum of the coded symbols, 8 hexadecimal digits
        "verified": pa.bool_(),  # decoded, and read back from DST
        "output": pa.string(),  # the file or shard in DST
        "offset": pa.int64(),  # in it: the byte (tar) or row (Parquet); 0 of a loose file
        "error": pa.string(),
        "again": pa.bool_(),  # whether a rerun tries once more: it couldn't be read
        "notes": pa.string(),  # what was converted or left out, or why a target wasn't met
        "finished": pa.timestamp("us", "UTC"),  # the part
    }
)


def write(place: Place, part: str, rows: Sequence[dict[str, Any]]) -> pa.Table:
    """The lines of a part: from now on it is done."""
    now = datetime.now(timezone.utc)
    table = pa.Table.from_pylist([{**row, "finished": now} for row in rows], schema=SCHEMA)
    place.write(f"{PARTS}/{part}-{uuid.uuid4().hex}.parquet", _bytes_of(table))
    return table


def read(place: Place, key: str = MERGED) -> pa.Table:
    """Lines as a table of SCHEMA. Raises OSError, FileNotFoundError among them, and UsageError for other bytes."""
    try:
        with place.open(key) as file:
            return pq.read_table(file)
    except pa.ArrowInvalid as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"{place.shown}/{key} is damaged; remove it, and a run does its part again: {reason}"
        ) from error


def gathered(place: Place) -> pa.Table:
    """All lines there are: the merged ones and those of parts. Raises OSError."""
    return _gathered(place)[0]


def merge(place: Place) -> pa.Table:
    """Makes one file of all lines, by input and position, and removes those of parts that are in it. Raises OSError."""
    for _ in range(ATTEMPTS):
        table, files = _gathered(place)
        if _merged_of(files) == _merged_of(_listed(place)):  # no other driver has merged meanwhile
            break
    table = table.sort_by([("root", "ascending"), ("input", "ascending"), ("position", "ascending")])
    place.write(MERGED, _bytes_of(table))
    parts = [file.key for file in files if file.key != MERGED]
    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(place.delete, parts))
    return table


def done(table: pa.Table) -> set[tuple[str, str, int, int]]:
    """The inputs that need no more work, each with its size and time of change: all their lines are final."""
    again = pc.fill_null(table["again"], False)
    names = ("root", "input", "input_size", "input_modified")

    def inputs(lines: pa.Table) -> set[tuple[str, str, int, int]]:
        return set(zip(*(lines[name].to_pylist() for name in names), strict=True))

    return inputs(table) - inputs(table.filter(again))


def outputs(table: pa.Table) -> Iterator[tuple[str, str, str]]:
    """Root, key and output of what was made."""
    made = table.filter(pc.is_valid(table["output"])).select(["root", "input", "output"])
    return zip(*(column.to_pylist() for column in made.columns), strict=True)


def line(root: str, found: Found, position: int, name: str, **facts: Any) -> dict[str, Any]:
    """A line about a picture of an input. Texts that aren't UTF-8 are escaped."""
    root, key = input_of(root, found)
    origin = {"root": root, "input": key, "input_size": found.size, "input_modified": found.modified}
    row = {**origin, "position": position, "name": name, **facts}
    return {field: readable(value) if isinstance(value, str) else value for field, value in row.items()}


def _gathered(place: Place) -> tuple[pa.Table, list[Found]]:
    """All lines, and the files where they were read."""
    for attempt in range(ATTEMPTS):
        files = _listed(place)
        try:
            with ThreadPoolExecutor(READERS) as pool:
                tables = list(pool.map(lambda file: read(place, file.key), files))
            break
        except FileNotFoundError:  # another driver has merged it: its lines are in another file now
            if attempt == ATTEMPTS - 1:
                raise
    return _newest(pa.concat_tables([SCHEMA.empty_table(), *tables])), files


def _listed(place: Place) -> list[Found]:
    """The files of lines."""
    folder = place.inner(FOLDER)
    found = folder.files() if folder.exists() else []
    return [file._replace(key=f"{FOLDER}/{file.key}") for file in found if file.key.endswith(".parquet")]


def _merged_of(files: Iterable[Found]) -> Found | None:
    return next((file for file in files if file.key == MERGED), None)


def _newest(table: pa.Table) -> pa.Table:
    """Of each input the lines that were written last, which have one time; each line once."""
    last = table.group_by(["root", "input"]).aggregate([("finished", "max")])
    table = table.join(last, ["root", "input"])
    table = table.filter(pc.equal(table["finished"], table["finished_max"])).select(SCHEMA.names)
    numbered = table.append_column("number", pa.array(range(len(table)), pa.int64()))
    first = numbered.group_by(["root", "input", "position"]).aggregate([("number", "min")])
    return table.take(first["number_min"])


def _bytes_of(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd")
    return file.getvalue()
