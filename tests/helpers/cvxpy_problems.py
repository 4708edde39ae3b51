"""A table of CVXPY problems with parameter values: what a layer must solve and differentiate."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np
import scipy.sparse as sp


@dataclass(frozen=True)
class Case:
    """A problem, its parameters with values in order, and the variables to return."""

    problem: cp.Problem
    parameters: list[cp.Parameter]
    values: list[np.ndarray]
    variables: list[Any]
    gp: bool = False

    def solve(self, values: list[np.ndarray] | None = None) -> list[np.ndarray]:
        """The variables' values by CVXPY and Clarabel, to high accuracy."""
        given = self.values if values is None else values
        with warnings.catch_warnings():
            # CVXPY's words on sparse leaves, and on a tolerance that it could only nearly reach.
            warnings.simplefilter("ignore")
            for parameter, value in zip(self.parameters, given, strict=True):
                if parameter.attributes["sparsity"]:
                    at = parameter.sparse_idx
                    parameter.value_sparse = sp.coo_array((value[at], at), shape=parameter.shape)
                else:
                    parameter.value = value
            self.problem.solve(
                solver=cp.CLARABEL,
                gp=self.gp,
                tol_gap_abs=1e-11,
                tol_gap_rel=1e-11,
                tol_feas=1e-11,
            )
            found = [variable.value for variable in self.variables]
        return [np.asarray(v.toarray() if sp.issparse(v) else v) for v in found]

    def batch(self, size: int) -> list[np.ndarray]:
        """Parameters of as many problems, the first of them the given one, the others near it."""
        rng = np.random.default_rng(7)
        stacked = []
        for parameter, value in zip(self.parameters, self.values, strict=True):
            noise = 0.02 * rng.normal(size=(size, *value.shape)) * (value != 0)
            noise[0] = 0
            if value.ndim == 2 and parameter.is_symmetric():
                noise = noise + np.swapaxes(noise, 1, 2)
            stacked.append(value + noise)
        return stacked


def quadratic() -> Case:
    """The OptNet problem in DPP form, with bounds."""
    rng = np.random.default_rng(0)
    n = 5
    x = cp.Variable(n)
    root, q, G = cp.Parameter((n, n)), cp.Parameter(n), cp.Parameter((3, n))
    h, A, b = cp.Parameter(3), cp.Parameter((1, n)), cp.Parameter(1)
    objective = cp.Minimize(0.5 * cp.sum_squares(root @ x) + q @ x)
    limits = [A @ x == b, G @ x <= h, x <= 1.5]
    parameters = [root, q, G, h, A, b]
    values = [np.eye(n) + 0.3 * rng.normal(size=(n, n)), rng.normal(size=n)]
    values += [rng.normal(size=(3, n)), np.full(3, 0.3), np.ones((1, n)), np.ones(1)]
    duals = [con.dual_variables[0] for con in limits]
    return Case(cp.Problem(objective, limits), parameters, values, [x, *duals])


def second_order() -> Case:
    """A portfolio with a limit on its risk, to be maximized."""
    rng = np.random.default_rng(1)
    n = 4
    w = cp.Variable(n)
    mean, factor, limit = cp.Parameter(n), cp.Parameter((n, n)), cp.Parameter(nonneg=True)
    risk = cp.norm(factor @ w) <= limit
    problem = cp.Problem(cp.Maximize(mean @ w), [risk, cp.sum(w) == 1, w >= -0.5])
    values = [rng.normal(size=n), np.eye(n) + 0.2 * rng.normal(size=(n, n)), np.array(0.8)]
    return Case(problem, [mean, factor, limit], values, [w, risk.dual_variables[0]])


def exponential() -> Case:
    """A regularized logistic regression."""
    rng = np.random.default_rng(2)
    a = cp.Variable((2, 1))
    X, weight = cp.Parameter((5, 2)), cp.Parameter(1, nonneg=True)
    labels = (rng.normal(size=(5, 1)) > 0).astype(float)
    scores = X @ a
    likelihood = cp.sum(cp.multiply(labels, scores) - cp.logistic(scores))
    problem = cp.Problem(cp.Minimize(-likelihood + weight * cp.sum_squares(a)))
    return Case(problem, [X, weight], [rng.normal(size=(5, 2)), np.array([0.1])], [a])


def semidefinite() -> Case:
    """A linear function over matrices of unit trace, with a symmetric parameter."""
    X = cp.Variable((3, 3), symmetric=True)
    C = cp.Parameter((3, 3), symmetric=True)
    cone = X >> 0
    problem = cp.Problem(cp.Minimize(cp.trace(C @ X) + cp.sum_squares(X)), [cone, cp.trace(X) == 1])
    value = np.array([[2.0, 0.5, 0.1], [0.5, 3.0, 0.2], [0.1, 0.2, 1.5]])
    return Case(problem, [C], [value], [X, cone.dual_variables[0]])


def power() -> Case:
    """A power cone with its duals."""
    x, y, z = cp.Variable(), cp.Variable(), cp.Variable()
    c, limit = cp.Parameter(3), cp.Parameter()
    cone = cp.PowCone3D(x, y, z, 0.3)
    objective = c[0] * x + c[1] * y - c[2] * z + 0.1 * cp.square(z)
    problem = cp.Problem(cp.Minimize(objective), [cone, x <= limit, y <= 2])
    values = [np.array([0.4, 0.5, 2.0]), np.array(1.5)]
    return Case(problem, [c, limit], values, [x, y, z, *cone.dual_variables])


def geometric() -> Case:
    """A geometric program, one of its parameters an exponent."""
    x, y, z = (cp.Variable(pos=True) for _ in range(3))
    a, b, c = cp.Parameter(pos=True), cp.Parameter(pos=True), cp.Parameter()
    limits = [a * (x * y + x * z + y * z) <= b, x >= y**c]
    problem = cp.Problem(cp.Minimize(1 / (x * y * z)), limits)
    return Case(
        problem, [a, b, c], [np.array(2.0), np.array(1.0), np.array(0.5)], [x, y, z], gp=True
    )


def structured() -> Case:
    """Variables and parameters of every attribute that CVXPY stores reduced or turns into rows."""
    rng = np.random.default_rng(3)
    D = cp.Variable((3, 3), diag=True)
    S = cp.Variable((2, 3), sparsity=[(0, 0, 1), (0, 2, 1)])
    u, v = cp.Variable(2, nonneg=True), cp.Variable(2, nonpos=True)
    w = cp.Variable(2, bounds=[-0.2, 0.3])
    E = cp.Parameter((3, 3), diag=True)
    T = cp.Parameter((2, 3), sparsity=[(0, 1), (2, 0)])
    t, full = cp.Parameter(2), cp.Parameter((2, 3))
    terms = [cp.sum_squares(D - E), cp.sum_squares(S - full), cp.sum_squares(u - t)]
    terms += [cp.sum_squares(v - t), cp.sum_squares(w + t), cp.sum(cp.multiply(T, S))]
    problem = cp.Problem(cp.Minimize(cp.sum(terms)), [cp.sum(D) >= 1])
    dense = np.zeros((2, 3))
    dense[(0, 1), (2, 0)] = [0.3, -0.7]
    values = [np.diag([0.1, -0.4, 0.2]), dense, np.array([0.6, -0.9]), rng.normal(size=(2, 3))]
    return Case(problem, [E, T, t, full], values, [D, S, u, v, w])


def quadratic_form() -> Case:
    """A quadratic form whose matrix is a parameter."""
    x = cp.Variable(3)
    P, q = cp.Parameter((3, 3), PSD=True), cp.Parameter(3)
    problem = cp.Problem(cp.Minimize(0.5 * cp.quad_form(x, P) + q @ x + 3), [cp.sum(x) == 1])
    value = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, 0.2], [0.0, 0.2, 1.5]])
    return Case(problem, [P, q], [value, np.array([1.0, -0.5, 0.3])], [x])


CASES: dict[str, Callable[[], Case]] = {
    make.__name__: make
    for make in (
        quadratic,
        second_order,
        exponential,
        semidefinite,
        power,
        geometric,
        structured,
        quadratic_form,
    )
}
