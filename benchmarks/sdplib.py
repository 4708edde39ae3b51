"""Solves SDPLIB's semidefinite programs with `solve_cone` and compares with the published optima.

    python benchmarks/sdplib.py --data DIR --output sdplib.json

DIR holds files in SDPA's sparse format (.dat-s): minimize c'x subject to x_1 F_1 + ... + x_m F_m - F_0
positive semidefinite.  Each is solved in float64 in a process of its own, so that one that doesn't end
costs its time limit only.  The table shows m and the side of the matrices, the status, the objective
and its distance to the optimum published with SDPLIB 1.2 (Borchers 1999), relative to it, the solver's
own duality gap, the six errors of the DIMACS challenge (Mittelmann 2003; see `sdpa.py`), the iterations,
and the seconds to compile and to solve.  A problem without a published optimum is only printed;
`optima.tsv` in DIR (name, m, n, optimum) may name more.

The exit code is 1 if a problem misses its bar: the relative error (besides the rounding of what was
published), the status, the iterations.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import machine
from process import Child
from sdpa import read
from table import number, small, text_table

INFEASIBLE, UNBOUNDED = "PRIMAL_INFEASIBLE", "DUAL_INFEASIBLE"
MOST_ITERATIONS = 60


@dataclass(frozen=True)
class Bar:
    """What a problem must reach: an optimum, with the digits it was published to, or a status."""

    published: str | None
    relative: float = 1e-6
    statuses: tuple[str, ...] = ("SOLVED", "ALMOST_SOLVED")

    @property
    def optimum(self) -> float | None:
        return None if self.published is None else float(self.published)

    @property
    def allowed(self) -> float:
        """The relative error, and half a unit of the last digit: gpp100's sixth is worth 1e-6."""
        if self.published is None:
            return 0.0
        digits = Decimal(self.published)
        exponent = digits.as_tuple().exponent
        assert isinstance(exponent, int)
        return self.relative + 0.5 * 10.0**exponent / abs(float(digits))


# Optima as published; where the problem is hard, they are known to fewer digits.
BARS = {
    "arch0": Bar("5.66517e-01", 1e-5),
    "control1": Bar("1.778463e+01"),
    "control2": Bar("8.300000e+00", 1e-5),
    "gpp100": Bar("-4.49435e+01"),
    "hinf1": Bar("2.0326e+00", 1e-3),
    "infd1": Bar(None, statuses=(UNBOUNDED,)),
    "infp1": Bar(None, statuses=(INFEASIBLE,)),
    "mcp100": Bar("2.261574e+02"),
    "qap5": Bar("-4.360000e+02"),  # an integer
    "theta1": Bar("2.300000e+01"),
    "truss1": Bar("-8.999996e+00"),
    "truss3": Bar("-9.109996e+00"),
}
LOOSE = {"hinf": 1e-3, "control": 1e-5, "arch": 1e-5}  # by family, for those of `optima.tsv`


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="folder of .dat-s files")
    add("--problems", nargs="+", metavar="NAME", help="some of them (default: all)")
    add("--tolerance", type=float, help="of solve_cone (default: its own for float64)")
    add("--max-iterations", type=int, help="of solve_cone (default: its own)")
    add("--timeout", type=float, default=300.0, help="seconds per problem (%(default)s)")
    add("--output", type=Path, metavar="FILE", help="write all figures as JSON")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    files = sorted(options.data.glob("*.dat-s"))
    if options.problems:
        files = [path for path in files if name_of(path) in options.problems]
    if not files:
        print(f"no .dat-s files of that name in {options.data}", file=sys.stderr)
        return 2
    bars = known_bars(options.data)
    records: list[dict[str, Any]] = []
    chosen = {key: getattr(options, key) for key in ("tolerance", "max_iterations", "timeout")}
    report = {"machine": machine.describe(), "settings": chosen, "results": records}
    for count, path in enumerate(files, start=1):
        name = name_of(path)
        print(f"{name} ({count}/{len(files)})", file=sys.stderr, flush=True)
        record = {"problem": name, **solve_apart(path, options)}
        record["remark"] = judge(record, bars.get(name))
        records.append(record)
        words = f"    {record['status']}, {record.get('seconds', 0.0):.2f} s {record['remark']}"
        print(words, file=sys.stderr, flush=True)
        if options.output:  # after every problem, so that an interrupted run leaves something
            options.output.write_text(json.dumps(report, indent=1) + "\n")
    print(problem_table(records))
    missed = [record["problem"] for record in records if record["remark"]]
    print(f"\n{len(records) - len(missed)} of {len(records)} reach their bar", end="")
    print(f"; not {', '.join(missed)}" if missed else "")
    return 1 if missed else 0


def name_of(path: Path) -> str:
    return path.name.removesuffix(".dat-s")


def known_bars(folder: Path) -> dict[str, Bar]:
    """Those of this file, and what `optima.tsv` in the folder adds."""
    bars, more = dict(BARS), folder / "optima.tsv"
    lines = more.read_text().splitlines()[1:] if more.exists() else []
    for line in lines:
        name, _, _, optimum = line.split("\t")
        family = name.rstrip("0123456789-")
        try:
            Decimal(optimum)
            bar = Bar(optimum, LOOSE.get(family, 1e-6))
        except InvalidOperation:
            bar = Bar(None, statuses=(INFEASIBLE if "primal" in optimum else UNBOUNDED,))
        bars.setdefault(name, bar)
    return bars


def solve_apart(path: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The record that the child process left, or why there is none."""
    program = read(path)
    record: dict[str, Any] = {"m": len(program.c), "n": program.order, "rows": len(program.b)}
    with tempfile.TemporaryDirectory() as folder:
        result, log = Path(folder) / "result.json", Path(folder) / "log"
        command = [sys.executable, str(Path(__file__).with_name("sdplib_solve.py"))]
        command += ["--file", str(path), "--result", str(result)]
        for key in ("tolerance", "max_iterations"):
            if (value := getattr(options, key)) is not None:
                command += [f"--{key.replace('_', '-')}", str(value)]
        root = str(Path(__file__).resolve().parent.parent)  # it need not be installed
        search = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
        env = {"JAX_PLATFORMS": "cpu", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": search}
        child = Child.start(command, log, options.timeout, env)
        outcome = child.wait()
        if outcome == "done":
            return record | json.loads(result.read_text())
        words = "" if outcome == "timeout" else child.last_words()
        return record | {"status": outcome, "error": words}


def judge(record: dict[str, Any], bar: Bar | None) -> str:
    """Empty, or what is missed; the relative error goes into the record."""
    if bar is None:
        return ""
    missed = []
    if record["status"] not in bar.statuses:
        missed.append(f"not {bar.statuses[0]}")
    if bar.optimum is not None and "objective" in record:
        error = abs(record["objective"] - bar.optimum) / abs(bar.optimum)
        record["optimum"], record["relative_error"] = bar.optimum, error
        if not error <= bar.allowed:
            missed.append(f"error above {bar.relative:.0e}")
    if record.get("iterations", 0) > MOST_ITERATIONS:
        missed.append(f"over {MOST_ITERATIONS} iterations")
    if bar.optimum is None and not record.get("certificate", 0.0) <= 1e-6:
        missed.append("no certificate")
    if record.get("error"):
        missed.append(record["error"])
    return ", ".join(missed)


def problem_table(records: Sequence[dict[str, Any]]) -> str:
    header = ["problem", "m", "n", "status", "objective", "published", "error", "gap"]
    header += [f"err{number}" for number in range(1, 7)]
    header += ["iter", "compile s", "solve s", ""]
    rows = []
    for record in records:
        row = [record["problem"], str(record["m"]), str(record["n"]), record["status"]]
        for key in ("objective", "optimum"):
            value = record.get(key)
            row.append("-" if value is None else f"{value:.9g}")
        row.append(small(record.get("relative_error")))
        row.append(small(record["gap"] if "dimacs" in record else None))
        row += [small(value) for value in record.get("dimacs", [None] * 6)]
        row.append(str(record.get("iterations", "-")))
        row += [number(record.get(f"{key}seconds")) for key in ("compile_", "")]
        row.append(record["remark"])
        rows.append(row)
    return text_table(header, rows)


if __name__ == "__main__":
    sys.exit(main())
