"""Rate, quality and speed of hpcm beside JPEG, WebP, AVIF and JPEG XL over Kodak's 24 pictures: the README's table.

    python benchmarks/kodak.py KODAK [more arguments of hpcm eval]

It is `hpcm eval` with one process, so that the times can be compared, and a folder of today's date for the report;
`hpcm.eval` says how everything is measured. `tools/update_docs.py` puts the result into the documentation.
"""

import sys
from datetime import datetime, timezone
from pathlib import Path

from hpcm.cli import main

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(__doc__)
    report = Path(__file__).parent / "results" / f"kodak-{datetime.now(timezone.utc):%Y-%m-%d}"
    sys.exit(main(["eval", "--output", str(report), *sys.argv[1:]]))
