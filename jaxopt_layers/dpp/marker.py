"""What the atoms share: the named call that the analysis recognizes, and checks of arguments."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

PREFIX = "jaxopt_layers_"
"""Before the name of every call that is an atom of this package."""


def atom(function: Callable[..., Any]) -> Callable[..., Any]:
    """A jitted call that the analysis recognizes by its name."""

    @functools.wraps(function)
    def named(*arguments: Any) -> Any:
        return function(*arguments)

    named.__name__ = named.__qualname__ = PREFIX + function.__name__.lstrip("_")
    return jax.jit(named)


def as_float(value: ArrayLike) -> Array:
    array = jnp.asarray(value)
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(float)


def last(x: ArrayLike, axis: int | tuple[int, ...] | None) -> Array:
    """The axes to reduce, flattened and put last."""
    x = as_float(x)
    if axis is None:
        return x.reshape(-1)
    axes = tuple(a % x.ndim for a in ((axis,) if isinstance(axis, int) else axis))
    kept = [i for i in range(x.ndim) if i not in axes]
    moved = jnp.transpose(x, (*kept, *axes))
    return moved.reshape(*(x.shape[i] for i in kept), -1)


def number(owner: str, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"{owner}: `{name}` must be a Python number; got {type(value).__name__}.")
    return float(value)


def matrix(owner: str, name: str, value: ArrayLike, square: bool = True) -> Array:
    array = as_float(value)
    if array.ndim != 2 or (square and array.shape[0] != array.shape[1]):
        wanted = "a square matrix" if square else "a matrix"
        raise ValueError(f"{owner}: `{name}` must be {wanted}; got shape {array.shape}.")
    return array
