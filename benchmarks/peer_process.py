"""A peer's worker in a process of its own, and what it leaves behind."""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from peers import OURS
from process import Child


def run_worker(
    script: str,
    name: str,
    task: tuple[str, str],
    options: Sequence[tuple[str, Any]],
    folder: Path,
    python: str,
    timeout: float,
    env: dict[str, str],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The record and the arrays that the worker wrote, however it ended.

    `task` is the worker's option that names what to solve, and its value; `options` are its others.
    """
    flag, solved = task
    target = folder / name
    command = [python, str(Path(__file__).with_name(script)), "--peer", name]
    command += [f"--{flag}", solved, "--result", str(target)]
    for key, value in options:
        command += [f"--{key}", str(value)]
    env = dict(env)
    if name.startswith(OURS):  # so that it runs from a checkout that is not installed
        root = str(Path(__file__).resolve().parent.parent)
        env["PYTHONPATH"] = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    child = Child.start(command, folder / f"{name}.log", timeout, env)
    outcome = child.wait()
    record: dict[str, Any] = {"peer": name, "shape": solved, "stage": "start"}
    if target.with_suffix(".json").exists():
        record = json.loads(target.with_suffix(".json").read_text())
    if outcome == "done" and "error" in record:
        outcome = record["error"].split(":")[0]
    elif outcome.startswith("exit"):
        record["error"] = child.last_words()
        outcome = f"failed ({record['stage']})"
    elif outcome == "timeout":
        outcome = f"timeout ({record['stage']})"
    record["outcome"] = outcome
    try:
        with np.load(target.with_suffix(".npz")) as saved:
            return record, dict(saved)
    except (OSError, ValueError, EOFError):  # killed before or while it wrote
        return record, {}


def python_for(name: str, given: Sequence[str]) -> str:
    """Our own always runs here; a peer where [NAME=]PATH says."""
    default = sys.executable
    if name.startswith(OURS):
        return default
    for choice in given:
        peer, separator, path = choice.partition("=")
        if not separator:
            default = choice
        elif peer == name:
            return path
    return default


class WorkerFiles:
    """What a worker leaves: written after each stage, so that one that is killed leaves what it had."""

    def __init__(self, peer: str, solved: str, result: Path):
        self.record: dict[str, Any] = {"peer": peer, "shape": solved, "stage": "import"}
        self.arrays: dict[str, Any] = {}
        self._result = result

    def save(self, stage: str) -> None:
        """Write all that is known; `stage` is the one that comes next, or "done"."""
        self.record["stage"] = stage
        np.savez(self._result.with_suffix(".npz"), **self.arrays)
        part = self._result.with_suffix(".part")
        part.write_text(json.dumps(self.record))
        part.replace(self._result.with_suffix(".json"))

    def add_versions(self, distributions: Sequence[str]) -> None:
        self.record["versions"] = {name: _version(name) for name in distributions}


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
