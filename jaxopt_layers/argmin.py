"""`argmin`: smooth convex objectives, with equalities and inequalities, differentiably."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jaxopt_layers.checks import check_settings
from jaxopt_layers.implicit.argmin import Choice, Marks, Point, attach
from jaxopt_layers.implicit.saddle import Form
from jaxopt_layers.settings import Settings, tolerances
from jaxopt_layers.smooth import Parameters, SmoothProgram, smooth_program
from jaxopt_layers.smooth_newton import minimize
from jaxopt_layers.status import Status

OWNER = "argmin"
# Up to this many variables the Hessian is a matrix unless something else is asked for.
_DENSE_LIMIT = 500
_BARRIER = {8: 1e-10, 4: 1e-5}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ArgminSolution:
    """What [`argmin`][] found; under `jax.vmap` every field gets the batch dimension in front.

    - `x`: the minimizer, an array or a pytree like `x0`.
    - `y` (p,): multipliers of ``Ax = b``: the gradient of the objective plus A'y (plus those of the
      inequalities) is zero.
    - `objective`: the objective at x, without the barrier.
    - `status`: a [`Status`][] code (int32). `iterations`: factorizations made (int32).
    """

    x: Any
    y: Array
    objective: Array
    status: Array
    iterations: Array


def argmin(
    objective: Callable[..., Any],
    x0: Any,
    *params: Any,
    A: ArrayLike | None = None,
    b: ArrayLike | None = None,
    inequality: Callable[..., Any] | None = None,
    barrier: float | None = None,
    hessian: Literal["dense", "cg"] | None = None,
    equalities: Form = "null_space",
    settings: Settings = Settings(),  # noqa: B008 (frozen)
) -> ArgminSolution:
    """Minimize a smooth function, differentiably in its parameters.

        minimize    objective(x, *params)
        subject to  Ax = b,  inequality(x, *params) <= 0

    The objective must be strictly convex (at least around its minimum, on the null space of A) and the
    inequalities convex, both twice differentiable by JAX. The derivative is that of the implicit function
    theorem (Gould et al. 2016); it doesn't go through the iterations, needs no more memory than one
    Hessian, and works in forward and reverse mode, nested as deep as you like. It is taken in `params`,
    `A`, `b` and in whatever the functions close over; not in `x0`. Pure: use it under `jax.jit` and
    `jax.vmap`; a call outside of them compiles once for its functions and shapes.

    **Arguments:**

    - `objective`: a function of (x, *params) that returns a scalar.
    - `x0`: where to start: (n,), or any pytree of arrays, which the functions then get. The objective
      must be finite there. It needn't satisfy the constraints.
    - `params`: pytrees of arrays.
    - `A`, `b`: (p, n) and (p,), or None; for a pytree `x0`, n counts its leaves in order, raveled.
      Redundant rows are allowed.
    - `inequality`: a function of (x, *params) that returns an array, each entry at most zero at a
      feasible point.
    - `barrier`: the weight mu of the barrier ``-mu sum(log(-inequality))`` at the end of its path. The
      result is the minimizer of that sum: an inequality that holds with equality is off by mu over its
      multiplier. A large one smooths the solution map. None: 1e-10 in float64, 1e-5 in float32.
    - `hessian`: ``"dense"`` forms and factors it; ``"cg"`` uses products with it and conjugate gradients,
      for many variables and a Hessian that isn't too badly conditioned (few active inequalities); whether
      it is singular then isn't seen. None: "dense" up to n = 500.
    - `equalities`: the form in which they are solved, the same in exact arithmetic. ``"null_space"``:
      the Hessian need be positive definite only there. ``"direct"``: by the Schur complement of the
      Hessian, which must be positive definite everywhere; faster for few rows. For dense Hessians.
    - `settings`: of these count `tolerance`, `max_iterations`, `failed_gradient` and `derivative.solver`:
      with ``"least_squares"`` the Hessian may be singular, and the derivative has the least norm.

    The arrays may be float32 or float64; the result has their widest dtype.

    **Returns:** an [`ArgminSolution`][]. Nothing raises inside `jax.jit`; its status is

    - NUMERICAL_ERROR: not convex, or singular, where it ended (at a saddle, say, or on a line of minima),
      or no further progress;
    - PRIMAL_INFEASIBLE: the constraints contradict each other; DUAL_INFEASIBLE: unbounded below;
    - INVALID_INPUT: NaN in the data, or an objective or inequality that isn't finite at x0;
    - MAX_ITERATIONS, ALMOST_SOLVED: as for [`solve_qp`][].

    The gradient of a problem that was not solved is zero (or NaN, by `settings.failed_gradient`).

    **Raises:** ValueError or TypeError, naming the argument, for shapes, dtypes and results of the
    functions that don't fit.

    ```python
    import jax, jax.numpy as jnp, jaxopt_layers as jl

    def entropy(x, scores):  # its minimizer on the simplex is softmax(scores)
        return jnp.sum(x * jnp.log(x)) - scores @ x

    def softmax(scores):
        n = scores.shape[0]
        return jl.argmin(
            entropy, jnp.full(n, 1 / n), scores, A=jnp.ones((1, n)), b=jnp.ones(1)
        ).x

    softmax(jnp.array([0.0, 1.0, 2.0]))  # [0.090, 0.245, 0.665]
    jax.jacobian(softmax)(jnp.array([0.0, 1.0, 2.0]))
    ```
    """
    check_smooth_settings(OWNER, settings)
    _check_choice("hessian", hessian, ("dense", "cg", None))
    _check_choice("equalities", equalities, ("null_space", "direct"))
    program, start, theta = smooth_program(
        OWNER, objective, None, inequality, ("x0", x0), params, (A, b)
    )
    if hessian is None:
        hessian = "dense" if start.shape[0] <= _DENSE_LIMIT else "cg"
    if hessian == "cg" and settings.derivative.solver == "least_squares":
        raise ValueError(
            f"{OWNER}: `settings.derivative.solver` 'least_squares' needs a dense Hessian."
        )
    choice = Choice(
        hessian=hessian,
        form=equalities,
        least_squares=settings.derivative.solver == "least_squares",
        barrier=_checked_barrier(barrier, start.dtype),
        failed_gradient=settings.failed_gradient,
    )
    return _solve(program, choice, settings, start, theta)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _solve(
    program: SmoothProgram, choice: Choice, settings: Settings, start: Array, theta: Parameters
) -> ArgminSolution:
    limits = tolerances(settings, start.dtype)
    fixed = lax.stop_gradient((start, theta))
    outcome = lax.stop_gradient(minimize(program, choice, limits, settings.max_iterations, *fixed))
    failed = outcome.status > Status.ALMOST_SOLVED
    marks = Marks(failed, outcome.point.z > 0)
    point: Point = attach(program, choice, outcome.point, theta, marks)
    return ArgminSolution(
        x=program.layout.unravel(point.x),
        y=point.y,
        objective=_objective(program, point.x, theta, failed, settings),
        status=outcome.status,
        iterations=outcome.iterations,
    )


def _objective(
    program: SmoothProgram, x: Array, theta: Parameters, failed: Array, settings: Settings
) -> Array:
    """f(x); where that failed, with the gradient that failures have."""

    def guarded(leaf: Array) -> Array:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        fixed = lax.stop_gradient(leaf)
        if settings.failed_gradient == "nan":
            fixed = _marked(leaf, failed)
        return jnp.where(failed, fixed, leaf)

    return program.f(guarded(x), jax.tree.map(guarded, theta))


@jax.custom_jvp
def _marked(leaf: Array, failed: Array) -> Array:
    """The leaf itself, with a derivative of NaN where it failed."""
    return leaf


@_marked.defjvp
def _marked_rule(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    leaf, failed = primals
    return leaf, jnp.where(failed, jnp.nan, 0).astype(leaf.dtype) * tangents[0]


def check_smooth_settings(owner: str, settings: Any) -> None:
    """`settings` is a Settings that a smooth program can follow."""
    check_settings(owner, settings)
    if settings.derivative.smoothing != 0:
        raise ValueError(
            f"{owner}: `settings.derivative.smoothing` does not apply; argmin's `barrier` smooths."
        )
    if settings.derivative.solver == "lsmr":
        raise ValueError(
            f"{owner}: `settings.derivative.solver` must be 'direct' or 'least_squares'; got 'lsmr'."
        )


def _check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    if value not in choices:
        wanted = " or ".join(repr(choice) for choice in choices)
        raise ValueError(f"{OWNER}: `{name}` must be {wanted}; got {value!r}.")


def _checked_barrier(barrier: Any, dtype: Any) -> float:
    if barrier is None:
        return _BARRIER[jnp.dtype(dtype).itemsize]
    if isinstance(barrier, bool) or not isinstance(barrier, (int, float)):
        raise TypeError(
            f"{OWNER}: `barrier` must be a Python number (it is static under jit);"
            f" got {type(barrier).__name__}."
        )
    if not (math.isfinite(barrier) and barrier > 0):
        raise ValueError(f"{OWNER}: `barrier` must be finite and greater than 0; got {barrier!r}.")
    return float(barrier)
