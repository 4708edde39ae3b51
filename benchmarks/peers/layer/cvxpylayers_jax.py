"""cvxpylayers for JAX: with diffcp as plain Python, with Moreau under jit."""

from __future__ import annotations

from cvxpylayers.jax import CvxpyLayer

from layer_problems import LayerBatch

from .interface import options
from .jax_layer import JaxLayer


class Runner(JaxLayer):
    def __init__(self, batch: LayerBatch, tolerance: float, solver: str) -> None:
        super().__init__(batch, tolerance, compiled=solver == "MOREAU")
        self.options = options(solver, tolerance)

    def construct(self) -> None:
        model = self.batch.model
        self.layer = CvxpyLayer(
            model.problem, model.parameters, model.variables, gp=model.gp, **self.options
        )
