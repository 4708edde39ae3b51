"""What the nonsymmetric cones of three dimensions share: scaling, correction, central pairs.

A cone K has a barrier f and its dual K* the conjugate barrier f*, both logarithmically homogeneous
of degree 3, so that ``z -> -grad f*(z)`` maps the interior of K* onto that of K, with the inverse
``s -> -grad f(s)``. A pair on the central path has ``s = -mu grad f*(z)``.

**Factors.** Hessians are held as factors, ``H = B B'`` with B (3, 3): near the boundary the
eigenvalues of H spread over 1/mu .. mu, and a matrix of that kind written out as nine numbers has
lost the small ones. Its factor has only the square root of the spread, and in its columns, where
one-sided Jacobi rotations don't mind it (Demmel & Veselic 1992).

**Scaling** (Tuncel 2001; Dahl & Andersen 2022, section 3). With the shadow iterates
``s~ = -grad f*(z)``, ``z~ = -grad f(s)``, and ``mu = s'z / 3``, the scaling maps z to s and z~ to
s~; so it maps ``q = z - mu z~`` to ``p = s - mu s~``, and as s'q = z'p = 0,

    H   =  s s' / s'z  +  p p' / p'q  +  t w w',             w = z x q,
    H^-1 = z z' / s'z  +  q q' / p'q  +  u u' / (t (w'u)^2),  u = s x p,   w'u = s'z p'q.

The BFGS formula applied to ``mu grad^2 f*(z) = mu C C'`` leaves ``t = mu / |C^-1 w|^2``. On the
central path p and q vanish, and H is mu C C' itself (the dual scaling): that is what stands where
p'q is too small, or not positive.

**Correction** (Dahl & Andersen 2022, section 4). Differentiating ``s + mu grad f*(z) = 0`` twice
along the affine direction (ds, dz), and using the homogeneity of f*, the right-hand side gets
``eta = -1/2 D^3 f*(z)[dz, (grad^2 f*(z))^-1 ds]``, here through the derivative of the factor.

**Dual cones.** The pair (z, s) of the dual cone is a pair (s, z) of the primal one, so the
scaling there is the inverse of the scaling of the swapped pair.

**Central pairs.** ``s - z = v, s = -mu grad f*(z)`` is the same problem for every mu, in the units
sqrt(mu); each cone reduces that to one equation in one unknown, which falls through zero once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxopt_layers.matrix import dot

#: Rounds of the three pairs of columns; four made them orthogonal in all of 4000 trials, graded or not.
JACOBI_SWEEPS = 5
#: Bound on the evaluations of a safeguarded root; the usual number is five to ten, the largest seen 33.
ROOT_ITERATIONS = 120


class Barrier(NamedTuple):
    """The functions of one cone: f on K, f* on K*, each a function of arrays of shape (3,).

    `distance` is the positive quantity under the logarithm of f* that vanishes on the boundary of
    K*. It stands apart because it cancels there: whoever knows it better than z does passes it on.
    """

    interior: Callable[[Array], Array]
    dual_interior: Callable[[Array], Array]
    value: Callable[[Array], Array]  # f(s), the conjugate of f*: f(s) = -f*(-grad f(s)) - 3
    gradient: Callable[[Array], Array]  # grad f(s)
    dual_value: Callable[[Array], Array]  # f*(z)
    distance: Callable[[Array], Array]
    dual_gradient: Callable[[Array, Array], Array]  # grad f*(z), of (z, distance)
    dual_factor: Callable[[Array, Array], Array]  # C with C C' = grad^2 f*(z), of (z, distance)
    central: Callable[[Array], tuple[Array, Array, Array]]  # v -> (s, z, distance) at mu = 1


# --- factors ---------------------------------------------------------------------------------


def factor_product(factor: Array, v: Array) -> Array:
    """``B B' v``."""
    return times(factor, times(factor.T, v))


def times(matrix: Array, v: Array) -> Array:
    """A small matrix times a vector, written out."""
    return dot(matrix, v[None, :])


def inverse_transposed(factor: Array) -> Array:
    """``B^-T``, by cofactors, which keep the grading of the columns."""
    columns = _around(factor)
    first, second = columns[:, 1:4], columns[:, 2:5]
    first, second = _around(first.T).T, _around(second.T).T
    cofactors = first[1:4] * second[2:5] - first[2:5] * second[1:4]
    return cofactors / dot(factor[:, 0], cofactors[:, 0])


def cross(first: Array, second: Array) -> Array:
    """The cross product of vectors along the last axis."""
    first, second = _around(first), _around(second)
    return first[..., 1:4] * second[..., 2:5] - first[..., 2:5] * second[..., 1:4]


def _around(v: Array) -> Array:
    """The coordinates (0, 1, 2, 0, 1) along the last axis."""
    return jnp.concatenate([v, v[..., :2]], axis=-1)


def factor_spectrum(factor: Array) -> tuple[Array, Array]:
    """Eigenvalues and eigenvectors (columns) of ``B B'``, by one-sided Jacobi rotations.

    Rotations from the right make the columns of B orthogonal, so that the small eigenvalues are
    relatively as accurate as the columns of B, scaled to one length, are well conditioned. Each
    trip rotates the first two columns and moves on: (i, j, k) becomes (j, k, i).
    """

    def rotate_first_pair(_: Any, columns: Array) -> Array:
        first, second, third = columns
        inner, difference = dot(first, second), dot(second, second) - dot(first, first)
        length = jnp.hypot(difference, 2 * inner)
        # tan = 2 inner / (difference +- length), the smaller rotation of the two
        tangent = 2 * inner / jnp.where(difference < 0, difference - length, difference + length)
        tangent = jnp.where(jnp.isfinite(tangent), tangent, 0)
        cosine = lax.rsqrt(1 + tangent**2)
        rotated_first = cosine * (first - tangent * second)
        return jnp.stack([cosine * (second + tangent * first), third, rotated_first])

    columns = lax.fori_loop(0, 3 * JACOBI_SWEEPS, rotate_first_pair, factor.T)
    tiny = jnp.finfo(factor.dtype).tiny
    values = jnp.maximum(dot(columns, columns), tiny)
    return values, (columns * lax.rsqrt(values)[:, None]).T


def settled(*arrays: Array) -> tuple[Array, ...]:
    """The arrays, computed once: the results of a loop that no compiler sees through.

    Where several expressions use a difference of nearly equal numbers, a compiler that fuses it
    into each of them rounds it differently in each (with fused multiply-adds or without), and the
    identities between their results then fail by all that the difference has lost. An optimization
    barrier doesn't help: it is gone before fusion.
    """
    zeros = tuple(jnp.zeros_like(array) for array in arrays)
    return lax.fori_loop(0, 2, lambda _, __: arrays, zeros)


# --- scaling ---------------------------------------------------------------------------------


def scaling_factors(barrier: Barrier, s: Array, z: Array) -> Array:
    """B and ``B^-T``, (2, 3, 3), of the scaling ``H = B B'`` of a pair in K x K*: ``H z = s``.

    Falls back to the dual scaling where the pair stands too close to the central path, or where the
    numbers are not finite, and to a multiple of the identity where those aren't either.
    """
    pair = jnp.stack([s, z])
    # H scales like s and like 1 / z; products of cross products stay in range at unit length.
    lengths = jnp.sqrt(dot(pair, pair))[:, None]
    pair = pair / lengths
    inner, distance = settled(dot(pair[0], pair[1]), barrier.distance(pair[1]))
    mu = inner / 3
    gradients = [barrier.dual_gradient(pair[1], distance), barrier.gradient(pair[0])]
    difference = pair + mu * jnp.stack(gradients)  # p and q
    # What rounding leaves of z'p and s'q, z'w and s'u is taken out: H z = s rests on them.
    swapped = pair[::-1]
    difference = _orthogonal(difference, swapped)
    normal = _orthogonal(cross(swapped, difference[::-1]), swapped)  # w and u
    off_centre = dot(difference[0], difference[1])
    dual_factor = barrier.dual_factor(pair[1], distance)
    dual_inverse = inverse_transposed(dual_factor)
    stretched = times(dual_inverse.T, normal[0])
    length = jnp.sqrt(dot(stretched, stretched))
    root_mu = jnp.sqrt(mu)
    weights = jnp.stack([root_mu / length, length / (root_mu * inner * off_centre)])
    primal_dual = jnp.stack(
        [pair * lax.rsqrt(inner), difference * lax.rsqrt(off_centre), normal * weights[:, None]],
        axis=2,
    )
    dual = jnp.stack([root_mu * dual_factor, dual_inverse / root_mu])
    # At sqrt(eps) of mu the differences have half of their digits left, and the dual scaling is as
    # close to H as that.
    threshold = jnp.sqrt(jnp.finfo(s.dtype).eps) * inner
    safe = (inner > 0) & (off_centre > threshold) & _all_finite(primal_dual)
    identity = jnp.eye(3, dtype=s.dtype)[None]
    factors = jnp.where(safe, primal_dual, jnp.where(_all_finite(dual), dual, identity))
    unit = jnp.sqrt(lengths / lengths[::-1])
    unit = jnp.where(_all_finite(unit) & (unit > 0), unit, 1)
    return factors * unit[:, :, None]


def correction(barrier: Barrier, z: Array, ds: Array, dz: Array) -> tuple[Array, Array]:
    """grad f*(z) and ``eta = -1/2 D^3 f*(z)[dz, (grad^2 f*(z))^-1 ds]``; zero where not finite."""
    distance, distance_change = settled(*jax.jvp(barrier.distance, (z,), (dz,)))
    factor, change = jax.jvp(barrier.dual_factor, (z, distance), (dz, distance_change))
    inverse = inverse_transposed(factor)
    inner = times(inverse.T, ds)  # C^-1 ds
    outer = times(inverse, inner)  # (C C')^-1 ds
    eta = -0.5 * (times(change, inner) + times(factor, times(change.T, outer)))
    return finite_or_zero(barrier.dual_gradient(z, distance)), finite_or_zero(eta)


def finite_or_zero(v: Array) -> Array:
    """v, or zero where that isn't finite: outside of the cone, or beyond the range of numbers."""
    return jnp.where(_all_finite(v), v, 0)


def _orthogonal(rows: Array, units: Array) -> Array:
    """The parts of the rows that are orthogonal to the matching rows of unit length."""
    return rows - units * dot(rows, units)[:, None]


def _all_finite(array: Array) -> Array:
    return jnp.isfinite(jnp.sum(jnp.abs(array)))


# --- central pairs ---------------------------------------------------------------------------


def positive_pair(v: Array, product: Array | float) -> tuple[Array, Array]:
    """The positive pair (s, z) with ``s - z = v`` and ``s z = product``, without cancellation."""
    root = jnp.sqrt(v * v + 4 * product)
    larger = 0.5 * jnp.where(v > 0, root + v, root - v)
    smaller = product / larger
    return jnp.where(v > 0, larger, smaller), jnp.where(v > 0, smaller, larger)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def falling_root(
    residual: Callable[[Array, Any], Array],
    lower: Array,
    start: Array,
    upper: Array,
    parameters: Any,
) -> Array:
    """The y in the bracket where ``residual(y, parameters)`` falls through zero.

    Newton's method inside a bracket; bisection where a step leaves it or isn't half of the step
    before last (Press et al. 2007, section 9.4). Its derivative is the implicit one, of any order.
    """
    tolerance = 2 * jnp.finfo(lower.dtype).eps

    def evaluate(y: Array) -> tuple[Array, Array]:
        return jax.jvp(lambda y: residual(y, parameters), (y,), (jnp.ones_like(y),))

    def unfinished(state: tuple[Array, ...]) -> Array:
        _, _, y, step, _, count = state
        return (jnp.abs(step) > tolerance * jnp.maximum(jnp.abs(y), 1)) & (count < ROOT_ITERATIONS)

    def advance(state: tuple[Array, ...]) -> tuple[Array, ...]:
        lower, upper, y, step, step_before, count = state
        value, slope = evaluate(y)
        lower, upper = jnp.where(value > 0, y, lower), jnp.where(value > 0, upper, y)
        newton = y - value / slope
        good = (newton >= lower) & (newton <= upper) & (2 * jnp.abs(newton - y) < abs(step_before))
        following = jnp.where(good, newton, 0.5 * (lower + upper))
        return lower, upper, following, following - y, step, count + 1

    width = upper - lower
    # The counter comes from the data, so that it varies over a mesh wherever they do.
    state = (lower, upper, start, width, width, jnp.zeros_like(width))
    return lax.while_loop(unfinished, advance, state)[2]


@falling_root.defjvp
def _falling_root_jvp(
    residual: Callable[[Array, Any], Array], primals: Any, tangents: Any
) -> tuple[Array, Array]:
    lower, start, upper, parameters = primals
    y = falling_root(residual, lower, start, upper, parameters)
    _, slope = jax.jvp(lambda y: residual(y, parameters), (y,), (jnp.ones_like(y),))
    _, change = jax.jvp(lambda p: residual(y, p), (parameters,), (tangents[3],))
    usable = jnp.isfinite(slope) & (slope < 0)
    return y, -change * jnp.where(usable, 1 / jnp.where(usable, slope, -1), 0)
