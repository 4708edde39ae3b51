"""OSQP in a loop, polished: an alternating direction method, first-order. Forward only here.

It knows a matrix with two limits for each row; bounds are rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import osqp
from scipy import sparse

from sparse_batch import Array, Batch

from ..interface import Unsupported
from .interface import SparsePeer

_MOST_ITERATIONS = 100_000


class Runner(SparsePeer):
    def __init__(self, batch: Batch, tolerance: float) -> None:
        super().__init__(batch, tolerance)
        if batch.cones is not None:
            raise Unsupported("quadratic programs only")
        self.bounded = [name for name in ("lower", "upper") if name in batch.vectors]
        self.problems = [self._arguments(batch.member(i)) for i in range(batch.size)]

    def _arguments(self, data: dict[str, Any]) -> dict[str, Any]:
        P = sparse.csc_matrix(sparse.diags(data.get("Q", np.zeros_like(data["q"]))))
        P.eliminate_zeros()
        rows, lower, upper = [], [], []
        if "A" in data:
            rows.append(data["A"])
            lower.append(data["b"])
            upper.append(data["b"])
        if "G" in data:
            rows.append(data["G"])
            lower.append(np.full(len(data["h"]), -np.inf))
            upper.append(data["h"])
        if self.bounded:
            rows.append(sparse.identity(len(data["q"])))
            lower.append(data.get("lower", np.full(len(data["q"]), -np.inf)))
            upper.append(data.get("upper", np.full(len(data["q"]), np.inf)))
        A = sparse.vstack(rows, format="csc")
        limits = {"l": np.concatenate(lower), "u": np.concatenate(upper)}
        return {"P": P, "q": data["q"], "A": A, **limits}

    def _solved(self) -> Any:
        for arguments in self.problems:
            solver = osqp.OSQP()
            solver.setup(
                **arguments,
                eps_abs=self.tolerance,
                eps_rel=self.tolerance,
                max_iter=_MOST_ITERATIONS,
                polishing=True,
                verbose=False,
            )
            yield solver, solver.solve(raise_error=False)

    def forward(self) -> Any:
        return [result for _, result in self._solved()]

    def solution(self, result: Any) -> Array:
        return np.stack([one.x for one in result])

    def statuses(self, result: Any) -> list[str]:
        return [one.info.status for one in result]

    def iterations(self, result: Any) -> float | None:
        return float(np.mean([one.info.iter for one in result]))
