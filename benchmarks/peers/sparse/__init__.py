"""The solvers that `sparse_speed.py` compares, one a file, behind one interface."""

from __future__ import annotations

import importlib

from .. import OURS, Entry
from .interface import SparsePeer

__all__ = ["OURS", "OURS_DENSE", "PEERS", "SparsePeer", "load"]

OURS_DENSE = f"{OURS}_dense"
_OURS = ("jaxopt-layers", "jax", "jaxlib", "pymetis")

PEERS = {
    OURS: Entry("ours", _OURS, {"factorization": "auto"}),
    OURS_DENSE: Entry("ours", _OURS, {"factorization": "dense"}, "where it fits into memory"),
    "clarabel": Entry("clarabel", ("clarabel",), note="a loop, forward only"),
    "piqp": Entry("piqp", ("piqp",), note="sparse, a loop, forward only"),
    "osqp": Entry("osqp", ("osqp",), note="a loop, polished"),
    "moreau_ipm": Entry("moreau", ("moreau", "moreau-cpu")),
    "diffcp_clarabel": Entry(
        "diffcp", ("diffcp", "clarabel"), note="the quadratic term as a second-order cone"
    ),
}


def load(name: str) -> type[SparsePeer]:
    """The class of a peer; ImportError if the solver is not installed."""
    return importlib.import_module(f".{PEERS[name].module}", __name__).Runner
