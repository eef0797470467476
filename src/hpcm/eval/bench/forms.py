"""What `hpcm bench` measures: a model's weights as they are, exact or in floating point, and pictures for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image

from ...errors import ModelNotFoundError
from ...model.config import MODELS
from ...model.file import WeightsFile, describe
from ...model.find import find
from ...nn.exact.make_exact import carrier_for, make_exact, make_floating
from ...nn.hpcm import HPCM
from ...nn.weights import load_model, save
from .runners import tensor_of

CALIBRATION_SIZE = (512, 512)  # pixels


@dataclass(frozen=True)
class Form:
    """A model's weights in one kind of arithmetic."""

    weights: WeightsFile

    @property
    def is_exact(self) -> bool:
        return bool(self.weights.config.get("carrier"))

    @property
    def label(self) -> str:
        return f"{self.weights.name}, {'exact' if self.is_exact else 'floating point'}"


def heading(model: str) -> str:
    """What a model is called in the output; says so if its weights are random."""
    return f"{model}, random weights" if is_random(model) else Path(model).name


def is_random(model: str) -> bool:
    """Whether a name is that of an architecture whose weights aren't installed."""
    try:
        find(model)
    except ModelNotFoundError:
        return model in MODELS
    return False


@contextmanager
def weights_of(model: str) -> Iterator[WeightsFile]:
    """A model by name or weights file; with random weights if it names an architecture whose weights aren't installed.

    Raises HPCMError as `model.find.find`.
    """
    if not is_random(model):
        yield find(model)
        return
    torch.manual_seed(0)
    with TemporaryDirectory() as folder:
        path = Path(folder, f"{model}.safetensors")
        save(HPCM(MODELS[model]), path, {"weights": "random"})
        yield describe(path)


@contextmanager
def forms_of(weights: WeightsFile, *, both: bool) -> Iterator[Sequence[Form]]:
    """A model as it is and, if both are wanted, in the other arithmetic, too: exact first.

    What is made exact here is calibrated on noise: it is as fast as any exact model of its architecture, but no better
    than that.
    """
    given = Form(weights)
    if not both:
        yield [given]
        return
    with TemporaryDirectory() as folder:
        path = Path(folder, "other.safetensors")
        model = load_model(weights).model
        if given.is_exact:
            save(make_floating(model), path, {}, name=weights.name, half=False)
            yield [given, Form(describe(path))]
        else:
            exact = make_exact(model, _batches(model), carrier_for(model.config))
            save(exact, path, {}, name=weights.name, half=False)
            yield [Form(describe(path)), given]


def floating(weights: WeightsFile) -> HPCM:
    """The weights of a model in floating point, on the CPU."""
    return make_floating(load_model(weights).model)


def _batches(model: HPCM) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """A picture at the lowest and the highest level of a model, to calibrate on."""
    x = tensor_of(picture(CALIBRATION_SIZE), "cpu")
    return [(x, torch.tensor([float(level)])) for level in {0, model.config.levels - 1}]


def picture(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """Smooth noise, of which symbols cost bits; the same every time for a seed. `size`: width and height."""
    width, height = size
    noise = np.random.default_rng(seed).integers(0, 256, (-(-height // 8), -(-width // 8), 3), np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def pictures_of(size: tuple[int, int], count: int) -> list[Image.Image]:
    """Several pictures, no two alike."""
    return [picture(size, seed) for seed in range(count)]
