"""cvxpylayers' PyTorch layer on its default back end, diffcp.

A parametric `quad_form(x, Q)` is not DPP there, so the user's form is `sum_squares(U x)` with
Q = U'U; the factorization is part of the layer, so that gradients are in Q as everywhere.
"""

from __future__ import annotations

from typing import Any

import cvxpy as cp
import torch
from cvxpylayers.torch import CvxpyLayer

from problems import Batch

from .interface import Options
from .torch_batch import TorchPeer


class Runner(TorchPeer):
    def __init__(self, batch: Batch, options: Options, solver_args: str | None) -> None:
        super().__init__(batch, options)
        self.need_float64()
        self.need_cpu()
        self.arguments: dict[str, Any] = {}
        if solver_args is not None:
            tolerances = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"))
            self.arguments = {name: options.tolerance for name in tolerances}
            self.arguments["solve_method"] = solver_args
        dense = batch.dense()
        x = cp.Variable(batch.shape.n)
        self.parameters: dict[str, Any] = {}
        if batch.Q.ndim == 1:
            quadratic = cp.sum(cp.multiply(batch.Q, cp.square(x)))
        else:
            self.parameters["Q"] = cp.Parameter((batch.shape.n, batch.shape.n))
            quadratic = cp.sum_squares(self.parameters["Q"] @ x)

        def term(name: str) -> Any:
            """A parameter if it is differentiated, else a constant (it is shared then)."""
            if name not in batch.differentiate:
                return dense[name]
            value = dense[name]
            matrix = name in "AG"
            shape = value.shape[-2:] if matrix else value.shape[-1:]
            self.parameters[name] = cp.Parameter(shape)
            return self.parameters[name]

        objective = 0.5 * quadratic + term("q") @ x
        constraints = []
        if batch.A is not None:
            constraints.append(term("A") @ x == term("b"))
        constraints.append(
            x >= batch.lower if batch.lower is not None else term("G") @ x <= term("h")
        )
        problem = cp.Problem(cp.Minimize(objective), constraints)
        self.solve = CvxpyLayer(problem, list(self.parameters.values()), [x])

    def layer(self, data: dict[str, Any]) -> Any:
        values = [
            torch.linalg.cholesky(data[name], upper=True) if name == "Q" else data[name]
            for name in self.parameters
        ]
        return self.solve(*values, solver_args=self.arguments)[0]
