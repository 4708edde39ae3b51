"""Which nodes are eliminated before the fronts are formed: clusters of a few, without edges between clusters.

A row of the orthant, or a variable with curvature or bounds of its own, is a pivot that needs no other; after
it, so are its neighbours of the other sign. Rounds of such nodes without edges between them are chosen one
after the other. As long as the nodes that are gone hang together in small clusters only, such as a cone's
rows or seven nodes of a chain, all of these rounds are one step of the factorization.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from jaxopt_layers.multifrontal.graph import Graph

# Nodes with more neighbours than this would fill in too much, unless they have them in common: then the
# nodes that they reach, not more than this, become one dense block of the entries that are left.
_MOST_NEIGHBOURS = 32
_MOST_REACHED = 512
_COMMON = 0.3
# Nodes with more neighbours than this wait for a later round, when what would be filled in has mostly been
# eliminated, unless that leaves less than this part of the round's nodes.
_THRIFTY_NEIGHBOURS, _THRIFTY_PART = 8, 0.5
# A round that doesn't eliminate this part of the nodes, and so many, isn't worth its compile time.
_FEWEST, _FEWEST_NODES = 0.05, 8
# A cluster has no more nodes than this, and all clusters, padded to one size, not so many times their nodes.
_LARGEST = 4
_PADDING = 2.0


def find_clusters(graph: Graph) -> tuple[np.ndarray, Graph] | None:
    """The nodes of every cluster (in the order of elimination, clusters), and the graph without them.

    A cluster that is smaller than the others repeats its first node. None where no round is worth it.
    """
    rest, nodes, order = graph, np.arange(graph.size), np.zeros(0, np.int64)
    found = None
    while (chosen := _independent_nodes(rest)) is not None:
        # Nodes with neighbours in common become a matrix, of which others would be columns of zeros.
        is_matrix = np.diff(rest.adjacency[1])[chosen].max() > _MOST_NEIGHBOURS
        order = np.concatenate([order, nodes[chosen]])
        clusters = _joined(graph, order)
        if clusters is None or (is_matrix and found is not None):
            break
        rest, kept = rest.without(chosen)
        nodes = nodes[kept]
        found = clusters, rest
        if is_matrix:
            break
    return found


def _joined(graph: Graph, order: np.ndarray) -> np.ndarray | None:
    """The nodes by the clusters in which they hang together; None where those are too large, or uneven."""
    place = np.full(graph.size, -1)
    place[order] = np.arange(len(order))
    between = (place[graph.rows] >= 0) & (place[graph.columns] >= 0)
    edges = place[graph.rows[between]], place[graph.columns[between]]
    links = coo_array((np.ones(len(edges[0]), bool), edges), shape=(len(order),) * 2)
    count, labels = connected_components(links, directed=False)
    sizes = np.bincount(labels)
    largest = int(sizes.max())
    if largest > _LARGEST or largest * count > _PADDING * len(order):
        return None
    by_label = np.argsort(labels, kind="stable")
    starts = np.concatenate([[0], np.cumsum(sizes)])
    clusters = np.tile(order[by_label[starts[:-1]]], (largest, 1))
    own = labels[by_label]
    clusters[np.arange(len(order)) - starts[own], own] = order[by_label]
    return clusters


def _independent_nodes(graph: Graph) -> np.ndarray | None:
    """A mask of the safest nodes with few neighbours, or with many in common; None for too few."""
    neighbours, starts = graph.adjacency
    degree = np.diff(starts)
    few = _independent(graph, np.where(degree <= _MOST_NEIGHBOURS, graph.safe, 0))
    fewer = few & (degree <= _THRIFTY_NEIGHBOURS)
    if _are_enough(fewer) and fewer.sum() >= _THRIFTY_PART * few.sum():
        return fewer
    if _are_enough(few):
        return few
    many = _independent(graph, graph.safe)
    reached = np.unique(neighbours[np.repeat(many, degree)])
    in_common = degree[many].sum() >= _COMMON * many.sum() * len(reached)
    return many if _are_enough(many) and in_common and len(reached) <= _MOST_REACHED else None


def _are_enough(is_gone: np.ndarray) -> bool:
    least = max(_FEWEST * len(is_gone), _FEWEST_NODES)
    return is_gone.sum() >= least and not is_gone.all()


def _independent(graph: Graph, safe: np.ndarray) -> np.ndarray:
    """A mask of the safest nodes without edges between them, those with the fewest neighbours first."""
    neighbours, starts = graph.adjacency
    is_gone = np.zeros(graph.size, bool)
    safest = int(safe.max(initial=0))
    if not safest:
        return is_gone
    blocked = safe != safest
    candidates = np.flatnonzero(~blocked)
    degree = np.diff(starts)
    for node in candidates[np.argsort(degree[candidates], kind="stable")].tolist():
        if not blocked[node]:
            is_gone[node] = True
            blocked[neighbours[starts[node] : starts[node + 1]]] = True
    return is_gone
