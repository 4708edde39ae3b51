"""A smooth program: the user's functions, traced once, and what they close over as data.

    minimize f(x, theta)   subject to   h(x, theta) = 0,   g(x, theta) <= 0

f, g and h come as Python functions of a point and parameters. Each is traced to a jaxpr. Arrays and
tracers that it closes over become arguments, so that they are differentiated like the parameters and
a call after they have changed sees the change; the jaxpr is the static part, and functions with equal
text share a compiled program.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import eval_jaxpr

from jaxopt_layers.checks import as_array, check_shape, common_dtype
from jaxopt_layers.matrix import matmul


@dataclass(frozen=True)
class TracedFunction:
    """A function as its jaxpr, equal to another if both come from one function with the same text."""

    function: Any
    text: str
    jaxpr: Any = field(compare=False, hash=False, repr=False)

    def __call__(self, constants: tuple[Array, ...], *arguments: Any) -> Array:
        """The value at (x, *params), given what the function closes over."""
        (value,) = eval_jaxpr(self.jaxpr, constants, *jax.tree.leaves(arguments))
        return value


def trace(
    owner: str, name: str, function: Any, arguments: tuple[Any, ...]
) -> tuple[TracedFunction, tuple[Array, ...]]:
    """Trace a function of (x, *params) that returns one array; the second result it closes over."""
    if not callable(function):
        raise TypeError(
            f"{owner}: `{name}` must be a function of x and the params; got {function!r}."
        )

    def one_array(*args: Any) -> Array:
        value = function(*args)
        if not isinstance(value, (jax.Array, np.ndarray, np.generic, float, int)):
            raise TypeError(
                f"{owner}: `{name}` must return one array of real numbers; got"
                f" {type(value).__name__}."
            )
        value = jnp.asarray(value)
        if not jnp.issubdtype(value.dtype, jnp.floating):
            raise TypeError(
                f"{owner}: `{name}` must return one array of real numbers; got dtype {value.dtype}."
            )
        return value

    closed = jax.make_jaxpr(one_array)(*arguments)
    constants = tuple(jnp.asarray(constant) for constant in closed.consts)
    return TracedFunction(function, str(closed.jaxpr), closed.jaxpr), constants


@dataclass(frozen=True)
class PointLayout:
    """The pytree that the user's functions take a point as; inside, points are vectors (n,)."""

    structure: Any
    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, point: Any) -> PointLayout:
        leaves, structure = jax.tree.flatten(point)
        return cls(structure, tuple(np.shape(leaf) for leaf in leaves))

    @property
    def size(self) -> int:
        return sum(prod(shape) for shape in self.shapes)

    def ravel(self, point: Any) -> Array:
        return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(point)])

    def unravel(self, vector: Array) -> Any:
        ends = np.cumsum([prod(shape) for shape in self.shapes])[:-1]
        parts = jnp.split(vector, ends)
        leaves = [part.reshape(shape) for part, shape in zip(parts, self.shapes, strict=True)]
        return jax.tree.unflatten(self.structure, leaves)


class Parameters(NamedTuple):
    """Everything that the solution depends on: a pytree to differentiate in.

    `constants` holds what objective, equality and inequality close over.
    """

    params: tuple[Any, ...]
    A: Array | None
    b: Array | None
    constants: tuple[tuple[Array, ...], ...]


class Multipliers(NamedTuple):
    """Of the equalities (p,) and of the inequalities (m,)."""

    y: Array
    z: Array


@dataclass(frozen=True)
class SmoothProgram:
    """The static part of a program; its methods take a point (n,) and [`Parameters`][]."""

    objective: TracedFunction
    equality: TracedFunction | None
    inequality: TracedFunction | None
    layout: PointLayout

    def f(self, x: Array, theta: Parameters) -> Array:
        """The objective, a scalar of the dtype of x."""
        value = self.objective(theta.constants[0], self.layout.unravel(x), *theta.params)
        return value.astype(x.dtype)

    def h(self, x: Array, theta: Parameters) -> Array:
        """Residuals of the equalities (p,): those of A and b, or the user's."""
        if theta.A is not None:
            assert theta.b is not None
            return matmul(theta.A, x) - theta.b
        return self._vector(self.equality, 1, x, theta)

    def g(self, x: Array, theta: Parameters) -> Array:
        """The functions that must not be positive (m,)."""
        return self._vector(self.inequality, 2, x, theta)

    def lagrangian(self, x: Array, multipliers: Multipliers, theta: Parameters) -> Array:
        """f + y'h + z'g."""
        value = self.f(x, theta)
        if multipliers.y.size:
            value = value + jnp.sum(multipliers.y * self.h(x, theta))
        if multipliers.z.size:
            value = value + jnp.sum(multipliers.z * self.g(x, theta))
        return value

    def _vector(
        self, function: TracedFunction | None, which: int, x: Array, theta: Parameters
    ) -> Array:
        if function is None:
            return jnp.zeros(0, x.dtype)
        value = function(theta.constants[which], self.layout.unravel(x), *theta.params)
        return jnp.ravel(value).astype(x.dtype)


def _parameter(owner: str, leaf: Any, dtype: Any) -> Array:
    """A leaf of the params; Python numbers take the dtype of the rest, as they do in JAX."""
    if isinstance(leaf, float):
        return jnp.asarray(leaf, dtype)
    try:
        return jnp.asarray(leaf)
    except TypeError as error:
        raise TypeError(
            f"{owner}: the leaves of `params` must be arrays; got {type(leaf).__name__}."
            " What isn't an array belongs in the closure of the functions."
        ) from error


def smooth_program(
    owner: str,
    objective: Callable[..., Any],
    equality: Callable[..., Any] | None,
    inequality: Callable[..., Any] | None,
    point: tuple[str, Any],
    params: tuple[Any, ...],
    affine: tuple[Any, Any] = (None, None),
) -> tuple[SmoothProgram, Array, Parameters]:
    """Check and trace everything; the program, the point (name, value) as a vector, the parameters."""
    name, value = point
    if not jax.tree.leaves(value):
        raise ValueError(f"{owner}: `{name}` must hold at least one number; got {value!r}.")
    value = jax.tree.map(lambda leaf: as_array(owner, name, leaf), value)
    A, b = affine
    if (A is None) != (b is None):
        missing, given = ("`A`", "`b`") if A is None else ("`b`", "`A`")
        raise ValueError(f"{owner}: {given} is given without {missing}; the equalities need both.")
    A, b = (None, None) if A is None else (as_array(owner, "A", A), as_array(owner, "b", b))
    arrays = [leaf for leaf in (*jax.tree.leaves(value), A, b) if leaf is not None]
    typed = [leaf for leaf in jax.tree.leaves(params) if hasattr(leaf, "dtype")]
    dtype = common_dtype([*arrays, *(leaf for leaf in typed if hasattr(leaf, "shape"))])
    params = jax.tree.map(lambda leaf: _parameter(owner, leaf, dtype), params)
    value = jax.tree.map(lambda leaf: leaf.astype(dtype), value)
    layout = PointLayout.of(value)
    if layout.size == 0:
        raise ValueError(f"{owner}: `{name}` must hold at least one number; it is empty.")
    if A is not None and b is not None:
        A, b = A.astype(dtype), b.astype(dtype)
        if A.ndim != 2 or A.shape[1] != layout.size:
            raise ValueError(
                f"{owner}: `A` must have shape (p, n) = (p, {layout.size}); got {A.shape}."
            )
        check_shape(owner, "b", b, (A.shape[0],), "(p,)")

    traced, constants = [], []
    for label, function in (
        ("objective", objective), ("equality", equality), ("inequality", inequality)
    ):  # fmt: skip
        if function is None and label != "objective":
            found = None, ()
        else:
            found = trace(owner, label, function, (value, *params))
        traced.append(found[0])
        constants.append(found[1])
    shape = traced[0].jaxpr.outvars[0].aval.shape
    if shape != ():
        raise ValueError(f"{owner}: `objective` must return a scalar; got shape {shape}.")
    program = SmoothProgram(traced[0], traced[1], traced[2], layout)
    return program, layout.ravel(value), Parameters(params, A, b, tuple(constants))
