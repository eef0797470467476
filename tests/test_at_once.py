"""Tiles and pictures side by side: an engine that likes several at once gets them, and what comes is the same."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from PIL import Image

import hpcm
from hpcm.codec import engine as engines
from hpcm.codec.codec import Codec
from hpcm.codec.engine import Engine
from hpcm.errors import MismatchError, PictureError, TruncatedError
from hpcm.eval import timing
from hpcm.eval.timing import Stopwatch
from hpcm.format.container import pack, unpack
from hpcm.format.fields import Part
from hpcm.model.find import find
from hpcm.nn.engine import TorchEngine
from hpcm.util.notes import ignore_note
from hpcm.util.parallel import side_by_side
from watched import SECONDS, Watched, meeting

HERE = Path(__file__).parent
TINY = HERE / "golden" / "tiny.safetensors"
PHOTO = Image.open(HERE / "data" / "kodim23.png").convert("RGB").crop((100, 90, 400, 370))  # 2 x 2 tiles
PIXELS = np.asarray(PHOTO)
SMALL = [PHOTO.crop((30 * i, 20 * i, 30 * i + 48 + i, 20 * i + 32)) for i in range(12)]  # one tile each
AT_ONCE = 4


def watched(
    at_once: int = AT_ONCE, before: Callable[..., Any] = lambda *_: None, engine: str = "auto"
) -> tuple[Codec, Watched]:
    """A codec and the engine that it uses, for which see Watched."""
    made: list[Watched] = []

    def wrap(engine: Engine) -> Watched:
        made.append(Watched(engine, at_once, before))
        return made[0]

    return Codec([find(TINY)], engine=engine, threads=1, wrap=wrap), made[0]


@pytest.fixture(scope="module")
def alone() -> Codec:
    return hpcm.load(TINY, threads=1)


@pytest.fixture(scope="module")
def file(alone) -> bytes:
    """Four tiles in three parts each."""
    return alone.compress(PHOTO, tile=256, progressive=True)


def raster(image: Image.Image) -> tuple[Any, ...]:
    return image.mode, image.size, image.tobytes()


# ---- tiles ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["core", "torch"])
def test_four_tiles_go_through_each_network_at_once(file, alone, which):
    codec, engine = watched(before=meeting(AT_ONCE), engine=which)
    assert codec.compress(PHOTO, tile=256, progressive=True) == file
    assert raster(codec.decompress(file)) == raster(alone.decompress(file))
    for name in ("analyse", "encode", "decode", "synthesise"):
        assert engine.most[name] == engine.calls[name] == AT_ONCE
    codec.compress(np.concatenate([PIXELS] * 2), tile=256)
    assert max(engine.most.values()) == AT_ONCE
    assert threading.main_thread() not in engine.threads


@pytest.mark.parametrize("at_once", [1, AT_ONCE])
def test_one_tile_needs_no_other_thread(at_once):
    codec, engine = watched(at_once=at_once)
    codec.decompress(codec.compress(SMALL[0]))
    if at_once == 1:
        codec.decompress(codec.compress(PHOTO, tile=256))
    assert engine.threads == {threading.main_thread()}


@pytest.mark.parametrize(
    ("colour", "how"),
    [
        ("RGB", {"quality": 20, "progressive": False}),
        ("L", {"quality": 20, "progressive": True}),
        ("deep", {"quality": 20}),
        ("RGB", {"quality": 95}),
        ("RGB", {"psnr": 27.0}),
        ("deep", {"lossless": True}),
        ("L", {"max_error": 3, "quality": 30}),
    ],
)
def test_files_are_the_same(alone, colour, how):
    image = PIXELS.astype(np.uint16) * 257 if colour == "deep" else PHOTO.convert(colour)
    how = {"tile": 256, "on_note": ignore_note, **how}
    assert watched()[0].compress(image, **how) == alone.compress(image, **how)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"box": (200, 180, 290, 270)},
        {"box": (0, 0, 9, 9)},
        {"box": (0, 256, 300, 280)},
        {"draft": (100, 100)},
        {"scale": 1},
        {"scale": 2},
        {"check": lambda: None},
    ],
)
@pytest.mark.parametrize("layer", [{}, {"quality": 95}, {"lossless": True}])
def test_pictures_are_the_same(alone, how, layer):
    file = alone.compress(PHOTO, tile=256, progressive=True, **layer)
    assert raster(watched()[0].decompress(file, **how)) == raster(alone.decompress(file, **how))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_cut_file_is_decoded_tile_by_tile(file, alone, share):
    codec, engine = watched()
    beginning = file[: round(share * len(file))]
    assert raster(codec.preview(beginning)) == raster(alone.preview(beginning))
    assert engine.most["decode"] <= engine.most["fill"] == engine.most["decode_known"] == 1
    with pytest.raises(TruncatedError):
        codec.decompress(beginning)


def test_the_first_tile_that_fails_is_told(file):
    """Not the one that fails first: the second tile waits until the last one has failed."""
    container, last_failed = unpack(file), Event()
    second, last = (b"".join(part.payload for part in container.tiles[index]) for index in (1, 3))

    def before(name: str, payload: Any, *_: Any) -> None:
        if name == "decode" and payload == second:
            assert last_failed.wait(SECONDS)
        if name == "decode" and payload == last:
            last_failed.set()
            raise hpcm.CorruptError("it can't be decoded")

    codec, engine = watched(before=before)
    first, wrong, third, other = container.tiles
    changed = (*wrong[:-1], Part(wrong[-1].payload, wrong[-1].checksum ^ 1))
    forged = pack(replace(container, tiles=(first, changed, third, other)))
    with pytest.raises(MismatchError, match=r"tile at \(256, 0\)"):
        codec.decompress(forged)
    assert not any(engine.inside.values())


class Enough(Exception):
    pass


@pytest.mark.parametrize("name", ["analyse", "encode", "decode", "synthesise"])
def test_a_check_ends_all_tiles(name):
    """It raises once four tiles are in a network: none is begun after them."""
    there = meeting(AT_ONCE)
    stopped = Event()

    def before(called: str, *_: Any) -> None:
        there(called)
        if called == name:
            stopped.set()

    def check() -> None:
        if stopped.is_set():
            raise Enough

    codec, engine = watched(before=before)
    tall = np.concatenate([PIXELS] * 2)
    work = partial(codec.compress, tall, tile=256)
    if name in ("decode", "synthesise"):
        work = partial(codec.decompress, hpcm.load(TINY, threads=1).compress(tall, tile=256))
    with pytest.raises(Enough):
        work(check=check)
    assert engine.calls[name] == AT_ONCE
    assert not any(engine.inside.values())


def test_the_native_library_computes_one_tile_at_a_time(alone):
    assert alone.engine.at_once == 1


def test_in_batches_they_are_the_same(file, alone):
    """As on a GPU: the torch engine joins what comes at once."""
    codec = Codec(
        [find(TINY)], engine="torch", threads=1, wrap=lambda one: TorchEngine(one.model, one.tables, at_once=4)
    )
    assert codec.compress(PHOTO, tile=256, progressive=True) == file
    assert raster(codec.decompress(file)) == raster(alone.decompress(file))
    assert list(codec.compress_many(SMALL[:1] * 6, workers=6)) == [alone.compress(SMALL[0])] * 6


# ---- pictures -------------------------------------------------------------------------------------------------------


def test_many_pictures_are_in_the_networks_at_once(alone, monkeypatch):
    """By default twice as many as the engine takes, so that the next ones are there when it is free."""
    monkeypatch.setattr(engines, "cores", lambda: 1)
    codec, engine = watched(before=meeting(2 * AT_ONCE))
    files = list(codec.compress_many(iter(SMALL), quality=40))
    assert files == [alone.compress(picture, quality=40) for picture in SMALL]
    assert [raster(picture) for picture in codec.decompress_many(iter(files))] == [
        raster(alone.decompress(file)) for file in files
    ]
    assert set(engine.most.values()) == {2 * AT_ONCE}
    assert list(codec.decompress_many([])) == []


@pytest.mark.parametrize(("at_once", "cores", "workers"), [(1, 2, 2), (1, 16, 16), (8, 2, 16), (8, 64, 64)])
def test_how_many_by_default(at_once, cores, workers, monkeypatch):
    monkeypatch.setattr(engines, "cores", lambda: cores)
    assert engines.workers_for(at_once) == workers
    assert engines.files_at_once("cpu") == engines.files_at_once("cuda", effort=1) == 1
    assert engines.files_at_once("cuda") == max(16, cores)


def test_a_family_loads_no_other_model_to_know_it(monkeypatch):
    loaded = []
    codec = Codec(
        [find(TINY), find("nano")], threads=1, wrap=lambda engine: loaded.append(engine.config.name) or engine
    )
    for _ in range(2):
        list(codec.compress_many(SMALL[:2], quality=90, on_note=ignore_note))
    assert loaded[-1] == "nano"
    assert loaded.count("nano") == 1


def test_many_files_with_options_as_they_are_needed(alone, file):
    taken = []
    pictures = alone.decompress_many((taken.append(i) or file for i in range(100)), workers=2, box=(9, 9, 40, 30))
    assert raster(next(pictures)) == raster(alone.decompress(file, box=(9, 9, 40, 30)))
    assert len(taken) <= 3
    pictures.close()


def test_one_of_many_files_fails(alone, file):
    pictures = alone.decompress_many([file, file[:-40], file], workers=3)
    assert raster(next(pictures)) == raster(alone.decompress(file))
    with pytest.raises(TruncatedError):
        next(pictures)
    with pytest.raises(PictureError):
        list(alone.compress_many([b"none"], workers=1))


def test_a_check_ends_many():
    codec, _ = watched()

    def check() -> None:
        raise Enough

    for workers in (1, 3):
        with pytest.raises(Enough):
            list(codec.compress_many(SMALL, workers=workers, check=check))
        with pytest.raises(Enough):
            list(codec.decompress_many([codec.compress(SMALL[0])] * 5, workers=workers, check=check))


def test_who_takes_no_more_ends_what_is_at_work():
    """The second picture is in a network, which would go on until it is told to end, and goes into no other."""
    begun = Event()

    def before(name: str, pixels: Any, *_: Any) -> None:
        if name == "analyse" and pixels.shape[1] == SMALL[1].width:
            begun.set()
            until = time.monotonic() + SECONDS
            while time.monotonic() < until:
                for check in engine.checks:
                    check()

    codec, engine = watched(before=before)
    files = codec.compress_many(SMALL[:2], workers=2)
    next(files)
    assert begun.wait(SECONDS)
    files.close()
    assert engine.calls == {"analyse": 2, "encode": 1}


def test_a_residual_codec_is_loaded_once_for_many_threads(alone, monkeypatch):
    """That of the CPU, beside another device; here the device is torch's CPU by another name."""
    expected = [alone.compress(picture, quality=90) for picture in SMALL]
    loads, load = [], hpcm.codec.codec.load_engine
    monkeypatch.setattr(hpcm.codec.codec, "load_engine", lambda *given, **how: loads.append(how) or load(*given, **how))
    codec = hpcm.load(TINY, "cpu:0", threads=1)
    codec.compress(SMALL[0])
    assert [how["device"] for how in loads] == ["cpu:0"]
    assert list(codec.compress_many(SMALL, workers=6, quality=90)) == expected
    assert [how["device"] for how in loads] == ["cpu:0", "cpu"]


# ---- threads --------------------------------------------------------------------------------------------------------


def test_an_interruption_ends_what_other_threads_do():
    """As Ctrl-C in the caller's thread: they are told before they are waited for."""
    begun, ended = Event(), []

    def work(_, check):
        begun.set()
        try:
            while True:
                check()
        except BaseException as error:
            ended.append(type(error))
            raise

    def given() -> Iterator[int]:
        yield 0
        begun.wait()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(side_by_side(work, given(), 2))
    assert ended == [CancelledError]


# ---- time -----------------------------------------------------------------------------------------------------------


def test_calls_at_once_share_the_time(monkeypatch):
    """Transforms from 0 to 6 s and from 2 to 5 s, entropy coding from 3 to 4 s and, alone, from 9 to 10 s."""
    watch, clock = Stopwatch(), iter((0, 2, 3, 4, 5, 6, 9, 10))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    changes = (("analyse", 1), ("analyse", 1), ("encode", 1), ("encode", -1), ("analyse", -1), ("analyse", -1))
    for name, change in (*changes, ("encode", 1), ("encode", -1)):
        watch._count(timing.PARTS[name], change)
    assert watch.seconds == pytest.approx({"transforms": 6 - 1 / 3, "entropy": 1 / 3 + 1})


def test_a_timed_engine_is_timed_where_it_can_be_stopped(alone):
    watch = Stopwatch()
    codec = Codec([find(TINY)], threads=1, wrap=watch.timed)
    for check in (None, lambda: None):
        watch.reset()
        codec.decompress(codec.compress(SMALL[0], check=check), check=check)
        assert set(watch.seconds) == {"transforms", "entropy"}

    def enough() -> None:
        raise Enough

    with pytest.raises(Enough):
        codec.compress(SMALL[0], check=enough)
