"""Codec: picture <-> bytes, by one model or by several of one quality level each.

    compress:    picture -> tiles -> y -> symbols, step by step -> bytes of each tile -> container     codec/encoder.py
    decompress:  container -> symbols, step by step -> y_hat of each tile -> picture                   codec/decoder.py

Latents that touch no real pixel, only padding, are not coded.

As a rule a codec has one model of several quality levels. Models of one level each, as the authors have trained them
from a low lambda to a high one, are one codec, too: a quality takes the model whose lambda is nearest to it on a
logarithmic scale. Above the best level comes a residual layer (codec/quality.py), if the model is exact.

    quality   1                                                       80 .. 100
              |-----------|-----------|-----------|-----------|-----------|
    model     base-0018   base-0035   base-0067   base-0130   base-0250   base-0483

A file names the single model that it was made with, and is decoded by it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..defaults import (
    BASE_QUALITY,
    DEFAULT_QUALITY,
    MAX_DECODED,
    MAX_EFFORT,
    MAX_QUALITY,
    MAX_THREADS,
    MAX_TILE_SIDE,
    TILE_SIDE,
)
from ..errors import MismatchError, TruncatedError, UsageError
from ..format.container import unpack
from ..format.fields import BIT_DEPTHS, PASSES, TILE_SIDES, Box, Container
from ..image.picture import Picture, adjusted, to_image
from ..image.planes import Samples, rescaled
from ..image.read import File, Source, bytes_of, picture_of
from ..model.file import WeightsFile
from ..util.hardware import cores
from ..util.notes import OnNote, log_note
from ..util.parallel import Check, side_by_side
from . import lossless as without_loss
from . import nested
from .checks import check_appearance, check_claims, checked_box, checked_map, promised_error
from .decoder import decode, needs_residual
from .encoder import Encoding, Latents, Refine
from .engine import Engine, LoadedEngine, load_engine, workers_for
from .quality import checked, residual_of, share_of
from .residual import has_exact_pixels
from .targets import Level, Trials
from .tiles import extent, overlap

MAX_REDUCTION = 256  # of a draft; the sides of tiles are multiples of it


class Codec:
    """One or several models that turn pictures into bytes and back.

    Example:
        codec = hpcm.load("nano")
        data = codec.compress(Image.open("photo.jpg"), quality=60)
        codec.decompress(data).save("photo.png")

    A single model is loaded at once. Of several, each is loaded when it is needed and takes the place of the one
    before, but a search by bpp or psnr keeps those that it has tried.

    Several threads may use one Codec at once. What the process has set up in torch, such as gradients, autocast or
    another default dtype, has no influence.

    Args:
        models: one, or several of one quality level each, by rising lambda.
        device, engine, threads, max_pixels: as for `hpcm.load`.
        wrap: gives what is used in place of an engine, such as one that is timed.
        kernels: of the native library, as for CoreEngine.
    """

    def __init__(
        self,
        models: Sequence[WeightsFile],
        device: str = "cpu",
        *,
        engine: str = "auto",
        threads: int | None = None,
        max_pixels: int = MAX_DECODED,
        wrap: Callable[[Engine], Engine] | None = None,
        kernels: str | None = None,
    ) -> None:
        """Raises WeightsError, MismatchError, and UsageError for a device, engine or kernels that can't be used."""
        if threads is not None and not (isinstance(threads, int) and 1 <= threads <= MAX_THREADS):
            raise UsageError(f"threads is {threads}: it must be 1 to {MAX_THREADS}, or None for one on each core")
        self.models = tuple(models)
        self.max_pixels = max_pixels
        self.device, self.threads = device, threads or cores()
        self._load = partial(load_engine, engine=engine, device=device, threads=threads, wrap=wrap, kernels=kernels)
        self._loaded: dict[int, LoadedEngine] = {}
        self._cpu_codec: Codec | None = None  # for a device that isn't the CPU, once it is needed
        self._loading = threading.Lock()
        self._noted: set[str] = set()  # names of models of which it was said that they aren't exact
        self._levels = [Level(model, 0) for model in range(len(self.models))]
        if len(self.models) == 1:
            self.models = (self.weights,)  # as they were read
            self._levels = [Level(0, level) for level in range(self.engine.config.levels)]
        if has_exact_pixels(self.models[-1].config):
            best = self._levels[-1]
            above = range(BASE_QUALITY + 1, MAX_QUALITY + 1)
            self._levels += [best._replace(residual=residual_of(quality)) for quality in above]

    @property
    def levels(self) -> int:
        """How many quality levels there are: of all models together, and of the best one with a residual layer."""
        return len(self._levels)

    @property
    def lossy_levels(self) -> int:
        """How many of them have no residual layer."""
        return sum(level.residual is None for level in self._levels)

    @property
    def weights(self) -> WeightsFile:
        """Describes the model; of several, the first."""
        return self.loaded().weights

    @property
    def engine(self) -> Engine:
        """What computes the model; of several, the first."""
        return self.loaded().engine

    def loaded(self, model: int = 0, *, keep: bool = False) -> LoadedEngine:
        """A model, ready to use; unless they are to be kept, the others are given up when it has to be loaded."""
        with self._loading:
            if model not in self._loaded:
                if not keep:
                    self._loaded.clear()
                self._loaded[model] = self._load(self.models[model])
            return self._loaded[model]

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
        quality_map: NDArray[Any] | None = None,
        lossless: bool = False,
        max_error: int | None = None,
        bit_depth: int | None = None,
        strip: str | None = None,
        icc: str | None = None,
        on_progress: Callable[[float], None] | None = None,
        check: Check | None = None,
        on_note: OnNote | None = None,
    ) -> bytes:
        """Compresses a picture to a .hpcm file.

        Args:
            image: a Pillow image, an array, or a picture file as a path, bytes or open file; see
                `image.read.picture_of`.
            quality: 1 (smallest) to 100 (best, visually lossless); DEFAULT_QUALITY unless one of the others is given. A
                gain map is coded at the same quality, and with bpp or psnr at DEFAULT_QUALITY. With lossless or
                max_error it is that of the lossy picture in the file, up to BASE_QUALITY; by default the one that makes
                the smallest file.
            bpp: the highest level whose file, all included, takes at most so many bits per pixel.
            psnr: the level with the smallest file that reaches so many dB (RGB or grey, over all pixels).
            tile: the side of the tiles in pixels, a power of two, 256 to 4096. Smaller ones cost bytes; they make
                regions faster and need less memory on both sides.
            progressive: whether a beginning of the file shows the whole picture coarsely, which costs up to 14 bytes
                a tile; by default if that is little.
            effort: 0 to 9 for a search of so many steps after the smallest file (codec/search.py); it needs PyTorch.
                With lossless or max_error it is for the lossy picture of a quality that is given.
            quality_map: [H / 16, W / 16], rounded up, in 0..1: how much the quality of each 16 x 16 pixels matters. 1
                is as without a map; where it is less, fewer bytes are spent (codec/quality_map.py). It needs PyTorch
                and a quality up to BASE_QUALITY.
            lossless: every sample comes back as it is, a gain map's too. The file is decoded and compared before it is
                returned.
            max_error: no sample comes back off by more, which is checked, too; 0 is lossless, and it is less than half
                of the range.
            bit_depth: of an array of uint16, 9 to 16: its values are 0 to 2^bit_depth - 1. By default 16.
            strip: metadata that are left out: "all", but for what the colours need, or "gps", the place alone.
            icc: "srgb" converts the colours to sRGB by the picture's ICC profile, which is dropped then.
            on_progress: with effort, is called again and again with the share of the search that is done, 0 to 1.
            check: is called again and again, several times a tile, where several tiles or pictures go at once on other
                threads; what it raises ends the work.
            on_note: is called with a line where a picture had to be converted, no level reaches a target, the model
                isn't exact, or the result is larger than the picture's file; by default the logger `hpcm` warns.

        Raises PictureError, also where samples of the picture were lost before they could be kept without loss,
        UsageError, and MismatchError where this machine's pixels aren't those of all others.
        """
        max_error = promised_error(lossless, max_error, quality, bpp, psnr)
        check_appearance(strip, icc)
        if tile not in TILE_SIDES or tile > MAX_TILE_SIDE:
            raise UsageError(f"tile is {tile}: it must be a power of two, {TILE_SIDES[0]} to {MAX_TILE_SIDE}")
        on_note = on_note or log_note
        picture = picture_of(image, bit_depth, strip=strip, icc=icc)
        importance = None if quality_map is None else checked_map(quality_map, picture.size)
        if importance is not None and (max_error is not None or (quality or 0) > BASE_QUALITY):
            raise UsageError(f"a quality map is for lossy pictures of a quality up to {BASE_QUALITY}")
        refine = _refine(effort, importance, on_progress, check)
        if max_error is not None:
            without_loss.check_source(picture, max_error)
        for note in picture.notes:
            on_note(note)
        usual = DEFAULT_QUALITY if max_error is None else 1  # whose sum with its residual is the smallest
        level = self._levels[self.level_of(usual if quality is None else quality)]
        if max_error is not None:
            without_loss.check_model(self.models[level.model].name, self.models[level.model].config)
        codec = self if max_error is None and level.residual is None else self._on_cpu
        searches = bpp is not None or psnr is not None
        if picture.hdr is not None:
            coder = codec.loaded(level.model, keep=searches)
            errors = None if max_error is None else max_error >> picture.bit_depth - 8  # of 8 bits, as gain maps have
            chunk = nested.compressed(picture.hdr, coder, level.model_level, errors, check, on_note)
            picture = replace(picture, gain_map=chunk)

        def encoding(model: int) -> Encoding:
            loaded = codec.loaded(model, keep=searches)
            self._note_if_inexact(loaded, on_note)
            return Encoding(loaded, picture, tile, progressive, refine, self.threads, check)

        height, width = picture.size
        with_layers = self.device == "cpu" and importance is None
        levels = [level for level in self._levels if level.residual is None or with_layers]
        trials = Trials(height * width, levels, encoding, refine is not None, on_note)
        if max_error is not None:
            job = encoding(level.model)
            job = job if quality is None else job.refined(level.model_level)
            data = without_loss.smallest_file(job, max_error, None if quality is None else level.model_level)
        elif bpp is not None:
            data = trials.smaller_than(bpp)
        elif psnr is not None:
            data = trials.reaching(psnr)
        else:
            data = encoding(level.model).refined(level.model_level).file(*level.coded)
        if picture.file_size is not None:
            note_size(picture, picture.file_size, len(data), max_error, on_note)
        return data

    def compress_many(
        self, images: Iterable[Source], *, workers: int | None = None, check: Check | None = None, **how: Any
    ) -> Iterator[bytes]:
        """The files of several pictures, in their order, `workers` of them at once.

        Args:
            images: are read as they are needed, up to twice as many as there are workers.
            workers: by default one for each core, and on a GPU at least 16, whose tiles it computes together.
            check, how: as for `compress`, which is what raises, too.

        On the CPU it is fastest with a codec of one thread, `hpcm.load(threads=1)`: then pictures are coded side by
        side instead of sharing the cores.
        """

        def work(image: Source, check: Check | None) -> bytes:
            return self.compress(image, check=check, **how)

        workers = workers or self._workers()
        return side_by_side(work, images, workers, waiting=2 * workers, check=check)

    def decompress(self, data: File | Container, **how: Any) -> Image.Image:
        """Decodes a .hpcm file made with this model to a Pillow image.

        It has 8 bits a sample, or 16 where the picture is grey, without alpha and of more than 8: Pillow has no other
        modes. `decompress_array` gives all bits. For `how`, and what is raised, see `decompress_picture`.
        """
        return to_image(self.decompress_picture(data, **how))

    def decompress_many(
        self, files: Iterable[File | Container], *, workers: int | None = None, check: Check | None = None, **how: Any
    ) -> Iterator[Image.Image]:
        """The pictures of several files, in their order, `workers` of them at once.

        Args:
            files: are read as they are needed, up to as many as there are workers.
            workers: as for `compress_many`.
            check, how: as for `decompress_picture`.

        Raises as `decompress`, of the first file that fails.
        """

        def work(file: File | Container, check: Check | None) -> Image.Image:
            return self.decompress(file, check=check, **how)

        return side_by_side(work, files, workers or self._workers(), check=check)

    def decompress_array(self, data: File | Container, *, bit_depth: int | None = None, **how: Any) -> Samples:
        """Decodes a .hpcm file to an array, [H, W] (grey), [H, W, 3] (RGB) or [H, W, 2 or 4] (with alpha).

        Args:
            bit_depth: of the samples, which are 0 to 2^bit_depth - 1, 8 to 16; uint8 for 8 bits, else uint16. By
                default the file's.

        For `how`, and what is raised, see `decompress_picture`.
        """
        if bit_depth is not None and bit_depth not in BIT_DEPTHS:
            raise UsageError(f"bit_depth is {bit_depth!r}: it must be {BIT_DEPTHS[0]} to {BIT_DEPTHS[-1]}")
        picture = self.decompress_picture(data, **how)
        return rescaled(picture.joined, picture.bit_depth, bit_depth or picture.bit_depth)

    def decompress_picture(
        self,
        data: File | Container,
        *,
        box: Box | None = None,
        draft: tuple[int, int] | None = None,
        scale: int | None = None,
        partial: bool = False,
        max_pixels: int | None = None,
        strip: str | None = None,
        icc: str | None = None,
        check: Check | None = None,
        on_note: OnNote | None = None,
    ) -> Picture:
        """Decodes a .hpcm file to samples of its own depth, with its metadata.

        Args:
            data: the file as bytes, a path or an open file, or what `container.unpack` has made of it.
            box: (left, top, right, bottom) in pixels: only this part, as it is in the whole picture (where transforms
                are in floating point to within one level). Only the tiles that it depends on are decoded.
            draft: (width, height): the picture reduced by the largest power of two that leaves it no smaller than this,
                in little memory.
            scale: 1 or 2: a coarse picture from the first scales of a progressive file; 3: the lossy picture of a file
                with a residual layer. Files that have no such thing are decoded whole.
            partial: the file may be cut short; what isn't there takes its mean.
            max_pixels: of the box or picture; a file that claims more is refused. By default what the codec was loaded
                with.
            strip, icc, check: as for `compress`.
            on_note: is called with a line where `scale` has no effect, colours aren't converted or the gain map is
                damaged; by default the logger `hpcm` warns.

        Memory is taken for what was decoded and found right, row of tiles by row of tiles, not for what a file claims.
        Raises FormatError (TruncatedError, CorruptError) for a damaged file, MismatchError where the decoded symbols
        are not those that were encoded, and UsageError for a box that isn't inside the picture.
        """
        check_appearance(strip, icc)
        container = data if isinstance(data, Container) else unpack(bytes_of(data), partial=partial)
        if container.progress < 1 and not partial:
            raise TruncatedError(f"only {container.progress:.0%} of the file is there: `preview` decodes it")
        on_note = on_note or log_note
        picture = self._decode(container, box, draft, scale, max_pixels, check, on_note)
        return adjusted(picture, strip, icc, on_note)

    def preview(self, data: File | Container, **how: Any) -> Image.Image:
        """The best picture that the beginning of a .hpcm file allows.

        In `info` of the result, "progress" tells how much of the tiles' parts were there, 0 to 1, and "scale" how many
        of the three scales of every tile. For `how` see `decompress_picture`.

        Raises as `decompress`, and TruncatedError if not even the first scale of the first tile is there.
        """
        container = data if isinstance(data, Container) else unpack(bytes_of(data), partial=True)
        image = self.decompress(container, partial=True, **how)
        image.info["progress"] = container.progress
        image.info["scale"] = min(min(map(len, container.tiles)) * PASSES // container.passes, PASSES)
        return image

    def level_of(self, quality: int) -> int:
        """Quality 1..100 -> one of the codec's `levels`, 0 for the smallest files. Raises UsageError."""
        share = share_of(checked(quality))
        lossy = self.lossy_levels
        if quality > BASE_QUALITY:
            return min(lossy - 1 + quality - BASE_QUALITY, self.levels - 1)
        if len(self.models) == 1:
            return round(share * (lossy - 1))
        places = [math.log(model.lmbda or 1) for model in self.models]
        wanted = places[0] + share * (places[-1] - places[0])
        return min(range(lossy), key=lambda level: abs(places[level] - wanted))

    @property
    def _on_cpu(self) -> Codec:
        """What makes and reads residual layers: pixels of a GPU are not the same as those of others."""
        if self.device == "cpu":
            return self
        with self._loading:
            if self._cpu_codec is None:
                self._cpu_codec = Codec(self.models, threads=self.threads, max_pixels=self.max_pixels)
            return self._cpu_codec

    def _workers(self) -> int:
        """How many pictures are coded at once by default. It loads no model if there is one."""
        with self._loading:
            loaded = next(iter(self._loaded.values()), None)
        return workers_for((loaded or self.loaded()).engine.at_once)

    def _decode(
        self,
        container: Container,
        box: Box | None,
        draft: tuple[int, int] | None,
        scale: int | None,
        max_pixels: int | None,
        check: Check | None,
        on_note: OnNote,
    ) -> Picture:
        if scale not in (None, 1, 2, PASSES):
            raise UsageError(f"scale is {scale}: a picture has 1 to {PASSES}")
        if box is not None and draft is not None:
            raise UsageError("box and draft exclude one another: give one")
        size = (container.width, container.height)
        box = None if box is None else checked_box(box, size)
        factor = 1 if draft is None else reduction(size, draft)
        _note_parts(container, box, factor, scale, on_note)
        codec = self._on_cpu if needs_residual(container, factor, scale) else self
        loaded = codec.model_of(container)
        if needs_residual(container, factor, scale) and loaded.weights.hash != container.model_hash:
            raise MismatchError(
                f"the file's residual layer is beside pixels of {container.model}, which {loaded.weights.name} doesn't "
                "make: the lossy picture opens (--preview 3)"
            )
        max_pixels = self.max_pixels if max_pixels is None else max_pixels
        check_claims(container, loaded.engine.config, box, max_pixels)
        picture = decode(loaded, container, box, factor, scale, self.threads, check)
        gain_map = nested.stored(container, partial(self._decode_nested, max_pixels), box, on_note)
        return replace(picture, gain_map=None, hdr=gain_map)

    def _decode_nested(self, max_pixels: int, container: Container) -> Image.Image:
        """The picture of a gain map's own file, by whichever model it was made with."""
        if any(model.reads(container.model_hash) for model in self.models):
            return self.decompress(container, max_pixels=max_pixels)
        from .api import codec_for  # which makes codecs

        return codec_for(container).decompress(container, max_pixels=max_pixels)

    def model_of(self, container: Container) -> LoadedEngine:
        """The model that a file was made with, or one whose synthesis alone differs. Raises MismatchError."""
        by_name = sorted(enumerate(self.models), key=lambda model: model[1].name != container.model)
        for index, weights in by_name:  # the one of that name first: hashing takes time
            if weights.reads(container.model_hash):
                return self.loaded(index)
        made_with = f"the file was made with model {container.model!r} of hash {container.model_hash.hex()}"
        if len(self.models) == 1:
            raise MismatchError(f"{made_with}, this is {self.weights.name!r} of hash {self.weights.hash.hex()}")
        raise MismatchError(f"{made_with}, which is none of {', '.join(model.name for model in self.models)}")

    def _note_if_inexact(self, loaded: LoadedEngine, on_note: OnNote) -> None:
        """A note, once, where a model's files may not decode elsewhere."""
        name = loaded.weights.name
        if loaded.engine.config.carrier:
            return
        with self._loading:
            if name in self._noted:
                return
            self._noted.add(name)
        on_note(inexact(name))


def inexact(model: str) -> str:
    """The note about a model that isn't exact."""
    return (
        f"{model} isn't exact: its files may not decode on another machine, and need exactly "
        "these weights, which further training replaces; make it exact with `hpcm exact`"
    )


def _refine(
    effort: int,
    quality_map: NDArray[np.float32] | None,
    on_progress: Callable[[float], None] | None,
    check: Check | None,
) -> Refine | None:
    """The search of an effort, and the rounding by a quality map. Raises UsageError."""
    if effort not in range(MAX_EFFORT + 1):
        raise UsageError(f"effort is {effort}: it must be 0 (quick) to {MAX_EFFORT} (small files)")
    if not effort and quality_map is None:
        return None
    if not find_spec("torch"):
        what = f"effort {effort}" if effort else "a quality map"
        raise UsageError(f"{what} needs PyTorch: pip install 'hpcm-codec[torch]'")
    search = _search(effort, on_progress, check) if effort else None
    if quality_map is None:
        return search
    from .quality_map import rounded

    def refine(job: Encoding, level: int) -> Mapping[Box, Latents]:
        return rounded(job if search is None else job.with_latents(search(job, level)), level, quality_map, check)

    return refine


def _search(effort: int, on_progress: Callable[[float], None] | None, check: Check | None) -> Refine:
    from .search import refined

    def between(share: float) -> None:
        """After each iteration, in which the engine has nothing to do."""
        if check is not None:
            check()
        if on_progress is not None:
            on_progress(share)

    return partial(refined, effort=effort, on_progress=between)


def _note_parts(container: Container, box: Box | None, factor: int, scale: int | None, on_note: OnNote) -> None:
    """Notes where a scale has no effect, and where the residual layer that is needed was cut short."""
    has_lossy_picture = container.base_parts > 0
    if scale is not None and not has_lossy_picture:
        on_note("the file has no lossy picture: decoded whole")
    elif scale in (1, 2) and container.passes == 1:
        whole_picture = "decoded whole" if container.residual is None else "its lossy picture was decoded"
        on_note(f"the file isn't progressive: {whole_picture}")
    tiles = zip(container.tiles, container.tile_boxes(), strict=True)
    lengths = [len(tile) for tile, where in tiles if box is None or min(extent(overlap(where, box))) > 0]
    whole = lengths.count(container.parts)
    if needs_residual(container, factor, scale) and whole < len(lengths):
        rest = "the lossy picture" if has_lossy_picture else "grey"
        there = f"its residual layer is there for {whole} of {len(lengths)} tiles"
        on_note(f"the file was cut short: {there}, the rest is {rest}")


def reduction(size: tuple[int, int], draft: tuple[int, int]) -> int:
    """The largest power of two, up to MAX_REDUCTION, by which `size` can be divided and be no less than `draft`."""
    if min(draft) < 1:
        raise UsageError(f"draft is {draft}: width and height must be positive")
    times = min(have // want for have, want in zip(size, draft, strict=True))
    return min(1 << max(times.bit_length() - 1, 0), MAX_REDUCTION)


def note_size(picture: Picture, before: int, after: int, max_error: int | None, on_note: OnNote) -> None:
    """What may save bytes where a file grew from `before` to `after`, or where a picture has few colours."""
    is_lossless = max_error == 0
    if after > before:
        advice = "" if is_lossless else "; of drawings, pages and screens, lossless files (--lossless) may be smaller"
        on_note(f"the .hpcm file of {after:,} bytes is larger than the picture's own of {before:,}{advice}")
    elif not is_lossless and without_loss.has_few_colours(picture.pixels):
        on_note("the picture has few colours: a lossless file (--lossless) keeps them, often in fewer bytes")
