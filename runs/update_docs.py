"""Puts an evaluation into the documentation: README.md's table, docs/results.md and docs/results.svg.

    python runs/update_docs.py REPORT

REPORT is the folder of `hpcm eval KODAK -o REPORT`. In each file, what stands between the lines `<!-- results -->` and
`<!-- /results -->` is replaced; everything else stays.
"""

import json
import sys
from pathlib import Path
from shutil import copyfile

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


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    report = Path(sys.argv[1])
    results = json.loads((report / "results.json").read_text(encoding="utf-8"))
    if not results["is_kodak"]:
        sys.exit(f"{report} is no evaluation of Kodak's 24 pictures, which the documents speak of")
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
    parts += ["### Time and memory", markdown(*memory_and_times(results)), "### Settings"]
    parts.append("\n".join(f"- {codec['label']}: {codec['said']}" for codec in results["codecs"].values()))
    between_marks(ROOT / "docs" / "results.md", "\n\n".join(parts))
    copyfile(report / "rd-psnr.svg", ROOT / "docs" / "results.svg")
    print("README.md  docs/results.md  docs/results.svg")


if __name__ == "__main__":
    main()
