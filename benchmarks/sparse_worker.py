"""One solver on one batch of sparse programs, in a process of its own; `sparse_speed.py` starts it.

What is known is written after each stage, so that a process that is killed leaves what it had.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections import Counter
from pathlib import Path

from measure import time_calls
from peer_process import WorkerFiles
from peers import sparse
from peers.interface import Unsupported
from sparse_problems import find_family, make_batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", required=True, choices=sparse.PEERS)
    parser.add_argument("--problem", required=True)
    parser.add_argument("--result", type=Path, required=True, help="path without a suffix")
    parser.add_argument("--sizes", choices=("full", "quick"), default="full")
    parser.add_argument("--factorization", choices=("auto", "sparse"), default="auto")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tolerance", type=float, default=1e-9)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--budget", type=float, default=1.5)
    arguments = parser.parse_args()
    files = WorkerFiles(arguments.peer, arguments.problem, arguments.result)
    record, arrays, save = files.record, files.arrays, files.save
    save("import")
    entry = sparse.PEERS[arguments.peer]
    try:
        runner_class = sparse.load(arguments.peer)
    except ImportError as error:
        record["error"] = f"not installed: {error}"
        save("import")
        return
    files.add_versions(entry.distributions)
    save("prepare")

    family = find_family(arguments.problem)
    batch = make_batch(family.shrunk() if arguments.sizes == "quick" else family, arguments.seed)
    settings = dict(entry.settings)
    if arguments.peer == sparse.OURS:
        settings["factorization"] = arguments.factorization
    try:
        start = time.perf_counter()
        runner = runner_class(batch, arguments.tolerance, **settings)
        record["prepare_s"] = time.perf_counter() - start
        record["start_MiB"] = _peak()
        save("forward")
        timing, result = time_calls(runner.forward, arguments.repeats, arguments.budget)
        record["forward"] = timing.record() | {"peak_MiB": _peak()}
        record["iterations"] = runner.iterations(result)
        record["statuses"] = dict(Counter(runner.statuses(result)))
        arrays["x"] = runner.solution(result)
        save("backward")
        timing, result = time_calls(runner.forward_backward, arguments.repeats, arguments.budget)
        record["forward_backward"] = timing.record() | {"peak_MiB": _peak()}
        arrays.update({f"d{name}": value for name, value in runner.gradients(result).items()})
    except Unsupported as error:
        record["unsupported"] = str(error)
    save("done")


def _peak() -> float:
    """The most memory that this process has held, in MiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


if __name__ == "__main__":
    main()
