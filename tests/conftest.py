"""Tiny models that every test can afford: the structure of the real ones, a few channels wide."""

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import hpcm
from hpcm.core import library
from hpcm.format.container import pack, unpack
from hpcm.model.config import B1, BASE, NANO, Config, Prior
from hpcm.nn.gains import Gain
from hpcm.nn.hpcm import HPCM
from recorder import Recorder

if sanitized := os.environ.get("HPCM_TEST_LIBRARY"):  # `make check-sanitized` names another build
    library.PATH = Path(sanitized).resolve()

TINY = replace(
    NANO,
    name="tiny",
    M=16,
    N=8,
    analysis=((1, 16), (0, 16)),
    synthesis=((0, 16), (1, 16)),
    hyper_analysis=((1, 16), (0, 8)),
    hyper_synthesis=((1, 8), (0, 32)),
    prior_width=16,
)
TINY_BASE = replace(
    BASE,
    name="tiny-base",
    M=16,
    N=8,
    analysis=((1, 8), (1, 8), (2, 16), (0, 16)),
    synthesis=((0, 16), (2, 16), (1, 8), (1, 8)),
    hyper_analysis=((1, 16), (1, 8)),
    hyper_synthesis=((1, 8), (1, 32)),
    prior_width=48,
    heads=4,
    hyper_placement="released",
)
TINY_1B = replace(
    B1,
    name="tiny-1b",
    M=16,
    N=8,
    analysis=((1, 8), (2, 16), (3, 24), (1, 16)),
    synthesis=((1, 16), (3, 24), (1, 16), (2, 8)),
    hyper_analysis=((2, 16), (1, 16)),
    hyper_synthesis=((1, 16), (2, 32)),
    prior_width=48,
    prior_coarse=Prior(before=2, after=1, tail=1),
    prior_fine=Prior(before=1, after=2, tail=1),
    adaptor_blocks=(1, 1, 2),
    hyper_placement="released",
)

os.environ["XDG_DATA_DIRS"] = os.devnull  # what is installed on this machine changes no test

if recorded := os.environ.get("HPCM_TEST_RECORD"):  # where calls of the native library are written to

    @pytest.fixture(scope="session")
    def recorder() -> Iterator[Recorder]:
        with Recorder(Path(recorded)) as recorder:
            yield recorder

    @pytest.fixture(autouse=True)
    def recording(recorder: Recorder) -> None:
        """Before each test: some load the library anew."""
        recorder.attach(library.library())


class _Unexpected(logging.Handler):
    """Makes a note that nobody has asked for an error, but for those about models, which are seldom exact in tests."""

    def emit(self, record: logging.LogRecord) -> None:
        assert record.levelno < logging.WARNING or "isn't exact" in record.getMessage(), record.getMessage()


@pytest.fixture(autouse=True)
def no_unexpected_notes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Unless a test reads the log, or what a command writes. A command in this process leaves its handler there."""
    log = logging.getLogger("hpcm")
    log.handlers.clear()
    log.setLevel(logging.NOTSET)
    if not {"caplog", "capsys", "capfd"} & {*request.fixturenames}:
        log.addHandler(_Unexpected())
    yield
    log.handlers.clear()
    log.setLevel(logging.NOTSET)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums in torch don't depend on the machine's number of cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny() -> Config:
    """NANO's structure: several levels, psi as the context, one parameter network."""
    return TINY


@pytest.fixture(scope="session")
def large() -> bytes:
    """A .hpcm file of 100 megapixels by NANO: one tile of a photograph, 96 times."""
    photo = Image.open(Path(__file__).parent / "data" / "kodim23.png").resize((1024, 1024))
    one = unpack(hpcm.load("nano").compress(photo, quality=30))
    return pack(replace(one, width=12 * 1024, height=8 * 1024, tiles=12 * 8 * one.tiles))


@pytest.fixture
def tiny_base() -> Config:
    """BASE's structure: one level, window attention, the released placement of the hyper parameters."""
    return TINY_BASE


@pytest.fixture(scope="session")
def tiny_1b() -> Config:
    """B1's structure: adaptors of blocks, blocks after the head of a parameter network."""
    return TINY_1B


@pytest.fixture(scope="session")
def build() -> Callable[[Config], HPCM]:
    """Makes a model whose latents and scales spread as those of a trained one do; the same weights every time."""
    return _build


@torch.no_grad()
def _build(config: Config) -> HPCM:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = HPCM(config).eval().requires_grad_(False)
        for module in model.modules():
            if isinstance(module, Gain):
                module.knots.uniform_(0.8, 1.2)
        model.z_means.normal_()
        model.z_scales.uniform_(0.5, 2)
    last_analysis, last_hyper = (
        [m for m in net.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d)][-1]
        for net in (model.g_a, model.h_s)
    )
    last_analysis.weight *= 20
    for layer in [last_hyper, *(prior.head for prior in model.priors if not config.refine)]:
        layer.bias[: config.M] += 1.5
    return model
