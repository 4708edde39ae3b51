"""One solver on one batch of sparse programs, in a process of its own; `sparse_speed.py` starts it.

What is known is written after each stage, so that a process that is killed leaves what it had.
"""

from __future__ import annotations

import resource
import sys
from collections import Counter

from peers import sparse
from sparse_problems import find_family, make_batch
from worker_command import Work, run_stages, worker_parser


def main() -> None:
    parser = worker_parser(__doc__, sparse.PEERS)
    parser.add_argument("--sizes", choices=("full", "quick"), default="full")
    parser.add_argument("--factorization", choices=("auto", "sparse"), default="auto")
    arguments = parser.parse_args()

    def measure(work: Work) -> None:
        family = find_family(arguments.problem)
        family = family.shrunk() if arguments.sizes == "quick" else family
        batch = make_batch(family, arguments.seed)
        tolerance, settings = arguments.tolerance, dict(work.entry.settings)
        if arguments.peer == sparse.OURS:
            settings["factorization"] = arguments.factorization
        runner = work.prepare("prepare", lambda: work.runner_class(batch, tolerance, **settings))
        work.record["start_MiB"] = _peak()
        result = work.forward(runner.forward)
        work.record["forward"]["peak_MiB"] = _peak()
        work.record["iterations"] = runner.iterations(result)
        work.record["statuses"] = dict(Counter(runner.statuses(result)))
        work.arrays["x"] = runner.solution(result)
        result = work.forward_backward(runner.forward_backward)
        work.record["forward_backward"]["peak_MiB"] = _peak()
        work.arrays.update({f"d{name}": v for name, v in runner.gradients(result).items()})

    run_stages(arguments, arguments.problem, sparse, measure)


def _peak() -> float:
    """The most memory that this process has held, in MiB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


if __name__ == "__main__":
    main()
