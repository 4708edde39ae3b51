"""The arguments of `solve_cone`: checked, and put into the engine's form."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_layers import implicit
from jaxopt_layers.checks import as_array, as_matrix, check_convex, check_shape, common_dtype
from jaxopt_layers.cones import Cones
from jaxopt_layers.ipm import WarmStart
from jaxopt_layers.matrix import symmetric_part
from jaxopt_layers.settings import Settings
from jaxopt_layers.solution import ConeSolution
from jaxopt_layers.sparse_matrix import SparseMatrix
from jaxopt_layers.status import Status


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ConeProgram:
    """The arguments, of one dtype and of shapes that fit each other."""

    A: Array | SparseMatrix
    b: Array
    c: Array
    P: Array | SparseMatrix | None
    cones: Cones = field(metadata={"static": True})

    @classmethod
    def checked(cls, owner: str, A: Any, b: Any, c: Any, cones: Any, P: Any) -> ConeProgram:
        """Check shapes and dtypes; the errors name the argument."""
        if not isinstance(cones, Cones):
            raise TypeError(
                f"{owner}: `cones` must be a Cones, for example Cones(zero=1, nonnegative=3); got"
                f" {type(cones).__name__}."
            )
        arrays: dict[str, Any] = {"A": as_matrix(owner, "A", A)}
        arrays |= {name: as_array(owner, name, v) for name, v in (("b", b), ("c", c))}
        if P is not None:
            arrays["P"] = as_matrix(owner, "P", P)
        dtype = common_dtype(list(arrays.values()))
        batch = " One call solves one problem: use jax.vmap for a batch."
        c = arrays["c"]
        if c.ndim != 1 or not c.shape[0]:
            raise ValueError(
                f"{owner}: `c` must have shape (n,) with n >= 1; got {c.shape}."
                + (batch if c.ndim == 2 else "")
            )
        n, m = c.shape[0], cones.size
        A = arrays["A"]
        if A.ndim != 2 or A.shape[1] != n:
            raise ValueError(
                f"{owner}: `A` must have shape (m, n) = ({m}, {n}); got {A.shape}."
                + (batch if A.ndim == 3 else "")
            )
        if A.shape[0] != m:
            raise ValueError(
                f"{owner}: `cones` has {m} rows, but `A` has {A.shape[0]}: the sizes of the cones"
                " must add up to the rows of A."
            )
        check_shape(owner, "b", arrays["b"], (m,), "(m,) as A has rows")
        if "P" in arrays:
            if arrays["P"].ndim == 1:
                check_shape(owner, "P", arrays["P"], (n,), "(n,)")
            else:
                check_shape(owner, "P", arrays["P"], (n, n), "(n, n) (or (n,) for a diagonal)")
            check_convex(owner, "P", arrays["P"])
        arrays = {name: array.astype(dtype) for name, array in arrays.items()}
        return cls(arrays["A"], arrays["b"], arrays["c"], arrays.get("P"), cones)

    def program(self, settings: Settings) -> tuple[implicit.Layout, implicit.Data, implicit.Marks]:
        """The engine's form: what is static, the rows in the order in which equal cones are stacked, and
        the data, whose entries that aren't finite are replaced, as `marks` says."""
        valid = jnp.ones((), bool)
        for array in jax.tree.leaves((self.P, self.A, self.b, self.c)):
            valid &= jnp.all(jnp.isfinite(array))
        finite = jax.tree.map(_finite, self)
        data = implicit.Data(
            quadratic=symmetric_part(finite.P),
            linear=finite.c,
            matrix=self.sort(finite.A) if self.A.shape[0] else None,
            offset=self.sort(finite.b),
        )
        cones = self.cones
        layout = implicit.Layout(cones.zero, lower=False, upper=False, cone=cones.product)
        data = layout.stored(data, settings)
        if not isinstance(data.matrix, SparseMatrix):  # a pattern keeps every cone to its own rows
            layout = replace(layout, cone=cones.padded)
        return layout, data, implicit.Marks(active=None, valid=valid.astype(self.c.dtype))

    def sort(self, rows: Any) -> Any:
        """Rows in the user's order, in the engine's."""
        order = self.cones.order
        if order is None:
            return rows
        return rows.take_rows(order) if isinstance(rows, SparseMatrix) else rows[order]

    def unsort(self, rows: Array) -> Array:
        """Rows in the engine's order, in the user's."""
        order = self.cones.order
        return rows if order is None else rows[np.argsort(order)]

    def warm_start(self, owner: str, init: Any) -> WarmStart:
        """A previous solution of the same shapes, as the engine starts from it."""
        if not isinstance(init, ConeSolution):
            raise TypeError(
                f"{owner}: `init` must be a ConeSolution, as solve_cone returns it; got"
                f" {type(init).__name__}."
            )
        values = {}
        for name, size in (("x", self.c.shape[0]), ("y", self.b.shape[0]), ("s", self.b.shape[0])):
            value = as_array(owner, f"init.{name}", getattr(init, name))
            check_shape(owner, f"init.{name}", value, (size,), "of this problem")
            values[name] = value.astype(self.c.dtype)
        x, z, s = values["x"], self.sort(values["y"]), self.sort(values["s"])
        usable = init.status <= Status.ALMOST_SOLVED
        for value in (x, z, s):
            usable &= jnp.all(jnp.isfinite(value))
        unit = self.cones.product.unit(x.dtype)
        return WarmStart(
            x=jnp.where(usable, x, 0),
            z=jnp.where(usable, z, unit),
            s=jnp.where(usable, s, unit),
            usable=usable.astype(x.dtype),
        )


def _finite(array: Array) -> Array:
    return jnp.where(jnp.isfinite(array), array, 0)
