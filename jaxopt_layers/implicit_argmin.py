"""`implicit_argmin` and `implicit_kkt`: the derivative of a minimizer that something else has found."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike

from jaxopt_layers.argmin import check_smooth_settings
from jaxopt_layers.checks import as_array, check_shape
from jaxopt_layers.implicit.argmin import Choice, Marks, Point, attach, multipliers_of
from jaxopt_layers.implicit.saddle import Form
from jaxopt_layers.settings import Settings
from jaxopt_layers.smooth import Parameters, SmoothProgram, smooth_program

Solver = TypeVar("Solver", bound=Callable[..., Any])

_DENSE_LIMIT = 500
# An inequality above minus this holds with equality, at a point that some solver has found.
_ACTIVE = {8: 1e-6, 4: 1e-3}


class KKTPoint(NamedTuple):
    """A primal-dual point: x as it was given, multipliers of Ax = b (p,) and of the inequalities (m,)."""

    x: Any
    y: Array
    z: Array


def implicit_argmin(
    objective: Callable[..., Any],
    *,
    equality: Callable[..., Any] | None = None,
    inequality: Callable[..., Any] | None = None,
    hessian: Literal["dense", "cg"] | None = None,
    equalities: Form = "null_space",
    active_tolerance: float | None = None,
    settings: Settings = Settings(),  # noqa: B008 (frozen)
) -> Callable[[Solver], Solver]:
    """A decorator that gives a solver of your own the implicit derivative of the minimizer it finds.

        solver(*params)  =  argmin_x  objective(x, *params)
                            subject to  equality(x, *params) = 0,  inequality(x, *params) <= 0

    The solver may be anything that runs under JAX: a loop of optax, a closed form, [`solve_qp`][], a
    `jax.pure_callback`. It is called as it is, and never differentiated: the derivative comes from the
    optimality conditions of the functions given here (Gould et al. 2016), in forward and reverse mode
    and nested as deep as you like. It is as exact as the point is: the conditions are taken to hold
    there. Multipliers are found from them by least squares, and an inequality that holds with equality
    counts as an equation.

    **Arguments:**

    - `objective`: a function of (x, *params) that returns a scalar, twice differentiable by JAX.
    - `equality`, `inequality`: functions of (x, *params) that return an array, or None.
    - `hessian`: ``"dense"`` forms it, ``"cg"`` uses products with it and conjugate gradients.
      None: "dense" up to n = 500.
    - `equalities`: ``"null_space"`` or ``"direct"``, the same in exact arithmetic, see [`argmin`][].
    - `active_tolerance`: an inequality above minus this holds with equality. None: 1e-6 in float64,
      1e-3 in float32. Looser for a solver that is less exact.
    - `settings`: of these count `failed_gradient` and `derivative.solver`, see [`argmin`][].

    **Returns:** a function that takes a solver and returns one with the same arguments and result. The
    solver takes `params` (pytrees of arrays) by position and returns x, an array or a pytree. Where x
    isn't finite, or the Hessian on the null space of the active constraints isn't positive definite,
    the gradient is zero (or NaN, by `settings.failed_gradient`).

    **Raises:** ValueError or TypeError, naming the argument, for what doesn't fit.

    ```python
    import jax, jax.numpy as jnp, jaxopt_layers as jl

    def ridge(w, X, y, penalty):
        return jnp.sum((X @ w - y) ** 2) + penalty * jnp.sum(w**2)

    @jl.implicit_argmin(ridge)
    def fit(X, y, penalty):  # gradient descent, not differentiated
        step = lambda _, w: w - 0.05 * jax.grad(ridge)(w, X, y, penalty)
        return jax.lax.fori_loop(0, 500, step, jnp.zeros(X.shape[1]))

    X, y = jnp.array([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]]), jnp.array([1.0, 2.0, 1.0])
    jax.jacobian(fit, argnums=2)(X, y, 0.5)
    ```
    """
    owner = "implicit_argmin"
    for name, function in (
        ("objective", objective), ("equality", equality), ("inequality", inequality)
    ):  # fmt: skip
        if not callable(function) and (function is not None or name == "objective"):
            raise TypeError(
                f"{owner}: `{name}` must be a function of x and the params; got {function!r}."
            )
    check_smooth_settings(owner, settings)
    choose = functools.partial(_choice, owner, settings, hessian, equalities)
    choose(1)  # wrong names are errors here already

    def decorate(solver: Solver) -> Solver:
        if not callable(solver):
            raise TypeError(f"{owner}: `solver` must be a function of the params; got {solver!r}.")

        @functools.wraps(solver)
        def solve(*params: Any) -> Any:
            found = lax.stop_gradient(solver(*lax.stop_gradient(params)))
            program, x, theta = smooth_program(
                owner, objective, equality, inequality, ("x", found), params
            )
            choice = choose(x.shape[0])
            tolerance = active_tolerance
            if tolerance is None:
                tolerance = _ACTIVE[x.dtype.itemsize]
            point = _differentiable(program, choice, tolerance, x, theta)
            return jax.tree.map(
                lambda leaf, like: leaf.astype(jnp.result_type(like)),
                program.layout.unravel(point.x),
                found,
            )

        return solve  # pyright: ignore[reportReturnType]

    return decorate


def implicit_kkt(
    objective: Callable[..., Any],
    x: Any,
    y: ArrayLike | None,
    z: ArrayLike | None,
    *params: Any,
    A: ArrayLike | None = None,
    b: ArrayLike | None = None,
    inequality: Callable[..., Any] | None = None,
    hessian: Literal["dense", "cg"] | None = None,
    equalities: Form = "null_space",
    settings: Settings = Settings(),  # noqa: B008 (frozen)
) -> KKTPoint:
    """The derivative of a convex program's primal-dual solution, attached to a point that is given.

        minimize    objective(x, *params)
        subject to  Ax = b,  inequality(x, *params) <= 0

    Returns the point itself. As a function of `params`, `A`, `b` and of what the functions close over it
    has the derivative of the solution map: that of the conditions

        grad objective + A'y + z' grad inequality = 0,  Ax = b,  z o inequality = 0,  z >= 0,

    which are taken to hold. The derivative doesn't go through `x`, `y` and `z`, wherever they come from;
    it works in forward and reverse mode, nested as deep as you like.

    **Arguments:**

    - `objective`, `inequality`: functions of (x, *params), a scalar and an array; twice differentiable.
    - `x`, `y`, `z`: the solution: (n,) or a pytree; (p,), None without A; (m,), None without inequality.
      An inequality is held as an equation where its multiplier exceeds its slack.
    - `A`, `b`: (p, n) and (p,), or None.
    - `hessian`, `equalities`, `settings`: as for [`implicit_argmin`][].

    **Returns:** a [`KKTPoint`][]. Where the point isn't finite, or the Hessian of the Lagrangian isn't
    positive definite on the null space of the active constraints, its gradient is zero (or NaN, by
    `settings.failed_gradient`).

    **Raises:** ValueError or TypeError, naming the argument, for what doesn't fit.

    ```python
    import jax, jax.numpy as jnp, jaxopt_layers as jl

    def nearest(x, point):
        return jnp.sum((x - point) ** 2)

    def on_disc(x, point):
        return jnp.sum(x**2) - 1

    def project(point):  # onto the unit disc, from outside: solution and multiplier in closed form
        length = jnp.linalg.norm(point)
        return jl.implicit_kkt(
            nearest, point / length, None, length[None] - 1, point, inequality=on_disc
        ).x

    jax.jacobian(project)(jnp.array([3.0, 4.0]))
    ```
    """
    owner = "implicit_kkt"
    check_smooth_settings(owner, settings)
    program, start, theta = smooth_program(
        owner, objective, None, inequality, ("x", x), params, (A, b)
    )
    choice = _choice(owner, settings, hessian, equalities, start.shape[0])
    p = 0 if theta.b is None else theta.b.shape[0]
    g = jax.eval_shape(program.g, start, theta)
    duals = []
    for name, value, size in (("y", y, p), ("z", z, g.shape[0])):
        if value is None and size == 0:
            value = jnp.zeros(0, start.dtype)
        array = as_array(owner, name, value)
        check_shape(owner, name, array, (size,), "(p,)" if name == "y" else "(m,)")
        duals.append(array.astype(start.dtype))
    point = lax.stop_gradient(Point(start, *duals))
    slack = -program.g(point.x, lax.stop_gradient(theta))
    failed = ~jnp.all(jnp.isfinite(jnp.concatenate(point)))
    attached = attach(program, choice, point, theta, Marks(failed, point.z > slack))
    return KKTPoint(program.layout.unravel(attached.x), attached.y, attached.z)


def _differentiable(
    program: SmoothProgram, choice: Choice, tolerance: float, x: Array, theta: Parameters
) -> Point:
    fixed = lax.stop_gradient(theta)
    p = jax.eval_shape(program.h, x, fixed).shape[0]
    point, active = multipliers_of(program, x, fixed, p, tolerance)
    failed = ~jnp.all(jnp.isfinite(jnp.concatenate(point)))
    return attach(program, choice, lax.stop_gradient(point), theta, Marks(failed, active))


def _choice(owner: str, settings: Settings, hessian: Any, equalities: Any, n: int) -> Choice:
    if hessian not in ("dense", "cg", None):
        raise ValueError(f"{owner}: `hessian` must be 'dense' or 'cg' or None; got {hessian!r}.")
    if equalities not in ("null_space", "direct"):
        raise ValueError(
            f"{owner}: `equalities` must be 'null_space' or 'direct'; got {equalities!r}."
        )
    least_squares = settings.derivative.solver == "least_squares"
    if hessian == "cg" and least_squares:
        raise ValueError(
            f"{owner}: `settings.derivative.solver` 'least_squares' needs a dense Hessian."
        )
    return Choice(
        hessian=hessian or ("dense" if n <= _DENSE_LIMIT or least_squares else "cg"),
        form=equalities,
        least_squares=least_squares,
        barrier=None,
        failed_gradient=settings.failed_gradient,
    )
