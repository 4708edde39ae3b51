"""How nodes that are eliminated at once are coupled to the others: L, by its entries or as a matrix.

With D the pivots of the nodes that are gone, three products are needed: L D^-1 L' at the places of the
entries that are left, L times what is known of right-hand sides, and L' times a solution. Where the nodes
have few neighbours the first is a sum over pairs of entries; where they share many, a matrix product.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_layers.matrix import matmul
from jaxopt_layers.multifrontal.graph import entry_keys, pairs_of
from jaxopt_layers.pattern import Segments, rows_at

# A product of two entries that are gathered costs as much as so many operations of a matrix product.
_GATHERED = 50


class Coupling(Protocol):
    """L, of shape (kept, gone), from the values of its entries.

    With `members_last`, every array of numbers has one more axis, the last, for the members of a batch.
    """

    members_last: bool

    def fill(self, inverse: Array, cross: Array) -> tuple[Array, Array]:
        """Of ``L D^-1 L'`` the diagonal (kept,), and what is at the entries that are left."""
        ...

    def arrange(self, cross: Array) -> Any:
        """L, in the form that the products take."""
        ...

    def product(self, arranged: Any, known: Array) -> Array:
        """L times (gone, k)."""
        ...

    def transposed_product(self, arranged: Any, solution: Array) -> Array:
        """L' times (kept, k)."""
        ...


@dataclass(frozen=True, eq=False)
class SparseCoupling:
    """`kept`, `gone`: the nodes of each entry. `first`, `second`: pairs of entries of one node that is
    gone; `by_entry` sums them up."""

    members_last = True

    kept: np.ndarray
    gone: np.ndarray
    first: np.ndarray
    second: np.ndarray
    by_entry: Segments
    by_kept: Segments
    by_gone: Segments

    def fill(self, inverse: Array, cross: Array) -> tuple[Array, Array]:
        scaled = cross * rows_at(inverse, self.gone)
        squares = self.by_kept.sum(lambda i: rows_at(scaled, i) * rows_at(cross, i), cross)
        pairs = self.by_entry.sum(
            lambda i: rows_at(scaled, self.first[i]) * rows_at(cross, self.second[i]), cross
        )
        return squares, pairs

    def arrange(self, cross: Array) -> tuple[Array, Array]:
        return self.by_kept.arrange(cross), self.by_gone.arrange(cross)

    def product(self, arranged: tuple[Array, Array], known: Array) -> Array:
        return self.by_kept.dot(arranged[0], lambda i: rows_at(known, self.gone[i]), known)

    def transposed_product(self, arranged: tuple[Array, Array], solution: Array) -> Array:
        return self.by_gone.dot(arranged[1], lambda i: rows_at(solution, self.kept[i]), solution)


@dataclass(frozen=True, eq=False)
class DenseCoupling:
    """`reached`: the kept nodes that have entries, (r,); `of_kept`: each kept node's place there, or r.

    `matrix` (r, gone): which entry stands where, counted from one, 0 for none; `filled`: the place in the
    flat product (r, r) of each entry that is left, or r^2.
    """

    members_last = False

    reached: np.ndarray
    of_kept: np.ndarray
    matrix: np.ndarray
    filled: np.ndarray

    def fill(self, inverse: Array, cross: Array) -> tuple[Array, Array]:
        L = self.arrange(cross)
        product = matmul(L * inverse[None, :], L.T)
        return (
            rows_at(_behind(jnp.diagonal(product)), self.of_kept),
            rows_at(_behind(product.ravel()), self.filled),
        )

    def arrange(self, cross: Array) -> Array:
        return rows_at(after_zero(cross), self.matrix)

    def product(self, arranged: Array, known: Array) -> Array:
        return rows_at(_behind(matmul(arranged, known)), self.of_kept)

    def transposed_product(self, arranged: Array, solution: Array) -> Array:
        return matmul(arranged.T, rows_at(solution, self.reached))


def after_zero(values: Array) -> Array:
    """A zero, then the values: for places that are counted from one, 0 standing for none."""
    return jnp.concatenate([jnp.zeros_like(values, shape=(1, *values.shape[1:])), values])


def _behind(values: Array) -> Array:
    """The values with a zero behind them."""
    return jnp.concatenate([values, jnp.zeros_like(values, shape=(1, *values.shape[1:]))])


def make_coupling(
    kept: np.ndarray, gone: np.ndarray, size: int, nodes: int, left: np.ndarray
) -> Coupling:
    """For entries at (kept, gone), sorted by the latter, of `size` kept nodes and `nodes` that are gone.

    `left` (sorted): the keys of the entries that are left, by `entry_keys`.
    """
    reached = np.unique(kept)
    first, second = pairs_of(gone, nodes)
    if 2 * len(reached) ** 2 * nodes < _GATHERED * len(first):
        return _dense(kept, gone, size, nodes, left, reached)
    keys = entry_keys(kept[first], kept[second], size)
    return SparseCoupling(
        kept=kept,
        gone=gone,
        first=first,
        second=second,
        by_entry=Segments(np.searchsorted(left, keys), len(left)),
        by_kept=Segments(kept, size),
        by_gone=Segments(gone, nodes),
    )


def _dense(
    kept: np.ndarray,
    gone: np.ndarray,
    size: int,
    nodes: int,
    left: np.ndarray,
    reached: np.ndarray,
) -> DenseCoupling:
    count = len(reached)
    of_kept = np.full(size, count)
    of_kept[reached] = np.arange(count)
    matrix = np.zeros((count, nodes), np.int32)
    matrix[of_kept[kept], gone] = np.arange(1, len(kept) + 1)
    one, two = of_kept[left // size], of_kept[left % size]
    filled = np.where((one < count) & (two < count), one * count + two, count * count)
    return DenseCoupling(reached, of_kept.astype(np.int32), matrix, filled.astype(np.int32))
