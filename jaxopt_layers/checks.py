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
    if isinstance(value, jax.Array):
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
    _check_numbers(owner, name, array.dtype)
    return array


def as_matrix(owner: str, name: str, value: Any) -> Array | SparseMatrix:
    """The same for a matrix, which may be sparse."""
    if is_bcoo(value):
        value = SparseMatrix.from_bcoo(value)
    if not isinstance(value, SparseMatrix):
        return as_array(owner, name, value)
    _check_numbers(owner, name, value.dtype)
    return value


def _check_numbers(owner: str, name: str, dtype: Any) -> None:
    if not (jnp.issubdtype(dtype, jnp.floating) or jnp.issubdtype(dtype, jnp.integer)):
        raise TypeError(f"{owner}: `{name}` must hold real numbers; got dtype {dtype}.")
    if jnp.issubdtype(dtype, jnp.floating) and jnp.finfo(dtype).bits < 32:
        raise TypeError(
            f"{owner}: `{name}` has dtype {dtype}; the solver needs float32 or float64."
        )


def common_dtype(arrays: list[Any]) -> jnp.dtype:
    """The float dtype of the result: the widest float given, or the default for integers."""
    floats = [a.dtype for a in arrays if jnp.issubdtype(a.dtype, jnp.floating)]
    return jnp.dtype(jnp.result_type(*floats)) if floats else jnp.zeros(()).dtype


def check_shape(owner: str, name: str, value: Any, wanted: tuple[int, ...], words: str) -> None:
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


def check_convex(owner: str, name: str, matrix: Array | SparseMatrix) -> None:
    """What can be seen of a concrete matrix: symmetry, and no negative diagonal entry."""
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(matrix)):
        return
    if not all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(matrix)):
        return  # reported as INVALID_INPUT, as it would be inside a batch
    if isinstance(matrix, SparseMatrix):
        pattern, own, mirrored = matrix.pattern.symmetrized
        padded = np.append(np.asarray(matrix.values), 0)
        entries, opposite = padded[own], padded[mirrored]
        keys = pattern.rows.astype(np.int64) * matrix.shape[0] + pattern.columns
        on_diagonal = np.flatnonzero(pattern.rows == pattern.columns)
    else:
        values = np.asarray(matrix)
        entries, opposite, keys = values.ravel(), values.T.ravel(), None
        step = 1 if values.ndim == 1 else len(values) + 1
        on_diagonal = np.arange(0, values.size, step)

    def place(entry: Any) -> tuple[int, int]:
        key = int(entry if keys is None else keys[entry])
        return divmod(key, matrix.shape[0]) if matrix.ndim == 2 else (key, key)

    size = np.max(np.abs(entries), initial=0)
    asymmetry = np.abs(entries - opposite)
    if np.max(asymmetry, initial=0) > np.sqrt(np.finfo(entries.dtype).eps) * size:
        worst = np.argmax(asymmetry)
        i, j = place(worst)
        raise ValueError(
            f"{owner}: `{name}` must be symmetric; entries [{i}, {j}] = {entries[worst]:g} and"
            f" [{j}, {i}] = {opposite[worst]:g} differ. Pass ({name} + {name}.T) / 2 if that is meant."
        )
    if np.min(entries[on_diagonal], initial=0) < -1e-12 * size:
        worst = on_diagonal[np.argmin(entries[on_diagonal])]
        raise ValueError(
            f"{owner}: `{name}` must be positive semidefinite; its diagonal entry {place(worst)[0]} is"
            f" {entries[worst]:g}, so the problem is not convex."
        )
