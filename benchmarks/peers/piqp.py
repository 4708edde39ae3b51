"""PIQP's dense solver in a loop, bounds as bounds; it has no derivatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import piqp

from problems import Array, Batch

from .interface import Options, Peer, mean


class Runner(Peer):
    def __init__(self, batch: Batch, options: Options) -> None:
        super().__init__(batch, options)
        self.need_float64()
        self.need_cpu()
        self.problems = [self._arguments(member) for member in batch.members()]

    def _arguments(self, data: dict[str, Array]) -> dict[str, Array]:
        """Column-major, as the binding wants them, so that the loop copies nothing."""
        arguments = {"P": np.asfortranarray(data["Q"]), "c": data["q"]}
        if len(data["b"]):
            arguments |= {"A": np.asfortranarray(data["A"]), "b": data["b"]}
        if self.batch.lower is not None:
            arguments["x_l"] = self.batch.lower
        else:
            arguments |= {"G": np.asfortranarray(data["G"]), "h_u": data["h"]}
        return arguments

    def forward(self) -> Any:
        results = []
        for arguments in self.problems:
            solver = piqp.DenseSolver()
            settings = solver.settings
            settings.eps_abs = settings.eps_rel = self.options.tolerance
            settings.eps_duality_gap_abs = settings.eps_duality_gap_rel = self.options.tolerance
            solver.setup(**arguments)
            solver.solve()
            results.append((solver.result.x, solver.result.info.iter))
        return results

    def solution(self, result: Any) -> Array:
        return np.stack([x for x, _ in result])

    def iterations(self, result: Any) -> float | None:
        return mean([iterations for _, iterations in result])
