"""The tables of `qp_speed.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import peers
from table import geometric_mean, number, small, text_table

PASSES = ("forward", "forward_backward")


def ratio_to_ours(
    record: dict[str, Any], records: Sequence[dict[str, Any]], which: str, by: str
) -> float | None:
    """How many times as long as ours on the same shape, by the "median" or the "best"."""
    for other in records:
        same = other["peer"] == peers.OURS and other["shape"] == record["shape"]
        if same and which in other and which in record:
            return float(record[which][f"{by}_s"] / other[which][f"{by}_s"])
    return None


def shape_table(records: Sequence[dict[str, Any]], by: str) -> str:
    """One row per solver."""
    header = ["solver", "compile s", "fwd best ms", "median", "x ours"]
    header += ["compile s", "fwd+bwd best ms", "median", "x ours"]
    header += ["iter", "KKT", "x err", "grad err", ""]
    rows = []
    for record in records:
        row = [record["peer"]]
        for which in PASSES:
            timing = record.get(which)
            if timing is None:
                row += ["-"] * 4
            else:
                row += [number(timing["compile_s"], 2), number(1e3 * timing["best_s"])]
                row.append(number(1e3 * timing["median_s"]))
                row.append(number(ratio_to_ours(record, records, which, by)))
        row.append(number(record.get("iterations")))
        row += [small(record.get(key)) for key in ("kkt_residual", "x_error", "gradient_error")]
        row.append(_remark(record))
        rows.append(row)
    return text_table(header, rows)


def _remark(record: dict[str, Any]) -> str:
    if record["outcome"] == "done":
        return record.get("unsupported", "")
    outcome, error = record["outcome"], record.get("error", "")
    return (error if error.startswith(outcome) else f"{outcome} {error}".strip())[:100]


def summary_table(records: Sequence[dict[str, Any]], by: str) -> str:
    """Ratios by solver and shape, with their geometric means over the shapes that ran."""
    shapes = list(dict.fromkeys(record["shape"] for record in records))
    names = [n for n in dict.fromkeys(record["peer"] for record in records) if n != peers.OURS]
    rows = []
    for which in PASSES:
        for name in names:
            of_peer = [record for record in records if record["peer"] == name]
            mine = {r["shape"]: ratio_to_ours(r, records, which, by) for r in of_peer}
            known = [value for value in mine.values() if value is not None]
            if not known:
                continue
            cells = [number(mine.get(shape)) for shape in shapes]
            label = f"{name}, {which.replace('_', '+')}"
            rows.append([label, *cells, number(geometric_mean(known)), str(len(known))])
    return text_table(["solver", *shapes, "mean", "of"], rows)
