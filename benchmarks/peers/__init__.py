"""The solvers that `qp_speed.py` compares, one a file, behind one interface."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any

from .interface import Options, Peer

__all__ = ["OURS", "PEERS", "Options", "Peer", "load"]

OURS = "jaxopt_layers"


@dataclass(frozen=True)
class Entry:
    """Where a peer's class is, what it is built with, and whose versions are recorded."""

    module: str
    distributions: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    note: str = ""


PEERS = {
    OURS: Entry("ours", ("jaxopt-layers", "jax", "jaxlib")),
    "qpax": Entry("qpax", ("qpax", "jax", "jaxlib"), note="backend i"),
    "qpth": Entry("qpth", ("qpth", "torch")),
    "proxsuite": Entry("proxsuite", ("proxsuite", "torch"), note="QPLayer"),
    "cvxpylayers": Entry(
        "cvxpylayers",
        ("cvxpylayers", "diffcp", "scs", "cvxpy", "torch"),
        {"solver_args": None},
        "torch, diffcp's defaults, its own (loose) tolerance",
    ),
    "cvxpylayers_clarabel": Entry(
        "cvxpylayers",
        ("cvxpylayers", "diffcp", "clarabel", "cvxpy", "torch"),
        {"solver_args": "Clarabel"},
        "torch, diffcp with Clarabel inside, at the common tolerance",
    ),
    "piqp": Entry("piqp", ("piqp",), note="dense, a loop, forward only"),
    "clarabel": Entry("clarabel", ("clarabel",), note="a loop, forward only"),
    "moreau_ipm": Entry("moreau", ("moreau", "moreau-cpu"), {"solver": "ipm"}),
    "moreau": Entry("moreau", ("moreau", "moreau-cpu"), {"solver": "auto"}, "its own choice"),
}


def load(name: str) -> type[Peer]:
    """The class of a peer; ImportError if the solver is not installed."""
    return importlib.import_module(f".{PEERS[name].module}", __name__).Runner
