"""Small quadratic programs by name, and random ones made around a solution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

#: Arguments of `solve_qp` by name, as float64 arrays; an absent argument has no entry.
Data = dict[str, np.ndarray]

INPUTS = ("Q", "q", "A", "b", "G", "h", "lower", "upper")
OUTPUTS = ("x", "y", "z", "s", "z_lower", "z_upper", "objective", "dual_objective")

# Multipliers of active constraints and slacks of the others are at least this.
MARGIN = 0.1


@dataclass(frozen=True)
class KnownQP:
    """A problem and its solution, keyed by the names in OUTPUTS."""

    data: Data
    solution: dict[str, np.ndarray]


@dataclass(frozen=True)
class Case:
    """A named problem.

    `held` names the inputs in which the solution map has no two-sided derivative, `ambiguous` the
    outputs that the problem does not determine. Apart from them the solution is unique and strictly
    complementary. `units` says how large an output's entries are by nature, where that isn't one.
    """

    name: str
    data: Data
    held: tuple[str, ...] = ()
    ambiguous: tuple[str, ...] = ()
    units: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs to differentiate in."""
        return tuple(name for name in INPUTS if name in self.data and name not in self.held)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs to compare."""
        return tuple(name for name in OUTPUTS if name not in self.ambiguous)


def random_qp(
    rng: np.random.Generator,
    n: int,
    m: int,
    p: int,
    *,
    bounds: bool = False,
    active: int | None = None,
    quadratic: str | None = "dense",
) -> KnownQP:
    """A well-posed QP with n variables, m inequalities and p equalities, made around its solution.

    x, the active set and its multipliers are drawn first and q, h, b and the bounds computed, so
    that the solution is strictly complementary (multipliers and slacks of at least MARGIN) and the
    active rows are independent: the solution map is smooth there. `active` constraints of the m
    rows and 2n bounds hold with equality (by default a random number up to n - p); n - p of them
    make the solution of a linear program (`quadratic=None`) unique.
    """
    candidates = m + (n if bounds else 0)
    if active is None:
        active = int(rng.integers(min(n - p, candidates) + 1))
    while True:
        A, G = rng.normal(size=(p, n)), rng.normal(size=(m, n))
        chosen = rng.permutation(candidates)[:active]
        rows, variables = chosen[chosen < m], chosen[chosen >= m] - m
        held = np.concatenate([A, G[rows], np.eye(n)[variables]])
        if held.size == 0 or np.linalg.svd(held, compute_uv=False).min() > MARGIN:
            break

    x, y = rng.normal(size=n), rng.normal(size=p)
    z, s = np.zeros(m), MARGIN + rng.exponential(size=m)
    z[rows], s[rows] = MARGIN + rng.exponential(size=len(rows)), 0
    at_lower = variables[rng.random(len(variables)) < 0.5]
    at_upper = np.setdiff1d(variables, at_lower)
    z_lower, z_upper = np.zeros(n), np.zeros(n)
    z_lower[at_lower] = MARGIN + rng.exponential(size=len(at_lower))
    z_upper[at_upper] = MARGIN + rng.exponential(size=len(at_upper))
    below, above = MARGIN + rng.exponential(size=(2, n))
    below[at_lower], above[at_upper] = 0, 0

    factor = rng.normal(size=(n, n))
    Q = {
        "dense": factor @ factor.T / n + MARGIN * np.eye(n),
        "diagonal": rng.uniform(0.5, 2, size=n),
        None: None,
    }[quadratic]
    curved = 0 if Q is None else (Q * x if Q.ndim == 1 else Q @ x)
    q = -(curved + A.T @ y + G.T @ z - z_lower + z_upper)
    data: Data = {"q": q} if Q is None else {"Q": Q, "q": q}
    data |= {"A": A, "b": A @ x} if p else {}
    data |= {"G": G, "h": G @ x + s} if m else {}
    data |= {"lower": x - below, "upper": x + above} if bounds else {}
    value = np.sum(0.5 * curved * x + q * x)
    if not bounds:
        z_lower, z_upper = np.zeros(0), np.zeros(0)
    return KnownQP(
        data, dict(zip(OUTPUTS, (x, y, z, s, z_lower, z_upper, value, value), strict=True))
    )


def stack(problems: Sequence[KnownQP]) -> KnownQP:
    """Problems of one shape as one batch, for `jax.vmap`."""

    def joined(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        return {name: np.stack([part[name] for part in parts]) for name in parts[0]}

    return KnownQP(joined([p.data for p in problems]), joined([p.solution for p in problems]))


def _known(seed: int, n: int, m: int, p: int, *omitted: str, **options: Any) -> Data:
    data = random_qp(np.random.default_rng(seed), n, m, p, **options).data
    return {name: array for name, array in data.items() if name not in omitted}


def _full(seed: int, active: int = 3) -> KnownQP:
    """Everything at once; the problems made from it have the same shapes, so they compile once."""
    return random_qp(np.random.default_rng(seed), 6, 5, 2, bounds=True, active=active)


def _simplex() -> Data:
    point = np.array([0.9, 0.5, -0.3, 0.45, -1.0])
    return {
        "Q": np.ones(5),
        "q": -point,
        "A": np.ones((1, 5)),
        "b": np.ones(1),
        "lower": np.zeros(5),
    }


def _infinite() -> Data:
    """An inequality and some of the bounds are absent; those that hold with equality stay."""
    known = _full(10)
    data, dual, even = dict(known.data), known.solution, np.arange(6) % 2 == 0
    data["h"] = np.where((dual["z"] == 0) & (np.arange(5) > 2), np.inf, data["h"])
    data["lower"] = np.where((dual["z_lower"] == 0) & even, -np.inf, data["lower"])
    data["upper"] = np.where((dual["z_upper"] == 0) & ~even, np.inf, data["upper"])
    return data


def _coinciding_bounds() -> Data:
    """Two variables are held where they are, one pushing against each of its bounds."""
    known = _full(11, active=1)
    data = known.data
    free = np.flatnonzero((known.solution["z_lower"] == 0) & (known.solution["z_upper"] == 0))[:2]
    data["lower"][free] = data["upper"][free] = known.solution["x"][free]
    data["q"][free] += [1.0, -1.0]
    return data


def _redundant_row() -> Data:
    """The second equality row is twice the first."""
    data = _full(31).data
    factors = np.array([1.0, 2.0])
    return data | {"A": factors[:, None] * data["A"][:1], "b": factors * data["b"][0]}


def _badly_scaled() -> Case:
    """Rows times 1e-3 to 1e3, the objective times 1e3; slacks and multipliers scale with them."""
    data = _full(13).data
    equality, inequality = np.array([1e3, 1e-3]), np.array([1e-3, 1e-1, 1.0, 1e2, 1e3])
    value = np.array(1e3)
    data |= {"A": equality[:, None] * data["A"], "b": equality * data["b"]}
    data |= {"G": inequality[:, None] * data["G"], "h": inequality * data["h"]}
    data |= {"Q": value * data["Q"], "q": value * data["q"]}
    units = {"y": value / equality, "z": value / inequality, "s": inequality}
    units |= dict.fromkeys(("z_lower", "z_upper", "objective", "dual_objective"), value)
    return Case("scaled", data, units=units)


#: The table. A new problem joins by one line.
CASES: dict[str, Case] = {
    case.name: case
    for case in (
        Case("full", _full(0).data),
        Case("infinite", _infinite()),
        Case("coinciding", _coinciding_bounds(), ("lower", "upper")),
        Case("redundant", _redundant_row(), ("A", "b"), ("y",)),
        _badly_scaled(),
        Case("diagonal", _known(1, 6, 5, 2, active=3, quadratic="diagonal")),
        Case("linear", _known(2, 5, 6, 1, active=4, quadratic=None)),
        Case("equalities", _known(3, 6, 0, 2)),
        Case("unconstrained", _known(4, 5, 0, 0)),
        Case("inequalities", _known(5, 5, 7, 0, active=3)),
        Case("bounds", _known(6, 6, 0, 0, bounds=True, active=3)),
        Case("upper", _known(25, 6, 0, 0, "lower", bounds=True, active=3)),
        Case("simplex", _simplex()),
        Case("box", _known(8, 6, 0, 2, bounds=True, active=3, quadratic="diagonal")),
        Case("single", _known(9, 1, 2, 0, active=1)),
    )
}
