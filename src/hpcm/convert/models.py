"""Models for a training loop of one's own: load one, save it, make it exact.

model = hpcm.load_model("nano")                           an HPCM in floating point, to train
hpcm.save_model(model, "mine.safetensors", name="mine-1")      `hpcm.load` takes the file; it needs torch
hpcm.save_exact(model, "exact.safetensors", ["photo.jpg"], name="mine-1")      files open everywhere
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..defaults import CARRIERS
from ..errors import ModelNotFoundError, UsageError, WeightsError
from ..model.file import SUFFIX, SYNTHESIS_OF, WeightsFile
from ..model.find import find, find_hash, own_name
from ..nn import weights
from ..nn.exact.make_exact import make_floating
from ..nn.hpcm import HPCM
from .calibrate import batches_of, exact_of
from .calibrate import save_exact as write


def load_model(name_or_path: str | Path, device: str = "cpu") -> HPCM:
    """A model by name, weights file or run, in torch and in plain floating point, ready to be trained.

    Exact models lose their exactness: `save_exact` gives it back. Raises ModelNotFoundError, WeightsError, UsageError.
    """
    weights.check_device(device)
    model = make_floating(weights.load_model(find(name_or_path)).model)
    return model.to(device).train().requires_grad_(True)


def save_model(
    model: HPCM, path: str | Path, *, name: str | None = None, provenance: dict[str, Any] | None = None
) -> None:
    """Writes a weights file, whole or not at all, with parameters of 16 bits.

    Args:
        path: FILE.safetensors.
        name: of the model, which .hpcm files state; by default its configuration's.
        provenance: what the file says of where the weights come from; JSON. `--effort` reads "loss" of it, by default
            "mse".

    Raises UsageError for a name that can't be, WeightsError for parameters that aren't finite and for an exact model
    whose numbers aren't on their grids.
    """
    _refuse_wrapped(model)
    if broken := [key for key, value in model.named_parameters() if not bool(value.isfinite().all())]:
        raise WeightsError(f"{len(broken)} parameters, {broken[0]} among them, aren't finite")
    weights.save(model, _checked(path), provenance or {}, name=own_name(name or model.config.name))


def save_exact(
    model: HPCM,
    path: str | Path,
    pictures: Sequence[str | Path] | str | Path,
    *,
    name: str | None = None,
    carrier: str | None = None,
    provenance: dict[str, Any] | None = None,
    synthesis_of: str | Path | None = None,
) -> None:
    """Makes a trained model exact, as `hpcm exact` does, and writes it as a weights file; `model` isn't changed.

    Args:
        path, name, provenance: as for `save_model`.
        pictures: photographs to calibrate on, as files of any format that hpcm reads; a dozen are enough.
        carrier: one of CARRIERS: the number format of the sums; by default what suits the model.
        synthesis_of: an exact model, by name or file, of which `model` has trained the synthesis alone. All else is
            taken from it to the bit, so that the new model decodes its files, too.

    Raises UsageError, WeightsError, PictureError, ModelNotFoundError.
    """
    _checked(path)
    _refuse_wrapped(model)
    if carrier not in (None, *CARRIERS):
        raise UsageError(f"carrier is {carrier!r}: it must be one of {', '.join(CARRIERS)}")
    pictures = [pictures] if isinstance(pictures, str | Path) else pictures
    name = own_name(name or model.config.name)
    origin = None if synthesis_of is None else find(synthesis_of)
    training = model.training
    try:
        model.eval()
        write_exact(model, Path(path), pictures, name, carrier, provenance or {}, origin)
    finally:
        model.train(training)


def write_exact(
    model: HPCM,
    path: Path,
    pictures: Sequence[str | Path],
    name: str,
    carrier: str | None,
    provenance: dict[str, Any],
    origin: WeightsFile | None,
) -> None:
    """As `save_exact`, of a model in evaluation mode; `origin`: the weights file that `synthesis_of` names."""
    batches = batches_of(model, pictures)
    kept = None if origin is None else _symbols_of(origin, model, carrier)
    exact = exact_of(model, batches, carrier, kept)
    provenance = {key: value for key, value in provenance.items() if key != SYNTHESIS_OF}
    if origin is not None:
        provenance[SYNTHESIS_OF] = str(origin.provenance.get(SYNTHESIS_OF, f"{origin.name} {origin.hash.hex()}"))
    write(exact, path, provenance, len(pictures), name)


def exact_origin(model: WeightsFile) -> WeightsFile | None:
    """The exact model that a run has trained the synthesis of, as its weights file says; None if there is no such one.

    Raises UsageError where it isn't installed.
    """
    said = str(model.provenance.get(SYNTHESIS_OF, ""))
    name, _, short_hash = said.rpartition(" ")
    if not name:
        return None
    try:
        origin = find_hash(name, bytes.fromhex(short_hash))
    except (ModelNotFoundError, ValueError) as error:
        where = "isn't installed: name its weights file with --synthesis-of PATH"
        raise UsageError(f"{model.path} has trained the synthesis of {said}, which {where}") from error
    return origin if origin.config.get("carrier") else None


def _symbols_of(origin: WeightsFile, model: HPCM, carrier: str | None) -> HPCM:
    """The exact model whose symbols are kept. Raises UsageError unless `model` differs in its synthesis alone."""
    exact = weights.load_model(origin).model
    if not exact.config.carrier:
        raise UsageError(f"{origin.name} isn't exact: the symbols of its files can't be kept")
    if carrier not in (None, exact.config.carrier):
        raise UsageError(f"{origin.name} has sums of the kind {exact.config.carrier}: leave out the carrier {carrier}")
    before, after = make_floating(exact).state_dict(), make_floating(model).state_dict()
    if {name: value.shape for name, value in before.items()} != {name: value.shape for name, value in after.items()}:
        raise UsageError(f"{origin.name} is of another configuration")
    for name, value in before.items():
        same = torch.allclose(after[name], value, rtol=1e-3, atol=1e-6)  # a run's weights may have 16 bits
        if not (same or name.startswith("g_s.")):
            raise UsageError(f"{name} is not that of {origin.name}: more than the synthesis was trained")
    return exact


def _refuse_wrapped(model: Any) -> None:
    """Raises UsageError for what is no model, such as a wrapper of torch around one."""
    if not hasattr(model, "config"):
        kind = type(model).__name__
        raise UsageError(f"the model is a {kind}: give an hpcm.HPCM, which is in `module` of torch's wrappers")


def _checked(path: str | Path) -> Path:
    if Path(path).suffix != SUFFIX:
        raise UsageError(f"{path}: a weights file's name ends in {SUFFIX}")
    return Path(path)
