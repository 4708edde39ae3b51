"""What every `*_speed.py` command does: its common options, a worker for each peer, and the report."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import machine
from peer_process import python_for, run_worker
from peers import OURS

Task = TypeVar("Task")
#: Of a peer: its record and the arrays that it left.
Result = tuple[dict[str, Any], dict[str, Any]]


def speed_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser whose help shows the module's docstring as it is."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_common_options(parser: argparse.ArgumentParser, timeout: float) -> None:
    """Whose Python runs what, how long and how often, and where the figures go."""
    add = parser.add_argument
    add("--peers-python", action="append", default=[], metavar="[NAME=]PATH", help="see above")
    add("--repeats", type=int, default=5, help="of each call at least (%(default)s)")
    add("--budget", type=float, default=1.5, help="seconds per timing at least (%(default)s)")
    add("--ratio", choices=("median", "best"), default="median", help="best on a busy machine")
    cores = machine.usable_cores()
    add("--device", choices=("cpu", "gpu"), default="cpu", help="for those that run on both")
    add(
        "--devices",
        type=int,
        default=cores,
        help="CPU devices that ours divides a batch among (%(default)s)",
    )
    add("--timeout", type=float, default=timeout, help="seconds per process (%(default)s)")
    add("--seed", type=int, default=0)
    add("--output", type=Path, metavar="FILE", help="write all figures as JSON")


def shorten_if_quick(options: argparse.Namespace) -> None:
    """What --quick means for sizes and timings."""
    options.sizes = "quick" if options.quick else "full"
    if options.quick:
        options.repeats, options.budget = min(options.repeats, 2), 0.0


def chosen_peers(
    options: argparse.Namespace, known: Iterable[str], on_gpu: Iterable[str] = ()
) -> list[str]:
    """Ours, which always runs, and those asked for, or else all that are known for the device."""
    default = known if options.device == "cpu" else on_gpu
    chosen = default if options.peers is None else options.peers
    return [OURS, *(name for name in chosen if name != OURS)]


def measure_all(
    tasks: Iterable[Task],
    measure: Callable[[Task], tuple[list[dict[str, Any]], str]],
    options: argparse.Namespace,
    recorded: Sequence[str],
) -> list[dict[str, Any]]:
    """The records of all tasks; `measure` gives a task's and what to print of them."""
    results: list[dict[str, Any]] = []
    report = {
        "machine": machine.describe(),
        "settings": {key: getattr(options, key) for key in (*recorded, "device", "devices")},
        "results": results,
    }
    for task in tasks:
        measured, text = measure(task)
        results.extend(measured)
        if text:
            print(f"\n{text}", flush=True)
        if options.output:  # after every task, so that an interrupted run leaves something
            options.output.write_text(json.dumps(report, indent=1) + "\n")
    return results


def ours_done(records: Iterable[dict[str, Any]]) -> bool:
    """Whether ours ran to its end on everything."""
    ours = [record for record in records if record["peer"] == OURS]
    return bool(ours) and all("forward_backward" in record for record in ours)


def each_peer(
    script: str,
    names: Sequence[str],
    task: tuple[str, str],
    keys: Sequence[str],
    options: argparse.Namespace,
    pythons: Sequence[str],
    env: dict[str, str],
) -> Iterator[Result]:
    """Run a worker for every peer, in order; `keys` are the options that it is told."""
    gpu = os.environ.get("JAX_PLATFORMS", "cuda")  # a user with another kind can name it there
    env = env | {"JAX_PLATFORMS": "cpu" if options.device == "cpu" else gpu}
    with tempfile.TemporaryDirectory() as folder:
        for count, name in enumerate(names, start=1):
            start = time.monotonic()
            own = {"JAX_NUM_CPU_DEVICES": str(options.devices)} if name.startswith(OURS) else {}
            record, arrays = run_worker(
                script,
                name,
                task,
                [(key, getattr(options, key)) for key in keys],
                Path(folder),
                python_for(name, pythons),
                options.timeout,
                env | own,
            )
            seconds = time.monotonic() - start
            progress = f"{task[1]}: {name} ({count}/{len(names)}) {record['outcome']}"
            print(f"{progress}, {seconds:.1f} s", file=sys.stderr, flush=True)
            yield record, arrays


#: OpenBLAS is kept to one thread for all: its own threads get in the way of everyone's.
ONE_BLAS_THREAD = {"OPENBLAS_NUM_THREADS": "1"}
