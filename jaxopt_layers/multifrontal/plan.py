"""The plan of a factorization: everything about a pattern that the numbers need, as index arrays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from jaxopt_layers.multifrontal.clusters import find_clusters
from jaxopt_layers.multifrontal.condense import (
    Condensation,
    Rounds,
    in_rounds,
    make_condensation,
)
from jaxopt_layers.multifrontal.fronts import Fronts, operations
from jaxopt_layers.multifrontal.graph import Graph
from jaxopt_layers.multifrontal.ordering import dissection_order
from jaxopt_layers.multifrontal.root import Root, make_root
from jaxopt_layers.multifrontal.schedule import CHILDREN, Phase
from jaxopt_layers.multifrontal.tree import find_tree

# At most so many rounds of nodes are eliminated before the fronts; each about halves a tree or a chain.
_CONDENSATIONS = 12


@dataclass(frozen=True)
class PhasePlan:
    """Index arrays of a phase, (steps, fronts a step, ...); w pivots, h rows below, f = w + h.

    - `pivots` (..., w): nodes; the number of nodes stands for none.
    - `signs` (..., w): of the pivots.
    - `entries` (..., w, f): where a front's own entries come from; 0 for none.
    - `children` (..., CHILDREN): places among the updates that this phase knows; 0 for none.
    - `places` (..., CHILDREN, f): the child's row that comes to each row of the front; h for none.
    - `below` (..., h): places in the vector of eliminated pivots; its length stands for none.
    - `incoming`: for every earlier phase, the numbers of its fronts whose parents are in this one.
    """

    width: int
    height: int
    pivots: np.ndarray
    signs: np.ndarray
    entries: np.ndarray
    children: np.ndarray
    places: np.ndarray
    below: np.ndarray
    incoming: tuple[np.ndarray, ...]

    @property
    def count(self) -> int:
        return self.pivots.shape[0] * self.pivots.shape[1]


@dataclass(frozen=True, eq=False)
class Plan:
    """`rounds` come first, one after the other, then the `phases` of the fronts, last the `root`.

    `position`: of each node that is left, its place among the padded pivots, the root's being the last.
    Equal by identity.
    """

    size: int
    rounds: tuple[Rounds, ...]
    phases: tuple[PhasePlan, ...]
    root: Root
    position: np.ndarray

    @property
    def condensations(self) -> tuple[Condensation, ...]:
        return tuple(step for rounds in self.rounds for step in rounds.steps)

    @cached_property
    def operations(self) -> float:
        """Floating-point operations of a factorization, padding included."""
        condensing = sum(step.operations for step in self.condensations)
        fronts = sum(phase.count * operations(phase.width, phase.height) for phase in self.phases)
        return condensing + fronts + self.root.operations

    @cached_property
    def entries(self) -> int:
        """Numbers that a factorization holds, padding included."""
        fronts = sum(
            phase.count * (phase.width * (phase.width + phase.height) + phase.height**2)
            for phase in self.phases
        )
        condensed = sum(step.numbers for step in self.condensations)
        return condensed + fronts + self.root.size**2

    @property
    def steps(self) -> int:
        """Steps of the loops, one after the other, and the root."""
        return 1 + sum(phase.pivots.shape[0] for phase in self.phases)

    @property
    def padded_size(self) -> int:
        return sum(phase.count * phase.width for phase in self.phases) + self.root.size


def make_plan(
    size: int, rows: np.ndarray, columns: np.ndarray, signs: np.ndarray, safe: np.ndarray
) -> Plan:
    """The plan for a symmetric matrix with entries at (rows, columns), each off-diagonal place named once.

    `signs` (size,) are those of the pivots; positive ones come first in a front. Where `safe` is
    positive a node may be eliminated before all others, the larger the better.
    """
    graph, condensations = Graph(rows, columns, signs, safe), []
    while len(condensations) < _CONDENSATIONS:
        found = find_clusters(graph)
        if found is None:
            break
        clusters, left = found
        condensations.append(make_condensation(graph, clusters, left))
        graph = left
    neighbours, starts = graph.adjacency
    tree, order = find_tree(neighbours, starts, dissection_order(neighbours, starts))
    signs = graph.signs
    pivots = [_positive_first(nodes, signs) for nodes in tree.fronts.pivots]
    fronts = Fronts(pivots, tree.fronts.below, tree.fronts.parent)
    top = _positive_first(order[len(order) - tree.rooted :], signs)
    phases, root, position = _index(graph, fronts, tree.phases, top)
    return Plan(size, in_rounds(condensations), phases, root, position)


def _positive_first(nodes: np.ndarray, signs: np.ndarray) -> np.ndarray:
    return nodes[np.argsort(-signs[nodes], kind="stable")]


@dataclass(frozen=True)
class _Places:
    """Of each front its phase and its number there; of each node its front and its place among the
    padded pivots, of which there are `padded_size`. The root's front is the last."""

    phase: np.ndarray
    number: np.ndarray
    front: np.ndarray
    pivot: np.ndarray
    padded_size: int

    @classmethod
    def of(cls, size: int, fronts: Fronts, phases: list[Phase], top: np.ndarray) -> _Places:
        count = len(fronts.pivots)
        phase_of, number = np.empty(count, np.int64), np.empty(count, np.int64)
        front_of, pivot, offset = np.empty(size, np.int64), np.zeros(size, np.int64), 0
        for p, phase in enumerate(phases):
            flat = phase.steps.ravel()
            there = np.flatnonzero(flat >= 0)
            phase_of[flat[there]], number[flat[there]] = p, there
            for place, front in zip(there.tolist(), flat[there].tolist(), strict=True):
                nodes = fronts.pivots[front]
                pivot[nodes] = offset + place * phase.width + np.arange(len(nodes))
                front_of[nodes] = front
            offset += flat.size * phase.width
        front_of[top], pivot[top] = count, offset + np.arange(len(top))
        return cls(phase_of, number, front_of, pivot, offset + len(top))


def _index(
    graph: Graph, fronts: Fronts, phases: list[Phase], top: np.ndarray
) -> tuple[tuple[PhasePlan, ...], Root, np.ndarray]:
    signs = graph.signs
    places = _Places.of(len(signs), fronts, phases, top)
    children = fronts.children()
    entries = _own_entries(len(children) + 1, graph, places)
    plans = [
        _phase_plan(p, phase, signs, fronts, children, entries, places)
        for p, phase in enumerate(phases)
    ]
    root = _root(signs, fronts, phases, top, entries[-1], places)
    return tuple(plans), root, places.pivot.astype(np.int32)


def _root(
    signs: np.ndarray,
    fronts: Fronts,
    phases: list[Phase],
    top: np.ndarray,
    own: tuple[np.ndarray, np.ndarray, np.ndarray],
    of: _Places,
) -> Root:
    row = np.full(len(signs), -1)
    row[top] = np.arange(len(top))
    entries = np.zeros((len(top), len(top)), np.int64)
    index, first, second = own
    entries[row[first], row[second]] = entries[row[second], row[first]] = index
    hanging = [f for f, parent in enumerate(fronts.parent) if parent < 0 and len(fronts.below[f])]
    groups = [[f for f in hanging if of.phase[f] == p] for p in range(len(phases))]
    return make_root(
        nodes=top,
        positive=int(np.sum(signs[top] > 0)),
        entries=entries,
        children=[of.number[np.array(group, np.int64)] for group in groups],
        heights=[phase.height for phase in phases],
        places=[[row[fronts.below[f]] for f in group] for group in groups],
    )


def _phase_plan(
    p: int,
    phase: Phase,
    signs: np.ndarray,
    fronts: Fronts,
    children: list[list[int]],
    own_entries: list[tuple[np.ndarray, np.ndarray, np.ndarray]],
    of: _Places,
) -> PhasePlan:
    w, h, size = phase.width, phase.height, len(signs)
    flat = phase.steps.ravel().tolist()
    pivots = np.full((len(flat), w), size)
    entries = np.zeros((len(flat), w, w + h), np.int32)
    slots = np.zeros((len(flat), CHILDREN), np.int64)
    places = np.full((len(flat), CHILDREN, w + h), h)
    below = np.full((len(flat), h), of.padded_size)
    taken = [child for front in flat if front >= 0 for child in children[front]]
    came = [[child for child in taken if of.phase[child] == q] for q in range(p)]
    known = {child: place for place, child in enumerate((c for q in came for c in q), start=1)}
    row = np.empty(size, np.int64)
    for place, front in enumerate(flat):
        if front < 0:
            continue
        nodes, under = fronts.pivots[front], fronts.below[front]
        pivots[place, : len(nodes)] = nodes
        below[place, : len(under)] = of.pivot[under]
        row[nodes], row[under] = np.arange(len(nodes)), w + np.arange(len(under))
        for slot, child in enumerate(children[front]):
            own = 1 + len(known) + of.number[child]
            slots[place, slot] = known.get(child, own)
            child_rows = fronts.below[child]
            places[place, slot, row[child_rows]] = np.arange(len(child_rows))
        index, first, second = own_entries[front]
        a, b = row[first], row[second]
        entries[place, a, b] = index
        mirrored = b < w
        entries[place, b[mirrored], a[mirrored]] = index[mirrored]
    shape = phase.steps.shape
    return PhasePlan(
        width=w,
        height=h,
        pivots=pivots.reshape(*shape, w).astype(np.int32),
        signs=np.append(signs, 1)[pivots].reshape(*shape, w).astype(np.float64),
        entries=entries.reshape(*shape, w, w + h),
        children=slots.reshape(*shape, CHILDREN).astype(np.int32),
        places=places.reshape(*shape, CHILDREN, w + h).astype(np.int32),
        below=below.reshape(*shape, h).astype(np.int32),
        incoming=tuple(of.number[np.array(group, np.int64)] for group in came),
    )


def _own_entries(
    count: int, graph: Graph, of: _Places
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Of each front, the entries that it holds, counted from one, and their nodes, a pivot first."""
    rows, columns = graph.rows, graph.columns
    swap = of.pivot[rows] > of.pivot[columns]
    first, second = np.where(swap, columns, rows), np.where(swap, rows, columns)
    off_diagonal = np.flatnonzero(first != second)
    owner = of.front[first[off_diagonal]]
    order = off_diagonal[np.argsort(owner, kind="stable")]
    ends = np.searchsorted(np.sort(owner), np.arange(count + 1)).tolist()
    parts = [order[ends[i] : ends[i + 1]] for i in range(count)]
    return [((part + 1).astype(np.int32), first[part], second[part]) for part in parts]
