"""diffcp's batched functions, their own thread pools as they come, with Clarabel inside.

Its derivatives know no quadratic term, so a variable t is minimized in place of it:
`t >= x'Px / 2` is `(t + 1, t - 1, sqrt(2 P) x)` in the second-order cone.
"""

from __future__ import annotations

from typing import Any

import diffcp
import numpy as np
from scipy import sparse

from sparse_batch import Array, Batch

from .interface import SparsePeer


class Runner(SparsePeer):
    def __init__(self, batch: Batch, tolerance: float) -> None:
        super().__init__(batch, tolerance)
        form = self.form = batch.cone_form
        sizes, n = form.cones, batch.variables
        self.roots = np.sqrt(2 * form.P[:, form.quadratic])
        self.lifted = len(form.quadratic) > 0
        second_order = list(sizes.second_order)
        if self.lifted:
            second_order.insert(0, len(form.quadratic) + 2)
        cones = {
            "z": sizes.zero,
            "l": sizes.nonnegative,
            "q": second_order,
            "ep": sizes.exponential,
        }
        self.cones = [{name: value for name, value in cones.items() if value}] * batch.size
        names = ("tol_gap_abs", "tol_gap_rel", "tol_feas")
        self.arguments: dict[str, Any] = dict.fromkeys(names, tolerance)
        self.arguments["solve_method"] = "Clarabel"
        self.row = sizes.zero + sizes.nonnegative  # the first of the cone that is put in
        # The sparse matrices are made beforehand: that is SciPy's time, not diffcp's.
        self.data = tuple(zip(*(self._lifted(i) for i in range(batch.size)), strict=True))
        A, b, c = self.data[0][0], self.data[1][0], self.data[2][0]
        cotangents = np.zeros((batch.size, len(c)))
        cotangents[:, :n] = batch.cotangent
        zero = np.zeros(len(b))
        self.cotangents = list(cotangents), [zero] * batch.size, [zero] * batch.size
        assert A.shape == (len(b), len(c))

    def _lifted(self, i: int) -> tuple[Any, Array, Array]:
        form, row = self.form, self.row
        A, b, c = form.A.member(i), form.b[i], form.c[i]
        if not self.lifted:
            return sparse.csc_matrix(A), b, c
        n, count = A.shape[1], len(form.quadratic)
        squares = sparse.csr_matrix(
            (-self.roots[i], (np.arange(count), form.quadratic)), shape=(count, n)
        )
        t = np.full((2, 1), -1.0)
        blocks = [[A[:row], None], [None, t], [squares, None], [A[row:], None]]
        blocks = [line for line in blocks if all(part is None or part.shape[0] for part in line)]
        b = np.concatenate([b[:row], [1.0, -1.0], np.zeros(count), b[row:]])
        return sparse.bmat(blocks, format="csc"), b, np.append(c, 1.0)

    def forward(self) -> Any:
        return diffcp.solve_only_batch(*self._lists(), self.cones, **self.arguments)

    def _lists(self) -> tuple[list[Any], ...]:
        return tuple(list(values) for values in self.data)

    def solution(self, result: Any) -> Array:
        return np.stack(result[0])[:, : self.batch.variables]

    def statuses(self, result: Any) -> list[str]:
        return ["solved"] * self.batch.size  # it raises otherwise

    def forward_backward(self) -> Any:
        *_, adjoint = diffcp.solve_and_derivative_batch(
            *self._lists(), self.cones, **self.arguments
        )
        return adjoint(*self.cotangents)

    def gradients(self, result: Any) -> dict[str, Array]:
        form, row, n = self.form, self.row, self.batch.variables
        end = row + (2 + len(form.quadratic) if self.lifted else 0)
        places = form.A.pattern.tocoo()
        rows = np.where(places.row < row, places.row, places.row + end - row)
        dA, P = [], np.zeros_like(form.P)
        for i, matrix in enumerate(result[0]):
            entries = sparse.csr_matrix(matrix)
            dA.append(np.asarray(entries[rows, places.col]).ravel())
            if self.lifted:
                of_roots = np.asarray(entries[np.arange(row + 2, end), form.quadratic]).ravel()
                P[i, form.quadratic] = -of_roots / self.roots[i]
        db, dc = (np.stack(value) for value in result[1:3])
        return form.gradients(np.stack(dA), np.delete(db, np.s_[row:end], axis=1), dc[:, :n], P)
