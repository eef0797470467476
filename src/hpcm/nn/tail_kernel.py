"""The tail of the likelihood as one Triton kernel for GPUs; its plain twin is `rate.interpolate`.

Rows of a table that torch reads by index took a quarter of a training step on an H100. torch's builds for CUDA bring
Triton along.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024  # values that a program of the kernel computes


@triton.jit
def _interpolate(t, table, out, count, cells, cells_per_unit, BLOCK: tl.constexpr):  # Triton reads annotations
    places = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = places < count
    position = tl.load(t + places, mask=inside, other=0.0) * cells_per_unit
    last = cells - 0.001
    position = tl.where(position > last, last, position)  # unlike a minimum, lets NaN through
    cell = position.to(tl.int32)
    cell = tl.where(cell < 0, 0, tl.where(cell > cells - 1, cells - 1, cell))  # what NaN becomes isn't settled
    u = position - cell.to(tl.float32)
    a = tl.load(table + 4 * cell)
    b = tl.load(table + 4 * cell + 1)
    c = tl.load(table + 4 * cell + 2)
    d = tl.load(table + 4 * cell + 3)
    tl.store(out + places, ((d * u + c) * u + b) * u + a, mask=inside)


def interpolate(t: Tensor, splines: Tensor, cells_per_unit: int) -> Tensor:
    """As `rate.interpolate`, for float32 on a GPU."""
    t = t.contiguous()
    out = torch.empty_like(t)
    grid = (triton.cdiv(t.numel(), BLOCK),)
    _interpolate[grid](t, splines, out, t.numel(), splines.shape[0], float(cells_per_unit), BLOCK)
    return out
