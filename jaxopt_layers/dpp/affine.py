"""Affine expressions as entries: each is (row, column, parameter, value), all in NumPy arrays.

An entry says that `value` times theta[parameter] (or times one, where it is -1) times x[column] (or times
one, where it is -1: the constant term) is a summand of that row of the flattened expression. Every linear
operation is then arithmetic on index arrays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from jaxopt_layers.dpp.theta import Theta


@dataclass(frozen=True)
class Affine:
    """Entries of an array of shape `shape`, flattened in C order."""

    shape: tuple[int, ...]
    row: np.ndarray
    column: np.ndarray
    parameter: np.ndarray
    value: np.ndarray

    @classmethod
    def of_constant(cls, value: np.ndarray) -> Affine:
        """Numbers; zeros need no entry."""
        flat = np.asarray(value, float).ravel()
        row = np.flatnonzero(flat)
        none = np.full(len(row), -1)
        return cls(np.shape(value), row, none, none, flat[row])

    @classmethod
    def of_columns(cls, column: np.ndarray) -> Affine:
        """Variables, one each entry."""
        flat = column.ravel()
        return cls(
            column.shape,
            np.arange(len(flat)),
            flat,
            np.full(len(flat), -1),
            np.ones(len(flat)),
        )

    @classmethod
    def of_parameters(cls, index: np.ndarray, shape: tuple[int, ...]) -> Affine:
        """Parameters, one each entry."""
        size = len(index)
        return cls(shape, np.arange(size), np.full(size, -1), index, np.ones(size))

    @property
    def size(self) -> int:
        """Number of rows."""
        return math.prod(self.shape)

    @property
    def is_constant(self) -> bool:
        """No variable in any entry."""
        return bool(np.all(self.column == -1))

    def reshape(self, *shape: int) -> Affine:
        """The same rows under another shape (-1 as in NumPy)."""
        if -1 in shape:
            known = -math.prod(shape)
            shape = tuple(self.size // max(known, 1) if d == -1 else d for d in shape)
        return Affine(shape, self.row, self.column, self.parameter, self.value)

    def __neg__(self) -> Affine:
        return self.scaled(-1.0)

    def scaled(self, factor: float | np.ndarray) -> Affine:
        """Times a number, or one number a row."""
        if np.ndim(factor):
            factor = np.broadcast_to(factor, self.shape).ravel()[self.row]
        return Affine(self.shape, self.row, self.column, self.parameter, self.value * factor)

    def __add__(self, other: Affine | float) -> Affine:
        if not isinstance(other, Affine):
            other = Affine.of_constant(np.full(self.shape, float(other)))
        shape = np.broadcast_shapes(self.shape, other.shape)
        left, right = self.broadcast(shape), other.broadcast(shape)
        return Affine(
            shape,
            np.concatenate([left.row, right.row]),
            np.concatenate([left.column, right.column]),
            np.concatenate([left.parameter, right.parameter]),
            np.concatenate([left.value, right.value]),
        )

    def __sub__(self, other: Affine | float) -> Affine:
        return self + (-other)

    def broadcast(self, shape: tuple[int, ...]) -> Affine:
        """As NumPy broadcasts."""
        if shape == self.shape:
            return self
        return self.take(np.broadcast_to(np.arange(self.size).reshape(self.shape), shape))

    def take(self, index: np.ndarray) -> Affine:
        """Row r of the result is row index[r] of this, and zero where that is negative."""
        flat = np.asarray(index).ravel()
        entries, place = expand(self.row, self.size, flat)
        return Affine(
            np.shape(index),
            place,
            self.column[entries],
            self.parameter[entries],
            self.value[entries],
        )

    def __getitem__(self, key: object) -> Affine:
        return self.take(np.arange(self.size).reshape(self.shape)[key])  # type: ignore[call-overload]

    @property
    def T(self) -> Affine:
        """The transpose."""
        return self.take(np.arange(self.size).reshape(self.shape).T)

    def mapped(
        self, row: np.ndarray, source: np.ndarray, value: np.ndarray, shape: tuple
    ) -> Affine:
        """The product with a sparse matrix of numbers: entries (row, source, value)."""
        entries, place = expand(self.row, self.size, source)
        return Affine(
            shape,
            row[place],
            self.column[entries],
            self.parameter[entries],
            self.value[entries] * value[place],
        ).merged()

    def sum(self, target: np.ndarray | None = None, shape: tuple[int, ...] = ()) -> Affine:
        """Rows added up; `target` says into which row of the result each goes (all into one)."""
        row = np.zeros(len(self.row), int) if target is None else target.ravel()[self.row]
        return Affine(shape, row, self.column, self.parameter, self.value).merged()

    def merged(self) -> Affine:
        """Entries of equal place added up, and zeros left out."""
        if len(self.row) < 2:
            return self
        order, starts = groups(self.row, self.column, self.parameter)
        if len(starts) == len(order):
            return self
        value = np.add.reduceat(self.value[order], starts)
        keep = value != 0
        first = order[starts][keep]
        return Affine(
            self.shape, self.row[first], self.column[first], self.parameter[first], value[keep]
        )

    def select(self, keep: np.ndarray) -> Affine:
        """Only those entries."""
        return Affine(
            self.shape,
            self.row[keep],
            self.column[keep],
            self.parameter[keep],
            self.value[keep],
        )


def concatenate(parts: list[Affine]) -> Affine:
    """Flattened and one after the other."""
    starts = np.cumsum([0] + [part.size for part in parts])
    return Affine(
        (int(starts[-1]),),
        np.concatenate([part.row + start for part, start in zip(parts, starts, strict=False)]),
        np.concatenate([part.column for part in parts]),
        np.concatenate([part.parameter for part in parts]),
        np.concatenate([part.value for part in parts]),
    )


def columns(*parts: Affine) -> Affine:
    """Affine expressions of n entries each, as the columns of an (n, k) matrix."""
    size = max(part.size for part in parts)
    flat = [
        part.reshape(-1) if part.size == size else part.reshape(-1).broadcast((size,))
        for part in parts
    ]
    index = np.arange(size * len(parts)).reshape(len(parts), size).T
    return concatenate(flat).take(index)


def expand(rows: np.ndarray, size: int, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs (e, k) with rows[e] == wanted[k], as two index arrays; negative rows match nothing."""
    if len(rows) == size and np.array_equal(rows, np.arange(size)):  # one entry a row
        place = np.flatnonzero(wanted >= 0)
        return wanted[place], place
    order = np.argsort(rows, kind="stable")
    counts = np.bincount(rows, minlength=size)
    starts = np.cumsum(counts) - counts
    if size == 0:
        return np.zeros(0, int), np.zeros(0, int)
    repeat = np.where(wanted >= 0, counts[wanted], 0)
    place = np.repeat(np.arange(len(wanted)), repeat)
    within = np.arange(len(place)) - np.repeat(np.cumsum(repeat) - repeat, repeat)
    return order[starts[wanted[place]] + within], place


def groups(*keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An order in which equal keys are neighbours, and where each group starts."""
    combined = keys[0].astype(np.int64)
    for key in keys[1:]:
        span = int(key.max(initial=-1)) + 2
        combined = combined * span + (key + 1)
    order = np.argsort(combined, kind="stable")
    ordered = combined[order]
    return order, np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))


def product(
    theta: Theta,
    left: Affine,
    left_key: np.ndarray,
    right: Affine,
    right_key: np.ndarray,
    keys: int,
    target: tuple[np.ndarray, np.ndarray],
    shape: tuple[int, ...],
) -> Affine:
    """Sums of products of entries with equal keys: elementwise and matrix products alike.

    `left_key` and `right_key` give each row's key below `keys`; the result's row is
    target[0][left row] + target[1][right row]. At most one of the two may hold variables in each pair.
    """
    key = left_key[left.row]
    right_entry, left_entry = expand(right_key[right.row], keys, key)
    row = target[0][left.row[left_entry]] + target[1][right.row[right_entry]]
    column = np.maximum(left.column[left_entry], right.column[right_entry])
    value = left.value[left_entry] * right.value[right_entry]
    first, second = left.parameter[left_entry], right.parameter[right_entry]
    parameter = np.maximum(first, second)
    both = (first >= 0) & (second >= 0)
    if not both.any():
        return Affine(shape, row, column, parameter, value).merged()
    pairs = np.flatnonzero(both)
    order, starts = groups(row[pairs], column[pairs])
    if len(starts) == len(pairs):
        parameter = parameter.copy()
        parameter[pairs] = theta.products(first[pairs], second[pairs])
        return Affine(shape, row, column, parameter, value).merged()
    pairs = pairs[order]  # several products in one place: their sum is one entry of theta
    place = np.cumsum(np.isin(np.arange(len(pairs)), starts)) - 1
    index = theta.sums(first[pairs], second[pairs], value[pairs], place, len(starts))
    heads, single = pairs[starts], np.flatnonzero(~both)
    return Affine(
        shape,
        np.concatenate([row[single], row[heads]]),
        np.concatenate([column[single], column[heads]]),
        np.concatenate([parameter[single], index]),
        np.concatenate([value[single], np.ones(len(starts))]),
    ).merged()
