"""Results -> report.html, one file that needs nothing else, and the table in Markdown."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from . import plots
from .bdrate import COLUMNS, Curve, delta

PAGE = Path(__file__).with_name("page.html")
NAMES = {"psnr": "PSNR", "ms_ssim_db": "MS-SSIM", "ssimulacra2": "SSIMULACRA 2"}
PARTS = ("network", "entropy", "file")
STRONGEST = 60  # percent: the BD-rate that has the strongest colour
Results = dict[str, Any]


def write_report(results: Results, compared: Sequence[dict[str, Any]], folder: Path) -> None:
    """report.html, and the plots as rd-psnr and rd-ms-ssim, .svg and .png."""
    drawn = []
    for quality in NAMES:
        if (figure := plots.plot(results, quality)) is not None:
            stem = folder / f"rd-{quality.removesuffix('_db').replace('_', '-')}"
            plots.save(figure, stem)
            drawn.append(f"<figure>{plots.svg(figure)}</figure>")
    filled = {
        "TITLE": _e(f"{len(results['pictures'])} pictures, {len(results['codecs'])} codecs"),
        "LEAD": _e(conditions(results)),
        "SUMMARY": _html_table(*summary(results)),
        "PLOTS": "\n".join(drawn),
        "MATRICES": "\n".join(_matrix(results, quality) for quality in NAMES if results["bd_rate"].get(quality)),
        "WARNINGS": _list([*results["warnings"], *results["partial"]]) or "<p>None.</p>",
        "TIMES": _html_table(*memory_and_times(results)),
        "PICTURES": _html_table(*_pictures(results)),
        "POINTS": _points(results),
        "CODECS": _html_table(["codec", "set to", "threads", "cores busy", "versions"], _codecs(results), of="texts"),
        "PUBLISHED": _published(results),
        "MACHINE": _e(json.dumps({key: results[key] for key in ("machine", "versions", "options")}, indent=1)),
        "COMPARED": json.dumps(list(compared)).replace("</", "<\\/"),
    }
    page = PAGE.read_text(encoding="utf-8")
    for name, text in filled.items():
        page = page.replace(f"@{name}@", text)
    (folder / "report.html").write_text(page, encoding="utf-8")


def conditions(results: Results) -> str:
    """When, on what and how the numbers were measured, in a sentence or two."""
    computer, commit = results["machine"], results["commit"] or "unknown"
    engines = dict.fromkeys(codec["engine"] for codec in results["codecs"].values() if codec.get("engine"))
    parts = [results["date"][:10], computer["cpu"], counted(computer["cores"], "core")]
    parts += [f"Python {computer['python']}", *(f"{engine} {results['versions'][engine]}" for engine in engines)]
    return f"{', '.join(parts)}, commit {commit}; {timed_with(results)}."


def timed_with(results: Results) -> str:
    """How many threads each codec had, and how many processes measured at once."""
    threads = " or ".join(map(str, sorted({how["threads"] for how in results["timed_with"]})))
    jobs = " or ".join(map(str, sorted({how["jobs"] for how in results["timed_with"]})))
    plural = "s" * (threads != "1")
    together = "one picture at a time" if jobs == "1" else f"{jobs} processes at once"
    pictures = f", {results['timed_pictures']} of the pictures" if "timed_pictures" in results else ""
    return f"each codec timed with {threads} thread{plural}, {together}{pictures}"


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


# ---- tables: heads and rows of texts ---------------------------------------------------------------------------------


def summary(results: Results) -> tuple[list[str], list[list[str]]]:
    """The table of the README: PSNR at rates, BD-rate against JPEG between fixed qualities, times."""
    rates, vtm = [str(rate) for rate in COLUMNS], results["bd_rate"]["psnr"].get("vtm")
    heads = ["codec", *(f"PSNR at {rate} bpp" for rate in rates), "BD-rate vs JPEG"]
    heads += [*(["vs VTM (published)"] if vtm else []), "encode", "decode"]
    rows = []
    for name, codec in results["codecs"].items():
        at = codec.get("at", {}).get("psnr", dict.fromkeys(rates))
        row = [codec["label"], *("-" if at[rate] is None else f"{at[rate]:.2f} dB" for rate in rates)]
        row.append(saving(codec.get("vs_jpeg", {}).get("psnr")))
        row += [saving(vtm.get(name))] if vtm else []
        rows.append(row + [f"{_middle(codec, key):.3f} s" for key in ("encode_s", "decode_s")])
    return heads, rows


def markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def saving(found: dict[str, Any] | None) -> str:
    """A BD-rate as a text, and the part of the qualities that it covers if that isn't all."""
    if found is None or found["percent"] is None:
        return "-"
    return f"{found['percent']:+.1f}%" + (f" (over {found['overlap']:.0%})" if found["overlap"] < 0.995 else "")


def _middle(codec: dict[str, Any], key: str) -> float:
    """A codec's time: the median over its settings (of the medians over pictures)."""
    ordered = sorted(p[key] for p in timed(codec)["points"])
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def timed(codec: dict[str, Any]) -> dict[str, Any]:
    """Where a codec's times are: its own, or those of another report (tools/update_docs.py --times)."""
    found: dict[str, Any] = codec.get("timed", codec)
    return found


def matrix(results: Results, quality: str) -> tuple[list[str], list[list[str]]]:
    """BD-rates of the rows' codecs against the columns' anchors; a star marks what is published."""
    found = results["bd_rate"][quality]
    labels = {name: f"{c['label']}\u00a0*" for name, c in results["published"].items()}
    labels |= {name: c["label"] for name, c in results["codecs"].items()}
    rows = [[labels[test], *(_percent(found[anchor].get(test)) for anchor in found)] for test in found]
    return ["against", *(labels[name] for name in found)], rows


def _percent(found: dict[str, Any] | None) -> str:
    """Empty for a codec against itself; an exclamation mark where there is a warning."""
    if found is None:
        return ""
    return "-" if found["percent"] is None else f"{found['percent']:+.1f}%" + "!" * bool(found["warnings"])


def memory_and_times(results: Results) -> tuple[list[str], list[list[str]]]:
    """Of the setting in the middle of each codec's; hpcm's also split into parts."""
    heads = ["codec", "setting", "encode", " / ".join(PARTS), "decode", " / ".join(PARTS), "peak memory"]
    rows = []
    for codec in map(timed, results["codecs"].values()):
        point = codec["points"][len(codec["points"]) // 2]
        row = [codec["label"], str(point["setting"])]
        for way in ("encode", "decode"):
            split = point.get(f"{way}_split", {})
            row.append(f"{1000 * point[f'{way}_s']:.1f} ms")
            row.append(" / ".join(f"{1000 * split[part]:.1f}" for part in PARTS) + " ms" if split else "")
        rows.append([*row, f"{codec['peak_mib']:.0f} MiB" if "peak_mib" in codec else ""])
    return heads, rows


def _pictures(results: Results) -> tuple[list[str], list[list[str]]]:
    """BD-rate of every codec on every picture, against the first codec."""
    first, *others = results["codecs"]
    heads = ["picture", *(f"{results['codecs'][name]['label']}" for name in others)]
    rows = []
    for picture in (p["name"] for p in results["pictures"]):
        anchor = curve_of_picture(results["codecs"][first], picture)
        curves = [curve_of_picture(results["codecs"][name], picture) for name in others]
        found = [delta(anchor, curve).percent if anchor and curve else None for curve in curves]
        rows.append([picture, *("-" if percent is None else f"{percent:+.1f}%" for percent in found)])
    return heads, rows


def curve_of_picture(codec: dict[str, Any], picture: str) -> Curve | None:
    """A codec's PSNR curve on one picture; None with fewer than two points."""
    rows = [row for p in codec["points"] for row in p["pictures"] if row["picture"] == picture]
    try:
        return Curve([(row["bpp"], row["psnr"]) for row in rows])
    except ValueError:
        return None


def _codecs(results: Results) -> list[list[str]]:
    rows = []
    for codec in results["codecs"].values():
        busy = max(point["busy"] for point in codec["points"])
        versions = ", ".join(f"{name} {version}" for name, version in codec["versions"].items())
        rows.append([codec["label"], setup(codec), str(codec["threads"]), f"{busy:.2f}", versions])
    return rows


def setup(codec: dict[str, Any]) -> str:
    """How a codec is set, and what computes a model."""
    return codec["said"] + (f", {codec['engine']}" if codec.get("engine") else "")


# ---- HTML ------------------------------------------------------------------------------------------------------------


def _e(text: object) -> str:
    return html.escape(str(text))


def _html_table(heads: Sequence[str], rows: Iterable[Sequence[str]], of: str = "") -> str:
    head = "".join(f"<th>{_e(text)}</th>" for text in heads)
    body = "".join("<tr>" + "".join(f"<td>{_e(text)}</td>" for text in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table class="{of}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _list(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{_e(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def _matrix(results: Results, quality: str) -> str:
    """`matrix` in colours: green saves rate, red costs it."""
    heads, _ = matrix(results, quality)
    found = results["bd_rate"][quality]
    head = "".join(f"<th>{_e(text)}</th>" for text in heads)
    rows = []
    for label, test in zip(heads[1:], found, strict=True):
        cells = "".join(_cell(found[anchor].get(test)) for anchor in found)
        rows.append(f"<tr><th>{_e(label)}</th>{cells}</tr>")
    table = f'<table class="matrix"><tr>{head}</tr>{"".join(rows)}</table>'
    return f'<h3>{NAMES[quality]}</h3><div class="wide">{table}</div>'


def _cell(found: dict[str, Any] | None) -> str:
    if found is None or found["percent"] is None:
        return f"<td>{_percent(found)}</td>"
    strength = min(abs(found["percent"]), STRONGEST) / STRONGEST * 0.45
    colour = f"rgba({'47,158,68' if found['percent'] < 0 else '224,49,49'},{strength:.2f})"
    where = f"{found['low']:.1f} to {found['high']:.1f}" + "".join(f"; {text}" for text in found["warnings"])
    return f'<td style="background:{colour}" title="{_e(where)}">{_percent(found)}</td>'


def _points(results: Results) -> str:
    """Every measured point, and under it those of the pictures, folded away."""
    parts = []
    for codec in results["codecs"].values():
        heads = ["setting", "picture", "bpp", "PSNR", "MS-SSIM", "encode", "decode"]
        rows = []
        for point in codec["points"]:
            for row in [{"picture": "mean", **point}, *point["pictures"]]:
                similarity = "" if row["ms_ssim"] is None else f"{row['ms_ssim']:.5f}"
                times = [f"{1000 * row[key]:.1f} ms" for key in ("encode_s", "decode_s")]
                told = [str(point["setting"]), row["picture"], f"{row['bpp']:.4f}", f"{row['psnr']:.3f}", similarity]
                rows.append(told + times)
        parts.append(f"<details><summary>{_e(codec['label'])}</summary>{_html_table(heads, rows)}</details>")
    return "\n".join(parts)


def _published(results: Results) -> str:
    if not results["published"]:
        return "<p>None: they are over Kodak's 24 pictures, and these are others.</p>"
    note = "" if results["is_kodak"] else "<p><b>These curves are over other pictures: don't compare.</b></p>"
    return note + _list(f"{c['label']} *: {c['source']}" for c in results["published"].values())
