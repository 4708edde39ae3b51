"""What every peer does: solve a batch of cone programs, and differentiate sum(cotangent * x)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from cone_problems import Array, ConeBatch


class ConePeer(ABC):
    """One solver on one batch, in float64.

    The constructor may prepare whatever a user would prepare once for many batches (sparsity
    patterns, copies in the solver's own arrays); `forward` and `forward_backward` are timed, so
    they start from the numbers of the batch and return only when the result is there.
    """

    def __init__(self, batch: ConeBatch, tolerance: float) -> None:
        self.batch = batch
        self.tolerance = tolerance

    @abstractmethod
    def forward(self) -> Any:
        """Solves the batch."""

    @abstractmethod
    def solution(self, result: Any) -> tuple[Array, Array, Array]:
        """x, y, s of what `forward` returned."""

    @abstractmethod
    def forward_backward(self) -> Any:
        """Solves the batch and differentiates sum(cotangent * x) in A, b and c."""

    @abstractmethod
    def gradients(self, result: Any) -> dict[str, Array]:
        """A, b, c of what `forward_backward` returned, shaped as given; A's at its entries only."""

    def iterations(self, result: Any) -> float | None:
        """The mean number of iterations, where the solver tells."""
        return None
