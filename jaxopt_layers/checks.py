"""Wrong arguments become errors that name the argument, before anything is compiled."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from jaxopt_layers.settings import Settings
from jaxopt_layers.sparse_matrix import SparseMatrix, is_bcoo


def as_array(owner: str, name: str, value: Any) -> Array:
    """`value` as a real array of integers or floats, or an error that says what it is instead."""
    if value is None:
        raise TypeError(f"{owner}: `{name}` is required; got None.")
    if is_bcoo(value):
        value = SparseMatrix.from_bcoo(value)
    if isinstance(value, SparseMatrix):
        # Until a factorization uses the pattern the solver works on the dense matrix; the cotangent
        # still comes back in the pattern, through the transpose of this.
        array = value.todense()
    elif isinstance(value, jax.Array):
        array = value
    else:
        if hasattr(value, "tocsc") or hasattr(value, "todense"):
            raise TypeError(
                f"{owner}: `{name}` must be an array or a SparseMatrix; got {type(value).__name__}."
                " Convert it, for example with SparseMatrix.from_scipy."
            )
        try:
            raw = np.asarray(value)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"{owner}: `{name}` must be an array of numbers; got {type(value).__name__}."
            ) from error
        if raw.dtype.kind not in "iuf":
            raise TypeError(
                f"{owner}: `{name}` must hold real numbers; got {type(value).__name__} of dtype"
                f" {raw.dtype}."
            )
        array = jnp.asarray(raw)
    if not (jnp.issubdtype(array.dtype, jnp.floating) or jnp.issubdtype(array.dtype, jnp.integer)):
        raise TypeError(f"{owner}: `{name}` must hold real numbers; got dtype {array.dtype}.")
    if jnp.issubdtype(array.dtype, jnp.floating) and jnp.finfo(array.dtype).bits < 32:
        raise TypeError(
            f"{owner}: `{name}` has dtype {array.dtype}; the solver needs float32 or float64."
        )
    return array


def common_dtype(arrays: list[Array]) -> jnp.dtype:
    """The float dtype of the result: the widest float given, or the default for integers."""
    floats = [a.dtype for a in arrays if jnp.issubdtype(a.dtype, jnp.floating)]
    return jnp.dtype(jnp.result_type(*floats)) if floats else jnp.zeros(()).dtype


def check_shape(owner: str, name: str, value: Array, wanted: tuple[int, ...], words: str) -> None:
    """`value` has the shape `wanted`, which `words` spells; a batch gets its own hint."""
    if value.shape == wanted:
        return
    message = f"{owner}: `{name}` must have shape {words} = {wanted}; got {value.shape}."
    if value.shape[1:] == wanted and len(wanted) > 0:
        message += " One call solves one problem: use jax.vmap for a batch."
    raise ValueError(message)


def check_settings(owner: str, settings: Any) -> None:
    """`settings` is a Settings."""
    if not isinstance(settings, Settings):
        raise TypeError(
            f"{owner}: `settings` must be a Settings, for example Settings(tolerance=1e-8);"
            f" got {settings!r}."
        )


def check_convex(owner: str, name: str, matrix: Array) -> None:
    """What can be seen of a concrete matrix: symmetry, and no negative diagonal entry."""
    if isinstance(matrix, Tracer):
        return
    values = np.asarray(matrix)
    if not np.all(np.isfinite(values)):
        return  # reported as INVALID_INPUT, as it would be inside a batch
    size = np.max(np.abs(values), initial=0)
    if values.ndim == 2:
        asymmetry = np.abs(values - values.T)
        if np.max(asymmetry, initial=0) > np.sqrt(np.finfo(values.dtype).eps) * size:
            i, j = np.unravel_index(np.argmax(asymmetry), asymmetry.shape)
            raise ValueError(
                f"{owner}: `{name}` must be symmetric; entries [{i}, {j}] = {values[i, j]:g} and"
                f" [{j}, {i}] = {values[j, i]:g} differ. Pass ({name} + {name}.T) / 2 if that is meant."
            )
    diagonal = values if values.ndim == 1 else np.diagonal(values)
    if np.min(diagonal, initial=0) < -1e-12 * size:
        i = int(np.argmin(diagonal))
        raise ValueError(
            f"{owner}: `{name}` must be positive semidefinite; its diagonal entry {i} is"
            f" {diagonal[i]:g}, so the problem is not convex."
        )
