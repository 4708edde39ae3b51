"""Projection on a cone of R^3 whose curved boundary is made of rays b(t), with inner normals d(t).

A point v outside such a cone K and its polar cone is nearest to one ray of the curved boundary, and
then ``v = sigma b(t) - tau d(t)`` with sigma, tau > 0: Pi_K(v) = sigma b and Pi_K*(-v) = tau d. As b
and d are orthogonal, t is the root of ``h(t) = v'(b x d)``, the univariate equation of Friberg 2021
(Projection onto the exponential cone: a univariate root-finding problem). An inexact root is
harmless: sigma b is then the exact projection of a point at distance ``|h| / |b x d|`` from v.

Let ray = b/|b|, normal = d/|d| and side = +-(ray x normal), P = |Pi_K(v)| and T = |Pi_K*(-v)|. Along
the curve ray and normal turn towards side only (K and K* are dual to each other), so

    ray' = primal_rate side,   normal' = -dual_rate side,   side' = dual_rate normal - primal_rate ray,

and differentiating ``v = P ray - T normal`` gives, with ``rate = P primal_rate + T dual_rate``,

    dt = side'dv / rate,   dP = ray'dv,   dT = -normal'dv,
    DPi(v) = ray ray' + share side side',   share = P primal_rate / rate.

Thus the frame is an eigenbasis of the derivative, with the eigenvalues 1, share and 0. The
projection is homogeneous: v is scaled to unit size first.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike


class Frame(NamedTuple):
    """The orthonormal frame at one ray, and how fast it turns along the curve: functions of t."""

    ray: Array
    side: Array
    normal: Array
    primal_rate: Array
    dual_rate: Array
    log_ratio: Array  # of primal_rate / dual_rate, which may both underflow
    log_ratio_slope: Array  # its derivative


class Decomposition(NamedTuple):
    """``v = primal * ray - dual * normal``, where t is the parameter of the ray."""

    t: Array
    primal: Array
    dual: Array
    ray: Array
    side: Array
    normal: Array
    log_ratio: Array


Curve = Callable[[Any, Array], Frame]  # of the cone's parameter and t


def smallest(dtype: DTypeLike) -> Array:
    """What counts as zero against 1; second derivatives grow like its inverse square, still finite."""
    return jnp.cbrt(jnp.finfo(dtype).tiny).astype(dtype)


def normalize(v: Array) -> tuple[Array, Array]:
    """(v / size, size), with size a constant: whoever is homogeneous loses no derivative by it.

    Second derivatives grow like 1 / size, and stop growing near v = 0, before they overflow.
    """
    value = jax.lax.stop_gradient(v)
    tiny = jnp.finfo(v.dtype).tiny
    size = jnp.maximum(jnp.maximum(abs(value[0]), abs(value[1])), jnp.maximum(abs(value[2]), tiny))
    return value / size + (v - value) / jnp.maximum(size, tiny**0.25), size


def find_root(
    slope_and_value: Callable[[Array], tuple[Array, Array]],
    low: Array,
    high: Array,
    halvings: int,
    newton_steps: int = 7,
) -> Array:
    """The root in [low, high] of a function that crosses zero upwards and once: halvings, then Newton.

    Along the curves here all terms vary like exp(t) or slower, so that Newton's method converges
    quadratically once the bracket is short against 1.
    """

    def step(count: int, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        low, high, t = state
        slope, value = slope_and_value(t)
        low, high = jnp.where(value <= 0, t, low), jnp.where(value <= 0, high, t)
        middle = 0.5 * (low + high)
        newton = t - value / jnp.where(slope > 0, slope, 1)
        # Beyond the bracket by no more than its length: rounding, at an end that is the root itself.
        near = (slope > 0) & (jnp.abs(newton - middle) <= high - low)
        newton = jnp.clip(newton, low, high)
        return low, high, jnp.where((count >= halvings) & near, newton, middle)

    start = (low, high, 0.5 * (low + high))
    return jax.lax.fori_loop(0, halvings + newton_steps, step, start)[2]


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def decompose(curve: Curve, parameter: Any, root: Array, v: Array) -> Decomposition:
    """The decomposition of v as a differentiable function of v, where `root` is the value of t."""
    frame = curve(parameter, root)
    # Rounding alone makes the lengths negative, at the two ends of the bracket.
    primal = jnp.maximum(inner(frame.ray, v), 0)
    dual = jnp.maximum(-inner(frame.normal, v), 0)
    return Decomposition(root, primal, dual, frame.ray, frame.side, frame.normal, frame.log_ratio)


@decompose.defjvp
def _decompose_jvp(curve: Curve, primals: Any, tangents: Any) -> tuple[Any, Any]:
    """Through the differentials above, in terms of the result: derivatives of any order are right."""
    parameter, root, v = primals
    dv = tangents[2]
    result = decompose(curve, parameter, root, v)
    ray, side, normal = result.ray, result.side, result.normal
    frame = curve(parameter, result.t)
    rate = result.primal * frame.primal_rate + result.dual * frame.dual_rate
    dt = inner(side, dv) / jnp.maximum(rate, smallest(v.dtype))
    ray_turn, normal_turn = frame.primal_rate * dt, -frame.dual_rate * dt
    return result, Decomposition(
        t=dt,
        primal=inner(ray, dv),
        dual=-inner(normal, dv),
        ray=ray_turn * side,
        side=-(ray_turn * ray + normal_turn * normal),
        normal=normal_turn * side,
        log_ratio=frame.log_ratio_slope * dt,
    )


def side_share(parts: Decomposition) -> Array:
    """The eigenvalue of the derivative along `side`, in [0, 1]."""
    primal = parts.primal * jnp.exp(jnp.minimum(parts.log_ratio, 0))
    dual = parts.dual * jnp.exp(-jnp.maximum(parts.log_ratio, 0))
    return primal / jnp.maximum(primal + dual, smallest(primal.dtype))


def spectral_matrix(values: Array, vectors: Array) -> Array:
    """``U diag(values) U'``, exactly symmetric."""
    columns = vectors.T
    terms = [values[k] * (columns[k][:, None] * columns[k][None, :]) for k in range(3)]
    return terms[0] + terms[1] + terms[2]


def spectral_product(values: Array, vectors: Array, u: Array) -> Array:
    """``U diag(values) U' u``."""
    columns = vectors.T
    terms = [values[k] * inner(columns[k], u) * columns[k] for k in range(3)]
    return terms[0] + terms[1] + terms[2]


def inner(a: Array, b: Array) -> Array:
    """a'b of triples, written out: it fuses, and keeps single precision on every device."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def cross(a: Array, b: Array) -> Array:
    """a x b, written out like `inner`."""
    return jnp.stack(
        [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
    )
