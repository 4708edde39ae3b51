"""Which rows of a table belong to the first test command."""

from collections.abc import Container, Iterable
from typing import Any

import pytest


def marked(names: Iterable[str], quick: Container[str]) -> list[Any]:
    """All names, those that aren't quick marked slow."""
    return [pytest.param(n, marks=() if n in quick else pytest.mark.slow) for n in names]
