"""What an engine gives when it has coded a latent; codec/engine.py describes engines."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Latent = NDArray[np.float32]  # [h, w, channels]


class Encoded(NamedTuple):
    """A latent as bytes.

    parts: the entropy coder's bytes, one part for each of the three scales; the first holds z, too.
    checksums: of all symbols up to the end of each part; see `ans.checksum`.
    y_hat: [h, w, M], what a decoder gets of them.
    """

    parts: list[bytes]
    checksums: list[int]
    y_hat: Latent


class Decoded(NamedTuple):
    """A latent from bytes.

    y_hat: [h, w, M].
    checksum: of the symbols that were read from the payload; see `ans.checksum`.
    words_left: words of 4 bytes of the payload that no symbol needed.
    """

    y_hat: Latent
    checksum: int
    words_left: int
