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


_ATOMS: dict[str, Callable[..., Any]] = {}  # by name; filled while `jaxopt_layers` is imported


def atom(function: Callable[..., Any]) -> Callable[..., Any]:
    """A jitted call that the analysis recognizes by its name, which also holds the operands' ranks."""
    name = function.__name__.lstrip("_")
    _ATOMS[name] = function

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        return marked(name, tuple(np.ndim(a) for a in arguments))(*arguments)

    return call


@functools.cache
def marked(name: str, ranks: tuple[int, ...]) -> Callable[..., Any]:
    """The jitted call of an atom at operands of these ranks."""
    function = _ATOMS[name]

    def call(*arguments: Any) -> Any:
        return function(*arguments)

    call.__name__ = call.__qualname__ = f"{PREFIX}{name}_at_{'_'.join(map(str, ranks))}"
    return jax.jit(call)


def split_name(name: str) -> tuple[str, tuple[int, ...]]:
    """The atom's name and its operands' ranks, from the name of its call without the prefix."""
    atom_name, _, ranks = name.rpartition("_at_")
    return atom_name, tuple(int(rank) for rank in ranks.split("_") if rank)


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
