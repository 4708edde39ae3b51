"""The linear system of a smooth program, for Newton's method and for its derivative alike.

    [H  C'   J'  ] [dx]   [r1]      H (n, n): Hessian of the Lagrangian,   C (p, n): of the equalities,
    [C  0    0   ] [dy] = [r2]      J (m, n): of the inequalities,         D (m,) = z / s > 0
    [J  0  -1/D  ] [dz]   [r3]

Eliminating dz leaves the barrier's Hessian ``K = H + J'DJ`` and the two forms of Gould et al. (2016):

- null space: with the projector ``F F' = I - C^+ C`` on the null space of C,
  ``dx = C^+ r2 + F (F'KF)^-1 F' (r1 - K C^+ r2)`` and ``dy = C^+' (r1 - K dx)``: K need not be positive
  definite but on that null space, and rows of C may be redundant;
- direct: ``dy = (C K^-1 C')^-1 (C K^-1 r1 - r2)``, ``dx = K^-1 (r1 - C'dy)``.

Towards the end of a barrier's path D grows without bound and H drowns in J'DJ. So D is capped where it
is eliminated, and refinement against the whole system, which is well conditioned, takes that out again.
For large n the null-space form is solved by conjugate gradients, which needs only products with H.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxopt_layers.cholesky import inverse_factor
from jaxopt_layers.implicit.iterative import dense_pseudo_inverse
from jaxopt_layers.matrix import dot, matmul, norm_inf

Form = Literal["null_space", "direct"]

# Largest J'DJ relative to H that is eliminated as it is.
_CAP = {8: 1e7, 4: 1e2}
_CAP_FOR_PRODUCTS = 1e2
_FLAT = 1e-12
_REFINEMENTS = 3
# Regularization of C K^-1 C', relative to its diagonal, for redundant rows.
_DUAL_REGULARIZATION = {8: 1e-11, 4: 1e-6}


class Right(NamedTuple):
    """A right-hand side, or a solution: the parts for x, the equalities and the inequalities."""

    x: Array
    y: Array
    z: Array


@dataclass(frozen=True)
class Saddle:
    """The matrix. H is given by its product, and as an array where it is small."""

    product: Callable[[Array], Array]
    H: Array | None
    C: Array
    C_inverse: Array
    J: Array
    D: Array

    def matvec(self, v: Right) -> Right:
        x = self.product(v.x) if self.H is None else matmul(self.H, v.x)
        x = x + matmul(self.C.T, v.y) + matmul(self.J.T, v.z)
        return Right(x, matmul(self.C, v.x), matmul(self.J, v.x) - v.z / self.D)

    def project(self, v: Array) -> Array:
        """The projection of a vector, or of each column, on the null space of C."""
        return v - matmul(self.C_inverse, matmul(self.C, v))

    def capped(self) -> Array:
        """D as it is eliminated."""
        if not self.D.size:
            return self.D
        rows = jnp.sum(self.J**2, axis=1)
        smallest = jnp.min(jnp.where(rows > 0, self.D * rows, jnp.inf))
        if self.H is not None:
            curvature, cap = norm_inf(jnp.diagonal(self.H)), _CAP[self.D.dtype.itemsize]
        else:
            probe = jnp.cos(1.0 + jnp.arange(self.J.shape[1], dtype=self.D.dtype))
            moved = self.product(probe)
            curvature, cap = jnp.sqrt(dot(moved, moved) / dot(probe, probe)), _CAP_FOR_PRODUCTS
        # Of a linear program the inequalities are all the curvature that there is.
        scale = jnp.where(curvature > _FLAT * smallest, curvature, smallest)
        return jnp.minimum(self.D, cap * scale / jnp.where(rows > 0, rows, 1))

    def refined(
        self, once: Callable[[Right], tuple[Right, Array]], right: Right
    ) -> tuple[Right, Array]:
        """The solution by `once`, refined while that makes the residual smaller; whether all went well."""
        if not (self.C.size or self.J.size):
            return once(right)

        def improve(_: Array, state: tuple[Right, Right, Array]) -> tuple[Right, Right, Array]:
            found, rest, good = state
            step, went_well = once(rest)
            better = Right(*(a + b for a, b in zip(found, step, strict=True)))
            remains = _subtract(right, self.matvec(better))
            gain = _size(remains) < _size(rest)
            new = jax.tree.map(partial(jnp.where, gain), (better, remains), (found, rest))
            return *new, good & went_well

        # From zero, so that the program holds `once` a single time.
        zero = jax.tree.map(lambda part: 0 * part, right)
        good = dot(zero.x, zero.x) == 0
        found, _, good = lax.fori_loop(0, 1 + _REFINEMENTS, improve, (zero, right, good))
        return found, good

    def condense(self, D: Array, right: Right) -> Array:
        return right.x + matmul(self.J.T, D * right.z)

    def expand(self, D: Array, right: Right, dx: Array, dy: Array) -> Right:
        return Right(dx, dy, D * (matmul(self.J, dx) - right.z))


def row_inverse(C: Array) -> Array:
    """The pseudo-inverse of C with its rows scaled to one: a right inverse where there is one."""
    if not C.size:
        return C.T
    norms = jnp.sqrt(jnp.sum(C**2, axis=1))
    norms = jnp.where(norms > 0, norms, 1)
    return dense_pseudo_inverse(C / norms[:, None]) / norms[None, :]


class Dense:
    """The system with K as a matrix."""

    def __init__(self, saddle: Saddle, form: Form):
        assert saddle.H is not None
        self.saddle, self.form = saddle, form
        self.D = saddle.capped()
        K = saddle.H
        if saddle.J.size:
            K = K + matmul(saddle.J.T * self.D[None, :], saddle.J)
        self.K = 0.5 * (K + K.T)
        self.reduced = self.K
        if saddle.C.size and form == "null_space":
            # F'KF, completed on the range of C' by a multiple of the identity.
            inside = saddle.project(saddle.project(self.K).T)
            self.scale = _diagonal_size(inside)
            identity = jnp.eye(self.K.shape[0], dtype=self.K.dtype)
            completed = inside + self.scale * (identity - saddle.project(identity))
            self.reduced = 0.5 * (completed + completed.T)
        self.scale = _diagonal_size(self.reduced)

    def factor(self, shift: Array | float = 0.0) -> tuple[Array, Array]:
        """The inverse Cholesky factor of ``reduced + shift I``; whether that is positive definite."""
        n, dtype = self.reduced.shape[0], self.reduced.dtype
        moved = self.reduced + shift * jnp.eye(n, dtype=dtype)
        R = inverse_factor(moved)
        pivots = 1 / jnp.diagonal(R) ** 2
        smallest = (8 + n) * jnp.finfo(dtype).eps * norm_inf(jnp.diagonal(moved))
        definite = jnp.all(jnp.isfinite(R)) & (jnp.min(pivots) > smallest)
        return jnp.where(definite, R, jnp.eye(n, dtype=dtype)), definite

    def solve(self, R: Array, right: Right) -> Right:
        """The solution by the factor."""
        return self._refined(lambda v: matmul(R.T, matmul(R, v)), right)

    def solve_least_squares(self, right: Right) -> Right:
        """The solution of least norm where the system is singular."""
        inverse = dense_pseudo_inverse(self.reduced)
        return self._refined(lambda v: matmul(inverse, v), right)

    def _refined(self, invert: Callable[[Array], Array], right: Right) -> Right:
        good = jnp.ones((), bool)
        return self.saddle.refined(lambda r: (self._once(invert, r), good), right)[0]

    def _once(self, invert: Callable[[Array], Array], right: Right) -> Right:
        saddle = self.saddle
        r1 = saddle.condense(self.D, right)
        if not saddle.C.size:
            return saddle.expand(self.D, right, invert(r1), right.y)
        if self.form == "direct":
            columns = invert(saddle.C.T)
            schur = matmul(saddle.C, columns)
            diagonal = jnp.diagonal(schur)
            small = _DUAL_REGULARIZATION[schur.dtype.itemsize] * norm_inf(diagonal)
            schur = schur + jnp.diag(jnp.where(diagonal > 0, small, 1))
            R = inverse_factor(0.5 * (schur + schur.T))
            dy = matmul(R.T, matmul(R, matmul(columns.T, r1) - right.y))
            dy = jnp.where(jnp.all(jnp.isfinite(dy)), dy, 0)
            return saddle.expand(self.D, right, invert(r1 - matmul(saddle.C.T, dy)), dy)
        particular = matmul(saddle.C_inverse, right.y)
        rest = saddle.project(r1 - matmul(self.K, particular))
        dx = particular + saddle.project(invert(rest))
        dy = matmul(saddle.C_inverse.T, r1 - matmul(self.K, dx))
        return saddle.expand(self.D, right, dx, dy)


def solve_by_products(
    saddle: Saddle, right: Right, tolerance: Array | float
) -> tuple[Right, Array]:
    """The null-space form by projected conjugate gradients; whether all curvatures were positive."""
    D = saddle.capped()

    def K(v: Array) -> Array:
        return saddle.product(v) + matmul(saddle.J.T, D * matmul(saddle.J, v))

    def once(right: Right) -> tuple[Right, Array]:
        r1 = saddle.condense(D, right)
        particular = matmul(saddle.C_inverse, right.y)
        rest = saddle.project(r1 - K(particular))
        step, convex = _conjugate_gradients(lambda v: saddle.project(K(v)), rest, tolerance)
        dx = particular + saddle.project(step)
        dy = matmul(saddle.C_inverse.T, r1 - K(dx))
        return saddle.expand(D, right, dx, dy), convex

    return saddle.refined(once, right)


class _Conjugate(NamedTuple):
    step: Array
    residual: Array
    direction: Array
    convex: Array
    steps: Array


def _conjugate_gradients(
    product: Callable[[Array], Array], right: Array, tolerance: Array | float
) -> tuple[Array, Array]:
    """Ends at the relative tolerance, or at a direction without positive curvature (Steihaug 1983).

    If already the first one has none, the step is that direction itself.
    """
    n, eps = right.shape[0], jnp.finfo(right.dtype).eps
    goal = (tolerance * tolerance) * dot(right, right)

    def unfinished(state: _Conjugate) -> Array:
        return (
            state.convex & (dot(state.residual, state.residual) > goal) & (state.steps < 4 * n + 20)
        )

    def iterate(state: _Conjugate) -> _Conjugate:
        moved = product(state.direction)
        curvature = dot(state.direction, moved)
        size = dot(state.direction, state.direction)
        convex = curvature > 4 * eps * jnp.sqrt(size * dot(moved, moved))
        before = dot(state.residual, state.residual)
        length = before / jnp.where(convex, curvature, 1)
        first = jnp.where(state.steps == 0, 1.0, 0.0).astype(right.dtype)
        step = state.step + jnp.where(convex, length, first) * state.direction
        residual = state.residual - jnp.where(convex, length, 0) * moved
        direction = residual + dot(residual, residual) / before * state.direction
        return _Conjugate(step, residual, direction, convex, state.steps + 1)

    zero = 0 * right
    start = _Conjugate(
        zero, right, right, dot(zero, zero) == 0, jnp.int32(0) + (0 * zero[0]).astype(int)
    )
    found = lax.while_loop(unfinished, iterate, start)
    return found.step, found.convex


def _diagonal_size(matrix: Array) -> Array:
    size = norm_inf(jnp.diagonal(matrix))
    return jnp.where(size > 0, size, 1)


def _subtract(a: Right, b: Right) -> Right:
    return Right(*(u - v for u, v in zip(a, b, strict=True)))


def _size(v: Right) -> Array:
    return norm_inf(jnp.concatenate(v))
