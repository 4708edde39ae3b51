"""Times `solve_cone` and its gradient against other differentiable cone solvers.

Every solver takes the same batches (see `cone_problems.py`), in float64 and to the same tolerance,
and runs each of them in a process of its own.  The table shows seconds to compile (the first call
less the median of the others), the best and median milliseconds of the forward pass and of forward
and adjoint together (in all of A, b and c), the largest relative residual of the optimality
conditions, the error of x against Clarabel (good to about 1e-6), the error of the gradient against central
differences of Clarabel (good to about 1e-4), and how many times as long as ours a peer takes.
OpenBLAS is kept to one thread for all: its own threads get in the way of everyone's.

    python benchmarks/cone_speed.py --output cone_speed.json
    python benchmarks/cone_speed.py --problems portfolio entropy --peers diffcp_clarabel

Solvers that need another environment get its Python with --peers-python: one for all, or
NAME=PATH for one of them (repeat the option).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import machine
from cone_accuracy import Reference, residual
from cone_problems import FAMILIES, ConeBatch, Family, find_family, make_batch
from peer_process import python_for, run_worker
from peers import cone
from speed_table import shape_table, summary_table

RECORDED = ("tolerance", "repeats", "budget", "timeout", "seed", "ratio")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    names = ", ".join(family.name for family in FAMILIES)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--problems", nargs="+", metavar="NAME", help=f"of {names}")
    add("--peers", nargs="+", choices=cone.PEERS, help="which to run (ours always runs)")
    add("--peers-python", action="append", default=[], metavar="[NAME=]PATH", help="see above")
    add("--tolerance", type=float, default=1e-9, help="of all solvers (%(default)s)")
    add("--repeats", type=int, default=5, help="of each call at least (%(default)s)")
    add("--budget", type=float, default=1.5, help="seconds per timing at least (%(default)s)")
    add("--ratio", choices=("median", "best"), default="median", help="best on a busy machine")
    add("--timeout", type=float, default=180.0, help="seconds per process (%(default)s)")
    add("--seed", type=int, default=0)
    add("--output", type=Path, metavar="FILE", help="write all figures as JSON")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    families = [find_family(name) for name in options.problems] if options.problems else FAMILIES
    chosen = options.peers or list(cone.PEERS)
    names = [cone.OURS, *(name for name in chosen if name != cone.OURS)]
    results: list[dict[str, Any]] = []
    report = {
        "machine": machine.describe(),
        "settings": {key: getattr(options, key) for key in RECORDED},
        "results": results,
    }
    for family in families:
        batch = make_batch(family, options.seed)
        measured = run_family(family, batch, names, options)
        results.extend(measured)
        m, n = batch.pattern.shape
        title = f"{family.name}: {family.title}, n={n}, m={m}, batch {family.batch}"
        print(f"\n{title}\n{shape_table(measured, options.ratio)}", flush=True)
        if options.output:  # after every problem, so that an interrupted run leaves something
            options.output.write_text(json.dumps(report, indent=1) + "\n")
    print(f"\nTimes as long as ours\n{summary_table(results, options.ratio)}", flush=True)
    ours = [record for record in results if record["peer"] == cone.OURS]
    return 0 if ours and all("forward_backward" in record for record in ours) else 1


def run_family(
    family: Family, batch: ConeBatch, names: list[str], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """One record per solver, the accuracy included."""
    records = []
    reference = Reference(batch)
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(names, start=1):
            start = time.monotonic()
            record, result = run_peer(name, family, Path(folder), options)
            seconds = time.monotonic() - start
            progress = f"{family.name}: {name} ({number}/{len(names)}) {record['outcome']}"
            print(f"{progress}, {seconds:.1f} s", file=sys.stderr, flush=True)
            if "x" in result:
                record["kkt_residual"] = residual(batch, *(result[key] for key in "xys"))
                record["x_error"] = reference.solution_error(result["x"])
            if "dA" in result:
                gradients = {key: result[f"d{key}"] for key in "Abc"}
                record["gradient_error"] = reference.gradient_error(gradients)
            records.append(record)
    return records


def run_peer(
    name: str, family: Family, folder: Path, options: argparse.Namespace
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the worker left behind, however it ended."""
    keys = ("seed", "tolerance", "repeats", "budget")
    return run_worker(
        "cone_worker.py",
        name,
        ("problem", family.name),
        [(key, getattr(options, key)) for key in keys],
        folder,
        python_for(name, options.peers_python),
        options.timeout,
        {"JAX_PLATFORMS": "cpu", "OPENBLAS_NUM_THREADS": "1"},
    )


if __name__ == "__main__":
    sys.exit(main())
