"""Nodes without edges between them, eliminated all at once before the fronts are formed.

A row of the orthant, or a variable with curvature or bounds of its own, is a pivot that needs no other. With
D the diagonal of such nodes, E their entries in the other rows, what is left is

    K - E D^-1 E',

whose entries are sums of products: a gather and a sum, without a front each. This is the condensed form of
the KKT system for those nodes that have few neighbours, and leaves the others as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_layers.multifrontal.members import members_last
from jaxopt_layers.pattern import Segments

# Nodes with more neighbours than this would fill in too much.
_MOST_NEIGHBOURS = 32
# A round that doesn't eliminate this part of the nodes isn't worth its compile time.
_FEWEST = 0.05


@dataclass(frozen=True, eq=False)
class Condensation:
    """`kept` and `gone` nodes, and `place`: of every node, its place in the two joined.

    - `cross`, `cross_kept`, `cross_gone`: the entries between a kept and a gone node, and which they are.
    - `rows`, `columns`: the places of the entries that are left, among the kept nodes; `stayed`: which
      entry stood there before, counted from one, 0 for none.
    - `products` (2, k): pairs of `cross` entries of the same gone node; `by_entry` sums them up.
    """

    kept: np.ndarray
    gone: np.ndarray
    place: np.ndarray
    cross: np.ndarray
    cross_kept: np.ndarray
    cross_gone: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    stayed: np.ndarray
    products: np.ndarray
    by_entry: Segments
    by_kept: Segments
    by_gone: Segments


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Condensed:
    """The inverse of D, and E, as the values of the cross entries."""

    inverse: Array
    cross: Array


def find_condensation(
    rows: np.ndarray,
    columns: np.ndarray,
    starts: np.ndarray,
    neighbours: np.ndarray,
    safe: np.ndarray,
) -> Condensation | None:
    """The elimination of the safest nodes with few neighbours, the fewest first; None for too few."""
    size = len(safe)
    degree = np.diff(starts)
    few = degree <= _MOST_NEIGHBOURS
    safest = int(safe[few].max(initial=0))
    if not safest:
        return None
    blocked = ~(few & (safe == safest))
    is_gone = np.zeros(size, bool)
    candidates = np.flatnonzero(~blocked)
    for node in candidates[np.argsort(degree[candidates], kind="stable")].tolist():
        if not blocked[node]:
            is_gone[node] = True
            blocked[neighbours[starts[node] : starts[node + 1]]] = True
    if is_gone.sum() < _FEWEST * size or is_gone.all():
        return None
    kept, gone = np.flatnonzero(~is_gone), np.flatnonzero(is_gone)
    place = np.empty(size, np.int64)
    place[kept], place[gone] = np.arange(len(kept)), np.arange(len(gone))

    gone_row, gone_column = is_gone[rows], is_gone[columns]
    cross = np.flatnonzero(gone_row | gone_column)
    swap = gone_column[cross]
    cross_gone = place[np.where(swap, columns[cross], rows[cross])]
    cross_kept = place[np.where(swap, rows[cross], columns[cross])]
    order = np.argsort(cross_gone, kind="stable")
    cross, cross_gone, cross_kept = cross[order], cross_gone[order], cross_kept[order]

    products = _pairs(cross_gone, len(gone))
    stay = np.flatnonzero(~(gone_row | gone_column) & (rows != columns))
    width = len(kept)

    def key(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return np.maximum(first, second) * width + np.minimum(first, second)

    filled = key(cross_kept[products[0]], cross_kept[products[1]])
    there = key(place[rows[stay]], place[columns[stay]])
    keys = np.unique(np.concatenate([filled, there]))
    stayed = np.zeros(len(keys), np.int64)
    stayed[np.searchsorted(keys, there)] = stay + 1
    return Condensation(
        kept=kept,
        gone=gone,
        place=np.where(is_gone, width + place, place),
        cross=cross,
        cross_kept=cross_kept,
        cross_gone=cross_gone,
        rows=keys // width,
        columns=keys % width,
        stayed=stayed,
        products=products,
        by_entry=Segments(np.searchsorted(keys, filled), len(keys)),
        by_kept=Segments(cross_kept, width),
        by_gone=Segments(cross_gone, len(gone)),
    )


def _pairs(owner: np.ndarray, count: int) -> np.ndarray:
    """All pairs of different positions with the same owner, owners being in order."""
    starts = np.searchsorted(owner, np.arange(count + 1))
    lengths = np.diff(starts)
    parts = [np.zeros((2, 0), np.int64)]
    for length in np.unique(lengths[lengths > 1]):
        first, second = np.triu_indices(length, 1)
        own = starts[:-1][lengths == length][:, None]
        parts.append(np.stack([(own + first[None, :]).ravel(), (own + second[None, :]).ravel()]))
    return np.concatenate(parts, axis=1)


def condense(plan: Condensation, diagonal: Array, entries: Array) -> tuple[Condensed, Array, Array]:
    """What was eliminated, and the diagonal and the entries that are left."""

    def eliminate(diagonal: Array, entries: Array) -> tuple[Array, ...]:
        inverse, cross = 1 / diagonal[plan.gone], entries[plan.cross]
        scaled = cross * inverse[plan.cross_gone]
        first, second = plan.products
        filled = plan.by_entry.sum(lambda index: scaled[first[index]] * cross[second[index]], cross)
        squares = plan.by_kept.sum(lambda index: scaled[index] * cross[index], cross)
        before = jnp.concatenate([jnp.zeros_like(entries, shape=(1, entries.shape[1])), entries])
        return inverse, cross, diagonal[plan.kept] - squares, before[plan.stayed] - filled

    inverse, cross, diagonal, entries = members_last(eliminate)(diagonal, entries)
    return Condensed(inverse, cross), diagonal, entries


def reduce_right(plan: Condensation, done: Condensed, right: Array) -> Array:
    """The right-hand sides (size, k) of the kept nodes once the others are eliminated."""

    def reduce(inverse: Array, cross: Array, right: Array) -> Array:
        known = inverse[:, None] * right[plan.gone]
        moved = plan.by_kept.sum(
            lambda index: cross[index][:, None] * known[plan.cross_gone[index]], right
        )
        return right[plan.kept] - moved

    return members_last(reduce)(done.inverse, done.cross, right)


def expand(plan: Condensation, done: Condensed, right: Array, solution: Array) -> Array:
    """The solutions (size, k) at all nodes from those at the kept ones."""

    def extend(inverse: Array, cross: Array, right: Array, solution: Array) -> Array:
        moved = plan.by_gone.sum(
            lambda index: cross[index][:, None] * solution[plan.cross_kept[index]], right
        )
        rest = inverse[:, None] * (right[plan.gone] - moved)
        return jnp.concatenate([solution, rest])[plan.place]

    return members_last(extend)(done.inverse, done.cross, right, solution)
