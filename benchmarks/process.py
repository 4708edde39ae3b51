"""Child processes that may lock up: they get a time limit and a quick end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Child:
    """A running child, its output going to a file (a pipe that nobody reads would block it)."""

    process: subprocess.Popen[bytes]
    log: Path
    deadline: float

    @classmethod
    def start(
        cls, command: Sequence[str], log: Path, timeout: float, env: Mapping[str, str] | None = None
    ) -> Child:
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                start_new_session=True,  # so that its own children end with it
            )
        return cls(process, log, time.monotonic() + timeout)

    def wait(self) -> str:
        """Returns "done", "timeout" or "exit CODE"; after this the child is gone."""
        try:
            code = self.process.wait(max(self.deadline - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            self.kill()
            return "timeout"
        except BaseException:  # an interrupt must not leave it running
            self.kill()
            raise
        return "done" if code == 0 else f"exit {code}"

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def last_words(self) -> str:
        """The last line that names an error, or else the last one, for a table."""
        lines = self.log.read_text(errors="replace").strip().splitlines()
        errors = [line for line in lines if "Error" in line.split(":")[0] and line[0] != " "]
        return (errors or lines or [""])[-1].strip()[:200]
