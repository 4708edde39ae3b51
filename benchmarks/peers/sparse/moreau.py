"""Moreau's batched interior-point method with gradients, through NumPy, its shortest way in."""

from __future__ import annotations

from typing import Any

import moreau
import numpy as np

from sparse_batch import Array, Batch

from .interface import SparsePeer


class Runner(SparsePeer):
    def __init__(self, batch: Batch, tolerance: float) -> None:
        super().__init__(batch, tolerance)
        form = self.form = batch.cone_form
        m, n = form.A.pattern.shape
        self.P_values = np.ascontiguousarray(form.P[:, form.quadratic])
        starts = np.searchsorted(form.quadratic, np.arange(n + 1))
        cones = moreau.Cones(
            num_zero_cones=form.cones.zero,
            num_nonneg_cones=form.cones.nonnegative,
            so_cone_dims=list(form.cones.second_order),
            num_exp_cones=form.cones.exponential,
        )

        def solver(grad: bool) -> Any:
            settings = moreau.Settings(
                solver="ipm", device="cpu", batch_size=batch.size, enable_grad=grad
            )
            settings.ipm_settings = moreau.IPMSettings(
                tol_gap_abs=tolerance, tol_gap_rel=tolerance, tol_feas=tolerance
            )
            of_A = (form.A.pattern.indptr.astype(int), form.A.pattern.indices.astype(int))
            return moreau.CompiledSolver(
                n, m, starts, form.quadratic, *of_A, cones, settings=settings
            )

        self.solve, self.differentiate = solver(grad=False), solver(grad=True)

    def _solve(self, solver: Any) -> Any:
        solver.setup(self.P_values, self.form.A.values)
        return solver.solve(self.form.c, self.form.b)

    def forward(self) -> Any:
        return self._solve(self.solve)

    def solution(self, result: Any) -> Array:
        return np.asarray(result.x)

    def statuses(self, result: Any) -> list[str]:
        return [status.name.lower() for status in self.solve.info.status]

    def iterations(self, result: Any) -> float | None:
        return float(np.mean(self.solve.info.iterations))

    def forward_backward(self) -> Any:
        self._solve(self.differentiate)
        return self.differentiate.backward(self.batch.cotangent)

    def gradients(self, result: Any) -> dict[str, Array]:
        P = np.zeros_like(self.form.P)
        P[:, self.form.quadratic] = np.asarray(result["dP_values"])
        A, b, c = (np.asarray(result[name]) for name in ("dA_values", "db", "dq"))
        return self.form.gradients(A, b, c, P)
