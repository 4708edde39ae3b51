"""What every peer does: make a layer of a problem, call it, and differentiate sum(cotangent * x)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from layer_problems import Array, LayerBatch


class LayerPeer(ABC):
    """One layer on one batch, in float64.

    Three things are timed, each on its own: `construct`, `forward` and `forward_backward`. They return
    only when the result is there.
    """

    def __init__(self, batch: LayerBatch, tolerance: float) -> None:
        self.batch = batch
        self.tolerance = tolerance
        self.give(batch.values)

    @abstractmethod
    def give(self, values: list[Array]) -> None:
        """The parameters' values that the following calls take, each (batch, ...)."""

    @abstractmethod
    def construct(self) -> None:
        """Makes the layer of the problem: canonicalization, and nothing that is compiled by a call."""

    @abstractmethod
    def forward(self) -> Any:
        """Calls the layer on the batch."""

    @abstractmethod
    def solution(self, result: Any) -> list[Array]:
        """The variables of what `forward` returned, each (batch, ...)."""

    @abstractmethod
    def forward_backward(self) -> Any:
        """Calls the layer and differentiates sum(cotangent * x) in all parameters."""

    @abstractmethod
    def gradients(self, result: Any) -> list[Array]:
        """The parameters' gradients of what `forward_backward` returned, each (batch, ...)."""


def options(solver: str, tolerance: float) -> dict[str, Any]:
    """The arguments of cvxpylayers' layer for a solver; "defaults" leaves diffcp as it comes."""
    names = ("tol_gap_abs", "tol_gap_rel", "tol_feas")
    tolerances = dict.fromkeys(names, tolerance)
    if solver == "defaults":
        return {}
    if solver == "MOREAU":
        return {"solver": "MOREAU", "solver_args": {"ipm_settings": tolerances}}
    return {"solver_args": {"solve_method": solver, **tolerances}}
