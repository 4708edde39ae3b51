"""The members of a batch in the last axis of every array.

A gather of numbers that lie far apart takes a cache line for each of them. With the members last, what it
takes is a run of numbers, one for each member, and everything else becomes a loop over such runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap


def members_last(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of trees of arrays (..., members) as one of arrays (...), which `jax.vmap` makes batched."""

    def one(*trees: Any) -> Any:
        result = function(*jax.tree.map(lambda array: array[..., None], trees))
        return jax.tree.map(lambda value: value[..., 0], result)

    mapped = custom_vmap(one)

    @mapped.def_vmap
    def _(axis_size: int, in_batched: Any, *trees: Any) -> tuple[Any, Any]:
        def move(array: Any, batched: bool) -> Any:
            if batched:
                return lax.optimization_barrier(jnp.moveaxis(array, 0, -1))
            return jnp.broadcast_to(array[..., None], (*array.shape, axis_size))

        moved = jax.tree.map(move, trees, tuple(in_batched))
        result = jax.tree.map(lambda value: jnp.moveaxis(value, -1, 0), function(*moved))
        return result, jax.tree.map(lambda _: True, result)

    return mapped
