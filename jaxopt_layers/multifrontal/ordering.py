"""The order of elimination: nested dissection, which fills in little and makes a shallow tree."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import numpy as np

from jaxopt_layers.multifrontal.fronts import WIDEST


def adjacency(size: int, rows: np.ndarray, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every node's neighbours, joined, and where each node's begin: of an undirected graph."""
    different = rows != columns
    first, second = rows[different].astype(np.int64), columns[different].astype(np.int64)
    keys = np.unique(np.concatenate([first * size + second, second * size + first]))
    starts = np.searchsorted(keys, np.arange(size + 1, dtype=np.int64) * size)
    return keys % size, starts


def dissection_order(neighbours: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The node that is eliminated at each position (METIS; George 1973); any order where one front does."""
    size = len(starts) - 1
    if size <= WIDEST or not len(neighbours):
        return np.arange(size)
    pymetis = _pymetis()
    graph = pymetis.CSRAdjacency(starts.astype(np.int32), neighbours.astype(np.int32))
    order, _ = pymetis.nested_dissection(graph)
    return np.asarray(order, np.int64)


def is_available() -> bool:
    """Whether the package that finds the order is installed."""
    return importlib.util.find_spec("pymetis") is not None


def _pymetis() -> Any:
    try:
        return importlib.import_module("pymetis")
    except ImportError as error:
        raise ImportError(
            "The sparse factorization needs the package pymetis: pip install 'jaxopt_layers[sparse]'."
        ) from error
