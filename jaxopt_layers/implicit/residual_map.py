"""The residual map of a program, linearized at a solution: the derivative through a cone program.

With v = y - s a solution is a root of the map

    F(x, v) = ( Px + A'y + c,  Ax + s - b ),      y = Pi_K*(v),  s = y - v,

which is the homogeneous self-dual residual map of Agrawal et al. (2019, section 3) at tau = 1: its kernel
is the solution itself, and its left kernel (x, y, 1), so that dtau = 0 and leaving out the last row lose
nothing. With w = s - y, S = DPi_K(w) and D = I - S = DPi_K*(v), solution and data move together by

    M (dx, dv) = ( -(dP x + dA'y + dc), db - dA x ),      M = [ P   A'D ]      dy = D dv,  ds = -S dv.
                                                              [ A   -S  ]

M is factored in the symmetric form of `kkt.projected`. On the central path, and for its smoothed
derivatives, Pi is the smoothed projection. All of this happens in equilibrated coordinates, to which
x = D x^, s = E^-1 s^, y = E y^ / c belong.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxopt_layers.cones import Rotation
from jaxopt_layers.equilibrate import Scaling, scale
from jaxopt_layers.implicit.attainable import solve_attainable
from jaxopt_layers.implicit.data import Data, Layout, Marks, Vectors
from jaxopt_layers.implicit.iterative import dense_pseudo_inverse, least_squares_by_lsmr
from jaxopt_layers.kkt import ProjectedSystem, choose_form, restore, robust_factor
from jaxopt_layers.matrix import matmul
from jaxopt_layers.problem import Program
from jaxopt_layers.settings import Settings, tolerances
from jaxopt_layers.solution import ConeSolution


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MapFactorization:
    """`factor` of the symmetric system `projected`, as it is kept; or M's pseudo-inverse; or nothing."""

    scaling: Scaling
    projected: ProjectedSystem | None
    factor: Any


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Point:
    """w = s - y, and the barrier parameter of the smoothed projection, both equilibrated."""

    w: Array
    mu: Array


@dataclass(frozen=True)
class ResidualMapRule:
    """The linear system of the derivative, for one layout and one choice of settings."""

    layout: Layout
    settings: Settings

    def factorize(
        self, data: Data, marks: Marks, solution: ConeSolution, scaling: Scaling
    ) -> MapFactorization:
        """Factor the system at the solution; the backward pass reuses this for every cotangent."""
        arguments = (data, marks, solution, scaling)
        data, marks, solution, scaling = lax.stop_gradient(arguments)
        point = self._point(solution, scaling, marks)
        solver = self.settings.derivative.solver
        if solver == "lsmr":
            return MapFactorization(scaling, None, None)
        if solver == "least_squares":
            size = data.linear.shape[0] + point.w.shape[0]
            identity = jnp.eye(size, dtype=point.w.dtype)
            columns = jax.vmap(lambda u: self._product(False, data, marks, scaling, point, u))
            return MapFactorization(scaling, None, dense_pseudo_inverse(columns(identity).T))
        program = self._program(data, marks, scaling)
        slopes, rotation = self._spectrum(point, marks)
        limits = tolerances(self.settings, slopes.dtype)
        regularization = jnp.array(limits.regularization, slopes.dtype)
        projected = ProjectedSystem.at(program, slopes, rotation, regularization)
        system, factor = robust_factor(choose_form(program, self.layout.cone), projected.system)
        return MapFactorization(scaling, ProjectedSystem(system, projected.weights), factor)

    def adjoint(
        self,
        data: Data,
        marks: Marks,
        solution: ConeSolution,
        factorization: MapFactorization,
        cotangent: Vectors,
    ) -> tuple[Array, Array]:
        """The cotangents of ``-(dP x + dA'y + dc)`` and of ``db - dA x``."""
        scaling = factorization.scaling
        point = self._point(solution, scaling, marks)
        right = self._cotangent(scaling, point, marks, cotangent)
        solved = self._solve(True, data, marks, point, factorization, right)
        n = cotangent.x.shape[0]
        return scaling.objective * scaling.columns * solved[:n], scaling.rows * solved[n:]

    def tangent(
        self,
        data: Data,
        marks: Marks,
        solution: ConeSolution,
        factorization: MapFactorization,
        right_x: Array,
        right_z: Array,
    ) -> Vectors:
        """(dx, dy, ds) for those right-hand sides."""
        scaling = factorization.scaling
        point = self._point(solution, scaling, marks)
        right_x = scaling.objective * scaling.columns * right_x
        right = jnp.concatenate([right_x, scaling.rows * right_z])
        solved = self._solve(False, data, marks, point, factorization, right)
        dx, dv = solved[: right_x.shape[0]], solved[right_x.shape[0] :]
        dx = scaling.columns * dx
        dy = scaling.rows / scaling.objective * (dv - self._slope_product(point, marks, dv))
        ds = right_z - self.layout.program(data, marks).rows.product(dx)
        return Vectors(dx, dy, ds)

    def quality(
        self,
        data: Data,
        marks: Marks,
        solution: ConeSolution,
        factorization: MapFactorization,
        cotangent: Vectors,
    ) -> Array:
        """What the adjoint equation ``M'w = g`` leaves unsolved: |M'w - g| / |g|."""
        scaling = factorization.scaling
        point = self._point(solution, scaling, marks)
        right = self._cotangent(scaling, point, marks, cotangent)
        solved = self._solve(True, data, marks, point, factorization, right)
        left = self._product(True, data, marks, scaling, point, solved) - right
        size = jnp.sqrt(jnp.sum(right * right))
        return jnp.sqrt(jnp.sum(left * left)) / jnp.where(size > 0, size, 1)

    def _cotangent(
        self, scaling: Scaling, point: _Point, marks: Marks, cotangent: Vectors
    ) -> Array:
        """g: the cotangent of (x, v), where y and s are functions of v."""
        gy = scaling.rows / scaling.objective * cotangent.y
        both = gy + cotangent.s / scaling.rows
        gv = gy - self._slope_product(point, marks, both)
        return jnp.concatenate([scaling.columns * cotangent.x, gv])

    def _program(self, data: Data, marks: Marks, scaling: Scaling) -> Program:
        return scale(self.layout.program(data, marks), scaling)

    def _point(self, solution: ConeSolution, scaling: Scaling, marks: Marks) -> _Point:
        s, y = scaling.scale_slack(solution.s), scaling.scale_dual(solution.y)
        if marks.active is not None:
            s = jnp.where(jnp.isfinite(solution.s), s, 1)
        smoothing, method = self.settings.derivative.smoothing, self.settings.derivative.method
        mu = jnp.zeros((), s.dtype)
        if smoothing:
            mu = smoothing * scaling.objective
        elif method == "kkt":
            tiny = float(jnp.finfo(s.dtype).eps) ** 2
            mu = jnp.maximum(jnp.sum(s * y) / max(self.layout.cone.degree, 1), tiny)
        return _Point(s - y, lax.stop_gradient(mu))

    @property
    def _smooth(self) -> bool:
        return self.settings.derivative.smoothing > 0 or self.settings.derivative.method == "kkt"

    def _spectrum(self, point: _Point, marks: Marks) -> tuple[Array, Rotation]:
        """k and U; an absent row is an inactive one."""
        cone = self.layout.cone
        if self._smooth:
            slopes, rotation = cone.central_spectrum(point.w, point.mu)
        else:
            slopes, rotation = cone.project_spectrum(point.w)
        if marks.active is not None:
            slopes = jnp.where(marks.active > 0, slopes, 1)
        return slopes, rotation

    def _slope_product(self, point: _Point, marks: Marks, u: Array) -> Array:
        """S u, differentiably."""
        cone = self.layout.cone
        if self._smooth:
            product = cone.central_product(point.w, point.mu, u)
        else:
            product = cone.project_product(point.w, u)
        return product if marks.active is None else jnp.where(marks.active > 0, product, u)

    def _product(
        self,
        transposed: bool,
        data: Data,
        marks: Marks,
        scaling: Scaling,
        point: _Point,
        u: Array,
    ) -> Array:
        """M u, or M'u."""
        program = self._program(data, marks, scaling)
        x, z = program.split(u)
        if transposed:
            moved = program.rows.product(x)
            top = program.quadratic_product(x) + program.rows.transposed_product(z)
            bottom = moved - self._slope_product(point, marks, moved + z)
        else:
            slope = self._slope_product(point, marks, z)
            top = program.quadratic_product(x) + program.rows.transposed_product(z - slope)
            bottom = program.rows.product(x) - slope
        return jnp.concatenate([top, bottom])

    def _solve(
        self,
        transposed: bool,
        data: Data,
        marks: Marks,
        point: _Point,
        factorization: MapFactorization,
        right: Array,
    ) -> Array:
        """Solve with M or M', differentiably in all but the factorization."""
        if self.settings.derivative.mode == "reverse":
            solved: Any = _solve_reverse(self, transposed, data, marks, point, factorization, right)
            return solved
        arguments = (data, marks, factorization.scaling, point)
        return lax.custom_linear_solve(
            lambda u: self._product(transposed, *arguments, u),
            right,
            lambda _, rhs: self._apply(transposed, data, marks, point, factorization, rhs),
            lambda _, rhs: self._apply(not transposed, data, marks, point, factorization, rhs),
        )

    def _apply(
        self,
        transposed: bool,
        data: Data,
        marks: Marks,
        point: _Point,
        factorization: MapFactorization,
        right: Array,
    ) -> Array:
        data, marks, point = lax.stop_gradient((data, marks, point))
        scaling, solver = factorization.scaling, self.settings.derivative.solver
        if solver == "least_squares":
            inverse = factorization.factor
            return matmul(inverse.T if transposed else inverse, right)
        if solver == "lsmr":
            return least_squares_by_lsmr(
                lambda u: self._product(transposed, data, marks, scaling, point, u),
                right,
                self.settings.derivative,
            )
        projected, factor = factorization.projected, restore(factorization.factor)
        assert projected is not None
        form = choose_form(projected.system.program, self.layout.cone)
        return projected.solve(
            self._program(data, marks, scaling),
            right,
            lambda rhs: solve_attainable(self.settings, form, projected.system, factor, rhs),
            transposed,
        )


# Not lax.custom_linear_solve, which (jax 0.10) can't be lowered under shard_map.
@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _solve_reverse(
    rule: ResidualMapRule,
    transposed: bool,
    data: Data,
    marks: Marks,
    point: _Point,
    factorization: MapFactorization,
    right: Array,
) -> Array:
    return rule._apply(transposed, data, marks, point, factorization, right)


def _solve_reverse_forward(
    rule: ResidualMapRule,
    transposed: bool,
    data: Data,
    marks: Marks,
    point: _Point,
    factorization: MapFactorization,
    right: Array,
) -> tuple[Array, Any]:
    u: Any = _solve_reverse(rule, transposed, data, marks, point, factorization, right)
    return u, (data, marks, point, factorization, u)


def _solve_reverse_backward(
    rule: ResidualMapRule, transposed: bool, residuals: Any, cotangent: Array
) -> Any:
    """M u = r: with M'g = the cotangent of u, that of r is g and that of M is -g u'."""
    data, marks, point, factorization, u = residuals
    g: Any = _solve_reverse(rule, not transposed, data, marks, point, factorization, cotangent)
    _, pull = jax.vjp(
        lambda data, point: rule._product(transposed, data, marks, factorization.scaling, point, u),
        data,
        point,
    )
    data_cotangent, point_cotangent = pull(-g)
    return data_cotangent, None, point_cotangent, None, g


_solve_reverse.defvjp(_solve_reverse_forward, _solve_reverse_backward)
