"""`SparseMatrix`: a static pattern with traced values."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer


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
        return isinstance(other, Pattern) and self._key == other._key

    def __repr__(self) -> str:
        return f"Pattern(shape={self.shape}, entries={len(self.rows)})"

    @cached_property
    def by_columns(self) -> np.ndarray:
        """The order of the entries in the transpose."""
        return np.lexsort((self.rows, self.columns))

    @cached_property
    def transposed(self) -> Pattern:
        order = self.by_columns
        return Pattern(self.shape[::-1], self.columns[order], self.rows[order])


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SparseMatrix:
    """A sparse matrix whose pattern is static and whose values are traced.

    The pattern (`pattern`: shape, rows and columns of the entries, by rows) hashes by content, so that a
    second matrix of the same pattern compiles nothing; `values` (nnz,) are data like any other: under
    `jax.vmap` they have a batch dimension, and a cotangent is a SparseMatrix of the same pattern.

    Make one with `from_dense`, `from_scipy` or `from_bcoo`, outside `jax.jit`.

    ```python
    import jax.numpy as jnp, jaxopt_layers as jl

    A = jl.SparseMatrix.from_dense(jnp.array([[1.0, 0.0], [2.0, 3.0]]))
    A @ jnp.array([1.0, 1.0])  # [1, 5]
    A.T.todense()  # [[1, 2], [0, 3]]
    ```
    """

    values: Array
    pattern: Pattern = field(metadata={"static": True})

    @classmethod
    def from_dense(cls, matrix: Any) -> SparseMatrix:
        """The entries of a concrete matrix that aren't zero."""
        if isinstance(matrix, Tracer):
            raise TypeError(
                "SparseMatrix.from_dense: `matrix` is being traced, but the pattern is static: make the"
                " matrix outside jax.jit and pass it in."
            )
        dense = np.asarray(matrix)
        if dense.ndim != 2:
            raise ValueError(
                f"SparseMatrix.from_dense: `matrix` must have two dimensions; got {dense.shape}."
            )
        rows, columns = np.nonzero(dense)
        return cls(jnp.asarray(dense[rows, columns]), Pattern(dense.shape, rows, columns))

    @classmethod
    def from_scipy(cls, matrix: Any) -> SparseMatrix:
        """Any SciPy sparse matrix or array; entries at the same place are added up."""
        if not hasattr(matrix, "tocsr"):
            raise TypeError(
                "SparseMatrix.from_scipy: `matrix` must be a SciPy sparse matrix; got"
                f" {type(matrix).__name__}."
            )
        rows = matrix.tocsr(copy=True)
        rows.sum_duplicates()
        entries = rows.tocoo()
        return cls(jnp.asarray(entries.data), Pattern(entries.shape, entries.row, entries.col))

    @classmethod
    def from_bcoo(cls, matrix: Any) -> SparseMatrix:
        """A BCOO whose indices are concrete; its data may be traced."""
        if not is_bcoo(matrix) or matrix.n_batch or matrix.n_dense or matrix.ndim != 2:
            raise TypeError(
                "SparseMatrix.from_bcoo: `matrix` must be a BCOO of two dimensions without batch or dense"
                f" ones; got {type(matrix).__name__}."
            )
        if isinstance(matrix.indices, Tracer):
            raise TypeError(
                "SparseMatrix.from_bcoo: the indices of `matrix` are being traced, but the pattern is"
                " static: close over the indices, or pass a SparseMatrix."
            )
        height, width = matrix.shape
        indices = np.asarray(matrix.indices)
        inside = (indices[:, 0] < height) & (indices[:, 1] < width)  # padding lies outside
        places, entry = np.unique(indices[inside] @ [width, 1], return_inverse=True)
        values = jax.ops.segment_sum(matrix.data[inside], entry, len(places))
        return cls(values, Pattern((height, width), places // width, places % width))

    @property
    def shape(self) -> tuple[int, int]:
        return self.pattern.shape

    @property
    def ndim(self) -> int:
        return 2

    @property
    def dtype(self) -> Any:
        return self.values.dtype

    @property
    def T(self) -> SparseMatrix:
        """The transpose."""
        return SparseMatrix(self.values[self.pattern.by_columns], self.pattern.transposed)

    def astype(self, dtype: Any) -> SparseMatrix:
        return SparseMatrix(self.values.astype(dtype), self.pattern)

    def todense(self) -> Array:
        """As an array (m, n)."""
        empty = jnp.zeros(self.shape, self.dtype)
        return empty.at[self.pattern.rows, self.pattern.columns].set(
            self.values, indices_are_sorted=True, unique_indices=True
        )

    def __matmul__(self, other: Any) -> Array:
        """The product with a vector (n,) or a matrix (n, k)."""
        right = jnp.asarray(other)
        if right.ndim not in (1, 2) or right.shape[0] != self.shape[1]:
            raise ValueError(
                f"SparseMatrix: a matrix of shape {self.shape} can't multiply one of {right.shape}."
            )
        taken = right[self.pattern.columns]
        products = self.values.reshape(-1, *[1] * (right.ndim - 1)) * taken
        return jax.ops.segment_sum(
            products, self.pattern.rows, self.shape[0], indices_are_sorted=True
        )


def is_bcoo(value: Any) -> bool:
    """Whether a value is a BCOO; its module, slow to import, is there if one was made."""
    module = sys.modules.get("jax.experimental.sparse")
    return module is not None and isinstance(value, module.BCOO)
