"""The authors' checkpoints -> ours: one table of renames.

The released code ("LIC-HPCM", and the 1B models of arXiv 2508.09075) names its parameters after its own classes; the
rules below turn our names into theirs, so that every parameter of a model is asked for exactly once. Tensors keep
their shapes, except for the step gains (theirs [1, W, 1, 1], ours [1, W]). Three things are easy to get wrong:

- The lists of adaptors are indexed with i - 1 from i = 0, so the first step on a scale uses the *last* adaptor:
  scale 2 takes 2, 0, 1 and scale 3 takes 5, 0, 1, 2, 3, 4. The gains are in the order of the steps.
- The released models are trained with misplaced hyper parameters on scale 2: `Config.hyper_placement`.
- A checkpoint also holds buffers of its entropy coder, which we don't use, and may have names with `module.` in front.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZipFile, is_zipfile

import torch
from torch import Tensor

from ..defaults import ARCHITECTURES
from ..errors import UsageError, WeightsError
from ..format.fields import MODEL_NAME
from ..model.config import MODELS, Config, Stages
from ..nn.hpcm import HPCM
from ..nn.layers import PConvRB
from ..nn.weights import save

ARCHS = {name: replace(MODELS[name], hyper_placement="released", likelihood="cdf") for name in ARCHITECTURES}
PREFIX = "module."  # of names in checkpoints of distributed training
IGNORED = re.compile(r"scale_table|quantized_cdf_.*|cdf_length_.*|offset_.*|entropy_estimation\..*")
SHOWN = 3  # names in a message

# For each step but step 0, its scale and the number of its adaptor in that scale's list. The released loop counts the
# steps of a scale from 0 but takes adaptor i - 1, and -1 is the last one: the order is no slip of this table.
ADAPTORS = (("s1", 0), *(("s2", i) for i in (2, 0, 1)), *(("s3", i) for i in (5, 0, 1, 2, 3, 4)))
PRIORS = ("y_spatial_prior_s1_s2", "y_spatial_prior_s3")

Rule = tuple[str, Callable[[re.Match[str]], str]]  # pattern of our name -> theirs


def from_official(state_dict: Mapping[str, Tensor], arch: str) -> HPCM:
    """The authors' parameters as a model of ours, float32, in evaluation mode.

    Args:
        state_dict: their names -> tensors, with or without `module.` in front and buffers of the entropy coder.
        arch: base, large, 1b or base-phi.

    Raises WeightsError for unknown or missing names and wrong shapes, UsageError for an unknown `arch`.
    """
    if arch not in ARCHS:
        raise UsageError(f"no architecture {arch!r}: the authors' are {', '.join(ARCHS)}")
    with torch.device("meta"):
        model = HPCM(ARCHS[arch])
    theirs = {name.removeprefix(PREFIX): value for name, value in state_dict.items()}
    theirs = {name: value for name, value in theirs.items() if not IGNORED.fullmatch(name)}
    names = official_names(model)
    _complain("has no", set(names.values()) - theirs.keys(), arch)
    _complain("has unknown", theirs.keys() - set(names.values()), arch)
    shapes = {ours: tuple(value.shape) for ours, value in model.state_dict().items()}
    wrong = set()
    for ours, their in names.items():
        shape, expected = tuple(theirs[their].shape), _their_shape(ours, shapes[ours])
        if shape != expected:
            wrong.add(f"{their} of shape {list(shape)} instead of {list(expected)}")
    _complain("has", wrong, arch)
    tensors = {ours: theirs[their].detach().float().reshape(shapes[ours]) for ours, their in names.items()}
    model.load_state_dict(tensors, assign=True)
    return model.eval()


def import_checkpoint(path: Path, arch: str, output: Path, lmbda: float | None = None) -> None:
    """Reads an authors' checkpoint (.pth.tar, .pth, .pt) and writes a weights file of ours.

    The model is named after the output file, so that .hpcm files name it. For `lmbda` and errors see `read`.
    """
    if not MODEL_NAME.fullmatch(output.stem):
        raise UsageError(
            f"the weights file's name is the model's: {output.stem!r} must be up to 32 of a-z, 0-9, '.', '_' and '-', "
            "starting with a letter or a digit"
        )
    model = read(path, arch, output.stem, lmbda)
    save(model, output, {"source": path.name, "arch": arch, "by": "the authors of HPCM"}, half=False)


def read(path: Path, arch: str, name: str, lmbda: float | None = None) -> HPCM:
    """An authors' checkpoint as a model of a name, in floating point. Raises WeightsError, UsageError.

    Args:
        lmbda: what it was trained with, in units of its loss; no checkpoint holds it.
    """
    checkpoint = _read(path)
    try:
        model = from_official(checkpoint, arch)
    except WeightsError as error:
        fitting = [f"; it is a {other}" for other in ARCHS if other != arch and _fits(checkpoint, other)]
        raise WeightsError(f"{path}: {error}{''.join(fitting)}") from None
    if damaged := [name for name, value in model.state_dict().items() if not bool(value.isfinite().all())]:
        raise WeightsError(f"{path} is damaged: {len(damaged)} parameters, {damaged[0]} among them, aren't finite")
    model.config = replace(model.config, name=name, lambda_min=lmbda or model.config.lambda_min)
    return model


def official_names(model: HPCM) -> dict[str, str]:
    """Our parameter names -> theirs."""
    partial = {name for name, module in model.named_modules() if isinstance(module, PConvRB)}
    rules = _rules(model.config)
    names = {}
    for ours in model.state_dict():
        block = ours.split(".spatial.")[0]
        their = ours.replace(".spatial.", ".branch.0.pconv." if block in partial else ".branch.0.")
        # ".branch.2" is the LeakyReLU.
        their = their.replace(".expand.", ".branch.1.").replace(".project.", ".branch.3.")
        for pattern, rename in rules:
            their = re.sub("^" + pattern, rename, their)
        names[ours] = their
    return names


def _rules(config: Config) -> list[Rule]:
    """How our names begin -> how theirs do; the parts of a residual block are renamed before."""
    later = [config.prior_coarse.after, (config.prior_fine or config.prior_coarse).after]
    rules: list[Rule] = [
        (r"z_(means|scales)", lambda m: f"{m[1]}_hyper"),
        (r"gains\.(\d+)\.knots", lambda m: f"adaptive_params_list.{m[1]}"),
        (r"priors\.(\d)\.before", lambda m: f"{PRIORS[int(m[1])]}.branch_1"),
        (r"priors\.(\d)\.after", lambda m: f"{PRIORS[int(m[1])]}.branch_2"),
        # The head and the tail go on counting where the blocks after the gain end.
        (r"priors\.(\d)\.head", lambda m: f"{PRIORS[int(m[1])]}.branch_2.{later[int(m[1])]}"),
        (
            r"priors\.(\d)\.tail\.(\d+)",
            lambda m: f"{PRIORS[int(m[1])]}.branch_2.{later[int(m[1])] + 1 + int(m[2])}",
        ),
        (r"fusions\.(\d)\.", lambda m: f"attn_s{int(m[1]) + 1}.conv_"),
        (r"context_nets", lambda m: "context_net"),
        (r"adaptors\.(\d+)(\.\d+)", lambda m: _adaptor(config, int(m[1]), m[2])),
    ]
    if config.stem == "conv4":
        return [*rules, (r"([gh]_[as])\.", lambda m: f"{m[1]}.branch.")]
    down = _stage_names(config.analysis, "g_a.g_a_{}{}", "down")
    up = _stage_names(config.synthesis, "g_s.g_s_{}{}", "up")
    return [*rules, (r"g_a\.(\d+)", lambda m: down[int(m[1])]), (r"g_s\.(\d+)", lambda m: up[int(m[1])])]


def _adaptor(config: Config, later: int, block: str) -> str:
    scale, number = ADAPTORS[later]
    single = config.adaptor_blocks[int(scale[1]) - 1] == 0  # a 1x1 convolution, which isn't in a list
    return f"y_spatial_prior_adaptor_list_{scale}.{number}{'' if single else block}"


def _stage_names(stages: Stages, form: str, move: str) -> list[str]:
    """The 1B models' names of the layers of g_a (down1, chunk1, ..., chunk4) or g_s (chunk4, up4, ..., up1)."""
    names = []
    for stage, (blocks, _) in enumerate(stages):
        number = stage + 1 if move == "down" else len(stages) - stage
        chunk = [f"{form.format('chunk', number)}.{block}" for block in range(blocks)]
        change = [form.format(move, number)]
        names += change + chunk if move == "down" else chunk + change
    return names


def _their_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape, 1, 1) if name.startswith("gains.") else shape


def _complain(what: str, names: set[str], arch: str) -> None:
    """Raises WeightsError with the first few names, if there are any."""
    if names:
        first = ", ".join(sorted(names)[:SHOWN])
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        raise WeightsError(f"the checkpoint is no {arch}: it {what} {first}{more}")


def _fits(checkpoint: Mapping[str, Tensor], arch: str) -> bool:
    try:
        return bool(from_official(checkpoint, arch))
    except WeightsError:
        return False


def _read(path: Path) -> dict[str, Tensor]:
    """A checkpoint's tensors by name. Raises WeightsError."""
    content = _unpickled(path)
    for key in ("state_dict", "model"):  # behind which training scripts put them, beside the optimizer's
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(f"{path} holds no state dict: parameter names and tensors are expected")
    return content


def _unpickled(path: Path) -> Any:
    """What torch saved. Code in it is never run: only tensors and plain containers are unpickled."""
    try:
        _refuse_web_page(path)
        zipped = is_zipfile(path)  # as torch writes since 1.6
        if zipped:
            _check_crcs(path)
        # Memory is mapped where that is possible: the 1B models' 4 GB needn't be copied.
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except OSError as error:
        raise WeightsError(f"{path} can't be read: {error.strerror or error}") from error
    except WeightsError:
        raise
    except Exception as error:  # torch.load raises whatever a damaged or hostile file makes it stumble over
        raise WeightsError(f"{path} is damaged, or holds more than tensors, which is never loaded") from error


def _refuse_web_page(path: Path) -> None:
    """Drive shows a page before large files, which some save as the file."""
    with path.open("rb") as file:
        start = file.read(64).lstrip()
    if start.startswith(b"<"):
        raise WeightsError(f"{path} is a web page instead of a checkpoint: open its link in a browser")


def _check_crcs(path: Path) -> None:
    """Of all records of a zip archive: torch.load checks none."""
    with ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged:
        raise WeightsError(f"{path} is damaged: {damaged} in it has a wrong CRC")
