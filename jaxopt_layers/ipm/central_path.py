"""A given point of the central path, by Newton's method from a solution.

With v = s - z, the smoothed projections s(v), z(v) satisfy ``s o z = mu e`` for every v, so that only

    Px + q + R'z(v) = 0,    Rx + s(v) - b = 0

is left: smooth equations whose Newton step is the KKT system at (s, z), with dv = ds - dz (Chen &
Mangasarian 1996; the relaxed gradients of Tracy & Manchester 2024 are those of this point).
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxopt_layers.cones import Product
from jaxopt_layers.equilibrate import Scaling
from jaxopt_layers.ipm.start import WarmStart
from jaxopt_layers.ipm.state import Iterate, residuals
from jaxopt_layers.kkt import Form, System, refined_solve
from jaxopt_layers.matrix import constant_like, norm_inf
from jaxopt_layers.problem import Program
from jaxopt_layers.settings import Settings, tolerances

# Step lengths tried by the line search, all at once.
_LENGTHS = tuple(0.5**k for k in range(12))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Path:
    x: Array
    v: Array
    error: Array
    improving: Array
    steps: Array


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
    one = jnp.ones((), dtype)
    mu = settings.derivative.smoothing * scaling.objective
    regularization = jnp.array(tolerances(settings, dtype).regularization, dtype)
    goal = 50 * jnp.finfo(dtype).eps

    def point(x: Array, v: Array) -> Iterate:
        s, z = cone.central_pair(v, mu)
        return Iterate(u=jnp.concatenate([x, z]), s=s, tau=one, kappa=0 * one)

    def error(x: Array, v: Array) -> Array:
        reached = residuals(program, point(x, v))
        size = jnp.maximum(norm_inf(x), norm_inf(v)) + norm_inf(program.offset)
        total = norm_inf(reached) / (1 + size)
        return jnp.where(jnp.isfinite(total), total, jnp.inf)

    def unfinished(path: _Path) -> Array:
        return path.improving & (path.error > goal) & (path.steps < settings.max_iterations)

    def step(path: _Path) -> _Path:
        at = point(path.x, path.v)
        reached = residuals(program, at)
        _, z = program.split(at.u)
        hessian = cone.hessian_diagonal(cone.scaling(at.s, z), dtype)
        system = System(program, hessian, regularization)
        right = -reached[None, :]
        factor = form.factor(system)
        du = refined_solve(form, system, factor, right, settings.refinement_steps)[0]
        dx, dz = program.split(du)
        dv = -(hessian + 1) * dz
        lengths = jnp.array(_LENGTHS, dtype)
        errors = jax.vmap(lambda t: error(path.x + t * dx, path.v + t * dv))(lengths)
        best = jnp.argmin(errors)
        better = errors[best] < path.error
        move = jnp.where(better, lengths[best], 0)
        return _Path(
            x=path.x + move * dx,
            v=path.v + move * dv,
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
    v = s - z
    anchor = program.anchor + x[0] + jnp.sum(v[:1])
    x, v = (value + constant_like(0, anchor, dtype) for value in (x, v))
    improving = constant_like(1, anchor, jnp.int32) > 0
    first = _Path(x, v, error(x, v), improving, constant_like(0, anchor, jnp.int32))
    end = lax.while_loop(unfinished, step, first)
    return point(end.x, end.v)
