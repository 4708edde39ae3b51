"""`Pattern`: where a sparse matrix has entries, and how to sum over its rows and columns.

A sum over segments of different lengths is a scatter, which runs one entry at a time on CPUs. Here the
segments are put into a few buckets of equal, padded length instead, so that it is a gather and a sum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

# Sums of up to so many terms are written out.
_WRITTEN_OUT = 4
# Sums of up to so many terms along the last axis, too, are better compiled than handed to a library.
_SHORT = 16
# A bucket costs a kernel, to compile and to launch: as much as so many terms of a sum.
_BUCKET = 2000
# A dense block of at least so many entries, and this part of all, is multiplied as a matrix.
_BLOCK, _BLOCK_PART = 256, 0.5


def rows_at(array: Array, places: np.ndarray) -> Array:
    """``array[places]`` for places along the first axis that are known to be there.

    `jnp` indexing asks first whether they are: three more operations, and twice the time to trace.
    """
    behind = range(places.ndim, places.ndim + array.ndim - 1)
    return lax.gather(
        array,
        np.asarray(places, np.int32)[..., None],
        lax.GatherDimensionNumbers(tuple(behind), (0,), (0,)),
        (1, *array.shape[1:]),
        mode=lax.GatherScatterMode.PROMISE_IN_BOUNDS,
    )


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def sum_along(values: Array, axis: int) -> Array:
    """``jnp.sum`` along one axis.

    XLA's CPU compiler (jaxlib 0.10) hands a sum to a library, which takes three to nine times as long where
    the axis is short or not the last; a sum that is written as a difference it compiles itself.
    """
    if axis == values.ndim - 1 and values.shape[axis] > _SHORT:
        return jnp.sum(values, axis)
    zero = np.zeros((), values.dtype)
    return lax.reduce(values, zero, lambda a, b: lax.sub(a, lax.neg(b)), (axis,))


@sum_along.defjvp
def _sum_along_rule(
    axis: int, primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    return sum_along(primals[0], axis), jnp.sum(tangents[0], axis)


class Segments:
    """Entries grouped by a row (or column) number in 0 .. count - 1."""

    def __init__(self, numbers: np.ndarray, count: int):
        order = np.argsort(numbers, kind="stable")
        lengths = np.bincount(numbers, minlength=count)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        tops = _longest_of_buckets(lengths)
        sizes = tops[np.searchsorted(tops, lengths)]
        self._buckets: list[tuple[np.ndarray, np.ndarray | None]] = []
        place, filled = np.empty(count, np.int32), 0
        for size in np.unique(sizes):
            chosen = np.flatnonzero(sizes == size)
            longest = int(lengths[chosen].max(initial=0))
            index = starts[chosen][:, None] + np.arange(longest)[None, :]
            there = np.arange(longest)[None, :] < lengths[chosen][:, None]
            entries = order[np.where(there, index, 0)] if longest else index
            self._buckets.append((entries.astype(np.int32), None if there.all() else there))
            place[chosen] = filled + np.arange(len(chosen))
            filled += len(chosen)
        self._place = place
        self._in_order = bool(np.all(place == np.arange(count)))

    def reduce(
        self, value: Callable[[np.ndarray], Array], reduction: Callable[..., Array], dtype: Any
    ) -> Array:
        """The reduction (with 0 for its neutral element) of `value(entries)` over each segment, (count,)."""
        parts = []
        for entries, there in self._buckets:
            if entries.size:
                parts.append(reduction(_where(there, value(entries)), 1))
            else:
                parts.append(jnp.zeros(entries.shape[0], dtype))
        return self._in_place(parts, jnp.zeros(0, dtype))

    def sum(self, value: Callable[[np.ndarray], Array], like: Array) -> Array:
        """The sum of `value(entries)`, with axes (..., members) behind the first, over each segment."""
        parts = []
        for entries, there in self._buckets:
            if not entries.size:
                parts.append(jnp.zeros_like(like, shape=(entries.shape[0], *like.shape[1:])))
            elif entries.shape[1] > _WRITTEN_OUT:
                values = value(entries.ravel())
                values = values.reshape(*entries.shape, *values.shape[1:])
                parts.append(sum_along(_where(there, values), 1))
            else:  # added one after the other, so that no array of all terms is made
                columns = range(entries.shape[1])
                masks = [None if there is None else there[:, k] for k in columns]
                terms = [_where(masks[k], value(entries[:, k])) for k in columns]
                parts.append(reduce(jnp.add, terms))
        return self._in_place(parts, jnp.zeros_like(like, shape=(0, *like.shape[1:])))

    @cached_property
    def _arrangement(self) -> np.ndarray:
        """All terms' entries, bucket after bucket, the first of every segment before the second."""
        terms = [entries.T.ravel() for entries, _ in self._buckets]
        return np.concatenate([np.zeros(0, np.int32), *terms])

    def arrange(self, values: Array) -> Array:
        """The values of the entries in the order in which `dot` takes them."""
        return rows_at(values, self._arrangement)

    def dot(self, arranged: Array, value: Callable[[np.ndarray], Array], like: Array) -> Array:
        """The sum of arranged values (entries, members) times `value(entries)` (.., k, members) over each
        segment; one gather less than `sum`, for values that are used again and again."""
        parts, start = [], 0
        for entries, there in self._buckets:
            count, length = entries.shape
            own = arranged[start : start + entries.size]
            start += entries.size
            if not entries.size:
                parts.append(jnp.zeros_like(like, shape=(count, *like.shape[1:])))
            elif length > _WRITTEN_OUT:
                terms = own[:, None] * value(entries.T.ravel())
                terms = terms.reshape(length, count, *terms.shape[1:])
                parts.append(sum_along(_where(None if there is None else there.T, terms), 0))
            else:
                columns = [
                    _where(
                        None if there is None else there[:, k],
                        own[k * count : (k + 1) * count][:, None] * value(entries[:, k]),
                    )
                    for k in range(length)
                ]
                parts.append(reduce(jnp.add, columns))
        return self._in_place(parts, jnp.zeros_like(like, shape=(0, *like.shape[1:])))

    def _in_place(self, parts: list[Array], empty: Array) -> Array:
        """What was found bucket by bucket, in the segments' order."""
        joined = jnp.concatenate(parts) if parts else empty
        return joined if self._in_order else rows_at(joined, self._place)


def _longest_of_buckets(lengths: np.ndarray) -> np.ndarray:
    """The length to which each bucket is padded, shortest first, so that buckets and padding cost least.

    Segments without entries have a bucket of their own, which costs nothing.
    """
    values, counts = np.unique(lengths[lengths > 0], return_counts=True)
    ends = np.concatenate([[0], np.cumsum(counts)])
    least, before = np.zeros(len(values) + 1), np.zeros(len(values) + 1, int)
    for end in range(1, len(values) + 1):
        # The last bucket holds the values from `before` to `end`.
        costs = least[:end] + (ends[end] - ends[:end]) * values[end - 1] + _BUCKET
        before[end] = np.argmin(costs)
        least[end] = costs[before[end]]
    tops, end = [], len(values)
    while end:
        tops.append(values[end - 1])
        end = before[end]
    return np.array([0, *reversed(tops)], int)


def _where(there: np.ndarray | None, values: Array) -> Array:
    """The values, or 0 where there are none."""
    if there is None or there.all():
        return values
    return jnp.where(there.reshape(*there.shape, *(1,) * (values.ndim - there.ndim)), values, 0)


@dataclass(frozen=True)
class DenseBlock:
    """Rows next to each other whose entries fill the same columns next to each other.

    `entries`, `rows` and `columns` are where it begins and ends; `rest` is the pattern of the `others`.
    """

    entries: slice
    rows: slice
    columns: slice
    others: np.ndarray
    rest: Pattern

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


class Pattern:
    """The places of a matrix's entries, by rows; hashable, and equal by content."""

    def __init__(self, shape: tuple[int, ...], rows: Any, columns: Any):
        self.shape: tuple[int, int] = (int(shape[0]), int(shape[1]))
        self.rows = np.asarray(rows, np.int32)
        self.columns = np.asarray(columns, np.int32)
        self._key = (self.shape, self.rows.tobytes(), self.columns.tobytes())
        self._hash = hash(self._key)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Pattern) and self._key == other._key)

    def __repr__(self) -> str:
        return f"Pattern(shape={self.shape}, entries={len(self.rows)})"

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def by_columns(self) -> np.ndarray:
        """The order of the entries in the transpose."""
        return np.lexsort((self.rows, self.columns))

    @cached_property
    def transposed(self) -> Pattern:
        order = self.by_columns
        return Pattern(self.shape[::-1], self.columns[order], self.rows[order])

    @cached_property
    def row_segments(self) -> Segments:
        return Segments(self.rows, self.shape[0])

    @cached_property
    def column_segments(self) -> Segments:
        return Segments(self.columns, self.shape[1])

    @cached_property
    def dense_block(self) -> DenseBlock | None:
        """The largest one, where it is worth a matrix product."""
        if len(self) < _BLOCK or np.any(np.diff(self.rows) < 0):
            return None
        height = self.shape[0]
        lengths = np.bincount(self.rows, minlength=height)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        first = np.append(self.columns, 0)[starts[:-1]]
        offset = self.columns - first[self.rows] - (np.arange(len(self)) - starts[self.rows])
        gaps = np.bincount(self.rows, weights=offset != 0, minlength=height) > 0
        differs = (np.diff(first) != 0) | (np.diff(lengths) != 0) | gaps[1:] | gaps[:-1]
        ends = np.concatenate([np.flatnonzero(differs) + 1, [height]])
        begins = np.concatenate([[0], ends[:-1]])
        sizes = (starts[ends] - starts[begins]) * ~gaps[begins]
        best = np.argmax(sizes)
        if sizes[best] < max(_BLOCK, _BLOCK_PART * len(self)):
            return None
        begin, end = int(begins[best]), int(ends[best])
        entries = slice(int(starts[begin]), int(starts[end]))
        others = np.delete(np.arange(len(self)), entries)
        left = int(first[begin])
        return DenseBlock(
            entries=entries,
            rows=slice(begin, end),
            columns=slice(left, left + int(lengths[begin])),
            others=others,
            rest=Pattern(self.shape, self.rows[others], self.columns[others]),
        )

    def taken(self, order: np.ndarray) -> tuple[Pattern, np.ndarray]:
        """The pattern of the rows `order`, and which entries of this one are its."""
        place = np.full(self.shape[0], -1)
        place[order] = np.arange(len(order))
        kept = np.flatnonzero(place[self.rows] >= 0)
        entries = kept[np.argsort(place[self.rows[kept]], kind="stable")]
        shape = (len(order), self.shape[1])
        return Pattern(shape, place[self.rows[entries]], self.columns[entries]), entries

    @cached_property
    def symmetrized(self) -> tuple[Pattern, np.ndarray, np.ndarray]:
        """The pattern with its transpose; which entry each of its entries is, there and in the transpose.

        The number of entries stands for none.
        """
        n, count = self.shape[0], len(self)
        own = self.rows.astype(np.int64) * n + self.columns
        mirrored = self.columns.astype(np.int64) * n + self.rows
        places = np.unique(np.concatenate([own, mirrored]))
        found = []
        for keys in (own, mirrored):
            entry = np.full(len(places), count)
            entry[np.searchsorted(places, keys)] = np.arange(count)
            found.append(entry)
        return Pattern(self.shape, places // n, places % n), found[0], found[1]


def stacked(patterns: list[Pattern]) -> Pattern:
    """Patterns of equal width on top of one another."""
    heights = np.cumsum([0, *(pattern.shape[0] for pattern in patterns)])
    rows = [p.rows + height for p, height in zip(patterns, heights, strict=False)]
    columns = [p.columns for p in patterns]
    shape = (int(heights[-1]), patterns[0].shape[1])
    return Pattern(shape, np.concatenate(rows), np.concatenate(columns))


def full(shape: tuple[int, int]) -> Pattern:
    """Every place of a matrix."""
    rows, columns = np.indices(shape)
    return Pattern(shape, rows.ravel(), columns.ravel())
