"""`vmap_over_devices`: a batch divided among devices, or among the cores of a CPU."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, PartitionSpec

from jaxopt_layers.chunks import filled_up

_AXIS = "members"


def vmap_over_devices(
    function: Callable[..., Any], in_axes: Any = 0, *, devices: Sequence[Any] | None = None
) -> Callable[..., Any]:
    """`jax.vmap` of a function whose batch is divided among devices, each working on its own.

    A solver's loop ends when the last member of a batch is done; here each device ends when its own
    members are. On CPUs XLA gains little from a second core within the small operations that a batch of
    small problems is made of, and nearly all of it between devices. So tell JAX, before it is used for
    the first time, to make every core one:

        jax.config.update("jax_num_cpu_devices", os.cpu_count())

    With a single device it is `jax.vmap`. It composes with `jax.jit` and `jax.grad`; the result stays on
    the devices that made it.

    **Arguments:**

    - `function`: of one member; the results are stacked along a leading axis.
    - `in_axes`: as for `jax.vmap`: for each argument, or a tree of it, the batch's axis, or None for what
      the batch shares.
    - `devices`: which to use. None: all of the default backend.

    **Raises:** ValueError if no argument has a batch axis, or the sizes of the batch differ.

    ```python
    import jax, jax.numpy as jnp, jaxopt_layers as jl

    project = lambda point: jl.solve_qp(jnp.ones(3), -point, lower=0).x
    jl.vmap_over_devices(project)(jnp.array([[1.0, -1.0, 2.0], [0.0, 3.0, -2.0]]))  # [[1, 0, 2], [0, 3, 0]]
    ```
    """

    @functools.wraps(function)
    def mapped(*arguments: Any) -> Any:
        axes = tuple(in_axes) if isinstance(in_axes, list | tuple) else (in_axes,) * len(arguments)
        leaves, structure = jax.tree.flatten(arguments)
        leaf_axes = jax.tree.leaves(
            jax.tree.broadcast(axes, arguments, is_leaf=_is_none), is_leaf=_is_none
        )
        size = _batch_size(leaves, leaf_axes)
        chosen = list(jax.devices() if devices is None else devices)[: max(size, 1)]
        if len(chosen) == 1:
            return jax.vmap(function, in_axes=axes)(*arguments)
        leading = [None if axis is None else 0 for axis in leaf_axes]

        def members(*leaves: Any) -> Any:
            def member(*leaves: Any) -> Any:
                return function(*jax.tree.unflatten(structure, leaves))

            return jax.vmap(member, in_axes=leading)(*leaves)

        padding = len(chosen) * math.ceil(size / len(chosen)) - size
        batch = PartitionSpec(_AXIS)
        mesh = Mesh(chosen, (_AXIS,), axis_types=(AxisType.Auto,))
        sharded = jax.shard_map(
            members,
            mesh=mesh,
            in_specs=tuple(PartitionSpec() if axis is None else batch for axis in leaf_axes),
            out_specs=batch,
        )
        padded = [
            leaf if axis is None else filled_up(jnp.moveaxis(leaf, axis, 0), padding)
            for leaf, axis in zip(leaves, leaf_axes, strict=True)
        ]
        # Compiled, since `shard_map` outside of `jit` runs one operation at a time.
        result = jax.jit(sharded)(*padded)
        return jax.tree.map(lambda leaf: leaf[:size], result) if padding else result

    return mapped


def _is_none(value: Any) -> bool:
    return value is None


def _batch_size(leaves: list[Any], axes: list[int | None]) -> int:
    sizes = {
        jnp.shape(leaf)[axis] for leaf, axis in zip(leaves, axes, strict=True) if axis is not None
    }
    if len(sizes) != 1:
        found = f"found sizes {sorted(sizes)}" if sizes else "none has one"
        raise ValueError(
            f"vmap_over_devices: the batch axes that `in_axes` names must have one size; {found}."
        )
    return sizes.pop()
