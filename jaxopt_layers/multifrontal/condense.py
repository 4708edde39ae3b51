"""Nodes without edges between them, eliminated all at once before the fronts are formed.

A row of the orthant, or a variable with curvature or bounds of its own, is a pivot that needs no other. With
D the diagonal of such nodes, E their entries in the other rows, what is left is

    K - E D^-1 E',

without a front for each. This is the condensed form of the KKT system for those nodes that have few
neighbours, or many in common, and leaves the others as they are.
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

from jaxopt_layers.multifrontal.coupling import (
    Coupling,
    after_zero,
    entry_keys,
    make_coupling,
    pairs_of,
)
from jaxopt_layers.multifrontal.members import members_last
from jaxopt_layers.pattern import rows_at

# Nodes with more neighbours than this would fill in too much, unless they have them in common: then the
# nodes that they reach, not more than this, become one dense block of the entries that are left.
_MOST_NEIGHBOURS = 32
_MOST_REACHED = 512
_COMMON = 0.3
# Nodes with more neighbours than this wait for a later round, when what would be filled in has mostly been
# eliminated, unless that leaves less than this part of the round's nodes.
_THRIFTY_NEIGHBOURS, _THRIFTY_PART = 8, 0.5
# A round that doesn't eliminate this part of the nodes, and so many, isn't worth its compile time.
_FEWEST, _FEWEST_NODES = 0.05, 8


@dataclass(frozen=True, eq=False)
class Condensation:
    """`kept` and `gone` nodes, and `place`: of every node, its place in the two joined.

    - `cross`: which entries stand between a kept and a gone node; `cross_kept`, `cross_gone`: those nodes.
    - `rows`, `columns`: the places of the entries that are left, among the kept nodes; `stayed`: which
      entry stood there before, counted from one, 0 for none.
    - `operations`: about the floating-point operations.
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
    coupling: Coupling
    operations: int


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
    """The elimination of the safest nodes with few neighbours, or with many in common; None for too few."""
    degree = np.diff(starts)
    few = _independent(degree, starts, neighbours, np.where(degree <= _MOST_NEIGHBOURS, safe, 0))
    fewer = few & (degree <= _THRIFTY_NEIGHBOURS)
    if _are_enough(fewer) and fewer.sum() >= _THRIFTY_PART * few.sum():
        return _condensation(rows, columns, fewer)
    if _are_enough(few):
        return _condensation(rows, columns, few)
    many = _independent(degree, starts, neighbours, safe)
    reached = np.unique(neighbours[np.repeat(many, degree)])
    in_common = degree[many].sum() >= _COMMON * many.sum() * len(reached)
    if _are_enough(many) and in_common and len(reached) <= _MOST_REACHED:
        return _condensation(rows, columns, many)
    return None


def _are_enough(is_gone: np.ndarray) -> bool:
    least = max(_FEWEST * len(is_gone), _FEWEST_NODES)
    return is_gone.sum() >= least and not is_gone.all()


def _independent(
    degree: np.ndarray, starts: np.ndarray, neighbours: np.ndarray, safe: np.ndarray
) -> np.ndarray:
    """A mask of the safest nodes without edges between them, those with the fewest neighbours first."""
    is_gone = np.zeros(len(safe), bool)
    safest = int(safe.max(initial=0))
    if not safest:
        return is_gone
    blocked = safe != safest
    candidates = np.flatnonzero(~blocked)
    for node in candidates[np.argsort(degree[candidates], kind="stable")].tolist():
        if not blocked[node]:
            is_gone[node] = True
            blocked[neighbours[starts[node] : starts[node + 1]]] = True
    return is_gone


def _condensation(rows: np.ndarray, columns: np.ndarray, is_gone: np.ndarray) -> Condensation:
    kept, gone = np.flatnonzero(~is_gone), np.flatnonzero(is_gone)
    place = np.empty(len(is_gone), np.int64)
    place[kept], place[gone] = np.arange(len(kept)), np.arange(len(gone))

    gone_row, gone_column = is_gone[rows], is_gone[columns]
    cross = np.flatnonzero(gone_row | gone_column)
    swap = gone_column[cross]
    cross_gone = place[np.where(swap, columns[cross], rows[cross])]
    cross_kept = place[np.where(swap, rows[cross], columns[cross])]
    order = np.argsort(cross_gone, kind="stable")
    cross, cross_gone, cross_kept = cross[order], cross_gone[order], cross_kept[order]

    first, second = pairs_of(cross_gone, len(gone))
    stay = np.flatnonzero(~(gone_row | gone_column) & (rows != columns))
    width = len(kept)
    filled = entry_keys(cross_kept[first], cross_kept[second], width)
    there = entry_keys(place[rows[stay]], place[columns[stay]], width)
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
        coupling=make_coupling(cross_kept, cross_gone, width, len(gone), keys),
        operations=2 * len(first),
    )


@dataclass(frozen=True, eq=False)
class Rounds:
    """Rounds one after the other, whose couplings agree on where the members of a batch stand."""

    steps: tuple[Condensation, ...]

    def condense(self, diagonal: Array, entries: Array) -> tuple[list[Condensed], Array, Array]:
        """What was eliminated, and the diagonal and the entries that are left."""
        return self._batched(self._condense)(diagonal, entries)

    def reduce(self, condensed: list[Condensed], right: Array) -> tuple[list[Array], Array]:
        """The right-hand sides (size, k) before every round, and those of the nodes that are left."""
        return self._batched(self._reduce)(condensed, right)

    def expand(self, condensed: list[Condensed], rights: list[Array], solution: Array) -> Array:
        """The solutions (size, k) at all nodes from those at the nodes that are left."""
        return self._batched(self._expand)(condensed, rights, solution)

    def _batched(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return members_last(function) if self.steps[0].coupling.members_last else function

    def _condense(self, diagonal: Array, entries: Array) -> tuple[list[Condensed], Array, Array]:
        condensed = []
        for step in self.steps:
            inverse, cross = 1 / rows_at(diagonal, step.gone), rows_at(entries, step.cross)
            squares, filled = step.coupling.fill(inverse, cross)
            before = rows_at(after_zero(entries), step.stayed)
            diagonal, entries = rows_at(diagonal, step.kept) - squares, before - filled
            condensed.append(Condensed(inverse, cross))
        return condensed, diagonal, entries

    def _reduce(self, condensed: list[Condensed], right: Array) -> tuple[list[Array], Array]:
        rights = []
        for step, done in zip(self.steps, condensed, strict=True):
            rights.append(right)
            known = done.inverse[:, None] * rows_at(right, step.gone)
            right = rows_at(right, step.kept) - step.coupling.product(done.cross, known)
        return rights, right

    def _expand(self, condensed: list[Condensed], rights: list[Array], solution: Array) -> Array:
        rounds = zip(self.steps, condensed, rights, strict=True)
        for step, done, right in reversed(list(rounds)):
            moved = step.coupling.transposed_product(done.cross, solution)
            rest = done.inverse[:, None] * (rows_at(right, step.gone) - moved)
            solution = rows_at(jnp.concatenate([solution, rest]), step.place)
        return solution


def in_rounds(steps: list[Condensation]) -> tuple[Rounds, ...]:
    """Joins the steps of one kind that follow one another."""
    groups = groupby(steps, key=lambda step: step.coupling.members_last)
    return tuple(Rounds(tuple(group)) for _, group in groups)
