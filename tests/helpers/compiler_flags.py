"""Compiler flags for tests, which compile for minutes and compute for seconds."""

import os
import subprocess
import sys

_OLDER_GENERATOR = "--xla_cpu_use_fusion_emitters=false"
_FEW_OPTIMIZATIONS = (
    "--xla_backend_optimization_level=1"  # none at all, with that generator, is wrong code
)
_DEVICES = "--xla_force_host_platform_device_count=8"


def compiler_flags() -> str:
    """The flags given, and what lets tests compile in two thirds of the time on eight CPU devices."""
    given = os.environ.get("XLA_FLAGS", "")
    if _DEVICES in given:  # in a worker, which inherits them
        return given
    return " ".join([_FEW_OPTIMIZATIONS, *filter(_is_known, [_OLDER_GENERATOR]), given, _DEVICES])


def _is_known(flag: str) -> bool:
    """Whether the installed XLA knows a flag; it ends a process that names another."""
    command = [sys.executable, "-c", "import jax; jax.devices()"]
    environment = os.environ | {"XLA_FLAGS": flag}
    return subprocess.run(command, env=environment, capture_output=True).returncode == 0
