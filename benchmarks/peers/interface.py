"""What every peer does: take a batch, solve it, and give the gradients of sum(cotangent * x)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from problems import Array, Batch


@dataclass(frozen=True)
class Options:
    """What all peers are told alike."""

    tolerance: float = 1e-9
    dtype: str = "float64"
    device: str = "cpu"


class Unsupported(Exception):
    """The peer cannot do this (a dtype, a device, a gradient); the text says why."""


class Peer(ABC):
    """One solver on one batch.

    The constructor may prepare whatever a user would prepare once for many batches (layers,
    sparsity patterns, copies in the solver's own arrays); `forward` and `forward_backward` are
    timed, so they start from the numbers of the batch and return only when the result is there.
    """

    def __init__(self, batch: Batch, options: Options) -> None:
        self.batch = batch
        self.options = options

    @abstractmethod
    def forward(self) -> Any:
        """Solves the batch."""

    @abstractmethod
    def solution(self, result: Any) -> Array:
        """x of what `forward` returned, (batch, n)."""

    def iterations(self, result: Any) -> float | None:
        """The mean number of iterations, where the solver tells."""
        return None

    def forward_backward(self) -> Any:
        """Solves the batch and differentiates sum(cotangent * x) in `batch.differentiate`."""
        raise Unsupported("no derivative")

    def gradients(self, result: Any) -> dict[str, Array]:
        """What `forward_backward` returned, shaped like the arrays of the batch."""
        raise Unsupported("no derivative")

    def need_float64(self) -> None:
        """For solvers that know nothing else."""
        if self.options.dtype != "float64":
            raise Unsupported(f"no {self.options.dtype}")

    def need_cpu(self) -> None:
        """For solvers that run nowhere else."""
        if self.options.device != "cpu":
            raise Unsupported("CPU only")


def mean(values: Any) -> float:
    """As a plain float, so that JSON takes it."""
    return float(np.mean(np.asarray(values, dtype=float)))
