"""qpth, OptNet's own layer."""

from __future__ import annotations

from typing import Any

import torch
from qpth.qp import QPFunction

from problems import Batch

from .interface import Options
from .torch_batch import TorchPeer

ORDER = ("Q", "q", "G", "h", "A", "b")


class Runner(TorchPeer):
    def __init__(self, batch: Batch, options: Options) -> None:
        super().__init__(batch, options)
        # verbose = -1 is qpth's way to keep quiet about members that stall short of eps; its eps
        # is an absolute norm, and the iteration stops by itself when nothing improves.
        self.solve = QPFunction(eps=options.tolerance, verbose=-1, maxIter=50, check_Q_spd=False)

    def layer(self, data: dict[str, Any]) -> Any:
        batch = self.batch.shape.batch
        arrays = []
        for name in ORDER:
            value = data[name]
            if value.numel() == 0:
                value = torch.empty(0)  # its sign for "no equalities"
            elif value.ndim < (3 if name in "QGA" else 2):
                # Expanded here and not by qpth, which averages the gradient of shared data.
                value = value.expand(batch, *value.shape)
            arrays.append(value)
        return self.solve(*arrays)
