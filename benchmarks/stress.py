"""Runs batched solves in fresh processes on all cores: no lock-up, no leak, no recompilation.

Every process compiles one program that holds two independent QP layers (batch 128, n = 50), their
sum and its gradient, and calls it on new data until its time is over.  Two independent batched
triangular solves in one program are known to lock the CPU's thread pool, so this program is the
one that shows it.  A process fails if it

  * does not end in its time (it is killed, and that is a lock-up),
  * compiles anything after the first calls, or holds more than one entry in the jit's cache,
  * holds more memory in the second half of its calls than in the first, by over --growth MiB,
  * leaves a member unsolved, or returns a value or gradient that is not finite.

    python benchmarks/stress.py --processes 12 --seconds 20

The exit code is 1 if any process failed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import machine
from process import Child
from table import number, text_table

START_UP = 120.0  # seconds for imports and the compilation, on a busy machine


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    cores = machine.usable_cores()
    add("--processes", type=int, default=4 * cores, help="how many in all (%(default)s)")
    add("--at-once", type=int, default=2, help="how many of them run at a time (%(default)s)")
    add("--seconds", type=float, default=15.0, help="of calls in each process (%(default)s)")
    add("--grace", type=float, default=30.0, help="seconds beyond that until it is killed")
    add("--growth", type=float, default=32.0, metavar="MIB", help="allowed (%(default)s)")
    add("--batch", type=int, default=128)
    add("--n", type=int, default=50, help="variables, and as many inequalities (%(default)s)")
    add("--equalities", type=int, default=10)
    add("--dtype", choices=("float64", "float32"), default="float64")
    add("--output", type=Path, metavar="FILE", help="write all figures as JSON")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    start = time.monotonic()
    records: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        running: list[tuple[int, Child, Path]] = []
        for index in range(options.processes):
            running.append(launch(index, folder, options))
            if len(running) == options.at_once or index == options.processes - 1:
                # Waits for the whole group: they all take the same time.
                records += [finish(*entry, options) for entry in running]
                running = []
                failed = sum(bool(record["failures"]) for record in records)
                progress = f"{len(records)}/{options.processes} processes, {failed} failed"
                print(f"{progress}, {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    print(table(records))
    failed = sum(bool(record["failures"]) for record in records)
    calls = sum(record.get("calls", 0) for record in records)
    print(f"\n{len(records)} processes, {calls} calls, {failed} failed")
    if options.output:
        report = {"machine": machine.describe(), "results": records}
        options.output.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if failed else 0


def launch(index: int, folder: Path, options: argparse.Namespace) -> tuple[int, Child, Path]:
    result = folder / f"{index}.json"
    command = [sys.executable, str(Path(__file__).with_name("stress_child.py"))]
    command += ["--seed", str(index), "--result", str(result)]
    for key in ("seconds", "batch", "n", "equalities", "dtype"):
        command += [f"--{key}", str(getattr(options, key))]
    root = str(Path(__file__).resolve().parent.parent)
    paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    limit = START_UP + options.seconds + options.grace
    child = Child.start(command, folder / f"{index}.log", limit, {"PYTHONPATH": paths})
    return index, child, result


def finish(index: int, child: Child, result: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Waits for a child and judges what it measured."""
    outcome = child.wait()
    record: dict[str, Any] = {"process": index, "outcome": outcome}
    if result.exists():
        record |= json.loads(result.read_text())
    failures = []
    if outcome == "timeout":
        failures.append("locked up" if record.get("calls") else "locked up before the first call")
    elif outcome != "done":
        failures.append(f"{outcome}: {child.last_words()}"[:100])
    else:
        if record["late_compilations"] or record["cache_size"] > 1:
            failures.append("recompiled")
        if record["growth_mib"] > options.growth:
            failures.append("memory grows")
        if record["unsolved"]:
            failures.append(f"{record['unsolved']} members unsolved")
        if record["not_finite"]:
            failures.append(f"{record['not_finite']} calls not finite")
    return record | {"failures": failures}


def table(records: Sequence[dict[str, Any]]) -> str:
    header = ["process", "calls", "ms a call", "compile s", "late compilations"]
    header += ["MiB", "growth MiB", ""]
    rows = []
    for record in records:
        row = [str(record["process"]), str(record.get("calls", "-"))]
        row += [number(record.get("call_ms")), number(record.get("first_call_s"))]
        row.append(str(record.get("late_compilations", "-")))
        row += [number(record.get("rss_mib")), number(record.get("growth_mib"))]
        row.append(", ".join(record["failures"]) or "ok")
        rows.append(row)
    return text_table(header, rows)


if __name__ == "__main__":
    sys.exit(main())
