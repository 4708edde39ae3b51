"""cvxpylayers for PyTorch, with diffcp or Moreau."""

from __future__ import annotations

from typing import Any

import torch
from cvxpylayers.torch import CvxpyLayer

from layer_problems import Array, LayerBatch

from .interface import LayerPeer, options


class Runner(LayerPeer):
    def __init__(self, batch: LayerBatch, tolerance: float, solver: str) -> None:
        torch.set_default_dtype(torch.float64)
        super().__init__(batch, tolerance)
        self.options = options(solver, tolerance)
        self.cotangents = [torch.as_tensor(value) for value in batch.cotangents]

    def give(self, values: list[Array]) -> None:
        self.values = [torch.as_tensor(value) for value in values]

    def construct(self) -> None:
        model = self.batch.model
        self.layer = CvxpyLayer(
            model.problem, model.parameters, model.variables, gp=model.gp, **self.options
        )

    def forward(self) -> Any:
        with torch.no_grad():
            return self.layer(*self.values)

    def solution(self, result: Any) -> list[Array]:
        return [value.detach().numpy() for value in result]

    def forward_backward(self) -> Any:
        moving = [value.detach().requires_grad_() for value in self.values]
        pairs = zip(self.cotangents, self.layer(*moving), strict=True)
        loss = torch.stack([(cotangent * x).sum() for cotangent, x in pairs]).sum()
        return torch.autograd.grad(loss, moving)

    def gradients(self, result: Any) -> list[Array]:
        return [value.numpy() for value in result]
