"""Puts an evaluation into the documentation: README.md's table, docs/results.md and docs/results.svg.

    python runs/update_docs.py REPORT...

REPORT is the folder of `hpcm eval KODAK -o REPORT`. Several reports, of other codecs or efforts, are put together in
their order. In each file, what stands between the lines `<!-- results -->` and `<!-- /results -->` is replaced;
everything else stays.
"""

import json
import sys
from pathlib import Path

from hpcm.eval.evaluate import comparisons
from hpcm.eval.plots import plot, save_svg
from hpcm.eval.report import conditions, markdown, matrix, memory_and_times, summary

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- results -->\n", "<!-- /results -->"


def between_marks(file: Path, text: str) -> None:
    """Replaces what stands between the marks of a file."""
    before, begin, rest = file.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        sys.exit(f"{file} has no lines {BEGIN.strip()} and {END}")
    file.write_text(f"{before}{BEGIN}{text.strip()}\n{END}{after}", encoding="utf-8")


def together(reports: list[Path]) -> dict:
    """The results of one or several reports on the same pictures; a codec counts where it comes first."""
    first, *others = (json.loads((report / "results.json").read_text(encoding="utf-8")) for report in reports)
    codecs, timed_with = dict(first["codecs"]), list(first["timed_with"])
    for other in others:
        if [p["hash"] for p in other["pictures"]] != [p["hash"] for p in first["pictures"]]:
            sys.exit("the reports are of different pictures")
        codecs |= {name: codec for name, codec in other["codecs"].items() if name not in codecs}
        timed_with += [how for how in other["timed_with"] if how not in timed_with]
    return first | {"codecs": codecs, "timed_with": timed_with, **comparisons(codecs, list(first["published"]))}


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    reports = [Path(report) for report in sys.argv[1:]]
    results = together(reports)
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
    parts.append("\n".join(f"- {codec['label']}: {codec['said']}" for codec in results["codecs"].values()))
    between_marks(ROOT / "docs" / "results.md", "\n\n".join(parts))
    if (figure := plot(results, "psnr")) is not None:
        save_svg(figure, ROOT / "docs" / "results.svg")
    print("README.md  docs/results.md  docs/results.svg")


if __name__ == "__main__":
    main()
