"""Matrix factorizations of the system's library, one matrix at a time on CPUs.

jaxlib (0.10) hands a batch of matrices to its thread pool and waits there: two batches that don't depend on
each other, in one compiled program, can wait for each other for good. Single matrices don't wait. So a
batch is a loop here; where a batch is small and its matrices are, too, the package's own factorizations
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


def _one_at_a_time(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function of one matrix; under `jax.vmap` on a CPU, a loop."""
    mapped = custom_vmap(function)

    @mapped.def_vmap
    def _(axis_size: int, in_batched: Any, matrix: Any) -> tuple[Any, Any]:
        if jax.default_backend() == "cpu":
            result = lax.map(mapped, matrix)
        else:
            result = jax.vmap(function)(matrix)
        return result, jax.tree.map(lambda _: True, result)

    return mapped


#: L with L L' = matrix, of the lower triangle; NaN where the matrix is not positive definite.
cholesky = _one_at_a_time(lambda matrix: lax.linalg.cholesky(matrix, symmetrize_input=False))
#: Eigenvalues and eigenvectors of a symmetric matrix.
eigh = _one_at_a_time(lambda matrix: tuple(jnp.linalg.eigh(matrix, symmetrize_input=False)))
#: Its eigenvalues alone.
eigvalsh = _one_at_a_time(lambda matrix: jnp.linalg.eigvalsh(matrix, symmetrize_input=False))


def _svd(matrix: jax.Array) -> Any:
    """By QR iteration where that is faster than divide and conquer: on a small matrix, on a CPU."""
    small = max(matrix.shape) <= _SMALL and jax.default_backend() == "cpu"
    algorithm = lax.linalg.SvdAlgorithm.QR if small else lax.linalg.SvdAlgorithm.DEFAULT
    return tuple(lax.linalg.svd(matrix, full_matrices=False, algorithm=algorithm))


#: The thin singular value decomposition.
svd = _one_at_a_time(_svd)
