"""When each front is eliminated: phases of fronts of one size, each a loop over steps of several fronts.

What XLA compiles grows with the number of phases and not with the number of fronts. A phase's fronts are
padded to its width of pivots and of rows below. No front belongs to an earlier phase than one of its
children, so that phases run one after the other; within a phase a step takes fronts whose children were
in earlier steps, those on the longest path to the root first (list scheduling, Hu 1961).
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from jaxopt_layers.multifrontal.fronts import Fronts, operations
from jaxopt_layers.pivots import TOGETHER

# How many children a front takes; with more of them, fronts without pivots add them up first.
CHILDREN = 2
_MOST_PHASES = 4
# What a step costs beside its fronts, and a front beside its arithmetic, in operations.
_STEP_OVERHEAD = 40_000
# What a phase costs: mostly to compile.
_PHASE_OVERHEAD = 500_000
_FRONT_OVERHEAD = 3_000
_WIDTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True)
class Phase:
    """`width` pivots and `height` rows below for every front; `steps` (steps, fronts a step) of front
    numbers, -1 where a step has fewer."""

    width: int
    height: int
    steps: np.ndarray


def with_few_children(fronts: Fronts) -> Fronts:
    """The same with at most `CHILDREN` children a front: sums of siblings become fronts of their own."""
    children = fronts.children()
    if max(map(len, children), default=0) <= CHILDREN:
        return fronts
    pivots, below, parent = list(fronts.pivots), list(fronts.below), fronts.parent.tolist()
    for front, waiting in enumerate(children):
        queue = sorted(waiting, key=lambda child: len(below[child]))
        while len(queue) > CHILDREN:
            group, queue = queue[:CHILDREN], queue[CHILDREN:]
            joined = np.unique(np.concatenate([below[child] for child in group]))
            for child in group:
                parent[child] = len(pivots)
            pivots.append(joined[:0])
            below.append(joined)
            parent.append(front)
            queue.append(len(pivots) - 1)
    return Fronts(pivots, below, np.array(parent, np.int64))


def make_phases(fronts: Fronts) -> list[Phase]:
    """Assign the fronts to phases and steps."""
    if not fronts.pivots:
        return []
    widths = np.array([len(nodes) for nodes in fronts.pivots])
    heights = np.array([len(nodes) for nodes in fronts.below])
    depth = fronts.depth()
    # A front is at least as high as its children, for the sake of the order of phases.
    lifted = heights.copy()
    for front in np.argsort(-depth, kind="stable"):  # children first
        above = fronts.parent[front]
        if above >= 0:
            lifted[above] = max(lifted[above], lifted[front])
    phases = []
    low = -1
    for high in _limits(widths, lifted):
        chosen = np.flatnonzero((lifted > low) & (lifted <= high))
        low = high
        width = _rounded(int(widths[chosen].max()))
        cost = operations(width, high) + _FRONT_OVERHEAD
        phases.append(Phase(width, high, _cheapest(chosen, fronts.parent, depth, cost)))
    return phases


def schedule_cost(phases: list[Phase]) -> float:
    """What the phases cost, in operations."""
    each = [operations(phase.width, phase.height) + _FRONT_OVERHEAD for phase in phases]
    steps = sum(len(phase.steps) for phase in phases)
    fronts = sum(phase.steps.size * cost for phase, cost in zip(phases, each, strict=True))
    return fronts + steps * _STEP_OVERHEAD + len(phases) * _PHASE_OVERHEAD


def _rounded(width: int) -> int:
    """The width of a phase: a multiple of what is eliminated together."""
    return max(1, -(-width // TOGETHER)) * TOGETHER


def _limits(widths: np.ndarray, heights: np.ndarray) -> list[int]:
    """The largest height of each phase, by what padding and phases cost."""
    most = int(heights.max())
    ladder = sorted(
        {min(most, int(heights[heights <= top].max(initial=0))) for top in _WIDTHS} - {most}
    )

    def cost(limits: tuple[int, ...]) -> float:
        total, low = 0.0, -1
        for high in (*limits, most):
            chosen = (heights > low) & (heights <= high)
            low = high
            if not chosen.any():
                return np.inf
            each = operations(_rounded(int(widths[chosen].max())), high) + _FRONT_OVERHEAD
            total += int(chosen.sum()) * each + _PHASE_OVERHEAD
        return total

    options = [c for k in range(_MOST_PHASES) for c in combinations(ladder, k)]
    return [*min(options, key=cost), most]


def _cheapest(chosen: np.ndarray, parent: np.ndarray, depth: np.ndarray, cost: float) -> np.ndarray:
    """The schedule with the best number of fronts a step, of which each costs `cost`."""
    best: list[list[int]] = []
    best_cost, together = np.inf, 1
    # More work than this in a step hides its overhead; a schedule costs time to make.
    while together == 1 or together * cost <= 20 * _STEP_OVERHEAD:
        steps = _list_schedule(chosen, parent, depth, together)
        total = len(steps) * (_STEP_OVERHEAD + together * cost)
        if total < best_cost:
            best, best_cost = steps, total
        if together >= len(chosen):
            break
        together *= 2
    together = max(map(len, best))
    return np.array([step + [-1] * (together - len(step)) for step in best], np.int64)


def _list_schedule(
    chosen: np.ndarray, parent: np.ndarray, depth: np.ndarray, together: int
) -> list[list[int]]:
    """Steps of at most `together` fronts, children before parents."""
    inside = set(chosen.tolist())
    waiting = dict.fromkeys(inside, 0)
    for front in inside:
        if int(parent[front]) in inside:
            waiting[int(parent[front])] += 1
    ready = [(-int(depth[front]), front) for front in inside if not waiting[front]]
    heapq.heapify(ready)
    steps = []
    while ready:
        step = [heapq.heappop(ready)[1] for _ in range(min(together, len(ready)))]
        steps.append(step)
        for front in step:
            above = int(parent[front])
            if above in inside:
                waiting[above] -= 1
                if not waiting[above]:
                    heapq.heappush(ready, (-int(depth[above]), above))
    return steps
