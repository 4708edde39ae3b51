"""A point of the central path, found without the package: the oracle of smoothed derivatives."""

from __future__ import annotations

import numpy as np

from tests.helpers.oracles import Solution, inequality_rows
from tests.helpers.problems import Data

_MAX_STEPS = 300
_ROUNDING = 1e-13


def central_path_qp(data: Data, mu: float) -> Solution:
    """The point where each slack times its multiplier is mu, for finite data.

    Newton's method on the full primal-dual system with a ratio test, while the product aimed at
    falls from 1 to mu, until the residual is at rounding level. Redundant equality rows are
    allowed: the steps are least-squares solutions.
    """
    q = data["q"]
    n, m = len(q), len(data.get("h", ()))
    Q, A, b = data.get("Q"), data.get("A", np.zeros((0, n))), data.get("b", np.zeros(0))
    P = np.zeros((n, n)) if Q is None else (np.diag(Q) if Q.ndim == 1 else Q)
    unknown = {"z": np.zeros(m), "z_lower": np.zeros(n), "z_upper": np.zeros(n)}
    R, r, _ = inequality_rows(data, unknown)
    p, k = len(b), len(r)
    x, y, s, w = np.zeros(n), np.zeros(p), np.ones(k), np.ones(k)
    target = 1.0
    for _ in range(_MAX_STEPS):
        stationarity, product = P @ x + q + A.T @ y + R.T @ w, s * w - target
        residual = np.concatenate([stationarity, A @ x - b, R @ x + s - r, product])
        size = 1 + max(np.max(np.abs(part), initial=0) for part in (x, y, s, w))
        if target == mu and np.max(np.abs(residual)) < _ROUNDING * size:
            return {"x": x, "y": y} | _by_name(data, m, s, w)
        jacobian = np.block(
            [
                [P, A.T, np.zeros((n, k)), R.T],
                [A, np.zeros((p, p + 2 * k))],
                [R, np.zeros((k, p)), np.eye(k), np.zeros((k, k))],
                [np.zeros((k, n + p)), np.diag(w), np.diag(s)],
            ]
        )
        change = np.linalg.lstsq(jacobian, -residual, rcond=None)[0]
        dx, dy, ds, dw = np.split(change, np.cumsum([n, p, k]))
        positive, move = np.concatenate([s, w]), np.concatenate([ds, dw])
        falling = move < 0
        length = min(1.0, 0.9 * np.min(-positive[falling] / move[falling], initial=np.inf))
        x, y, s, w = x + length * dx, y + length * dy, s + length * ds, w + length * dw
        if length > 0.5:
            target = max(mu, 0.2 * target)
    raise RuntimeError(
        f"the central path point was not reached: residual {np.max(np.abs(residual))}"
    )


def _by_name(data: Data, m: int, s: np.ndarray, w: np.ndarray) -> Solution:
    n = len(data["q"])
    sizes = [m, n if "lower" in data else 0, n if "upper" in data else 0]
    z, z_lower, z_upper = np.split(w, np.cumsum(sizes)[:-1])
    return {"z": z, "s": s[:m], "z_lower": z_lower, "z_upper": z_upper}
