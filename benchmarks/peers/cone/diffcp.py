"""diffcp's batched functions, their own thread pools as they come, with SCS or Clarabel inside."""

from __future__ import annotations

from typing import Any

import diffcp
import numpy as np
from scipy import sparse

from cone_problems import Array, ConeBatch

from ..interface import Unsupported
from .interface import ConePeer


class Runner(ConePeer):
    def __init__(self, batch: ConeBatch, tolerance: float, solve_method: str) -> None:
        super().__init__(batch, tolerance)
        sizes = batch.family.cones
        if sizes.power and solve_method == "Clarabel":
            raise Unsupported("no power cones with Clarabel")
        cones = {"z": sizes.zero, "l": sizes.nonnegative, "q": list(sizes.second_order)}
        cones |= {"s": list(sizes.psd), "ep": sizes.exponential, "p": list(sizes.power)}
        self.cones = [{name: value for name, value in cones.items() if value}] * batch.size
        names = ["eps_abs", "eps_rel"] if solve_method == "SCS" else _CLARABEL
        self.arguments: dict[str, Any] = dict.fromkeys(names, tolerance)
        self.arguments["solve_method"] = solve_method
        if solve_method == "SCS":
            self.arguments["max_iters"] = 100_000
        # The sparse matrices are made beforehand: that is SciPy's time, not diffcp's.
        self.data = (
            [sparse.csc_matrix(A) for A in batch.A],
            list(batch.b),
            list(batch.c),
        )
        zero = np.zeros_like(batch.b)
        self.cotangents = list(batch.cotangent), list(zero), list(zero)

    def forward(self) -> Any:
        return diffcp.solve_only_batch(*self.data, self.cones, **self.arguments)

    def solution(self, result: Any) -> tuple[Array, Array, Array]:
        x, y, s = (np.stack(values) for values in result[:3])
        return x, y, s

    def forward_backward(self) -> Any:
        *_, adjoint = diffcp.solve_and_derivative_batch(*self.data, self.cones, **self.arguments)
        return adjoint(*self.cotangents)

    def gradients(self, result: Any) -> dict[str, Array]:
        dA, db, dc = result[:3]
        return {"A": np.stack([M.toarray() for M in dA]), "b": np.stack(db), "c": np.stack(dc)}


_CLARABEL = ["tol_gap_abs", "tol_gap_rel", "tol_feas"]
