"""`hpcm thumbnail` and `hpcm desktop`: .hpcm files in file managers.

Shared MIME-info and thumbnailers as freedesktop.org specifies them; files for one user lie in $XDG_DATA_HOME.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UsageError
from ..format.container import MAGIC, unpack
from ..util import atomic
from .files import write
from .messages import attempt

if TYPE_CHECKING:
    from PIL import Image

MIME_TYPE = "image/x-hpcm"
MIME_INFO = f"""<?xml version="1.0" encoding="UTF-8"?>
<mime-info xmlns="http://www.freedesktop.org/standards/shared-mime-info">
  <mime-type type="{MIME_TYPE}">
    <comment>HPCM image</comment>
    <icon name="image-x-generic"/>
    <magic priority="60"><match type="string" offset="0" value="\\x{MAGIC[0]:02x}{MAGIC[1:].decode()}"/></magic>
    <glob pattern="*.hpcm"/>
  </mime-type>
</mime-info>
"""
THUMBNAILER = f"""[Thumbnailer Entry]
TryExec={{python}}
Exec={{quoted}} -m hpcm thumbnail %i %o %s
MimeType={MIME_TYPE};
"""
RESERVED = frozenset(" \t\n\"'\\><~|&;$*?#()`")  # characters for which an Exec line needs quotes


def thumbnail(options: argparse.Namespace) -> bool:
    return attempt(partial(make_thumbnail, options), options.file)


def make_thumbnail(options: argparse.Namespace) -> None:
    """As a thumbnailer is called: input, output, size. What a cut file holds is shown."""
    from ..codec.api import codec_for
    from ..image.write import draft_of, fitted

    container = unpack(Path(options.file).read_bytes(), partial=True)
    image = codec_for(container).preview(container, draft=draft_of(container, options.side))
    out = io.BytesIO()
    plain(fitted(image, options.side)).save(out, "PNG")
    write(Path(options.output), out.getvalue(), force=True)


def plain(image: Image.Image) -> Image.Image:
    """8 bits, without metadata."""
    import numpy as np
    from PIL import Image

    from ..image.picture import eight_bits

    return Image.fromarray(np.asarray(eight_bits(image) if image.mode == "I;16" else image))


def desktop(options: argparse.Namespace) -> None:
    if not sys.platform.startswith(("linux", "freebsd", "openbsd", "netbsd")):
        raise UsageError(f"desktops on {sys.platform} know no freedesktop MIME types")
    data = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    quoted = sys.executable
    if RESERVED & set(quoted):
        escaped = "".join("\\" + c if c in '"`$\\' else c for c in quoted)
        quoted = f'"{escaped}"'
    wanted = {
        data / "mime" / "packages" / "hpcm.xml": MIME_INFO,
        data / "thumbnailers" / "hpcm.thumbnailer": THUMBNAILER.format(python=sys.executable, quoted=quoted),
    }
    for path, text in wanted.items():
        if options.install:
            atomic.write(path, text.encode(), force=True)
            print(path)
        elif path.exists():
            path.unlink()
            print(f"{path} removed")
    update = shutil.which("update-mime-database")
    if update and (data / "mime" / "packages").is_dir():
        subprocess.run([update, str(data / "mime")], check=False)
    elif not update:
        print("update-mime-database isn't installed (package shared-mime-info): log in again to make the type known")
