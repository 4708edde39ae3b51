"""Fronts: sets of pivots that are eliminated together, and the rows below that they change.

Eliminating a node joins all of its later neighbours. Its structure, the later neighbours by then, has
its parent in the elimination tree as its first entry (Liu 1990, "The role of elimination trees in sparse
factorization"). A front is a connected piece of that tree; its rows below are the structure of its last
node. Small pieces are joined where that costs less than it saves (relaxed amalgamation, Ashcraft &
Grimes 1989), which makes fronts of similar size and a shallow tree of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

#: A front has at most so many pivots; what a wider separator has becomes a chain of fronts.
WIDEST = 16
# What a front costs beside its arithmetic, in floating-point operations.
_OVERHEAD = 6_000


@dataclass(frozen=True)
class Fronts:
    """`pivots` and `below` of each front, as nodes; `parent` is -1 at a root. Children come first."""

    pivots: list[np.ndarray]
    below: list[np.ndarray]
    parent: np.ndarray


def operations(pivots: float, below: float) -> float:
    """About the floating-point operations of one front's elimination."""
    return pivots * (pivots * pivots + 2 * pivots * below + 2 * below * below)


def find_fronts(neighbours: np.ndarray, starts: np.ndarray, order: np.ndarray) -> Fronts:
    """The fronts for an order of elimination."""
    size = len(order)
    position = np.empty(size, np.int64)
    position[order] = np.arange(size)
    later = _later_neighbours(neighbours, starts, order, position)

    structure: list[set[int] | None] = [None] * size
    children: list[list[int]] = [[] for _ in range(size)]
    # The open front whose last node is j: its pivots, and the closed fronts that hang below it.
    members: list[list[int]] = [[] for _ in range(size)]
    hanging: list[list[int]] = [[] for _ in range(size)]
    closed_pivots, closed_below, last_node = [], [], []

    def close(j: int) -> int:
        closed_pivots.append(members[j])
        closed_below.append(sorted(structure[j] or ()))
        last_node.append(j)
        for child in hanging[j]:
            parents[child] = len(closed_pivots) - 1
        parents.append(-1)
        members[j], hanging[j] = [], []
        return len(closed_pivots) - 1

    parents: list[int] = []
    for j in range(size):
        below = set(later[j])
        for child in children[j]:
            below |= structure[child] or set()
        below.discard(j)
        structure[j] = below
        width, count = 1, len(below)
        own, under = [j], []
        # The children that cost least to take in come first.
        for child in sorted(children[j], key=lambda c: len(members[c])):
            extra = len(members[child])
            kept = operations(width, count) + operations(extra, len(structure[child] or ()))
            joined = operations(width + extra, count)
            if width + extra <= WIDEST and joined <= kept + _OVERHEAD:
                own = members[child] + own
                under += hanging[child]
                width += extra
            else:
                under.append(close(child))
            structure[child] = None
        members[j], hanging[j] = own, under
        if below:
            children[min(below)].append(j)
        else:
            close(j)
    pivots = [order[np.array(sorted(nodes))] for nodes in closed_pivots]
    return Fronts(
        pivots=pivots,
        below=[order[np.array(nodes, np.int64)] for nodes in closed_below],
        parent=np.array(parents, np.int64),
    )


def _later_neighbours(
    neighbours: np.ndarray, starts: np.ndarray, order: np.ndarray, position: np.ndarray
) -> list[list[int]]:
    """Of each position, the positions of its neighbours that are eliminated after it."""
    size = len(order)
    node = np.repeat(np.arange(size), np.diff(starts))
    here, there = position[node], position[neighbours]
    kept = there > here
    here, there = here[kept], there[kept]
    sort = np.argsort(here, kind="stable")
    ends = np.searchsorted(here[sort], np.arange(size + 1)).tolist()
    joined = there[sort].tolist()
    return [joined[ends[j] : ends[j + 1]] for j in range(size)]
