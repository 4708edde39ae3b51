"""A factorization as one vector, to be kept between passes or carried by a loop.

A loop's carry costs kernels for every array of it: one for its beginning, one for what a member of a batch keeps
that is done, and copies to the layout that the carry has.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_layers.multifrontal.members import members_last


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Packed:
    """`numbers`: the leaves of a tree, one after the other; their `shapes` and its `structure`."""

    numbers: Array
    shapes: tuple[tuple[int, ...], ...] = field(metadata={"static": True})
    structure: Any = field(metadata={"static": True})

    @classmethod
    def of(cls, tree: Any) -> Packed:
        leaves, structure = jax.tree.flatten(tree)
        numbers = members_last(_joined)(*leaves)
        return cls(numbers, tuple(leaf.shape for leaf in leaves), structure)

    def unpacked(self) -> Any:
        """The tree."""
        leaves = members_last(lambda numbers: _parted(numbers, self.shapes))(self.numbers)
        return jax.tree.unflatten(self.structure, leaves)


def _joined(*leaves: Array) -> Array:
    return jnp.concatenate([leaf.reshape(-1, leaf.shape[-1]) for leaf in leaves])


def _parted(numbers: Array, shapes: tuple[tuple[int, ...], ...]) -> list[Array]:
    members, parts, start = numbers.shape[-1], [], 0
    for shape in shapes:
        end = start + math.prod(shape)
        parts.append(numbers[start:end].reshape(*shape, members))
        start = end
    return parts
