"""The power cone and its dual.

``K = {(x, y, z): x^a y^b >= |z|, x, y >= 0}`` with an exponent a in (0, 1) and b = 1 - a, and
``K* = {(u, v, w): (u/a)^a (v/b)^b >= |w|, u, v >= 0}``.

The barrier of K* is ``f*(z) = -log d - b log z1 - a log z2`` with the distance
``d = p - z3^2``, ``p = (z1/a)^2a (z2/b)^2b`` (Nesterov 2012; Goulart & Chen 2024). Its gradient is

    -grad f*(z) = ((2 a k + b) / z1,  (2 b k + a) / z2,  -2 z3 / d),     k = p / d >= 1.        (1)

**Gradient of the conjugate barrier f.** Solving (1) for z leaves one equation for k: with
``x = 1 / (k - 1)`` and ``g = s1^a s2^b``,

    2 a log(1 + x (1+a)/(2a)) + 2 b log(1 + x (1+b)/(2b)) - log(1 + x) = 2 log(g / |s3|),       (2)

whose left-hand side rises from 2 x at zero to log x at infinity.

**Central pairs.** Take d for the unknown. The third row of s - z = v gives
``z3 = -v3 d / (d + 2)``, so k, so the products ``s1 z1 = 2 a k + b`` and ``s2 z2 = 2 b k + a``, and so
both of each pair. What is left is ``log p = log(d + z3^2)``.

All functions take the exponent as an argument, which may be traced.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax.numpy as jnp
from jax import Array, lax
from jax.nn import softplus
from jax.scipy.special import expit
from jax.typing import ArrayLike, DTypeLike

from jaxopt_layers.cones.nonsymmetric import DualCone, PrimalCone, Projection
from jaxopt_layers.cones.project_power import project_power, project_product_power, spectrum_power
from jaxopt_layers.cones.three_dimensional import Barrier, falling_root, positive_pair

#: Newton steps for equation (2) in log x, from an upper bound within a factor of two.
GRADIENT_ITERATIONS = 5


@dataclass(frozen=True)
class _PowerFunctions:
    """What the cone and its dual are both described by: the functions of the primal one."""

    exponent: float

    @property
    def functions(self) -> Barrier:
        return power_barrier(self.exponent)

    @property
    def projection(self) -> Projection:
        return power_projection(self.exponent)

    def unit(self, dtype: DTypeLike) -> Array:
        return unit(self.exponent, dtype)


@dataclass(frozen=True)
class Power(_PowerFunctions, PrimalCone):
    """One triple ``x^a y^(1-a) >= |z|``."""


@dataclass(frozen=True)
class DualPower(_PowerFunctions, DualCone):
    """One triple ``(u/a)^a (v/(1-a))^(1-a) >= |w|``."""


def unit(exponent: ArrayLike, dtype: DTypeLike) -> Array:
    """The point with e = -grad f*(e)."""
    a = jnp.asarray(exponent, dtype)
    return jnp.stack([jnp.sqrt(1 + a), jnp.sqrt(2 - a), jnp.zeros_like(a)])


def interior(exponent: ArrayLike, s: Array) -> Array:
    return (s[0] > 0) & (s[1] > 0) & (_geometric_mean(exponent, s) > jnp.abs(s[2]))


def dual_interior(exponent: ArrayLike, z: Array) -> Array:
    return (z[0] > 0) & (z[1] > 0) & (distance(exponent, z) > 0)


def distance(exponent: ArrayLike, z: Array) -> Array:
    """``d``: positive inside the dual cone and zero on its boundary."""
    a, b = _exponents(exponent, z)
    mean = _geometric_mean(exponent, jnp.stack([z[0] / a, z[1] / b]))
    return (mean - z[2]) * (mean + z[2])


def dual_value(exponent: ArrayLike, z: Array) -> Array:
    a, b = _exponents(exponent, z)
    return -jnp.log(distance(exponent, z)) - b * jnp.log(z[0]) - a * jnp.log(z[1])


def dual_gradient(exponent: ArrayLike, z: Array, distance: Array) -> Array:
    """Equation (1)."""
    a, b = _exponents(exponent, z)
    k = 1 + z[2] ** 2 / distance
    return jnp.stack([-(2 * a * k + b) / z[0], -(2 * b * k + a) / z[1], 2 * z[2] / distance])


def dual_factor(exponent: ArrayLike, z: Array, distance: Array) -> Array:
    """C with ``C C' = grad^2 f*(z)``, without a difference in it.

    With h = (a, b, 0), j = (1, -1, 0), D = diag(1/z1, 1/z2, 1), and the logarithm of d as that of
    ``(sqrt p - z3)(sqrt p + z3)``, both factors of which are concave, the Hessian is D M D with

        M = c+ c+' + c- c-' + 2 a b (p/d) j j' + diag(b, a, 0),
        c+- = (sqrt p h +- e3) / (sqrt p +- z3).

    A rotation of c+ and c- puts their third entries into one column, the first of C. The others
    are the Cholesky factor of the first two coordinates of the rest,
    ``(2 p / n) h h' + 2 a b (p/d) j j' + diag(b, a)`` with n = p + z3^2, whose determinant is a sum
    of positive terms.
    """
    a, b = _exponents(exponent, z)
    p = distance + z[2] ** 2
    n = p + z[2] ** 2
    mean_weight, gap_weight = 2 * p / n, 2 * a * b * (p / distance)
    corner = mean_weight * a * a + gap_weight + b
    determinant = a * b + gap_weight * (1 + mean_weight) + mean_weight * (a * a * a + b * b * b)
    pivot = jnp.sqrt(corner)
    lower = (mean_weight * a * b - gap_weight) / pivot
    root_n, zero = jnp.sqrt(n), jnp.zeros_like(p)
    shared = -(2 * 2**0.5) * (z[2] / distance) * (p / root_n)
    first = jnp.stack([shared * a, pivot, zero]) / z[0]
    second = jnp.stack([shared * b, lower, jnp.sqrt(determinant) / pivot]) / z[1]
    third = jnp.stack([2**0.5 * (root_n / distance), zero, zero])
    return jnp.stack([first, second, third])


def value(exponent: ArrayLike, s: Array) -> Array:
    a, b = _exponents(exponent, s)
    z1, z2, d = _conjugate(exponent, s)
    return jnp.log(d) + b * jnp.log(z1) + a * jnp.log(z2) - 3


def gradient(exponent: ArrayLike, s: Array) -> Array:
    z1, z2, d = _conjugate(exponent, s)
    return jnp.stack([-z1, -z2, 0.5 * s[2] * d])


def _conjugate(exponent: ArrayLike, s: Array) -> tuple[Array, Array, Array]:
    """z1, z2 and d at ``z = -grad f(s)``, by Newton's method on equation (2) in y = log x."""
    a, b = _exponents(exponent, s)
    mean, limits = _geometric_mean(exponent, s), jnp.finfo(s.dtype)
    # g / |s3| - 1 is the relative distance to the boundary; beyond the upper bound k rounds to 1.
    excess = (mean - jnp.abs(s[2])) / jnp.maximum(jnp.abs(s[2]), limits.tiny)
    target = 2 * jnp.log1p(jnp.clip(excess, limits.tiny, 1 / limits.eps**2))
    shift_a, shift_b = jnp.log((1 + a) / (2 * a)), jnp.log((1 + b) / (2 * b))

    def newton(_: int, y: Array) -> Array:
        left = 2 * (a * softplus(y + shift_a) + b * softplus(y + shift_b)) - softplus(y)
        slope = 2 * (a * expit(y + shift_a) + b * expit(y + shift_b)) - expit(y)
        return y + (target - left) / slope

    # The left-hand side is at least log(1 + x) and at least log x + 2 a shift_a + 2 b shift_b, so
    # these are upper bounds; from above Newton's method falls to the root of a convex function.
    start = jnp.minimum(jnp.log(jnp.expm1(target)), target - 2 * (a * shift_a + b * shift_b))
    # A loop, so that everything made of y sees the same one (see `settled`).
    k = 1 + jnp.exp(-lax.fori_loop(0, GRADIENT_ITERATIONS, newton, start))
    z1, z2 = (2 * a * k + b) / s[0], (2 * b * k + a) / s[1]
    return z1, z2, _geometric_mean(exponent, jnp.stack([z1 / a, z2 / b])) ** 2 / k


def _exponents(exponent: ArrayLike, like: Array) -> tuple[Array, Array]:
    a = jnp.asarray(exponent, like.dtype)
    return a, 1 - a


def _geometric_mean(exponent: ArrayLike, v: Array) -> Array:
    a, b = _exponents(exponent, v)
    return v[0] ** a * v[1] ** b


def _point(y: Array, parameters: tuple[Array, Array]) -> tuple[Array, Array, Array]:
    """(s, z) of ``d = exp(y)``, and what is left of the last equation."""
    exponent, v = parameters
    a, b = _exponents(exponent, v)
    d = jnp.exp(y)
    s3 = 2 * (v[2] / (d + 2))
    z3 = -v[2] * (d / (d + 2))
    k = 1 + (v[2] / (d + 2)) ** 2 * d
    s1, z1 = positive_pair(v[0], 2 * a * k + b)
    s2, z2 = positive_pair(v[1], 2 * b * k + a)
    residual = 2 * a * jnp.log(z1 / a) + 2 * b * jnp.log(z2 / b) - jnp.log(d + z3**2)
    return jnp.stack([s1, s2, s3]), jnp.stack([z1, z2, z3]), residual


def _residual(y: Array, parameters: tuple[Array, Array]) -> Array:
    return _point(y, parameters)[2]


def central(exponent: ArrayLike, v: Array) -> tuple[Array, Array, Array]:
    """(s, z, d) with ``s - z = v`` and ``s = -grad f*(z)``; each entry accurate for itself."""
    reach = jnp.full_like(v[0], 0.5 * jnp.log(jnp.finfo(v.dtype).max))
    parameters = (jnp.asarray(exponent, v.dtype), v)
    y = falling_root(_residual, -reach, jnp.zeros_like(reach), reach, parameters)
    s, z, _ = _point(y, parameters)
    return s, z, jnp.exp(y)


def power_barrier(exponent: ArrayLike) -> Barrier:
    """The barriers at one exponent."""
    return Barrier(
        interior=partial(interior, exponent),
        dual_interior=partial(dual_interior, exponent),
        value=partial(value, exponent),
        gradient=partial(gradient, exponent),
        dual_value=partial(dual_value, exponent),
        distance=partial(distance, exponent),
        dual_gradient=partial(dual_gradient, exponent),
        dual_factor=partial(dual_factor, exponent),
        central=partial(central, exponent),
    )


def power_projection(exponent: ArrayLike) -> Projection:
    """The projection at one exponent."""
    return Projection(
        project=partial(project_power, exponent),
        spectrum=partial(spectrum_power, exponent),
        product=partial(project_product_power, exponent),
    )
