"""From checked expressions to the entries of a cone program whose data are affine in theta."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxopt_layers.cones import Cones
from jaxopt_layers.dpp.affine import Affine, concatenate
from jaxopt_layers.dpp.atoms import ATOMS
from jaxopt_layers.dpp.expression import Evaluation, Expression
from jaxopt_layers.dpp.linear_graphs import multiply
from jaxopt_layers.dpp.quadratic import Form, Square
from jaxopt_layers.dpp.root import psd_root
from jaxopt_layers.dpp.theta import Theta

KINDS = ("zero", "nonnegative", "second_order", "psd", "exponential", "power")


@dataclass(frozen=True)
class Block:
    """Rows of one kind: an affine expression in cones, `shape` of which are equal sizes."""

    rows: Affine
    sizes: tuple[Any, ...] = ()
    constraint: tuple[int, int] | None = None


@dataclass
class Graph:
    """A cone program under construction."""

    theta: Theta
    quadratic: bool = False
    size: int = 0
    blocks: dict[str, list[Block]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    squares: list[tuple[int, int, Square | Form]] = field(default_factory=list)
    leaves: dict[int, Affine] = field(default_factory=dict)
    tag: int | None = None
    _affine: dict[tuple[int, bool], Affine] = field(default_factory=dict)
    _reciprocals: dict[int, Expression] = field(default_factory=dict)

    # ---- variables and rows

    def variable(self, shape: tuple[int, ...]) -> Affine:
        """New variables."""
        start = self.size
        self.size += math.prod(shape)
        return Affine.of_columns(np.arange(start, self.size).reshape(shape))

    def symmetric(self, side: int) -> Affine:
        """A new symmetric matrix: one variable for each entry of the lower triangle."""
        i, j = np.tril_indices(side)
        index = np.zeros((side, side), int)
        index[i, j] = index[j, i] = np.arange(len(i))
        return self.variable((len(i),)).take(index)

    def _append(self, kind: str, rows: Affine, sizes: tuple[Any, ...] = ()) -> None:
        if rows.size:
            part = (
                None if self.tag is None else (self.tag, sum(len(b) for b in self.blocks.values()))
            )
            self.blocks[kind].append(Block(rows.reshape(-1), sizes, part))

    def zero(self, rows: Affine) -> None:
        """rows == 0."""
        self._append("zero", rows)

    def nonnegative(self, rows: Affine) -> None:
        """rows >= 0."""
        self._append("nonnegative", rows)

    def second_order(self, t: Affine, x: Affine) -> None:
        """t[i] >= |x[i]| for t (k,) and x (k, d)."""
        k, d = x.shape
        index = np.concatenate([np.arange(k)[:, None], k + np.arange(k * d).reshape(k, d)], axis=1)
        self._append("second_order", concatenate([t, x]).take(index), (d + 1,) * k)

    def exponential(self, x: Affine, y: Affine, z: Affine) -> None:
        """y exp(x / y) <= z, elementwise."""
        self._append("exponential", _triples(x, y, z))

    def power(self, x: Affine, y: Affine, z: Affine, a: float | np.ndarray) -> None:
        """x^a y^(1-a) >= |z|, elementwise."""
        rows = _triples(x, y, z)
        exponents = np.broadcast_to(a, (rows.size // 3,))
        self._append("power", rows, tuple(float(exponent) for exponent in exponents))

    def psd(self, X: Affine) -> None:
        """The symmetric part of X (n, n), or of each of X (k, n, n), is positive semidefinite."""
        n = X.shape[-1]
        X = X.reshape(-1, n, n)
        i, j = np.triu_indices(n)  # (j, i) goes down the columns of the lower triangle
        scale = np.where(i == j, 0.5, math.sqrt(0.5))
        rows = (X[:, j, i] + X[:, i, j]).scaled(np.broadcast_to(scale, (X.shape[0], len(i))))
        self._append("psd", rows.merged(), (n,) * X.shape[0])

    # ---- what atoms ask for

    def square(self, x: Affine) -> Affine:
        """x^2, elementwise, for the objective only: columns that stand for squares."""
        start = self.size
        result = self.variable(x.shape)
        self.squares.append((start, self.size, Square(x.reshape(-1))))
        return result

    def form(self, x: Affine, P: Affine) -> Affine:
        """x'Px, for the objective only."""
        start = self.size
        result = self.variable(())
        self.squares.append((start, self.size, Form(x, P)))
        return result

    def reciprocal(self, e: Expression) -> Affine:
        """1 / e for an expression without variables."""
        if e.value is not None:
            return Affine.of_constant(1 / np.asarray(e.value, float))
        if id(e) not in self._reciprocals:
            self._reciprocals[id(e)] = Expression(
                "reciprocal", (e,), e.shape, "1/", evaluation=Evaluation(lambda v: [1 / v], (e,))
            )
        return Affine.of_parameters(self.theta.indices(self._reciprocals[id(e)]), e.shape)

    def root(self, e: Expression, sign: float) -> Affine:
        """The symmetric root of a definite matrix without variables."""
        if e.value is not None:
            values, vectors = np.linalg.eigh(sign * np.asarray(e.value, float))
            return Affine.of_constant((vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T)
        root = Expression(
            "root",
            (e,),
            e.shape,
            "root",
            evaluation=Evaluation(lambda v: [psd_root(jnp.asarray(sign, v.dtype) * v)], (e,)),
        )
        return Affine.of_parameters(self.theta.indices(root), e.shape)

    def perspective(self, e: Expression, s: Affine, arguments: tuple[Affine, ...]) -> Affine:
        """f's own graph at leaves that stand for its arguments; then every constant times s."""
        inner = Graph(self.theta, size=self.size)
        for leaf, argument in zip(e.attributes["leaves"], arguments, strict=True):
            inner.leaves[id(leaf)] = argument.reshape(*leaf.shape)
        # An argument's own constant term is x's, not f's: it stays, so put it in a variable.
        for leaf in e.attributes["leaves"]:
            if (inner.leaves[id(leaf)].column < 0).any():
                stand_in = inner.variable(leaf.shape)
                self.zero(stand_in - inner.leaves[id(leaf)])
                inner.leaves[id(leaf)] = stand_in
        value = inner.affine(e.attributes["root"])
        self.size = inner.size
        for kind, blocks in inner.blocks.items():
            for block in blocks:
                self._append(kind, self._homogeneous(block.rows, s), block.sizes)
        return self._homogeneous(value, s)

    def _homogeneous(self, rows: Affine, s: Affine) -> Affine:
        loose = rows.select(rows.column < 0)
        stands = rows.select(rows.column >= 0)
        e = Expression("multiply", (), rows.shape, "")
        return stands + multiply(self, e, loose, s.reshape(1).broadcast((1,)).reshape())

    # ---- expressions

    def affine(self, root: Expression, quadratic: bool = False) -> Affine:
        """An expression as affine rows, its epigraphs added; `quadratic` lets squares stay."""
        stack = [(root, quadratic)]
        while stack:
            e, mode = stack[-1]
            key = (id(e), mode)
            if key in self._affine:
                stack.pop()
                continue
            if e.atom == "variable":
                self._affine[key] = self.leaves[id(e)]
                continue
            if not e.has_variables:
                self._affine[key] = self.known(e)
                continue
            atom = ATOMS[e.atom]
            inner = mode and atom.curvature == "affine"
            missing = [(a, inner) for a in e.arguments if (id(a), inner) not in self._affine]
            if missing:
                stack.extend(missing)
                continue
            self.quadratic = mode
            arguments = [self._affine[id(a), inner] for a in e.arguments]
            self._affine[key] = atom.graph(self, e, *arguments)
            self.quadratic = False
        return self._affine[id(root), quadratic]

    def known(self, e: Expression) -> Affine:
        """What doesn't depend on variables: numbers, or entries of theta."""
        if e.value is not None:
            return Affine.of_constant(np.asarray(e.value))
        return Affine.of_parameters(self.theta.indices(e), e.shape)


def _triples(x: Affine, y: Affine, z: Affine) -> Affine:
    size = max(x.size, y.size, z.size)
    parts = [v.reshape(-1).broadcast((size,)) for v in (x, y, z)]
    return concatenate(parts).take(np.arange(3 * size).reshape(3, size).T)


def cones_of(blocks: dict[str, list[Block]]) -> Cones:
    """The product of all blocks."""

    def size(kind: str) -> int:
        return sum(block.rows.size for block in blocks[kind])

    def sizes(kind: str) -> tuple[Any, ...]:
        return tuple(s for block in blocks[kind] for s in block.sizes)

    return Cones(
        zero=size("zero"),
        nonnegative=size("nonnegative"),
        second_order=sizes("second_order"),
        psd=sizes("psd"),
        exponential=size("exponential") // 3,
        power=sizes("power"),
    )
