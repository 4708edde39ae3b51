"""The errors of a layer: its variables against CVXPY's own solve, its gradient against differences.

CVXPY solves with Clarabel, which on some curved problems is good to about 1e-6 whatever it is asked for:
too little for differences. Those are of our own layer's values, which the first comparison vouches for, at
a finer tolerance: where a constraint is nearly inactive, a slope is much less exact than the value.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from layer_problems import Array, LayerBatch
from peers.layer import LayerPeer

# Of Clarabel; it stops short of it, and better than with one that it can reach.
TOLERANCE = 1e-13
MEMBERS = 2  # that CVXPY solves
STEP, FINE = 1e-5, 1e-12  # of the differences, and the tolerance of what they are taken of


class LayerReference:
    """CVXPY's solutions of the first members of a batch."""

    def __init__(self, batch: LayerBatch) -> None:
        self.solutions = []
        model = batch.model
        tolerances = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), TOLERANCE)
        for i in range(min(MEMBERS, batch.size)):
            for parameter, value in zip(model.parameters, batch.values, strict=True):
                parameter.value = value[i]
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Solution may be inaccurate")
                model.problem.solve(solver="CLARABEL", gp=model.gp, **tolerances)
            self.solutions.append([np.array(variable.value) for variable in model.variables])

    def solution_error(self, variables: Sequence[Array]) -> float:
        """The largest, relative to one plus the largest entry; `variables` are (batch, ...)."""
        errors = [
            np.max(np.abs(got[i] - want)) / (1 + np.max(np.abs(want)))
            for i, solution in enumerate(self.solutions)
            for got, want in zip(variables, solution, strict=True)
        ]
        return float(np.max(errors))


def directions(batch: LayerBatch, seed: int = 0) -> list[Array]:
    """In which the parameters of each member move, (batch, ...) each."""
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(value.shape) for value in batch.values]


def slopes(peer: LayerPeer, batch: LayerBatch) -> Array:
    """Central differences (batch,) of each member's sum(cotangent * x) in its direction."""
    ends = []
    for step in (STEP, -STEP):
        moved = zip(batch.values, directions(batch), strict=True)
        peer.give([value + step * direction for value, direction in moved])
        variables = peer.solution(peer.forward())
        ends.append(_member_sums(batch.cotangents, variables))
    return (ends[0] - ends[1]) / (2 * STEP)


def gradient_error(batch: LayerBatch, gradients: Sequence[Array], wanted: Array) -> float:
    """The largest error of the slopes that the gradients make, relative to one plus their size."""
    got = _member_sums(gradients, directions(batch))
    return float(np.max(np.abs(got - wanted) / (1 + np.abs(wanted))))


def _member_sums(left: Sequence[Array], right: Sequence[Array]) -> Array:
    """sum(left * right) of each member, over all arrays."""
    products = [(a * b).reshape(len(a), -1).sum(axis=1) for a, b in zip(left, right, strict=True)]
    return np.sum(products, axis=0)
