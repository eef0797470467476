"""The page of a run, `_hpcm/report.html`: what came of it, how large the files are, and the worst pictures."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from ..codec.api import decompress
from ..errors import HPCMError
from ..format.container import unpack_head
from ..image.picture import rgb_of
from ..image.read import open_picture
from ..image.write import draft_size, fit_within
from ..util.notes import ignore_note
from .manifest import FOLDER
from .places import Place
from .plan import Job
from .shards import kind_of, pictures_at

REPORT = f"{FOLDER}/report.html"
WORST, ERRORS = 12, 50  # pictures and errors that are shown
THUMBNAIL = 256  # pixels of the longer side
BINS, WIDTH, HEIGHT = 40, 640, 160  # of a histogram; its width and height in pixels
HEAD = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>hpcm archive</title>
<style>
  body { font: 15px/1.5 system-ui, sans-serif; max-width: 1080px; margin: 0 auto; padding: 24px 20px; color: #212529 }
  h2 { font-size: 19px; margin: 32px 0 8px } td, th { padding: 2px 16px 2px 0; text-align: left; vertical-align: top }
  figure { display: inline-block; margin: 0 16px 16px 0 } figcaption { font-size: 13px; color: #6c757d }
  rect { fill: #4263eb } text { font-size: 12px; fill: #6c757d }
</style>
"""


def write(place: Place, roots: Mapping[str, Place], job: Job, lines: pa.Table, run: Mapping[str, Any]) -> None:
    """Args: roots: the sources by their names in the manifest. Raises OSError."""
    parts = [HEAD, f"<h1>{_e(', '.join(roots))} &rarr; {_e(place.shown)}</h1>", _summary(job, lines, run)]
    for name, unit in (("bpp", "bits per pixel"), ("bytes", "bytes"), ("psnr", "PSNR in dB")):
        values = lines[name].drop_null().to_numpy()
        if len(values):
            parts.append(f"<h2>{unit[0].upper() + unit[1:]}</h2>{histogram(values)}")
    if lines["psnr"].null_count == len(lines):
        parts.append("<p>PSNR was not measured: that is what <code>--verify</code> does.</p>")
    parts += [_worst(place, roots, job, lines), _errors(lines)]
    place.write(REPORT, "\n".join(parts).encode())


def histogram(values: np.ndarray) -> str:
    """An SVG: the numbers of values in BINS equal steps up to the 99th percentile; the last takes what is beyond."""
    low, high = float(values.min()), float(np.percentile(values, 99))
    high = high if high > low else low + 1
    counts, _ = np.histogram(np.minimum(values, high), BINS, (low, high))
    step, tallest = WIDTH / BINS, counts.max()
    bars = "".join(
        f'<rect x="{i * step:.1f}" y="{HEIGHT * (1 - n / tallest):.1f}" width="{step - 1:.1f}"'
        f' height="{HEIGHT * n / tallest:.1f}"><title>{n:,}</title></rect>'
        for i, n in enumerate(counts)
    )
    median = _number(float(np.median(values)))
    ends = f'<text y="{HEIGHT + 16}">{_number(low)}</text>'
    ends += f'<text x="{WIDTH}" y="{HEIGHT + 16}" text-anchor="end">{_number(high)} and more</text>'
    return f'<svg width="{WIDTH}" height="{HEIGHT + 20}">{bars}{ends}</svg><p>Median {median}.</p>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _summary(job: Job, lines: pa.Table, run: Mapping[str, Any]) -> str:
    """Of the whole archive, and of the last run."""

    def total(name: str) -> int:
        return pc.sum(lines.filter(pc.is_valid(lines["bytes"]))[name]).as_py() or 0

    before, after = total("source_bytes"), total("bytes")
    seconds = max(run["seconds"] - run["begun"], 1e-9)
    rows = {
        "pictures": f"{len(lines) - lines['bytes'].null_count:,}",
        "size before": f"{before:,} bytes",
        "size after": f"{after:,} bytes" + (f", {after / before:.1%}" if before else ""),
        "errors": f"{len(lines) - lines['error'].null_count:,}",
        "verified": f"{pc.sum(lines['verified']).as_py() or 0:,}",
        "last run": f"{run['pictures']:,} pictures in {run['seconds']:.0f} s, {run['failed']} parts failed",
        "speed": f"{run['pictures'] / seconds:.1f} pictures/s, {run['pixels'] / 1e6 / seconds:.2f} megapixels/s",
        "settings": ", ".join(f"{k} {v}" for k, v in {"model": job.model, "to": job.to, **job.how}.items() if v),
    }
    cells = "".join(f"<tr><th>{_e(name)}</th><td>{_e(text)}</td></tr>" for name, text in rows.items())
    return f"<table>{cells}</table>"


def _worst(place: Place, roots: Mapping[str, Place], job: Job, lines: pa.Table) -> str:
    """The pictures of the lowest PSNR, reduced: beside loose ones their sources."""
    measured = lines.filter(pc.is_valid(lines["psnr"]))
    figures = []
    for line in measured.sort_by([("psnr", "ascending")]).slice(0, WORST).to_pylist():
        try:
            where = [(line["offset"], line["bytes"])]
            data = next(pictures_at(place, line["output"], where, job.column))
            shown = _thumbnail(decompress(data, draft=draft_size(unpack_head(data), THUMBNAIL)))
            if kind_of(line["input"]) == "loose" and line["root"] in roots:
                shown = _thumbnail(open_picture(roots[line["root"]].read(line["input"]), on_note=ignore_note)) + shown
        except (OSError, HPCMError) as error:
            shown = _e(error)
        name = " ".join(dict.fromkeys((line["input"], line["name"])))
        told = f"{line['psnr']:.2f} dB, {line['bpp']:.3f} bits per pixel, {line['bytes']:,} bytes"
        figures.append(f"<figure>{shown}<figcaption>{_e(name)}<br>{told}</figcaption></figure>")
    return f"<h2>The lowest PSNR</h2>{''.join(figures)}" if figures else ""


def _thumbnail(image: Image.Image) -> str:
    file = io.BytesIO()
    Image.fromarray(rgb_of(fit_within(image, THUMBNAIL))).save(file, "WEBP", quality=90)
    return f'<img src="data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}" alt="">'


def _errors(lines: pa.Table) -> str:
    wrong = lines.filter(pc.is_valid(lines["error"])).select(["input", "name", "error"])
    rows = "".join(
        "<tr>" + "".join(f"<td>{_e(text)}</td>" for text in row.values()) + "</tr>"
        for row in wrong.slice(0, ERRORS).to_pylist()
    )
    more = f"<p>And {len(wrong) - ERRORS:,} more, in the manifest.</p>" if len(wrong) > ERRORS else ""
    return f"<h2>Errors</h2><table>{rows}</table>{more}" if rows else ""


def _e(text: object) -> str:
    return html.escape(str(text))
