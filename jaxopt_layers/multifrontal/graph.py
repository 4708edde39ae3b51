"""`Graph`: the nodes of a symmetric matrix, its entries between them, and what elimination makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from jaxopt_layers.multifrontal.ordering import adjacency


@dataclass(frozen=True, eq=False)
class Graph:
    """Entries at (`rows`, `columns`), each off-diagonal place named once; those on the diagonal don't count.

    `signs` (size,) are those of the pivots. Where `safe` is positive a node may be eliminated before all
    others, the larger the better.
    """

    rows: np.ndarray
    columns: np.ndarray
    signs: np.ndarray
    safe: np.ndarray

    @property
    def size(self) -> int:
        return len(self.signs)

    @cached_property
    def adjacency(self) -> tuple[np.ndarray, np.ndarray]:
        return adjacency(self.size, self.rows, self.columns)

    @cached_property
    def keys(self) -> np.ndarray:
        """Of every entry the number of its place."""
        return entry_keys(self.rows, self.columns, self.size)

    def without(self, is_gone: np.ndarray) -> tuple[Graph, np.ndarray]:
        """What is left of the graph after nodes without edges between them, and which nodes those are."""
        kept, gone = np.flatnonzero(~is_gone), np.flatnonzero(is_gone)
        place = np.empty(self.size, np.int64)
        place[kept], place[gone] = np.arange(len(kept)), np.arange(len(gone))
        gone_row, gone_column = is_gone[self.rows], is_gone[self.columns]
        cross = np.flatnonzero((gone_row | gone_column) & (self.rows != self.columns))
        swap = gone_column[cross]
        cross_gone = place[np.where(swap, self.columns[cross], self.rows[cross])]
        cross_kept = place[np.where(swap, self.rows[cross], self.columns[cross])]
        order = np.argsort(cross_gone, kind="stable")
        cross_gone, cross_kept = cross_gone[order], cross_kept[order]

        first, second = pairs_of(cross_gone, len(gone))
        stay = np.flatnonzero(~(gone_row | gone_column) & (self.rows != self.columns))
        width = len(kept)
        filled = entry_keys(cross_kept[first], cross_kept[second], width)
        there = entry_keys(place[self.rows[stay]], place[self.columns[stay]], width)
        keys = np.unique(np.concatenate([filled, there]))

        # What a safe node has been eliminated into is safe itself if it has the other sign.
        safe, signs = self.safe[kept], self.signs[kept]
        other = signs[cross_kept] != self.signs[gone][cross_gone]
        np.maximum.at(safe, cross_kept, np.where(other, self.safe[gone][cross_gone], 0))
        return Graph(keys // width, keys % width, signs, safe), kept


def entry_keys(first: np.ndarray, second: np.ndarray, size: int) -> np.ndarray:
    """One number for each place of a symmetric matrix."""
    return np.maximum(first, second) * size + np.minimum(first, second)


def pairs_of(owner: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of different positions with the same owner, owners being in order."""
    starts = np.searchsorted(owner, np.arange(count + 1))
    lengths = np.diff(starts)
    parts = [np.zeros((2, 0), np.int64)]
    for length in np.unique(lengths[lengths > 1]):
        first, second = np.triu_indices(length, 1)
        own = starts[:-1][lengths == length][:, None]
        parts.append(np.stack([(own + first[None, :]).ravel(), (own + second[None, :]).ravel()]))
    first, second = np.concatenate(parts, axis=1)
    return first, second
