"""Newton's method on the residual map, from a solution: to the last digits, or to the central path.

With w = s - z, and s(w), z(w) the projections on K and on the polar cone (their derivative being S and
S - I), a solution is a root of

    Px + q + R'z(w) = 0,    Rx + s(w) - b = 0.

An interior-point method leaves a curved cone's s and z misaligned by the square root of their product,
which neither the gap nor the residuals show; but derivatives do. These equations don't have s'z in them:
a step or two put that right (Busseti, Moursi & Boyd 2019, "Solution refinement at regular points of conic
problems"). With the projections smoothed, so that ``s o z = mu e`` for every w, the root is a given point of
the central path (Chen & Mangasarian 1996), which the relaxed gradients of Tracy & Manchester (2024) are of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxopt_layers.cones import Product, Rotation
from jaxopt_layers.equilibrate import Scaling
from jaxopt_layers.ipm.start import WarmStart
from jaxopt_layers.ipm.state import Iterate, residuals
from jaxopt_layers.kkt import Form, ProjectedSystem, refined_solve
from jaxopt_layers.matrix import constant_like, norm_inf
from jaxopt_layers.problem import Program
from jaxopt_layers.settings import Settings, tolerances

# Step lengths tried by the line search, all at once.
_LENGTHS = tuple(0.5**k for k in range(12))
# From a solution one or two steps do it.
_REFINEMENTS = 4
# Errors in units of rounding at which no step is worth its cost: on the map itself, and on the smoothed one.
_EXACT, _SMOOTH = 8, 50


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Path:
    x: Array
    w: Array
    error: Array
    improving: Array
    steps: Array


@dataclass(frozen=True)
class _Map:
    """The map for one program, exact or smoothed by mu."""

    program: Program
    cone: Product
    mu: Array | None

    def point(self, x: Array, w: Array) -> Iterate:
        """The iterate of (x, w), with tau = 1."""
        if self.mu is None:
            s = self.cone.project(w)
            z = s - w
        else:
            s, z = self.cone.central_pair(w, self.mu)
        one = jnp.ones((), x.dtype)
        return Iterate(u=jnp.concatenate([x, z]), s=s, tau=one, kappa=0 * one)

    def spectrum(self, w: Array) -> tuple[Array, Rotation]:
        if self.mu is None:
            return self.cone.project_spectrum(w)
        return self.cone.central_spectrum(w, self.mu)

    def error(self, x: Array, w: Array) -> Array:
        """How far from a root, relative to the size of the point; infinite where not finite."""
        reached = residuals(self.program, self.point(x, w))
        size = jnp.maximum(norm_inf(x), norm_inf(w)) + norm_inf(self.program.offset)
        total = norm_inf(reached) / (1 + size)
        return jnp.where(jnp.isfinite(total), total, jnp.inf)

    def step(self, form: Form, x: Array, w: Array, regularization: Array, passes: int) -> Array:
        """(dx, dw) of Newton's method."""
        projected = ProjectedSystem.at(self.program, *self.spectrum(w), regularization)
        factor = form.factor(projected.system)

        def solve(right: Array) -> Array:
            return refined_solve(form, projected.system, factor, right[None, :], passes)[0]

        moved = projected.solve(self.program, -residuals(self.program, self.point(x, w)), solve)
        # The map's second unknown is z - s.
        n = x.shape[0]
        return jnp.concatenate([moved[:n], -moved[n:]])


def _iterate(
    search: _Map, form: Form, x: Array, w: Array, step: Callable[[_Path], _Path], most: int
) -> _Path:
    goal = (_EXACT if search.mu is None else _SMOOTH) * jnp.finfo(x.dtype).eps

    def unfinished(path: _Path) -> Array:
        return path.improving & (path.error > goal) & (path.steps < most)

    anchor = search.program.anchor + x[0] + jnp.sum(w[:1])
    x, w = (value + constant_like(0, anchor, x.dtype) for value in (x, w))
    improving = constant_like(1, anchor, jnp.int32) > 0
    first = _Path(x, w, search.error(x, w), improving, constant_like(0, anchor, jnp.int32))
    return lax.while_loop(unfinished, step, first)


def refined_point(
    program: Program,
    cone: Product,
    form: Form,
    settings: Settings,
    iterate: Iterate,
    solved: Array,
) -> Iterate:
    """The root near a solution, where `solved`; every step that makes the residual smaller is taken."""
    dtype = program.linear.dtype
    search = _Map(program, cone, None)
    regularization = jnp.array(tolerances(settings, dtype).regularization, dtype)
    inverse = 1 / jnp.where(solved, iterate.tau, 1)
    x, z = program.split(iterate.u * inverse)

    def step(path: _Path) -> _Path:
        move = search.step(form, path.x, path.w, regularization, settings.refinement_steps)
        n = path.x.shape[0]
        x, w = path.x + move[:n], path.w + move[n:]
        error = search.error(x, w)
        better = error < path.error
        return _Path(
            x=jnp.where(better, x, path.x),
            w=jnp.where(better, w, path.w),
            error=jnp.where(better, error, path.error),
            improving=error < 0.5 * path.error,
            steps=path.steps + 1,
        )

    # A member without a solution is given no steps: its error counts as zero.
    start = iterate.s * inverse - z
    x, start = jnp.where(solved, x, 0), jnp.where(solved, start, 0)
    end = _iterate(search, form, x, start, step, _REFINEMENTS)
    refined = search.point(end.x, end.w)
    return jax.tree.map(lambda new, old: jnp.where(solved, new, old), refined, iterate)


def central_path_point(
    program: Program,
    cone: Product,
    form: Form,
    scaling: Scaling,
    settings: Settings,
    start: WarmStart,
) -> Iterate:
    """The scaled program's point with ``s o z = smoothing`` in the user's units."""
    dtype = program.linear.dtype
    search = _Map(program, cone, settings.derivative.smoothing * scaling.objective)
    regularization = jnp.array(tolerances(settings, dtype).regularization, dtype)

    def step(path: _Path) -> _Path:
        move = search.step(form, path.x, path.w, regularization, settings.refinement_steps)
        n = path.x.shape[0]
        lengths = jnp.array(_LENGTHS, dtype)
        errors = jax.vmap(lambda t: search.error(path.x + t * move[:n], path.w + t * move[n:]))(
            lengths
        )
        best = jnp.argmin(errors)
        better = errors[best] < path.error
        length = jnp.where(better, lengths[best], 0)
        return _Path(
            x=path.x + length * move[:n],
            w=path.w + length * move[n:],
            error=jnp.minimum(errors[best], path.error),
            improving=better,
            steps=path.steps + 1,
        )

    x = scaling.scale_primal(start.x)
    s, z = scaling.scale_slack(start.s), scaling.scale_dual(start.z)
    rows = program.rows
    if rows.active is not None:
        s, z = jnp.where(rows.active > 0, s, 1), jnp.where(rows.active > 0, z, 0)
    if rows.free is not None:
        x = x * rows.free
    end = _iterate(search, form, x, s - z, step, settings.max_iterations)
    return search.point(end.x, end.w)
