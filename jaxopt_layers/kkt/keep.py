"""A factorization as few arrays: what a loop carries, and what is kept for the backward pass.

Each array of a loop's carry costs kernels of its own: for its beginning, for what a finished member of a
batch holds on to, and for copies to the layout of the carry.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_layers.matrix import WithTranspose
from jaxopt_layers.multifrontal import Factor, members_last


def keep(factor: Any) -> Any:
    """The factorization without transposes, and a sparse one as a single vector."""

    def kept(part: Any) -> Any:
        if isinstance(part, WithTranspose):
            return _Transposable(part.matrix)
        return _Packed.of(part) if isinstance(part, Factor) else part

    return jax.tree.map(
        kept, factor, is_leaf=lambda part: isinstance(part, (WithTranspose, Factor))
    )


def restore(kept: Any) -> Any:
    """What `keep` was given."""
    kinds = (_Transposable, _Packed)
    return jax.tree.map(
        lambda part: part.restored() if isinstance(part, kinds) else part,
        kept,
        is_leaf=lambda part: isinstance(part, kinds),
    )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Transposable:
    """A matrix whose transpose is wanted, too."""

    matrix: Array

    def restored(self) -> WithTranspose:
        return WithTranspose.of(self.matrix)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Packed:
    """The numbers of a sparse factorization, array after array; their `shapes` and its `structure`."""

    numbers: Array
    shapes: tuple[tuple[int, ...], ...] = field(metadata={"static": True})
    structure: Any = field(metadata={"static": True})

    @classmethod
    def of(cls, factor: Factor) -> _Packed:
        arrays, structure = jax.tree.flatten(factor)
        numbers = members_last(_joined)(*arrays)
        return cls(numbers, tuple(array.shape for array in arrays), structure)

    def restored(self) -> Factor:
        arrays = members_last(lambda numbers: _parted(numbers, self.shapes))(self.numbers)
        return jax.tree.unflatten(self.structure, arrays)


def _joined(*arrays: Array) -> Array:
    return jnp.concatenate([array.reshape(-1, array.shape[-1]) for array in arrays])


def _parted(numbers: Array, shapes: tuple[tuple[int, ...], ...]) -> list[Array]:
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    parts = jnp.split(numbers, ends[:-1])
    members = numbers.shape[-1]
    return [part.reshape(*shape, members) for part, shape in zip(parts, shapes, strict=True)]
