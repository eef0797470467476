"""A photograph there and back through the command line, as anybody would type it.

    python examples/demo.py [picture] [--quality 1..100]

The picture is copied into a temporary folder first, so nothing is left behind and nothing of yours is touched.
"""

import argparse
import math
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

SAMPLE = Path(__file__).resolve().parents[1] / "tests" / "data" / "kodim23.png"


def hpcm(*arguments: str | Path) -> None:
    """Run the `hpcm` command of this environment; shows the line it runs and stops at an error."""
    print("$ hpcm", *(Path(a).name if isinstance(a, Path) else a for a in arguments), flush=True)
    status = subprocess.run([sys.executable, "-m", "hpcm", *map(str, arguments)]).returncode
    if status:
        sys.exit(status)


def psnr(a: Path, b: Path) -> float:
    """Peak signal-to-noise ratio of two picture files in dB, over 8-bit RGB."""
    x, y = (np.asarray(Image.open(path).convert("RGB"), dtype=np.float64) for path in (a, b))
    mse = np.mean((x - y) ** 2)
    return 10 * math.log10(255**2 / mse) if mse else math.inf


def main() -> None:
    parser = argparse.ArgumentParser(description="A photograph there and back.")
    parser.add_argument("picture", type=Path, nargs="?", default=SAMPLE, help="a picture file (default: a sample)")
    parser.add_argument("--quality", type=int, default=50, metavar="1..100")
    arguments = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        there, back = Path(folder, "there"), Path(folder, "back")
        there.mkdir()
        back.mkdir()
        original = Path(shutil.copy(arguments.picture, there))
        hpcm("compress", original, "--quality", str(arguments.quality))
        (compressed,) = there.glob("*.hpcm")
        # decompress infers the picture's own name and overwrites nothing, so it works in a folder of its own
        compressed = compressed.rename(back / compressed.name)
        hpcm("decompress", compressed)
        (restored,) = back.glob("*.png")

        before, after = original.stat().st_size, compressed.stat().st_size
        width, height = Image.open(original).size
        print(f"{original.name}  {width} x {height}")
        print(f"  original   {before:>9,} bytes")
        bpp = 8 * after / (width * height)
        print(f"  .hpcm      {after:>9,} bytes   {before / after:.1f} times smaller, {bpp:.3f} bits per pixel")
        print(f"  PSNR       {psnr(original, restored):>9.2f} dB")


if __name__ == "__main__":
    main()
