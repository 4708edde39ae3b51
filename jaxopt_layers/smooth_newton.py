"""Newton's method with line search for a smooth program, along the path of its log barrier.

The inequalities get slacks, ``g(x) + s = 0, s > 0``, and every iterate is a Newton step on

    grad f + C'y + J'z = 0,    h(x) = 0,    g(x) + s = 0,    s o z = mu

(Boyd & Vandenberghe 2004, section 11.7), whose solution for a given mu is the minimizer of
``f - mu sum(log(-g))`` with multipliers ``z = mu / -g``. mu falls to `barrier` and stays there. Neither
constraint needs to hold at the start; f, g and h are only evaluated where the line search goes, and a
step to where they aren't finite is shortened.

Where the Hessian is not positive definite a multiple of the identity makes it so. A step is accepted
if it reduces the norm of the conditions or, as it must where the Hessian was changed, the exact penalty
function ``f - mu sum(log s) + nu (|h|_1 + |g + s|_1)``: a descent method, so that it doesn't end at a
maximum.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxopt_layers.implicit.argmin import Choice, Point, is_finite, linearize
from jaxopt_layers.implicit.saddle import Dense, Right, Saddle, row_inverse, solve_by_products
from jaxopt_layers.matrix import dot, matmul, norm_inf
from jaxopt_layers.settings import Tolerances
from jaxopt_layers.smooth import Multipliers, Parameters, SmoothProgram
from jaxopt_layers.status import Status

RUNNING = -1
_TO_BOUNDARY = 0.995
_OFF_CENTER = 1e-3
_SHORTEST = 1e-9
_SUFFICIENT = 1e-4
# Shifts of the Hessian, relative to it, that are tried: the first is for one that is only singular.
_SHIFTS = (0.0, 1e-8, *(1e-3 * 4.0**k for k in range(10)))
_FAR, _NEAR = 1e6, 10.0
# Where the objective is below minus the first, or x beyond the second, it counts as unbounded.
_UNBOUNDED = {8: (1e15, 1e9), 4: (1e10, 1e6)}


class Iterate(NamedTuple):
    """Where the method is."""

    x: Array
    y: Array
    z: Array
    s: Array
    status: Array
    iterations: Array


class Outcome(NamedTuple):
    """The last iterate and how it ended."""

    point: Point
    status: Array
    iterations: Array


class _Residual(NamedTuple):
    dual: Array
    equality: Array
    slack: Array
    product: Array

    def norm(self) -> Array:
        return jnp.sqrt(
            sum((jnp.sum(part**2) for part in self), start=jnp.zeros((), self.dual.dtype))
        )


class _Quality(NamedTuple):
    """The largest violation, relative to what it compares; `strict` asks for the barrier's parameter.

    `infeasible`: no point within a million times the size of x satisfies the constraints.
    `infeasible_nearby`: within ten times; the verdict only where the method got stuck.
    """

    worst: Array
    strict: Array
    infeasible: Array
    infeasible_nearby: Array


def minimize(
    program: SmoothProgram,
    choice: Choice,
    limits: Tolerances,
    max_iterations: int,
    start: Array,
    theta: Parameters,
) -> Outcome:
    """Solve a program from a starting point (n,)."""
    barrier = choice.barrier or 0.0
    initial, C_inverse = _initial(program, start, theta, limits)

    def advance(at: Iterate) -> Iterate:
        new = _advance(program, choice, limits, barrier, start, at, theta, C_inverse)
        ended = (new.status == RUNNING) & (new.iterations >= max_iterations)
        status = jnp.where(ended, Status.MAX_ITERATIONS, new.status)
        return new._replace(status=status.astype(jnp.int32))

    last = lax.while_loop(lambda at: at.status == RUNNING, advance, initial)
    return Outcome(Point(last.x, last.y, last.z), last.status, last.iterations)


def _initial(
    program: SmoothProgram, start: Array, theta: Parameters, limits: Tolerances
) -> tuple[Iterate, Array]:
    """The start, moved onto the equalities where the functions are finite there."""
    x, dtype = start, start.dtype

    def finite_at(v: Array) -> Array:
        value, gradient = jax.value_and_grad(program.f)(v, theta)
        return (
            jnp.isfinite(value)
            & jnp.all(jnp.isfinite(gradient))
            & jnp.all(jnp.isfinite(program.g(v, theta)))
        )

    valid = is_finite((x, theta)) & jnp.all(jnp.isfinite(x)) & finite_at(x)
    inconsistent = valid & ~valid
    if theta.A is None or theta.b is None:
        C_inverse = jnp.zeros((x.shape[0], 0), dtype)
    else:
        A, b = theta.A, theta.b
        valid &= jnp.all(jnp.isfinite(A)) & jnp.all(jnp.isfinite(b))
        C_inverse = row_inverse(jnp.where(valid, A, 0))
        onto = x - matmul(C_inverse, matmul(A, x) - b)
        x = jnp.where(finite_at(onto), onto, x)
        rows = jnp.sqrt(jnp.sum(A**2, axis=1))
        left = matmul(A, onto) - b
        size = jnp.abs(b) + rows * norm_inf(onto) + jnp.where(rows > 0, 0, 1)
        inconsistent = valid & jnp.any(jnp.abs(left) > limits.reduced_tolerance * size)
    g = program.g(x, theta)
    size = jnp.maximum(norm_inf(g), 1)
    s = jnp.where(g < -1e-2 * size, -g, 0.1 * size)
    status = jnp.where(inconsistent, Status.PRIMAL_INFEASIBLE, RUNNING)
    status = jnp.where(valid, status, Status.INVALID_INPUT).astype(jnp.int32)
    zero = 0 * C_inverse[0]
    iterations = (0 * status).astype(jnp.int32)
    return Iterate(x, jnp.where(valid, zero, 0), 1 / s, s, status, iterations), C_inverse


def _residual(
    program: SmoothProgram, at: Iterate, theta: Parameters, mu: Array | float
) -> _Residual:
    gradient = jax.grad(program.lagrangian)(at.x, Multipliers(at.y, at.z), theta)
    return _Residual(
        gradient, program.h(at.x, theta), program.g(at.x, theta) + at.s, at.s * at.z - mu
    )


def _quality(
    program: SmoothProgram,
    at: Iterate,
    theta: Parameters,
    saddle: Saddle,
    residual: _Residual,
    barrier: float,
    tolerance: float,
) -> _Quality:
    """How far the conditions at the end of the path are from holding; a certificate, if there is one."""
    pull = matmul(saddle.C.T, at.y) + matmul(saddle.J.T, at.z)
    gradient = residual.dual - pull
    terms = jnp.maximum(norm_inf(gradient), norm_inf(pull))
    dual = norm_inf(residual.dual) / (1 + terms)
    reach = 0 * dual if theta.b is None else norm_inf(theta.b)
    primal = norm_inf(residual.equality) / (1 + reach)
    primal = jnp.maximum(primal, norm_inf(residual.slack) / (1 + norm_inf(at.s)))
    worst = jnp.maximum(dual, primal)
    if not at.s.size:
        strict = worst
    else:
        centrality = norm_inf(at.s * at.z - barrier)
        strict = jnp.maximum(worst, centrality * (tolerance / min(tolerance, 0.1 * barrier)))
        worst = jnp.maximum(worst, centrality)
    # For convex g: at every point the sum is at least its value here plus its slope times the way.
    excess = dot(at.z, residual.slack - at.s) + dot(at.y, residual.equality)
    reach_of_x = 1 + norm_inf(at.x)
    slope = jnp.sum(jnp.abs(pull))
    return _Quality(
        worst, strict, excess > _FAR * reach_of_x * slope, excess > _NEAR * reach_of_x * slope
    )


class _Direction(NamedTuple):
    move: Right
    ds: Array
    unchanged: Array
    acceptable: Array


def _advance(
    program: SmoothProgram,
    choice: Choice,
    limits: Tolerances,
    barrier: float,
    start: Array,
    at: Iterate,
    theta: Parameters,
    C_inverse: Array,
) -> Iterate:
    """One step, or the end: the last factorization tells whether the end is a minimum."""
    saddle = linearize(
        program, choice.hessian, Point(at.x, at.y, at.z), theta, at.z / at.s, C_inverse
    )
    residual = _residual(program, at, theta, barrier)
    quality = _quality(program, at, theta, saddle, residual, barrier, limits.tolerance)
    mu = _next_barrier(at, residual, barrier)
    residual = residual._replace(product=at.s * at.z - mu)
    direction = _direction(choice, saddle, at, residual)

    converged = quality.strict <= limits.tolerance
    new, moved = _line_search(program, at, theta, residual, mu, direction, converged)
    f = program.f(new.x, theta)
    lowest, furthest = _UNBOUNDED[at.x.dtype.itemsize]
    unbounded = (f < -lowest) | (norm_inf(new.x - start) > furthest * (1 + norm_inf(start)))
    stuck = ~moved & ~converged
    solved = jnp.where(direction.acceptable, Status.SOLVED, Status.NUMERICAL_ERROR)
    almost = jnp.where(direction.acceptable, Status.ALMOST_SOLVED, Status.NUMERICAL_ERROR)
    almost = jnp.where(quality.worst <= limits.tolerance, solved, almost)
    stopped = jnp.where(quality.worst <= limits.reduced_tolerance, almost, Status.NUMERICAL_ERROR)
    stopped = jnp.where(quality.infeasible_nearby, Status.PRIMAL_INFEASIBLE, stopped)
    status = jnp.where(stuck, stopped, RUNNING)
    status = jnp.where(unbounded, Status.DUAL_INFEASIBLE, status)
    status = jnp.where(quality.infeasible, Status.PRIMAL_INFEASIBLE, status)
    status = jnp.where(converged, solved, status).astype(jnp.int32)
    return new._replace(status=status, iterations=at.iterations + 1)


def _next_barrier(at: Iterate, residual: _Residual, barrier: float) -> Array:
    """A tenth, or less when the conditions nearly hold and convergence is superlinear."""
    if not at.s.size:
        return jnp.zeros((), at.x.dtype)
    mean = dot(at.s, at.z) / at.s.shape[0]
    error = jnp.maximum(norm_inf(residual.dual), norm_inf(residual.slack))
    near = error <= mean
    target = jnp.where(near, jnp.minimum(0.1 * mean, mean**1.5), 0.1 * mean)
    # A product far below the others is brought back to them first, or it would block every step.
    target = jnp.where(jnp.min(at.s * at.z) < _OFF_CENTER * mean, mean, target)
    return jnp.maximum(target, barrier)


def _direction(choice: Choice, saddle: Saddle, at: Iterate, residual: _Residual) -> _Direction:
    right = Right(-residual.dual, -residual.equality, residual.product / at.z - residual.slack)
    if choice.hessian == "cg":
        size = residual.norm()
        goal = jnp.clip(1e-3 * size, 1e-2 * jnp.finfo(size.dtype).eps ** 0.5, 1e-2)
        move, convex = solve_by_products(saddle, right, goal)
        unchanged = acceptable = convex
    else:
        dense = Dense(saddle, "null_space" if choice.form == "null_space" else "direct")
        R, shift = _positive_definite(dense)
        move = dense.solve(R, right)
        unchanged = shift == 0
        enough = 1.01 * _SHIFTS[1] * dense.scale
        acceptable = shift <= enough if choice.least_squares else unchanged
    ds = -(residual.product + at.s * move.z) / at.z
    return _Direction(move, ds, unchanged, acceptable)


class _Shifted(NamedTuple):
    shift: Array
    R: Array
    definite: Array
    tries: Array


def _positive_definite(dense: Dense) -> tuple[Array, Array]:
    """The factor of the Hessian plus the first multiple of I that makes it positive definite."""

    def attempt(last: _Shifted) -> _Shifted:
        shift = jnp.asarray(_SHIFTS, dense.K.dtype)[last.tries] * dense.scale
        R, definite = dense.factor(shift)
        return _Shifted(shift, R, definite, last.tries + 1)

    zero = 0 * dense.scale
    start = _Shifted(zero, 0 * dense.K, zero > 0, (0 * zero).astype(jnp.int32))
    found = lax.while_loop(
        lambda last: ~last.definite & (last.tries < len(_SHIFTS)), attempt, start
    )
    return found.R, found.shift


class _Search(NamedTuple):
    length: Array
    accepted: Array


def _line_search(
    program: SmoothProgram,
    at: Iterate,
    theta: Parameters,
    residual: _Residual,
    mu: Array,
    direction: _Direction,
    converged: Array,
) -> tuple[Iterate, Array]:
    """Backtracking; at a converged point one full step is tried, for the last digits."""
    move, ds = direction.move, direction.ds
    before = residual.norm()
    largest = jnp.ones((), at.x.dtype)
    for value, change in ((at.s, ds), (at.z, move.z)):
        ratio = jnp.where(change < 0, -_TO_BOUNDARY * value / jnp.where(change < 0, change, 1), 1)
        largest = jnp.minimum(largest, jnp.min(ratio, initial=1))

    def at_length(length: Array) -> Iterate:
        return at._replace(
            x=at.x + length * move.x,
            y=at.y + length * move.y,
            z=at.z + length * move.z,
            s=at.s + length * ds,
        )

    multipliers = jnp.concatenate([at.y + move.y, at.z + move.z])
    weight = 2 * norm_inf(multipliers) + 1

    def merit(x: Array, s: Array) -> Array:
        violation = jnp.sum(jnp.abs(program.h(x, theta)))
        violation = violation + jnp.sum(jnp.abs(program.g(x, theta) + s))
        return program.f(x, theta) - mu * jnp.sum(jnp.log(s)) + weight * violation

    merit_before = merit(at.x, at.s)
    violation = jnp.sum(jnp.abs(residual.equality)) + jnp.sum(jnp.abs(residual.slack))
    slope = dot(jax.grad(program.f)(at.x, theta), move.x) - mu * jnp.sum(ds / at.s)
    slope = slope - weight * violation

    def try_length(search: _Search) -> _Search:
        length = jnp.where(search.length < 0, largest, 0.5 * search.length)
        trial = at_length(length)
        after = _residual(program, trial, theta, mu).norm()
        shorter = direction.unchanged & (after <= (1 - _SUFFICIENT * length) * before)
        lower = merit(trial.x, trial.s) <= merit_before + _SUFFICIENT * length * slope
        finite = jnp.isfinite(after) & jnp.isfinite(merit(trial.x, trial.s))
        return _Search(length, finite & (shorter | (lower & (slope < 0))))

    def unfinished(search: _Search) -> Array:
        more = ~search.accepted & (search.length > _SHORTEST) & ~converged
        return more | (search.length < 0)

    start = _Search(0 * before - 1, before < 0)
    search = lax.while_loop(unfinished, try_length, start)
    moved = search.accepted & (~converged | direction.unchanged) & (search.length > _SHORTEST)
    length = jnp.where(moved, search.length, 0)
    trial = at_length(length)
    new = jax.tree.map(partial(jnp.where, moved), trial, at)
    return new, moved
