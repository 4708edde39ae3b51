"""This package: `solve_qp` or `solve_cone` under jit, and a batch divided among the devices.

The patterns are static, all numbers are traced.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_layers as jl
from sparse_batch import Array, Batch

from ..interface import Unsupported
from .interface import SparsePeer

# The dense form holds some arrays of all rows times all variables for each member.
_DENSE_BYTES = 1e9


class Runner(SparsePeer):
    def __init__(
        self, batch: Batch, tolerance: float, factorization: Literal["auto", "dense"]
    ) -> None:
        super().__init__(batch, tolerance)
        jax.config.update("jax_enable_x64", True)
        if factorization == "dense":
            rows = sum(matrix.pattern.shape[0] for matrix in batch.matrices.values())
            entries = batch.size * batch.variables * max(rows, batch.variables)
            if 8 * entries > _DENSE_BYTES:
                raise Unsupported("too large for dense matrices")
        settings = jl.Settings(tolerance=tolerance, factorization=factorization)
        patterns = {
            name: jl.SparseMatrix.from_scipy(matrix.pattern).pattern
            for name, matrix in batch.matrices.items()
        }
        cones = None if batch.cones is None else jl.Cones(**asdict(batch.cones))

        def solve(data: dict[str, Any]) -> Any:
            data = data | {
                name: jl.SparseMatrix(data[name], pattern) for name, pattern in patterns.items()
            }
            if cones is None:
                data.setdefault("Q", None)
                return jl.solve_qp(**data, settings=settings)
            return jl.solve_cone(cones=cones, **data, settings=settings)

        self.single = batch.size == 1
        solve_all = solve if self.single else jl.vmap_over_devices(solve)

        def loss(data: dict[str, Any], cotangent: Any) -> Any:
            return jnp.vdot(cotangent, solve_all(data).x)

        values = {name: matrix.values for name, matrix in batch.matrices.items()}
        numbers = (values | batch.vectors, batch.cotangent)
        self.data, self.cotangent = jax.tree.map(self._given, numbers)
        self.solve = jax.jit(solve_all)
        self.differentiate = jax.jit(jax.value_and_grad(loss))

    def _given(self, value: Array) -> Any:
        return jnp.asarray(value[0] if self.single else value)

    def _batched(self, value: Any) -> Array:
        return np.asarray(value)[None] if self.single else np.asarray(value)

    def forward(self) -> Any:
        return jax.block_until_ready(self.solve(self.data))

    def solution(self, result: Any) -> Array:
        return self._batched(result.x)

    def statuses(self, result: Any) -> list[str]:
        return [jl.Status(int(status)).name.lower() for status in self._batched(result.status)]

    def iterations(self, result: Any) -> float | None:
        return float(np.mean(np.asarray(result.iterations)))

    def forward_backward(self) -> Any:
        return jax.block_until_ready(self.differentiate(self.data, self.cotangent))

    def gradients(self, result: Any) -> dict[str, Array]:
        return {name: self._batched(value) for name, value in result[1].items()}
