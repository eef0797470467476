"""`hpcm desktop`: file managers that know .hpcm files.

Shared MIME-info and thumbnailers as freedesktop.org specifies them; files for one user lie in $XDG_DATA_HOME.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from ..defaults import MIME_TYPE
from ..errors import UsageError
from ..model.find import data_folder, shared_data_folders
from ..util import atomic
from .parsing import Commands, add_command

SYSTEMS = ("linux", "freebsd", "openbsd", "netbsd")  # whose desktops read these files
MIME_INFO = Path(__file__).with_name("mime.xml")  # plugins/Makefile installs it, too
THUMBNAILER = f"""[Thumbnailer Entry]
TryExec={{python}}
Exec={{quoted}} -m hpcm thumbnail %i %o %s
MimeType={MIME_TYPE};
"""
RESERVED = frozenset(" \t\n\"'\\><~|&;$*?#()`")  # characters for which an Exec line needs quotes
ESCAPED = '"`$\\'  # inside the quotes


def add(commands: Commands) -> None:
    text = "make file managers recognise .hpcm files, for this user (freedesktop: Linux and BSD)"
    command = add_command(commands, "desktop", desktop, text)
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--install", action="store_true", help=f"install the type {MIME_TYPE} and its thumbnailer")
    what.add_argument("--uninstall", action="store_true", help="remove both")


def desktop(options: argparse.Namespace) -> None:
    if not sys.platform.startswith(SYSTEMS):
        raise UsageError(f"desktops on {sys.platform} know no freedesktop MIME types")
    mime, thumbnailers = data_folder() / "mime", data_folder() / "thumbnailers"
    thumbnailer = thumbnailers / "hpcm.thumbnailer"
    files = {
        mime / "packages" / "hpcm.xml": MIME_INFO.read_text(encoding="utf-8"),
        thumbnailer: THUMBNAILER.format(python=sys.executable, quoted=quoted(sys.executable)),
    }
    if options.install and (other := thumbnailer_of_all_users()):
        # It works in sandboxes too, which don't see this user's files, and ours would take its place.
        print(f"{other} makes thumbnails already")
        uninstall({thumbnailer: files.pop(thumbnailer)})
    if options.install:
        install(files)
    else:
        uninstall(files)
    update_types(mime)


def thumbnailer_of_all_users() -> Path | None:
    """A thumbnailer of .hpcm files in the system's folders, such as that of plugins/gdk-pixbuf."""
    folders = [folder / "thumbnailers" for folder in shared_data_folders()]
    entries = (entry for folder in folders for entry in sorted(folder.glob("*.thumbnailer")))
    return next((entry for entry in entries if MIME_TYPE in entry.read_text("utf-8", "replace")), None)


def install(files: Mapping[Path, str]) -> None:
    for path, text in files.items():
        atomic.write(path, text.encode(), force=True)
        print(path)


def uninstall(files: Mapping[Path, str]) -> None:
    for path in files:
        if path.exists():
            path.unlink()
            print(f"{path} removed")


def update_types(mime: Path) -> None:
    """Makes the desktop read a folder of MIME types again."""
    update = shutil.which("update-mime-database")
    if not update:
        print("update-mime-database isn't installed (package shared-mime-info): log in again to make the type known")
    elif (mime / "packages").is_dir():
        subprocess.run([update, str(mime)], check=False)


def quoted(program: str) -> str:
    """A program's path as an Exec line wants it."""
    if not RESERVED & set(program):
        return program
    escaped = "".join(f"\\{c}" if c in ESCAPED else c for c in program)
    return f'"{escaped}"'
