"""One semidefinite program by `solve_cone`, in a process of its own; `sdplib.py` starts it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxopt_layers as jl
from sdpa import SemidefiniteProgram, dimacs_errors, read, smallest_eigenvalue


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", type=Path, required=True)
    parser.add_argument("--result", type=Path, required=True)
    parser.add_argument("--tolerance", type=float)
    parser.add_argument("--max-iterations", type=int)
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    chosen = {"tolerance": arguments.tolerance, "max_iterations": arguments.max_iterations}
    settings = jl.Settings(**{key: value for key, value in chosen.items() if value is not None})
    record = solve(read(arguments.file), settings)
    arguments.result.write_text(json.dumps(record))
    print(record["status"], file=sys.stderr)


def solve(program: SemidefiniteProgram, settings: jl.Settings) -> dict[str, Any]:
    """Status, objectives, errors, iterations and seconds."""
    cones = jl.Cones(nonnegative=program.nonnegative, psd=program.psd)
    data = tuple(jnp.asarray(value) for value in (program.A, program.b, program.c))
    start = time.perf_counter()
    traced = jax.jit(lambda A, b, c: jl.solve_cone(A, b, c, cones, settings=settings))
    call = traced.lower(*data).compile()
    compile_seconds = time.perf_counter() - start
    start = time.perf_counter()
    solution = jax.block_until_ready(call(*data))
    seconds = time.perf_counter() - start
    status = jl.Status(int(solution.status))
    record: dict[str, Any] = {
        "status": status.name,
        "objective": float(solution.objective),
        "dual_objective": float(solution.dual_objective),
        "iterations": int(solution.iterations),
        "primal_residual": float(solution.primal_residual),
        "dual_residual": float(solution.dual_residual),
        "gap": float(solution.gap),
        "compile_seconds": compile_seconds,
        "seconds": seconds,
    }
    if status in (jl.Status.PRIMAL_INFEASIBLE, jl.Status.DUAL_INFEASIBLE):
        record["certificate"] = certificate_error(program, solution, status)
    else:
        errors = dimacs_errors(program, solution.x, solution.y, solution.s)
        record["dimacs"] = errors.as_list()
    return record


def certificate_error(
    program: SemidefiniteProgram, solution: jl.ConeSolution, status: jl.Status
) -> float:
    """The largest violation of what a certificate promises.

    Infeasible: A'y = 0, b'y = -1, y in K*.  Unbounded: Ax + s = 0, c'x = -1, s in K.
    """
    x, y, s = (np.asarray(value) for value in (solution.x, solution.y, solution.s))
    if status == jl.Status.PRIMAL_INFEASIBLE:
        equations, fall, member = program.A.T @ y, program.b @ y, y
    else:
        equations, fall, member = program.A @ x + s, program.c @ x, s
    outside = max(0.0, -smallest_eigenvalue(program, member))
    return float(max(np.max(np.abs(equations)), abs(fall + 1.0), outside))


if __name__ == "__main__":
    main()
