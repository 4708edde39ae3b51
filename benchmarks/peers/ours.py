"""This package: `solve_qp` with a diagonal Q and bounds left as they are, on all devices."""

from __future__ import annotations

from typing import Any

import jaxopt_layers as jl
from problems import Array, Batch

from .jax_batch import JaxPeer


class Runner(JaxPeer):
    vmap = staticmethod(jl.vmap_over_devices)

    def given(self, batch: Batch) -> dict[str, Array]:
        return batch.arguments()

    def solve_one(self, data: dict[str, Any]) -> tuple[Any, Any]:
        settings = jl.Settings(tolerance=self.options.tolerance)
        solution = jl.solve_qp(**data, settings=settings)
        return solution.x, solution.iterations
