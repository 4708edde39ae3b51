"""Minimum-norm least-squares solutions: of a dense matrix, and by LSMR through products alone."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_layers.lapack import svd
from jaxopt_layers.matrix import matmul
from jaxopt_layers.settings import Derivative

# Singular values below this, relative to the largest, count as zero.
_RANK_TOLERANCE = {8: 1e-8, 4: 1e-4}
_LSMR_TOLERANCE = {8: 1e-11, 4: 1e-5}


def dense_pseudo_inverse(matrix: Array) -> Array:
    """The pseudo-inverse, by the singular value decomposition."""
    left, values, right = svd(matrix)
    kept = values > _RANK_TOLERANCE[matrix.dtype.itemsize] * jnp.max(values, initial=0)
    inverse = jnp.where(kept, 1 / jnp.where(kept, values, 1), 0)
    return matmul(right.T * inverse[None, :], left.T)


def least_squares_by_lsmr(
    product: Callable[[Array], Array],
    right: Array,
    derivative: Derivative,
) -> Array:
    """The same for one right-hand side by LSMR (Fong & Saunders 2011), which needs products only.

    It ends at `derivative.tolerance` or after `derivative.max_iterations`; how far it came can be
    asked with `derivative_quality`.
    """
    lineax: Any = _lineax()
    tolerance = derivative.tolerance or _LSMR_TOLERANCE[right.dtype.itemsize]
    structure = jax.ShapeDtypeStruct(right.shape, right.dtype)
    operator = lineax.FunctionLinearOperator(product, structure)
    solver = lineax.LSMR(
        rtol=tolerance,
        atol=tolerance,
        max_steps=derivative.max_iterations or 10 * right.shape[0],
        conlim=1e14,
    )
    return lineax.linear_solve(operator, right, solver, throw=False).value


def _lineax() -> Any:
    try:
        return importlib.import_module("lineax")
    except ImportError as error:
        raise ImportError(
            "Derivative(solver='lsmr') needs the package lineax: pip install 'jaxopt_layers[lsmr]'."
        ) from error
