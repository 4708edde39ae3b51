"""`SparseMap`: an affine map of the parameter vector with a static sparse matrix.

The vector that it is applied to is theta extended by a one, so that column p holds the constant part:

    values_i = sum_k  coefficient_k [theta; 1]_(column_k)    over the entries k of row i.

The entries are kept sorted by row, in NumPy arrays made once; applying the map is a gather, a product
and a sum of runs. Memory and time go with the number of entries: a matrix parameter that enters entry by
entry costs one entry for each of its numbers, and nothing for the columns that it doesn't touch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import DTypeLike

# What one entry of a map takes: row and column (int32) and the coefficient (float64).
BYTES_PER_ENTRY = 4 + 4 + 8


@dataclass(frozen=True, eq=False)
class SparseMap:
    """Static entries (row, column, coefficient) of a map from [theta; 1] to `size` values.

    - `rows`: sorted. `columns`: `parameters` (= p) stands for the constant one.
    """

    rows: np.ndarray
    columns: np.ndarray
    values: np.ndarray
    size: int
    parameters: int

    @classmethod
    def from_entries(cls, rows: Any, columns: Any, values: Any, size: int, parameters: int) -> Any:
        """Entries in any order; those of equal row and column are added up, zeros dropped."""
        rows, columns = np.asarray(rows, np.int64).ravel(), np.asarray(columns, np.int64).ravel()
        values = np.asarray(values, np.float64).ravel()
        key = rows * (parameters + 1) + columns
        if np.any(key[1:] <= key[:-1]):
            order = np.argsort(key, kind="stable")
            key, values = key[order], values[order]
            starts = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
            key, values = key[starts], np.add.reduceat(values, starts)
        kept = values != 0
        rows, columns = np.divmod(key[kept], parameters + 1)
        return cls(rows.astype(np.int32), columns.astype(np.int32), values[kept], size, parameters)

    def __call__(self, theta: Array) -> Array:
        """The values (size,) at theta (p,), in its dtype."""
        if self.is_constant:
            return jnp.asarray(self.constant(theta.dtype))
        extended = jnp.concatenate([theta, jnp.ones(1, theta.dtype)])
        terms = extended[self.columns]
        if np.any(self.values != 1):
            terms = terms * jnp.asarray(self.values, theta.dtype)
        if len(self.rows) == self.size and np.array_equal(self.rows, np.arange(self.size)):
            return terms
        return jax.ops.segment_sum(terms, self.rows, self.size, indices_are_sorted=True)

    def constant(self, dtype: DTypeLike = np.float64) -> np.ndarray:
        """The values at theta = 0."""
        fixed = self.columns == self.parameters
        values = np.zeros(self.size)
        values[self.rows[fixed]] = self.values[fixed]
        return values.astype(dtype)

    def take(self, rows: np.ndarray, factors: np.ndarray | None = None) -> SparseMap:
        """The map to the values at `rows` (each at most once), each times its factor."""
        position = np.full(self.size, -1)
        position[rows] = np.arange(len(rows))
        place = position[self.rows]
        kept = place >= 0
        place, values = place[kept], self.values[kept]
        if factors is not None:
            values = values * np.asarray(factors)[place]
        return SparseMap.from_entries(place, self.columns[kept], values, len(rows), self.parameters)

    @property
    def is_constant(self) -> bool:
        """Whether no value depends on theta."""
        return bool(np.all(self.columns == self.parameters))

    @property
    def varying(self) -> np.ndarray:
        """Which values depend on theta: a mask."""
        mask = np.zeros(self.size, bool)
        mask[self.rows[self.columns < self.parameters]] = True
        return mask

    @property
    def nbytes(self) -> int:
        """Bytes that the entries take."""
        return self.rows.nbytes + self.columns.nbytes + self.values.nbytes
