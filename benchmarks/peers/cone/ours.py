"""This package: `solve_cone` under jit, its batch divided among the devices.

A matrix that is mostly zeros is given as a `SparseMatrix`, as the peers are given theirs: the pattern is
static, the numbers are traced, and the gradient is that of the numbers.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

import jaxopt_layers as jl
from cone_problems import Array, ConeBatch

from .interface import ConePeer

# A matrix with more entries than this part of its places is given as an array.
_MOSTLY_ZEROS = 0.5


class Runner(ConePeer):
    def __init__(self, batch: ConeBatch, tolerance: float) -> None:
        super().__init__(batch, tolerance)
        jax.config.update("jax_enable_x64", True)
        cones = jl.Cones(**asdict(batch.family.cones))
        settings = jl.Settings(tolerance=tolerance)

        self.pattern = None
        A = np.asarray(batch.A)
        if np.mean(batch.pattern) <= _MOSTLY_ZEROS:
            self.pattern = jl.SparseMatrix.from_scipy(sparse.csr_matrix(batch.pattern)).pattern
            A = A[:, self.pattern.rows, self.pattern.columns]

        def solve(A: Any, b: Any, c: Any) -> jl.ConeSolution:
            if self.pattern is not None:
                A = jl.SparseMatrix(A, self.pattern)
            return jl.solve_cone(A, b, c, cones, settings=settings)

        solve_all = jl.vmap_over_devices(solve)

        def loss(A: Any, b: Any, c: Any, cotangent: Any) -> Any:
            return jnp.vdot(cotangent, solve_all(A, b, c).x)

        self.data = tuple(jnp.asarray(value) for value in (A, batch.b, batch.c))
        self.cotangent = jnp.asarray(batch.cotangent)
        self.solve = jax.jit(solve_all)
        self.differentiate = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))

    def forward(self) -> Any:
        return jax.block_until_ready(self.solve(*self.data))

    def solution(self, result: Any) -> tuple[Array, Array, Array]:
        return np.asarray(result.x), np.asarray(result.y), np.asarray(result.s)

    def iterations(self, result: Any) -> float | None:
        return float(np.mean(np.asarray(result.iterations)))

    def forward_backward(self) -> Any:
        return jax.block_until_ready(self.differentiate(*self.data, self.cotangent))

    def gradients(self, result: Any) -> dict[str, Array]:
        named = {name: np.asarray(g) for name, g in zip("Abc", result[1], strict=True)}
        if self.pattern is not None:
            dense = np.zeros_like(self.batch.A)
            dense[:, self.pattern.rows, self.pattern.columns] = named["A"]
            named["A"] = dense
        return named
