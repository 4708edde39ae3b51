"""What every peer does: solve a batch of sparse programs, and differentiate sum(cotangent * x)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from sparse_batch import Array, Batch

from ..interface import Unsupported


class SparsePeer(ABC):
    """One solver on one batch, in float64.

    The constructor may prepare whatever a user would prepare once for many batches of the pattern;
    `forward` and `forward_backward` are timed, so they start from the numbers of the batch and return only
    when the result is there.
    """

    def __init__(self, batch: Batch, tolerance: float) -> None:
        self.batch = batch
        self.tolerance = tolerance

    @abstractmethod
    def forward(self) -> Any:
        """Solves the batch."""

    @abstractmethod
    def solution(self, result: Any) -> Array:
        """x of what `forward` returned, (batch, n)."""

    @abstractmethod
    def statuses(self, result: Any) -> list[str]:
        """What the solver says of each member, "solved" where it succeeded."""

    def iterations(self, result: Any) -> float | None:
        """The mean number of iterations, where the solver tells."""
        return None

    def forward_backward(self) -> Any:
        """Solves the batch and differentiates sum(cotangent * x) in all matrices and vectors."""
        raise Unsupported("no derivative")

    def gradients(self, result: Any) -> dict[str, Array]:
        """By name, of what `forward_backward` returned; a matrix's at its entries (batch, nnz)."""
        raise Unsupported("no derivative")
