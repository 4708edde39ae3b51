"""This package: `solve_cone` under jit, its batch divided among the devices."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_layers as jl
from cone_problems import Array, ConeBatch

from .interface import ConePeer


class Runner(ConePeer):
    def __init__(self, batch: ConeBatch, tolerance: float) -> None:
        super().__init__(batch, tolerance)
        jax.config.update("jax_enable_x64", True)
        cones = jl.Cones(**asdict(batch.family.cones))
        settings = jl.Settings(tolerance=tolerance)

        def solve(A: Any, b: Any, c: Any) -> jl.ConeSolution:
            return jl.solve_cone(A, b, c, cones, settings=settings)

        solve_all = jl.vmap_over_devices(solve)

        def loss(A: Any, b: Any, c: Any, cotangent: Any) -> Any:
            return jnp.vdot(cotangent, solve_all(A, b, c).x)

        self.data = tuple(jnp.asarray(value) for value in (batch.A, batch.b, batch.c))
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
        return {name: np.asarray(g) for name, g in zip("Abc", result[1], strict=True)}
