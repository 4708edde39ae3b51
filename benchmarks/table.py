"""Plain text tables and the numbers in them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence


def text_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as they need, numbers to the right; the first and a nameless one left."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    out = []
    for line in lines:
        cells = [
            cell.rjust(width) if i and name else cell.ljust(width)
            for i, (name, cell, width) in enumerate(zip(header, line, widths, strict=True))
        ]
        out.append("  ".join(cells).rstrip())
    out.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(out)


def number(value: float | None, digits: int = 3) -> str:
    """A few significant digits, without an exponent where that is readable."""
    if value is None:
        return "-"
    if not math.isfinite(value):
        return str(value)
    return f"{value:.{digits}g}" if abs(value) < 1000 else f"{value:.0f}"


def small(value: float | None) -> str:
    """An error: one digit and the exponent."""
    return "-" if value is None else f"{value:.0e}" if math.isfinite(value) else "nan"


def geometric_mean(values: Sequence[float]) -> float | None:
    """None where there is nothing to average."""
    if not values:
        return None
    return math.exp(sum(math.log(value) for value in values) / len(values))
