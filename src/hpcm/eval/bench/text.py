"""What `hpcm bench` prints of a model: lines about it, and a table of times, which is Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..machine import Gpu
from .bench import Bench, Row
from .split import DecodeSplit

GIB = 1 << 30


def text(bench: Bench) -> str:
    return "\n".join([*_about(bench), "", *_aligned(_table(bench.rows)), "", *_after(bench)])


def _about(bench: Bench) -> Iterator[str]:
    """Lines about the model, the machine and the codecs of others."""
    total = sum(bench.kmacs.values())
    yield f"  parameters        {bench.parameters / 1e6:.3f} M"
    yield f"  kMACs per pixel   {total:.3f}"
    for name, value in bench.kmacs.items():
        yield f"    {name:22} {value:9.3f}  {value / total:4.0%}"
    yield f"  start             {bench.start_s:.3f} s, engine {bench.engine}"
    yield f"  device            {_device(bench.gpu) if bench.gpu else bench.device}, {bench.threads} threads"
    peaks = ", ".join(f"{speed:,.0f} GFLOP/s in {name}" for name, speed in bench.peaks.items())
    yield f"  peak              {peaks}"
    for other in bench.others:
        untimed = f"; not timed: {other.untimed}" if other.untimed else ""
        size = f"{other.parameters / 1e6:.3f} M parameters, {other.kmacs:.2f} kMACs per pixel"
        yield f"  {other.name}: {size}, {other.weights}{untimed}"


def _device(gpu: Gpu) -> str:
    known = [gpu.name, f"{gpu.memory / GIB:.0f} GiB", f"torch {gpu.torch}"]
    known += [f"CUDA {gpu.cuda}"] if gpu.cuda else []
    known += [f"driver {gpu.driver}"] if gpu.driver else []
    return ", ".join(known)


def _table(rows: Sequence[Row]) -> Iterator[list[str]]:
    """Heads, and a row for each codec, by size and batch."""
    on_gpu = any(row.gpu_bytes is not None for row in rows)
    heads = ["size", "batch", "code", "encode", "decode", "times the first", "encoded/s", "decoded/s"]
    heads += ["of the peak", "bytes"]
    yield [*heads, "GPU memory"] if on_gpu else heads
    for kind in dict.fromkeys((row.width, row.height, row.batch) for row in rows):
        first, *others = [row for row in rows if (row.width, row.height, row.batch) == kind]
        for row in (first, *others):
            yield _cells(row, first) + ([f"{(row.gpu_bytes or 0) / GIB:.2f} GiB"] if on_gpu else [])


def _cells(row: Row, first: Row) -> list[str]:
    shares = ""
    if row.encode_share is not None and row.decode_share is not None:
        shares = f"{row.encode_share:.0%}, {row.decode_share:.0%} of {row.products}"
    times = f"{row.encode_s / first.encode_s:.2f}, {row.decode_s / first.decode_s:.2f}"
    return [
        f"{row.width}x{row.height}",
        str(row.batch),
        row.code,
        f"{row.encode_s:.4f} s",
        f"{row.decode_s:.4f} s",
        times,
        f"{row.batch / row.encode_s:.2f}",
        f"{row.batch / row.decode_s:.2f}",
        shares,
        f"{row.bytes:,}",
    ]


def _aligned(table: Iterator[list[str]]) -> Iterator[str]:
    """A table in Markdown whose columns are as wide as their widest cell."""
    heads, *rows = table
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for cells in (heads, ["-" * (width - 1) + ":" for width in widths], *rows):
        yield f"| {' | '.join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))} |"


def _after(bench: Bench) -> Iterator[str]:
    """Lines that aren't about a whole table."""
    sizes = dict.fromkeys((row.width, row.height) for row in bench.rows)
    for (width, height), symbols, split in zip(sizes, bench.symbols, bench.splits, strict=True):
        yield f"  {width}x{height}: {symbols}"
        yield f"  {width}x{height}: decoding is {_shares(split)}"
    for search in bench.searches:
        size = f"{search.width}x{search.height}"
        yield f"  {size}: encode {search.encode_s:.3f} s with effort {search.effort}, {search.bytes:,} bytes"


def _shares(split: DecodeSplit) -> str:
    total = split.networks + split.coder + split.file
    parts = {"networks": split.networks, "the entropy coder": split.coder, "the file": split.file}
    return ", ".join(f"{seconds / total:.0%} {name}" for name, seconds in parts.items())
