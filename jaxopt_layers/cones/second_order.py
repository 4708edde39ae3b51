"""The second-order cone ``{(t, x): t >= |x|}``: self-dual, and one spectral decomposition serves all.

A vector v = (v0, v1) is ``l+ (1, u)/2 + l- (1, -u)/2`` with the eigenvalues ``l+- = v0 +- |v1|`` and the
axis ``u = v1/|v1|`` (Alizadeh & Goldfarb 2003). The three kinds of matrix that appear here have
one eigenvalue on (1, u)/sqrt 2, one on (1, -u)/sqrt 2 and a third on everything orthogonal to both:

- the Hessian of the Nesterov-Todd scaling ``H = eta^2 (2 w w' - J)``, J = diag(1, -1, ..., -1), with
  ``eta^2 (w0 +- |w1|)^2`` and ``eta^2``, u the axis of w (Vandenberghe 2010, on CVXOPT's solvers);
- the derivative of the projection, and that of the projection smoothed by the barrier. Both apply a
  function f to the eigenvalues, so theirs are ``f'(l+)``, ``f'(l-)`` and ``(f(l+) - f(l-))/(l+ - l-)``
  (Fukushima, Luo & Tseng 2002).

The barrier is ``-1/2 log(t^2 - |x|^2)``, of degree 1: s = mu z^-1 is ``s o z = mu e`` for the product
``s o z = (s'z, s0 z1 + z0 s1)``, whose unit is e = (1, 0, ..., 0).

The smoothed projection takes f(l) to be the s > 0 of ``s - z = l, s z = mu``. With z+- = s+- - l+-, and
with mu = 0 for the projection itself, everything below is a sum of terms of one sign, free of cancellation:

    f'(l) = s / (s + z),    (f(l+) - f(l-)) / (l+ - l-) = s+ / (s+ + z-).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import ArrayLike, DTypeLike

from jaxopt_layers.cones.nonnegative import step_to_zero
from jaxopt_layers.matrix import dot


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SecondOrderScaling:
    """``W = eta (w0 + |w1|)^(+-1)`` on (1, +-u), eta on the rest; symmetric, H = W W, W z = lambda.

    `axis` is u behind a leading zero, or all zero where w1 is; `stretch` is w0 + |w1|, whose inverse is
    w0 - |w1|; lambda is `magnitude` times `centre`, whose determinant is one.
    """

    axis: Array
    stretch: Array
    eta: Array
    centre: Array
    magnitude: Array


@dataclass(frozen=True)
class SecondOrder:
    """``t >= |x|`` for the rows (t, x), t first; of size 1 it is the half line ``t >= 0``."""

    size: int

    @property
    def symmetric(self) -> bool:
        return True

    @property
    def degree(self) -> int:
        return 1

    def unit(self, dtype: DTypeLike) -> Array:
        return self._first().astype(dtype)

    def margin(self, v: Array) -> Array:
        at = self._parts(v)
        return at.scale * (at.head - at.radius)

    def rectify_scaling(self, rows: Array) -> Array:
        return jnp.full_like(rows, jnp.exp(jnp.mean(jnp.log(rows))))

    def scaling(self, s: Array, z: Array, mu: ArrayLike) -> SecondOrderScaling:
        """The point w with ``H z = s`` (Vandenberghe 2010), finite outside the cone too.

        With bars for division by the root of the determinant ``(t - |x|)(t + |x|)``: ``2 gamma^2 = 1 +
        sbar'zbar``, ``2 gamma w = sbar + J zbar``. The inner product is at least 1, and near the boundary a
        difference of large numbers, so it comes from the eigenvalues and from the angle of s1 and -z1.
        """
        at = jax.vmap(self._parts)(jnp.stack([s, z]))
        # What rounding leaves of t - |x|, where max(t, |x|) is about one.
        lower = jnp.maximum(at.head - at.radius, jnp.finfo(s.dtype).eps / 4)
        upper = jnp.maximum(at.head + at.radius, lower)
        inverse_root = 1 / jnp.sqrt(lower * upper)
        head_bar = (upper + lower) / 2 * inverse_root
        tail_bar = at.tail * inverse_root[:, None]

        between = jnp.sum(at.tail / _positive(at.radius)[:, None], axis=0)
        on_axis = upper[0] * lower[1] + lower[0] * upper[1]
        off_axis = at.radius[0] * at.radius[1] * dot(between, between)
        inner = (on_axis + off_axis) / 2 * inverse_root[0] * inverse_root[1]
        gamma = jnp.sqrt((1 + inner) / 2)

        w_tail = (tail_bar[0] - tail_bar[1]) / (2 * gamma)
        w_radius = _norm(w_tail)
        crossed = (gamma + head_bar[1]) * tail_bar[0] + (gamma + head_bar[0]) * tail_bar[1]
        centre_tail = crossed / (head_bar[0] + head_bar[1] + 2 * gamma)
        roots = jnp.sqrt(at.scale * (lower * upper * inverse_root))
        return SecondOrderScaling(
            axis=w_tail / _positive(w_radius),
            stretch=w_radius + jnp.sqrt(1 + w_radius * w_radius),
            eta=roots[0] / roots[1],
            centre=self._join(gamma, centre_tail),
            magnitude=roots[0] * roots[1],
        )

    def hessian_product(self, scaling: SecondOrderScaling, v: Array) -> Array:
        return self._power_product(scaling.axis, scaling.stretch**2, scaling.eta**2, v)

    def spectrum(self, scaling: SecondOrderScaling) -> tuple[Array, Array]:
        stretch, scale = scaling.stretch**2, scaling.eta**2
        return self._values(scale * stretch, scale / stretch, scale), _rotation(scaling.axis)

    def rotate(self, rotation: Array, v: Array) -> Array:
        """U'v: reflect the axis onto coordinate 1, then turn coordinates 0 and 1 by 45 degrees."""
        if self.size == 1:
            return v
        return self._turn(rotation, v - rotation * dot(rotation, v), after=True)

    def unrotate(self, rotation: Array, v: Array) -> Array:
        """U v: the same two involutions in reverse order."""
        if self.size == 1:
            return v
        turned = self._turn(rotation, v, after=False)
        return turned - rotation * dot(rotation, turned)

    def affine_shift(self, scaling: SecondOrderScaling, s: Array) -> Array:
        return s

    def combined_shift(
        self, scaling: SecondOrderScaling, s: Array, z: Array, ds: Array, dz: Array, target: Array
    ) -> Array:
        """``W (lambda \\ (lambda o lambda + (W^-1 ds) o (W dz) - target e))``; the first term is s."""
        axis, stretch, eta = scaling.axis, scaling.stretch, scaling.eta
        ds = self._power_product(axis, 1 / stretch, 1 / eta, ds)
        dz = self._power_product(axis, stretch, eta, dz)
        right = self._join(dot(ds, dz) - target, ds[0] * dz + dz[0] * ds)
        # lambda \ right, for the determinant of `centre` is one.
        centre = scaling.centre
        head = 2 * centre[0] * right[0] - dot(centre, right)
        quotient = self._join(head, (right - head * centre) / centre[0])
        return s + self._power_product(axis, stretch, eta, quotient / scaling.magnitude)

    def max_step(
        self,
        scaling: SecondOrderScaling,
        s: Array,
        z: Array,
        ds: Array,
        dz: Array,
        affine: bool = False,
    ) -> Array:
        points, directions = jnp.stack([s, z]), jnp.stack([ds, dz])
        return jnp.min(jax.vmap(self._step_to_boundary)(points, directions))

    def distance(self, s: Array, z: Array) -> Array:
        return jnp.zeros((), s.dtype)

    def project(self, v: Array) -> Array:
        at = self._parts(v)
        half = jnp.maximum(at.head + at.radius, 0) / 2
        nearest = self._join(half * at.scale, half / _positive(at.radius) * v)
        return jnp.where(at.head >= at.radius, v, nearest)

    def project_spectrum(self, v: Array) -> tuple[Array, Array]:
        """Kinks count to the side away from the cone, where the slope of max(l, 0) is zero."""
        at = self._parts(v)
        upper, lower = at.head + at.radius, at.head - at.radius
        s, z = jnp.maximum(upper, 0), jnp.maximum(-lower, 0)
        one = jnp.ones_like(upper)
        slopes = jnp.where(upper > 0, one, 0), jnp.where(lower > 0, one, 0)
        return self._values(*slopes, s / _positive(s + z)), _rotation(at.axis)

    def project_product(self, v: Array, u: Array) -> Array:
        """`central_product` with slopes 1 and 0; where both are equal, u or nothing is left."""
        at = self._parts(v)
        inside, opposite = at.head > at.radius, at.head + at.radius <= 0
        radius = jnp.where(inside | opposite, 1, at.radius)
        axis, cosine = at.tail / radius, at.head / radius
        along = dot(axis, u)
        tail = (1 + cosine) * u + (u[0] - cosine * along) * axis
        changed = self._join(u[0] + along, tail) / 2
        return jnp.where(inside, u, jnp.where(opposite, 0, changed))

    def central_pair(self, v: Array, mu: ArrayLike) -> tuple[Array, Array]:
        at = self._smooth(v, mu)
        s, z = jnp.mean(at.s) * at.parts.scale, jnp.mean(at.z) * at.parts.scale
        return self._join(s, at.chord * v), self._join(z, -at.cochord * v)

    def central_spectrum(self, v: Array, mu: ArrayLike) -> tuple[Array, Array]:
        at = self._smooth(v, mu)
        return self._values(at.slope[0], at.slope[1], at.chord), _rotation(at.parts.axis)

    def central_product(self, v: Array, mu: ArrayLike, u: Array) -> Array:
        """The eigenvalues' functions of |v1| are even, so that the product can be written without u:

        with mean and difference of the slopes, a = (f'(l+) + f'(l-))/2 and b = (f'(l+) - f'(l-))/2, and
        the chord c = (f(l+) - f(l-))/(l+ - l-),

            head  a u0 + (b/|v1|) v1'u1,    tail  (b/|v1|) u0 v1 + c u1 + ((a - c)/|v1|^2) (v1'u1) v1.

        Both quotients have closed forms that don't divide by |v1|: derivatives are right at v1 = 0 too.
        """
        at = self._smooth(v, mu)
        sums = _positive(at.s + at.z)
        across = _positive(at.s[0] + at.z[1])
        bend = at.coslope[1] * (at.slope[0] + at.s[1] / sums[0]) / across
        twist = -4 * at.slope[0] * at.coslope[1] * (at.parts.head / jnp.sum(sums)) / across**2
        inner = dot(at.parts.tail, u)
        return self._join(
            jnp.mean(at.slope) * u[0] + bend * inner,
            at.chord * u + (bend * u[0] + twist * inner) * at.parts.tail,
        )

    def _smooth(self, v: Array, mu: ArrayLike) -> _Smooth:
        """The smoothed projections of v: ``s(v, mu) = scale s(v/scale, mu/scale^2)``."""
        at = self._parts(v, jnp.sqrt(lax.stop_gradient(mu)))
        root = jnp.sqrt(mu) / at.scale
        eigenvalues = jnp.stack([at.head + at.radius, at.head - at.radius])

        # The larger of s and z is exact, the smaller one follows from the product, s/z or z/s from both.
        positive = eigenvalues > 0
        size = jnp.where(positive, eigenvalues, -eigenvalues)
        square = eigenvalues * eigenvalues + 4 * root * root
        larger = jnp.where(square > 0, (size + jnp.sqrt(_positive(square))) / 2, 0)
        ratio = (root / _positive(larger)) ** 2
        smaller = ratio * larger
        s, z = jnp.where(positive, larger, smaller), jnp.where(positive, smaller, larger)
        across = _positive(s[0] + z[1])
        return _Smooth(
            parts=at,
            s=s,
            z=z,
            slope=jnp.where(positive, 1, ratio) / (1 + ratio),
            coslope=jnp.where(positive, ratio, 1) / (1 + ratio),
            chord=s[0] / across,
            cochord=jnp.where(s[0] + z[1] > 0, z[1] / across, 1),
        )

    def _step_to_boundary(self, v: Array, dv: Array) -> Array:
        """The first root of ``det(v + step dv) = det v + 2 (v'J dv) step + det dv step^2``, v in the cone.

        The root of the discriminant is the length of a vector: of dv's tail once v is made the unit
        (Vandenberghe 2010). So a double root costs no accuracy. Of the two forms of the root
        that one is taken whose denominator adds numbers of one sign.
        """
        at, along = self._parts(v), self._parts(dv)
        determinant = jnp.maximum(at.head - at.radius, 0) * jnp.maximum(at.head + at.radius, 0)
        root = jnp.sqrt(determinant)
        slope = at.head * along.head - dot(at.tail, along.tail)
        part = (slope + root * along.head) / _positive(at.head + root)
        spread = _norm(root * along.tail - part * at.tail)
        curvature = (along.head - along.radius) * (along.head + along.radius)
        falling = determinant / _positive(spread - slope)
        turning = jnp.where(curvature < 0, (spread + slope) / _positive(-curvature), jnp.inf)
        step = jnp.where(slope < 0, falling, turning)
        # Through the apex determinants don't change sign.
        step = jnp.maximum(jnp.minimum(step, step_to_zero(at.head, along.head)), 0)
        return step * at.scale / along.scale

    def _first(self) -> Array:
        return jnp.arange(self.size) == 0

    def _parts(self, v: Array, least: ArrayLike = 0.0) -> _Parts:
        """v in a scale of its own, not below `least`: a power of two, so that nothing is rounded.

        Functions that are the same for every scale may take it for a constant when differentiated.
        """
        limits = jnp.finfo(v.dtype)
        largest = jnp.maximum(jnp.max(jnp.abs(lax.stop_gradient(v))), least)
        largest = jnp.clip(largest, limits.tiny**0.5, limits.max / 4)
        scale = lax.reduce_precision(largest, exponent_bits=limits.nexp, mantissa_bits=0)
        scaled = v / scale
        tail = jnp.where(self._first(), 0, scaled)
        return _Parts(scale, scaled[0], tail, _norm(tail))

    def _join(self, head: Array, tail: Array) -> Array:
        return jnp.where(self._first(), head, tail)

    def _values(self, upper: Array, lower: Array, rest: Array) -> Array:
        index = jnp.arange(self.size)
        return jnp.where(index == 0, upper, jnp.where(index == 1, lower, rest))

    def _power_product(self, axis: Array, stretch: Array, scale: Array, v: Array) -> Array:
        """The matrix with `scale` times stretch, 1/stretch and 1 on (1, axis), (1, -axis), the rest."""
        along = dot(axis, v)
        upper, lower = stretch * (v[0] + along) / 2, (v[0] - along) / stretch / 2
        return scale * self._join(upper + lower, v + (upper - lower - along) * axis)

    def _turn(self, rotation: Array, v: Array, after: bool) -> Array:
        """Coordinates 0 and 1 to (sum, difference)/sqrt 2; coordinate 1 changes its sign on the side
        of the reflection where the reflection took the axis to its opposite."""
        sign = jnp.where(rotation[1] > 0, -1, 1).astype(v.dtype)
        first, second = v[0] * 0.5**0.5, v[1] * 0.5**0.5
        if after:
            return self._values(first + sign * second, first - sign * second, v)
        return self._values(first + second, sign * (first - second), v)


class _Parts(NamedTuple):
    """``v / scale``: v0, v1 behind a zero, and its length."""

    scale: Array
    head: Array
    tail: Array
    radius: Array

    @property
    def axis(self) -> Array:
        return self.tail / _positive(self.radius)


class _Smooth(NamedTuple):
    """The eigenvalues of s and z, in the scale of the parts: arrays of two, the one of (1, u) first.

    `slope` is ds/dl and `coslope` -dz/dl at each; `chord` and `cochord` are the divided differences.
    """

    parts: _Parts
    s: Array
    z: Array
    slope: Array
    coslope: Array
    chord: Array
    cochord: Array


def _positive(v: Array) -> Array:
    """A divisor: one instead of what isn't positive."""
    return jnp.where(v > 0, v, 1)


def _norm(v: Array) -> Array:
    """Euclidean length of a vector of moderate size: zero, as its derivative, where squares underflow."""
    limits = jnp.finfo(v.dtype)
    square = dot(v, v)
    normal = square > limits.tiny / limits.eps
    return jnp.where(normal, jnp.sqrt(jnp.where(normal, square, 1)), 0)


def _rotation(axis: Array) -> Array:
    """The Householder reflection ``I - h h'`` that maps coordinate 1 to +-axis, by its h.

    The sign is the one that doesn't cancel in coordinate 1 (Golub & Van Loan 2013, section 5.1); that of
    h there tells it. A zero axis gives coordinate 1 itself.
    """
    sign = jnp.where(axis < 0, -1, 1).astype(axis.dtype)
    normal = jnp.where(jnp.arange(axis.size) == 1, sign, 0) + axis
    return normal * (2**0.5 / jnp.sqrt(_positive(dot(normal, normal))))
