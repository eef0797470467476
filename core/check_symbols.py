"""Says what is wrong with the functions that an installed library shows: python core/check_symbols.py LIBRARY

They must be those of core/file/symbols.txt, which are those of core/file/decode.h: whatever else a library shows would
be called by somebody, and could never change again. `nm` reads the library, of ELF or Mach-O.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

READER = Path(__file__).resolve().parent / "file"
HEADER = READER / "decode.h"
SYMBOLS = READER / "symbols.txt"


def declared(header: Path) -> set[str]:
    """The functions that a header gives to others."""
    return set(re.findall(r"^HPCM_API [^;(]*?(\w+)\(", header.read_text("utf-8"), re.MULTILINE))


def exported(library: Path) -> set[str]:
    """What a library shows, functions and data. Raises OSError without nm, and CalledProcessError where it fails."""
    is_elf = library.read_bytes().startswith(b"\x7fELF")
    line = ["nm", "-D", "--defined-only"] if is_elf else ["nm", "-g", "-U"]
    listed = subprocess.run([*line, library], check=True, capture_output=True, text=True).stdout
    symbols = set()
    for entry in listed.splitlines():
        *_, kind, name = entry.split()
        if kind == "A":  # a version of symbols, HPCM_0
            continue
        name = name.partition("@")[0]  # hpcm_open@@HPCM_0
        symbols.add(name if is_elf else name.removeprefix("_"))
    return symbols


def faults(library: Path) -> Iterator[str]:
    """What is wrong with a library, a line each. Raises as `exported`."""
    listed = set(SYMBOLS.read_text("utf-8").split())
    if differing := listed ^ declared(HEADER):
        yield f"{SYMBOLS.name} and {HEADER.name} differ in {', '.join(sorted(differing))}"
    shown = exported(library)
    if missing := listed - shown:
        yield f"it lacks {', '.join(sorted(missing))}"
    if superfluous := shown - listed:
        yield f"it shows more than {SYMBOLS.name}: {', '.join(sorted(superfluous))}"


if __name__ == "__main__":
    found = list(faults(Path(sys.argv[1])))
    if found:
        sys.exit(f"{sys.argv[1]}: {'; '.join(found)}")
