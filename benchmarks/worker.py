"""One solver on one shape, in a process of its own; `qp_speed.py` starts it.

A process of its own because the solvers' thread pools clash, because one of them may lock up or
crash, and because they may live in different environments.  What is known is written after
each stage, so that a process that is killed leaves what it had.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import peers
from measure import time_calls
from peer_process import WorkerFiles
from peers.interface import Unsupported
from problems import find_shape, make_batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--peer", required=True, choices=peers.PEERS)
    parser.add_argument("--shape", required=True)
    parser.add_argument("--result", type=Path, required=True, help="path without a suffix")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", default="float64")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--tolerance", type=float, default=1e-9)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--budget", type=float, default=1.5)
    arguments = parser.parse_args()

    files = WorkerFiles(arguments.peer, arguments.shape, arguments.result)
    record, arrays, save = files.record, files.arrays, files.save
    save("import")
    entry = peers.PEERS[arguments.peer]
    try:
        runner_class = peers.load(arguments.peer)
    except ImportError as error:
        record["error"] = f"not installed: {error}"
        save("import")
        return
    files.add_versions(entry.distributions)
    save("prepare")

    batch = make_batch(find_shape(arguments.shape), arguments.seed, arguments.dtype)
    options = peers.Options(arguments.tolerance, arguments.dtype, arguments.device)
    try:
        start = time.perf_counter()
        runner = runner_class(batch, options, **entry.settings)
        record["prepare_s"] = time.perf_counter() - start
        save("forward")
        timing, result = time_calls(runner.forward, arguments.repeats, arguments.budget)
        record["forward"] = timing.record()
        record["iterations"] = runner.iterations(result)
        arrays["x"] = runner.solution(result)
        save("backward")
        timing, result = time_calls(runner.forward_backward, arguments.repeats, arguments.budget)
        record["forward_backward"] = timing.record()
        for name, value in runner.gradients(result).items():
            arrays[f"d{name}"] = value
    except Unsupported as error:
        record["unsupported"] = str(error)
    save("done")


if __name__ == "__main__":
    main()
