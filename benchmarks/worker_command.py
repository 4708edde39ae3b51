"""What every worker does: load a peer, prepare it for a batch, time its passes, leave what it knows."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from measure import time_calls
from peer_process import WorkerFiles
from peers.interface import Unsupported

T = TypeVar("T")


def worker_parser(
    description: str | None, peers: Iterable[str], task: str = "problem"
) -> argparse.ArgumentParser:
    """The options that all workers take; `task` names what is solved."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--peer", required=True, choices=peers)
    parser.add_argument(f"--{task}", required=True)
    parser.add_argument("--result", type=Path, required=True, help="path without a suffix")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tolerance", type=float, default=1e-9)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--budget", type=float, default=1.5)
    return parser


@dataclass(frozen=True)
class Work:
    """A peer's class and registry entry, and the files that its figures go to."""

    files: WorkerFiles
    entry: Any
    runner_class: Any
    repeats: int
    budget: float

    @property
    def record(self) -> dict[str, Any]:
        return self.files.record

    @property
    def arrays(self) -> dict[str, Any]:
        return self.files.arrays

    def prepare(self, key: str, make: Callable[[], T]) -> T:
        """What `make` returns, and its seconds in the record."""
        start = time.perf_counter()
        made = make()
        self.record[f"{key}_s"] = time.perf_counter() - start
        return made

    def forward(self, call: Callable[[], T]) -> T:
        return self._time("forward", "forward", call)

    def forward_backward(self, call: Callable[[], T]) -> T:
        return self._time("backward", "forward_backward", call)

    def _time(self, stage: str, key: str, call: Callable[[], T]) -> T:
        self.files.save(stage)
        timing, result = time_calls(call, self.repeats, self.budget)
        self.record[key] = timing.record()
        return result


def run_stages(
    arguments: argparse.Namespace,
    solved: str,
    registry: Any,
    measure: Callable[[Work], None],
    first: str = "prepare",
) -> None:
    """Load the peer and measure it; `first` is what the stage before the first pass is called."""
    files = WorkerFiles(arguments.peer, solved, arguments.result)
    files.save("import")
    entry = registry.PEERS[arguments.peer]
    try:
        runner_class = registry.load(arguments.peer)
    except ImportError as error:
        files.record["error"] = f"not installed: {error}"
        files.save("import")
        return
    files.add_versions(entry.distributions)
    files.save(first)
    try:
        measure(Work(files, entry, runner_class, arguments.repeats, arguments.budget))
    except Unsupported as error:
        files.record["unsupported"] = str(error)
    files.save("done")
