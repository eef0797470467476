"""The public surface: names, parameters and results that other people's code relies on. What stands here stays."""

import argparse
import inspect
from collections.abc import Callable
from operator import attrgetter

import pytest
import torch
from PIL import Image

import hpcm
from hpcm.cli.commands import parser
from hpcm.defaults import ARCHITECTURES
from hpcm.image.planes import Samples

PUBLIC = [
    "compress",
    "decompress",
    "decompress_array",
    "preview",
    "load",
    "models",
    "latents",
    "load_model",
    "save_model",
    "save_exact",
    "Codec",
    "HPCM",
    "Config",
    "HPCMError",
    "official",
    "__version__",
]
COMMANDS = (  # others may come
    *("compress", "decompress", "info", "models", "import", "exact"),
    *("train", "eval", "bench", "serve", "archive"),
)


def signature(function: Callable) -> inspect.Signature:
    """With annotations as types."""
    return inspect.signature(function, eval_str=True)


def test_the_list_of_names():
    assert hpcm.__all__ == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_names_resolve(name):
    assert getattr(hpcm, name) is not None
    assert name in dir(hpcm)


CALLS = {  # function: its arguments by place, some by name, and the type of its result
    "compress": (["image"], ["quality", "model"], bytes),
    "decompress": (["data"], ["model"], Image.Image),
    "decompress_array": (["data"], ["model"], Samples),
    "preview": (["data"], ["model"], Image.Image),
    "load": (["name_or_path", "device"], ["engine", "threads", "max_pixels"], hpcm.Codec),
    "Codec.compress": (["self", "image"], ["quality", "bpp", "psnr", "tile", "progressive", "effort"], bytes),
    "Codec.decompress": (["self", "data"], ["box", "draft", "scale", "max_pixels"], Image.Image),
    "Codec.decompress_array": (["self", "data"], ["bit_depth"], Samples),
    "Codec.preview": (["self", "data"], ["box", "draft", "max_pixels"], Image.Image),
    "HPCM.__init__": (["self", "config"], [], None),
    "HPCM.forward": (["self", "x", "level"], [], dict[str, torch.Tensor | dict[str, torch.Tensor]]),
    "official.from_official": (["checkpoint", "arch"], [], hpcm.HPCM),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls(name):
    by_place, by_name, result = CALLS[name]
    function = attrgetter(name)(hpcm)
    parameters = signature(function).parameters.values()
    assert [parameter.name for parameter in parameters if parameter.kind is parameter.POSITIONAL_OR_KEYWORD] == by_place
    signature(function).bind(*by_place, **dict.fromkeys(by_name))
    assert signature(function).return_annotation == result


def test_defaults():
    assert signature(hpcm.compress).parameters["model"].default == "lite"
    assert signature(hpcm.load).parameters["name_or_path"].default == "lite"
    assert signature(hpcm.load).parameters["device"].default == "cpu"
    assert signature(hpcm.HPCM.forward).parameters["level"].default is None


def test_models():
    """No arguments; each has a name that `load` takes."""
    assert not inspect.signature(hpcm.models).parameters
    assert {"lite-1", "lite-mse-1", "nano-1"} <= {model.name for model in hpcm.models()}


def test_results_of_forward(tiny, build):
    x = torch.rand(2, 3, 128, 192)
    output = build(tiny)(x)
    assert output.keys() == {"x_hat", "likelihoods"}
    assert output["x_hat"].shape == x.shape
    shapes = {name: tuple(values.shape) for name, values in output["likelihoods"].items()}
    assert shapes == {"y": (2, tiny.M, 8, 12), "z": (2, tiny.N, 2, 3)}


def test_every_error_is_one_of_hpcm():
    from hpcm import errors

    classes = [value for value in vars(errors).values() if isinstance(value, type)]
    assert len(classes) > 3
    assert all(issubclass(error, hpcm.HPCMError) for error in classes)


def test_architectures():
    assert tuple(ARCHITECTURES) == ("base", "large", "1b", "base-phi")
    assert tuple(hpcm.official.ARCHS) == ("base", "large", "1b", "base-phi")


def test_commands():
    (commands,) = [action for action in parser()._actions if isinstance(action, argparse._SubParsersAction)]
    assert {*COMMANDS} <= {*commands.choices}
