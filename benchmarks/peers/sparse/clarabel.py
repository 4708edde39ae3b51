"""Clarabel in a loop; it has no derivatives."""

from __future__ import annotations

from typing import Any

import clarabel
import numpy as np
from scipy import sparse

from sparse_accuracy import Single, clarabel_cones, clarabel_settings
from sparse_batch import Array, Batch

from .interface import SparsePeer


class Runner(SparsePeer):
    def __init__(self, batch: Batch, tolerance: float) -> None:
        super().__init__(batch, tolerance)
        self.settings = clarabel_settings(tolerance)
        members = [Single.member(batch.cone_form, i) for i in range(batch.size)]
        # The sparse matrices are made beforehand: that is SciPy's time, not Clarabel's.
        self.problems = [self._arguments(member) for member in members]

    def _arguments(self, member: Single) -> tuple[Any, ...]:
        P = sparse.csc_matrix(sparse.diags(member.P))
        P.eliminate_zeros()
        cones = clarabel_cones(member.cones)
        return P, member.c, sparse.csc_matrix(member.A), member.b, cones

    def forward(self) -> Any:
        return [
            clarabel.DefaultSolver(*arguments, self.settings).solve() for arguments in self.problems
        ]

    def solution(self, result: Any) -> Array:
        return np.stack([np.asarray(solution.x) for solution in result])

    def statuses(self, result: Any) -> list[str]:
        return [str(solution.status).lower() for solution in result]

    def iterations(self, result: Any) -> float | None:
        return float(np.mean([solution.iterations for solution in result]))
