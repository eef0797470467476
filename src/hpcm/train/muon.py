"""Muon: momentum whose matrices are made orthogonal before they are applied (Jordan et al., 2024).

A convolution's weight counts as the matrix [out, in k k]. Steps are scaled to the size of Adam's (Liu et al., "Muon is
scalable for LLM training", arXiv 2502.16982, section 2.2), so that one learning rate serves both: what is no matrix
(biases, gains, depthwise convolutions) is left to Adam.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

MOMENTUM = 0.95
POLYNOMIAL = (3.4445, -4.7750, 2.0315)  # of the Newton-Schulz iteration: brings singular values near 1 in 5 steps
ITERATIONS = 5
GRAM_FROM = 2  # columns per row from which iterating x x^T instead of x takes fewer multiplications
RMS = 0.2  # of a step's entries, in learning rates; about that of Adam's
BETAS, EPSILON = (0.9, 0.999), 1e-8  # of Adam


class Muon(torch.optim.Optimizer):
    """For a network of convolutions with whole parameters; `dtype` is what the products are computed in.

    No step waits for the device, and all that changes from step to step are tensors (also the rate, where it is given
    as one), so that a CUDA graph can hold a step.
    """

    found_inf: Tensor | None = None  # 1: the next step changes nothing (as for torch's fused optimizers)

    def __init__(self, model: nn.Module, rate: float | Tensor, dtype: torch.dtype = torch.float32) -> None:
        transposed = matrices_of(model)
        self.dtype = dtype
        parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        matrices = [p for p in parameters if id(p) in transposed]
        others = [p for p in parameters if id(p) not in transposed]
        self.transposed = [transposed[id(p)] for p in matrices]
        # "fused" lets torch keep Adam's count of steps on the device when a state is loaded.
        super().__init__([{"params": matrices}, {"params": others}], {"lr": rate, "fused": True})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        matrices, others = self.param_groups
        self._orthogonal(matrices)
        self._adam(others)

    def _orthogonal(self, group: dict[str, Any]) -> None:
        alike: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = defaultdict(list)  # by shape: targets and updates
        for weight, transposed in zip(group["params"], self.transposed, strict=True):
            if weight.grad is None:
                continue
            update = self._momentum(weight)
            update, target = (t.transpose(0, 1) if transposed else t for t in (update, weight))
            matrix = update.flatten(1)
            alike[matrix.shape[0], matrix.shape[1]].append((target, matrix))
        rate = group["lr"] if self.found_inf is None else group["lr"] * (1 - self.found_inf)
        for (rows, columns), pairs in alike.items():
            matrices = torch.stack([matrix for _, matrix in pairs])
            steps = orthogonal(matrices.to(self.dtype)).to(matrices.dtype)
            steps = steps * (rate * RMS * max(rows, columns) ** 0.5)
            for (target, _), step in zip(pairs, steps, strict=True):
                target.sub_(step.view(target.shape))

    def _momentum(self, weight: Tensor) -> Tensor:
        """The update of a weight, not yet orthogonal; takes the gradient into the momentum."""
        state = self.state[weight]
        if not state:
            state["momentum"] = torch.zeros_like(weight)
        momentum, gradient = state["momentum"], weight.grad
        assert gradient is not None
        if self.found_inf is not None:  # a momentum that approaches itself stays as it is, to the bit
            gradient = torch.where(self.found_inf > 0, momentum, gradient)
        momentum.lerp_(gradient, 1 - MOMENTUM)
        return gradient.lerp(momentum, MOMENTUM)  # Nesterov's

    def _adam(self, group: dict[str, Any]) -> None:
        parameters = [p for p in group["params"] if p.grad is not None]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter] = {
                    "step": torch.zeros((), device=parameter.device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
        states = [self.state[parameter] for parameter in parameters]
        adam(
            parameters,
            [parameter.grad for parameter in parameters],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            found_inf=self.found_inf,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=group["lr"],
            weight_decay=0.0,
            eps=EPSILON,
            maximize=False,
        )


def matrices_of(model: nn.Module) -> dict[int, bool]:
    """The parameters that count as matrices, by their id, and whether they are [in, out, k, k]."""
    return {
        id(m.weight): isinstance(m, nn.ConvTranspose2d)
        for m in model.modules()
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d) and m.groups == 1
    }


def orthogonal(matrices: Tensor) -> Tensor:
    """Matrices [n, rows, columns] with the same singular vectors and singular values near 1.

    Between about 0.7 and 1.2, that is; those below a hundredth of the matrix's norm stay smaller.
    """
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    if x.dtype == torch.float32 and x.shape[2] >= GRAM_FROM * x.shape[1]:
        x = _factor(x @ x.mT) @ x
    else:
        a, b, c = POLYNOMIAL
        for _ in range(ITERATIONS):
            gram = x @ x.mT
            x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x if wide else x.mT


def _factor(gram: Tensor) -> Tensor:
    """What the iterations multiply x with, from x x^T: an iteration then takes no products of x's own size.

    The polynomials of x x^T commute, so x x^T itself can be iterated. That takes float32's digits.
    """
    whole = polynomial = _polynomial(gram)
    for _ in range(ITERATIONS - 1):
        gram = polynomial @ gram @ polynomial
        polynomial = _polynomial(gram)
        whole = polynomial @ whole
    return whole


def _polynomial(gram: Tensor) -> Tensor:
    a, b, c = POLYNOMIAL
    polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    polynomial.diagonal(dim1=1, dim2=2).add_(a)
    return polynomial
