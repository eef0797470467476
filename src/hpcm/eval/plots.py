"""Rate-distortion curves as pictures."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from ..errors import UsageError
from .bdrate import MAX_BPP, points_of

AXES = {"psnr": "PSNR in dB, mean over pictures", "ms_ssim_db": "MS-SSIM in dB", "ssimulacra2": "SSIMULACRA 2"}
OURS = ("#c8102e", "#e8590c", "#9c36b5", "#5f3dc4")
THEIRS = ("#495057", "#1971c2", "#2f9e44", "#f08c00", "#0c8599", "#6741d9", "#845ef7", "#66a80f", "#868e96")
STYLES = ("--", ":", "-.", (0, (6, 2, 1, 2)), (0, (2, 2)), (0, (8, 3)))  # of published curves


def plot(results: dict[str, Any], quality: str) -> Any | None:
    """A matplotlib figure of all curves; None if no codec has this quality. Raises UsageError without the package."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UsageError("plots need another package: pip install 'hpcm-codec[eval]'") from error
    measured = {n: c for n, c in results["codecs"].items() if all(p.get(quality) is not None for p in c["points"])}
    if not measured:
        return None
    figure = Figure(figsize=(8, 5.2), layout="constrained")  # no pyplot: no window system, no global state
    axes = figure.add_subplot()
    right = min(MAX_BPP, 1.05 * max(p["bpp"] for c in measured.values() for p in c["points"]))
    for style, anchor in zip(STYLES, results["published"].values(), strict=False):
        points = [p for p in points_of(anchor, quality) if p[0] <= right]
        if points:
            label = f"{anchor['label']} (published)"
            axes.plot(*zip(*points, strict=True), linestyle=style, color="#adb5bd", linewidth=1.3, label=label)
    colours = {True: iter(OURS * len(measured)), False: iter(THEIRS * len(measured))}
    for codec in measured.values():
        ours = "weights_sha256" in codec
        points = sorted((p["bpp"], p[quality]) for p in codec["points"])
        look: dict[str, Any] = {"linewidth": 2.6, "zorder": 3} if ours else {"linewidth": 1.5}
        label = codec["label"]
        axes.plot(*zip(*points, strict=True), marker="o", markersize=4, color=next(colours[ours]), label=label, **look)
    axes.set(xlabel="bits per pixel, of whole files", ylabel=AXES[quality], xlim=(0, right))
    axes.grid(color="#e9ecef")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    return figure


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
