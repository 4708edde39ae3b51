"""This package: `CvxpyLayer` under jit, its batch divided among the devices."""

from __future__ import annotations

import jaxopt_layers as jl
from jaxopt_layers.cvxpy_layer import CvxpyLayer
from layer_problems import LayerBatch

from .jax_layer import JaxLayer


class Runner(JaxLayer):
    def __init__(self, batch: LayerBatch, tolerance: float) -> None:
        super().__init__(batch, tolerance, compiled=True)

    def construct(self) -> None:
        model, settings = self.batch.model, jl.Settings(tolerance=self.tolerance)
        layer = CvxpyLayer(
            model.problem, model.parameters, model.variables, gp=model.gp, settings=settings
        )
        self.layer = jl.vmap_over_devices(layer)
