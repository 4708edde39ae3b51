"""Solves Maros-Meszaros QPs with `solve_qp`, dense and by pattern, beside Clarabel and PIQP.

    python benchmarks/maros_meszaros.py --data DIR --output maros.json

DIR holds .mat files with P, q, r, A, l, u: minimize 1/2 x'Px + q'x + r subject to l <= Ax <= u,
1e20 meaning no limit; a row of A with one entry is a bound on its variable.  The primal residual,
the dual residual and the duality gap are computed by one NumPy function for all solvers, in the
user's units, each relative to one plus the largest of what it compares.  "wrong" marks a problem
that a solver calls solved though its objective differs from the others' by more than 1e-6
relative, or a residual is above 1e-4.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import machine
from maros_solvers import BY_PATTERN, MODULES, OURS, SOLVERS
from standard_form import Problem, read, residuals, summary
from table import number, small, text_table

LEVELS = (1e-6, 1e-9)
AGREE = 1e-6
ROUGH = 1e-4  # a point that leaves more than this is no solution, whatever its objective
KNOWN = {"PRIMALC2": -3551.3}  # where solvers disagree; correct to its digits
KNOWN_AGREE = 1e-4


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="folder of .mat files")
    add("--problems", nargs="+", metavar="NAME", help="some of them (default: all)")
    add("--solvers", nargs="+", choices=SOLVERS, help="default: those that are installed")
    add("--tolerance", type=float, help="of solve_qp (default: its own for float64)")
    add("--peer-tolerance", type=float, default=1e-10, help="of the others (%(default)s)")
    add("--no-reference", action="store_true", help="do not compare objectives")
    add("--output", type=Path, metavar="FILE", help="write all figures as JSON")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    root = str(Path(__file__).resolve().parent.parent)
    if root not in sys.path:  # so that it runs from a checkout that is not installed
        sys.path.insert(1, root)
    solvers = options.solvers or [s for s in SOLVERS if importlib.util.find_spec(MODULES[s])]
    files = sorted(options.data.glob("*.mat"))
    if options.problems:
        files = [path for path in files if path.stem in options.problems]
    if not files:
        print(f"no .mat files of that name in {options.data}", file=sys.stderr)
        return 2

    own = (OURS, BY_PATTERN)
    records: list[dict[str, Any]] = []
    report = {
        "machine": machine.describe(),
        "settings": {"tolerance": options.tolerance, "peer_tolerance": options.peer_tolerance},
        "results": records,
    }
    for count, path in enumerate(files, start=1):
        problem = read(path)
        for name in solvers:
            progress = f"{problem.name} ({count}/{len(files)}): {name}"
            print(progress, file=sys.stderr, flush=True)
            tolerance = options.tolerance if name in own else options.peer_tolerance
            record = solve(problem, name, tolerance)
            records.append(record)
            largest = small(record.get("largest"))
            print(
                f"    {record['status']}, largest residual {largest}", file=sys.stderr, flush=True
            )
        if not options.no_reference:
            compare(records[-len(solvers) :])
        if options.output:
            options.output.write_text(json.dumps(report, indent=1) + "\n")
    print(problem_table(records))
    print("\n" + totals_table(records, solvers))
    return 1 if any(record.get("wrong") for record in records if record["solver"] in own) else 0


def solve(problem: Problem, name: str, tolerance: float | None) -> dict[str, Any]:
    """One record; a solver that raises is one that failed."""
    record = summary(problem) | {"solver": name}
    try:
        answer = SOLVERS[name](problem, tolerance)
    except Exception as error:
        traceback.print_exc()
        return record | {"status": f"{type(error).__name__}"[:20], "claims_solved": False}
    measured = residuals(problem, answer.point)
    return record | {
        "status": answer.status,
        "claims_solved": answer.solved,
        "iterations": answer.iterations,
        "primal_residual": measured.primal,
        "dual_residual": measured.dual,
        "gap": measured.gap,
        "largest": measured.largest,
        "objective": measured.objective,
        "seconds": answer.seconds,
        "compile_seconds": answer.compile_seconds,
    }


def compare(records: list[dict[str, Any]]) -> None:
    """Marks what a solver calls solved and is not: by the known objective, or by the others'."""
    for record in records:
        if not record["claims_solved"]:
            continue
        known = KNOWN.get(record["problem"])
        others = (
            [known]
            if known is not None
            else [
                other["objective"]
                for other in records
                if other is not record and other["claims_solved"] and other["largest"] <= LEVELS[0]
            ]
        )
        within = KNOWN_AGREE if known is not None else AGREE
        scale = 1.0 + abs(record["constant"])  # it cancels most of the objective in HS268
        agrees = not others or any(
            abs(record["objective"] - other) <= within * (scale + abs(other)) for other in others
        )
        record["wrong"] = not agrees or not record["largest"] <= ROUGH


def problem_table(records: Sequence[dict[str, Any]]) -> str:
    header = ["problem", "n", "rows", "solver", "status", "iter", "primal", "dual", "gap"]
    header += ["objective", "ms", "compile s", ""]
    rows = []
    for record in records:
        row = [record["problem"], str(record["n"]), str(record["rows"]), record["solver"]]
        row += [record["status"], str(record.get("iterations", "-"))]
        row += [small(record.get(key)) for key in ("primal_residual", "dual_residual", "gap")]
        objective, seconds = record.get("objective"), record.get("seconds")
        row.append("-" if objective is None else f"{objective:.8g}")
        row.append(number(None if seconds is None else 1e3 * seconds))
        row.append(number(record.get("compile_seconds") or None, 2))
        row.append("WRONG" if record.get("wrong") else "")
        rows.append(row)
    return text_table(header, rows)


def totals_table(records: Sequence[dict[str, Any]], solvers: Sequence[str]) -> str:
    """Counted as solved: the solver says so and all three residuals agree."""
    header = ["solver", "problems", "says solved", *(f"at {level:.0e}" for level in LEVELS)]
    header += ["wrong", "seconds", "compile s", "iterations"]
    rows = []
    for name in solvers:
        mine = [record for record in records if record["solver"] == name]
        solved = [record for record in mine if record["claims_solved"]]
        row = [name, str(len(mine)), str(len(solved))]
        row += [str(sum(record["largest"] <= level for record in solved)) for level in LEVELS]
        row.append(str(sum(bool(record.get("wrong")) for record in mine)))
        row += [
            number(float(np.sum([record.get(key, 0.0) for record in mine])))
            for key in ("seconds", "compile_seconds", "iterations")
        ]
        rows.append(row)
    return text_table(header, rows)


if __name__ == "__main__":
    sys.exit(main())
