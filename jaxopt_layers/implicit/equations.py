"""The derivative of the solution map at one solution, as a linear operator and its adjoint."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_layers import engine
from jaxopt_layers.equilibrate import Scaling
from jaxopt_layers.implicit.data import Data, Layout, Marks, Vectors
from jaxopt_layers.implicit.kkt import KKTRule, value_cotangent
from jaxopt_layers.implicit.residual_map import ResidualMapRule
from jaxopt_layers.matrix import column_product, outer_like, row_product, symmetric_product
from jaxopt_layers.settings import Settings
from jaxopt_layers.solution import ConeSolution
from jaxopt_layers.status import Status


@dataclass(frozen=True)
class Equations:
    """The linearized conditions at `solution`, where a failed problem's point is a harmless one."""

    layout: Layout
    settings: Settings
    data: Data
    marks: Marks
    solution: ConeSolution
    factorization: Any

    @classmethod
    def at(
        cls,
        layout: Layout,
        settings: Settings,
        data: Data,
        marks: Marks,
        solution: ConeSolution,
        scaling: Scaling | None = None,
    ) -> Equations:
        """Factor the equations at a solution; without its scaling, as a solve would begin."""
        if scaling is None:
            program = layout.program(data, marks)
            scaling = engine.scaling_of(program, layout.cone, settings)
            if settings.derivative.smoothing:
                solved = engine.Solved(solution, scaling)
                solution = engine.central_point(program, layout.cone, settings, solved).solution
        regular = neutral_where_failed(solution)
        factorization = choose_rule(layout, settings).factorize(data, marks, regular, scaling)
        return cls(layout, settings, data, marks, solution, factorization)

    def adjoint(self, cotangent: Vectors, value: Array | float = 0.0) -> Data:
        """The cotangent of the data for those of x, y, s and of the optimal value."""
        data, failed, present = self.data, self._failed, self._present
        regular = neutral_where_failed(self.solution)
        masked = Vectors(
            x=jnp.where(failed, 0, cotangent.x),
            y=jnp.where(present & ~failed, cotangent.y, 0),
            s=jnp.where(self._has_slack & ~failed, cotangent.s, 0),
        )
        rule = choose_rule(self.layout, self.settings)
        u1, u2 = rule.adjoint(data, self.marks, regular, self.factorization, masked)
        u2 = jnp.where(present, u2, 0)

        x, z, quadratic, matrix = regular.x, regular.y, data.quadratic, data.matrix
        if quadratic is not None:
            both = outer_like(quadratic, u1, x), outer_like(quadratic, x, u1)
            quadratic = jax.tree.map(lambda a, b: -0.5 * (a + b), *both)
        if matrix is not None:
            count = matrix.shape[0]
            both = outer_like(matrix, z[:count], u1), outer_like(matrix, u2[:count], x)
            matrix = jax.tree.map(lambda a, b: -(a + b), *both)
        gradient = Data(quadratic=quadratic, linear=-u1, matrix=matrix, offset=u2)
        value = jnp.where(failed, 0, value)
        gradient = jax.tree.map(jnp.add, gradient, value_cotangent(data, regular, value))
        return self._mark_failed(gradient)

    def tangent(self, change: Data) -> tuple[Vectors, Array]:
        """How x, y, s and the optimal value move with the data."""
        failed, present = self._failed, self._present
        regular = neutral_where_failed(self.solution)
        change = jax.tree.map(lambda v: jnp.where(failed, 0, v), change)
        x, z = regular.x, regular.y
        right_x = -symmetric_product(change.quadratic, x) - change.linear
        right_z = change.offset
        if change.matrix is not None:
            count = change.matrix.shape[0]
            right_x = right_x - row_product(z[:count], change.matrix)
            right_z = right_z.at[:count].add(-column_product(change.matrix, x))
        right_z = jnp.where(present, right_z, 0)
        rule = choose_rule(self.layout, self.settings)
        factorization = self.factorization
        moved = rule.tangent(self.data, self.marks, regular, factorization, right_x, right_z)
        slope = value_cotangent(self.data, regular, jnp.ones((), x.dtype))
        products = jax.tree.map(lambda a, b: jnp.sum(a * b), slope, change)
        vectors = Vectors(
            x=moved.x,
            y=jnp.where(present, moved.y, 0),
            s=jnp.where(self._has_slack, moved.s, 0),
        )
        return self._mark_failed((vectors, jax.tree.reduce(jnp.add, products)))

    def quality(self, cotangent: Vectors) -> Array:
        """The relative residual of the adjoint equation."""
        rule = ResidualMapRule(self.layout, self.settings)
        regular = neutral_where_failed(self.solution)
        return rule.quality(self.data, self.marks, regular, self.factorization, cotangent)

    @property
    def _failed(self) -> Array:
        return self.solution.status > Status.ALMOST_SOLVED

    @property
    def _present(self) -> Array:
        """Rows that are there: all but those whose bound is infinite."""
        if self.layout.cone.degree == 0 or self.marks.active is None:
            return jnp.ones_like(self.solution.y, bool)
        return self.marks.active > 0

    @property
    def _has_slack(self) -> Array:
        """Equality rows have no slack, absent ones an infinite one."""
        return self._present & (jnp.arange(self.solution.y.shape[0]) >= self.layout.equalities)

    def _mark_failed(self, derivative: Any) -> Any:
        """The derivative of a failed problem: zero, or NaN where the settings ask for it."""
        value = jnp.nan if self.settings.failed_gradient == "nan" else 0
        return jax.tree.map(
            lambda g: jnp.where(self._failed, jnp.asarray(value, g.dtype), g), derivative
        )


def choose_rule(layout: Layout, settings: Settings) -> Any:
    """Which equations are differentiated."""
    if settings.derivative.method == "kkt" and layout.cone.is_orthant:
        return KKTRule(layout, settings)
    return ResidualMapRule(layout, settings)


def neutral_where_failed(solution: ConeSolution) -> ConeSolution:
    """A failed member's point is replaced by one at which the linear algebra is harmless."""
    failed = solution.status > Status.ALMOST_SOLVED

    def neutral(v: Array, value: float) -> Array:
        return jnp.where(failed, jnp.asarray(value, v.dtype), v)

    x, y, s = neutral(solution.x, 0), neutral(solution.y, 1), neutral(solution.s, 1)
    return replace(solution, x=x, y=y, s=s)
