"""Makes the polyfill's demo: a folder that any file server can serve.

    python web/demo/make.py OUT [--pictures 40] [--quality 32]     after `make page`; needs ssimulacra2
    python -m http.server -d OUT 8000                              then http://localhost:8000/

    index.html, gallery.html, savings.html    the pages
    hpcm/                                     what `node build.js` makes, and the models nano-1 and lite-1
    hpcm-polyfill-worker.js                   the service worker, at the top, so that it serves all pages
    pictures/                                 cuts of two of Kodak's pictures as .hpcm, and as JPEG
    pictures.json, savings.json               their sizes in bytes and their SSIMULACRA 2

Each JPEG has the lowest quality whose SSIMULACRA 2 isn't below that of the .hpcm file, so that both look equally good
by this metric. JPEGs are progressive with optimized tables, 4:2:0, by Pillow.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import random
import shutil
import subprocess
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

import hpcm
from hpcm.eval.metrics import ssimulacra2

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
ORIGINALS = [ROOT / f"tests/data/kodim{number}.png" for number in (20, 23)]
MODELS = ["nano-1", "lite-1"]
QUALITIES = [16, 32, 49]  # of the savings
LARGE = (4000, 3000)  # columns and rows of the gallery's last picture
SIDES = (384, 512)  # rows of a cut, at least and at most
WORKER = "hpcm-polyfill-worker.js"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--pictures", type=int, default=40)
    parser.add_argument("--quality", type=int, default=32, help="of the gallery, which nano encodes")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    add_site(given.out)
    add_gallery(given.out, given.pictures, given.quality)
    add_savings(given.out)


def add_site(out: Path) -> None:
    """Pages, polyfill and models."""
    subprocess.run(
        ["node", str(HERE.parent / "build.js"), str(out.resolve() / "hpcm")], check=True, stdout=subprocess.DEVNULL
    )
    shutil.copy(out / "hpcm" / WORKER, out / WORKER)
    for page in HERE.glob("*.html"):
        shutil.copy(page, out / page.name)
    models = out / "hpcm/models"
    models.mkdir(exist_ok=True)
    entries = []
    for name in MODELS:
        file = ROOT / f"src/hpcm/model/assets/{name}.safetensors"
        data = file.read_bytes()
        packed = models / f"{file.name}.gz"
        packed.write_bytes(gzip.compress(data, mtime=0))
        digest = hashlib.sha256(data).hexdigest()
        entries.append({"name": name, "hash": digest[:16], "sha256": digest, "file": packed.name, "bytes": len(data)})
    (models / "index.json").write_text(json.dumps({"default": MODELS[0], "models": entries}))


def add_gallery(out: Path, count: int, quality: int) -> None:
    """Cuts of the originals, every other one mirrored, and a large one that repeats them."""
    folder = out / "pictures"
    folder.mkdir(exist_ok=True)
    originals = [Image.open(path).convert("RGB") for path in ORIGINALS]
    chosen = random.Random(0)
    listed = []
    for i in range(count):
        original = originals[i % len(originals)]
        height = chosen.randrange(*SIDES)
        width = height * 3 // 2
        left = chosen.randrange(original.width - width + 1)
        top = chosen.randrange(original.height - height + 1)
        cut = original.crop((left, top, left + width, top + height))
        picture = ImageOps.mirror(cut) if i % 4 > 1 else cut
        listed.append({"name": f"{i:02}", **both(picture, folder / f"{i:02}", "nano-1", quality)})
    write(out / "pictures.json", listed)
    large = Image.new("RGB", LARGE)
    for top in range(0, LARGE[1], originals[0].height):
        for left in range(0, LARGE[0], originals[0].width):
            large.paste(originals[(top + left) // 256 % 2], (left, top))
    (folder / "large.hpcm").write_bytes(hpcm.compress(large, model="nano-1", quality=quality))


def add_savings(out: Path) -> None:
    """The originals with each model, at several qualities."""
    folder = out / "pictures"
    rows = []
    for model in MODELS:
        for path in ORIGINALS:
            for quality in QUALITIES:
                name = f"{path.stem}-{model}-{quality}"
                found = both(Image.open(path).convert("RGB"), folder / name, model, quality)
                rows.append({"name": name, "model": model, "quality": quality, **found})
    write(out / "savings.json", rows)


def write(path: Path, rows: list[dict[str, object]]) -> None:
    path.write_text(json.dumps(rows, indent=1))


def both(picture: Image.Image, path: Path, model: str, quality: int) -> dict[str, object]:
    """Writes a picture as PATH.hpcm and as a JPEG that looks as good. Their bytes and SSIMULACRA 2."""
    data = hpcm.compress(picture, model=model, quality=quality)
    score = score_of(picture, hpcm.decompress(data))
    jpeg, jpeg_score, jpeg_quality = equal_jpeg(picture, score)
    path.with_suffix(".hpcm").write_bytes(data)
    path.with_suffix(".jpg").write_bytes(jpeg)
    size = {"width": picture.width, "height": picture.height}
    ours = {"hpcm": len(data), "score": round(score, 2)}
    return {**size, **ours, "jpeg": len(jpeg), "jpegScore": round(jpeg_score, 2), "jpegQuality": jpeg_quality}


def equal_jpeg(picture: Image.Image, score: float) -> tuple[bytes, float, int]:
    """The JPEG of the lowest quality whose score isn't below `score`, by bisection: it grows with the quality."""
    low, high = 1, 100  # the lowest quality lies in there
    made = {}
    while low <= high:
        middle = (low + high) // 2
        made[middle] = jpeg_of(picture, middle)
        if made[middle][1] >= score:
            high = middle - 1
        else:
            low = middle + 1
    quality = min(low, 100)
    data, found = made.get(quality) or jpeg_of(picture, quality)
    return data, found, quality


def jpeg_of(picture: Image.Image, quality: int) -> tuple[bytes, float]:
    """A JPEG and its score."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality, progressive=True, optimize=True)
    return file.getvalue(), score_of(picture, Image.open(file))


def score_of(original: Image.Image, copy: Image.Image) -> float:
    """SSIMULACRA 2 of two pictures."""
    return ssimulacra2(np.asarray(original), np.asarray(copy.convert("RGB")))


if __name__ == "__main__":
    main()
