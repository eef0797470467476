"""Bytes -> one of hpcm's readers, which may refuse them with an error of hpcm's own and do nothing else.

A CRC or a checksum stops every accident and no attacker: where one is in the way, the targets make it right. A target
takes any bytes and has work to do with most.
"""

import io
import json
import struct
import tempfile
import warnings
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from hpcm.codec.api import load
from hpcm.codec.codec import Codec
from hpcm.core.ans import SymbolDecoder, SymbolEncoder
from hpcm.errors import CorruptError, FormatError, HPCMError, PictureError, WeightsError
from hpcm.format.container import pack, unpack, unpack_head
from hpcm.format.fields import RESIDUAL_KINDS, Container, Part, Residual
from hpcm.image.metadata.gain_map import pack_chunk
from hpcm.image.picture import pack_alpha
from hpcm.image.read import read_picture
from hpcm.image.write import save_picture
from hpcm.model.tables import Tables
from hpcm.util.notes import ignore_note

GOLDEN = Path(__file__).parents[1] / "golden"
MAX_PIXELS = 1 << 17  # of a picture that is decoded
PNG_CHUNKS = (
    b"IDAT",
    b"PLTE",
    b"tRNS",
    b"eXIf",
    b"iTXt",
    b"zTXt",
    b"tEXt",
    b"iCCP",
    b"gAMA",
    b"cICP",
    b"pHYs",
    b"acTL",
)


class Bytes:
    """What a target takes its choices from; zeros follow the end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, size: int) -> bytes:
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, below: int) -> int:
        return int.from_bytes(self.take((below - 1).bit_length() + 7 >> 3), "little") % below

    def some(self, longest: int) -> bytes:
        return self.take(self.number(longest + 1))

    def maybe(self, longest: int) -> bytes | None:
        return self.some(longest) if self.number(2) else None

    def rest(self) -> bytes:
        return self.take(max(len(self.data) - self.at, 0))


class Right(int):
    """A checksum that fits: whoever forges a file computes it."""

    def __ne__(self, other: object) -> bool:
        return False

    __eq__ = int.__eq__
    __hash__ = int.__hash__


@cache
def codec(name: str = "tiny") -> Codec:
    return load(GOLDEN / f"{name}.safetensors", threads=1)


def container(data: bytes) -> None:
    """The bytes are a file; what can be read says the same when it is written again."""
    for read in (unpack_head, unpack, lambda beginning: unpack(beginning, partial=True)):
        try:
            found = read(data)
        except FormatError:
            continue
        if read is unpack:
            assert pack(found) == data


def picture(data: bytes) -> None:
    """A file whose fields and payloads are the bytes: decoded, whole or in part, and written in other formats."""
    take = Bytes(data)
    model = codec(("tiny", "tiny-base")[take.number(8) == 7])
    made = _file(take, model)
    try:
        assert unpack(pack(made)) == made
        tiles = tuple(tuple(Part(part.payload, Right(0)) for part in tile) for tile in made.tiles)
        given = replace(made, tiles=tiles)
        quietly = {"max_pixels": MAX_PIXELS, "on_note": ignore_note}
        how = take.number(4)
        if how == 1:
            left, top = take.number(made.width), take.number(made.height)
            decoded = model.decompress_picture(given, box=(left, top, left + 1, made.height), **quietly)
        elif how == 2:
            decoded = model.decompress_picture(given, draft=(1 + take.number(made.width), 1), **quietly)
        elif how == 3:
            cut = replace(given, tiles=tuple(t[:1] for t in tiles))
            decoded = model.decompress_picture(cut, partial=True, **quietly)
        else:
            decoded = model.decompress_picture(given, **quietly)
    except HPCMError:
        return
    for suffix in (".png", ".jpg", ".tif", ".webp"):
        try:
            read_picture(save_picture(decoded, suffix, on_note=ignore_note))
        except PictureError:
            continue


def _file(take: Bytes, model: Codec) -> Container:
    made = Container(
        passes=3 if take.number(2) else 1,
        width=1 + take.number(300),
        height=1 + take.number(1 << (4 + 4 * take.number(2))),
        model="tiny",
        model_hash=model.weights.hash,
        level=take.number(70),
        colour=("rgb", "grey")[take.number(2)],
        bit_depth=(8, 16)[take.number(2)],
        tile_side=256 << take.number(6),
        icc=take.maybe(100),
        exif=take.maybe(300),
        alpha=None,
        ancillary=tuple((kind, found) for kind in "ctx" if (found := take.maybe(200)) is not None),
        tiles=(),
    )
    if take.number(2):
        made = replace(made, alpha=_png(take, (made.width, made.height)))
    if take.number(4) == 3:
        made = replace(made, ancillary=tuple(sorted([*made.ancillary, ("u", _gain_map(take, made))])))
    payload = take.some(400)
    made = _with_residual(take, made)
    tile = tuple(Part(payload[4 * i :] if i else payload[:4], i) for i in range(made.parts))
    return replace(made, tiles=(tile,) * made.tile_count)


def _with_residual(take: Bytes, made: Container) -> Container:
    """Behind all other choices, so that older seeds mean what they meant."""
    kind = take.number(4)
    if not kind:
        return made
    residual = Residual(RESIDUAL_KINDS[kind - 1], 1 + take.number(100))
    return replace(made, residual=residual, passes=1 if residual.is_beside_grey else made.passes)


def _gain_map(take: Bytes, made: Container) -> bytes:
    """A chunk of bytes, or one with a .hpcm file in it."""
    if take.number(2):
        return take.some(300)
    size = {"width": 1 + take.number(40), "height": 1 + take.number(40)}
    own = replace(made, **size, passes=1, alpha=None, exif=None, ancillary=(), tile_side=256, level=0)
    tile = (Part(take.some(100), take.number(1 << 32)),)
    return pack_chunk(_gain_map_numbers(take), pack(replace(own, tiles=(tile,))))


def _gain_map_numbers(take: Bytes) -> bytes:
    """The numbers of a gain map, some of them bytes."""
    numbers = bytearray(struct.pack(">HHB4I", 0, 0, 64 * take.number(4), 0, 1, 2, 1))
    numbers += 3 * struct.pack(">iIiIIIiIiI", 0, 1, 2, 1, 1, 1, 1, 64, 1, 64)
    for _ in range(take.number(4)):
        numbers[take.number(len(numbers))] = take.number(256)
    return bytes(numbers)


def _png(take: Bytes, size: tuple[int, int]) -> bytes:
    """A PNG of the bytes, or of chunks of them whose CRCs are right."""
    if not take.number(4):
        return take.some(1000)
    mode, depth = take.number(8), (8, 1, 2, 4, 16)[take.number(5)]
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", *size, depth, mode, 0, 0, take.number(2)))]
    for _ in range(take.number(5)):
        chunks.append((PNG_CHUNKS[take.number(len(PNG_CHUNKS))], take.some(300)))
    pixels = take.some(300)
    chunks += [(b"IDAT", zlib.compress(pixels + bytes(size[1] * (1 + size[0] * 8)))), (b"IEND", b"")]
    packed = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def tables(data: bytes) -> None:
    """Tables of the entropy coder, and a payload."""
    take = Bytes(data)
    count = 1 + take.number(6)
    scales = np.frombuffer(take.take(4 * count).ljust(4 * count, b"\0"), np.float32)
    scales = np.cumsum(np.abs(scales)) if take.number(4) else scales
    radius = np.array(
        [take.number(1 << 16) if take.number(16) == 15 else take.number(5) for _ in range(count)], np.int32
    )
    frequencies = []
    for size in (2 * radius.astype(int) + 2).tolist():
        table = np.array([1 + take.number(1 << 12) for _ in range(min(size, 16))] + [1] * (size - 16), np.int32)
        table[0] += max(65536 - table.sum(), 0) if take.number(8) else 0
        frequencies.append(table)
    found = Tables(scales.astype(np.float32), radius, np.concatenate(frequencies))
    try:
        found.check()
    except WeightsError:
        return
    indexes = found.index(np.frombuffer(take.take(64).ljust(64, b"\0"), np.float32))
    try:
        decoder = SymbolDecoder(found, take.rest())
        symbols = [decoder.pop(indexes) for _ in range(3)]
    except CorruptError:
        return
    encoder = SymbolEncoder(found)
    for step in symbols:
        encoder.push(step, indexes)
    again = SymbolDecoder(found, b"".join(encoder.finish()))
    assert all((again.pop(indexes) == step).all() for step in symbols)
    again.finish()


def weights(data: bytes) -> None:
    """A weights file of the bytes, or a sound one with other fields and tensors: read, built, and used."""
    take = Bytes(data)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "forged.safetensors")
        path.write_bytes(_weights(take) if take.number(8) else take.rest())
        try:
            model = load(path, engine=("auto", "torch")[take.number(4) == 3], threads=1)
            file = unpack((GOLDEN / "tiny.hpcm").read_bytes())
            tiles = tuple(tuple(Part(part.payload, Right(0)) for part in tile) for tile in file.tiles)
            model.decompress(replace(file, model_hash=model.weights.hash, tiles=tiles), max_pixels=MAX_PIXELS)
        except HPCMError:
            return


def _weights(take: Bytes) -> bytes:
    sound = (GOLDEN / "tiny.safetensors").read_bytes()
    header = json.loads(sound[8 : 8 + int.from_bytes(sound[:8], "little")])
    metadata, tensors = header["__metadata__"], load_tensors(sound)
    config = json.loads(metadata["config"])
    for _ in range(take.number(3)):
        name = sorted(config)[take.number(len(config))]
        config[name] = _forged(take, config[name])
    metadata["config"] = json.dumps(config)
    if not take.number(4):
        metadata[sorted(metadata)[take.number(len(metadata))]] = take.some(40).decode("latin-1")
    for _ in range(take.number(4)):
        name = sorted(tensors)[take.number(len(tensors))]
        tensors[name] = _other(take, tensors[name])
        if not take.number(4):
            tensors[sorted(tensors)[take.number(len(tensors))]] = tensors.pop(name)
    return save_tensors({name: np.asarray(value, order="C") for name, value in tensors.items()}, metadata)


def _forged(take: Bytes, value: object) -> object:
    """Another value of a field."""
    if isinstance(value, list) and value and take.number(4):
        place = take.number(len(value))
        return [_forged(take, inner) if i == place else inner for i, inner in enumerate(value)]
    simple = (
        take.number(1 << 16),
        take.number(70),
        1 << take.number(40),
        -take.number(9),
        None,
        True,
        0.5,
        [],
        {},
        "psi",
    )
    text = take.some(12).decode("latin-1")
    return (*simple, "attention", "none", "float64", float("inf"), [value] * 9, {"before": 1, "after": 1}, text)[
        take.number(len(simple) + 7)
    ]


def _other(take: Bytes, value: np.ndarray) -> np.ndarray:
    """Another tensor."""
    how = take.number(6)
    if how == 0:
        given = np.frombuffer(take.some(64), np.uint8)
        flat = np.frombuffer(value.tobytes(), np.uint8).copy()
        at = take.number(max(len(flat), 1))
        flat[at : at + len(given)] = given[: len(flat) - at]
        return np.frombuffer(flat.tobytes(), value.dtype).reshape(value.shape)
    if how == 1:
        return value.astype((np.int8, np.float16, np.float32, np.float64, np.int32, np.uint8)[take.number(6)])
    if how == 2:
        return value.reshape(-1)[: take.number(value.size + 1)]
    if how == 3:
        return np.zeros([take.number(20) for _ in range(take.number(6))], value.dtype)
    return value.swapaxes(0, -1) if how == 4 and value.ndim else value[..., None]


def source(data: bytes) -> None:
    """A picture of a stranger, as it is read before it is compressed."""
    take = Bytes(data)
    size = 1 + take.number(20), 1 + take.number(20)
    kind = take.number(3)
    try:
        if kind == 0:
            file = take.rest()
        elif kind == 1:
            file = _png(take, size)
        else:
            out, image = io.BytesIO(), Image.new(("RGB", "L", "CMYK")[take.number(3)], size)
            options = {name: found for name in ("exif", "xmp", "icc_profile") if (found := take.maybe(300))}
            image.save(out, "JPEG", **options, comment=take.some(50))
            file = out.getvalue()
            if take.number(2):
                own = io.BytesIO()
                Image.new("L", size).save(own, "JPEG")
                iso = b"urn:iso:std:iso:ts:21496:-1\0" + _gain_map_numbers(take)
                segment = b"\xff\xe2" + struct.pack(">H", len(iso) + 2) + iso
                file += own.getvalue()[:2] + segment + own.getvalue()[2:] + take.some(50)
        found = read_picture(file)
        if found.alpha is not None:
            pack_alpha(found.alpha)
    except PictureError:
        return


TARGETS: tuple[Callable[[bytes], None], ...] = (container, picture, tables, weights, source)


def run(data: bytes) -> None:
    """The first byte chooses the target."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        TARGETS[data[0] % len(TARGETS) if data else 0](data[1:])
