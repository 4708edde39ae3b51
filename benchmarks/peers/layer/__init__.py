"""The CVXPY layers that `layer_speed.py` compares, one a file, behind one interface."""

from __future__ import annotations

import importlib

from .. import OURS, Entry
from .interface import LayerPeer

__all__ = ["OURS", "PEERS", "LayerPeer", "load"]

_DIFFCP = ("cvxpylayers", "diffcp", "scs", "clarabel", "cvxpy")
_MOREAU = ("cvxpylayers", "moreau", "moreau-cpu", "cvxpy")

PEERS = {
    OURS: Entry("ours", ("jaxopt-layers", "jax", "jaxlib", "cvxpy")),
    "torch_diffcp": Entry(
        "cvxpylayers_torch",
        (*_DIFFCP, "torch"),
        {"solver": "defaults"},
        "as it comes, with its own (loose) tolerance",
    ),
    "torch_diffcp_clarabel": Entry(
        "cvxpylayers_torch", (*_DIFFCP, "torch"), {"solver": "Clarabel"}, "at the common tolerance"
    ),
    "torch_moreau": Entry("cvxpylayers_torch", (*_MOREAU, "torch"), {"solver": "MOREAU"}),
    "jax_diffcp": Entry(
        "cvxpylayers_jax",
        (*_DIFFCP, "jax", "jaxlib"),
        {"solver": "defaults"},
        "as it comes, with its own (loose) tolerance; not under jit, which it can't",
    ),
    "jax_diffcp_clarabel": Entry(
        "cvxpylayers_jax",
        (*_DIFFCP, "jax", "jaxlib"),
        {"solver": "Clarabel"},
        "at the common tolerance; not under jit, which it can't",
    ),
    "jax_moreau": Entry(
        "cvxpylayers_jax", (*_MOREAU, "jax", "jaxlib"), {"solver": "MOREAU"}, "under jit"
    ),
}


def load(name: str) -> type[LayerPeer]:
    """The class of a peer; ImportError if it is not installed."""
    return importlib.import_module(f".{PEERS[name].module}", __name__).Runner
