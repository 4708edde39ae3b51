"""The root: the last nodes of the elimination as one dense matrix.

Where the tree ends, fronts have few others to be batched with and are widest; many of them may hang below
one separator. So the last nodes, as many as pay, are kept apart. What the fronts below leave for them is
summed up entry by entry, and their matrix, with rows of positive sign first, is factored by blocks if it
is large:

    [ P   B' ]          R1 P R1' = I,   C = R1 B',   R2 (N + C'C) R2' = I,
    [ B  -N  ],         R = [ R1  0 ; -R2 C'R1  R2 ],      R M R' = diag(I, -I).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_layers.cholesky import inverse_factor
from jaxopt_layers.matrix import matmul
from jaxopt_layers.pattern import Segments, rows_at, sum_along
from jaxopt_layers.pivots import signed_inverse_factor

# Up to so many rows the root is factored like a front.
_BY_ROWS = 128


@dataclass(frozen=True, eq=False)
class Root:
    """`nodes`: positive ones first, of which there are `positive`.

    - `entries` (k, k): where the matrix's own entries come from; 0 for none.
    - `children`: of every phase, the numbers of its fronts that leave something for the root.
    - `pairs`, `summed`: of those updates, joined and flat, which numbers are summed up for which pair of
      rows, the pairs as in the lower triangle; `triangle` (k, k): the pair at each place.
    - `rows`, `summed_rows`: the same for right-hand sides.
    """

    nodes: np.ndarray
    positive: int
    entries: np.ndarray
    children: tuple[np.ndarray, ...]
    pairs: np.ndarray
    summed: Segments
    triangle: np.ndarray
    rows: np.ndarray
    summed_rows: Segments

    @property
    def size(self) -> int:
        return len(self.nodes)

    @property
    def operations(self) -> int:
        """Floating-point operations of the factorization."""
        return self.size**3 + len(self.pairs)


def make_root(
    nodes: np.ndarray,
    positive: int,
    entries: np.ndarray,
    children: list[np.ndarray],
    heights: list[int],
    places: list[list[np.ndarray]],
) -> Root:
    """The index arrays; `places`: of every phase, child by child, the root's rows that its rows are."""
    size = len(nodes)
    pairs, targets, rows, row_targets = [], [], [], []
    start = row_start = 0
    for height, group in zip(heights, places, strict=True):
        for place in group:
            first, second = np.tril_indices(len(place))
            pairs.append(start + first * height + second)
            targets.append(_pair(place[first], place[second]))
            rows.append(row_start + np.arange(len(place)))
            row_targets.append(place)
            start += height * height
            row_start += height
    return Root(
        nodes=nodes.astype(np.int32),
        positive=positive,
        entries=entries.astype(np.int32),
        children=tuple(children),
        pairs=_joined(pairs).astype(np.int32),
        summed=Segments(_joined(targets), size * (size + 1) // 2),
        triangle=_pair(*np.indices((size, size))).astype(np.int32),
        rows=_joined(rows).astype(np.int32),
        summed_rows=Segments(_joined(row_targets), size),
    )


def _pair(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """The number of a pair of rows, as in the lower triangle by rows."""
    high = np.maximum(first, second)
    return high * (high + 1) // 2 + np.minimum(first, second)


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.int64), *parts])


def factor_root(root: Root, diagonal: Array, entries: Array, updates: list[Array]) -> Array:
    """R, from the padded diagonal and entries and what every phase's fronts left."""
    matrix = rows_at(entries, root.entries) + jnp.diag(rows_at(diagonal, root.nodes))
    if len(root.pairs):
        flat = _flat(root, updates)
        source = root.pairs
        sums = root.summed.reduce(
            lambda index: rows_at(flat, source[index]), sum_along, matrix.dtype
        )
        matrix = matrix + rows_at(sums, root.triangle)
    return _inverse_factor(matrix, root.positive)


def _flat(root: Root, updates: list[Array]) -> Array:
    pairs = zip(updates, root.children, strict=True)
    return jnp.concatenate(
        [rows_at(made, numbers).ravel() for made, numbers in pairs if len(numbers)]
    )


def _inverse_factor(matrix: Array, positive: int) -> Array:
    size = matrix.shape[0]
    if size <= _BY_ROWS:
        signs = np.where(np.arange(size) < positive, 1, -1)
        return signed_inverse_factor(matrix, jnp.asarray(signs, matrix.dtype))
    if positive == size:
        return inverse_factor(matrix)
    if not positive:
        return inverse_factor(-matrix)
    first = inverse_factor(matrix[:positive, :positive])
    coupling = matmul(first, matrix[:positive, positive:])
    rest = matmul(coupling.T, coupling) - matrix[positive:, positive:]
    second = inverse_factor(rest)
    corner = -matmul(second, matmul(coupling.T, first))
    above = jnp.zeros((positive, size - positive), matrix.dtype)
    return jnp.block([[first, above], [corner, second]])


def solve_root(root: Root, inverse: Array, right: Array, updates: list[Array]) -> Array:
    """The solution (k rows, right-hand sides), from theirs (nodes, ...) and what the fronts left."""
    total = rows_at(right, root.nodes).T
    if len(root.rows):
        # Of the updates (fronts, right-hand sides, h) each right-hand side's, flat.
        parts = [made.swapaxes(0, 1) for made in updates]
        total = total + jax.vmap(partial(_sum_rows, root))(parts)
    signs = jnp.where(jnp.arange(root.size) < root.positive, 1, -1).astype(right.dtype)
    return matmul(signs[None, :] * matmul(total, inverse.T), inverse).T


def _sum_rows(root: Root, updates: list[Array]) -> Array:
    flat, source = _flat(root, updates), root.rows
    return root.summed_rows.reduce(
        lambda index: rows_at(flat, source[index]), sum_along, flat.dtype
    )
