"""PIQP's sparse solver in a loop, bounds as bounds; it has no derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import piqp
from scipy import sparse

from sparse_batch import Array, Batch

from ..interface import Unsupported
from .interface import SparsePeer


class Runner(SparsePeer):
    def __init__(self, batch: Batch, tolerance: float) -> None:
        super().__init__(batch, tolerance)
        if batch.cones is not None:
            raise Unsupported("quadratic programs only")
        self.problems = [self._arguments(batch.member(i)) for i in range(batch.size)]

    def _arguments(self, data: dict[str, Any]) -> dict[str, Any]:
        arguments = {"P": sparse.csc_matrix(sparse.diags(data.get("Q", np.zeros_like(data["q"]))))}
        arguments["P"].eliminate_zeros()
        arguments["c"] = data["q"]
        names = {"A": "A", "b": "b", "G": "G", "h": "h_u", "lower": "x_l", "upper": "x_u"}
        for ours, theirs in names.items():
            if ours in data:
                value = data[ours]
                arguments[theirs] = sparse.csc_matrix(value) if ours in "AG" else value
        return arguments

    def forward(self) -> Any:
        results = []
        for arguments in self.problems:
            solver = piqp.SparseSolver()
            settings = solver.settings
            settings.eps_abs = settings.eps_rel = self.tolerance
            settings.eps_duality_gap_abs = settings.eps_duality_gap_rel = self.tolerance
            solver.setup(**arguments)
            status = solver.solve()
            results.append((solver.result.x, status, solver.result.info.iter))
        return results

    def solution(self, result: Any) -> Array:
        return np.stack([x for x, *_ in result])

    def statuses(self, result: Any) -> list[str]:
        return [status.name.removeprefix("PIQP_").lower() for _, status, _ in result]

    def iterations(self, result: Any) -> float | None:
        return float(np.mean([iterations for *_, iterations in result]))
