"""The tree of fronts with its root, for the size of the root that makes it cheapest."""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from jaxopt_layers.multifrontal.fronts import Fronts, find_fronts
from jaxopt_layers.multifrontal.schedule import Phase, make_phases, schedule_cost, with_few_children

# Sizes of the root that are tried; of a long elimination, which takes longer to plan, fewer.
_SIZES = (32, 48, 64, 96, 128, 192, 256, 384, 512)
_FEW_SIZES = (32, 128, 384)
_LONG = 5_000
# What a dense factorization of the root costs, in the schedule's operations: measured for 48 to 300 rows,
# it is bound by overhead first, by arithmetic then.
_ROOT_SQUARE, _ROOT_CUBE = 10.0, 1 / 7
# What a number costs that a front leaves for the root.
_SUMMAND = 4.0


@dataclass(frozen=True)
class Tree:
    """The fronts in their phases, and how many of the last nodes stand in the root."""

    fronts: Fronts
    phases: list[Phase]
    rooted: int

    @property
    def cost(self) -> float:
        """Of a factorization, in the schedule's operations."""
        fronts, k = self.fronts, self.rooted
        heights = np.array([len(nodes) for nodes in fronts.below], np.int64)
        left = np.sum(heights[fronts.parent < 0] ** 2) / 2
        root = _ROOT_SQUARE * k**2 + _ROOT_CUBE * k**3
        return schedule_cost(self.phases) + root + _SUMMAND * left


def find_tree(
    neighbours: np.ndarray, starts: np.ndarray, order: np.ndarray
) -> tuple[Tree, np.ndarray]:
    """The cheapest tree, and the order of elimination to the same effect whose end is its root."""
    size = len(order)
    order = _widest_last(find_fronts(neighbours, starts, order, 0))
    sizes = [k for k in (_SIZES if size <= _LONG else _FEW_SIZES) if k < size]
    if size <= _SIZES[-1]:
        sizes.append(size)
    trees = (_tree(neighbours, starts, order, k) for k in sizes)
    return min(trees, key=lambda tree: tree.cost), order


def _widest_last(fronts: Fronts) -> np.ndarray:
    """An order to the same effect, in which wide fronts come as late as the tree allows.

    From its root on, the tree is taken apart by the widest front that can be reached; backwards, this has
    children before their parents.
    """
    width = [len(own) + len(below) for own, below in zip(fronts.pivots, fronts.below, strict=True)]
    children = fronts.children()
    reached = [(-width[f], f) for f, parent in enumerate(fronts.parent) if parent < 0]
    heapq.heapify(reached)
    taken = []
    while reached:
        _, front = heapq.heappop(reached)
        taken.append(fronts.pivots[front])
        for child in children[front]:
            heapq.heappush(reached, (-width[child], child))
    return np.concatenate(taken[::-1])


def _tree(neighbours: np.ndarray, starts: np.ndarray, order: np.ndarray, rooted: int) -> Tree:
    fronts = with_few_children(find_fronts(neighbours, starts, order, rooted))
    return Tree(fronts, make_phases(fronts), rooted)
