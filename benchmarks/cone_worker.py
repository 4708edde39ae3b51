"""One solver on one batch of cone programs, in a process of its own; `cone_speed.py` starts it.

What is known is written after each stage, so that a process that is killed leaves what it had.
"""

from __future__ import annotations

from cone_problems import find_family, make_batch
from peers import cone
from worker_command import Work, run_stages, worker_parser


def main() -> None:
    arguments = worker_parser(__doc__, cone.PEERS).parse_args()

    def measure(work: Work) -> None:
        batch = make_batch(find_family(arguments.problem), arguments.seed)
        tolerance, settings = arguments.tolerance, work.entry.settings
        runner = work.prepare("prepare", lambda: work.runner_class(batch, tolerance, **settings))
        result = work.forward(runner.forward)
        work.record["iterations"] = runner.iterations(result)
        work.arrays.update(zip("xys", runner.solution(result), strict=True))
        result = work.forward_backward(runner.forward_backward)
        work.arrays.update({f"d{name}": v for name, v in runner.gradients(result).items()})

    run_stages(arguments, arguments.problem, cone, measure)


if __name__ == "__main__":
    main()
