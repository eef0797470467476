"""A link -> a file, resumable; gdown knows the pages that Google Drive puts between the two."""

from __future__ import annotations

import sys
from pathlib import Path

from ..errors import ModelNotFoundError, UsageError
from .catalogue import Published

TIMEOUT = 60  # seconds without a byte
RETRIES = 3
NO_RANGE = "byte range"  # what gdown says of a server that can't go on in the middle of a file


def download(one: Published, target: Path) -> None:
    """Downloads a checkpoint, or goes on with a download that broke off. The target appears when all of it is there.

    Raises ModelNotFoundError with the server's reason, OSError of the disk, and UsageError without gdown.
    """
    by_hand = f"or download {one.name} by hand ({one.link}) and take --from FOLDER"
    if one.link is None:
        raise ModelNotFoundError("no download link is known: give its checkpoint with --from FOLDER")
    try:
        import gdown
        from gdown.exceptions import DownloadError
        from requests.exceptions import RequestException
    except ImportError:
        raise UsageError(f"downloading needs gdown: pip install 'hpcm-codec[get]', {by_hand}") from None
    target.parent.mkdir(parents=True, exist_ok=True)
    quiet = sys.stderr is None or not sys.stderr.isatty()

    def attempt() -> None:
        gdown.download(
            one.link, str(target), quiet=quiet, resume=True, use_cookies=False, timeout=TIMEOUT, retries=RETRIES
        )

    try:
        try:
            attempt()
        except DownloadError as error:
            if NO_RANGE not in str(error):
                raise
            # This server can't go on where the last download broke off: begin anew.
            for part in target.parent.glob(f"{target.name}*.part"):
                part.unlink()
            attempt()
    except (DownloadError, RequestException) as error:
        why = " ".join(str(error).split()).rstrip(".")
        raise ModelNotFoundError(f"it can't be downloaded now: {why}; try again, {by_hand}") from error
