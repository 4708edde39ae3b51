"""The derivative of a smooth program's solution by the implicit function theorem.

At a solution the conditions F(w, theta) = 0 hold for w = (x, y, z):

    F1 = grad_x (f + y'h + z'g),    F2 = h,    F3 = g + mu / z        on the path of the log barrier,
                                               F3_i = g_i, or -z_i where g_i < 0    at a solution itself

so ``dw = -(dF/dw)^-1 dF/dtheta dtheta``. Without constraints this is ``dx = -H^-1 d(grad f)``; with
equalities and with a barrier it is Gould et al. (2016), Lemmas 4.2 and 4.3 (`saddle` has the algebra).
dF/dw is symmetric. Its solve is a `lax.custom_linear_solve`, so that the rule can be transposed and
differentiated again: forward mode, reverse mode and all their compositions come from the one rule.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxopt_layers.implicit.saddle import (
    Dense,
    Form,
    Right,
    Saddle,
    row_inverse,
    solve_by_products,
)
from jaxopt_layers.settings import FailedGradient
from jaxopt_layers.smooth import Multipliers, Parameters, SmoothProgram

Hessian = Literal["dense", "cg"]

# Conjugate gradients for the derivative end at this relative residual.
_TOLERANCE = {8: 1e-13, 4: 1e-6}


class Choice(NamedTuple):
    """What is static about the derivative. `barrier` None: at a solution, by its active set."""

    hessian: Hessian
    form: Form
    least_squares: bool
    barrier: float | None
    failed_gradient: FailedGradient


class Point(NamedTuple):
    """A primal-dual point."""

    x: Array
    y: Array
    z: Array


class Marks(NamedTuple):
    """Of a point: whether it is no solution, and which inequalities hold with equality there."""

    failed: Array
    active: Array


def conditions(
    program: SmoothProgram, choice: Choice, point: Point, theta: Parameters, marks: Marks
) -> Right:
    """F(w, theta)."""
    x, y, z = point
    held = z if choice.barrier is not None else jnp.where(marks.active, z, 0)
    first = jax.grad(program.lagrangian)(x, Multipliers(y, held), theta)
    g = program.g(x, theta)
    third = g + choice.barrier / z if choice.barrier is not None else jnp.where(marks.active, g, -z)
    return Right(first, program.h(x, theta), third)


def linearize(
    program: SmoothProgram,
    hessian: Hessian,
    point: Point,
    theta: Parameters,
    D: Array,
    C_inverse: Array | None = None,
) -> Saddle:
    """dF/dw at a point, for the barrier's form of the conditions."""
    x = point.x
    multipliers = Multipliers(point.y, point.z)

    def product(v: Array) -> Array:
        gradient = partial(jax.grad(program.lagrangian), multipliers=multipliers, theta=theta)
        return jax.jvp(gradient, (x,), (v,))[1]

    H = jax.vmap(product)(jnp.eye(x.shape[0], dtype=x.dtype)) if hessian == "dense" else None
    C = theta.A if theta.A is not None else _jacobian(lambda v: program.h(v, theta), x, point.y)
    J = _jacobian(lambda v: program.g(v, theta), x, point.z)
    return Saddle(product, H, C, row_inverse(C) if C_inverse is None else C_inverse, J, D)


def _jacobian(function: Any, x: Array, like: Array) -> Array:
    if not like.size:
        return jnp.zeros((0, x.shape[0]), x.dtype)
    pull = jax.vjp(function, x)[1]
    return jax.vmap(lambda row: pull(row)[0])(jnp.eye(like.shape[0], dtype=x.dtype))


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def attach(
    program: SmoothProgram, choice: Choice, point: Point, theta: Parameters, marks: Marks
) -> Point:
    """The point itself; its derivative is that of the solution map of `program` at `theta`."""
    return point


@attach.defjvp
def _attach_rule(
    program: SmoothProgram, choice: Choice, primals: Any, tangents: Any
) -> tuple[Point, Point]:
    point, theta, marks = primals
    point = attach(program, choice, point, theta, marks)
    fixed_point, fixed_theta, marks = lax.stop_gradient((point, theta, marks))
    solve, regular = _solver(program, choice, fixed_point, fixed_theta, marks)
    failed = marks.failed | ~regular

    # A failed member's numbers may be NaN: the selects keep every cotangent off them.
    safe_point, safe_theta = jax.tree.map(
        lambda leaf, fixed: jnp.where(failed, jnp.nan_to_num(fixed), leaf),
        (point, theta),
        (fixed_point, fixed_theta),
    )
    leaves, structure = jax.tree.flatten(safe_theta)
    moves = jax.tree.leaves(tangents[1])
    real = [jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves]

    def shifted(*values: Array) -> Right:
        new = iter(values)
        merged = [next(new) if r else leaf for leaf, r in zip(leaves, real, strict=True)]
        theta = jax.tree.unflatten(structure, merged)
        return conditions(program, choice, safe_point, theta, marks)

    values = [leaf for leaf, r in zip(leaves, real, strict=True) if r]
    changes = [jnp.where(failed, 0, move) for move, r in zip(moves, real, strict=True) if r]
    if not changes:
        return point, jax.tree.map(jnp.zeros_like, point)
    moved = jax.jvp(shifted, tuple(values), tuple(changes))[1]
    right = jnp.where(failed, 0, -jnp.concatenate(moved))

    # One vector: a transposition needs every part of the right-hand side to depend on the tangents.
    def product(w: Array) -> Array:
        def at(point: Point) -> Right:
            return conditions(program, choice, point, safe_theta, marks)

        return jnp.concatenate(jax.jvp(at, (safe_point,), (Point(*_split(w, point)),))[1])

    def solved(_: Any, right: Array) -> Array:
        return jnp.concatenate(solve(_split(right, point)))

    found = lax.custom_linear_solve(product, right, solved, symmetric=True)
    found = jnp.where(failed, 0, found)
    if choice.failed_gradient == "nan":
        # Linear in every tangent, so that the transpose marks every cotangent.
        total = sum((jnp.sum(m).astype(found.dtype) for m, r in zip(moves, real, strict=True) if r))
        found = found + jnp.where(failed, jnp.nan, 0) * total
    return point, Point(*_split(found, point))


def _split(v: Array, like: Point) -> Right:
    n, p = like.x.shape[0], like.y.shape[0]
    return Right(v[:n], v[n : n + p], v[n + p :])


def _solver(
    program: SmoothProgram, choice: Choice, point: Point, theta: Parameters, marks: Marks
) -> tuple[Any, Array]:
    """The inverse of dF/dw as a function, and whether it exists."""
    if choice.barrier is not None:
        saddle = linearize(program, choice.hessian, point, theta, point.z**2 / choice.barrier)
    else:
        held = Point(point.x, point.y, jnp.where(marks.active, point.z, 0))
        saddle = linearize(program, choice.hessian, held, theta, jnp.ones_like(point.z))
        saddle = _with_rows_as_equalities(saddle, marks.active)
    p = point.y.shape[0]

    def by_active_set(solve: Any) -> Any:
        """Active inequalities are equalities; the multipliers of the others stay zero."""

        def wrapped(right: Right) -> Right:
            rows = jnp.where(marks.active, right.z, 0)
            found = solve(Right(right.x, jnp.concatenate([right.y, rows]), rows[:0]))
            y, z = found.y[:p], found.y[p:]
            return Right(found.x, y, jnp.where(marks.active, z, -right.z))

        return wrapped if choice.barrier is None else solve

    if choice.hessian == "cg":
        tolerance = _TOLERANCE[point.x.dtype.itemsize]
        finite = jnp.all(jnp.isfinite(saddle.product(jnp.ones_like(point.x))))

        def iterate(right: Right) -> Right:
            found, _ = solve_by_products(saddle, right, tolerance)
            return found

        return by_active_set(iterate), finite

    dense = Dense(saddle, choice.form)
    if choice.least_squares:
        # Positive semidefinite will do.
        shift = jnp.sqrt(jnp.finfo(point.x.dtype).eps).astype(point.x.dtype) * dense.scale
        _, regular = dense.factor(shift)
        return by_active_set(dense.solve_least_squares), regular
    R, regular = dense.factor()
    return by_active_set(lambda right: dense.solve(R, right)), regular


def _with_rows_as_equalities(saddle: Saddle, active: Array) -> Saddle:
    rows = jnp.where(active[:, None], saddle.J, 0)
    C = jnp.concatenate([saddle.C, rows])
    return Saddle(saddle.product, saddle.H, C, row_inverse(C), rows[:0], saddle.D[:0])


def multipliers_of(
    program: SmoothProgram, x: Array, theta: Parameters, p: int, tolerance: float
) -> tuple[Point, Array]:
    """The multipliers at a solution by least squares, and which inequalities hold with equality."""
    gradient = jax.grad(program.f)(x, theta)
    g = program.g(x, theta)
    active = g >= -tolerance
    zeros = Point(x, jnp.zeros(p, x.dtype), jnp.zeros_like(g))
    C = theta.A if theta.A is not None else _jacobian(lambda v: program.h(v, theta), x, zeros.y)
    J = _jacobian(lambda v: program.g(v, theta), x, zeros.z)
    rows = jnp.concatenate([C, jnp.where(active[:, None], J, 0)])
    found = -jnp.matmul(row_inverse(rows).T, gradient, precision=lax.Precision.HIGHEST)
    return Point(x, found[:p], jnp.where(active, found[p:], 0)), active


def is_finite(tree: Any) -> Array:
    """Whether no float in a pytree is NaN."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.all(jnp.stack([~jnp.any(jnp.isnan(leaf)) for leaf in leaves]))
