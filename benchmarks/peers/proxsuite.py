"""proxsuite's QPLayer (the ProxQP solver, one problem after another or in OpenMP threads)."""

from __future__ import annotations

from typing import Any

import torch
from proxsuite.torch.qplayer import QPFunction

from problems import Batch

from .interface import Options
from .torch_batch import TorchPeer


class Runner(TorchPeer):
    def __init__(self, batch: Batch, options: Options) -> None:
        super().__init__(batch, options)
        self.need_float64()
        self.need_cpu()
        # Its backward tolerance is 1e-4 unless told otherwise.
        self.solve = QPFunction(
            eps=options.tolerance, eps_backward=options.tolerance, omp_parallel=True
        )

    def layer(self, data: dict[str, Any]) -> Any:
        upper = data["h"]
        lower = torch.full_like(upper, -1e20)  # its infinity
        return self.solve(data["Q"], data["q"], data["A"], data["b"], data["G"], lower, upper)[0]
