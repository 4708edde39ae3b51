"""What the two JAX solvers share: `jit(vmap(...))`, and the same under `value_and_grad`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from problems import Array, Batch, is_batched

from .interface import Options, Peer, Unsupported, mean


class JaxPeer(Peer):
    """A solver of one problem as a JAX function of named arrays."""

    vmap: Callable[..., Any] = staticmethod(jax.vmap)

    def __init__(self, batch: Batch, options: Options) -> None:
        super().__init__(batch, options)
        try:
            jax.devices()
        except (RuntimeError, AssertionError) as error:  # JAX_PLATFORMS names what is not there
            raise Unsupported(f"JAX has no {options.device} here") from error
        jax.config.update("jax_enable_x64", options.dtype == "float64")
        given = self.given(batch)
        axes = {name: 0 if is_batched(name, value) else None for name, value in given.items()}
        self.data = {name: jnp.asarray(value) for name, value in given.items()}
        self.cotangent = jnp.asarray(batch.cotangent)
        self._solve = jax.jit(self.vmap(self.solve_one, in_axes=(axes,)))
        primal = self.vmap(self.primal_one, in_axes=(axes,))

        def loss(moving: dict[str, Any], still: dict[str, Any], cotangent: Any) -> Any:
            return jnp.vdot(cotangent, primal(moving | still))

        self._gradient = jax.jit(jax.value_and_grad(loss))

    @abstractmethod
    def given(self, batch: Batch) -> dict[str, Array]:
        """The arrays this solver takes."""

    @abstractmethod
    def solve_one(self, data: dict[str, Any]) -> tuple[Any, Any]:
        """x and the iterations of one problem."""

    def primal_one(self, data: dict[str, Any]) -> Any:
        """x of one problem, differentiable."""
        return self.solve_one(data)[0]

    def forward(self) -> Any:
        return jax.block_until_ready(self._solve(self.data))

    def solution(self, result: Any) -> Array:
        return np.asarray(result[0])

    def iterations(self, result: Any) -> float | None:
        return mean(result[1])

    def forward_backward(self) -> Any:
        moving = {name: self.data[name] for name in self.batch.differentiate}
        still = {name: value for name, value in self.data.items() if name not in moving}
        return jax.block_until_ready(self._gradient(moving, still, self.cotangent))

    def gradients(self, result: Any) -> dict[str, Array]:
        return {name: np.asarray(value) for name, value in result[1].items()}
