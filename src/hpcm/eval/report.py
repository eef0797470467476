"""Results -> report.html, one file that needs nothing else, and tables in Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from . import plots
from .bdrate import FEWEST_POINTS, LEAST_OVERLAP, Curve, Delta, delta
from .comparison import elsewhere
from .protocol import TimeSplit
from .results import COLUMNS, METRICS, CodecResult, Measurement, Point, Results, to_json
from .side_by_side import SideBySide

PAGE = "page.html"  # a template of Jinja
RATES = (0.25, 0.5, 1.0)  # bits per pixel at which tables show a quality
SUMMARY_RATE = 0.5
ANCHORS = ("avif-iq", "avif", "jpeg")  # unless another was asked for, the summary compares with the first measured one
STRONGEST = 60  # percent: the BD-rate that has the strongest colour


class Table(NamedTuple):
    heads: list[str]
    rows: list[list[str]]


def write_report(results: Results, compared: Sequence[SideBySide], folder: Path) -> None:
    """report.html, and the plot of each metric, such as rd-psnr.svg and rd-psnr.png."""
    import jinja2

    figures = []
    for metric in results.metrics:
        if (figure := plots.plot(results, metric)) is not None:
            plots.save(figure, folder / f"rd-{metric.removesuffix('_db').replace('_', '-')}")
            figures.append(plots.svg(figure))
    anchor = anchor_of(results)
    with_bd_rates = [metric for metric, anchors in results.bd_rate.items() if anchors]
    loader = jinja2.PackageLoader(__package__, "")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    page = environment.get_template(PAGE).render(
        results=results,
        conditions=conditions(results),
        summary=summary(results),
        notes=notes(results),
        anchor=anchor and results.label_of(anchor),
        against=[against(results, metric) for metric in with_bd_rates if anchor in results.bd_rate[metric]],
        label_of=results.label_of,
        elsewhere=elsewhere(results),
        figures=figures,
        matrices=[
            (name_of(results, metric), matrix(results, metric), shades(results, metric)) for metric in with_bd_rates
        ],
        memory_and_times=memory_and_times(results),
        pictures=per_picture(results),
        points=[(codec.label, all_points(codec)) for codec in results.codecs.values()],
        setups=setups(results),
        measured_on=json.dumps({name: to_json(results)[name] for name in ("machine", "versions", "options")}, indent=1),
        compared=[asdict(one) for one in compared],
    )
    (folder / "report.html").write_text(page, encoding="utf-8")


# ---- sentences -------------------------------------------------------------------------------------------------------


def conditions(results: Results, times: Results | None = None) -> str:
    """When, on what and how the numbers were measured, in a sentence or two.

    Args:
        times: where times are from, if they are from another evaluation of the same codecs.
    """
    computer, commit = results.machine, results.commit or "unknown"
    engines = dict.fromkeys(codec.engine for codec in results.codecs.values() if codec.engine)
    parts = [results.date[:10], computer.cpu, counted(computer.cores, "core")]
    parts += [f"Python {computer.python}", *(f"{engine} {results.versions[engine]}" for engine in engines)]
    timed = timed_with(times or results)
    if times and len(times.pictures) < len(results.pictures):
        timed += f", {len(times.pictures)} of the pictures"
    return f"{', '.join(parts)}, commit {commit}; {timed}."


def timed_with(results: Results) -> str:
    """How many threads each codec had, and how many processes measured at once."""
    threads = " or ".join(map(str, sorted({how.threads for how in results.timed_with})))
    jobs = " or ".join(map(str, sorted({how.jobs for how in results.timed_with})))
    plural = "s" * (threads != "1")
    together = "one picture at a time" if jobs == "1" else f"{jobs} processes at once"
    return f"each codec timed with {threads} thread{plural}, {together}"


def notes(results: Results) -> list[str]:
    """What the summary is about, in paragraphs: its pictures, its numbers, and what they leave out."""
    texts = [results.data_set.sentence()] if results.data_set else []
    return [*texts, summary_note(results), *left_out(results)]


def left_out(results: Results) -> list[str]:
    """A sentence for each metric that leaves pictures out."""
    sentences = []
    for metric, pictures in results.left_out.items():
        if metric in METRICS and METRICS[metric].only_published and metric not in results.metrics:
            continue
        for why in dict.fromkeys(pictures.values()):
            names = ", ".join(name for name in pictures if pictures[name] == why)
            kept = len(results.pictures) - len(pictures)
            sentences.append(
                f"{COLUMNS[metric].name} is over {kept} of {counted(len(results.pictures), 'picture')}, and so are the "
                f"rates beside it; left out, because each {why}: {names}."
            )
    return sentences


def summary_note(results: Results) -> str:
    """What the numbers of the summary are."""
    text = f"Quality is at {SUMMARY_RATE:g} bits per pixel; PSNR is the mean over the pictures."
    if anchor := anchor_of(results):
        label = results.label_of(anchor) + " (published)" * (anchor in results.published)
        text += f" BD-rate is how many more or fewer bytes a codec needs at equal quality than {label};"
        text += f" ! marks fewer than {FEWEST_POINTS} points,"
        text += f" or less than {LEAST_OVERLAP:.0%} of the qualities compared."
    return text


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


# ---- tables ----------------------------------------------------------------------------------------------------------


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def name_of(results: Results, metric: str) -> str:
    """A metric's name in a table; of how many pictures, if not of all."""
    name, pictures = METRICS[metric].name, len(results.pictures)
    without = len(results.left_out.get(metric, ()))
    return f"{name} ({pictures - without} of {counted(pictures, 'picture')})" if without else name


def anchor_of(results: Results) -> str | None:
    """The codec or published curve that the summary compares with."""
    return results.anchor or next((name for name in ANCHORS if name in results.codecs), None)


def summary(results: Results, times: Results | None = None) -> Table:
    """The table of the README: quality at a rate and BD-rate by each metric, times."""
    metrics, anchor = results.metrics, anchor_of(results)
    rows = []
    for name, codec in results.codecs.items():
        row = [codec.label, *(quality(codec, SUMMARY_RATE, metric) for metric in metrics)]
        if anchor:
            row += [percent(results, metric, anchor, name) or "-" for metric in metrics]
        timed = (times or results).codecs[name]
        rows.append([*row, f"{timed.median_time('encode_s'):.3f} s", f"{timed.median_time('decode_s'):.3f} s"])
    heads = ["codec", *_first_with([name_of(results, metric) for metric in metrics], after=f" at {SUMMARY_RATE:g} bpp")]
    if anchor:
        heads += _first_with([f"by {METRICS[metric].name}" for metric in metrics], before="BD-rate ")
    return Table([*heads, "encode", "decode"], rows)


def against(results: Results, metric: str) -> Table:
    """BD-rates of all others against the summary's anchor, and the qualities that they are over."""
    anchor, shown = anchor_of(results), METRICS[metric]
    rows = []
    for name, change in results.bd_rate[metric][anchor or ""].items():
        covered = "-"
        if change.percent is not None:
            covered = f"{change.low:.{shown.digits}f} to {change.high:.{shown.digits}f}{shown.unit}"
        label = results.label_of(name) + "\u00a0*" * (name in results.published)
        rows.append([label, percent(results, metric, anchor or "", name), covered, f"{change.overlap:.0%}"])
    return Table(["codec", f"BD-rate by {name_of(results, metric)}", "both cover", "of the shorter curve"], rows)


def _first_with(heads: list[str], before: str = "", after: str = "") -> list[str]:
    """Heads of neighbouring columns, of which the first says what holds for all: else the table would be too wide."""
    return [before + head + after for head in heads[:1]] + heads[1:]


def qualities(results: Results, metric: str) -> Table:
    """The qualities at RATES."""
    heads = ["codec", *(f"{name_of(results, metric)} at {rate:g} bpp" for rate in RATES)]
    rows = [[c.label, *(quality(c, rate, metric) for rate in RATES)] for c in results.codecs.values()]
    return Table(heads, rows)


def quality(codec: CodecResult, rate: float, metric: str) -> str:
    value = codec.quality_at(rate, metric)
    shown = METRICS[metric]
    return "-" if value is None else f"{value:.{shown.digits}f}{shown.unit}"


def matrix(results: Results, metric: str) -> Table:
    """BD-rates of the rows' codecs against the columns' anchors; a star marks what is published."""
    names = list(results.bd_rate[metric])
    labels = {name: results.label_of(name) + "\u00a0*" * (name in results.published) for name in names}
    rows = [[labels[test], *(percent(results, metric, anchor, test) for anchor in names)] for test in names]
    return Table(["against", *(labels[name] for name in names)], rows)


def percent(results: Results, metric: str, anchor: str, test: str) -> str:
    """A BD-rate; empty for a codec against itself, with an exclamation mark where there is a warning."""
    change = results.bd_rate[metric].get(anchor, {}).get(test)
    if change is None:
        return ""
    return "-" if change.percent is None else f"{change.percent:+.1f}%" + "!" * bool(change.warnings)


def saving(change: Delta | None) -> str:
    """A BD-rate, and the part of the qualities that it covers if that isn't all."""
    if change is None or change.percent is None:
        return "-"
    return f"{change.percent:+.1f}%" + (f" (over {change.overlap:.0%})" if change.overlap < 0.995 else "")


def memory_and_times(results: Results) -> Table:
    """Of the setting in the middle of each codec's; a model's also split into parts."""
    parts = "transforms / entropy / file"
    rows = []
    for codec in results.codecs.values():
        point = codec.points[len(codec.points) // 2]
        rows.append(
            [
                codec.label,
                str(point.setting),
                milliseconds(point.encode_s),
                split_in_parts(point.encode_split),
                milliseconds(point.decode_s),
                split_in_parts(point.decode_split),
                "" if codec.peak_mib is None else f"{codec.peak_mib:.0f} MiB",
            ]
        )
    return Table(["codec", "setting", "encode", parts, "decode", parts, "peak memory"], rows)


def milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.1f} ms"


def split_in_parts(split: TimeSplit | None) -> str:
    if split is None:
        return ""
    return f"{1000 * split.transforms:.1f} / {1000 * split.entropy:.1f} / {1000 * split.file:.1f} ms"


def per_picture(results: Results) -> Table:
    """BD-rate (PSNR) of every codec on every picture, against the first codec."""
    first, *others = results.codecs.values()
    rows = []
    for picture in results.pictures:
        anchor = curve_of_picture(first, picture.name)
        row = [picture.name]
        for codec in others:
            curve = curve_of_picture(codec, picture.name)
            change = delta(anchor, curve).percent if anchor and curve else None
            row.append("-" if change is None else f"{change:+.1f}%")
        rows.append(row)
    return Table(["picture", *(codec.label for codec in others)], rows)


def curve_of_picture(codec: CodecResult, picture: str) -> Curve | None:
    """A codec's PSNR curve on one picture; None with fewer than two points."""
    measured = [one for point in codec.points for one in point.pictures if one.picture == picture]
    try:
        return Curve([(one.bpp, one.psnr) for one in measured if one.psnr is not None])
    except ValueError:
        return None


def setups(results: Results) -> Table:
    """How each codec was set, and what it used."""
    rows = []
    for codec in results.codecs.values():
        cores = max(point.busy for point in codec.points)
        rows.append([codec.label, setup(codec), str(codec.threads), f"{cores:.2f}", versions_of(codec)])
    return Table(["codec", "set to", "threads", "cores busy", "versions"], rows)


def setup(codec: CodecResult) -> str:
    """How a codec is set, and what computes a model."""
    return codec.description + (f", {codec.engine}" if codec.engine else "")


def versions_of(codec: CodecResult) -> str:
    return ", ".join(f"{name} {version}" for name, version in codec.versions.items())


def all_points(codec: CodecResult) -> Table:
    """Every measured point, and under it those of the pictures."""
    rows = []
    for point in codec.points:
        rows.append([str(point.setting), "mean", *_numbers(point)])
        rows += [[str(point.setting), picture.picture, *_numbers(picture)] for picture in point.pictures]
    return Table(["setting", "picture", "bpp", "PSNR", "MS-SSIM", "encode", "decode"], rows)


def _numbers(one: Point | Measurement) -> list[str]:
    psnr = "-" if one.psnr is None else f"{one.psnr:.3f}"
    ms_ssim = "-" if one.ms_ssim is None else f"{one.ms_ssim:.5f}"
    return [f"{one.bpp:.4f}", psnr, ms_ssim, milliseconds(one.encode_s), milliseconds(one.decode_s)]


# ---- colours ---------------------------------------------------------------------------------------------------------


class Shade(NamedTuple):
    """How a cell of the matrix looks: green saves rate, red costs it."""

    colour: str  # of CSS
    title: str  # where the curves were compared, and warnings


def shades(results: Results, metric: str) -> list[list[Shade | None]]:
    """Of the cells of `matrix`; None where there is no number."""
    anchors = results.bd_rate[metric]
    return [[_shade(anchors[anchor].get(test)) for anchor in anchors] for test in anchors]


def _shade(change: Delta | None) -> Shade | None:
    if change is None or change.percent is None:
        return None
    strength = min(abs(change.percent), STRONGEST) / STRONGEST * 0.45
    hue = "47,158,68" if change.percent < 0 else "224,49,49"
    covered = f"{change.low:.1f} to {change.high:.1f}, {change.overlap:.0%} of the shorter curve"
    title = "; ".join([covered, *change.warnings])
    return Shade(f"rgba({hue},{strength:.2f})", title)
