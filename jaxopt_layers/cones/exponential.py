"""The exponential cone and its dual.

``K = closure {(x, y, z): y exp(x / y) <= z, y > 0}``, and
``K* = closure {(u, v, w): -u exp(v / u) <= e w, u < 0}``.

The barrier of K* is ``f*(z) = -log r - log(-z1) - log z3`` with the distance
``r = z2 - z1 - z1 l``, ``l = log(z3 / -z1)`` (Nesterov 2018; Dahl & Andersen 2022). Its gradient is

    -grad f*(z) = (1/z1 - l/r,  1/r,  (1 - z1/r) / z3).                                        (1)

**Gradient of the conjugate barrier f.** Solving (1) for z: with ``tau = -r / z1``,
``tau + log(1 + tau) = log(s3/s2) - s1/s2`` (that makes 1 + tau a value of the Wright omega
function; Serrano 2015), and ``z = (-1, 2 tau - 1 + s1/s2, (1 + tau) s2/s3) / (tau s2)``.

**Central pairs.** With the unknown ``q = s1/s2``, and m for -z1, the first two rows of s - z = v
are ``q s2 + m = v1`` and ``s2 - 2/s2 + (1 - q) m = v2``. They give a quadratic equation for s2,

    (1 - q + q^2) s2^2 + ((1 - q) v1 - v2) s2 - 2 = 0,                                          (2)

whose positive root falls from q = -infinity to the limit where m vanishes. Between the two the
third row, s3 - (1 + m s2)/s3 = v3, leaves ``log(s3/s2) - q - tau - log(1 + tau) = 0``, tau = 1/(m s2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from jaxopt_layers.cones.nonsymmetric import DualCone, PrimalCone, Projection
from jaxopt_layers.cones.project_exponential import (
    project_exponential,
    project_product_exponential,
    spectrum_exponential,
)
from jaxopt_layers.cones.three_dimensional import Barrier, falling_root, positive_pair

#: The point with e = -grad f*(e).
UNIT = (-1.0513839437502289, 0.5564096186043384, 1.2589678864644603)
PROJECTION = Projection(project_exponential, spectrum_exponential, project_product_exponential)
#: Newton steps for tau, from a lower bound within a fifth.
OMEGA_ITERATIONS = 4


class _ExponentialFunctions:
    """What the cone and its dual are both described by: the functions of the primal one."""

    @property
    def functions(self) -> Barrier:
        return BARRIER

    @property
    def projection(self) -> Projection:
        return PROJECTION

    def unit(self, dtype: DTypeLike) -> Array:
        return jnp.array(UNIT, dtype)


@dataclass(frozen=True)
class Exponential(_ExponentialFunctions, PrimalCone):
    """One triple ``y exp(x / y) <= z``."""


@dataclass(frozen=True)
class DualExponential(_ExponentialFunctions, DualCone):
    """One triple ``-u exp(v / u) <= e w``."""


def interior(s: Array) -> Array:
    return (s[1] > 0) & (s[2] > 0) & (s[1] * jnp.log(s[2] / s[1]) > s[0])


def dual_interior(z: Array) -> Array:
    return (z[0] < 0) & (z[2] > 0) & (distance(z) > 0)


def distance(z: Array) -> Array:
    """``r``: positive inside the dual cone and zero on its boundary."""
    return z[1] - z[0] - z[0] * jnp.log(-z[2] / z[0])


def dual_value(z: Array) -> Array:
    return -jnp.log(distance(z)) - jnp.log(-z[0]) - jnp.log(z[2])


def dual_gradient(z: Array, distance: Array) -> Array:
    """Equation (1)."""
    logarithm = jnp.log(-z[2] / z[0])
    first = logarithm / distance - 1 / z[0]
    return jnp.stack([first, -1 / distance, (z[0] / distance - 1) / z[2]])


def dual_factor(z: Array, distance: Array) -> Array:
    """C with ``C C' = grad^2 f*(z)``.

    That is ``(grad r)(grad r)' / r^2 - grad^2 r / r + diag(1/z1^2, 0, 1/z3^2)``, where grad^2 r is
    of rank one, ``q q' / z1`` with q = (1, 0, -z1/z3). So the last two terms are, in the first and
    the last coordinate, ``D (I + k 1 1') D`` with D = diag(-1/z1, 1/z3) and k = -z1/r: eigenvectors
    (1, 1) and (1, -1), eigenvalues 1 + 2 k and 1.
    """
    zero = jnp.zeros_like(distance)
    along = jnp.sqrt(0.5 - z[0] / distance)
    across = jnp.full_like(distance, 0.5**0.5)
    first = jnp.stack([-jnp.log(-z[2] / z[0]) / distance, -along / z[0], -across / z[0]])
    second = jnp.stack([1 / distance, zero, zero])
    third = jnp.stack([-z[0] / distance, along, -across]) / z[2]
    return jnp.stack([first, second, third])


def _omega(s: Array) -> Array:
    """tau with ``tau + log(1 + tau) = log(s3/s2) - s1/s2``, kept positive."""
    target = jnp.log(s[2] / s[1]) - s[0] / s[1]
    target = jnp.maximum(target, jnp.finfo(s.dtype).tiny)
    # Both are lower bounds; from below Newton's method rises to the root of a concave function.
    tau = jnp.maximum(0.5 * target, target - jnp.log1p(target))

    def newton(_: int, tau: Array) -> Array:
        return tau + (target - tau - jnp.log1p(tau)) * ((1 + tau) / (2 + tau))

    # A loop, so that everything made of tau sees the same one (see `settled`).
    return lax.fori_loop(0, OMEGA_ITERATIONS, newton, tau)


def value(s: Array) -> Array:
    tau = _omega(s)
    return jnp.log1p(tau) - 2 * jnp.log(tau) - 2 * jnp.log(s[1]) - jnp.log(s[2]) - 3


def gradient(s: Array) -> Array:
    tau = _omega(s)
    scale = 1 / (tau * s[1])
    return jnp.stack([scale, -scale * (2 * tau - 1 + s[0] / s[1]), -(1 + tau) / (tau * s[2])])


class _Search(NamedTuple):
    """Where to look for q = s1/s2 in the equation of a central pair."""

    v: Array
    highest: Array  # s2 where m = 0
    limit: Array  # q there, which is the upper end of its range
    near: Array  # 1 where what must be accurate is the offset of q from its limit, 0 elsewhere


def _point(y: Array, search: _Search) -> tuple[Array, Array, Array]:
    """(s, z) by equation (2) and what is left of the last equation.

    Near the limit ``q = limit - exp(-y)``, elsewhere ``q = sinh(y)``; both rise with y.
    """
    v, highest, limit, near = search
    grown, shrunk = jnp.exp(y), jnp.exp(-y)
    ratio = jnp.where(near > 0, limit - shrunk, 0.5 * (grown - shrunk))
    offset = jnp.where(near > 0, shrunk, limit - ratio)
    size = lax.stop_gradient(jnp.maximum(jnp.abs(ratio), 1))
    inverse, relative = 1 / size, ratio / size
    leading = inverse**2 - relative * inverse + relative**2
    linear = (inverse - relative) * v[0] - inverse * v[1]
    s2 = inverse * positive_pair(-linear / leading, 2 / leading)[0]
    s1 = ratio * s2
    # m = v1 - q s2 without its cancellation, by (s2 - highest)(s2 + 2/highest) = -(1 - q) m s2.
    m = offset * highest / (1 + s1 * ((ratio - 1) / (s2 + 2 / highest)))
    m = jnp.maximum(m, jnp.finfo(v.dtype).tiny)
    inner = m * s2
    s3, z3 = positive_pair(v[2], 1 + inner)
    tau = (1 / m) / s2  # one after the other, for the range of its derivative
    residual = jnp.log(s3 / s2) - ratio - tau - jnp.log1p(tau)
    s = jnp.stack([s1, s2, s3])
    # The two agree by (2); which one cancels depends on the sign of v2.
    z2 = jnp.where(v[1] > 0, (2 - inner * (1 - ratio)) / s2, s2 - v[1])
    z = jnp.stack([-m, z2, z3])
    return s, z, residual


def _residual(y: Array, search: _Search) -> Array:
    return _point(y, search)[2]


def central(v: Array) -> tuple[Array, Array, Array]:
    """(s, z, r) with ``s - z = v`` and ``s = -grad f*(z)``; each entry accurate for itself."""
    highest, _ = positive_pair(v[1], 2.0)
    limit = v[0] / highest
    search = _Search(v, highest, limit, jnp.ones_like(limit))
    reach = 0.6 * jnp.log(jnp.finfo(v.dtype).max)
    # The residual falls as q rises: does it vanish nearer to the limit than half of its size?
    margin = 0.5 * jnp.maximum(jnp.abs(limit), 1)
    middle = jnp.maximum(-jnp.log(margin), -reach)
    near = _residual(middle, search) > 0
    lower = jnp.where(near, middle, -reach)
    upper = jnp.where(near, middle + reach, jnp.clip(jnp.arcsinh(limit - margin), -reach, reach))
    start = jnp.where(near, middle, jnp.minimum(upper, 0))
    search = search._replace(near=lax.stop_gradient(near.astype(v.dtype)))
    y = falling_root(_residual, lower, start, upper, search)
    s, z, _ = _point(y, search)
    return s, z, 1 / s[1]


BARRIER = Barrier(
    interior=interior,
    dual_interior=dual_interior,
    value=value,
    gradient=gradient,
    dual_value=dual_value,
    distance=distance,
    dual_gradient=dual_gradient,
    dual_factor=dual_factor,
    central=central,
)
