"""Moreau's batched interior-point method with gradients, through NumPy, its shortest way in."""

from __future__ import annotations

from typing import Any

import moreau
import numpy as np
from scipy import sparse

from cone_problems import Array, ConeBatch

from .interface import ConePeer


class Runner(ConePeer):
    def __init__(self, batch: ConeBatch, tolerance: float) -> None:
        super().__init__(batch, tolerance)
        sizes = batch.family.cones
        self.order = _order(batch)
        pattern = sparse.csr_matrix(batch.pattern[self.order])
        self.at = pattern.nonzero()
        m, n = pattern.shape
        self.A_values = np.ascontiguousarray(batch.A[:, self.order][:, *self.at])
        self.P_values = np.zeros((batch.size, 0))
        self.b = np.ascontiguousarray(batch.b[:, self.order])
        cones = moreau.Cones(
            num_zero_cones=sizes.zero,
            num_nonneg_cones=sizes.nonnegative,
            so_cone_dims=list(sizes.second_order),
            psd_dims=list(sizes.psd),
            num_exp_cones=sizes.exponential,
            power_alphas=list(sizes.power),
        )
        empty = (np.zeros(n + 1, int), np.zeros(0, int))

        def solver(grad: bool) -> Any:
            settings = moreau.Settings(
                solver="ipm", device="cpu", batch_size=batch.size, enable_grad=grad
            )
            settings.ipm_settings = moreau.IPMSettings(
                tol_gap_abs=tolerance, tol_gap_rel=tolerance, tol_feas=tolerance
            )
            of_A = (pattern.indptr, pattern.indices)
            return moreau.CompiledSolver(n, m, *empty, *of_A, cones, settings=settings)

        self.solve, self.differentiate = solver(grad=False), solver(grad=True)

    def _solve(self, solver: Any) -> Any:
        solver.setup(self.P_values, self.A_values)
        return solver.solve(self.batch.c, self.b)

    def forward(self) -> Any:
        return self._solve(self.solve)

    def solution(self, result: Any) -> tuple[Array, Array, Array]:
        back = np.argsort(self.order)
        y, s = (np.asarray(value)[:, back] for value in (result.z, result.s))
        return np.asarray(result.x), y, s

    def iterations(self, result: Any) -> float | None:
        return float(np.mean(self.solve.info.iterations))

    def forward_backward(self) -> Any:
        self._solve(self.differentiate)
        return self.differentiate.backward(self.batch.cotangent)

    def gradients(self, result: Any) -> dict[str, Array]:
        back = np.argsort(self.order)
        dA = np.zeros((self.batch.size, *self.batch.pattern.shape))
        dA[:, *self.at] = np.asarray(result["dA_values"])
        db, dc = np.asarray(result["db"]), np.asarray(result["dq"])
        return {"A": dA[:, back], "b": db[:, back], "c": dc}


def _order(batch: ConeBatch) -> Array:
    """Our row of each of Moreau's, which reads the upper triangle of a matrix by columns."""
    sizes = batch.family.cones
    start = sizes.zero + sizes.nonnegative + sum(sizes.second_order)
    order = np.arange(sizes.rows)
    for side in sizes.psd:
        rows, columns = np.triu_indices(side)  # which is the lower triangle by columns
        position = np.zeros((side, side), int)
        position[rows, columns] = start + np.arange(len(rows))
        upper = [position[i, j] for j in range(side) for i in range(j + 1)]
        order[start : start + len(rows)] = upper
        start += len(rows)
    return order
