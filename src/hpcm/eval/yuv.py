"""RGB to 10-bit 4:2:0 and back, for codecs of video that take nothing else.

BT.601 in the limited range; chroma is the mean of 2x2 pixels, and bicubic on the way back. Planes are uint16,
little-endian: Y [H, W], then Cb and Cr [H/2, W/2].
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import PictureError

# R, G, B in 0..1 -> Y in 0..1, Cb and Cr in -0.5..0.5
KR, KB = 0.299, 0.114
TO_YCC = np.array(
    [
        [KR, 1 - KR - KB, KB],
        [-0.5 * KR / (1 - KB), -0.5 * (1 - KR - KB) / (1 - KB), 0.5],
        [0.5, -0.5 * (1 - KR - KB) / (1 - KR), -0.5 * KB / (1 - KR)],
    ]
)
SCALE = 4  # of 10 bits to 8 bits
BLACK, LUMA, GREY, CHROMA = 16 * SCALE, 219 * SCALE, 128 * SCALE, 224 * SCALE  # limited range
PEAK = 1023


def from_rgb(pixels: NDArray[np.uint8]) -> bytes:
    """The planes of a picture [H, W, 3] of even sides. Raises PictureError for odd ones."""
    height, width = pixels.shape[:2]
    if height % 2 or width % 2:
        raise PictureError(f"a picture of {width} x {height}: 4:2:0 takes even sides only")
    planes = (pixels / 255 @ TO_YCC.T).transpose(2, 0, 1)  # [3, H, W]
    chroma = planes[1:].reshape(2, height // 2, 2, width // 2, 2).mean((2, 4))
    parts = [BLACK + LUMA * planes[0], GREY + CHROMA * chroma]
    return b"".join(np.clip(np.rint(part), 0, PEAK).astype("<u2").tobytes() for part in parts)


def to_rgb(y4m: bytes) -> NDArray[np.uint8]:
    """The first frame of a Y4M file of 10-bit 4:2:0 as a picture [H, W, 3]. Raises PictureError."""
    header, _, rest = y4m.partition(b"\n")
    match = re.match(rb"YUV4MPEG2 W(\d+) H(\d+) .*C420p10", header)
    if not match:
        raise PictureError(f"the decoder wrote no Y4M of 10-bit 4:2:0, but {header[:80]!r}")
    width, height = int(match[1]), int(match[2])
    samples = np.frombuffer(rest.partition(b"\n")[2], "<u2", count=width * height * 3 // 2).astype(np.float32)
    luma, chroma = np.split(samples, [width * height])
    planes = [(luma.reshape(height, width) - BLACK) / LUMA]
    for plane in chroma.reshape(2, height // 2, width // 2):
        whole = Image.fromarray((plane - GREY) / CHROMA).resize((width, height), Image.Resampling.BICUBIC)
        planes.append(np.asarray(whole))
    rgb = np.stack(planes, 2) @ np.linalg.inv(TO_YCC).T
    return np.clip(np.rint(255 * rgb), 0, 255).astype(np.uint8)
