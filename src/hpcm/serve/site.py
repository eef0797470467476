"""The files of the page by their URLs.

    index.html, *.js, *.css, *.wasm, samples/    what `make page` has put into serve/page
    models/index.json                            which models there are; the first URL that the page asks for
    models/NAME.safetensors.gz                   weights of those that browsers can run: a quarter smaller than unpacked

The table is made once, and a URL that isn't in it leads nowhere: no path is ever built from a URL.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..defaults import MIME_TYPE, SUFFIX
from ..model.file import SUFFIX as WEIGHTS_SUFFIX
from ..model.find import ASSETS
from .models import Models

PAGE = Path(__file__).parent / "page"
INDEX, MODELS = "index.html", "models/"
KINDS = {  # by suffix; what the system says may be wrong for the page's
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".webmanifest": "application/manifest+json",
    ".wasm": "application/wasm",
    SUFFIX: MIME_TYPE,
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".svg": "image/svg+xml",
    ".ico": "image/vnd.microsoft.icon",
    ".woff2": "font/woff2",
}
OTHER_KIND = "application/octet-stream"
PACKED = ".gz"  # the page unpacks such files by itself: no server has to be told of them
ASK_ALWAYS, KEEP = "no-cache", "public, max-age=31536000, immutable"
NOT_BUILT = b"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>hpcm</title>
<p>The page isn't in this installation of hpcm. In a checkout, <code>make page</code> builds it, with Node.js 20;
then install hpcm there again, with <code>pip install '.[serve]'</code>
<p>Programs need no page: <a href="openapi.json">openapi.json</a> describes the HTTP API.
</html>
"""


@dataclass(frozen=True)
class Asset:
    """What one URL gives: a file, as it is or packed by gzip, or bytes."""

    source: Path | bytes
    kind: str
    cache: str = ASK_ALWAYS
    packed: bool = False

    def read(self) -> bytes:
        """Raises OSError."""
        if isinstance(self.source, bytes):
            return self.source
        return _packed(self.source, *_version(self.source)) if self.packed else self.source.read_bytes()

    def etag(self) -> str:
        """Names the contents. Raises OSError."""
        if isinstance(self.source, bytes):
            return f'"{hashlib.sha256(self.source).hexdigest()[:16]}"'
        return _etag(self.source, *_version(self.source))


def _version(path: Path) -> tuple[int, int]:
    """Differs when the file does. Raises OSError."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size


@lru_cache(maxsize=1024)
def _etag(path: Path, *version: int) -> str:
    return f'"{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"'


@lru_cache(maxsize=16)
def _packed(path: Path, *version: int) -> bytes:
    return gzip.compress(path.read_bytes(), mtime=0)  # without the time: the same bytes always


def assets(models: Models, page: Path = PAGE) -> dict[str, Asset]:
    """Everything that is served, by the URL without its first slash."""
    files = {INDEX: Asset(NOT_BUILT, KINDS[".html"])}
    files |= {name: Asset(path, kind_of(path)) for name, path in _inside(page)}
    return {**files, **_models(models)}


def is_built(page: Path = PAGE) -> bool:
    return (page / INDEX).is_file()


def kind_of(path: Path) -> str:
    return KINDS.get(path.suffix.lower(), OTHER_KIND)


def _inside(folder: Path) -> list[tuple[str, Path]]:
    """The files of a folder by their relative names; links that lead out of it are passed over."""
    root = folder.resolve()
    files = sorted(path for path in root.rglob("*") if path.is_file() and path.resolve().is_relative_to(root))
    return [(path.relative_to(root).as_posix(), path) for path in files]


def _models(models: Models) -> dict[str, Asset]:
    """Bundled models never change under their names, so a browser may keep them; a user's own may."""
    files, listed = {}, []
    offered = models.in_browsers()
    for weights in offered:
        bundled = weights.path.is_relative_to(ASSETS)
        file = f"{weights.name}{WEIGHTS_SUFFIX}{PACKED}"
        files[MODELS + file] = Asset(weights.path, OTHER_KIND, KEEP if bundled else ASK_ALWAYS, packed=True)
        listed.append(
            {
                "name": weights.name,
                "hash": weights.hash.hex(),
                "sha256": weights.digest.hex(),
                "file": file,
                "bytes": weights.path.stat().st_size,
            }
        )
    default = offered[0].name if offered else None
    index = json.dumps({"default": default, "models": listed}, indent=1).encode()
    return {**files, f"{MODELS}index.json": Asset(index, KINDS[".json"])}
