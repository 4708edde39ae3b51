"""`QPRows`: the rows of a cone program without curved cones, as those of a quadratic program.

A row of the zero cone is an equality. A row ``a x_j + s = b, s >= 0`` with one entry, which is a constant
other than zero, is a bound: ``x_j <= b / a`` for a > 0, ``x_j >= b / a`` for a < 0, and the multiplier of
the row is that of the bound over |a|. Each variable has one bound of either kind; further ones, and all
other rows, are inequalities ``Gx <= h`` as they stand.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_layers.solution import ConeSolution, QPSolution
from jaxopt_layers.status import Status


@dataclass(frozen=True, eq=False)
class Bounds:
    """The rows that bound variables from one side.

    - `rows`, `columns`, `coefficients`: row, variable and entry of each. `absent`: -inf or inf.
    """

    rows: np.ndarray
    columns: np.ndarray
    coefficients: np.ndarray
    absent: float


@dataclass(frozen=True, eq=False)
class QPRows:
    """Which rows are equalities, inequalities and bounds."""

    equality: np.ndarray
    inequality: np.ndarray
    lower: Bounds
    upper: Bounds

    @classmethod
    def recognize(
        cls,
        zero: int,
        nonnegative: int,
        rows: np.ndarray,
        columns: np.ndarray,
        values: np.ndarray,
        varying: np.ndarray,
    ) -> QPRows:
        """From the pattern of A, its constant values, and the mask of the entries that vary."""
        m = zero + nonnegative
        counts = np.bincount(rows, minlength=m)
        single = (counts[rows] == 1) & (rows >= zero) & ~varying & (values != 0)
        bounds = []
        taken = np.zeros(m, bool)
        for sign, absent in ((-1, -np.inf), (1, np.inf)):
            at = np.flatnonzero(single & (np.sign(values) == sign))
            _, first = np.unique(columns[at], return_index=True)
            at = at[np.sort(first)]
            taken[rows[at]] = True
            bounds.append(Bounds(rows[at], columns[at], values[at], absent))
        inequality = np.flatnonzero(~taken[zero:]) + zero
        return cls(np.arange(zero), inequality, *bounds)

    def restore(self, solution: QPSolution, data: dict[str, Array]) -> ConeSolution:
        """The record of the cone program, its duals and slacks in the order of its rows."""
        y, s = [solution.y, solution.z], [jnp.zeros_like(solution.y), solution.s]
        order = [self.equality, self.inequality]
        ray = solution.status == Status.DUAL_INFEASIBLE
        sides = ((self.lower, "lower", solution.z_lower), (self.upper, "upper", solution.z_upper))
        for bound, name, dual in sides:
            if len(bound.rows):
                scale = jnp.asarray(np.abs(bound.coefficients), solution.x.dtype)
                x = solution.x[bound.columns]
                # A ray moves along the bounds of the homogeneous problem, which are zero.
                end = jnp.where(ray, 0, data[name][bound.columns])
                y.append(dual[bound.columns] / scale)
                s.append(scale * jnp.maximum(end - x if name == "upper" else x - end, 0))
                order.append(bound.rows)
        back = np.argsort(np.concatenate(order))
        dual, slack = jnp.concatenate(y), jnp.concatenate(s)
        if not np.array_equal(back, np.arange(len(back))):
            dual, slack = dual[back], slack[back]
        return ConeSolution(
            x=solution.x,
            y=dual,
            s=slack,
            **{name: getattr(solution, name) for name in _SHARED},
        )

    def start(self, init: ConeSolution, variables: int) -> QPSolution:
        """A previous record of the cone program as one of the quadratic program."""
        duals: dict[str, Any] = {}
        for name, bound in (("z_lower", self.lower), ("z_upper", self.upper)):
            if len(bound.rows):
                values = init.y[bound.rows] * np.abs(bound.coefficients).astype(init.y.dtype)
                zeros = jnp.zeros(variables, init.y.dtype)
                duals[name] = zeros.at[bound.columns].set(values, unique_indices=True)
            else:
                duals[name] = jnp.zeros(0, init.y.dtype)
        return QPSolution(
            x=init.x,
            y=init.y[self.equality],
            z=init.y[self.inequality],
            s=init.s[self.inequality],
            **duals,
            **{name: getattr(init, name) for name in _SHARED},
        )


_SHARED = (
    "objective",
    "dual_objective",
    "status",
    "iterations",
    "primal_residual",
    "dual_residual",
    "gap",
)
