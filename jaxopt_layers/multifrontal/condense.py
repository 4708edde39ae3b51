"""Clusters of nodes without edges between them, eliminated all at once before the fronts are formed.

With M the blocks of such clusters, E their entries in the other rows, and ``R M R' = D`` (`pivots`), what is
left is

    K - E M^-1 E'  =  K - L D^-1 L',        L = E R',

without a front for each. This is the condensed form of the KKT system for those nodes that have few
neighbours, or many in common, and leaves the others as they are. L has the entries that eliminating one node
after the other would fill in, and no more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_layers.multifrontal.coupling import Coupling, after_zero, make_coupling
from jaxopt_layers.multifrontal.graph import Graph, entry_keys
from jaxopt_layers.multifrontal.members import members_last
from jaxopt_layers.pattern import Segments, rows_at
from jaxopt_layers.pivots import unit_inverse_factor


@dataclass(frozen=True, eq=False)
class Condensation:
    """`kept` nodes, and those that are `gone`, (k, clusters), where a cluster may repeat its first node.

    - `place`: of every node, its place in the kept and the gone ones, joined.
    - `own` (k, k, clusters): the places of M's blocks in the diagonal, a zero and the entries, joined.
    - `factors`, `entries`: of every product of an entry of R and one of E, those; `by_cross` sums them up to
      the entries of L.
    - `stayed`: of every entry that is left, which one stood there before, counted from one, 0 for none.
    - `crosses`, `fills`: how many entries L has, and pairs of them that are multiplied.
    """

    kept: np.ndarray
    gone: np.ndarray
    place: np.ndarray
    own: np.ndarray
    factors: np.ndarray
    entries: np.ndarray
    by_cross: Segments
    stayed: np.ndarray
    coupling: Coupling
    crosses: int
    fills: int

    @property
    def operations(self) -> int:
        """About the floating-point operations."""
        return 2 * (self.fills + len(self.factors))

    @property
    def numbers(self) -> int:
        """That a factorization holds."""
        return self.own.size + self.crosses + len(self.stayed)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Condensed:
    """The inverse of D (k clusters,), R (k, k, clusters), and L as its coupling arranges it."""

    inverse: Array
    factor: Array
    coupled: Any


def make_condensation(graph: Graph, gone: np.ndarray, left: Graph) -> Condensation:
    """The elimination of the clusters `gone` (k, clusters), after which the graph is `left`."""
    size, clusters = gone.shape
    place = np.full(graph.size, -1)
    # The last one written stays: of a node that is repeated, its first place.
    place[gone[::-1].ravel()] = np.arange(gone.size).reshape(gone.shape)[::-1].ravel()
    is_gone = place >= 0
    kept = np.flatnonzero(~is_gone)
    width = len(kept)
    place[kept] = np.arange(width)

    rows, columns = graph.rows, graph.columns
    gone_row, gone_column = is_gone[rows], is_gone[columns]
    inside = np.flatnonzero(gone_row & gone_column & (rows != columns))
    own = np.full((size, size, clusters), graph.size)
    (first, cluster), second = np.divmod(place[rows[inside]], clusters), place[columns[inside]]
    second //= clusters
    own[first, second, cluster] = own[second, first, cluster] = graph.size + 1 + inside
    reach = _pattern_of_inverse(own > graph.size)
    own[np.arange(size), np.arange(size)] = gone

    cross = np.flatnonzero(gone_row ^ gone_column)
    swap = gone_column[cross]
    node = place[np.where(swap, columns[cross], rows[cross])]
    row = place[np.where(swap, rows[cross], columns[cross])]
    pivot, cluster = np.divmod(node, clusters)
    entry, to = np.nonzero(reach[:, pivot, cluster].T)
    keys, by_cross = np.unique(
        (to * clusters + cluster[entry]) * width + row[entry], return_inverse=True
    )
    lengths = np.bincount(keys // width)

    stay = np.flatnonzero(~(gone_row | gone_column) & (rows != columns))
    there = entry_keys(place[rows[stay]], place[columns[stay]], width)
    stayed = np.zeros(len(left.rows), np.int64)
    stayed[np.searchsorted(left.keys, there)] = stay + 1
    return Condensation(
        kept=kept,
        gone=gone,
        place=np.where(is_gone, width + place, place),
        own=own,
        factors=(to * size + pivot[entry]) * clusters + cluster[entry],
        entries=cross[entry],
        by_cross=Segments(by_cross, len(keys)),
        stayed=stayed,
        coupling=make_coupling(keys % width, keys // width, width, gone.size, left.keys),
        crosses=len(keys),
        fills=int(np.sum(lengths * (lengths - 1)) // 2),
    )


def _pattern_of_inverse(there: np.ndarray) -> np.ndarray:
    """Where R can have entries, from where M has (k, k, clusters), by elimination."""
    size = len(there)
    there, reach = there.copy(), np.zeros_like(there)
    reach[np.arange(size), np.arange(size)] = True
    for pivot in range(size):
        for row in range(pivot + 1, size):
            there[row] |= there[row, pivot] & there[pivot]
            reach[row] |= there[row, pivot] & reach[pivot]
    return reach


@dataclass(frozen=True, eq=False)
class Rounds:
    """Condensations one after the other, whose couplings agree on where the members of a batch stand."""

    steps: tuple[Condensation, ...]

    def condense(self, diagonal: Array, entries: Array) -> tuple[list[Condensed], Array, Array]:
        """What was eliminated, and the diagonal and the entries that are left."""
        return self._batched(self._condense)(diagonal, entries)

    def reduce(self, condensed: list[Condensed], right: Array) -> tuple[list[Array], Array]:
        """D^-1 R (right-hand sides (size, k)) of what was eliminated, and the others that are left."""
        return self._batched(self._reduce)(condensed, right)

    def expand(self, condensed: list[Condensed], known: list[Array], solution: Array) -> Array:
        """The solutions (size, k) at all nodes from those at the nodes that are left."""
        return self._batched(self._expand)(condensed, known, solution)

    def _batched(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return members_last(function) if self.steps[0].coupling.members_last else function

    def _condense(self, diagonal: Array, entries: Array) -> tuple[list[Condensed], Array, Array]:
        condensed = []
        for step in self.steps:
            inverse, factor, cross = _factored(step, diagonal, entries)
            squares, filled = step.coupling.fill(inverse, cross)
            before = rows_at(after_zero(entries), step.stayed)
            diagonal, entries = rows_at(diagonal, step.kept) - squares, before - filled
            condensed.append(Condensed(inverse, factor, step.coupling.arrange(cross)))
        return condensed, diagonal, entries

    def _reduce(self, condensed: list[Condensed], right: Array) -> tuple[list[Array], Array]:
        known = []
        for step, done in zip(self.steps, condensed, strict=True):
            own = [rows_at(right, nodes) for nodes in step.gone]
            found = done.inverse[:, None] * _times(done.factor, own)
            right = rows_at(right, step.kept) - step.coupling.product(done.coupled, found)
            known.append(found)
        return known, right

    def _expand(self, condensed: list[Condensed], known: list[Array], solution: Array) -> Array:
        rounds = zip(self.steps, condensed, known, strict=True)
        for step, done, found in reversed(list(rounds)):
            moved = step.coupling.transposed_product(done.coupled, solution)
            rest = jnp.split(found - done.inverse[:, None] * moved, len(step.gone))
            own = _transposed_times(done.factor, rest)
            solution = rows_at(jnp.concatenate([solution, own]), step.place)
        return solution


def _times(factor: Array, parts: list[Array]) -> Array:
    """R times the right-hand sides (clusters, k) of each node of the clusters, joined."""
    found = []
    for i, part in enumerate(parts):
        found.append(sum((factor[i, j][:, None] * parts[j] for j in range(i)), part))
    return jnp.concatenate(found)


def _transposed_times(factor: Array, parts: list[Array]) -> Array:
    """The same for R'."""
    found = []
    for j, part in enumerate(parts):
        below = range(j + 1, len(parts))
        found.append(sum((factor[i, j][:, None] * parts[i] for i in below), part))
    return jnp.concatenate(found)


def _factored(step: Condensation, diagonal: Array, entries: Array) -> tuple[Array, Array, Array]:
    """The inverse of D, R, and the values of L's entries."""
    blocks = rows_at(jnp.concatenate([diagonal, after_zero(entries)]), step.own)
    inverse, factor = unit_inverse_factor(blocks)
    inverse = inverse.reshape(-1, *inverse.shape[2:])
    flat = factor.reshape(-1, *factor.shape[3:])
    cross = step.by_cross.sum(
        lambda i: rows_at(flat, step.factors[i]) * rows_at(entries, step.entries[i]), entries
    )
    return inverse, factor, cross


def in_rounds(steps: list[Condensation]) -> tuple[Rounds, ...]:
    """Joins the steps of one kind that follow one another."""
    groups = groupby(steps, key=lambda step: step.coupling.members_last)
    return tuple(Rounds(tuple(group)) for _, group in groups)
