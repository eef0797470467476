"""Whether two engines make the same symbols of a picture, and open each other's files; for `hpcm bench`.

On a GPU they are torch there and whatever computes the model on the CPU, on the CPU the native library and torch.

    a picture --> y, by each                 two y's may differ: their transforms need not be the same bits
    each y    --> bytes, by each             the same bytes, checksums of symbols and y_hat
    the bytes --> y_hat, by torch            the same symbols and y_hat
    each file --> picture, by both           whose symbols have the checksums in the file
    a batch   --> files, by torch together   which torch opens together and alone, and the other engine the last of them

Of two pictures, because a GPU runs its networks one by one at first, and then replays them on other numbers. The CPU
has little to do, because for a large model it is slow.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np
import torch
from PIL import Image

from ...codec.codec import Codec
from ...codec.engine import unsuited
from ...codec.tiles import latents_of_size
from ...core.coded import Encoded, Latent
from ...defaults import TILE_SIDE
from ...errors import MismatchError
from ...model.config import LATENT_STRIDE
from ...model.file import WeightsFile
from ...model.order import pass_ends
from .runners import QUALITY, OurCodec


def agreement(weights: WeightsFile, device: str, threads: int, pictures: Sequence[Image.Image]) -> str:
    """A line that says that symbols are equal, or why they weren't compared.

    Args:
        pictures: in RGB, of one size, at least two; all of them are a batch.

    Raises MismatchError where symbols differ.
    """
    if not weights.config.get("carrier"):
        return "symbols not compared: the model isn't exact"
    on_cpu = torch.device(device).type == "cpu"
    torchs = Codec([weights], device, engine="torch", threads=threads)
    if on_cpu and (reason := unsuited(torchs.engine.config)):
        return f"symbols not compared: the native library can't run the model, {reason}"
    other = Codec([weights], threads=threads)
    codecs = {"core" if on_cpu else "cpu": other, "torch" if on_cpu else device: torchs}
    for image in pictures[:2]:
        _compare_latents(codecs, image)
    furthest = 0
    for maker, reader in permutations(codecs):
        file = codecs[maker].compress(pictures[0], quality=QUALITY)
        own, read = (np.asarray(codecs[name].decompress(file), np.int16) for name in (maker, reader))
        furthest = max(furthest, int(np.abs(own - read).max()))
    _decode_batch(other, torchs, pictures)
    one, two = codecs
    where = "in" if on_cpu else "on"
    return f"symbols equal {where} {one} and {two}; pixels differ by {furthest} of 255 at most"


def _compare_latents(codecs: dict[str, Codec], picture: Image.Image) -> None:
    """The y of one tile at most, of each, coded by both. Raises MismatchError."""
    pixels = np.asarray(picture)[:TILE_SIDE, :TILE_SIDE]
    names, (one, two) = " and ".join(codecs), codecs.values()
    multiple = one.engine.config.multiple
    height, width = (-(-side // multiple) * multiple for side in pixels.shape[:2])
    inside = latents_of_size((pixels.shape[0], pixels.shape[1]))
    size = height // LATENT_STRIDE, width // LATENT_STRIDE
    level, steps = one.level_of(QUALITY), pass_ends(one.engine.config)[-1]
    for maker, codec in codecs.items():
        y = codec.engine.analyse(pixels, 255, (height, width))
        ours, theirs = (each.engine.encode(y, level, inside) for each in (one, two))
        if differing := _difference(ours, theirs):
            raise MismatchError(f"{names} make different {differing} of the same y, which {maker} analysed")
        decoded = two.engine.decode(b"".join(ours.parts), steps, size, level, inside)
        if decoded.checksum != ours.checksums[-1] or not _same(decoded.y_hat, ours.y_hat):
            raise MismatchError(f"{names}: what one encoded of the y of {maker} decodes to other symbols")


def _difference(one: Encoded, two: Encoded) -> str | None:
    """The first thing in which two encodings of a latent differ."""
    for number, pair in enumerate(zip(one.checksums, two.checksums, strict=True), 1):
        if pair[0] != pair[1]:
            return f"symbols in scale {number} of {len(one.checksums)}"
    if one.parts != two.parts:
        return "bytes of the same symbols"
    return None if _same(one.y_hat, two.y_hat) else "y_hat from the same symbols"


def _same(one: Latent, two: Latent) -> bool:
    return bool(np.array_equal(one, two))


def _decode_batch(other: Codec, codec: Codec, pictures: Sequence[Image.Image]) -> None:
    """Codes a batch, and opens its files together and alone. Raises MismatchError."""
    runner = OurCodec(codec)
    files = runner.encode(pictures)
    runner.decode(files)
    for file in files:
        codec.decompress(file)
    other.decompress(files[-1])  # the first one may have been coded alone, before the others were there
