"""The cone of positive semidefinite matrices, as vectors of `vectorize.svec`. Self-dual.

Scaling (Nesterov & Todd 1998; Todd, Toh & Tutuncu 1998, section 2). With Cholesky factors S = L L' and
Z = M M' and the singular value decomposition M'L = U D V', the matrix R = L V D^-1/2 has the inverse
D^-1/2 U'M', and

    R'Z R = R^-1 S R^-T = D,      W v = svec(R' V R),      H v = W'W v = svec(T V T),   T = R R'.

The eigenvalues of H are the products t_i t_j of those of T, its eigenvectors the rotated coordinate
matrices B e_i e_j' B' of T = B diag(t) B'.

Projection. V = S - Z with S Z = 0 splits V into its positive and its negative part; S Z = mu I smooths
them. Either way S is a function of the eigenvalues of V with S^2 - S V = mu I, and the derivative
X = DS(V) U solves the Lyapunov equation

    P X + X P = S U + U S,      P = S + Z,                                                    (1)

which in an eigenbasis of V divides by p_i + p_j. So the eigenvalues of DS(V) are
(s_i + s_j) / (p_i + p_j): the divided differences of Daleckii & Krein (1965), written without a
difference, so that ties of eigenvalues need no care.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from jaxopt_layers.cones.nonnegative import Nonnegative, step_to_zero
from jaxopt_layers.cones.vectorize import lower_triangle, pack, triangular, unpack
from jaxopt_layers.extreme_eigenvalues import extreme_eigenvalues, smallest_eigenvalue
from jaxopt_layers.lapack import cholesky, eigh, svd
from jaxopt_layers.matrix import matmul


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class NesterovTodd:
    """R, its inverse, and the diagonal of D, the eigenvalues of the scaled point lambda = W z."""

    root: Array
    inverse_root: Array
    scaled: Array


@dataclass(frozen=True)
class PositiveSemidefinite:
    """Symmetric matrices of side `side` without negative eigenvalues."""

    side: int

    symmetric = True

    @property
    def size(self) -> int:
        return triangular(self.side)

    @property
    def degree(self) -> int:
        return self.side

    def unit(self, dtype: DTypeLike) -> Array:
        return pack(jnp.eye(self.side, dtype=dtype))

    def margin(self, v: Array) -> Array:
        return smallest_eigenvalue(unpack(v, self.side))

    def rectify_scaling(self, rows: Array) -> Array:
        """One factor for all rows, their geometric mean."""
        return jnp.full_like(rows, jnp.exp(jnp.mean(jnp.log(rows))))

    def scaling(self, s: Array, z: Array, mu: Array | None = None) -> NesterovTodd:
        """The scaling at a pair; mu plays no part."""
        lower_s, lower_z = _factors(unpack(jnp.stack([s, z]), self.side))
        left, values, right = _singular(matmul(lower_z.T, lower_s))
        powers = lax.rsqrt(values)
        return NesterovTodd(
            root=matmul(lower_s, right.T) * powers[None, :],
            inverse_root=powers[:, None] * matmul(left.T, lower_z.T),
            scaled=values,
        )

    def hessian_product(self, scaling: NesterovTodd, v: Array) -> Array:
        metric = matmul(scaling.root, scaling.root.T)
        return self._congruence(metric, v)

    def spectrum(self, scaling: NesterovTodd) -> tuple[Array, Array]:
        """From singular values of R: those of T would lose the small ones, half of the digits."""
        basis, roots, _ = _singular(scaling.root)
        rows, columns = lower_triangle(self.side)
        values = jnp.square(roots[rows] * roots[columns])
        return jnp.maximum(values, jnp.finfo(values.dtype).tiny), basis

    def rotate(self, rotation: Array, v: Array) -> Array:
        return self._congruence(rotation.T, v)

    def unrotate(self, rotation: Array, v: Array) -> Array:
        return self._congruence(rotation, v)

    def affine_shift(self, scaling: NesterovTodd, s: Array) -> Array:
        return s

    def combined_shift(
        self, scaling: NesterovTodd, s: Array, z: Array, ds: Array, dz: Array, target: Array
    ) -> Array:
        """Mehrotra's: s + W'(lambda \\ (W^-T ds o W dz - target e)), X o Y = (XY + YX) / 2."""
        root, inverse, scaled = scaling.root, scaling.inverse_root, scaling.scaled
        scaled_ds = _congruent(inverse, unpack(ds, self.side))
        scaled_dz = _congruent(root.T, unpack(dz, self.side))
        product = matmul(scaled_ds, scaled_dz)
        aim = product + product.T - 2 * target * jnp.eye(self.side, dtype=s.dtype)
        divided = aim / (scaled[:, None] + scaled[None, :])
        return s + pack(_congruent(root, divided))

    def max_step(
        self, scaling: NesterovTodd, s: Array, z: Array, ds: Array, dz: Array, affine: bool = False
    ) -> Array:
        """S + t dS leaves the cone where D + t R^-1 dS R^-T does, Z + t dZ where D + t R'dZ R does.

        The affine direction's two matrices, relative to D, add up to minus the identity.
        """
        root = lax.rsqrt(scaling.scaled)[:, None]
        if affine:
            relative = _congruent(root * scaling.inverse_root, unpack(ds, self.side))
            of_s, largest = extreme_eigenvalues(relative)
            smallest = jnp.stack([of_s, -1 - largest])
        else:
            bases = root[None] * jnp.stack([scaling.inverse_root, scaling.root.T])
            relative = _congruent(bases, unpack(jnp.stack([ds, dz]), self.side))
            smallest = jax.vmap(smallest_eigenvalue)(relative)
        return jnp.min(step_to_zero(jnp.ones_like(smallest), smallest))

    def project(self, v: Array) -> Array:
        return self._split(v, None)[0]

    def project_spectrum(self, v: Array) -> tuple[Array, Array]:
        """At a kink, a pair of zero eigenvalues, the derivative is taken to be half the identity."""
        return self._differences(v, None)

    def project_product(self, v: Array, u: Array) -> Array:
        """Can be differentiated any number of times, like the other functions of eigenvalues here."""
        return self._split_product(v, None, u)

    def central_pair(self, v: Array, mu: Array) -> tuple[Array, Array]:
        return self._split(v, mu)

    def central_spectrum(self, v: Array, mu: Array) -> tuple[Array, Array]:
        return self._differences(v, mu)

    def central_product(self, v: Array, mu: Array, u: Array) -> Array:
        return self._split_product(v, mu, u)

    def _congruence(self, matrix: Array, v: Array) -> Array:
        return pack(_congruent(matrix, unpack(v, self.side)))

    def _differences(self, v: Array, mu: Array | None) -> tuple[Array, Array]:
        """The eigenvalues of the solution map of (1), and the eigenbasis of v."""
        values, basis = _eigen(unpack(v, self.side))
        positive, _ = _split_values(values, mu)
        inverse, kink = _inverse_sums(values, mu)
        differences = (positive[:, None] + positive[None, :]) * inverse + kink
        return differences[lower_triangle(self.side)], basis

    def _split(self, v: Array, mu: Array | None) -> tuple[Array, Array]:
        """S and Z, differentiable in v and mu."""
        values, basis, rotated = self._rotated(v)
        parts = _parts(values, mu, rotated)
        positive, negative = (pack(_congruent(basis, part)) for part in parts)
        return positive, negative

    def _split_product(self, v: Array, mu: Array | None, u: Array) -> Array:
        values, basis, rotated = self._rotated(v)
        direction = _congruent(basis.T, unpack(u, self.side))
        return pack(_congruent(basis, _derivative(values, mu, rotated, direction)))

    def _rotated(self, v: Array) -> tuple[Array, Array, Array]:
        """Eigenvalues and eigenbasis as constants, and the matrix V in that basis, which is not.

        What follows works in this basis, which stays where it is when V moves: then no derivative of
        eigenvectors is needed, which don't have one at ties.
        """
        matrix = unpack(v, self.side)
        values, basis = _eigen(lax.stop_gradient(matrix))
        return values, basis, _congruent(basis.T, matrix)


def _factors(matrices: Array) -> Array:
    """Lower triangular factors of positive definite matrices, finite whatever the matrices are.

    Rounding errors can make an iterate indefinite once its smallest eigenvalue is some 1e-16 of the
    largest. Then the factor is that of the matrix shifted by as much as rounding can have cost; and of
    a matrix that is indefinite beyond rounding, which has no scaling, of a multiple of the identity.
    """
    side, limits = matrices.shape[-1], jnp.finfo(matrices.dtype)
    identity = jnp.broadcast_to(jnp.eye(side, dtype=matrices.dtype), matrices.shape)
    size = side * jnp.max(jnp.abs(matrices), axis=(-2, -1), keepdims=True) + limits.tiny
    shifted = matrices + (4 * limits.eps * size) * identity
    factor = jax.vmap(jax.vmap(cholesky))
    exact, nearby = factor(jnp.stack([matrices, shifted]))
    last_resort = jnp.where(jnp.isfinite(nearby[..., -1:, -1:]), nearby, jnp.sqrt(size) * identity)
    return jnp.where(jnp.isfinite(exact[..., -1:, -1:]), exact, last_resort)


def _singular(matrix: Array) -> tuple[Array, Array, Array]:
    """Singular value decomposition of an invertible matrix: what rounding leaves of zero is positive."""
    left, values, right = svd(matrix)
    limits = jnp.finfo(matrix.dtype)
    return left, jnp.maximum(values, limits.eps * values[0] + limits.tiny), right


def _eigen(matrix: Array) -> tuple[Array, Array]:
    values, basis = eigh(matrix)
    return values, basis


def _congruent(left: Array, matrix: Array) -> Array:
    """L X L', for stacks of matrices too."""
    return matmul(matmul(left, matrix), jnp.swapaxes(left, -1, -2))


def _split_values(values: Array, mu: Array | None) -> tuple[Array, Array]:
    """Eigenvalues of S and Z; mu None is exactly zero."""
    if mu is None:
        return jnp.maximum(values, 0), jnp.maximum(-values, 0)
    return Nonnegative(values.shape[0]).central_pair(values, mu)


def _inverse_sums(values: Array, mu: Array | None) -> tuple[Array, Array]:
    """1 / (p_i + p_j), or 0 at a kink, where (1) is void: two eigenvalues that are zero up to rounding.

    The second result is a half at kinks and 0 elsewhere: half the identity, which the smoothed
    derivative tends to at V = 0, is an element of the generalized derivative. Both are constants.
    """
    positive, negative = _split_values(*lax.stop_gradient((values, mu)))
    total = positive + negative
    limits = jnp.finfo(values.dtype)
    sums = total[:, None] + total[None, :]
    rounding = values.shape[0] * limits.eps * jnp.max(total)
    kink = sums <= jnp.maximum(rounding, limits.tiny)
    return jnp.where(kink, 0, 1 / jnp.where(kink, 1, sums)), jnp.where(kink, 0.5, 0)


def _lyapunov(matrix: Array, inverse: Array, right: Array) -> Array:
    """The X with ``P X + X P = right``, P diagonal in value but not in its derivatives.

    `lax.custom_linear_solve` differentiates the equation, not the division: ``P dX + X dP = ...`` comes
    out exact for any dP, for equal eigenvalues too, and can be differentiated and transposed again.
    """
    return lax.custom_linear_solve(
        lambda x: matmul(matrix, x) + matmul(x, matrix),
        right,
        lambda _, given: inverse * given,
        symmetric=True,
    )


@jax.custom_jvp
def _parts(values: Array, mu: Array | None, rotated: Array) -> tuple[Array, Array]:
    """S and Z of the matrix `rotated`, which is diagonal with these values; the derivative is its."""
    positive, negative = _split_values(values, mu)
    return jnp.diag(positive), jnp.diag(negative)


@_parts.defjvp
def _parts_rule(
    primals: tuple[Array, Array | None, Array], tangents: tuple[Array, Array | None, Array]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """(1) for both parts; as S^2 - S V = mu I, the parameter adds 2 dmu I on the right."""
    values, mu, rotated = primals
    _, dmu, direction = tangents
    positive, negative = _parts(values, mu, rotated)
    inverse, kink = _inverse_sums(values, mu)
    total = positive + negative
    lift = 0 if dmu is None else 2 * dmu * jnp.eye(values.shape[0], dtype=values.dtype)

    def solve(part: Array, sign: int) -> Array:
        right = matmul(part, direction) + matmul(direction, part)
        return _lyapunov(total, inverse, lift + sign * right) + sign * kink * direction

    return (positive, negative), (solve(positive, 1), solve(negative, -1))


def _derivative(values: Array, mu: Array | None, rotated: Array, direction: Array) -> Array:
    """DS(V) U for V = `rotated`, by (1)."""
    positive, negative = _parts(values, mu, rotated)
    inverse, kink = _inverse_sums(values, mu)
    right = matmul(positive, direction) + matmul(direction, positive)
    return _lyapunov(positive + negative, inverse, right) + kink * direction
