"""`factorization_cost`: how a program's linear systems would be factored, and what that takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from jaxopt_layers.checks import as_matrix, check_settings
from jaxopt_layers.cone_arguments import ConeProgram
from jaxopt_layers.cones import Cones
from jaxopt_layers.implicit import Data, Layout
from jaxopt_layers.kkt import dense_operations, form_by_pattern
from jaxopt_layers.matrix import is_diagonal
from jaxopt_layers.qp_arguments import QuadraticProgram
from jaxopt_layers.settings import Settings
from jaxopt_layers.sparse_matrix import MatrixLike, SparseMatrix

_OWNER = "factorization_cost"


@dataclass(frozen=True)
class FactorizationCost:
    """What one factorization of one problem takes; an iteration makes one.

    - `factorization`: ``"dense"`` or ``"sparse"``.
    - `operations`: floating-point operations, about.
    - `bytes`: the size of the factorization.
    - `steps`: how many batches of fronts are eliminated one after the other; 1 if dense.
    """

    factorization: Literal["dense", "sparse"]
    operations: float
    bytes: int
    steps: int


def factorization_cost(
    P: MatrixLike | None = None,
    A: MatrixLike | None = None,
    G: MatrixLike | None = None,
    *,
    bounds: bool = False,
    cones: Cones | None = None,
    settings: Settings = Settings(),  # noqa: B008 (frozen)
) -> FactorizationCost:
    """How the KKT systems of a program would be factored, without solving it.

    **Arguments:** the matrices of [`solve_qp`][] (`P` is its Q; `A` and `G` or None) and whether there are
    `bounds`; or, with `cones`, `P` and `A` of [`solve_cone`][]. Only shapes, patterns and `settings` count.

    **Returns:** a [`FactorizationCost`][].

    ```python
    import numpy as np, jaxopt_layers as jl

    difference = jl.SparseMatrix.from_dense(np.eye(400)[1:] - np.eye(400)[:-1])
    jl.factorization_cost(np.ones(400), G=difference).factorization  # 'sparse'
    ```
    """
    check_settings(_OWNER, settings)
    given = {"P": P, "A": A, "G": G}
    matrices = {
        name: as_matrix(_OWNER, name, value) for name, value in given.items() if value is not None
    }
    if not matrices:
        raise ValueError(f"{_OWNER}: give at least one of `P`, `A` and `G`.")
    n = next(iter(matrices.values())).shape[-1]
    layout, data = _program(n, matrices, bounds, cones, settings)
    itemsize = data.linear.dtype.itemsize
    if isinstance(data.matrix, SparseMatrix):
        form = form_by_pattern(data.quadratic, data.matrix, layout.cone)
        return FactorizationCost("sparse", form.operations, itemsize * form.entries, form.steps)
    rows = 0 if data.matrix is None else data.matrix.shape[0]
    operations = dense_operations(n, rows, is_diagonal(data.quadratic))
    return FactorizationCost("dense", operations, layout.member_bytes(data), 1)


def _program(
    n: int, matrices: dict[str, Any], bounds: bool, cones: Cones | None, settings: Settings
) -> tuple[Layout, Data]:
    """The engine's form, with vectors of zeros."""
    P, A, G = (matrices.get(name) for name in "PAG")
    b, h = (None if matrix is None else np.zeros(matrix.shape[0]) for matrix in (A, G))
    q = np.zeros(n)
    if cones is not None:
        if A is None or G is not None:
            raise ValueError(f"{_OWNER}: with `cones`, give `A` (and `P`) and no `G`.")
        return ConeProgram.checked(_OWNER, A, b, q, cones, P).program(settings)[:2]
    limits = (0.0, 1.0) if bounds else (None, None)
    return QuadraticProgram.checked(P, q, A, b, G, h, *limits).program(settings)[:2]
