"""The solvers of `maros_meszaros.py`: each takes a `Problem` and gives an `Answer`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from standard_form import Point, Problem, Vector


@dataclass(frozen=True)
class Answer:
    """What a solver said of a problem; `solved` is its own claim, not ours."""

    status: str
    solved: bool
    point: Point
    iterations: int
    seconds: float
    compile_seconds: float = 0.0


Solver = Callable[[Problem, float | None], Answer]


def solve_ours(problem: Problem, tolerance: float | None) -> Answer:
    """`solve_qp` in float64, dense, with a diagonal or absent Q recognized."""
    return _solve_ours(problem, tolerance, "dense")


def solve_ours_by_pattern(problem: Problem, tolerance: float | None) -> Answer:
    """The same with sparse matrices, factored by their pattern whatever that takes."""
    return _solve_ours(problem, tolerance, "sparse")


def _solve_ours(problem: Problem, tolerance: float | None, factorization: Any) -> Answer:
    import jax
    import jax.numpy as jnp

    import jaxopt_layers as jl

    jax.config.update("jax_enable_x64", True)
    settings = jl.Settings(tolerance=tolerance, factorization=factorization)
    arguments: dict[str, Any] = {"Q": _quadratic(problem), "q": problem.q}
    if len(problem.b):
        arguments |= {"A": problem.A, "b": problem.b}
    if len(problem.h):
        arguments |= {"G": problem.G, "h": problem.h}
    if np.any(np.isfinite(problem.lower)):
        arguments["lower"] = problem.lower
    if np.any(np.isfinite(problem.upper)):
        arguments["upper"] = problem.upper
    for name, value in arguments.items():
        if sparse.issparse(value) and factorization == "sparse":
            arguments[name] = jl.SparseMatrix.from_scipy(value)
        elif value is not None:
            arguments[name] = jnp.asarray(value.toarray() if sparse.issparse(value) else value)

    start = time.perf_counter()
    compiled = jax.jit(lambda data: jl.solve_qp(**data, settings=settings)).lower(arguments)
    solve = compiled.compile()
    compile_seconds = time.perf_counter() - start
    start = time.perf_counter()
    solution = jax.block_until_ready(solve(arguments))
    seconds = time.perf_counter() - start

    n = problem.n
    status = jl.Status(int(solution.status))
    return Answer(
        status=status.name,
        solved=status == jl.Status.SOLVED,
        point=Point(
            np.asarray(solution.x),
            _full(solution.y, len(problem.b)),
            _full(solution.z, len(problem.h)),
            _full(solution.z_lower, n),
            _full(solution.z_upper, n),
        ),
        iterations=int(solution.iterations),
        seconds=seconds,
        compile_seconds=compile_seconds,
    )


def _quadratic(problem: Problem) -> Any:
    """None, the diagonal, or the sparse matrix."""
    if problem.Q.count_nonzero() == 0:
        return None
    diagonal = problem.Q.diagonal()
    if (problem.Q - sparse.diags(diagonal)).count_nonzero() == 0:
        return diagonal
    return problem.Q


def _full(value: Any, size: int) -> Vector:
    """A multiplier of constraints that were not given is nothing: zeros."""
    array = np.zeros(size) if value is None else np.array(value, dtype=np.float64)
    return array if array.size == size else np.zeros(size)


def solve_clarabel(problem: Problem, tolerance: float | None) -> Answer:
    """Clarabel; a variable whose bounds meet is an equality, which is the natural form there."""
    import clarabel

    settings = clarabel.DefaultSettings()
    settings.verbose = False
    for name in ("tol_gap_abs", "tol_gap_rel", "tol_feas"):
        setattr(settings, name, tolerance or 1e-10)
    fixed = problem.lower == problem.upper
    low, high = np.isfinite(problem.lower) & ~fixed, np.isfinite(problem.upper) & ~fixed
    eye = sparse.identity(problem.n, format="csr")
    blocks = [problem.A, eye[fixed], problem.G, -eye[low], eye[high]]
    b = [problem.b, problem.lower[fixed], problem.h, -problem.lower[low], problem.upper[high]]
    cuts = np.cumsum([len(part) for part in b])
    cones = [clarabel.ZeroConeT(int(cuts[1])), clarabel.NonnegativeConeT(int(cuts[4] - cuts[1]))]
    rows = sparse.vstack(blocks, format="csc")
    P = sparse.triu(problem.Q, format="csc")
    start = time.perf_counter()
    solver = clarabel.DefaultSolver(P, problem.q, rows, np.concatenate(b), cones, settings)
    solution = solver.solve()
    seconds = time.perf_counter() - start

    y, of_fixed, z, of_low, of_high = np.split(np.asarray(solution.z), cuts[:-1])
    z_lower, z_upper = np.zeros(problem.n), np.zeros(problem.n)
    z_lower[low], z_upper[high] = of_low, of_high
    z_lower[fixed], z_upper[fixed] = np.maximum(-of_fixed, 0.0), np.maximum(of_fixed, 0.0)
    return Answer(
        status=str(solution.status),
        solved=str(solution.status) == "Solved",
        point=Point(np.asarray(solution.x), y, z, z_lower, z_upper),
        iterations=solution.iterations,
        seconds=seconds,
    )


def solve_piqp(problem: Problem, tolerance: float | None) -> Answer:
    """PIQP's sparse solver; a variable whose bounds meet is an equality, as for Clarabel."""
    import piqp

    fixed = problem.lower == problem.upper
    eye = sparse.identity(problem.n, format="csr")
    A, b = sparse.vstack([problem.A, eye[fixed]]), np.concatenate([problem.b, problem.lower[fixed]])
    solver = piqp.SparseSolver()
    settings = solver.settings
    settings.eps_abs = settings.eps_rel = tolerance or 1e-10
    settings.eps_duality_gap_abs = settings.eps_duality_gap_rel = tolerance or 1e-10
    arguments: dict[str, Any] = {
        "x_l": np.where(fixed, -np.inf, problem.lower),
        "x_u": np.where(fixed, np.inf, problem.upper),
    }
    if len(b):
        arguments |= {"A": sparse.csc_matrix(A), "b": b}
    if len(problem.h):
        arguments |= {"G": sparse.csc_matrix(problem.G), "h_u": problem.h}
    Q = sparse.csc_matrix(problem.Q)
    start = time.perf_counter()
    solver.setup(Q, problem.q, **arguments)
    status = solver.solve()
    seconds = time.perf_counter() - start
    result = solver.result
    y, of_fixed = np.split(_full(result.y, len(b)), [len(problem.b)])
    z_lower, z_upper = _full(result.z_bl, problem.n), _full(result.z_bu, problem.n)
    z_lower[fixed], z_upper[fixed] = np.maximum(-of_fixed, 0.0), np.maximum(of_fixed, 0.0)
    return Answer(
        status=str(status).split("PIQP_")[-1],
        solved=str(status).endswith("PIQP_SOLVED"),
        point=Point(result.x, y, _full(result.z_u, len(problem.h)), z_lower, z_upper),
        iterations=result.info.iter,
        seconds=seconds,
    )


OURS, BY_PATTERN = "jaxopt_layers", "jaxopt_layers_sparse"

SOLVERS: dict[str, Solver] = {
    OURS: solve_ours,
    BY_PATTERN: solve_ours_by_pattern,
    "clarabel": solve_clarabel,
    "piqp": solve_piqp,
}
MODULES = {OURS: "jaxopt_layers", BY_PATTERN: "pymetis", "clarabel": "clarabel", "piqp": "piqp"}
