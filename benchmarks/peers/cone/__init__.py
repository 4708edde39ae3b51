"""The solvers that `cone_speed.py` compares, one a file, behind one interface."""

from __future__ import annotations

import importlib

from .. import OURS, Entry
from .interface import ConePeer

__all__ = ["OURS", "PEERS", "ConePeer", "load"]

PEERS = {
    OURS: Entry("ours", ("jaxopt-layers", "jax", "jaxlib")),
    "diffcp_scs": Entry("diffcp", ("diffcp", "scs"), {"solve_method": "SCS"}),
    "diffcp_clarabel": Entry("diffcp", ("diffcp", "clarabel"), {"solve_method": "Clarabel"}),
    "moreau_ipm": Entry("moreau", ("moreau", "moreau-cpu")),
}


def load(name: str) -> type[ConePeer]:
    """The class of a peer; ImportError if the solver is not installed."""
    return importlib.import_module(f".{PEERS[name].module}", __name__).Runner
