"""A photograph there and back through the command line, as anybody would type it.

    python examples/demo.py [picture] [--quality 1..100] [--output FOLDER]

The picture is copied into the folder (by default demo-output in the current one), so that the original, the .hpcm file
and what it decodes to lie side by side to look at. Nothing of yours is touched; the next run overwrites its own files.
"""

import argparse
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from hpcm.image.picture import rgb_of

SAMPLE = Path(__file__).resolve().parents[1] / "tests" / "data" / "kodim23.png"


def hpcm(*arguments: str | Path) -> None:
    """Run the `hpcm` command of this environment; shows the line it runs and stops at an error."""
    print("$ hpcm", *arguments, flush=True)
    status = subprocess.run([sys.executable, "-m", "hpcm", *map(str, arguments)]).returncode
    if status:
        sys.exit(status)


def psnr(a: Path, b: Path) -> float:
    """Peak signal-to-noise ratio of two picture files in dB, over 8-bit RGB."""
    x, y = (rgb_of(Image.open(path)).astype(np.float64) for path in (a, b))
    mse = np.mean((x - y) ** 2)
    return 10 * math.log10(255**2 / mse) if mse else math.inf


def main() -> None:
    parser = argparse.ArgumentParser(description="A photograph there and back.")
    parser.add_argument("picture", type=Path, nargs="?", default=SAMPLE, help="a picture file (default: a sample)")
    parser.add_argument("--quality", type=int, default=50, metavar="1..100")
    parser.add_argument(
        "--output", type=Path, default=Path("demo-output"), metavar="FOLDER", help="default: demo-output"
    )
    arguments = parser.parse_args()

    folder = arguments.output
    folder.mkdir(parents=True, exist_ok=True)
    original = folder / f"original{arguments.picture.suffix}"
    compressed, restored = folder / "compressed.hpcm", folder / "decoded.png"
    shutil.copy(arguments.picture, original)
    hpcm("compress", original, "-o", compressed, "--quality", str(arguments.quality), "-f")
    hpcm("decompress", compressed, "-o", restored, "-f")

    before, after = original.stat().st_size, compressed.stat().st_size
    width, height = Image.open(original).size
    bpp = 8 * after / (width * height)
    print(f"{arguments.picture.name}  {width} x {height}")
    print(f"  original   {before:>9,} bytes              {original}")
    print(f"  .hpcm      {after:>9,} bytes              {compressed}")
    print(f"  decoded    {psnr(original, restored):>9.2f} dB PSNR            {restored}")
    print(f"{before / after:.1f} times smaller, {bpp:.3f} bits per pixel. Look at {original} and {restored}.")


if __name__ == "__main__":
    main()
