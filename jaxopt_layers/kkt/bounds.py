"""Bounds on the variables eliminated into the diagonal: what the dual and the sparse form have in common.

With W = diag(1 / (hessian + reg)) on the bound rows B, their part of the system gives

    dw = W (B dx - rw),     so that     (P + B'WB) dx + R'dz = rx + B'W rw.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from jaxopt_layers.kkt.system import System
from jaxopt_layers.rows import ConstraintRows


def bound_weights(system: System) -> Array:
    """W, behind zeros for the rows of the matrix."""
    count, dtype = system.program.rows.matrix_count, system.hessian.dtype
    inverse = 1 / (system.hessian[count:] + system.regularization)
    return jnp.concatenate([jnp.zeros(count, dtype), inverse])


def fold_bounds(rows: ConstraintRows, weights: Array, rx: Array, rz: Array) -> Array:
    """``rx + B'W rw`` for stacks of right-hand sides."""
    count = rows.matrix_count
    return rx + rows.bound_transposed_product(weights[None, count:] * rz[:, count:])


def bound_multipliers(rows: ConstraintRows, weights: Array, dx: Array, rz: Array) -> Array:
    """dw."""
    count = rows.matrix_count
    return weights[None, count:] * (rows.bound_product(dx) - rz[:, count:])
