"""qpax, backend "i" (the gradient of its backend "e" in G is wrong)."""

from __future__ import annotations

from typing import Any

import qpax

from problems import Array, Batch

from .interface import Options
from .jax_batch import JaxPeer

ORDER = ("Q", "q", "A", "b", "G", "h")


class Runner(JaxPeer):
    def __init__(self, batch: Batch, options: Options) -> None:
        # The derivative is that of a relaxed problem; at kappa = 1e-3, the default, it is wrong
        # in the third digit, and this is where it agrees with the others.
        self.settings = {"solver_tol": options.tolerance, "target_kappa": options.tolerance}
        super().__init__(batch, options)

    def given(self, batch: Batch) -> dict[str, Array]:
        return batch.dense()

    def solve_one(self, data: dict[str, Any]) -> tuple[Any, Any]:
        arrays = (data[name] for name in ORDER)
        tolerance = self.options.tolerance
        x, *_, iterations = qpax.solve_qp(*arrays, backend="i", solver_tol=tolerance)
        return x, iterations

    def primal_one(self, data: dict[str, Any]) -> Any:
        arrays = (data[name] for name in ORDER)
        return qpax.solve_qp_primal(*arrays, backend="i", **self.settings)
