"""What the JAX layers share: the batch as arrays, and value_and_grad of one sum."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from layer_problems import Array, LayerBatch

from .interface import LayerPeer


class JaxLayer(LayerPeer):
    """`layer(*values)` gives a tuple of variables; `compiled`: whether it runs under `jax.jit`."""

    layer: Any

    def __init__(self, batch: LayerBatch, tolerance: float, compiled: bool) -> None:
        jax.config.update("jax_enable_x64", True)
        super().__init__(batch, tolerance)
        self.cotangents = [jnp.asarray(value) for value in batch.cotangents]

        def solve(values: list[Any]) -> tuple[Any, ...]:
            return self.layer(*values)

        def loss(values: list[Any], cotangents: list[Any]) -> Any:
            pairs = zip(cotangents, solve(values), strict=True)
            return sum(jnp.vdot(cotangent, x) for cotangent, x in pairs)

        self.solve, self.differentiate = solve, jax.value_and_grad(loss)
        if compiled:
            self.solve, self.differentiate = jax.jit(self.solve), jax.jit(self.differentiate)

    def give(self, values: list[Array]) -> None:
        self.values = [jnp.asarray(value) for value in values]

    def forward(self) -> Any:
        return jax.block_until_ready(self.solve(self.values))

    def solution(self, result: Any) -> list[Array]:
        return [np.asarray(value) for value in result]

    def forward_backward(self) -> Any:
        return jax.block_until_ready(self.differentiate(self.values, self.cotangents))

    def gradients(self, result: Any) -> list[Array]:
        return [np.asarray(value) for value in result[1]]
