"""Clarabel in a loop, one thread; it has no derivatives."""

from __future__ import annotations

from typing import Any

import clarabel
import numpy as np
from scipy import sparse

from problems import Array, Batch

from .interface import Options, Peer, mean


class Runner(Peer):
    def __init__(self, batch: Batch, options: Options) -> None:
        super().__init__(batch, options)
        self.need_float64()
        self.need_cpu()
        self.settings = clarabel.DefaultSettings()
        self.settings.verbose = False
        for name in ("tol_gap_abs", "tol_gap_rel", "tol_feas"):
            setattr(self.settings, name, options.tolerance)
        # The sparse matrices are made beforehand: that is SciPy's time, not Clarabel's.
        self.problems = [_arguments(member) for member in batch.members()]

    def forward(self) -> Any:
        return [
            clarabel.DefaultSolver(*arguments, self.settings).solve() for arguments in self.problems
        ]

    def solution(self, result: Any) -> Array:
        return np.stack([np.asarray(solution.x) for solution in result])

    def iterations(self, result: Any) -> float | None:
        return mean([solution.iterations for solution in result])


def _arguments(data: dict[str, Array]) -> tuple[Any, ...]:
    equalities, inequalities = len(data["b"]), len(data["h"])
    cones = [clarabel.ZeroConeT(equalities)] if equalities else []
    cones += [clarabel.NonnegativeConeT(inequalities)] if inequalities else []
    P = sparse.csc_matrix(np.triu(data["Q"]))
    A = sparse.csc_matrix(np.vstack([data["A"], data["G"]]))
    return P, data["q"], A, np.concatenate([data["b"], data["h"]]), cones
