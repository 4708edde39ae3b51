"""Euclidean projection on the power cone ``x^a y^(1-a) >= |z|, x, y >= 0`` and its derivatives.

The cone is even in z; on the side z >= 0 its boundary has the rays and inner normals

    b(t) = (exp((1-a) t), exp(-a t), 1),    d(t) = (a exp(-(1-a) t), (1-a) exp(a t), -1),

so that the projection is the root of one equation in t, as for the exponential cone (Friberg 2021),
in place of the equation in |z| of Hien 2015 (Differential properties of Euclidean projection onto
power cone, Mathematical Methods of Operations Research 82), of which it has the same solutions:

    h(t) = x (-exp(-a t) - (1-a) exp(a t)) + y (a exp(-(1-a) t) + exp((1-a) t))
           + z ((1-a) exp(t) - a exp(-t)).

Exchanging x with y and a with 1 - a turns t into -t, so t >= 0 is assumed; b over exp((1-a) t) and d
over exp(a t) then hold decaying exponentials only. At a root, tau > 0 means ``x < z exp((1-a) t)`` and
``y < z exp(-a t)``, sigma > 0 means ``-x < a z exp(-(1-a) t)`` and ``-y < (1-a) z exp(a t)``, and the
interval where all hold holds exactly one root if v is neither in K nor in the polar cone.
As z -> 0 between the cones t -> infinity: z = 0 is the limit.

The exponent is a constant to derivatives.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jaxopt_layers.cones.surface import (
    Decomposition,
    Frame,
    cross,
    decompose,
    find_root,
    inner,
    normalize,
    side_share,
    smallest,
    spectral_matrix,
    spectral_product,
)

_HALVINGS = 24  # of an interval of length 240 / min(a, 1 - a) (double precision) at most


@jax.custom_jvp
def project_power(exponent: ArrayLike, v: Array) -> Array:
    """The nearest point of the power cone to the triple v; 0 < exponent < 1."""
    scaled, size = normalize(v)
    region = _locate(_constant(exponent, v), scaled)
    parts, _ = _decompose(region)
    curved = region.orient(parts.primal * parts.ray)
    # The point stands for z = 0 too, where t is large but finite.
    curved = jnp.where(jnp.array([False, False, True]) & (v[2] == 0), 0, curved)
    return size * jnp.where(region.curved, curved, region.flat * scaled)


@project_power.defjvp
def _project_power_jvp(primals: Any, tangents: Any) -> Any:
    exponent, v = primals
    return project_power(exponent, v), project_product_power(exponent, v, tangents[1])


def derivative_power(exponent: ArrayLike, v: Array) -> Array:
    """The derivative of the projection, (3, 3) and symmetric, with eigenvalues in [0, 1].

    At kinks, that of one of the adjacent smooth pieces: an element of the generalized Jacobian.
    """
    return spectral_matrix(*spectrum_power(exponent, v))


def project_product_power(exponent: ArrayLike, v: Array, u: Array) -> Array:
    """The derivative at v times u, itself differentiable in v and u."""
    return spectral_product(*spectrum_power(exponent, v), u)


def spectrum_power(exponent: ArrayLike, v: Array) -> tuple[Array, Array]:
    """The eigenvalues of the derivative, and its orthonormal eigenvectors as columns."""
    region = _locate(_constant(exponent, v), normalize(v)[0])
    parts, share = _decompose(region)
    values = jnp.stack([jnp.ones_like(share), share, jnp.zeros_like(share)])
    vectors = region.orient(jnp.stack([parts.ray, parts.side, parts.normal], axis=1))
    return (
        jnp.where(region.curved, values, region.flat),
        jnp.where(region.curved, vectors, jnp.eye(3, dtype=v.dtype)),
    )


class _Region(NamedTuple):
    """Which piece of the projection holds at v, and the exchanges that give t >= 0 and z > 0."""

    curved: Array  # the projection is on the curved boundary
    flat: Array  # the derivative elsewhere: 0 or 1
    exchanged: Array
    sign: Array
    exponent: Array  # this and the following after the exchanges
    point: Array
    even_point: Array  # the same, but with an even derivative at z = 0
    logs: Array  # of |point|

    def orient(self, w: Array) -> Array:
        """The exchanges of rows undone (they are their own inverse)."""
        w = jnp.where(self.exchanged, jnp.stack([w[1], w[0], w[2]]), w)
        return jnp.stack([w[0], w[1], self.sign * w[2]])


def _constant(exponent: ArrayLike, v: Array) -> Array:
    return jax.lax.stop_gradient(jnp.asarray(exponent, v.dtype))


def _locate(exponent: Array, v: Array) -> _Region:
    sign = jnp.where(v[2] < 0, -1, 1).astype(v.dtype)
    height = sign * v[2]
    # Heights that can't be told from z = 0 are lifted to one where t is finite.
    lift = jax.lax.stop_gradient(jnp.maximum(4 * smallest(v.dtype) - height, 0))
    z = height + lift
    positive_t = (v[0] > z) | (-v[1] > (1 - exponent) * z)
    negative_t = (v[1] > z) | (-v[0] > exponent * z)
    value_at_zero = (1 + exponent) * v[1] - (2 - exponent) * v[0] + (1 - 2 * exponent) * z
    exchanged = ~(positive_t | ((value_at_zero < 0) & ~negative_t))

    a = jnp.where(exchanged, 1 - exponent, exponent)
    x, y = jnp.where(exchanged, v[1], v[0]), jnp.where(exchanged, v[0], v[1])
    point = jnp.stack([x, y, z])
    logs = jnp.log(jnp.abs(jax.lax.stop_gradient(point)))
    log_ratio = a * logs[0] + (1 - a) * logs[1] - logs[2]
    log_dual_ratio = log_ratio - a * jnp.log(a) - (1 - a) * jnp.log(1 - a)
    in_cone = (x >= 0) & (y >= 0) & ((height == 0) | (log_ratio >= 0))
    in_polar = (x <= 0) & (y <= 0) & ((height == 0) | (log_dual_ratio >= 0))
    return _Region(
        curved=~(in_cone | in_polar),
        flat=in_cone.astype(v.dtype),
        exchanged=exchanged,
        sign=sign,
        exponent=a,
        point=point,
        even_point=jnp.stack([x, y, jnp.abs(v[2]) + lift]),
        logs=logs,
    )


def _decompose(region: _Region) -> tuple[Decomposition, Array]:
    """The decomposition, and the eigenvalue along the side.

    Meaningless but finite, with their derivatives, where the region isn't curved.
    """
    root = _root(region.exponent, jax.lax.stop_gradient(region.point), region.logs)
    # The eigenvalue is even in z where the frame is odd. At z = 0 it may have no derivative; zero,
    # the mean of both sides, is what the absolute value's derivative there gives.
    even = decompose(_curve, region.exponent, root, region.even_point)
    return decompose(_curve, region.exponent, root, region.point), side_share(even)


def _root(a: Array, v: Array, logs: Array) -> Array:
    x, y, z = v
    log_x, log_y = logs[0] - logs[2], logs[1] - logs[2]  # of |x| / z and |y| / z
    log_a, log_b = jnp.log(a), jnp.log(1 - a)
    low_x = jnp.where(x > 0, log_x, 0) / (1 - a)
    low_y = jnp.where(y < 0, log_y - log_b, 0) / a
    high_x = jnp.where(x < 0, log_a - log_x, jnp.inf) / (1 - a)
    high_y = jnp.where(y > 0, -log_y, jnp.inf) / a
    # z = sigma + tau, so that one of the two is at least z / 2, and with it a decaying exponential:
    # sigma exp((1-a) t) <= max(x, 0) + a z,  (1-a) tau exp(a t) <= max(-y, 0) + z.
    log_four = jnp.log(4.0).astype(v.dtype)
    high_sigma = (log_four + jnp.where(x > 0, jnp.maximum(log_x, log_a), log_a)) / (1 - a)
    high_tau = (log_four - log_b + jnp.where(y < 0, jnp.maximum(log_y, 0), 0)) / a
    low = jnp.maximum(jnp.maximum(low_x, low_y), 0)
    high = jnp.minimum(jnp.minimum(high_x, high_y), jnp.maximum(high_sigma, high_tau))
    # On the boundary of the cone or its polar the root is at an end, which rounding may move.
    margin = 32 * jnp.finfo(v.dtype).eps * (1 + low) / jnp.minimum(a, 1 - a)
    low, high = jnp.maximum(low - margin, 0), jnp.maximum(high, low) + margin

    def slope_and_value(t: Array) -> tuple[Array, Array]:
        """Of h, over exp(t)."""
        slow, fast = jnp.exp(-a * t), jnp.exp(-(1 - a) * t)
        both = slow * fast
        value = (
            -x * fast * (slow * slow + (1 - a))
            + y * slow * (a * fast * fast + 1)
            + z * ((1 - a) - a * both * both)
        )
        slope = (
            x * a * fast * (slow * slow - (1 - a))
            + y * (1 - a) * slow * (1 - a * fast * fast)
            + z * ((1 - a) + a * both * both)
        )
        return slope, value

    return find_root(slope_and_value, low, high, _HALVINGS)


def _curve(a: Array, t: Array) -> Frame:
    """The frame at the ray b(t), t >= 0.

    With b, d as above and ``w = exp((1-2a) t)``: ``-b'.(b x d) = w |d|^2`` and
    ``d'.(b x d) = a (1-a) |b|^2 / w``.
    """
    slow, fast = jnp.exp(-a * t), jnp.exp(-(1 - a) * t)
    b = jnp.stack([jnp.ones_like(t), slow * fast, fast])
    d = jnp.stack([a * slow * fast, 1 - a, -slow])
    b_length, d_length = jnp.sqrt(inner(b, b)), jnp.sqrt(inner(d, d))
    # Half the slopes of |b|^2 and |d|^2.
    b_slope = -(b[1] ** 2 + (1 - a) * b[2] ** 2)
    d_slope = -(d[0] ** 2 + a * d[2] ** 2)
    ray, normal = b / b_length, d / d_length
    return Frame(
        ray=ray,
        side=cross(normal, ray),
        normal=normal,
        primal_rate=fast * d_length / b_length**2,
        dual_rate=a * (1 - a) * slow * b_length / d_length**2,
        # The difference of the exponents of slow and fast is exact: none for a = 1/2.
        log_ratio=(2 * a - 1) * t + 3 * jnp.log(d_length / b_length) - jnp.log(a * (1 - a)),
        log_ratio_slope=(2 * a - 1) + 3 * (d_slope / d_length**2 - b_slope / b_length**2),
    )
