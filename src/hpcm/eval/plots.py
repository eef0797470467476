"""Rate-distortion curves as pictures."""

from __future__ import annotations

import io
from itertools import cycle, product
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .anchors import points_of
from .bdrate import MAX_BPP
from .results import METRICS, Results

MODELS = ("#c8102e", "#e8590c", "#9c36b5", "#5f3dc4")  # colours
BASELINES = ("#495057", "#1971c2", "#2f9e44", "#f08c00", "#0c8599", "#6741d9", "#845ef7", "#66a80f", "#868e96")
GREYS = ("#adb5bd", "#495057", "#ced4da")  # of published curves, as the next
STYLES = ("--", ":", "-.", (0, (6, 2, 1, 2)), (0, (2, 2)), (0, (8, 3)))
MARGIN = 1.05  # the axis ends so far to the right of the last point


def plot(results: Results, metric: str) -> Any | None:
    """A matplotlib figure of all curves; None if no codec has this metric. Raises UsageError without the package."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("plots need another package: pip install 'hpcm-codec[eval]'") from error
    curves = {name: points for name, codec in results.codecs.items() if (points := codec.curve(metric))}
    if not curves:
        return None
    highest = max(bpp for points in curves.values() for bpp, _ in points)
    right = min(MAX_BPP, MARGIN * highest)
    figure = Figure(figsize=(8, 5.2), layout="constrained")  # no pyplot: no window system, no global state
    axes = figure.add_subplot()
    _draw_published(axes, results, metric, right)
    _draw_measured(axes, results, curves)
    axes.set(xlabel="bits per pixel, of whole files", ylabel=METRICS[metric].axis, xlim=(0, right))
    axes.grid(color="#e9ecef")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    return figure


def _draw_published(axes: Any, results: Results, metric: str, right: float) -> None:
    """Thin and grey, up to a rate; names are told by dashes and shades."""
    looks = cycle(product(GREYS, STYLES))
    for name, (grey, style) in zip(results.published, looks, strict=False):
        curve = results.published[name]
        points = [point for point in points_of(curve, metric) if point[0] <= right]
        if points:
            rates, qualities = zip(*points, strict=True)
            label = f"{results.label_of(name)} (published)"
            axes.plot(rates, qualities, linestyle=style, color=grey, linewidth=1.3, label=label)


def _draw_measured(axes: Any, results: Results, curves: dict[str, list[tuple[float, float]]]) -> None:
    """Models are thicker than baselines, and above them."""
    model_colours, baseline_colours = cycle(MODELS), cycle(BASELINES)
    for name, points in curves.items():
        codec = results.codecs[name]
        rates, qualities = zip(*sorted(points), strict=True)
        look: dict[str, Any]
        if codec.is_model:
            look = {"color": next(model_colours), "linewidth": 2.6, "zorder": 3}
        else:
            look = {"color": next(baseline_colours), "linewidth": 1.5}
        axes.plot(rates, qualities, marker="o", markersize=4, label=codec.label, **look)


def svg(figure: Any) -> str:
    """The figure as an <svg> element; the same text for the same figure."""
    from matplotlib import rc_context

    file = io.StringIO()
    with rc_context({"svg.hashsalt": "hpcm"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()[file.getvalue().index("<svg") :]


def save(figure: Any, stem: Path) -> None:
    """As stem.svg and stem.png."""
    save_svg(figure, stem.with_suffix(".svg"))
    figure.savefig(stem.with_suffix(".png"), dpi=150)


def save_svg(figure: Any, path: Path) -> None:
    path.write_text('<?xml version="1.0" encoding="utf-8"?>\n' + svg(figure), encoding="utf-8")
