"""The table of efforts in docs/effort.md: what each saves, and how long it takes.

    hpcm eval KODAK --model nano --effort 0,1,2,3,4,5,6,7,8,9 --codecs "" --qualities 16,36,56,72 -o REPORT
    python tools/efforts.py REPORT...

Each REPORT is the folder of an evaluation of models with several efforts, effort 0 among them.
"""

import re
import sys
from pathlib import Path

from update_docs import ROOT, between_marks

from hpcm.codec.search import EFFORTS
from hpcm.eval.report import conditions, markdown, saving
from hpcm.eval.results import Results, load

HEADS = ["model", "effort", "iterations", "BD-rate (PSNR)", "BD-rate (MS-SSIM)", "encode", "times as long"]


def rows(results: Results) -> list[list[str]]:
    """A row for each codec that is a model with an effort, against the same without."""
    table = []
    for name in results.codecs:
        if not (parts := re.fullmatch(r"(.+)-e([1-9])", name)) or parts[1] not in results.codecs:
            continue
        plain, effort = parts[1], int(parts[2])
        rates = [saving(results.bd_rate.get(q, {}).get(plain, {}).get(name)) for q in ("psnr", "ms_ssim_db")]
        seconds, before = (results.codecs[each].median_time("encode_s") for each in (name, plain))
        table.append(
            [plain, str(effort), str(EFFORTS[effort].iterations), *rates, f"{seconds:.1f} s", f"{seconds / before:.0f}"]
        )
    return table


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    parts = []
    for report in sys.argv[1:]:
        results = load(Path(report))
        count, qualities = len(results.pictures), results.options["qualities"]
        pictures = "Kodak's 24 pictures" if results.whole_set == "kodak" else f"{count} pictures"
        caption = f"{pictures} at qualities {', '.join(map(str, qualities))}; {conditions(results)}"
        parts.append(f"{markdown(HEADS, rows(results))}\n\n{caption}")
    between_marks(ROOT / "docs" / "effort.md", "\n\n".join(parts))
    print("docs/effort.md")


if __name__ == "__main__":
    main()
