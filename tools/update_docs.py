"""Puts an evaluation into the documentation: README.md's table, docs/results.md and docs/results.svg.

    python tools/update_docs.py REPORT... [--times REPORT]

REPORT is the folder of `hpcm eval KODAK -o REPORT`. Several reports, of other codecs or efforts, are put together in
their order. Times and memory may come from a report of their own (--times), of the same codecs on some of the pictures
(`hpcm eval --limit`) and at some of the settings, so that rates can be measured in several processes, and times one by
one. In each file, what stands between the lines `<!-- results -->` and `<!-- /results -->` is replaced; everything else
stays.
"""

import argparse
import json
import sys
from pathlib import Path

from hpcm.eval.evaluate import comparisons
from hpcm.eval.plots import plot, save_svg
from hpcm.eval.report import conditions, counted, markdown, matrix, memory_and_times, setup, summary

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- results -->\n", "<!-- /results -->"


def between_marks(file: Path, text: str) -> None:
    """Replaces what stands between the marks of a file."""
    before, begin, rest = file.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        sys.exit(f"{file} has no lines {BEGIN.strip()} and {END}")
    file.write_text(f"{before}{BEGIN}{text.strip()}\n{END}{after}", encoding="utf-8")


def read(report: Path) -> dict:
    return dict(json.loads((report / "results.json").read_text(encoding="utf-8")))


def with_times_of(results: dict, timed: dict) -> dict:
    """The results with the times and the memory of others. Exits where those are of another codec or machine."""
    if timed["machine"] != results["machine"]:
        sys.exit("the times are from another machine")
    codecs = {}
    for name, codec in results["codecs"].items():
        other = timed["codecs"].get(name, {})
        for what in ("said", "versions", "weights_sha256", "engine", "threads"):
            if other.get(what) != codec.get(what):
                sys.exit(f"the times are of another {name}: {what} is {other.get(what)} instead of {codec.get(what)}")
        codecs[name] = {**codec, "timed": other}
    fewer = {"timed_pictures": len(timed["pictures"])} if len(timed["pictures"]) < len(results["pictures"]) else {}
    return {**results, "codecs": codecs, "timed_with": timed["timed_with"], **fewer}


def together(reports: list[Path]) -> dict:
    """The results of one or several reports on the same pictures; a codec counts where it comes first."""
    first, *others = map(read, reports)
    codecs, timed_with = dict(first["codecs"]), list(first["timed_with"])
    for other in others:
        if [p["hash"] for p in other["pictures"]] != [p["hash"] for p in first["pictures"]]:
            sys.exit("the reports are of different pictures")
        codecs |= {name: codec for name, codec in other["codecs"].items() if name not in codecs}
        timed_with += [how for how in other["timed_with"] if how not in timed_with]
    return first | {"codecs": codecs, "timed_with": timed_with, **comparisons(codecs, list(first["published"]))}


def settings(codec: dict) -> str:
    """How a codec is set and what it used, as an item of a list."""
    versions = ", ".join(f"{name} {version}" for name, version in codec["versions"].items())
    return f"- {codec['label']}: {setup(codec)}, {counted(codec['threads'], 'thread')}; {versions}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="+", type=Path, metavar="REPORT")
    parser.add_argument("--times", type=Path, metavar="REPORT", help="where the times are from; by default the same")
    options = parser.parse_args()
    results = together(options.reports)
    if options.times:
        results = with_times_of(results, read(options.times))
    if not results["is_kodak"]:
        sys.exit("this is no evaluation of Kodak's 24 pictures, which the documents speak of")
    table = f"{markdown(*summary(results))}\n\nKodak's 24 pictures; {conditions(results)}"
    between_marks(ROOT / "README.md", table)
    parts = [
        table,
        "![Rate and PSNR of the codecs](results.svg)",
        "### BD-rate by PSNR\n\nOf the row's codec against the column's; \\* as published.",
        markdown(*matrix(results, "psnr")),
    ]
    if "ms_ssim_db" in results["bd_rate"]:
        parts += ["### BD-rate by MS-SSIM", markdown(*matrix(results, "ms_ssim_db"))]
    if results["bd_rate"].get("ssimulacra2"):
        parts += ["### BD-rate by SSIMULACRA 2", markdown(*matrix(results, "ssimulacra2"))]
    parts += ["### Time and memory", markdown(*memory_and_times(results)), "### Settings"]
    parts.append("\n".join(settings(codec) for codec in results["codecs"].values()))
    between_marks(ROOT / "docs" / "results.md", "\n\n".join(parts))
    if (figure := plot(results, "psnr")) is not None:
        save_svg(figure, ROOT / "docs" / "results.svg")
    print("README.md  docs/results.md  docs/results.svg")


if __name__ == "__main__":
    main()
