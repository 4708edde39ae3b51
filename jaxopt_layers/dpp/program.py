"""A traced problem as an affine-solver-affine program, with the way back to variables and duals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxopt_layers.asa import AffineSolverAffine
from jaxopt_layers.cones.vectorize import smat
from jaxopt_layers.dpp.affine import Affine, concatenate
from jaxopt_layers.dpp.canonicalize import KINDS, Graph, cones_of
from jaxopt_layers.dpp.check import Traced
from jaxopt_layers.dpp.expression import Expression
from jaxopt_layers.dpp.quadratic import pairs_of
from jaxopt_layers.dpp.theta import Theta
from jaxopt_layers.settings import Settings
from jaxopt_layers.solution import ConeSolution


@dataclass(frozen=True)
class Program:
    """Made once per set of shapes; calls do JAX work only."""

    problem: Traced
    theta: Theta
    asa: AffineSolverAffine
    places: dict[str, np.ndarray]
    rows: tuple[list[np.ndarray], ...]

    def solve(
        self, leaves: list[Any], dtype: Any, settings: Settings, init: ConeSolution | None
    ) -> tuple[dict[str, Array], Array, list[Any], ConeSolution]:
        """Variables, the objective's value, duals and the solver's record, at the parameters' leaves."""
        parameters = self.problem.parameters
        values = {id(e): leaf for e, leaf in zip(parameters, leaves, strict=True)}
        record = self.asa.solve(self.theta.evaluate(values, dtype), settings, init)
        variables = {name: record.x[place] for name, place in self.places.items()}
        value = record.objective if self.problem.sense == "minimize" else -record.objective
        return variables, value, self._duals(record.y), record

    def _duals(self, y: Array) -> list[Any]:
        duals: list[Any] = []
        for constraint, blocks in zip(self.problem.constraints, self.rows, strict=True):
            shape = constraint.shape
            if not blocks:
                duals.append(jnp.zeros(shape, y.dtype))
                continue
            part = y[blocks[0]]
            if constraint.atom in ("eq", "le", "ge"):
                duals.append(part.reshape(shape))
            elif constraint.atom == "second_order":
                cones = part.reshape(*shape, -1)
                duals.append((cones[..., 0], cones[..., 1:]))
            elif constraint.atom == "positive_semidefinite":
                side = constraint.arguments[0].shape[-1]
                flat = part.reshape(-1, side * (side + 1) // 2)
                matrices = jnp.stack([smat(flat[i]) for i in range(flat.shape[0])])
                duals.append(matrices.reshape(*shape, side, side))
            else:
                triples = part.reshape(*shape, 3)
                duals.append(tuple(triples[..., i] for i in range(3)))
        return duals


def build(problem: Traced) -> Program:
    """Canonicalize a problem that has been checked."""
    graph = Graph(Theta())
    for e in problem.variables.values():
        graph.leaves[id(e)] = _variable(graph, e)
    objective = graph.affine(problem.objective, quadratic=True).reshape(-1)
    if problem.sense == "maximize":
        objective = -objective
    for i, constraint in enumerate(problem.constraints):
        if not constraint.is_constant:
            _constrain(graph, i, constraint)
    objective = objective.merged()
    P, linear = _quadratic(graph, objective)
    return _assemble(problem, graph, P, linear)


def _variable(graph: Graph, e: Expression) -> Affine:
    attributes = e.attributes
    if attributes.get("symmetric") or attributes.get("psd"):
        x = graph.symmetric(e.shape[0])
    else:
        x = graph.variable(e.shape)
    if attributes.get("psd"):
        graph.psd(x)
    if attributes.get("nonneg"):
        graph.nonnegative(x)
    if attributes.get("nonpos"):
        graph.nonnegative(-x)
    return x


def _constrain(graph: Graph, i: int, e: Expression) -> None:
    arguments = [graph.affine(a) for a in e.arguments]
    graph.tag = i
    if e.atom == "eq":
        graph.zero((arguments[1] - arguments[0]).merged())
    elif e.atom == "le":
        graph.nonnegative((arguments[1] - arguments[0]).merged())
    elif e.atom == "ge":
        graph.nonnegative((arguments[0] - arguments[1]).merged())
    elif e.atom == "second_order":
        t, x = arguments
        x = x.reshape(1, -1) if not t.shape else x.reshape(t.size, -1)
        graph.second_order(t.reshape(-1), x)
    elif e.atom == "positive_semidefinite":
        graph.psd(arguments[0])
    elif e.atom == "exponential_cone":
        graph.exponential(*(a.broadcast(e.shape) for a in arguments))
    else:
        x, y, z = (a.broadcast(e.shape).reshape(-1) for a in arguments)
        exponents = np.broadcast_to(np.asarray(e.attributes["a"]), e.shape).ravel()
        graph.power(x, y, z, exponents)  # type: ignore[arg-type]
    graph.tag = None


def _quadratic(graph: Graph, objective: Affine) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Entries of P, and of the linear part with the constant (column -1)."""
    entries: list[tuple[np.ndarray, ...]] = []
    linear = np.ones(len(objective.row), bool)
    column = objective.column
    for start, end, part in list(graph.squares):
        weights = np.flatnonzero((column >= start) & (column < end))
        linear[weights] = False
        if len(weights):
            pairs = pairs_of(
                graph,
                part,
                column[weights] - start,
                objective.parameter[weights],
                objective.value[weights],
            )
            entries.append((pairs.first, pairs.second, pairs.parameter, pairs.value))
    affine = [column[linear], objective.parameter[linear], objective.value[linear]]
    if not entries:
        return [np.zeros(0, int)] * 3 + [np.zeros(0)], affine
    first, second, parameter, value = (np.concatenate(part) for part in zip(*entries, strict=True))
    both = (first >= 0) & (second >= 0)
    rest = [np.maximum(first, second)[~both], parameter[~both], value[~both]]
    affine = [np.concatenate(pair) for pair in zip(affine, rest, strict=True)]
    return [first[both], second[both], parameter[both], 2.0 * value[both]], affine


def _assemble(
    problem: Traced, graph: Graph, P: list[np.ndarray], linear: list[np.ndarray]
) -> Program:
    real = np.ones(graph.size, bool)
    for start, end, _ in graph.squares:
        real[start:end] = False
    renumbered = np.cumsum(real) - 1
    n, p = int(real.sum()), graph.theta.size
    blocks = [block for kind in KINDS for block in graph.blocks[kind]]
    found: list[dict[int, np.ndarray]] = [{} for _ in problem.constraints]
    start = 0
    for block in blocks:
        if block.constraint is not None:
            i, order = block.constraint
            found[i][order] = np.arange(start, start + block.rows.size)
        start += block.rows.size
    none = np.zeros(0, int)
    rows = (
        concatenate([block.rows for block in blocks])
        if blocks
        else Affine((0,), none, none, none, np.zeros(0))
    )
    parameter = np.where(rows.parameter < 0, p, rows.parameter)
    inside = rows.column >= 0
    column, index, value = linear
    index = np.where(index < 0, p, index)
    varying = column >= 0
    asa = AffineSolverAffine.from_coo(
        variables=n,
        parameters=p,
        cones=cones_of(graph.blocks),
        A=(
            rows.row[inside],
            renumbered[rows.column[inside]],
            parameter[inside],
            -rows.value[inside],
        ),
        b=(rows.row[~inside], parameter[~inside], rows.value[~inside]),
        c=(renumbered[column[varying]], index[varying], value[varying]),
        P=(renumbered[P[0]], renumbered[P[1]], np.where(P[2] < 0, p, P[2]), P[3])
        if len(P[0])
        else None,
        constant=(index[~varying], value[~varying]) if (~varying).any() else None,
    )
    places = {}
    for name, e in problem.variables.items():
        leaf = graph.leaves[id(e)]
        places[name] = renumbered[leaf.column[np.argsort(leaf.row)]].reshape(e.shape)
    located = tuple([part for _, part in sorted(d.items())] for d in found)
    return Program(problem, graph.theta, asa, places, located)
