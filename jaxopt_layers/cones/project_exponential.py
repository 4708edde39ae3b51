"""Euclidean projection on the exponential cone ``closure{y exp(x/y) <= z, y > 0}`` and its derivatives.

The curved boundary has the rays and inner normals (Friberg 2021, section 3)

    b(t) = (t, 1, exp(t)),      d(t) = (-1, t - 1, exp(-t)),      t = x/y,
    -h(t) = x (exp(-t) - (t - 1) exp(t)) - y (exp(t) + t exp(-t)) + z (t^2 - t + 1).

At a root of h, sigma > 0 means ``x (t - 1) + y > 0`` and tau > 0 means ``y t < x``. The interval where
both hold holds exactly one root if v is neither in K nor in the polar cone, and x or y is positive.
If neither is, the projection is on the flat face y = 0: ``(x, 0, max(z, 0))``. Where the interval
lies far out, it is ``(min(x, 0), max(y, 0), max(z, 0))`` up to exp(-|t|).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

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

_HALVINGS = 16  # of an interval of length 472 (double precision) at most, to 0.007


@jax.custom_jvp
def project_exponential(v: Array) -> Array:
    """The nearest point of the exponential cone to the triple v."""
    scaled, size = normalize(v)
    region = _locate(scaled)
    parts = _decompose(scaled)
    return size * jnp.where(region.curved, parts.primal * parts.ray, region.flat * scaled)


@project_exponential.defjvp
def _project_exponential_jvp(primals: Any, tangents: Any) -> Any:
    (v,), (dv,) = primals, tangents
    return project_exponential(v), project_product_exponential(v, dv)


def derivative_exponential(v: Array) -> Array:
    """The derivative of the projection, (3, 3) and symmetric, with eigenvalues in [0, 1].

    At kinks, that of one of the adjacent smooth pieces: an element of the generalized Jacobian.
    """
    return spectral_matrix(*spectrum_exponential(v))


def project_product_exponential(v: Array, u: Array) -> Array:
    """The derivative at v times u, itself differentiable in v and u."""
    return spectral_product(*spectrum_exponential(v), u)


def spectrum_exponential(v: Array) -> tuple[Array, Array]:
    """The eigenvalues of the derivative, and its orthonormal eigenvectors as columns."""
    scaled, _ = normalize(v)
    region = _locate(scaled)
    parts = _decompose(scaled)
    share = side_share(parts)
    values = jnp.stack([jnp.ones_like(share), share, jnp.zeros_like(share)])
    vectors = jnp.stack([parts.ray, parts.side, parts.normal], axis=1)
    return (
        jnp.where(region.curved, values, region.flat),
        jnp.where(region.curved, vectors, jnp.eye(3, dtype=v.dtype)),
    )


class _Region(NamedTuple):
    """Which piece of the projection holds at v."""

    curved: Array  # the projection is on the curved boundary
    flat: Array  # diagonal of the derivative elsewhere


def _locate(v: Array) -> _Region:
    x, y, z = v
    limit = _longest(v)
    positive_x, positive_y = jnp.where(x > 0, x, 1), jnp.where(y > 0, y, 1)
    in_cone = (y > 0) & (positive_y * jnp.exp(x / positive_y) <= z)
    in_polar = (x > 0) & (positive_x * jnp.exp(y / positive_x - 1) <= -z)
    on_face = jnp.where(x > 0, y < (1 - limit) * x, (y <= 0) | (x < -limit * y))
    face = jnp.stack([x < 0, y > 0, z > 0])
    # A point of the flat face y = 0 itself is in the cone; there too the face's derivative is valid.
    flat = jnp.where(in_cone, True, face & ~in_polar).astype(v.dtype)
    curved = ~(in_cone | in_polar | on_face)
    return _Region(curved, flat)


def _decompose(v: Array) -> Decomposition:
    """Meaningless but finite, with its derivatives, where the region isn't curved."""
    return decompose(_curve, (), _root(jax.lax.stop_gradient(v)), v)


def _root(v: Array) -> Array:
    x, y, z = v
    limit = _longest(v)
    low = jnp.where(x > 0, 1 - y / jnp.where(x > 0, x, 1), -limit)
    high = jnp.where(y > 0, x / jnp.where(y > 0, y, 1), limit)
    # On the boundary of the cone or its polar the root is at an end, which rounding may move.
    margin = 32 * jnp.finfo(v.dtype).eps
    low = jnp.clip(low - margin * (1 + jnp.abs(low)), -limit, limit)
    high = jnp.clip(high + margin * (1 + jnp.abs(high)), -limit, limit)

    def slope_and_value(t: Array) -> tuple[Array, Array]:
        """Of h, over exp(|t|)."""
        decay = jnp.exp(-jnp.abs(t))
        rising = jnp.where(t > 0, 1, decay * decay)
        falling = jnp.where(t > 0, decay * decay, 1)
        value = (
            x * ((t - 1) * rising - falling)
            + y * (rising + t * falling)
            - z * ((t - 1) * t + 1) * decay
        )
        slope = (
            x * (t * rising + falling) + y * (rising - (t - 1) * falling) - z * (2 * t - 1) * decay
        )
        return slope, value

    return find_root(slope_and_value, low, high, _HALVINGS)


def _curve(parameter: tuple[()], t: Array) -> Frame:
    """The frame at the ray b(t); b over max(1, exp(t)) and d over max(1, exp(-t)) don't overflow.

    With these b, d: ``b'.(b x d) = exp(t) |d|^2`` and ``-d'.(b x d) = exp(-t) |b|^2``.
    """
    steep = t > 0
    decay = jnp.exp(-jnp.abs(t))
    one = jnp.ones_like(t)
    primal_scale, dual_scale = jnp.where(steep, decay, 1), jnp.where(steep, 1, decay)
    b = jnp.stack([t * primal_scale, primal_scale, jnp.where(steep, one, decay)])
    d = jnp.stack([-dual_scale, (t - 1) * dual_scale, jnp.where(steep, decay, one)])
    b_length, d_length = jnp.sqrt(inner(b, b)), jnp.sqrt(inner(d, d))
    # Half the slopes of |b|^2 and |d|^2.
    flat_slope = (t * t - t + 1) * decay**2
    b_slope = jnp.where(steep, -flat_slope, t + decay**2)
    d_slope = jnp.where(steep, t - 1 - decay**2, flat_slope)
    ray, normal = b / b_length, d / d_length
    return Frame(
        ray=ray,
        side=cross(ray, normal),
        normal=normal,
        primal_rate=primal_scale * d_length / b_length**2,
        dual_rate=dual_scale * b_length / d_length**2,
        log_ratio=3 * jnp.log(d_length / b_length) - t,
        log_ratio_slope=3 * (d_slope / d_length**2 - b_slope / b_length**2) - 1,
    )


def _longest(v: Array) -> Array:
    """Where exp(-t) is as good as zero."""
    return -jnp.log(smallest(v.dtype))
