"""The constraint rows as one operator: dense rows, then bounds on the variables kept as vectors."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_layers.cones import Rotation
from jaxopt_layers.matrix import matmul, transposed


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ConstraintRows:
    """``[A; G; -I; I]``: equality rows, inequality rows, lower bounds, upper bounds.

    The dense rows are held as they are and transposed, both in row-major order, since a product
    with a stack of row vectors wants the matrix on the right (see `matrix`).

    `active` is 0 for a row that is absent because its bound is infinite: the row reads
    ``0'x + s = 1`` then, which every x satisfies. `free` is 0 for a variable that is fixed because
    its bounds coincide. Both are vectors, so that matrices shared by a batch are never copied.
    """

    dense: Array | None
    dense_transposed: Array | None
    active: Array | None
    free: Array | None
    dtype: jnp.dtype = field(metadata={"static": True})
    variables: int = field(metadata={"static": True})
    equalities: int = field(metadata={"static": True})
    lower: bool = field(metadata={"static": True})
    upper: bool = field(metadata={"static": True})

    @property
    def dense_count(self) -> int:
        return 0 if self.dense is None else self.dense.shape[0]

    @property
    def count(self) -> int:
        return self.dense_count + self.variables * (int(self.lower) + int(self.upper))

    @property
    def equality_transposed(self) -> Array:
        """A', (n, p)."""
        assert self.dense_transposed is not None
        return self.dense_transposed[:, : self.equalities]

    def product(self, x: Array) -> Array:
        """The rows times x, for x of shape (n,) or a stack (k, n)."""
        x = _mask(x, self.free)
        parts = [] if self.dense_transposed is None else [matmul(x, self.dense_transposed)]
        parts += [-x] if self.lower else []
        parts += [x] if self.upper else []
        joined = (
            jnp.concatenate(parts, axis=-1) if parts else jnp.zeros((*x.shape[:-1], 0), x.dtype)
        )
        return _mask(joined, self.active)

    def transposed_product(self, z: Array) -> Array:
        """The transposed rows times z, for z of shape (rows,) or a stack (k, rows)."""
        z = _mask(z, self.active)
        dense, lower, upper = self.split(z)
        result = jnp.zeros((*z.shape[:-1], self.variables), z.dtype)
        if self.dense is not None:
            result = matmul(dense, self.dense)
        if self.lower:
            result = result - lower
        if self.upper:
            result = result + upper
        return _mask(result, self.free)

    def split(self, z: Array) -> tuple[Array, Array, Array]:
        """The entries of a vector of rows that belong to dense rows, lower and upper bounds."""
        first, n = self.dense_count, self.variables
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

    def rotated(self, rotation: Rotation) -> ConstraintRows:
        """U' times the rows; bounds belong to cones that U leaves as they are."""
        if self.dense is None or rotation.is_identity:
            return self
        assert self.dense_transposed is not None
        columns = rotation.into(self.dense_transposed)
        return replace(self, dense=transposed(columns), dense_transposed=columns)

    def scaled(self, columns: Array, dense_rows: Array) -> ConstraintRows:
        """``diag(dense_rows) dense diag(columns)``; bound rows are scaled back to unit entries."""
        if self.dense is None:
            return self
        dense = dense_rows[:, None] * self.dense * columns[None, :]
        return replace(self, dense=dense, dense_transposed=dense.T)


def _mask(v: Array, mask: Array | None) -> Array:
    if mask is None:
        return v
    return v * (mask if v.ndim == 1 else mask[None, :])
