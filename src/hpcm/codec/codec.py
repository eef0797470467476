"""Codec: picture <-> bytes. The only module that knows both the networks and the file format.

    compress:    picture -> tiles -> y -> symbols, step by step -> bytes of each tile -> container     codec/encoder.py
    decompress:  container -> symbols, step by step -> y_hat of each tile -> picture                   codec/decoder.py

Latents that touch no real pixel, only padding, are not coded.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from importlib.util import find_spec
from numbers import Integral, Real
from typing import Any

from PIL import Image

from ..defaults import DEFAULT_QUALITY, MAX_DECODED, MAX_EFFORT, MAX_QUALITY, MAX_TILE_SIDE, TILE_SIDE
from ..engine.choice import Loaded
from ..errors import FormatError, MismatchError, PictureNotice, TruncatedError, UsageError
from ..format.container import unpack
from ..format.fields import PASSES, TILE_SIDES, Box, Container
from ..image.picture import from_image, to_image
from ..image.read import File, Source, bytes_of, image_of
from ..nn.stoppable import Check, Stoppable
from ..util.hardware import cores
from .decoder import Decoding
from .encoder import Encoding, Refine

MAX_REDUCTION = 256  # of a draft; the sides of tiles are multiples of it
MAX_NARROW = 1 << 22  # pixels that a narrow picture may count as, however few are allowed


class Codec:
    """One loaded model that turns pictures into bytes and back.

    Example:
        codec = hpcm.load("nano")
        data = codec.compress(Image.open("photo.jpg"), quality=60)
        codec.decompress(data).save("photo.png")

    Several threads may use one Codec at once. What the process has set up in torch, such as gradients, autocast or
    another default dtype, has no influence.
    """

    def __init__(self, loaded: Loaded, max_pixels: int = MAX_DECODED) -> None:
        self.loaded = loaded
        self.networks, self.tables, self.weights = loaded
        self.max_pixels = max_pixels
        self.levels = self.networks.config.levels
        self._told = bool(self.networks.config.carrier)  # that files may not decode elsewhere

    def compress(
        self,
        image: Source,
        *,
        quality: int | None = None,
        bpp: float | None = None,
        psnr: float | None = None,
        tile: int = TILE_SIDE,
        progressive: bool | None = None,
        effort: int = 0,
        told: Callable[[float], None] | None = None,
        check: Check | None = None,
    ) -> bytes:
        """Compresses a picture to a .hpcm file.

        Args:
            image: a Pillow image, an array, or a picture file as a path, bytes or open file; see `sources.image_of`.
            quality: 1 (smallest) to 100 (best); DEFAULT_QUALITY unless one of the others is given.
            bpp: the highest level whose file, all included, takes at most so many bits per pixel.
            psnr: the level with the smallest file that reaches so many dB (RGB or grey, over all pixels).
            tile: the side of the tiles in pixels, a power of two, 256 to 4096. Smaller ones cost bytes; they make
                regions faster and need less memory on both sides.
            progressive: whether a beginning of the file shows the whole picture coarsely, which costs up to 14 bytes
                a tile; by default if that is little.
            effort: 0 to 9 for a search of so many steps after the smallest file (codec/search.py); it needs PyTorch.
            told: with effort, is called again and again with the share of the search that is done, 0 to 1.
            check: is called again and again, several times a tile; what it raises ends the work.

        Raises PictureError, UsageError. A picture that had to be converted, a target that no level reaches, or a model
        that isn't exact gives a PictureNotice (a warning).
        """
        check_target(quality, bpp, psnr)
        if tile not in TILE_SIDES or tile > MAX_TILE_SIDE:
            raise UsageError(f"tile is {tile}: it must be a power of two, {TILE_SIDES[0]} to {MAX_TILE_SIDE}")
        level = self.level_of(DEFAULT_QUALITY if quality is None else quality)
        refine = self._refine(effort, told, check)
        job = Encoding(self.checked(check), from_image(image_of(image)), tile, progressive, refine)
        self.tell_if_inexact()
        with self.networks.undisturbed():
            if bpp is not None:
                return job.smaller_than(bpp)
            return job.at(level) if psnr is None else job.reaching(psnr)

    def compress_many(self, images: Iterable[Source], *, workers: int | None = None, **how: Any) -> Iterator[bytes]:
        """The files of several pictures, in their order, `workers` (by default one for each core) at once.

        Fastest with a codec of one thread, `hpcm.load(threads=1)`: then pictures are coded side by side instead of
        sharing the cores. `images` is read as it is needed; for `how` see `compress`, which is what raises, too.
        """
        workers = workers or cores()
        with ThreadPoolExecutor(workers) as pool:
            waiting: deque[Future[bytes]] = deque()
            try:
                for image in images:
                    if len(waiting) == 2 * workers:
                        yield waiting.popleft().result()
                    waiting.append(pool.submit(self.compress, image, **how))
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def decompress(
        self,
        data: File | Container,
        *,
        box: Box | None = None,
        draft: tuple[int, int] | None = None,
        scale: int = PASSES,
        max_pixels: int | None = None,
        check: Check | None = None,
    ) -> Image.Image:
        """Decodes a .hpcm file made with this model.

        Args:
            data: the file as bytes, a path or an open file, or what `container.unpack` has made of it.
            box: (left, top, right, bottom) in pixels: only this part, of which every pixel is within one level of that
                of the whole picture. Only the tiles that it depends on are decoded.
            draft: (width, height): the picture reduced by the largest power of two that leaves it no smaller than this,
                in little memory.
            scale: 1 or 2: a coarse picture from the first scales of a progressive file; others are decoded whole.
            max_pixels: of the box or picture; a file that claims more is refused. By default what the codec was loaded
                with.
            check: as for `compress`.

        Memory is taken for what was decoded and found right, row of tiles by row of tiles, not for what a file claims.
        Raises FormatError (TruncatedError, CorruptError) for a damaged file, MismatchError where the decoded symbols
        are not those that were encoded, and UsageError for a box that isn't inside the picture.
        """
        container = data if isinstance(data, Container) else unpack(bytes_of(data))
        if container.progress < 1:
            raise TruncatedError(f"only {container.progress:.0%} of the file is there: `preview` decodes it")
        return self._decoded(container, box, draft, scale, max_pixels, check)

    def preview(
        self,
        data: File | Container,
        *,
        box: Box | None = None,
        draft: tuple[int, int] | None = None,
        max_pixels: int | None = None,
        check: Check | None = None,
    ) -> Image.Image:
        """The best picture that the beginning of a .hpcm file allows.

        What isn't there takes its mean. In `info` of the result, "progress" tells how much of the tiles' parts were
        there, 0 to 1, and "scale" how many of the three scales of every tile.

        Args:
            data: as for `decompress`; what `container.unpack` makes of it with `partial=True`.
            box, draft, max_pixels, check: as for `decompress`.

        Raises as `decompress`, and TruncatedError if not even the first scale of the first tile is there.
        """
        container = data if isinstance(data, Container) else unpack(bytes_of(data), partial=True)
        image = self._decoded(container, box, draft, PASSES, max_pixels, check)
        image.info["progress"] = container.progress
        image.info["scale"] = min(map(len, container.tiles)) * PASSES // container.passes
        return image

    def _decoded(
        self,
        container: Container,
        box: Box | None,
        draft: tuple[int, int] | None,
        scale: int,
        max_pixels: int | None,
        check: Check | None,
    ) -> Image.Image:
        if scale not in (1, 2, PASSES):
            raise UsageError(f"scale is {scale}: a picture has 1 to {PASSES}")
        if box is not None and draft is not None:
            raise UsageError("box and draft exclude one another: give one")
        width, height = container.width, container.height
        if box is not None:
            if len(box) != 4 or not all(isinstance(side, Integral) for side in box):
                raise UsageError(f"box is {box!r}: it must be four whole numbers, left, top, right, bottom")
            box = (int(box[0]), int(box[1]), int(box[2]), int(box[3]))
        if box is not None and not (0 <= box[0] < box[2] <= width and 0 <= box[1] < box[3] <= height):
            raise UsageError(f"box is {tuple(box)}: it must be inside the picture of {width} x {height} pixels")
        left, top, right, bottom = box or (0, 0, width, height)
        wanted = (right - left, bottom - top) if container.alpha is None else (width, height)  # alpha is decoded whole
        self._check(container, wanted, self.max_pixels if max_pixels is None else max_pixels)
        factor = 1 if draft is None else reduction((width, height), draft)
        return to_image(Decoding(self.checked(check), container, scale).picture(box, factor))

    def checked(self, check: Check | None) -> Loaded:
        """The model, whose work ends when `check` raises."""
        return self.loaded if check is None else self.loaded._replace(networks=Stoppable(self.networks, check))

    def level_of(self, quality: int) -> int:
        """Quality 1..100 -> level. Raises UsageError."""
        return round(share_of(quality) * (self.levels - 1))

    def tell_if_inexact(self) -> None:
        """A notice, once, where files may not decode elsewhere."""
        if not self._told:
            self._told = True
            warnings.warn(
                f"{self.weights.name} isn't exact: its files may not decode on another machine, and need exactly "
                "these weights, which further training replaces; make it exact with `hpcm exact`",
                PictureNotice,
                stacklevel=3,
            )

    def _refine(self, effort: int, told: Callable[[float], None] | None, check: Check | None) -> Refine | None:
        """The search of an effort. Raises UsageError."""
        if effort not in range(MAX_EFFORT + 1):
            raise UsageError(f"effort is {effort}: it must be 0 (quick) to {MAX_EFFORT} (small files)")
        if not effort:
            return None
        if not find_spec("torch"):
            raise UsageError(f"effort {effort} needs PyTorch: pip install 'hpcm-codec[torch]'")
        from .search import refined

        def between(share: float) -> None:
            """After each iteration, in which no other networks run than those of the search."""
            if check is not None:
                check()
            if told is not None:
                told(share)

        return partial(refined, effort=effort, told=between)

    def _check(self, container: Container, size: tuple[int, int], max_pixels: int) -> None:
        """Whether this model may decode a file, and the memory that it claims is bounded. Raises as `decompress`."""
        if container.model_hash != self.weights.hash:
            raise MismatchError(
                f"the file was made with model {container.model!r} of hash {container.model_hash.hex()}, "
                f"this is {self.weights.name!r} of hash {self.weights.hash.hex()}"
            )
        if container.level >= self.levels:
            raise FormatError(f"the file has quality level {container.level}, the model only {self.levels}")
        multiple = self.networks.config.multiple  # a narrower picture takes as long as one that is so wide
        padded = max(size[0], multiple) * max(size[1], multiple)
        if size[0] * size[1] > max_pixels or padded > max(max_pixels, MAX_NARROW):
            raise FormatError(
                f"the file claims {size[0]} x {size[1]} pixels, over {max_pixels:,}: allow more if you trust it "
                f"(max_pixels, --max-pixels); a side counts as at least {multiple}"
            )
        if container.tile_side > MAX_TILE_SIDE:
            raise FormatError(f"the file has tiles of {container.tile_side} pixels, this hpcm reads {MAX_TILE_SIDE}")


def reduction(size: tuple[int, int], draft: tuple[int, int]) -> int:
    """The largest power of two, up to MAX_REDUCTION, by which `size` can be divided and be no less than `draft`."""
    if min(draft) < 1:
        raise UsageError(f"draft is {draft}: width and height must be positive")
    times = min(have // want for have, want in zip(size, draft, strict=True))
    return min(1 << max(times.bit_length() - 1, 0), MAX_REDUCTION)


def share_of(quality: int) -> float:
    """Quality 1..100 -> 0..1. Raises UsageError."""
    if not (isinstance(quality, Integral) and 1 <= quality <= MAX_QUALITY):
        raise UsageError(f"quality is {quality!r}: it must be 1 (smallest) to {MAX_QUALITY} (best)")
    return (quality - 1) / (MAX_QUALITY - 1)


def check_target(quality: int | None, bpp: float | None, psnr: float | None) -> None:
    """Raises UsageError where what a file is to be like makes no sense."""
    if sum(choice is not None for choice in (quality, bpp, psnr)) > 1:
        raise UsageError("quality, bpp and psnr exclude one another: give one")
    for name, target in (("bpp", bpp), ("psnr", psnr)):
        if target is not None and not (isinstance(target, Real) and 0 < target < float("inf")):
            raise UsageError(f"{name} is {target!r}: it must be a positive number")
