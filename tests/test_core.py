"""The native library against its plain twin in torch: the same symbols, latents and pixels, to the bit."""

import ctypes
import ctypes.util
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import hpcm
from conftest import TINY, TINY_1B, TINY_BASE, _build
from hpcm.codec.engine import load_engine
from hpcm.core import library
from hpcm.core.coded import Encoded
from hpcm.core.engine import CoreEngine
from hpcm.errors import CorruptError, UsageError, WeightsError
from hpcm.model.config import HYPER_STRIDE, LATENT_STRIDE, Config, Prior
from hpcm.model.find import find
from hpcm.model.layers import INT16_MAX, MAX_LIMIT, to_floats
from hpcm.model.order import steps_of
from hpcm.model.structure import geometries
from hpcm.model.tables import make_tables
from hpcm.nn.engine import TorchEngine
from hpcm.nn.exact.grid import geometries_of, stored_numbers
from hpcm.nn.exact.make_exact import make_exact
from hpcm.nn.hpcm import HPCM

TABLES = make_tables()
KODIM = Path(__file__).parent / "data" / "kodim23.png"
KERNELS = library.library().hpcm_kernels().decode().split()
Numbers = dict[str, np.ndarray]
Size = tuple[int, int]


class Pair(NamedTuple):
    """A model by both engines."""

    core: CoreEngine
    twin: TorchEngine
    numbers: Numbers  # of its weights file


def picture(size: Size, seed: int = 0) -> np.ndarray:
    """Smooth colours with some noise, uint8 [h, w, 3]."""
    torch.manual_seed(seed)
    coarse = torch.rand(1, 3, -(-size[0] // 16), -(-size[1] // 16))
    smooth = torch.nn.functional.interpolate(coarse, scale_factor=16, mode="bicubic")[0, :, : size[0], : size[1]]
    noisy = smooth + 0.02 * torch.randn(smooth.shape)
    return (noisy.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous().numpy()


def padded(size: Size) -> Size:
    height, width = (-(-side // HYPER_STRIDE) * HYPER_STRIDE for side in size)
    return height, width


def exact_model(config: Config) -> HPCM:
    calibration = torch.from_numpy(picture((128, 128), seed=1)).permute(2, 0, 1)[None] / 255
    return make_exact(_build(replace(config, carrier="")), [(calibration, torch.tensor([config.levels // 2]))])


def pair_of(model: HPCM, numbers: Numbers | None = None, threads: int = 1) -> Pair:
    numbers = stored_numbers(model) if numbers is None else numbers
    return Pair(CoreEngine(model.config, numbers, TABLES, threads), TorchEngine(model, TABLES), numbers)


@cache
def tiny_pair() -> Pair:
    return pair_of(exact_model(TINY))


def assert_alike(pair: Pair, size: Size, levels: Sequence[int]) -> None:
    """Both engines give the same of a picture, every way there and back."""
    core, twin, _ = pair
    pixels, whole = picture(size), padded(size)
    inside = (-(-size[0] // LATENT_STRIDE), -(-size[1] // LATENT_STRIDE))
    y = core.analyse(pixels, 255, whole)
    assert np.array_equal(y, twin.analyse(pixels, 255, whole))
    for level in levels:
        coded = core.encode(y, level, inside)
        assert_coded_alike(coded, twin.encode(y, level, inside))
        payload, steps = b"".join(coded.parts), len(steps_of(core.config)) + 1
        decoded = core.decode(payload, steps, y.shape[:2], level, inside)
        assert np.array_equal(decoded.y_hat, coded.y_hat)
        assert (decoded.checksum, decoded.words_left) == (coded.checksums[-1], 0)
        for some in {0, 1, 3, steps - 1}:
            one, other = (engine.decode(payload, some, y.shape[:2], level, inside) for engine in (core, twin))
            assert np.array_equal(one.y_hat, other.y_hat)
            assert (one.checksum, one.words_left) == (other.checksum, other.words_left)
        for some in {1, 3, steps - 1, steps}:
            assert_known_alike(pair, payload, some, y.shape[:2], level, inside)
        for bit_depth, grey in ((8, False), (16, False), (8, True), (16, True)):
            crop = (3, 5, size[1] - 1, size[0])
            one, other = (engine.synthesise(coded.y_hat, bit_depth, grey, crop) for engine in (core, twin))
            assert one.dtype == other.dtype
            assert np.array_equal(one, other)


def assert_coded_alike(one: Encoded, other: Encoded) -> None:
    assert one.parts == other.parts
    assert one.checksums == other.checksums
    assert np.array_equal(one.y_hat, other.y_hat)


def assert_known_alike(pair: Pair, payload: bytes, steps: int, size: Size, level: int, inside: Size) -> None:
    known, checksum = pair.core.decode_known(payload, steps, size, level, inside)
    expected, expected_checksum = pair.twin.decode_known(payload, steps, size, level, inside)
    assert checksum == expected_checksum
    for one, other in zip(known, expected, strict=True):
        assert np.array_equal(one, other, equal_nan=True)
    whole = [*known, *pair.core.unknown(size)[len(known) :]]
    assert np.array_equal(pair.core.fill(whole, level), pair.twin.fill(whole, level))


# ---- structures ------------------------------------------------------------------------------------------------------

STRUCTURES = {
    "nano": TINY,
    "conv4": replace(TINY_BASE, fusion="psi", hyper_placement="aligned"),
    "released": replace(TINY_BASE, fusion="psi"),
    "conv2": replace(TINY_1B, hyper_placement="aligned"),
    "flat": replace(TINY_BASE, fusion="none", hierarchy=False, hyper_placement="aligned"),
    "context_net": replace(TINY, steps=(4, 1, 12), refine=False, context_net=True, interpolation="separate"),
    "odd": replace(
        TINY,
        steps=(1, 3, 3),
        M=24,
        N=5,
        analysis=((1, 13), (1, 24)),
        synthesis=((1, 24), (1, 11)),
        hyper_analysis=((1, 24), (0, 7)),
        hyper_synthesis=((1, 9), (0, 48)),
        prior_width=15,
    ),
}


@pytest.mark.parametrize("structure", STRUCTURES)
def test_every_structure_is_computed_as_by_its_twin(structure: str) -> None:
    config = STRUCTURES[structure]
    assert_alike(pair_of(exact_model(config)), (150, 250), sorted({0, config.levels // 2, config.levels - 1}))


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("transforms", ["int32", "float"])
def test_layers_are_those_of_the_twin(structure: str, transforms: str) -> None:
    config = replace(STRUCTURES[structure], carrier="float32", transforms=transforms)
    with torch.device("meta"):
        assert geometries(config) == geometries_of(HPCM(config))


@st.composite
def configs(draw: st.DrawFn) -> Config:
    """Configurations of any stem, steps and widths."""
    widths = st.integers(4, 40)
    stem = draw(st.sampled_from(("conv4", "conv2", "unshuffle8")))
    M, N, ratio = 8 * draw(st.integers(1, 4)), draw(widths), draw(st.integers(1, 3))
    stages = 4 if stem != "unshuffle8" else 2
    inner = [(draw(st.integers(0, 1)), draw(widths)) for _ in range(2 * stages + 2)]
    blocks = st.integers(0, 1)
    adapted = draw(st.booleans())
    priors = [Prior(draw(blocks), draw(blocks), draw(blocks)) for _ in range(2)]
    return replace(
        TINY,
        M=M,
        N=N,
        stem=stem,
        analysis=(*inner[: stages - 1], (draw(blocks), M)),
        synthesis=((draw(blocks), M), *inner[stages : 2 * stages - 1]),
        hyper_analysis=((draw(blocks), M), inner[-1]),
        hyper_synthesis=(inner[-2], (draw(blocks), 2 * M)),
        partial=draw(st.integers(1, 4)),
        ratio=ratio,
        prior_width=3 * M if adapted else draw(widths),
        prior_coarse=priors[0],
        prior_fine=draw(st.sampled_from((None, priors[1]))),
        adaptor_blocks=(1, 0, 1) if adapted else (0, 0, 0),
        steps=draw(
            st.tuples(st.sampled_from((1, 2, 4)), st.sampled_from((1, 3)), st.sampled_from((1, 2, 3, 4, 6, 12)))
        ),
        hierarchy=draw(st.booleans()),
        fusion=draw(st.sampled_from(("psi", "none"))),
        context_net=draw(st.booleans()),
        refine=draw(st.booleans()),
        hyper_placement=draw(st.sampled_from(("aligned", "released"))),
        interpolation=draw(st.sampled_from(("separate", "paired"))),
        levels=draw(st.sampled_from((1, 2, 64))),
    )


@settings(deadline=None, max_examples=15)
@given(configs())
def test_any_configuration_is_computed_as_by_its_twin(config: Config) -> None:
    assert_alike(pair_of(exact_model(config)), (64, 128), [config.levels - 1])


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (65, 64), (64, 300), (333, 17)])
def test_sizes(size: Size) -> None:
    assert_alike(tiny_pair(), size if min(size) > 8 else (9, 9), [40])


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (6, 9)])
def test_transforms_of_any_size(size: Size) -> None:
    """What is analysed or synthesised with its surroundings needn't be whole cells of z."""
    core, twin, _ = tiny_pair()
    pixels = picture((16 * size[0], 16 * size[1]))
    y = core.analyse(pixels, 255, pixels.shape[:2])
    assert np.array_equal(y, twin.analyse(pixels, 255, pixels.shape[:2]))
    crop = (0, 0, 16 * size[1], 16 * size[0])
    assert np.array_equal(core.synthesise(y, 8, False, crop), twin.synthesise(y, 8, False, crop))


def test_layers_whose_inputs_need_more_than_16_bits() -> None:
    model = exact_model(TINY)
    numbers = stored_numbers(model)
    structure = geometries_of(model)
    wide = 0
    for name, geometry in structure.items():
        transform = name.startswith(("g_a", "h_a", "g_s"))
        weight = numbers[f"{name}.weight"] // (256 if transform else 16)  # coarser, which leaves room to the inputs
        largest = max(np.abs(geometry.rows(weight.astype(np.int64))).sum(1).max(), 1)
        bias = np.abs(numbers[f"{name}.bias"].astype(np.int64)).max()
        limit = min(((1 << (31 if transform else 24)) - 1 - bias) // largest, MAX_LIMIT)
        numbers[f"{name}.weight"], numbers[f"{name}.limit"] = weight, np.array(limit, np.int32)
        numbers[f"{name}.input_bits"] = numbers[f"{name}.input_bits"] + np.int8(6)
        wide += limit > INT16_MAX and geometry.kind != "depthwise"
    assert wide > 10
    model.load_state_dict({key: torch.from_numpy(value) for key, value in to_floats(numbers, structure).items()})
    assert_alike(pair_of(model, numbers), (64, 128), [40])


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("limit", [INT16_MAX, MAX_LIMIT])
@pytest.mark.parametrize("sign", [1, -1])
def test_sums_may_reach_their_bound(kernels: str, limit: int, sign: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All products of a sum are as large as they can be, and of one sign."""
    monkeypatch.setenv("HPCM_KERNELS", kernels)
    model = exact_model(TINY)
    numbers, structure = stored_numbers(model), geometries_of(model)
    bound = (1 << 31) - 1
    for name, geometry in structure.items():
        if not name.startswith("g_s"):
            continue
        weight = numbers[f"{name}.weight"]
        products = geometry.rows(weight).shape[1]
        k = min(bound // (limit * products), INT16_MAX)
        bias = bound - k * limit * products & ~0xFF  # which float32 holds
        numbers[f"{name}.weight"] = np.full(weight.shape, k, np.int16)
        numbers[f"{name}.bias"] = np.full_like(numbers[f"{name}.bias"], sign * bias)
        numbers[f"{name}.limit"] = np.array(limit, np.int32)
    model.load_state_dict({key: torch.from_numpy(value) for key, value in to_floats(numbers, structure).items()})
    core, twin, _ = pair_of(model, numbers)
    y_hat = np.full((2, 3, core.config.M), sign * np.inf, np.float32)
    pixels = core.synthesise(y_hat, 16, False, (0, 0, 48, 32))
    assert np.array_equal(pixels, twin.synthesise(y_hat, 16, False, (0, 0, 48, 32)))


# ---- the bundled models ----------------------------------------------------------------------------------------------


@cache
def bundled(name: str) -> tuple[CoreEngine, TorchEngine]:
    core, twin = (load_engine(find(name), engine, threads=1).engine for engine in ("core", "torch"))
    assert isinstance(core, CoreEngine)
    assert isinstance(twin, TorchEngine)
    return core, twin


@pytest.mark.parametrize("name", ["nano", "lite", "lite-mse"])
@pytest.mark.parametrize("which", ["some_levels", "other_levels"])  # some are enough for slow machines
def test_bundled_models_are_computed_as_by_their_twins(name: str, which: str) -> None:
    core, twin = bundled(name)
    some = set(range(0, core.config.levels, 9))
    pixels = np.asarray(Image.open(KODIM).crop((300, 100, 300 + 128, 100 + 64)))
    y = core.analyse(pixels, 255, (64, 128))
    assert np.array_equal(y, twin.analyse(pixels, 255, (64, 128)))
    for level in some if which == "some_levels" else set(range(core.config.levels)) - some:
        coded = core.encode(y, level)
        assert_coded_alike(coded, twin.encode(y, level))
        one, other = (engine.synthesise(coded.y_hat, 8, False, (0, 0, 128, 64)) for engine in (core, twin))
        assert np.array_equal(one, other)


def test_tables_are_chosen_as_by_the_twin() -> None:
    """Scales at the edges of each table's range, and beyond all of them."""
    edges = TABLES.scales
    extremes = np.array([0, -0.0, -1, 1e-45, 1e-38, 2**-32, 2**32], np.float32)
    scales = [edges, np.nextafter(edges, np.float32(0)), np.nextafter(edges, np.float32(1e9)), extremes]
    z_scales = np.concatenate(scales).reshape(1, -1, 1, 1)
    N = z_scales.shape[1]
    model = exact_model(replace(TINY, N=N, hyper_analysis=((0, 16), (0, 8)), levels=1))
    model.z_scales.data.copy_(torch.from_numpy(z_scales))
    core, twin, _ = pair_of(model, stored_numbers(model) | {"z_scales": z_scales})
    y = core.analyse(picture((64, 128)), 255, (64, 128))
    z = np.random.default_rng(0).normal(0, 3, (1, 2, N)).astype(np.float32)
    assert_coded_alike(core.encode(y, 0, z=z), twin.encode(y, 0, z=z))


# ---- kernels and threads ---------------------------------------------------------------------------------------------


PICTURE = picture((150, 250))


def everything(engine: CoreEngine) -> list[bytes]:
    """All that an engine gives of a picture."""
    y = engine.analyse(PICTURE, 255, padded(PICTURE.shape[:2]))
    coded = engine.encode(y, engine.config.levels // 2)
    pixels = engine.synthesise(coded.y_hat, 16, False, (0, 0, 250, 150))
    return [y.tobytes(), *coded.parts, coded.y_hat.tobytes(), pixels.tobytes()]


def core_of(structure: str, threads: int = 1) -> CoreEngine:
    model = exact_model(STRUCTURES[structure])
    return CoreEngine(model.config, stored_numbers(model), TABLES, threads)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_all_kernels_give_the_same(structure: str, monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for name in KERNELS:
        monkeypatch.setenv("HPCM_KERNELS", name)
        engine = core_of(structure)
        assert engine.kernels == name
        results.append(everything(engine))
    assert all(result == results[0] for result in results)


def test_kernels_that_the_machine_lacks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPCM_KERNELS", "abacus")
    with pytest.raises(UsageError, match=r"HPCM_KERNELS.*generic"):
        core_of("nano")


@pytest.mark.parametrize("threads", [2, 3, 16])
def test_any_number_of_threads_gives_the_same(threads: int) -> None:
    assert everything(core_of("nano", threads)) == everything(tiny_pair().core)


def test_several_callers_at_once() -> None:
    engine, results = core_of("nano", 3), []
    callers = [threading.Thread(target=lambda: results.append(everything(engine))) for _ in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert results == [everything(engine)] * 6


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_has_threads_of_its_own() -> None:
    engine = core_of("nano", 3)
    expected = everything(engine)  # starts the parent's threads
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(everything(engine) == expected))
    child.start()
    assert receiver.poll(60)
    assert receiver.recv()
    child.join()
    assert everything(engine) == expected


@pytest.mark.parametrize("upward", [0x800, 0x400])  # FE_UPWARD, FE_DOWNWARD of x86
def test_the_callers_rounding_mode_has_no_influence(upward: int) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("the modes have other numbers here")
    libm = ctypes.CDLL(ctypes.util.find_library("m"))
    pair = tiny_pair()
    expected = everything(pair.core)
    before = libm.fegetround()
    try:
        libm.fesetround(upward)
        result = everything(CoreEngine(pair.core.config, pair.numbers, TABLES))
        assert libm.fegetround() == upward
    finally:
        libm.fesetround(before)
    assert result == expected


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("after", [0, 1, 3, 10])
def test_a_check_ends_the_work(after: int) -> None:
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls > after:
            raise StoppedError

    engine = tiny_pair().core.stoppable(check)
    with pytest.raises(StoppedError):
        everything(engine)
    assert calls == after + 1
    assert everything(tiny_pair().core)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers here")
@pytest.mark.parametrize("milliseconds", [1, 2, 3, 5, 7, 11, 13])
def test_what_a_signal_raises_ends_the_work(milliseconds: int) -> None:
    """Its handler runs wherever Python code goes on, also where the library calls back."""

    def stop(*_: object) -> None:
        raise StoppedError

    engine, before = tiny_pair().core, signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, milliseconds / 1000)
        with pytest.raises(StoppedError):
            [everything(engine) for _ in range(1000)]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# ---- bad input -------------------------------------------------------------------------------------------------------


def changed(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Numbers:
    numbers = dict(tiny_pair().numbers)
    numbers[name] = change(numbers[name])
    return numbers


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("h_s.0.weight", lambda k: k[:-1]),
        ("h_s.0.weight", lambda k: k.astype(np.float32)),
        ("h_s.0.weight", lambda k: k[..., None, None][..., 0, 0][None]),
        ("g_a.1.bias", lambda b: np.full_like(b, 2**31 - 1)),
        ("g_a.1.weight", lambda k: np.full_like(k, -32768)),
        ("priors.0.head.limit", lambda limit: np.array(2**22, np.int32)),
        ("priors.0.head.limit", lambda limit: np.array(0, np.int32)),
        ("priors.0.head.exponent", lambda e: np.full_like(e, 65)),
        ("g_s.0.input_bits", lambda b: np.full_like(b, -128)),
        ("z_means", lambda z: np.full_like(z, np.nan)),
        ("z_scales", lambda z: np.full_like(z, np.inf)),
        ("y_gain.knots", lambda g: np.zeros_like(g)),
        ("y_inverse.knots", lambda g: np.full_like(g, 1e20)),
        ("gains.3.knots", lambda g: np.full_like(g, np.nan)),
    ],
)
def test_weights_that_do_not_fit_are_refused_by_name(name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    with pytest.raises(WeightsError, match=name.rsplit(".", 1)[0]):
        CoreEngine(tiny_pair().core.config, changed(name, change), TABLES)


@pytest.mark.parametrize("name", ["h_s.0.weight", "g_s.1.expand.limit", "gains.0.knots", "z_means"])
def test_weights_that_are_missing_are_refused_by_name(name: str) -> None:
    numbers = dict(tiny_pair().numbers)
    del numbers[name]
    with pytest.raises(WeightsError, match=name):
        CoreEngine(tiny_pair().core.config, numbers, TABLES)


def test_a_bias_that_float32_does_not_hold_is_refused() -> None:
    """The twin would compute with another one."""
    numbers = changed("g_a.1.bias", lambda b: np.full_like(b, (1 << 24) + 1))
    numbers["g_a.1.weight"] = np.zeros_like(numbers["g_a.1.weight"])
    with pytest.raises(WeightsError, match=r"g_a\.1\.bias"):
        CoreEngine(tiny_pair().core.config, numbers, TABLES)


@pytest.mark.parametrize("name", ["extra", "h_s.0.weight.", "h_s.0.weight\0"])
def test_arrays_that_the_configuration_does_not_ask_for_are_refused(name: str) -> None:
    numbers = tiny_pair().numbers | {name: np.zeros(1, np.float32)}
    with pytest.raises(WeightsError, match=r"ask for|called"):
        CoreEngine(tiny_pair().core.config, numbers, TABLES)


def misaligned(array: np.ndarray) -> np.ndarray:
    """The same numbers, one byte beyond where a processor would like them."""
    room = np.zeros(array.nbytes + 1, np.uint8)
    room[1:] = np.frombuffer(array.tobytes(), np.uint8)
    return room[1:].view(array.dtype).reshape(array.shape)


def test_arrays_may_lie_anywhere() -> None:
    """Only with the sanitizers can this fail on each processor."""
    pair, pixels = tiny_pair(), PICTURE.astype(np.uint16)
    y = pair.core.analyse(pixels, 255, padded(PICTURE.shape[:2]))
    engine = CoreEngine(pair.core.config, {name: misaligned(value) for name, value in pair.numbers.items()}, TABLES)
    for dtype in (np.uint16, np.float32):
        assert np.array_equal(engine.analyse(misaligned(PICTURE.astype(dtype)), 255, padded(PICTURE.shape[:2])), y)


def test_a_type_that_the_library_does_not_know_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It might read beyond the array."""
    monkeypatch.setattr(library, "TYPES", ("int8", "int16", "int32", "", "float32", "", "", "float16"))
    numbers = changed("z_means", lambda z: z.astype(np.float16))
    with pytest.raises(WeightsError, match="z_means has a wrong type"):
        CoreEngine(tiny_pair().core.config, numbers, TABLES)


# ---- floats that are no pictures or latents --------------------------------------------------------------------------


def wild(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Numbers among which are NaN, infinities, very large and very small ones."""
    rng = np.random.default_rng(seed)
    numbers = rng.normal(0, 4, shape).astype(np.float32)
    extremes = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-45, -0.0], np.float32)
    return np.where(rng.random(shape) < 0.1, rng.choice(extremes, shape), numbers)


def with_nan_as(value: float, numbers: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(numbers), np.float32(value), numbers)


def test_pixels_are_clamped_and_nan_is_black() -> None:
    engine, pixels = tiny_pair().core, wild((64, 128, 3))
    expected = np.clip(with_nan_as(0, pixels) / np.float32(255), -65536, 65536) * np.float32(255)
    y = engine.analyse(pixels, 255, (64, 128))
    assert np.array_equal(y, engine.analyse(expected, 255, (64, 128)))
    assert np.isfinite(y).all()


def test_latents_are_clamped_to_the_limits_of_layers() -> None:
    core, twin, _ = tiny_pair()
    y_hat, crop = wild((4, 8, core.config.M)), (0, 0, 128, 64)
    infinite = with_nan_as(-np.inf, y_hat)
    pixels = core.synthesise(infinite, 16, False, crop)
    assert np.array_equal(core.synthesise(y_hat, 16, False, crop), pixels)
    assert np.array_equal(twin.synthesise(infinite, 16, False, crop), pixels)


def test_symbols_are_clamped() -> None:
    engine, bound = tiny_pair().core, 2.0**30
    y, z = wild((4, 8, engine.config.M)), wild((1, 2, engine.config.N))
    for hyper in (None, z):
        coded = engine.encode(y, 40, z=hyper)
        infinite = None if hyper is None else with_nan_as(-np.inf, hyper)
        assert_coded_alike(coded, engine.encode(with_nan_as(-np.inf, y), 40, z=infinite))
        decoded = engine.decode(b"".join(coded.parts), len(steps_of(engine.config)) + 1, (4, 8), 40)
        assert np.array_equal(decoded.y_hat, coded.y_hat)
        assert (decoded.checksum, decoded.words_left) == (coded.checksums[-1], 0)
        known, _ = engine.decode_known(b"".join(coded.parts), len(steps_of(engine.config)) + 1, (4, 8), 40)
        assert np.nanmax(np.abs(known[-1])) == pytest.approx(bound)


def test_large_numbers_are_coded_as_by_the_twin() -> None:
    core, twin, _ = tiny_pair()
    y = np.clip(np.nan_to_num(wild((4, 8, core.config.M))), -1e6, 1e6)
    z = np.clip(np.nan_to_num(wild((1, 2, core.config.N))), -1e6, 1e6)
    assert_coded_alike(core.encode(y, 40), twin.encode(y, 40))
    assert_coded_alike(core.encode(y, 40, z=z), twin.encode(y, 40, z=z))


def test_what_is_known_may_be_any_number() -> None:
    core, twin, _ = tiny_pair()
    known = [wild(latent.shape, seed) for seed, latent in enumerate(core.unknown((4, 8)))]
    assert not np.isnan(core.fill(known, 40)).any()
    finite = [np.where(np.isinf(latent), 0, latent) for latent in known]
    assert np.array_equal(core.fill(finite, 40), twin.fill(finite, 40))


def test_wild_numbers_give_the_same_with_all_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    results = []
    for name in KERNELS:
        monkeypatch.setenv("HPCM_KERNELS", name)
        engine = core_of("nano")
        y = engine.analyse(wild((64, 128, 3)), 255, (64, 128))
        coded = engine.encode(wild((4, 8, engine.config.M)), 40)
        known = [wild(latent.shape) for latent in engine.unknown((4, 8))]
        pixels = engine.synthesise(wild((4, 8, engine.config.M)), 8, True, (0, 0, 128, 64))
        results.append([*coded.parts, y.tobytes(), engine.fill(known, 40).tobytes(), pixels.tobytes()])
    assert all(result == results[0] for result in results)


def test_payloads_of_strangers_give_a_latent_or_an_error() -> None:
    rng = np.random.default_rng(0)
    engine = tiny_pair().core
    y = engine.analyse(picture((64, 64)), 255, (64, 64))
    payload = b"".join(engine.encode(y, 40).parts)
    steps = len(steps_of(engine.config)) + 1
    refused = 0
    for trial in range(300):
        forged = bytearray(payload if trial % 3 else rng.bytes(4 * int(rng.integers(0, 100))))
        for _ in range(trial % 7):
            if forged:
                forged[rng.integers(len(forged))] = rng.integers(256)
        try:
            decoded = engine.decode(bytes(forged), steps, (4, 4), 40)
        except CorruptError:
            refused += 1
            continue
        assert np.isfinite(decoded.y_hat).all()
        pixels = engine.synthesise(decoded.y_hat, 8, False, (0, 0, 64, 64))
        assert pixels.shape == (64, 64, 3)
    assert refused < 300


def test_a_payload_that_goes_on_is_noticed() -> None:
    engine = tiny_pair().core
    y = engine.analyse(picture((64, 64)), 255, (64, 64))
    payload = b"".join(engine.encode(y, 40).parts)
    decoded = engine.decode(payload + b"\1\0\0\0", len(steps_of(engine.config)) + 1, (4, 4), 40)
    assert decoded.words_left > 0


def test_a_missing_library_says_how_to_build_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    library.library.cache_clear()
    monkeypatch.setattr(library, "PATH", tmp_path / "libhpcm.so")
    with pytest.raises(UsageError, match="pip install"):
        library.library()
    (tmp_path / "libhpcm.so").write_bytes(b"no library")
    with pytest.raises(UsageError, match="pip install"):
        library.library()
    library.library.cache_clear()


def test_latents_of_other_shapes_are_refused() -> None:
    engine = tiny_pair().core
    M, N = engine.config.M, engine.config.N
    y, z = np.zeros((4, 4, M), np.float32), np.zeros((1, 1, N), np.float32)
    with pytest.raises(ValueError, match="shape"):
        engine.encode(y[..., : M // 2], 3)
    with pytest.raises(ValueError, match="shape"):
        engine.encode(y, 3, None, z[..., 1:])
    with pytest.raises(ValueError, match="shape"):
        engine.synthesise(y[..., 1:], 8, False, (0, 0, 16, 16))
    with pytest.raises(ValueError, match="shape"):
        engine.fill([z, y, y, y], 3)
    with pytest.raises(ValueError, match="shape"):
        engine.fill([z, y], 3)


def test_arguments_that_cannot_be_are_refused() -> None:
    engine = tiny_pair().core
    levels, steps, whole = engine.config.levels, len(steps_of(engine.config)) + 1, (0, 0, 64, 64)
    y, pixels = np.zeros((4, 4, engine.config.M), np.float32), np.zeros((64, 64, 3), np.uint8)
    payload = b"".join(engine.encode(y, 3).parts)
    refused: list[Callable[[], object]] = [
        lambda: engine.analyse(pixels, 0, (64, 64)),
        lambda: engine.analyse(pixels, 255, (64, 48)),
        lambda: engine.analyse(pixels[..., :2], 255, (64, 64)),
        lambda: engine.encode(y, -1),
        lambda: engine.encode(y, levels),
        lambda: engine.encode(y[:3], 3),
        lambda: engine.encode(y, 3, (5, 4)),
        lambda: engine.encode(y, 3, (4, 0)),
        lambda: engine.decode(payload, -1, (4, 4), 3),
        lambda: engine.decode(payload, steps, (4, 4), levels),
        lambda: engine.decode_known(payload, 0, (4, 4), 3),
        lambda: engine.decode_known(payload, steps + 1, (4, 4), 3),
        lambda: engine.fill(engine.unknown((4, 4)), levels),
        lambda: engine.synthesise(y, 8, False, (0, 0, 65, 64)),
        lambda: engine.synthesise(y, 8, False, (-1, 0, 63, 64)),
        lambda: engine.synthesise(y, 8, False, (8, 0, 8, 64)),
    ]
    for call in refused:
        with pytest.raises(ValueError, match="refuses an argument"):
            call()
    assert engine.synthesise(y, 8, False, whole).shape == pixels.shape


@pytest.mark.parametrize("threads", [0, -1, 257, 2**40, 1.5])
def test_numbers_of_threads_that_cannot_be_are_refused(threads: float) -> None:
    with pytest.raises(UsageError, match=f"threads is {threads}"):
        hpcm.load("nano", threads=threads)
