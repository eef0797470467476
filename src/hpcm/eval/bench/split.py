"""Where the time of decoding a picture goes: the networks, the entropy coder, the file around them."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import cast

import numpy as np
import torch
from PIL import Image

from ...codec.codec import Codec
from ...codec.latents import latents_of
from ...core.ans import SymbolDecoder, SymbolEncoder, checksum
from ...format.container import unpack
from ...model.file import WeightsFile
from ...nn.engine import TorchEngine
from ..hpcm_codec import HpcmCodec
from .clock import elapsed
from .runners import QUALITY, WARM_UPS


@dataclass(frozen=True)
class DecodeSplit:
    """Seconds, medians."""

    networks: float  # those of the entropy model and of the synthesis, with what moves numbers for them
    coder: float  # the entropy coder alone, which is always on the CPU
    file: float  # the container, and making the picture


def decode_split(codec: HpcmCodec, image: Image.Image, device: str, repeats: int) -> DecodeSplit:
    """Of a picture, after WARM_UPS."""
    data = codec.compress(image, QUALITY)
    for _ in range(WARM_UPS[torch.device(device).type]):
        codec.decompress(data)
    splits = []
    for _ in range(repeats):
        seconds, _ = elapsed(lambda: codec.decompress(data), device)
        splits.append(codec.decode_split(seconds))
    coder = coder_seconds(codec.codec.weights, data, device, repeats)
    networks = median(split.transforms + split.entropy for split in splits) - coder
    return DecodeSplit(networks, coder, median(split.file for split in splits))


def coder_seconds(weights: WeightsFile, data: bytes, device: str, repeats: int) -> float:
    """What the entropy coder takes to decode the symbols of a file, in one go, and to sum them up."""
    codec = Codec([weights], device, engine="torch")
    latents, tables = latents_of(codec, unpack(data)), cast(TorchEngine, codec.engine).tables
    symbols = np.concatenate([latent.symbols.ravel() for latent in latents])
    indexes = tables.index(np.concatenate([latent.scales.ravel() for latent in latents]))
    encoder = SymbolEncoder(tables)
    encoder.push(symbols, indexes)
    payload = b"".join(encoder.finish())

    def decode() -> None:
        checksum(SymbolDecoder(tables, payload).pop(indexes))

    return median(elapsed(decode, "cpu")[0] for _ in range(repeats))
