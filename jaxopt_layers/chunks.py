"""Large batches in chunks that fit a CPU's cache.

An interior-point iteration reads a member's matrices a dozen times. XLA runs each operation over the
whole batch before the next, so that a large batch streams all of its matrices through memory for every
one of them; in chunks they stay in the cache, and each chunk stops when its own members are done.
Measured on 2 cores with 128 programs of 100 variables: 2.3 times faster.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap

# What a chunk's matrices may take, less than a core's own cache, and the fewest members that are worth it.
_CHUNK_BYTES = 0.8e6
_FEWEST_MEMBERS = 4
# How small a chunk may be, against the largest, so that the batch divides into equal ones.
_LEAST_PART = 0.5


def in_chunks(function: Callable[..., Any], member_bytes: int) -> Callable[..., Any]:
    """The same function; under `jax.vmap` on a CPU, one that takes a large batch in equal chunks."""
    function = _in_one_context(function)
    if jax.default_backend() != "cpu":
        return function
    members = max(_FEWEST_MEMBERS, int(_CHUNK_BYTES / max(member_bytes, 1)))
    chunked = custom_vmap(function)

    @chunked.def_vmap
    def _(axis_size: int, in_batched: Any, *arguments: Any) -> tuple[Any, Any]:
        is_batched = jax.tree.leaves(in_batched)
        leaves, structure = jax.tree.flatten(arguments)

        def call(batched: list[Any]) -> Any:
            """All members of a chunk, the shared arguments standing beside them."""
            rest = iter(batched)
            joined = [
                next(rest) if flag else leaf for flag, leaf in zip(is_batched, leaves, strict=True)
            ]
            axes = [0 if flag else None for flag in is_batched]

            def member(*values: Any) -> Any:
                return function(*jax.tree.unflatten(structure, values))

            return jax.vmap(member, in_axes=axes)(*joined)

        batched = [leaf for flag, leaf in zip(is_batched, leaves, strict=True) if flag]
        result = _map_equal_chunks(call, batched, axis_size, members)
        return result, jax.tree.map(lambda _: True, result)

    # `custom_vmap` has no reverse mode: the derivative of a derivative is the plain function's.
    differentiable = jax.custom_vjp(chunked)
    differentiable.defvjp(
        lambda *arguments: (chunked(*arguments), arguments),
        lambda arguments, cotangent: jax.vjp(function, *arguments)[1](cotangent),
    )
    return differentiable


def _in_one_context(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, with the current mesh set.

    `jax.vmap` sets it where nobody has (to an empty one), and a `jax.jit` is traced again for it: of a large
    program that is seconds.
    """
    if not hasattr(jax.sharding, "use_abstract_mesh"):  # older releases of jax
        return function

    def called(*arguments: Any) -> Any:
        with jax.sharding.use_abstract_mesh(jax.sharding.get_abstract_mesh()):
            return function(*arguments)

    return called


def filled_up(leaf: Any, padding: int) -> Any:
    """A batch with its last member repeated, so that it divides into equal parts."""
    if not padding:
        return leaf
    return jnp.concatenate([leaf, jnp.repeat(leaf[-1:], padding, axis=0)])


def _chunk_size(size: int, members: int) -> int:
    """At most `members`; what divides the batch, if not much smaller, because filling up copies it."""
    least = max(_FEWEST_MEMBERS, math.ceil(_LEAST_PART * members))
    for chunk in range(members, least - 1, -1):
        if size % chunk == 0:
            return chunk
    return math.ceil(size / math.ceil(size / members))


def _map_equal_chunks(
    call: Callable[[list[Any]], Any], batched: list[Any], size: int, members: int
) -> Any:
    """Split into chunks of one size, the last filled up by repeating a member, so that one is compiled."""
    if size <= members:
        return call(batched)
    chunk = _chunk_size(size, members)
    count = math.ceil(size / chunk)
    padding = count * chunk - size

    def split(leaf: Any) -> Any:
        return filled_up(leaf, padding).reshape(count, chunk, *leaf.shape[1:])

    def join(leaf: Any) -> Any:
        return leaf.reshape(count * chunk, *leaf.shape[2:])[:size]

    return jax.tree.map(join, lax.map(call, [split(leaf) for leaf in batched]))
