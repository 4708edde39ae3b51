"""The constraint rows as one operator: rows of a matrix, then bounds on the variables kept as vectors."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_layers.cones import Rotation
from jaxopt_layers.matrix import matmul, transposed
from jaxopt_layers.sparse_matrix import SparseMatrix


@dataclass(frozen=True)
class ConstraintRows:
    """``[A; G; -I; I]``: equality rows, inequality rows, lower bounds, upper bounds.

    How the rows of the matrix are held is up to `DenseRows` and `SparseRows`.

    `active` is 0 for a row that is absent because its bound is infinite: the row reads
    ``0'x + s = 1`` then, which every x satisfies. `free` is 0 for a variable that is fixed because
    its bounds coincide. Both are vectors, so that matrices shared by a batch are never copied.
    """

    active: Array | None
    free: Array | None
    dtype: jnp.dtype = field(metadata={"static": True})
    variables: int = field(metadata={"static": True})
    equalities: int = field(metadata={"static": True})
    lower: bool = field(metadata={"static": True})
    upper: bool = field(metadata={"static": True})

    @property
    def matrix_count(self) -> int:
        """How many rows the matrix has."""
        raise NotImplementedError

    @property
    def anchors(self) -> list[Array]:
        """Arrays of the matrix, for `Program.matrix_anchor`."""
        raise NotImplementedError

    def matrix_product(self, x: Array) -> Array:
        """The matrix times x, for x of shape (n,) or a stack (k, n)."""
        raise NotImplementedError

    def matrix_transposed_product(self, z: Array) -> Array:
        """The transpose of the matrix times z."""
        raise NotImplementedError

    def row_norms(self, columns: Array) -> Array:
        """The largest entry of each row of the matrix times diag(columns)."""
        raise NotImplementedError

    def column_norms(self, rows: Array) -> Array:
        """The largest entry of each column of diag(rows) times the matrix."""
        raise NotImplementedError

    def rotated(self, rotation: Rotation) -> ConstraintRows:
        """U' times the rows; bounds belong to cones that U leaves as they are."""
        raise NotImplementedError

    def scaled(self, columns: Array, matrix_rows: Array) -> ConstraintRows:
        """``diag(matrix_rows) matrix diag(columns)``; bound rows are scaled back to unit entries."""
        raise NotImplementedError

    @property
    def count(self) -> int:
        return self.matrix_count + self.variables * (int(self.lower) + int(self.upper))

    def product(self, x: Array) -> Array:
        """The rows times x, for x of shape (n,) or a stack (k, n)."""
        x = _mask(x, self.free)
        parts = [self.matrix_product(x)] if self.matrix_count else []
        return _mask(_joined([*parts, *self._bounds(x)], x), self.active)

    def bound_product(self, x: Array) -> Array:
        """The bound rows alone times x."""
        x = _mask(x, self.free)
        return _mask(_joined(self._bounds(x), x), self._bounds_active)

    def _bounds(self, x: Array) -> list[Array]:
        return [-x] * self.lower + [x] * self.upper

    @property
    def _bounds_active(self) -> Array | None:
        return None if self.active is None else self.active[self.matrix_count :]

    def transposed_product(self, z: Array) -> Array:
        """The transposed rows times z, for z of shape (rows,) or a stack (k, rows)."""
        z = _mask(z, self.active)
        of_matrix, lower, upper = self.split(z)
        result = jnp.zeros((*z.shape[:-1], self.variables), z.dtype)
        if self.matrix_count:
            result = self.matrix_transposed_product(of_matrix)
        return _mask(self._plus_bounds(result, lower, upper), self.free)

    def bound_transposed_product(self, z: Array) -> Array:
        """The transpose of the bound rows alone times z, for z of their shape or a stack."""
        z = _mask(z, self._bounds_active)
        result = jnp.zeros((*z.shape[:-1], self.variables), z.dtype)
        middle = self.variables if self.lower else 0
        return _mask(self._plus_bounds(result, z[..., :middle], z[..., middle:]), self.free)

    def _plus_bounds(self, result: Array, lower: Array, upper: Array) -> Array:
        if self.lower:
            result = result - lower
        return result + upper if self.upper else result

    def split(self, z: Array) -> tuple[Array, Array, Array]:
        """The entries of a vector of rows that belong to the matrix, to lower and to upper bounds."""
        first, n = self.matrix_count, self.variables
        middle = first + (n if self.lower else 0)
        return z[..., :first], z[..., first:middle], z[..., middle:]

    def bound_parts(self, z: Array) -> list[Array]:
        """What each kind of bound that is there contributes to the transposed product, but for sign."""
        _, lower, upper = self.split(_mask(z, self.active))
        return [lower] * self.lower + [upper] * self.upper

    def bound_diagonal(self, weights: Array) -> Array:
        """The diagonal that the bound rows add to ``rows' diag(weights) rows``."""
        _, lower, upper = self.split(_mask(weights, self.active))
        diagonal = jnp.zeros(self.variables, weights.dtype)
        diagonal = diagonal + lower if self.lower else diagonal
        return diagonal + upper if self.upper else diagonal


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DenseRows(ConstraintRows):
    """The matrix held as it is and transposed, both in row-major order, or absent.

    A product with a stack of row vectors wants the matrix on the right (see `matrix`).
    """

    dense: Array | None
    dense_transposed: Array | None

    @property
    def matrix_count(self) -> int:
        return 0 if self.dense is None else self.dense.shape[0]

    @property
    def anchors(self) -> list[Array]:
        return [] if self.dense is None else [self.dense]

    @property
    def equality_transposed(self) -> Array:
        """A', (n, p)."""
        assert self.dense_transposed is not None
        return self.dense_transposed[:, : self.equalities]

    def matrix_product(self, x: Array) -> Array:
        assert self.dense_transposed is not None
        return matmul(x, self.dense_transposed)

    def matrix_transposed_product(self, z: Array) -> Array:
        assert self.dense is not None
        return matmul(z, self.dense)

    def row_norms(self, columns: Array) -> Array:
        if self.dense is None:
            return jnp.zeros(0, self.dtype)
        return jnp.max(jnp.abs(self.dense) * columns[None, :], axis=1, initial=0)

    def column_norms(self, rows: Array) -> Array:
        if self.dense is None:
            return jnp.zeros(self.variables, self.dtype)
        return jnp.max(jnp.abs(self.dense) * rows[:, None], axis=0, initial=0)

    def rotated(self, rotation: Rotation) -> DenseRows:
        if self.dense is None or rotation.is_identity:
            return self
        assert self.dense_transposed is not None
        columns = rotation.into(self.dense_transposed)
        return replace(self, dense=transposed(columns), dense_transposed=columns)

    def scaled(self, columns: Array, matrix_rows: Array) -> DenseRows:
        if self.dense is None:
            return self
        dense = matrix_rows[:, None] * self.dense * columns[None, :]
        return replace(self, dense=dense, dense_transposed=dense.T)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SparseRows(ConstraintRows):
    """``diag(weights) U' matrix``: a rotation would fill in the pattern, so it is applied to vectors."""

    matrix: SparseMatrix
    rotation: Rotation | None = None
    weights: Array | None = None

    @property
    def matrix_count(self) -> int:
        return self.matrix.shape[0]

    @property
    def anchors(self) -> list[Array]:
        return [self.matrix.values]

    def matrix_product(self, x: Array) -> Array:
        if x.ndim == 2:
            return jax.vmap(self.matrix_product)(x)
        product = self.matrix.product(x)
        if self.rotation is not None:
            product = self.rotation.into(product)
        return _mask(product, self.weights)

    def matrix_transposed_product(self, z: Array) -> Array:
        if z.ndim == 2:
            return jax.vmap(self.matrix_transposed_product)(z)
        z = _mask(z, self.weights)
        if self.rotation is not None:
            z = self.rotation.out(z)
        return self.matrix.transposed_product(z)

    def row_norms(self, columns: Array) -> Array:
        return self.matrix.row_norms(columns)

    def column_norms(self, rows: Array) -> Array:
        return self.matrix.column_norms(rows)

    def rotated(self, rotation: Rotation) -> SparseRows:
        return self if rotation.is_identity else replace(self, rotation=rotation)

    def scaled(self, columns: Array, matrix_rows: Array) -> SparseRows:
        if self.rotation is not None:
            ones = jnp.ones_like(matrix_rows)
            return replace(self, matrix=self.matrix.scaled(ones, columns), weights=matrix_rows)
        return replace(self, matrix=self.matrix.scaled(matrix_rows, columns))


def _joined(parts: list[Array], like: Array) -> Array:
    if not parts:
        return jnp.zeros((*like.shape[:-1], 0), like.dtype)
    return jnp.concatenate(parts, axis=-1)


def _mask(v: Array, mask: Array | None) -> Array:
    if mask is None:
        return v
    return v * (mask if v.ndim == 1 else mask[None, :])
