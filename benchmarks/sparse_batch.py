"""A batch of sparse programs with one pattern, and the forms in which solvers take it.

A quadratic program is that of `solve_qp` (matrices A, G; vectors Q, q, b, h, lower, upper; Q a diagonal), a
cone program that of `solve_cone` (matrix A; vectors P, b, c; P a diagonal). What a program lacks is absent.
Every entry of every matrix and vector belongs to its member, and all are differentiated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cone_problems import ConeSizes

Array = NDArray[Any]
Member = Mapping[str, Any]  # the data of one program: SciPy matrices and vectors


@dataclass(frozen=True)
class Matrices:
    """One pattern, by rows, and the values of every member (batch, nnz)."""

    pattern: sparse.csr_matrix = field(repr=False)
    values: Array = field(repr=False)

    @classmethod
    def stacked(cls, members: Sequence[Any]) -> Matrices:
        rows = [sparse.csr_matrix(member) for member in members]
        for matrix in rows:
            matrix.sum_duplicates()
        first = rows[0]
        for matrix in rows[1:]:
            assert np.array_equal(matrix.indptr, first.indptr), "members of different patterns"
            assert np.array_equal(matrix.indices, first.indices), "members of different patterns"
        return cls(first, np.stack([matrix.data for matrix in rows]))

    def member(self, i: int) -> sparse.csr_matrix:
        parts = (self.values[i], self.pattern.indices, self.pattern.indptr)
        return sparse.csr_matrix(parts, shape=self.pattern.shape)


@dataclass(frozen=True)
class Batch:
    """`cones` is None for quadratic programs; `cotangent` is that of x, (batch, n)."""

    name: str
    cones: ConeSizes | None
    matrices: dict[str, Matrices] = field(repr=False)
    vectors: dict[str, Array] = field(repr=False)
    cotangent: Array = field(repr=False)

    @classmethod
    def stacked(
        cls, name: str, cones: ConeSizes | None, members: Sequence[Member], rng: Any
    ) -> Batch:
        matrices, vectors = {}, {}
        for key, value in members[0].items():
            column = [member[key] for member in members]
            if sparse.issparse(value):
                matrices[key] = Matrices.stacked(column)
            else:
                vectors[key] = np.stack(column)
        shape = vectors["q" if cones is None else "c"].shape
        return cls(name, cones, matrices, vectors, rng.standard_normal(shape))

    @property
    def size(self) -> int:
        return len(self.cotangent)

    @property
    def variables(self) -> int:
        return self.cotangent.shape[1]

    def member(self, i: int) -> dict[str, Any]:
        """One program, its matrices by rows."""
        data: dict[str, Any] = {key: matrix.member(i) for key, matrix in self.matrices.items()}
        return data | {key: value[i] for key, value in self.vectors.items()}

    @cached_property
    def cone_form(self) -> ConeForm:
        return ConeForm.of(self)

    @property
    def entries(self) -> int:
        """Of the matrices of one member in the cone form."""
        return self.cone_form.A.pattern.nnz + len(self.cone_form.quadratic)

    def describe(self) -> str:
        m, n = self.cone_form.A.pattern.shape
        return f"n={n}, m={m}, {self.entries} entries, batch {self.size}"


@dataclass(frozen=True)
class ConeForm:
    """minimize 1/2 x'diag(P)x + c'x,  Ax + s = b,  s in K, for solvers that take only this.

    A quadratic program's rows stand in the order A, G, finite upper and finite lower bounds.
    """

    A: Matrices
    b: Array
    P: Array  # (batch, n), zero where there is no quadratic term
    c: Array
    cones: ConeSizes
    batch: Batch = field(repr=False)

    @classmethod
    def of(cls, batch: Batch) -> ConeForm:
        vectors = batch.vectors
        if batch.cones is not None:
            P = vectors.get("P", np.zeros_like(vectors["c"]))
            return cls(batch.matrices["A"], vectors["b"], P, vectors["c"], batch.cones, batch)
        identity = sparse.identity(batch.variables, format="csr")
        blocks = [batch.matrices[name] for name in "AG" if name in batch.matrices]
        right = [vectors[name] for name in "bh" if name in vectors]
        for name, sign in (("upper", 1.0), ("lower", -1.0)):
            finite = _finite(batch, name)
            if finite.any():
                rows = sparse.csr_matrix(sign * identity[finite])
                blocks.append(Matrices(rows, np.tile(rows.data, (batch.size, 1))))
                right.append(sign * vectors[name][:, finite])
        pattern = sparse.vstack([block.pattern for block in blocks], format="csr")
        values = np.concatenate([block.values for block in blocks], axis=1)
        b = np.concatenate(right, axis=1)
        equalities = vectors["b"].shape[1] if "b" in vectors else 0
        sizes = ConeSizes(zero=equalities, nonnegative=b.shape[1] - equalities)
        P = vectors.get("Q", np.zeros_like(vectors["q"]))
        return cls(Matrices(pattern, values), b, P, vectors["q"], sizes, batch)

    @cached_property
    def quadratic(self) -> Array:
        """The variables with a quadratic term."""
        return np.flatnonzero(np.any(self.P != 0, axis=0))

    def gradients(self, A: Array, b: Array, c: Array, P: Array | None = None) -> dict[str, Array]:
        """Gradients in this form's data (A's at its entries) as those in the batch's own."""
        if self.batch.cones is not None:
            found = {"A": A, "b": b, "c": c}
            if P is not None and "P" in self.batch.vectors:
                found["P"] = P
            return found
        found = {"q": c}
        if P is not None and "Q" in self.batch.vectors:
            found["Q"] = P
        entry = row = 0
        for matrix, vector in (("A", "b"), ("G", "h")):
            if matrix in self.batch.matrices:
                entries, rows = self.batch.matrices[matrix].pattern.nnz, self._rows(vector)
                found[matrix] = A[:, entry : entry + entries]
                found[vector] = b[:, row : row + rows]
                entry, row = entry + entries, row + rows
        for name, sign in (("upper", 1.0), ("lower", -1.0)):
            finite = _finite(self.batch, name)
            if name in self.batch.vectors:
                found[name] = np.zeros_like(self.batch.vectors[name])
                found[name][:, finite] = sign * b[:, row : row + finite.sum()]
                row += int(finite.sum())
        return found

    def _rows(self, vector: str) -> int:
        return self.batch.vectors[vector].shape[1]


def _finite(batch: Batch, name: str) -> Array:
    """Which bounds of that name are there."""
    if name not in batch.vectors:
        return np.zeros(batch.variables, bool)
    return np.all(np.isfinite(batch.vectors[name]), axis=0)
