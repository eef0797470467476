"""HTTP statuses: what a request is refused with, and one line that says why."""

from __future__ import annotations

import re

from ..errors import FormatError, HPCMError, MismatchError, ModelNotFoundError, PictureError, UsageError

MALFORMED, TIMEOUT, TOO_LARGE, UNSUPPORTED, WRONG = 400, 408, 413, 415, 422
BROKEN, BUSY, TOO_LONG = 500, 503, 504
FORBIDDEN = 403
RETRY_AFTER = "2"  # seconds
LONGEST = 500  # characters of a line
STATUS: tuple[tuple[type[Exception], int], ...] = (
    (UsageError, WRONG),
    *((kind, MALFORMED) for kind in (PictureError, FormatError, MismatchError, ModelNotFoundError)),
    (HPCMError, BROKEN),
)


class Refused(Exception):
    """A request that isn't served; the message is the answer's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {"Retry-After": RETRY_AFTER} if status == BUSY else {}


def refusal(error: HPCMError | MemoryError) -> Refused:
    """What an expected failure of the codec means to the client."""
    if isinstance(error, MemoryError):
        return Refused(BUSY, "there isn't enough memory for it now")
    return Refused(next(status for kind, status in STATUS if isinstance(error, kind)), str(error))


def one_line(text: object) -> str:
    """Printable ASCII on one line, for headers and JSON."""
    line = re.sub(r"[^\x20-\x7e]", "?", " ".join(str(text).split()))
    return line if len(line) <= LONGEST else line[: LONGEST - 3] + "..."
