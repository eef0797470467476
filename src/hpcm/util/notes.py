"""Notes: what stops nothing, but whoever codes a picture should know, such as a conversion or a target out of reach.

A note is a line. What can give notes takes `on_note`, which is called with each; by default the logger `hpcm` warns.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

OnNote = Callable[[str], None]


class SampleLoss(str):
    """A note that samples of a picture aren't kept as they are: no lossless file can be made of it."""


def log_note(line: str) -> None:
    """Passes a note on to the logger `hpcm`."""
    logging.getLogger("hpcm").warning("%s", line)


def ignore_note(line: str) -> None:
    """For those to whom notes say nothing."""
