"""What the PyTorch layers share: tensors that ask for a gradient, and one backward call."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import torch

from problems import Array, Batch

from .interface import Options, Peer, Unsupported


class TorchPeer(Peer):
    """A layer as a function of the six dense tensors, by name."""

    def __init__(self, batch: Batch, options: Options) -> None:
        super().__init__(batch, options)
        torch.set_default_dtype(getattr(torch, options.dtype))  # QPLayer allocates without a dtype
        if options.device == "gpu" and not torch.cuda.is_available():
            raise Unsupported("torch has no GPU here")
        self.device = "cuda" if options.device == "gpu" else "cpu"
        self.data = {
            name: torch.as_tensor(np.ascontiguousarray(value), device=self.device)
            for name, value in batch.dense().items()
        }
        self.cotangent = torch.as_tensor(batch.cotangent, device=self.device)

    @abstractmethod
    def layer(self, data: dict[str, Any]) -> Any:
        """x of the whole batch, (batch, n)."""

    def forward(self) -> Any:
        with torch.no_grad():
            return self._wait(self.layer(self.data))

    def solution(self, result: Any) -> Array:
        return result.detach().cpu().numpy()

    def forward_backward(self) -> Any:
        moving = {
            name: self.data[name].detach().requires_grad_() for name in self.batch.differentiate
        }
        x = self.layer(self.data | moving)
        gradients = torch.autograd.grad((self.cotangent * x).sum(), list(moving.values()))
        return self._wait(dict(zip(moving, gradients, strict=True)))

    def gradients(self, result: Any) -> dict[str, Array]:
        return {name: value.detach().cpu().numpy() for name, value in result.items()}

    def _wait(self, result: Any) -> Any:
        if self.device == "cuda":
            torch.cuda.synchronize()
        return result
