"""The one form of a problem that the engine knows, and its conventions.

    minimize  1/2 x'Px + q'x    subject to   R x + s = b,   s in K

with multipliers z in K* and ``Px + q + R'z = 0``, ``s'z = 0``. The rows R stand as equality rows,
inequality rows, lower bounds (-x + s = -l) and upper bounds (x + s = u).
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_layers.matrix import symmetric_product
from jaxopt_layers.rows import ConstraintRows
from jaxopt_layers.sparse_matrix import SparseMatrix


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Program:
    """Problem data, in the user's units or scaled.

    `quadratic` is P as (n, n), dense or sparse, its diagonal (n,), or None; `quadratic_scale` multiplies
    it, apart from it because it differs between the members of a batch that share P. `constant` is what
    fixed variables add to the objective, in the user's units.
    """

    quadratic: Array | SparseMatrix | None
    quadratic_scale: Array
    linear: Array
    rows: ConstraintRows
    offset: Array
    constant: Array

    @property
    def matrix_anchor(self) -> Array:
        """A number that depends on all of the matrices: what a loop's constants are made to vary with."""
        rows = self.rows
        arrays = [self.quadratic_scale, *rows.anchors]
        arrays += [array for array in (rows.active, rows.free) if array is not None]
        arrays += jax.tree.leaves(self.quadratic)
        firsts = [jnp.ravel(array)[:1] for array in arrays]
        return jnp.sum(jnp.concatenate(firsts))

    @property
    def anchor(self) -> Array:
        """The same for all of the data."""
        vectors = self.linear[0] + jnp.sum(self.offset[:1]) + self.constant
        return self.matrix_anchor + vectors

    def split(self, u: Array) -> tuple[Array, Array]:
        """x and z of joined vectors (x, z), for one (n + rows,) or a stack."""
        n = self.rows.variables
        return u[..., :n], u[..., n:]

    def quadratic_product(self, x: Array) -> Array:
        """P x with a variable fixed by its bounds left out, for x (n,) or (k, n)."""
        free = self.rows.free
        if free is None:
            return self.quadratic_scale * symmetric_product(self.quadratic, x)
        mask = free if x.ndim == 1 else free[None, :]
        return self.quadratic_scale * mask * symmetric_product(self.quadratic, mask * x)
