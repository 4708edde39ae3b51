"""`AffineSolverAffine`: a parametrized convex program as affine map, solver, affine map.

Theorem 4 of Agrawal et al. (2019, "Differentiable convex optimization layers"): the solution map of a
disciplined parametrized program is R(S(C(theta))). C sends the parameters to the data of a cone program,
each of (P, A, b, c) affine in theta; S solves it; R picks the solution's entries. Here C is a handful of
sparse maps made once, S is `solve_cone`, or `solve_qp` where no cone is curved, and R is left to the front
end, which knows its variables. The backward pass is the product of the adjoints, D'C D'S D'R.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_layers.asa_qp import QPRows
from jaxopt_layers.checks import check_settings
from jaxopt_layers.cone import solve_cone
from jaxopt_layers.cones import Cones
from jaxopt_layers.pattern import Pattern
from jaxopt_layers.qp import solve_qp
from jaxopt_layers.settings import Settings
from jaxopt_layers.solution import ConeSolution
from jaxopt_layers.sparse_map import BYTES_PER_ENTRY, SparseMap
from jaxopt_layers.sparse_matrix import SparseMatrix

_OWNER = "AffineSolverAffine"


@dataclass(frozen=True, eq=False)
class SparseMatrixMap:
    """A matrix of a fixed pattern whose entries are affine in the parameters.

    - `entries`: the map to the values at the pattern's places.
    """

    pattern: Pattern
    entries: SparseMap

    @classmethod
    def from_coo(cls, coo: tuple[Any, Any, Any, Any], shape: tuple[int, int], p: int) -> Any:
        """From (row, column, parameter index, value), in any order; duplicates are added up."""
        rows, columns, parameters, values = (np.asarray(part).ravel() for part in coo)
        cells = rows.astype(np.int64) * shape[1] + columns
        places, place = np.unique(cells, return_inverse=True)
        entries = SparseMap.from_entries(place, parameters, values, len(places), p)
        return cls(Pattern(shape, *np.divmod(places, shape[1])), entries)

    def __call__(self, theta: Array) -> SparseMatrix | Array:
        """The matrix at theta: sparse, unless every place has an entry."""
        values = self.entries(theta)
        shape = self.pattern.shape
        if len(values) == shape[0] * shape[1]:
            return values.reshape(shape)
        return SparseMatrix(values, self.pattern)

    def take_rows(self, rows: np.ndarray) -> SparseMatrixMap:
        """The matrix of those rows, in that order."""
        pattern, kept = self.pattern.taken(rows)
        return SparseMatrixMap(pattern, self.entries.take(kept))

    @property
    def is_diagonal(self) -> bool:
        """Whether no entry off the diagonal is in the pattern."""
        return bool(np.all(self.pattern.rows == self.pattern.columns))

    def diagonal(self) -> SparseMap:
        """The map to the diagonal, for a matrix that is diagonal."""
        map_ = self.entries
        rows = self.pattern.rows[map_.rows]
        return SparseMap(rows, map_.columns, map_.values, self.pattern.shape[0], map_.parameters)

    @property
    def nbytes(self) -> int:
        """Bytes of the pattern and the map."""
        return self.pattern.rows.nbytes + self.pattern.columns.nbytes + self.entries.nbytes


@dataclass(frozen=True, eq=False)
class AffineSolverAffine:
    """A cone program whose data are affine in a parameter vector theta (p,), with its solver.

        minimize    1/2 x'P(theta)x + c(theta)'x + constant(theta)
        subject to  A(theta) x + s = b(theta),  s in K

    Make it with `AffineSolverAffine.from_coo`. It holds static NumPy arrays only: close over it or
    pass it as a static argument (it is hashable by identity); it deep-copies and pickles.
    """

    variables: int
    parameters: int
    cones: Cones
    A: SparseMatrixMap
    b: SparseMap
    c: SparseMap
    P: SparseMatrixMap | None
    constant: SparseMap

    @classmethod
    def from_coo(
        cls,
        *,
        variables: int,
        parameters: int,
        cones: Cones,
        A: tuple[Any, Any, Any, Any],
        b: tuple[Any, Any, Any],
        c: tuple[Any, Any, Any],
        P: tuple[Any, Any, Any, Any] | None = None,
        constant: tuple[Any, Any] | None = None,
    ) -> AffineSolverAffine:
        """Build it from entries in any order; entries at equal places are added up.

        **Arguments:**

        - `variables`, `parameters`: n and p, the lengths of x and theta.
        - `cones`: the cones of the rows of A, in the order of [`Cones`][].
        - `A`: arrays (row, column, parameter index, value), one entry each: the value times that
          parameter is a summand of that matrix entry. The index p stands for the constant one.
        - `b`: arrays (row, parameter index, value); `c`: (column, parameter index, value).
        - `P`: as A, of shape (n, n); its symmetric part counts. None for a linear objective.
        - `constant`: (parameter index, value): what the objective has besides.

        **Raises:** ValueError that names the argument, for indices out of range or unequal lengths.

        ```python
        import jax.numpy as jnp, numpy as np, jaxopt_layers as jl
        from jaxopt_layers.asa import AffineSolverAffine

        # minimize theta_0 x  subject to  x >= theta_1
        program = AffineSolverAffine.from_coo(
            variables=1,
            parameters=2,
            cones=jl.Cones(nonnegative=1),
            A=(np.array([0]), np.array([0]), np.array([2]), np.array([-1.0])),
            b=(np.array([0]), np.array([1]), np.array([-1.0])),
            c=(np.array([0]), np.array([0]), np.array([1.0])),
        )
        program.solve(jnp.array([2.0, 3.0])).objective  # 6
        ```
        """
        n, p, m = variables, parameters, cones.size
        _check("A", A, (m, n, p + 1))
        _check("b", b, (m, p + 1))
        _check("c", c, (n, p + 1))
        quadratic = None
        if P is not None and len(np.ravel(P[3])):
            _check("P", P, (n, n, p + 1))
            quadratic = SparseMatrixMap.from_coo(_symmetrized(P), (n, n), p)
            if not len(quadratic.entries.values):
                quadratic = None
        offset = SparseMap.from_entries([], [], [], 1, p)
        if constant is not None:
            _check("constant", constant, (p + 1,))
            rows = np.zeros(len(np.ravel(constant[0])), int)
            offset = SparseMap.from_entries(rows, constant[0], constant[1], 1, p)
        return cls(
            variables=n,
            parameters=p,
            cones=cones,
            A=SparseMatrixMap.from_coo(A, (m, n), p),
            b=SparseMap.from_entries(*b, m, p),
            c=SparseMap.from_entries(*c, n, p),
            P=quadratic,
            constant=offset,
        )

    @staticmethod
    def bytes_needed(entries: int) -> int:
        """Bytes that the maps of so many entries will hold: to ask before building them."""
        return entries * (BYTES_PER_ENTRY + 8)

    @property
    def nbytes(self) -> int:
        """Bytes that the maps hold."""
        maps = (self.A, self.b, self.c, self.P, self.constant)
        return sum(map_.nbytes for map_ in maps if map_ is not None)

    @cached_property
    def qp(self) -> QPRows | None:
        """How the rows are equalities, inequalities and bounds; None where a cone is curved."""
        cones = self.cones
        if cones.size != cones.zero + cones.nonnegative:
            return None
        A = self.A
        return QPRows.recognize(
            cones.zero,
            cones.nonnegative,
            A.pattern.rows,
            A.pattern.columns,
            A.entries.constant(),
            A.entries.varying,
        )

    def __getstate__(self) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def data(
        self, theta: Array
    ) -> tuple[Array | SparseMatrix | None, Array | SparseMatrix, Array, Array, Array]:
        """(P, A, b, c, constant) at theta (p,), in its dtype; P is (n,) where it is diagonal.

        Matrices are sparse, unless they are full.
        """
        offset = self.constant(theta)[0]
        return self._quadratic(theta), self.A(theta), self.b(theta), self.c(theta), offset

    def solve(
        self,
        theta: Array,
        settings: Settings = Settings(),  # noqa: B008 (frozen)
        init: ConeSolution | None = None,
    ) -> ConeSolution:
        """Solve the program at theta (p,), differentiably; `jax.vmap` it for a batch.

        **Arguments:**

        - `theta`: (p,), float32 or float64: the dtype of the result.
        - `settings`: see [`Settings`][].
        - `init`: a solution of this program at other parameters, to start from.

        **Returns:** a [`ConeSolution`][] whose objectives include the constant.

        **Raises:** ValueError or TypeError for a theta of another shape or dtype.
        """
        theta = jnp.asarray(theta)
        if theta.shape != (self.parameters,):
            raise ValueError(
                f"{_OWNER}: `theta` must have shape (p,) = ({self.parameters},); got {theta.shape}."
            )
        if not jnp.issubdtype(theta.dtype, jnp.floating):
            raise TypeError(f"{_OWNER}: `theta` must hold floats; got dtype {theta.dtype}.")
        check_settings(_OWNER, settings)
        if self.qp is None:
            P, A, b, c, offset = self.data(theta)
            solution = solve_cone(A, b, c, self.cones, P=P, settings=settings, init=init)
        else:
            solution = self._solve_qp(self.qp, theta, settings, init)
            offset = self.constant(theta)[0]
        if not len(self.constant.values):
            return solution
        return replace(
            solution,
            objective=solution.objective + offset,
            dual_objective=solution.dual_objective + offset,
        )

    def _solve_qp(
        self, rows: QPRows, theta: Array, settings: Settings, init: ConeSolution | None
    ) -> ConeSolution:
        dtype = theta.dtype
        matrices: dict[str, Any] = {}
        for matrix, vector, at in (("A", "b", rows.equality), ("G", "h", rows.inequality)):
            if len(at):
                matrices[matrix] = self.A.take_rows(at)(theta)
                matrices[vector] = self.b.take(at)(theta)
        for name, bound in (("lower", rows.lower), ("upper", rows.upper)):
            if len(bound.rows):
                values = self.b.take(bound.rows, 1 / bound.coefficients)(theta)
                if len(bound.rows) == self.variables:
                    matrices[name] = values[np.argsort(bound.columns)]
                else:
                    absent = jnp.full(self.variables, bound.absent, dtype)
                    matrices[name] = absent.at[bound.columns].set(values, unique_indices=True)
        start = None if init is None else rows.start(init, self.variables)
        solution = solve_qp(
            self._quadratic(theta), self.c(theta), **matrices, settings=settings, init=start
        )
        return rows.restore(solution, matrices)

    def _quadratic(self, theta: Array) -> Array | SparseMatrix | None:
        if self.P is None:
            return None
        return self.P.diagonal()(theta) if self.P.is_diagonal else self.P(theta)


def _symmetrized(coo: tuple[Any, Any, Any, Any]) -> tuple[Any, Any, Any, Any]:
    """The entries of the symmetric part."""
    rows, columns, parameters, values = (np.ravel(part) for part in coo)
    return (
        np.concatenate([rows, columns]),
        np.concatenate([columns, rows]),
        np.concatenate([parameters, parameters]),
        np.concatenate([values, values]) / 2,
    )


def _check(name: str, coo: tuple[Any, ...], limits: tuple[int, ...]) -> None:
    """Index arrays within their limits and of the length of the values."""
    if len(coo) != len(limits) + 1:
        raise ValueError(
            f"{_OWNER}: `{name}` must be a tuple of {len(limits) + 1} arrays; got {len(coo)}."
        )
    lengths = [np.size(part) for part in coo]
    if len(set(lengths)) > 1:
        raise ValueError(f"{_OWNER}: `{name}` must hold arrays of one length; got {lengths}.")
    for index, limit in zip(coo[:-1], limits, strict=True):
        index = np.asarray(index)
        if index.size and (index.min() < 0 or index.max() >= limit):
            raise ValueError(
                f"{_OWNER}: `{name}` has an index out of range: from {index.min()} to {index.max()},"
                f" where it must be at least 0 and below {limit}."
            )
