"""The arguments of `solve_qp`: checked, and put into the engine's form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_layers import implicit
from jaxopt_layers.checks import as_array, as_matrix, check_convex, check_shape, common_dtype
from jaxopt_layers.cones import orthant_product
from jaxopt_layers.ipm import WarmStart
from jaxopt_layers.matrix import symmetric_part
from jaxopt_layers.settings import Settings
from jaxopt_layers.solution import QPSolution
from jaxopt_layers.sparse_matrix import SparseMatrix, as_sparse, stack_rows
from jaxopt_layers.status import Status

#: The function that the errors name.
OWNER = "solve_qp"
_MATRICES = ("Q", "A", "G")
# Bounds beyond this can't be told from infinity in double precision; data sets write 1e20 for it.
_INFINITY = 1e16


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class QuadraticProgram:
    """The arguments, of one dtype and of shapes that fit each other."""

    Q: Array | SparseMatrix | None
    q: Array
    A: Array | SparseMatrix | None
    b: Array | None
    G: Array | SparseMatrix | None
    h: Array | None
    lower: Array | None
    upper: Array | None

    @classmethod
    def checked(cls, Q: Any, q: Any, A: Any, b: Any, G: Any, h: Any, lower: Any, upper: Any) -> Any:
        """Check shapes and dtypes; the errors name the argument."""
        given = {"Q": Q, "q": q, "A": A, "b": b, "G": G, "h": h, "lower": lower, "upper": upper}
        for matrix, vector in (("A", "b"), ("G", "h")):
            if (given[matrix] is None) != (given[vector] is None):
                missing, there = sorted((matrix, vector), key=lambda name: given[name] is not None)
                raise ValueError(
                    f"{OWNER}: `{there}` was given without `{missing}`; give both or neither."
                )
        arrays: dict[str, Any] = {
            name: (as_matrix if name in _MATRICES else as_array)(OWNER, name, value)
            for name, value in given.items()
            if value is not None or name == "q"
        }
        dtype = common_dtype(list(arrays.values()))
        n = _variables(arrays["q"])
        for name, array in arrays.items():
            _check_argument(name, array, arrays, n)
            arrays[name] = array.astype(dtype)
        for name in ("lower", "upper"):
            if name in arrays:
                arrays[name] = jnp.broadcast_to(arrays[name], (n,))
        if "Q" in arrays:
            check_convex(OWNER, "Q", arrays["Q"])
        q = arrays.pop("q")
        return cls(q=q, **{name: arrays.get(name) for name in given if name != "q"})

    def program(self, settings: Settings) -> tuple[implicit.Layout, implicit.Data, implicit.Marks]:
        """The engine's form. Entries that aren't finite are replaced, and `marks` says so."""
        dtype, n = self.q.dtype, self.q.shape[0]
        p = 0 if self.b is None else self.b.shape[0]
        valid = jnp.ones((), bool)
        for array in jax.tree.leaves((self.Q, self.q, self.A, self.b, self.G)):
            valid &= jnp.all(jnp.isfinite(array))

        offsets, active = [], []
        if self.b is not None:
            offsets.append(_finite(self.b))
            active.append(jnp.ones(p, dtype))
        inequalities = [self.h]
        inequalities += [None if self.lower is None else -self.lower, self.upper]
        for bound in inequalities:
            if bound is not None:
                present = bound < _INFINITY
                valid &= jnp.all(bound > -jnp.inf)  # false for NaN
                offsets.append(jnp.where(present & jnp.isfinite(bound), bound, 1))
                active.append(jnp.where(present, jnp.ones_like(bound), 0))

        Q, A, G = jax.tree.map(_finite, (self.Q, self.A, self.G))
        rows = sum(array.shape[0] for array in offsets)
        data = implicit.Data(
            quadratic=symmetric_part(Q),
            linear=_finite(self.q),
            matrix=_stack([matrix for matrix in (A, G) if matrix is not None]),
            offset=jnp.concatenate(offsets) if offsets else jnp.zeros(0, dtype),
        )
        marks = implicit.Marks(
            active=jnp.concatenate(active) if active else jnp.zeros(0, dtype),
            valid=valid.astype(dtype),
        )
        layout = implicit.Layout(
            equalities=p,
            lower=self.lower is not None,
            upper=self.upper is not None,
            cone=orthant_product(p, rows - p),
        )
        assert n > 0
        return layout, layout.stored(data, settings), marks

    def check_init(self, init: QPSolution) -> None:
        """A previous solution is one of this problem's shapes."""
        if not isinstance(init, QPSolution):
            raise TypeError(
                f"{OWNER}: `init` must be a QPSolution, as solve_qp returns it; got"
                f" {type(init).__name__}."
            )
        for name, size in self._sizes().items():
            value = as_array(OWNER, f"init.{name}", getattr(init, name))
            check_shape(OWNER, f"init.{name}", value, (size,), "of this problem")

    def _sizes(self) -> dict[str, int]:
        n, m = self.q.shape[0], 0 if self.h is None else self.h.shape[0]
        return {
            "x": n,
            "y": 0 if self.b is None else self.b.shape[0],
            "z": m,
            "s": m,
            "z_lower": 0 if self.lower is None else n,
            "z_upper": 0 if self.upper is None else n,
        }

    def warm_start(self, init: QPSolution) -> WarmStart:
        """The parts of a previous solution that the engine starts from."""
        dtype, wanted = self.q.dtype, self._sizes()
        x = init.x.astype(dtype)
        slacks = [jnp.zeros(wanted["y"], dtype), init.s.astype(dtype)]
        if self.lower is not None:
            slacks.append(jnp.maximum(x - self.lower, 0))
        if self.upper is not None:
            slacks.append(jnp.maximum(self.upper - x, 0))
        duals = [init.y, init.z, init.z_lower, init.z_upper]
        z = jnp.concatenate([dual.astype(dtype) for dual in duals])
        s = jnp.concatenate(slacks)
        s = jnp.where(jnp.isfinite(s), s, 1)
        usable = init.status <= Status.ALMOST_SOLVED
        usable &= jnp.all(jnp.isfinite(x)) & jnp.all(jnp.isfinite(z))
        return WarmStart(
            x=jnp.where(usable, x, 0),
            z=jnp.where(usable, z, 1),
            s=jnp.where(usable, s, 1),
            usable=usable.astype(dtype),
        )


def _variables(q: Array) -> int:
    if q.ndim != 1:
        hint = " One call solves one problem: use jax.vmap for a batch." if q.ndim == 2 else ""
        raise ValueError(f"{OWNER}: `q` must have shape (n,); got {q.shape}.{hint}")
    if q.shape[0] == 0:
        raise ValueError(f"{OWNER}: `q` is empty; there must be at least one variable.")
    return q.shape[0]


def _check_argument(name: str, array: Any, arrays: dict[str, Any], n: int) -> None:
    if name == "Q" and array.ndim != 1:
        check_shape(OWNER, name, array, (n, n), "(n, n) (or (n,) for a diagonal)")
    elif name in ("Q", "q"):
        check_shape(OWNER, name, array, (n,), "(n,)")
    elif name in ("A", "G"):
        letter, vector = ("p", "b") if name == "A" else ("m", "h")
        if arrays[vector].ndim != 1:
            check_shape(OWNER, vector, arrays[vector], array.shape[:1], f"({letter},)")
        if array.ndim != 2 or array.shape[1] != n:
            hint = " One call solves one problem: use jax.vmap for a batch."
            wanted = f"({array.shape[0] if array.ndim == 2 else letter}, {n})"
            raise ValueError(
                f"{OWNER}: `{name}` must have shape ({letter}, n) = {wanted}; got {array.shape}."
                + (hint if array.ndim == 3 else "")
            )
    elif name in ("b", "h"):
        letter, matrix = ("p", "A") if name == "b" else ("m", "G")
        check_shape(
            OWNER, name, array, arrays[matrix].shape[:1], f"({letter},) as {matrix} has rows"
        )
    elif array.ndim != 0:
        check_shape(OWNER, name, array, (n,), "(n,)")


def _stack(matrices: list[Any]) -> Array | SparseMatrix | None:
    if any(isinstance(matrix, SparseMatrix) for matrix in matrices):
        return stack_rows([as_sparse(matrix) for matrix in matrices])
    return jnp.concatenate(matrices) if matrices else None


def _finite(array: Array) -> Array:
    return jnp.where(jnp.isfinite(array), array, 0)
