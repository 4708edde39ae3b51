"""`SparseMatrix`: a static pattern with traced values."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxopt_layers.pattern import DenseBlock, Pattern, full, rows_at, stacked, sum_along


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
        if right.ndim == 1:
            return self.product(right)
        return jax.vmap(self.product, in_axes=1, out_axes=1)(right)

    def product(self, x: Array) -> Array:
        """The matrix times a vector (n,)."""
        block = self.pattern.dense_block
        if block is not None:
            dense, rest = self._parted(block)
            own = jnp.matmul(dense, x[block.columns], precision=lax.Precision.HIGHEST)
            product = rest.product(x)
            return jnp.concatenate([product[: block.rows.start], own, product[block.rows.stop :]])
        columns, dtype = self.pattern.columns, jnp.result_type(self.values, x)
        return self.pattern.row_segments.reduce(
            lambda entries: rows_at(self.values, entries) * rows_at(x, columns[entries]),
            sum_along,
            dtype,
        )

    def transposed_product(self, y: Array) -> Array:
        """The transpose times a vector (m,)."""
        block = self.pattern.dense_block
        if block is not None:
            dense, rest = self._parted(block)
            own = jnp.matmul(y[block.rows], dense, precision=lax.Precision.HIGHEST)
            around = block.columns.start, self.shape[1] - block.columns.stop
            return rest.transposed_product(y) + jnp.pad(own, around)
        rows, dtype = self.pattern.rows, jnp.result_type(self.values, y)
        return self.pattern.column_segments.reduce(
            lambda entries: rows_at(self.values, entries) * rows_at(y, rows[entries]),
            sum_along,
            dtype,
        )

    def _parted(self, block: DenseBlock) -> tuple[Array, SparseMatrix]:
        """The dense block, and the rest."""
        dense = self.values[block.entries].reshape(block.shape)
        return dense, SparseMatrix(rows_at(self.values, block.others), block.rest)

    def scaled(self, rows: Array, columns: Array) -> SparseMatrix:
        """``diag(rows) matrix diag(columns)``."""
        places = self.pattern
        return SparseMatrix(self.values * rows[places.rows] * columns[places.columns], places)

    def row_norms(self, columns: Array) -> Array:
        """The largest entry of each row of ``matrix diag(columns)``, columns nonnegative."""
        return self._largest(self.pattern.row_segments, self.pattern.columns, columns)

    def column_norms(self, rows: Array) -> Array:
        """The largest entry of each column of ``diag(rows) matrix``, rows nonnegative."""
        return self._largest(self.pattern.column_segments, self.pattern.rows, rows)

    def _largest(self, segments: Any, other: np.ndarray, weights: Array) -> Array:
        return segments.reduce(
            lambda entries: (
                jnp.abs(rows_at(self.values, entries)) * rows_at(weights, other[entries])
            ),
            jnp.max,
            self.values.dtype,
        )

    def symmetrized(self) -> SparseMatrix:
        """``(matrix + matrix') / 2``."""
        pattern, own, mirrored = self.pattern.symmetrized
        padded = jnp.concatenate([self.values, jnp.zeros(1, self.values.dtype)])
        return SparseMatrix(0.5 * (padded[own] + padded[mirrored]), pattern)

    def take_rows(self, order: np.ndarray) -> SparseMatrix:
        """The rows `order`, each named once."""
        pattern, entries = self.pattern.taken(order)
        return SparseMatrix(self.values[entries], pattern)

    def outer(self, a: Array, b: Array) -> SparseMatrix:
        """``a b'`` at this matrix's places."""
        return SparseMatrix(a[self.pattern.rows] * b[self.pattern.columns], self.pattern)


#: What a matrix argument may be.
MatrixLike: TypeAlias = ArrayLike | SparseMatrix


def as_sparse(matrix: Array | SparseMatrix) -> SparseMatrix:
    """A dense matrix as a sparse one with all of its entries."""
    if isinstance(matrix, SparseMatrix):
        return matrix
    return SparseMatrix(matrix.ravel(), full((matrix.shape[0], matrix.shape[1])))


def stack_rows(matrices: list[SparseMatrix]) -> SparseMatrix:
    """Matrices of equal width on top of one another."""
    if len(matrices) == 1:
        return matrices[0]
    values = jnp.concatenate([matrix.values for matrix in matrices])
    return SparseMatrix(values, stacked([matrix.pattern for matrix in matrices]))


def is_bcoo(value: Any) -> bool:
    """Whether a value is a BCOO; its module, slow to import, is there if one was made."""
    module = sys.modules.get("jax.experimental.sparse")
    return module is not None and isinstance(value, module.BCOO)
