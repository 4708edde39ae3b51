"""The differentiable data of a program, apart from what only describes it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_layers.cones import Product
from jaxopt_layers.kkt import form_by_pattern, sparse_is_cheaper
from jaxopt_layers.matrix import constant_like, is_diagonal, varying_axes
from jaxopt_layers.pattern import Pattern
from jaxopt_layers.problem import Program
from jaxopt_layers.rows import ConstraintRows, DenseRows, SparseRows
from jaxopt_layers.settings import Settings
from jaxopt_layers.sparse_matrix import SparseMatrix, as_sparse


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Data:
    """P as (n, n), (n,) or None; q (n,); the matrix rows (k, n) or None; b (rows,)."""

    quadratic: Array | SparseMatrix | None
    linear: Array
    matrix: Array | SparseMatrix | None
    offset: Array

    def varying_alike(self) -> Data:
        """The same data; under `jax.shard_map` all vary over the mesh axes over which one of them does.

        The cotangents of a custom rule do, and must match: where an array is shared, JAX then adds up those
        of all devices.
        """
        leaves = jax.tree.leaves(self)
        axes = frozenset[str]().union(*(varying_axes(leaf) for leaf in leaves))

        def alike(leaf: Array) -> Array:
            if varying_axes(leaf) == axes:
                return leaf
            for reference in leaves:
                leaf = leaf + constant_like(0, reference, leaf.dtype)
            return leaf

        return jax.tree.map(alike, self)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Marks:
    """Zeros and ones: which rows are there (None: all), and whether the problem's data were finite."""

    active: Array | None
    valid: Array


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Vectors:
    """A tangent or a cotangent of the solution: of x (n,), of y (rows,) and of s (rows,)."""

    x: Array
    y: Array
    s: Array


@dataclass(frozen=True)
class Layout:
    """What is static about a program."""

    equalities: int
    lower: bool
    upper: bool
    cone: Product

    def stored(self, data: Data, settings: Settings) -> Data:
        """The data with its matrices dense or sparse, whichever they are factored as."""
        given = isinstance(data.matrix, SparseMatrix) or isinstance(data.quadratic, SparseMatrix)
        if not given and settings.factorization != "sparse":
            return data
        quadratic, matrix = data.quadratic, self._sparse_matrix(data)
        if quadratic is not None and quadratic.ndim == 2:
            quadratic = as_sparse(quadratic)
        if settings.factorization == "sparse" or (
            settings.factorization == "auto" and sparse_is_cheaper(quadratic, matrix, self.cone)
        ):
            return replace(data, quadratic=quadratic, matrix=matrix)
        dense = [
            v.todense() if isinstance(v, SparseMatrix) else v for v in (data.quadratic, data.matrix)
        ]
        return replace(data, quadratic=dense[0], matrix=dense[1])

    def _sparse_matrix(self, data: Data) -> SparseMatrix:
        if data.matrix is not None:
            return as_sparse(data.matrix)
        none, shape = np.zeros(0, np.int32), (0, data.linear.shape[0])
        return SparseMatrix(jnp.zeros(0, data.linear.dtype), Pattern(shape, none, none))

    def member_bytes(self, data: Data) -> int:
        """About what one problem's matrices and their factorization take."""
        itemsize = data.linear.dtype.itemsize
        if isinstance(data.matrix, SparseMatrix):
            form = form_by_pattern(data.quadratic, data.matrix, self.cone)
            return itemsize * form.entries
        n, rows = data.linear.shape[0], 0 if data.matrix is None else data.matrix.shape[0]
        square = min(n, rows) if is_diagonal(data.quadratic) else n
        return itemsize * (4 * square * square + 2 * rows * n)

    def program(self, data: Data, marks: Marks) -> Program:
        """Put the parts together."""
        matrix, one = data.matrix, jnp.ones((), data.linear.dtype)
        common: dict[str, Any] = dict(
            active=marks.active if self.cone.degree else None,
            free=None,
            dtype=data.linear.dtype,
            variables=data.linear.shape[0],
            equalities=self.equalities,
            lower=self.lower,
            upper=self.upper,
        )
        rows: ConstraintRows
        if isinstance(matrix, SparseMatrix):
            rows = SparseRows(matrix=matrix, **common)
        else:
            transposed = None if matrix is None else matrix.T
            rows = DenseRows(dense=matrix, dense_transposed=transposed, **common)
        return Program(
            quadratic=data.quadratic,
            quadratic_scale=one,
            linear=data.linear,
            rows=rows,
            offset=data.offset,
            constant=0 * one,
        )
