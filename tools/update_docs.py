"""Puts an evaluation into the documentation: README.md's table, docs/results.md and docs/results.svg.

    python tools/update_docs.py REPORT... [--times REPORT]

REPORT is the folder of `hpcm eval KODAK --ssimulacra2 -o REPORT`. Several reports, of other codecs or efforts, are put
together in their order. Times and memory may come from a report of their own (--times), of the same codecs on some of
the pictures (`hpcm eval --limit`) and at some of the settings, so that rates can be measured in several processes, and
times one by one. In each file, what stands between the lines `<!-- results -->` and `<!-- /results -->` is replaced;
everything else stays.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from hpcm.eval import report as tables
from hpcm.eval.comparison import compared
from hpcm.eval.plots import plot, save_svg
from hpcm.eval.report import counted, markdown
from hpcm.eval.results import METRICS, CodecResult, Results, load

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- results -->\n", "<!-- /results -->"


def between_marks(file: Path, text: str) -> None:
    """Replaces what stands between the marks of a file."""
    before, begin, rest = file.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        sys.exit(f"{file} has no lines {BEGIN.strip()} and {END}")
    file.write_text(f"{before}{BEGIN}{text.strip()}\n{END}{after}", encoding="utf-8")


def together(reports: list[Path]) -> Results:
    """The results of one or several reports on the same pictures; a codec counts where it comes first."""
    first, *others = map(load, reports)
    codecs, timed_with = dict(first.codecs), list(first.timed_with)
    for other in others:
        if [picture.hash for picture in other.pictures] != [picture.hash for picture in first.pictures]:
            sys.exit("the reports are of different pictures")
        codecs |= {name: codec for name, codec in other.codecs.items() if name not in codecs}
        timed_with += [how for how in other.timed_with if how not in timed_with]
    return compared(replace(first, codecs=codecs, timed_with=timed_with))


def times_for(results: Results, times: Results) -> Results:
    """The times of the same codecs. Exits where those are of another codec or machine."""
    if times.machine != results.machine:
        sys.exit("the times are from another machine")
    codecs = {}
    for name, codec in results.codecs.items():
        if name not in times.codecs:
            sys.exit(f"there are no times of {name}")
        timed = times.codecs[name]
        for what in ("description", "versions", "weights_sha256", "engine", "threads"):
            have, expected = getattr(timed, what), getattr(codec, what)
            if have != expected:
                sys.exit(f"the times are of another {name}: {what} is {have} instead of {expected}")
        codecs[name] = timed
    return replace(times, codecs=codecs)


def settings(codec: CodecResult) -> str:
    """How a codec is set and what it used, as an item of a list."""
    how = f"{tables.setup(codec)}, {counted(codec.threads, 'thread')}"
    return f"- {codec.label}: {how}; {tables.versions_of(codec)}"


def summary(results: Results, times: Results) -> str:
    """The README's table, and what it is about."""
    parts = [
        markdown(*tables.summary(results, times)),
        " ".join(tables.notes(results)),
        tables.conditions(results, times),
    ]
    return "\n\n".join(parts)


def details(results: Results, times: Results) -> list[str]:
    """The parts of docs/results.md below the README's table."""
    parts = ["![Rate and PSNR of the codecs](results.svg)"]
    metrics = results.metrics
    parts.append("### Quality at other rates")
    parts += [markdown(*tables.qualities(results, metric)) for metric in metrics]
    for metric in metrics:
        parts.append(f"### BD-rate by {METRICS[metric].name}")
        if metric == metrics[0]:
            parts.append("Of the row's codec against the column's; \\* as published.")
        parts.append(markdown(*tables.matrix(results, metric)))
    parts += ["### Time and memory", markdown(*tables.memory_and_times(times))]
    parts += ["### Settings", "\n".join(settings(codec) for codec in results.codecs.values())]
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="+", type=Path, metavar="REPORT")
    parser.add_argument("--times", type=Path, metavar="REPORT", help="where the times are from; by default the same")
    options = parser.parse_args()
    results = together(options.reports)
    times = times_for(results, load(options.times)) if options.times else results
    if results.whole_set != "kodak":
        sys.exit("this is no evaluation of Kodak's 24 pictures, which the documents speak of")
    table = summary(results, times)
    between_marks(ROOT / "README.md", table)
    between_marks(ROOT / "docs" / "results.md", "\n\n".join([table, *details(results, times)]))
    if (figure := plot(results, "psnr")) is not None:
        save_svg(figure, ROOT / "docs" / "results.svg")
    print("README.md  docs/results.md  docs/results.svg")


if __name__ == "__main__":
    main()
