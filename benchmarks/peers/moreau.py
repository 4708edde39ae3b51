"""Moreau's batched solver, through NumPy, which is its shortest way in.

It solves `minimize 1/2 x'Px + q'x  subject to  Ax + s = b, s in K` over one sparsity pattern for
the batch; `solver="auto"` takes a dual active-set method up to n = 500 and an interior-point
method above, `"ipm"` always the latter.
"""

from __future__ import annotations

import warnings
from typing import Any

import moreau
import numpy as np
from scipy import sparse

from problems import Array, Batch, is_batched

from .interface import Options, Peer, mean


class Runner(Peer):
    def __init__(self, batch: Batch, options: Options, solver: str) -> None:
        super().__init__(batch, options)
        self.need_float64()
        device = "cuda" if options.device == "gpu" else "cpu"
        if not moreau.device_available(device):
            self.need_cpu()
        data = batch.dense()
        self.equalities = data["A"].shape[-2]
        pattern_P = sparse.csr_matrix(_any_nonzero("Q", data["Q"]))
        pattern_A = sparse.vstack(
            [_any_nonzero("A", data["A"]), _any_nonzero("G", data["G"])], format="csr"
        )
        self.at_P, self.at_A = pattern_P.nonzero(), pattern_A.nonzero()
        self.values = self._values(data)
        rows, columns = pattern_A.shape
        of_P, of_A = (pattern_P.indptr, pattern_P.indices), (pattern_A.indptr, pattern_A.indices)
        arguments = (columns, rows, *of_P, *of_A)
        cones = moreau.Cones(
            num_zero_cones=self.equalities, num_nonneg_cones=rows - self.equalities
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the active set's gradients are not smooth
            self.solve = moreau.CompiledSolver(
                *arguments, cones, settings=self._settings(solver, device, grad=False)
            )
            self.differentiate = moreau.CompiledSolver(
                *arguments, cones, settings=self._settings(solver, device, grad=True)
            )

    def _settings(self, solver: str, device: str, grad: bool) -> Any:
        tolerance = self.options.tolerance
        settings = moreau.Settings(
            solver=solver, device=device, batch_size=self.batch.shape.batch, enable_grad=grad
        )
        settings.ipm_settings = moreau.IPMSettings(
            tol_gap_abs=tolerance, tol_gap_rel=tolerance, tol_feas=tolerance
        )
        settings.active_set_settings = moreau.ActiveSetSettings(primal_tol=tolerance)
        return settings

    def _values(self, data: dict[str, Array]) -> tuple[Array, ...]:
        """The numbers of P, A, q and b; a matrix that the batch shares is given once."""
        size = self.batch.shape.batch
        shared = not is_batched("A", data["A"]) and not is_batched("G", data["G"])

        def rows(name: str) -> Array:
            value = data[name]
            return value if shared or is_batched(name, value) else np.stack([value] * size)

        P = data["Q"][(..., *self.at_P)]
        A = np.concatenate([rows("A"), rows("G")], axis=-2)[(..., *self.at_A)]
        vectors = [
            data[name] if is_batched(name, data[name]) else np.stack([data[name]] * size)
            for name in ("b", "h")
        ]
        b = np.concatenate(vectors, axis=1)
        return tuple(np.ascontiguousarray(value) for value in (P, A, data["q"], b))

    def forward(self) -> Any:
        return self._solve(self.solve)

    def _solve(self, solver: Any) -> Any:
        P, A, q, b = self.values
        solver.setup(P, A)
        return solver.solve(q, b)

    def solution(self, result: Any) -> Array:
        return np.asarray(result.x)

    def iterations(self, result: Any) -> float | None:
        return mean(self.solve.info.iterations)

    def forward_backward(self) -> Any:
        self._solve(self.differentiate)
        return self.differentiate.backward(self.batch.cotangent)

    def gradients(self, result: Any) -> dict[str, Array]:
        data, size, p = self.batch.dense(), self.batch.shape.batch, self.equalities
        n, rows = data["Q"].shape[-1], p + data["G"].shape[-2]
        dP, dA, db = np.zeros((size, n, n)), np.zeros((size, rows, n)), np.asarray(result["db"])
        dP[(slice(None), *self.at_P)] = np.asarray(result["dP_values"])
        dA[(slice(None), *self.at_A)] = np.asarray(result["dA_values"])
        every = {"Q": dP, "q": np.asarray(result["dq"]), "A": dA[:, :p], "G": dA[:, p:]}
        every |= {"b": db[:, :p], "h": db[:, p:]}
        return {
            name: value.sum(axis=0) if value.ndim > getattr(self.batch, name).ndim else value
            for name, value in every.items()
            if name in self.batch.differentiate
        }


def _any_nonzero(name: str, array: Array) -> Array:
    """Where any member has an entry."""
    return np.any(array != 0, axis=0) if is_batched(name, array) else array != 0
