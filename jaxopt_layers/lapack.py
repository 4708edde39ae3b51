"""Matrix factorizations of the system's library, one matrix at a time on CPUs.

jaxlib (0.10) hands a batch of matrices to its thread pool and waits there: two batches that don't depend on
each other, in one compiled program, can wait for each other for good. Single matrices don't wait. So a
batch is a loop here, or written out where it is small. The package's own factorizations of small matrices
(`cholesky`) don't come to this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_batching import custom_vmap

# Up to this side QR iteration finds singular values faster; at 30 it is slower.
_SMALL = 16
# A batch of up to so many is written out: a pass of a loop costs more than a small factorization.
_WRITTEN_OUT = 8


def _one_at_a_time(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function of one matrix; under `jax.vmap` on a CPU, called for one after the other."""
    mapped = custom_vmap(function)

    @mapped.def_vmap
    def _(axis_size: int, in_batched: Any, matrix: Any) -> tuple[Any, Any]:
        if jax.default_backend() == "cpu":
            result = _each(mapped, matrix)
        else:
            result = jax.vmap(function)(matrix)
        return result, jax.tree.map(lambda _: True, result)

    return mapped


def _each(function: Callable[..., Any], matrices: jax.Array) -> Any:
    """The function of one matrix after the other."""
    if len(matrices) > _WRITTEN_OUT:
        return lax.map(function, matrices)
    single = [function(matrix) for matrix in matrices]
    return jax.tree.map(lambda *parts: jnp.stack(parts), *single)


#: L with L L' = matrix, of the lower triangle; NaN where the matrix is not positive definite.
cholesky = _one_at_a_time(lambda matrix: lax.linalg.cholesky(matrix, symmetrize_input=False))
#: Eigenvalues and eigenvectors of a symmetric matrix.
eigh = _one_at_a_time(lambda matrix: tuple(jnp.linalg.eigh(matrix, symmetrize_input=False)))
#: Diagonal and off-diagonal of a tridiagonal matrix with the same eigenvalues; of the lower triangle.
tridiagonal = _one_at_a_time(lambda matrix: tuple(lax.linalg.tridiagonal(matrix, lower=True)[1:3]))
#: Eigenvalues of a symmetric matrix alone, at the cost of the vectors.
eigvalsh = _one_at_a_time(lambda matrix: jnp.linalg.eigvalsh(matrix, symmetrize_input=False))


def _svd(matrix: jax.Array) -> Any:
    """By QR iteration where that is faster than divide and conquer: on a small matrix, on a CPU."""
    small = max(matrix.shape) <= _SMALL and jax.default_backend() == "cpu"
    algorithm = lax.linalg.SvdAlgorithm.QR if small else lax.linalg.SvdAlgorithm.DEFAULT
    return tuple(lax.linalg.svd(matrix, full_matrices=False, algorithm=algorithm))


#: The thin singular value decomposition.
svd = _one_at_a_time(_svd)
