"""The parts of a model, by the field's names, and which of them are trained (--train, --freeze).

    x --analysis--> y --hyper_analysis--> z --(entropy_model: hyper_synthesis and context)--> y_hat --synthesis--> x_hat

The symbols of a file don't depend on the synthesis: where it alone is trained, `hpcm exact` can keep the rest to the
bit, and the model reads the files of the one that it was made of.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from ..errors import UsageError

CONTEXT = ("adaptors", "gains", "priors", "fusions", "context_nets")
PARTS = {
    "analysis": ("g_a",),
    "synthesis": ("g_s",),
    "hyper_analysis": ("h_a",),
    "hyper_synthesis": ("h_s",),
    "context": CONTEXT,
    "encoder": ("g_a", "h_a"),
    "entropy_model": ("h_s", *CONTEXT, "z_means", "z_scales", "y_gain", "y_inverse", "z_gain", "z_inverse"),
}  # part: the modules and parameters of an HPCM


def train_only(model: nn.Module, train: Sequence[str], freeze: Sequence[str]) -> None:
    """Leaves gradients to the parts in `train`, or to all but those in `freeze`; to all parts where both are empty.

    A part is a name of PARTS, or of a module of the model, such as g_s. Raises UsageError.
    """
    names = {name.partition(".")[0] for name, _ in model.named_parameters()}
    if train and freeze:
        raise UsageError("--train and --freeze exclude one another: give one")
    for part in (*train, *freeze):
        if part not in PARTS and part not in names:
            own = ", ".join(sorted(names))
            raise UsageError(f"the model has no part {part!r}; it has {', '.join(PARTS)}, and its modules {own}")
    named = {module for part in train or freeze for module in PARTS.get(part, (part,))}
    for name, parameter in model.named_parameters():
        is_named = name.partition(".")[0] in named
        parameter.requires_grad_(is_named if train else not is_named)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UsageError(f"nothing is left to train: of {', '.join(sorted(names))} all are frozen")


def trained(model: nn.Module) -> list[str]:
    """The names of the parameters that are trained."""
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]
