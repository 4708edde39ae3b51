"""The differentiable data of a program, apart from what only describes it."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_layers.cones import Product
from jaxopt_layers.problem import Program
from jaxopt_layers.rows import ConstraintRows


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Data:
    """P as (n, n), (n,) or None; q (n,); the dense rows (k, n) or None; b (rows,)."""

    quadratic: Array | None
    linear: Array
    dense: Array | None
    offset: Array


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

    def member_bytes(self, data: Data) -> int:
        """About what one problem's matrices and their factorization take."""
        n, rows = data.linear.shape[0], 0 if data.dense is None else data.dense.shape[0]
        diagonal = data.quadratic is None or data.quadratic.ndim == 1
        square = min(n, rows) if diagonal else n
        return data.linear.dtype.itemsize * (4 * square * square + 2 * rows * n)

    def program(self, data: Data, marks: Marks) -> Program:
        """Put the parts together."""
        dense, one = data.dense, jnp.ones((), data.linear.dtype)
        rows = ConstraintRows(
            dense=dense,
            dense_transposed=None if dense is None else dense.T,
            active=marks.active if self.cone.degree else None,
            free=None,
            dtype=data.linear.dtype,
            variables=data.linear.shape[0],
            equalities=self.equalities,
            lower=self.lower,
            upper=self.upper,
        )
        return Program(
            quadratic=data.quadratic,
            quadratic_scale=one,
            linear=data.linear,
            rows=rows,
            offset=data.offset,
            constant=0 * one,
        )
