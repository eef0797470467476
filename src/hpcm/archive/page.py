"""The report of a run, `_hpcm/report.html`: totals, sizes, the pictures with the lowest PSNR, errors."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any, NamedTuple

import jinja2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from ..codec.api import codec_for
from ..errors import HPCMError
from ..format.container import unpack
from ..image.picture import Picture, rgb_of, to_image
from ..image.read import read_picture
from ..image.write import draft_size, thumbnail_of
from .manifest import FOLDER
from .plan import Job
from .shards import kind_of, read_pictures
from .store import Store

REPORT = f"{FOLDER}/report.html"
TEMPLATE = "report.html"  # of Jinja, beside this file
WORST, ERRORS = 12, 50  # pictures and errors that are shown
THUMBNAIL = 256  # pixels of the longer side
BINS = 40  # of a histogram
HISTOGRAMS = {"bpp": "Bits per pixel", "bytes": "Bytes", "psnr": "PSNR in dB"}  # column: title


class Histogram(NamedTuple):
    title: str
    counts: list[int]
    low: str
    high: str
    median: str


class Figure(NamedTuple):
    """A picture of the archive, beside its source if that is a loose file."""

    row: dict[str, Any]  # of the manifest
    images: list[str]  # WebP in base64
    error: str  # why there are none


def write(store: Store, roots: Mapping[str, Store], job: Job, rows: pa.Table, run: Mapping[str, Any]) -> None:
    """Writes the report.

    Args:
        roots: the sources by their names in the manifest.
        rows: of the manifest.
        run: fields of Summary.

    Raises OSError.
    """
    errors = rows.filter(pc.is_valid(rows["error"])).select(["input", "name", "error"])
    loader = jinja2.PackageLoader(__package__, "")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    report = environment.get_template(TEMPLATE).render(
        sources=", ".join(roots),
        target=store.display_url,
        totals=totals(job, rows, run),
        histograms=[histogram(rows, column) for column in HISTOGRAMS if rows[column].null_count < len(rows)],
        is_measured=rows["psnr"].null_count < len(rows),
        worst=worst(store, roots, job, rows),
        errors=errors.slice(0, ERRORS).to_pylist(),
        more_errors=max(len(errors) - ERRORS, 0),
    )
    store.write(REPORT, report.encode())


def totals(job: Job, rows: pa.Table, run: Mapping[str, Any]) -> dict[str, str]:
    """Of the whole archive, and of the last run."""

    def total(name: str) -> int:
        return pc.sum(rows.filter(pc.is_valid(rows["bytes"]))[name]).as_py() or 0

    before, after = total("source_bytes"), total("bytes")
    seconds = max(run["seconds"] - run["startup"], 1e-9)
    settings = {"model": job.model, "to": job.to, **job.codec_options, **job.appearance}
    return {
        "pictures": f"{len(rows) - rows['bytes'].null_count:,}",
        "size before": f"{before:,} bytes",
        "size after": f"{after:,} bytes" + (f", {after / before:.1%}" if before else ""),
        "errors": f"{len(rows) - rows['error'].null_count:,}",
        "verified": f"{pc.sum(rows['verified']).as_py() or 0:,}",
        "last run": f"{run['pictures']:,} pictures in {run['seconds']:.0f} s, {run['failed']} parts failed",
        "speed": f"{run['pictures'] / seconds:.1f} pictures/s, {run['pixels'] / 1e6 / seconds:.2f} megapixels/s",
        "settings": ", ".join(f"{name} {value}" for name, value in settings.items() if value is not None),
    }


def histogram(rows: pa.Table, column: str) -> Histogram:
    """Counts in BINS equal bins up to the 99th percentile; the last bin also has the values above it."""
    values = rows[column].drop_null().to_numpy()
    low, high = float(values.min()), float(np.percentile(values, 99))
    high = high if high > low else low + 1
    counts, _ = np.histogram(np.minimum(values, high), BINS, (low, high))
    ends = map(_number, (low, high, float(np.median(values))))
    return Histogram(HISTOGRAMS[column], counts.tolist(), *ends)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def worst(store: Store, roots: Mapping[str, Store], job: Job, rows: pa.Table) -> list[Figure]:
    """The pictures with the lowest PSNR."""
    measured = rows.filter(pc.is_valid(rows["psnr"])).sort_by([("psnr", "ascending")])
    figures = []
    for row in measured.slice(0, WORST).to_pylist():
        images, error = [], ""
        try:
            images = _thumbnails(store, roots, job, row)
        except (OSError, HPCMError) as failure:
            error = str(failure)
        figures.append(Figure(row, images, error))
    return figures


def _thumbnails(store: Store, roots: Mapping[str, Store], job: Job, row: dict[str, Any]) -> list[str]:
    """The source, if it is a loose file, and the picture of the archive. Raises OSError, HPCMError."""
    data = next(read_pictures(store, row["output"], [(row["offset"], row["bytes"])], job.column))
    container = unpack(data)
    decoded = codec_for(container).decompress_picture(container, draft=draft_size(container, THUMBNAIL))
    if kind_of(row["input"]) != "loose" or row["root"] not in roots:
        return [_webp(decoded)]
    source = read_picture(roots[row["root"]].read(row["input"]))
    return [_webp(source), _webp(decoded)]


def _webp(picture: Picture) -> str:
    """A thumbnail in base64; with a profile if the colours aren't those of sRGB."""
    small = thumbnail_of(picture, THUMBNAIL)
    file = io.BytesIO()
    Image.fromarray(rgb_of(to_image(small))).save(file, "WEBP", quality=90, icc_profile=small.icc)
    return base64.b64encode(file.getvalue()).decode()
