"""Strict settings for every test: double precision, no implicit rank promotion, eight CPU devices."""

import os
from pathlib import Path

from tests.helpers.compiler_flags import compiler_flags

os.environ["XLA_FLAGS"] = compiler_flags()

import jax
import numpy as np
import pytest

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def rng() -> np.random.Generator:
    """Seeded randomness, the same in every test."""
    return np.random.default_rng(20170301)


@pytest.fixture(autouse=True, scope="module")
def _forget_compiled_functions():
    """Compiled functions take memory maps, of which a process may have 65530 on Linux; then it crashes."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_text().count("\n") > 40_000:
        jax.clear_caches()
