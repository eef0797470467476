"""A model whose state is shared out among the processes of a team (--fsdp): FSDP2, a thin layer over fully_shard.

Every process keeps its share of the rows of each parameter, gradient, moment and average. A residual block's parameters
are collected from all processes when it computes, forward or backward, and dropped after that; those of the layers
between the blocks are collected once per step. Files hold whole tensors, as if one process had trained, so that any
number of processes can go on with them.

All processes of a team must call these functions together.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from ..errors import UsageError
from ..model.config import Config
from ..nn.hpcm import HPCM
from ..nn.layers import DWConvRB, PConvRB
from .checkpoint import State
from .team import Team


def shard(model: nn.Module, team: Team) -> None:
    """Leaves to each process, on its device, its part of the first process's parameters. Raises UsageError."""
    try:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
    except ImportError as error:
        raise UsageError("--fsdp needs a newer torch: pip install 'torch>=2.6'") from error
    for parameter in model.parameters():
        dist.broadcast(parameter.detach(), 0)
    mesh = init_device_mesh(team.device.type, (team.size,))
    for block in list(model.modules()):
        if isinstance(block, (PConvRB, DWConvRB)):
            fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def gather(state: State, team: Team) -> State:
    """A run's state with whole tensors in the CPU's memory; for all but the first process, without them.

    Pieces lie row by row, whole tensors channels-last, as one process has them: a fused Adam walks through the memory
    of parameter and moments side by side, whatever their strides say, and a resumed run takes moments as they are.
    """
    from torch.distributed.tensor import DTensor

    def whole(value: Any) -> Any:
        if not isinstance(value, DTensor):
            return value
        full = value.full_tensor()
        if not team.first:
            return None
        return full.cpu().contiguous(memory_format=torch.channels_last if full.ndim == 4 else torch.contiguous_format)

    gathered: State = tree_map(whole, state)
    return gathered


def scatter(state: State, model: nn.Module) -> State:
    """The reverse of `gather`: of the first process's tensors, each process gets its part, as of the model's."""
    from torch.distributed.tensor import distribute_tensor

    def part(value: Tensor, parameter: Any) -> Tensor:
        return distribute_tensor(value, parameter.device_mesh, parameter.placements) if value.ndim else value

    names, optimizer = dict(model.named_parameters()), state["optimizer"]
    parameters = [parameter for parameter in names.values() if parameter.requires_grad]  # as the optimizer has them
    moments = {k: {name: part(v, parameters[k]) for name, v in of.items()} for k, of in optimizer["state"].items()}
    models = {key: {name: part(v, names[name]) for name, v in state[key].items()} for key in ("model", "average")}
    return {**state, **models, "optimizer": {**optimizer, "state": moments}}


def model_of(config: Config, tensors: dict[str, Tensor]) -> HPCM:
    """A model of these parameters, which aren't copied."""
    with torch.device("meta"):
        model = HPCM(config)
    model.load_state_dict(tensors, assign=True)
    return model
