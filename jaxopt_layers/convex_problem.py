"""What the user's function of a `convex_layer` is made of: the problem it returns, and its variables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Problem:
    """What [`minimize`][] and [`maximize`][] return: the objective and the constraints.

    At numbers, `objective` is its value and `constraints` say which comparisons hold."""

    objective: Any
    constraints: tuple[Any, ...]
    sense: str = field(metadata={"static": True})


def minimize(objective: Any, subject_to: Sequence[Any] = ()) -> Problem:
    """The problem of making a convex scalar smallest, for [`convex_layer`][].

    - `objective`: a scalar.
    - `subject_to`: comparisons of arrays by ``==``, ``<=`` and ``>=``, and [`second_order`][],
      [`positive_semidefinite`][], [`exponential`][] and [`power`][].

    ```python
    import jax.numpy as jnp, jaxopt_layers as jl

    layer = jl.convex_layer(lambda x, p: jl.minimize(jl.sum_squares(x - p), [x >= 0]), x=(2,))
    layer(p=jnp.array([1.0, -1.0])).variables["x"]  # [1, 0]
    ```
    """
    return _problem("minimize", objective, subject_to)


def maximize(objective: Any, subject_to: Sequence[Any] = ()) -> Problem:
    """The problem of making a concave scalar largest, for [`convex_layer`][]; see [`minimize`][].

    ```python
    import jax.numpy as jnp, jaxopt_layers as jl

    layer = jl.convex_layer(lambda x, p: jl.maximize(p @ x, [jnp.sum(x) == 1, x >= 0]), x=(2,))
    layer(p=jnp.array([1.0, 2.0])).value  # 2
    ```
    """
    return _problem("maximize", objective, subject_to)


def _problem(sense: str, objective: Any, subject_to: Any) -> Problem:
    if not isinstance(subject_to, (list, tuple)):
        raise TypeError(
            f"{sense}: `subject_to` must be a list of constraints; got {type(subject_to).__name__}."
        )
    shape = np.shape(objective)
    if shape:
        raise ValueError(
            f"{sense}: `objective` must be a scalar; got shape {shape}. Sum it, for example by jnp.sum."
        )
    return Problem(objective, tuple(subject_to), sense)


@dataclass(frozen=True)
class Variable:
    """A variable's shape and what is known of it; see [`variable`][]."""

    shape: tuple[int, ...]
    symmetric: bool = False
    psd: bool = False
    nonneg: bool = False
    nonpos: bool = False


def variable(
    shape: tuple[int, ...] | int = (),
    *,
    symmetric: bool = False,
    psd: bool = False,
    nonneg: bool = False,
    nonpos: bool = False,
) -> Variable:
    """A variable of [`convex_layer`][] with attributes, where a shape alone doesn't say enough.

    - `shape`: () is a scalar.
    - `symmetric`, `psd`: a symmetric matrix, a positive semidefinite one (of a square shape).
    - `nonneg`, `nonpos`: the sign of every entry.

    **Raises:** ValueError for a shape that doesn't fit.

    ```python
    import jax.numpy as jnp, jaxopt_layers as jl

    def nearest(X, C):
        return jl.minimize(jl.sum_squares(X - C), [jnp.trace(X) == 1])

    layer = jl.convex_layer(nearest, X=jl.variable((3, 3), psd=True))
    layer(C=jnp.diag(jnp.array([1.0, 0.5, -1.0]))).variables["X"]
    ```
    """
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    if not all(isinstance(d, int) and d >= 1 for d in shape):
        raise ValueError(f"variable: `shape` must hold integers of at least 1; got {shape}.")
    if (symmetric or psd) and (len(shape) != 2 or shape[0] != shape[1]):
        raise ValueError(f"variable: a symmetric matrix needs a square `shape`; got {shape}.")
    if nonneg and nonpos:
        raise ValueError("variable: `nonneg` and `nonpos` exclude each other.")
    return Variable(shape, symmetric, psd, nonneg, nonpos)
