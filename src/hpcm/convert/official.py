"""The authors' checkpoints -> ours: one table of renames.

The released code ("LIC-HPCM", and the 1B models of arXiv 2508.09075) names its parameters after its own classes; the
rules below turn our names into theirs, so that every parameter of a model is asked for exactly once. Tensors keep
their shapes, except for the step gains (theirs [1, W, 1, 1], ours [1, W]). Three things are easy to get wrong:

- The lists of adaptors are indexed with i - 1 from i = 0, so the first step on a scale uses the *last* adaptor:
  scale 2 takes 2, 0, 1 and scale 3 takes 5, 0, 1, 2, 3, 4. The gains are in the order of the steps.
- The released models are trained with misplaced hyper parameters on scale 2: `Config.hyper_placement`.
- A checkpoint also holds buffers of its entropy coder, which we don't use. Where in it the parameters lie, and what
  wrappers have made of their names, see state_dicts.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Set
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..defaults import ARCHITECTURES
from ..errors import UsageError, WeightsError
from ..model.config import MODELS, Config, Stages
from ..model.find import own_name
from ..nn.hpcm import HPCM
from ..nn.layers import PConvRB
from ..nn.weights import save
from ..util.notes import OnNote, ignore_note, log_note
from .state_dicts import Parameters, parameters_in
from .unpickle import unpickled

ARCHS = {name: replace(MODELS[name], hyper_placement="released", likelihood="cdf") for name in ARCHITECTURES}
IGNORED = re.compile(r"scale_table|quantized_cdf_.*|cdf_length_.*|offset_.*|entropy_estimation\..*")
SHOWN = 3  # names in a message

# For each step but step 0, its scale and the number of its adaptor in that scale's list. The released loop counts the
# steps of a scale from 0 but takes adaptor i - 1, and -1 is the last one: the order is no slip of this table.
ADAPTORS = (("s1", 0), *(("s2", i) for i in (2, 0, 1)), *(("s3", i) for i in (5, 0, 1, 2, 3, 4)))
PRIORS = ("y_spatial_prior_s1_s2", "y_spatial_prior_s3")

Shapes = dict[str, tuple[int, ...]]  # by the authors' names
Rule = tuple[str, Callable[[re.Match[str]], str]]  # pattern of our name -> theirs


class Imported(NamedTuple):
    """A model, and where in the checkpoint its weights were: the keys, with points between."""

    model: HPCM
    where: str


def from_official(checkpoint: Mapping[str, Any], arch: str, *, ema: bool = False, on_note: OnNote = log_note) -> HPCM:
    """The authors' parameters as a model of ours, float32, in evaluation mode.

    Args:
        checkpoint: their names -> tensors, or dictionaries that hold them under any keys. Names may have what wrappers
            add (`module.`, `_orig_mod.`) and the name of a training module in front.
        arch: base, large, 1b or base-phi.
        ema: take averaged weights, where the checkpoint holds such beside others.
        on_note: is called with a line if there was a choice.

    Raises WeightsError for unknown or missing names, wrong shapes, and several sets of weights that all fit, UsageError
    for an unknown `arch`.
    """
    return _imported(checkpoint, arch, ema, on_note).model


def _imported(checkpoint: Any, arch: str, ema: bool, on_note: OnNote) -> Imported:
    if arch not in ARCHS:
        raise UsageError(f"no architecture {arch!r}: the authors' are {', '.join(ARCHS)}")
    with torch.device("meta"):
        model = HPCM(ARCHS[arch])
    names = official_names(model)
    shapes = {ours: tuple(value.shape) for ours, value in model.state_dict().items()}
    expected = {their: _their_shape(ours, shapes[ours]) for ours, their in names.items()}
    chosen = _chosen(parameters_in(checkpoint, expected), expected, arch, ema, on_note)
    tensors = {ours: chosen.tensors[their].detach().float().reshape(shapes[ours]) for ours, their in names.items()}
    model.load_state_dict(tensors, assign=True)
    return Imported(model.eval(), chosen.where)


def _chosen(sets: list[Parameters], expected: Shapes, arch: str, ema: bool, on_note: OnNote) -> Parameters:
    """The set of weights that is meant: of those that fit, the averaged ones if `ema`, else the others.

    Raises WeightsError where none fits, no averaged one does, or several do that differ.
    """
    fitting = [one for one in sets if _misfit(one, expected) is None]
    if not fitting:
        closest = sets[0] if sets else Parameters("", averaged=False)
        raise WeightsError(f"the checkpoint is no {arch}: {_misfit(closest, expected)}")
    wanted = [one for one in fitting if one.averaged == ema]
    if ema and not wanted:
        reasons = [f"; {one.where}: {_misfit(one, expected)}" for one in sets if one.averaged]
        raise WeightsError(f"it holds no averaged weights that fit, only {_listed(fitting)}{''.join(reasons)}")
    wanted = wanted or fitting
    first, *others = wanted
    if different := [one for one in others if not one.same_as(first)]:
        raise WeightsError(
            f"several sets of weights in it fit: {_listed([first, *different])}; save one of them alone, as in "
            "torch.save(torch.load(FILE, weights_only=True)[KEY], NEW)"
        )
    if left := [one for one in fitting if one not in wanted]:
        kind = "others that aren't averaged" if ema else "averaged weights, which --ema takes"
        on_note(f"the weights are those of {_listed([first])}; {_listed(left)}: {kind}")
    elif first.averaged and not ema:
        on_note(f"the weights are those of {_listed([first])}, averaged ones: there are no others")
    return first


def _listed(sets: list[Parameters]) -> str:
    return ", ".join(one.where or "the checkpoint itself" for one in sets)


def _misfit(found: Parameters, expected: Shapes) -> str | None:
    """Why these aren't the parameters that are expected, with the first few names; None if they are."""
    tensors = {name: value for name, value in found.tensors.items() if not IGNORED.fullmatch(name)}
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    wrong = {
        f"{name} of shape {list(shapes[name])} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in shapes and shapes[name] != shape
    }
    odd = {f"{name}, {_kind(tensors[name])}" for name in expected.keys() & tensors.keys() if _kind(tensors[name])}
    reasons = {
        "it has no": expected.keys() - shapes.keys(),
        "it has unknown": shapes.keys() - expected.keys(),
        "it has twice": set(found.twice),
        "it has": wrong,
        "it has what isn't plain floating-point numbers:": odd,
    }
    return next((f"{what} {_first(names)}" for what, names in reasons.items() if names), None)


def _kind(value: torch.Tensor) -> str:
    """What a tensor is that can't be taken as the numbers of a parameter, such as integers; "" for others."""
    if value.layout != torch.strided:
        return str(value.layout).removeprefix("torch.")
    return "" if value.is_floating_point() else str(value.dtype).removeprefix("torch.")


def _first(names: Set[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{', '.join(sorted(names)[:SHOWN])}{more}"


def import_checkpoint(
    path: Path, arch: str, output: Path, lmbda: float | None = None, *, ema: bool = False, on_note: OnNote = log_note
) -> None:
    """Reads a checkpoint with the authors' names (.pth.tar, .pth, .pt, .safetensors) and writes a weights file of ours.

    The model is named after the output file, so that .hpcm files name it. For the rest and errors see `read`.
    """
    own_name(output.stem, "the weights file's name is the model's")
    model, where = read(path, arch, output.stem, lmbda, ema=ema, on_note=on_note)
    provenance = {"source": path.name, "arch": arch, "by": "the authors of HPCM"}
    save(model, output, provenance | ({"weights": where} if where else {}), half=False)


def read(
    path: Path, arch: str, name: str, lmbda: float | None = None, *, ema: bool = False, on_note: OnNote = log_note
) -> Imported:
    """A checkpoint as a model of a name, in floating point. Raises WeightsError, UsageError.

    Args:
        lmbda: what it was trained with, in units of its loss; no checkpoint holds it.
        ema, on_note: as for `from_official`.
    """
    checkpoint = unpickled(path)
    try:
        model, where = _imported(checkpoint, arch, ema, on_note)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}{_hint(checkpoint, arch)}") from None
    if damaged := [name for name, value in model.state_dict().items() if not bool(value.isfinite().all())]:
        raise WeightsError(f"{path} is damaged: {len(damaged)} parameters, {damaged[0]} among them, aren't finite")
    model.config = replace(model.config, name=name, lambda_min=lmbda or model.config.lambda_min)
    return Imported(model, where)


def _hint(checkpoint: Any, arch: str) -> str:
    """What a checkpoint is that isn't of an architecture."""
    for other in ARCHS:
        if other != arch and _fits(checkpoint, other):
            return f"; it is a {other}"
    with torch.device("meta"):
        ours = HPCM(ARCHS[arch]).state_dict()
    if any(ours.keys() <= one.tensors.keys() for one in parameters_in(checkpoint, ours)):
        return (
            "; its names are those of hpcm's own networks: hpcm.HPCM(config).load_state_dict takes them, and "
            "hpcm.save_model writes the model"
        )
    return ""


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


def _fits(checkpoint: Any, arch: str) -> bool:
    try:
        return bool(_imported(checkpoint, arch, False, ignore_note).model)
    except WeightsError:
        return False
