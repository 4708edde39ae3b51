"""The KKT conditions of a program, linearized at a solution: the derivative's one linear system.

At a solution (x, z, s) of ``Px + q + R'z = 0, Rx + s = b, s o z = 0`` (mu on the central path), data
and solution move together by

    [P  R'] [dx]   [-(dP x + dq + dR'z)]
    [R -H ] [dz] = [ db - dR x         ],      ds = -H dz,      H = diag(s / z),  0 on equality rows,

which are the equations of Amos & Kolter (2017), eq. 6, symmetrized. Their adjoint (eq. 7-8), for
cotangents (gx, gz, gs) and ``[P R'; R -H] u = (gx - R'gs, gz)`` is

    dq = -u1,   db = u2 + gs,   dP = -(u1 x' + x u1') / 2,   dR = -(z u1' + (u2 + gs) x').

The optimal value needs no linear system: its derivative is that of the Lagrangian (the envelope theorem).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxopt_layers.equilibrate import Scaling, scale
from jaxopt_layers.implicit.attainable import solve_attainable
from jaxopt_layers.implicit.data import Data, Layout, Marks, Vectors
from jaxopt_layers.implicit.least_squares import PseudoInverse, pseudo_inverse
from jaxopt_layers.kkt import System, choose_form, restore, robust_factor
from jaxopt_layers.matrix import outer_like
from jaxopt_layers.problem import Program
from jaxopt_layers.settings import Settings, tolerances
from jaxopt_layers.solution import ConeSolution

# Slack-to-dual ratios beyond these bounds say no more than active or inactive.
_LARGEST_RATIO = {8: 1e13, 4: 1e6}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Factorization:
    """What the backward pass reuses of the system at a solution, scaled and factored, as it is kept.

    Not its matrices: to scale the data again takes less time than to keep them.
    """

    hessian: Array
    regularization: Array
    scaling: Scaling
    factor: Any


@dataclass(frozen=True)
class KKTRule:
    """The linear system of the derivative, for one layout and one choice of settings."""

    layout: Layout
    settings: Settings

    def factorize(
        self, data: Data, marks: Marks, solution: ConeSolution, scaling: Scaling
    ) -> Factorization:
        """Factor the system at the solution.

        The backward pass reuses this factor for every cotangent. The loop's last factor would not
        do: it belongs to the iterate before the last.
        """
        arguments = (data, marks, solution, scaling)
        data, marks, solution, scaling = lax.stop_gradient(arguments)
        program, hessian = self._linearize(data, marks, (solution.y, solution.s))
        scaled = scale(program, scaling)
        hessian = hessian * scaling.rows * scaling.rows / scaling.objective
        limits = tolerances(self.settings, hessian.dtype)
        system = System(scaled, hessian, jnp.array(limits.regularization, hessian.dtype))
        factor: Any
        if self.settings.derivative.solver == "least_squares":
            factor = pseudo_inverse(system)
        else:
            system, factor = robust_factor(choose_form(scaled, self.layout.cone), system)
        return Factorization(hessian, system.regularization, scaling, factor)

    def adjoint(
        self,
        data: Data,
        marks: Marks,
        solution: ConeSolution,
        factorization: Factorization,
        cotangent: Vectors,
    ) -> tuple[Array, Array]:
        """u1 and u2 + gs of the equations above, for the cotangents of x, z and s."""
        rows = self.layout.program(data, marks).rows
        right_x = cotangent.x - rows.transposed_product(cotangent.s)
        right = jnp.concatenate([right_x, cotangent.y])
        u = self._solve(data, marks, solution, factorization, right)
        n = cotangent.x.shape[0]
        return u[:n], u[n:] + cotangent.s

    def tangent(
        self,
        data: Data,
        marks: Marks,
        solution: ConeSolution,
        factorization: Factorization,
        right_x: Array,
        right_z: Array,
    ) -> Vectors:
        """(dx, dz, ds) for the right-hand sides of the equations above."""
        right = jnp.concatenate([right_x, right_z])
        u = self._solve(data, marks, solution, factorization, right)
        dx, dz = u[: right_x.shape[0]], u[right_x.shape[0] :]
        # Where s / z is clipped, -H dz would lose it; the rows' own equation does not.
        ds = right_z - self.layout.program(data, marks).rows.product(dx)
        return Vectors(dx, dz, ds)

    def _solve(
        self,
        data: Data,
        marks: Marks,
        solution: ConeSolution,
        factorization: Factorization,
        right: Array,
    ) -> Array:
        """Solve the symmetric system for one right-hand side, differentiably in all but the factor."""
        pair = (solution.y, solution.s)
        if self.settings.derivative.mode == "reverse":
            solved: Any = _solve_reverse(self, data, marks, pair, factorization, right)
            return solved
        return lax.custom_linear_solve(
            lambda u: self._product(data, marks, pair, u),
            right,
            lambda _, rhs: self._solve_scaled(data, marks, pair, factorization, rhs),
            symmetric=True,
        )

    def _product(self, data: Data, marks: Marks, pair: tuple[Array, Array], u: Array) -> Array:
        """The system's matrix times u, in the user's units."""
        program, hessian = self._linearize(data, marks, pair)
        dx, dz = program.split(u)
        top = program.quadratic_product(dx) + program.rows.transposed_product(dz)
        return jnp.concatenate([top, program.rows.product(dx) - hessian * dz])

    def _linearize(
        self, data: Data, marks: Marks, pair: tuple[Array, Array]
    ) -> tuple[Program, Array]:
        """The program with, of two coinciding bounds, only the one that holds; and H."""
        program = self.layout.program(data, marks)
        rows, p = program.rows, self.layout.equalities
        duals, slacks = pair
        s, z = slacks[p:], duals[p:]
        if self.layout.cone.degree == 0:
            return program, jnp.zeros_like(slacks)
        active = jnp.ones_like(slacks) if rows.active is None else rows.active
        if rows.lower and rows.upper:
            _, lower, upper = rows.split(data.offset)
            _, lower_dual, upper_dual = rows.split(duals)
            dense_active, lower_active, upper_active = rows.split(active)
            coincide = (-lower == upper) & (lower_active > 0) & (upper_active > 0)
            upper_holds = upper_dual > lower_dual
            lower_active = jnp.where(coincide & upper_holds, 0, lower_active)
            upper_active = jnp.where(coincide & ~upper_holds, 0, upper_active)
            active = jnp.concatenate([dense_active, lower_active, upper_active])
        bound = _LARGEST_RATIO[s.dtype.itemsize]
        # Away from the bounds H is s / z to the last bit, so that it can be differentiated again.
        present = (active[p:] > 0) & jnp.isfinite(s)
        s = jnp.where(present, s, 1)
        z = jnp.where(present, z, 1)
        is_active, is_inactive = s * bound <= z, z * bound <= s
        regular = ~is_active & ~is_inactive
        ratio = jnp.where(regular, s, 1) / jnp.where(regular, z, 1)
        ratio = jnp.where(is_active, 1 / bound, jnp.where(is_inactive, bound, ratio))
        hessian = jnp.concatenate([jnp.zeros(p, s.dtype), ratio])
        return replace(program, rows=replace(rows, active=active)), hessian

    def _solve_scaled(
        self,
        data: Data,
        marks: Marks,
        pair: tuple[Array, Array],
        factorization: Factorization,
        right: Array,
    ) -> Array:
        """Solve in equilibrated coordinates: x = D x^, z = E z^ / c."""
        scaling, factor = factorization.scaling, factorization.factor
        into = jnp.concatenate([scaling.objective * scaling.columns, scaling.rows])
        out = jnp.concatenate([scaling.columns, scaling.rows / scaling.objective])
        if isinstance(factor, PseudoInverse):
            return out * factor.solve(into * right)
        program, _ = self._linearize(*lax.stop_gradient((data, marks, pair)))
        scaled = scale(program, scaling)
        system = System(scaled, factorization.hessian, factorization.regularization)
        return out * solve_attainable(
            self.settings,
            choose_form(scaled, self.layout.cone),
            system,
            restore(factor),
            into * right,
        )


# Not lax.custom_linear_solve, which (jax 0.10) can't be lowered under shard_map.
@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _solve_reverse(
    rule: KKTRule,
    data: Data,
    marks: Marks,
    pair: tuple[Array, Array],
    factorization: Factorization,
    right: Array,
) -> Array:
    return rule._solve_scaled(data, marks, pair, factorization, right)


def _solve_reverse_forward(
    rule: KKTRule, data: Data, marks: Marks, pair: Any, factorization: Factorization, right: Array
) -> tuple[Array, Any]:
    u: Any = _solve_reverse(rule, data, marks, pair, factorization, right)
    return u, (data, marks, pair, factorization, u)


def _solve_reverse_backward(rule: KKTRule, residuals: Any, cotangent: Array) -> Any:
    """K u = r and K symmetric: with K w = g, the cotangent of r is w and that of K is -w u'."""
    data, marks, pair, factorization, u = residuals
    w: Any = _solve_reverse(rule, data, marks, pair, factorization, cotangent)
    _, pull = jax.vjp(lambda data, pair: rule._product(data, marks, pair, u), data, pair)
    data_cotangent, pair_cotangent = pull(-w)
    return data_cotangent, None, pair_cotangent, None, w


_solve_reverse.defvjp(_solve_reverse_forward, _solve_reverse_backward)


def value_cotangent(data: Data, solution: ConeSolution, cotangent: Array) -> Data:
    """The optimal value's derivative, by the envelope theorem, times its cotangent."""
    x, z = solution.x, solution.y
    quadratic, matrix = data.quadratic, data.matrix
    if quadratic is not None:
        quadratic = outer_like(quadratic, 0.5 * cotangent * x, x)
    if matrix is not None:
        matrix = outer_like(matrix, cotangent * z[: matrix.shape[0]], x)
    return Data(quadratic, cotangent * x, matrix, -cotangent * z)
