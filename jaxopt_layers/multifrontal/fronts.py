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
    """`pivots` and `below` of each front, as nodes; `parent` is -1 where that is the root, or none."""

    pivots: list[np.ndarray]
    below: list[np.ndarray]
    parent: np.ndarray

    def children(self) -> list[list[int]]:
        """The fronts of which each is the parent."""
        found: list[list[int]] = [[] for _ in self.pivots]
        for child, parent in enumerate(self.parent.tolist()):
            if parent >= 0:
                found[parent].append(child)
        return found

    def depth(self) -> np.ndarray:
        """How many fronts lie between each and its root."""
        depth = np.zeros(len(self.parent), np.int64)
        above = self.parent
        while (above >= 0).any():
            depth += above >= 0
            above = np.where(above >= 0, self.parent[above], -1)
        return depth


def operations(pivots: float, below: float) -> float:
    """About the floating-point operations of one front's elimination."""
    return pivots * (pivots * pivots + 2 * pivots * below + 2 * below * below)


def find_fronts(
    neighbours: np.ndarray, starts: np.ndarray, order: np.ndarray, rooted: int
) -> Fronts:
    """The fronts for an order of elimination, without its last `rooted` nodes."""
    size = len(order)
    position = np.empty(size, np.int64)
    position[order] = np.arange(size)
    later = _later_neighbours(neighbours, starts, order, position)

    structure: list[set[int]] = [set() for _ in range(size)]
    children: list[list[int]] = [[] for _ in range(size)]
    # The open front whose last node is j: its pivots, and the closed fronts that hang below it.
    members: list[list[int]] = [[] for _ in range(size)]
    hanging: list[list[int]] = [[] for _ in range(size)]
    closed_pivots: list[list[int]] = []
    closed_below: list[list[int]] = []
    parents: list[int] = []

    def close(pivots: list[int], below: set[int], under: list[int]) -> int:
        number = len(closed_pivots)
        closed_pivots.append(pivots)
        closed_below.append(sorted(below))
        parents.append(-1)
        for child in under:
            parents[child] = number
        return number

    end = size - rooted
    top: list[_Open] = []
    for j in range(end):
        below = set(later[j])
        for child in children[j]:
            below |= structure[child]
        below.discard(j)
        width, count = 1, len(below)
        own, under, apart = [j], [], []
        # The children that cost least to take in come first.
        for child in sorted(children[j], key=lambda c: (len(members[c]), len(structure[c]))):
            extra = len(members[child])
            kept = operations(width, count) + operations(extra, len(structure[child]))
            if width + extra <= WIDEST and operations(width + extra, count) <= kept + _OVERHEAD:
                own = members[child] + own
                under += hanging[child]
                width += extra
            else:
                apart.append(_Open(members[child], structure[child], hanging[child]))
            structure[child] = members[child] = hanging[child] = None  # type: ignore
        for group in _join_siblings(apart):
            under.append(close(group.pivots, group.below, group.under))
        structure[j], members[j], hanging[j] = below, own, under
        if below and min(below) < end:
            children[min(below)].append(j)
        else:
            top.append(_Open(own, below, under))
    top.sort(key=lambda front: (len(front.below), sorted(front.below)))
    for group in _join_siblings(top):
        close(group.pivots, group.below, group.under)
    pivots = [order[np.array(sorted(nodes))] for nodes in closed_pivots]
    return Fronts(
        pivots=pivots,
        below=[order[np.array(nodes, np.int64)] for nodes in closed_below],
        parent=np.array(parents, np.int64),
    )


@dataclass(frozen=True)
class _Open:
    """A front that is about to be closed."""

    pivots: list[int]
    below: set[int]
    under: list[int]


def _join_siblings(fronts: list[_Open]) -> list[_Open]:
    """Fronts of one parent, those joined whose rows below are nearly the same."""
    joined: list[_Open] = []
    for front in fronts:
        if joined:
            last = joined[-1]
            width, below = len(last.pivots) + len(front.pivots), last.below | front.below
            apart = sum(operations(len(f.pivots), len(f.below)) for f in (last, front))
            if width <= WIDEST and operations(width, len(below)) <= apart + _OVERHEAD:
                joined[-1] = _Open(last.pivots + front.pivots, below, last.under + front.under)
                continue
        joined.append(front)
    return joined


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
