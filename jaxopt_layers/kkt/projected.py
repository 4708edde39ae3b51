"""The linearized residual map, ``M = [P, R'(I - S); R, -S]``, as a symmetric KKT system.

S = U diag(k) U' with k in [0, 1] is the derivative of a projection, or of one that is smoothed. With the
second unknown U ``weights e`` and the rows U'R weighted alike, M becomes

    [ P    R~' ] [dx]   [r1            ]
    [ R~   -h  ] [e ] = [weights U'r2],      weights = sqrt(1 - k), h = k,

which has no large entries however degenerate the point is. Bounds keep their unit rows: there weights = 1
and h = k / (1 - k).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_layers.cones import Rotation
from jaxopt_layers.kkt.system import System
from jaxopt_layers.problem import Program

# Ratios k / (1 - k) beyond these bounds say no more than active or inactive.
_LARGEST_RATIO = {8: 1e13, 4: 1e6}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ProjectedSystem:
    """`system` is the symmetric one; `weights` (rows,) belong to its rows."""

    system: System
    weights: Array

    @classmethod
    def at(
        cls, program: Program, slopes: Array, rotation: Rotation, regularization: Array
    ) -> ProjectedSystem:
        """The system for S = U diag(slopes) U'."""
        dense = program.rows.matrix_count
        is_dense = jnp.arange(slopes.shape[0]) < dense
        bound = _LARGEST_RATIO[slopes.dtype.itemsize]
        ratio = slopes / jnp.maximum(1 - slopes, 1 / bound)
        weights = jnp.where(is_dense, jnp.sqrt(jnp.maximum(1 - slopes, 0)), 1)
        hessian = jnp.where(is_dense, slopes, jnp.clip(ratio, 1 / bound, bound))
        columns = jnp.ones_like(program.linear)
        rows = program.rows.rotated(rotation).scaled(columns, weights[:dense])
        system = System(replace(program, rows=rows), hessian, regularization, rotation)
        return cls(system, weights)

    def solve(
        self,
        program: Program,
        right: Array,
        solve_symmetric: Callable[[Array], Array],
        transposed: bool = False,
    ) -> Array:
        """u with M u = right, or M'u = right, by a solve of the symmetric system; all one vector."""
        rotation, n = self.system.rotation, program.rows.variables
        assert rotation is not None
        first, second = right[:n], right[n:]
        if transposed:
            first = first + program.rows.transposed_product(second)
        weighted = self.weights * rotation.into(second)
        solved = solve_symmetric(jnp.concatenate([first, weighted]))
        x = solved[:n]
        z = rotation.out(self.weights * solved[n:]) - second
        if not transposed:
            z = z + program.rows.product(x)
        return jnp.concatenate([x, z])
