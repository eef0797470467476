"""The manifest: one line for each picture, whatever became of it.

Each part of the work writes its lines as a Parquet file of its own, after its output; so a part is done or it isn't.
At the end all lines are merged into `_hpcm/manifest.parquet`. Of an input that was done twice the newest
lines count.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..stores.places import Found, Place

FOLDER = "_hpcm"
MERGED = f"{FOLDER}/manifest.parquet"
READERS = 32  # files at once
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


def path_of(part: str) -> str:
    return f"{FOLDER}/parts/{part}.parquet"


def write(place: Place, part: str, rows: Sequence[dict[str, Any]]) -> pa.Table:
    """The lines of a part: from now on it is done."""
    now = datetime.now(timezone.utc)
    table = pa.Table.from_pylist([{**row, "finished": now} for row in rows], schema=SCHEMA)
    place.write(path_of(part), _bytes_of(table))
    return table


def read(place: Place, key: str = MERGED) -> pa.Table:
    """Lines as a table of SCHEMA. Raises OSError, FileNotFoundError among them."""
    with place.open(key) as file:
        return pq.read_table(file)


def gathered(place: Place) -> pa.Table:
    """All lines there are: the merged ones and those of parts."""
    folder = Place(_joined(place.url, FOLDER))
    found = [f"{FOLDER}/{file.key}" for file in _files(folder) if file.key.endswith(".parquet")]
    with ThreadPoolExecutor(READERS) as pool:
        tables = list(pool.map(lambda key: read(place, key), found))
    return _newest(pa.concat_tables(tables)) if tables else SCHEMA.empty_table()


def merge(place: Place) -> pa.Table:
    """Makes one file of all lines, by input and position, and removes those of parts."""
    table = gathered(place).sort_by([("input", "ascending"), ("position", "ascending")])
    place.write(MERGED, _bytes_of(table))
    parts = Place(_joined(place.url, f"{FOLDER}/parts"))
    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(lambda file: parts.delete(file.key), _files(parts)))
    return table


def done(table: pa.Table) -> set[tuple[str, int, int]]:
    """The inputs that need no more work, each with its size and time of change."""
    final = table.filter(pc.invert(pc.fill_null(table["again"], False)))
    columns = (final[name].to_pylist() for name in ("input", "input_size", "input_modified"))
    return set(zip(*columns, strict=True))


def line(root: str, found: Found, position: int, name: str, **facts: Any) -> dict[str, Any]:
    """A line about a picture of an input."""
    origin = {"root": root, "input": found.key, "input_size": found.size, "input_modified": found.modified}
    return {**origin, "position": position, "name": name, **facts}


def _newest(table: pa.Table) -> pa.Table:
    """Of each input the lines that were written last, which have one time."""
    last = table.group_by("input").aggregate([("finished", "max")])
    table = table.join(last, "input")
    return table.filter(pc.equal(table["finished"], table["finished_max"])).select(SCHEMA.names)


def _bytes_of(table: pa.Table) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, compression="zstd")
    return file.getvalue()


def _files(folder: Place) -> Iterable[Found]:
    return folder.files() if folder.exists() else []


def _joined(url: str, key: str) -> str:
    path, mark, query = url.partition("?")
    return f"{path.rstrip('/')}/{key}{mark}{query}"
