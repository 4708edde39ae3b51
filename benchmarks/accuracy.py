"""How right a solution and a gradient are, by one NumPy measure for every solver.

Not every peer hands out its multipliers, so both measures start from x alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.optimize import nnls

from problems import Array, Batch

NEAR = 1e-4  # a row whose relative slack is above this has no multiplier
LOOSER = (1e-2, 1.0)  # tried as well for solutions so rough that active rows are further away


def kkt_residual(batch: Batch, x: Array, limit: int = 16) -> float:
    """The largest relative KKT residual of up to `limit` members, under the best multipliers."""
    members = batch.members()
    chosen = np.unique(np.linspace(0, len(members) - 1, min(limit, len(members))).astype(int))
    with np.errstate(all="ignore"):
        residuals = [_residual(members[i], np.asarray(x[i], dtype=float), batch) for i in chosen]
    return float(np.max(residuals))  # which keeps a NaN, as max() would not


def _residual(data: Mapping[str, Array], x: Array, batch: Batch) -> float:
    if not np.all(np.isfinite(x)):
        return float("nan")
    residual = np.inf
    for near in (NEAR, *LOOSER):
        y, z = multipliers(data, x, batch.lower is not None, near)
        residual = min(residual, _residual_at(data, x, y, z))
        if residual < NEAR:
            break
    return residual


def _residual_at(data: Mapping[str, Array], x: Array, y: Array, z: Array) -> float:
    Q, q, A, b, G, h = (data[name] for name in ("Q", "q", "A", "b", "G", "h"))
    Qx, Ay, Gz, Ax, Gx = Q @ x, A.T @ y, G.T @ z, A @ x, G @ x
    slack = h - Gx
    parts = (
        relative(Qx + q + Ay + Gz, Qx, q, Ay, Gz),
        relative(Ax - b, Ax, b),
        relative(np.minimum(slack, 0.0), Gx, h),
        relative(slack * z, np.atleast_1d(0.5 * x @ Qx), np.atleast_1d(q @ x)),
    )
    return max(parts)


def relative(difference: Array, *terms: Array) -> float:
    """The largest entry, relative to one plus the largest of what was compared."""
    if difference.size == 0:
        return 0.0
    scale = max(float(np.max(np.abs(term), initial=0.0)) for term in terms)
    return float(np.max(np.abs(difference))) / (1.0 + scale)


def multipliers(
    data: Mapping[str, Array], x: Array, bounds: bool, tolerance: float = NEAR
) -> tuple[Array, Array]:
    """y and z >= 0 that make |Qx + q + A'y + G'z|^2 + |s z|^2 smallest (`G = -I` for bounds)."""
    A, G, h = data["A"], data["G"], data["h"]
    gradient = data["Q"] @ x + data["q"]
    slack = np.abs(h - G @ x)
    scale = float(np.max(np.abs(x), initial=0.0 if bounds else 1.0))
    near = slack <= tolerance * scale
    z = np.zeros(len(h))
    if bounds:  # the free coordinates give y, the others then give z by themselves
        y = np.linalg.lstsq(A[:, ~near].T, -gradient[~near], rcond=None)[0]
        z[near] = np.maximum((gradient + A.T @ y)[near], 0.0)
        return y, z
    left = np.linalg.qr(A.T, mode="complete")[0][:, len(A) :]  # what A'y cannot reach
    system = np.vstack([left.T @ G[near].T, np.diag(slack[near])])
    target = np.concatenate([-left.T @ gradient, np.zeros(int(near.sum()))])
    z_near = np.linalg.lstsq(system, target, rcond=None)[0]
    if z_near.size and z_near.min() < -1e-9 * (1.0 + np.abs(z_near).max()):
        z_near = nnls(system, target)[0]
    z[near] = np.maximum(z_near, 0.0)
    y = np.linalg.lstsq(A.T, -gradient - G.T @ z, rcond=None)[0]
    return y, z


def reference_gradients(batch: Batch, x: Array) -> dict[str, Array]:
    """Gradients of sum(cotangent * x) by the KKT formulas (OptNet, eq. 6-8) at a given solution.

    The active rows are held as equalities, so this is exact where the solution is strictly
    complementary and needs no solver's factor.
    """
    parts: dict[str, list[Array]] = {name: [] for name in ("Q", "q", "A", "b", "G", "h")}
    for data, x_i, cotangent in zip(batch.members(), x, batch.cotangent, strict=True):
        y, z = multipliers(data, x_i, bounds=batch.lower is not None)
        active = z > 1e-7 * (1.0 + np.max(z, initial=0.0))
        rows = np.vstack([data["A"], data["G"][active]])
        n, p = len(x_i), len(y)
        system = np.block([[data["Q"], rows.T], [rows, np.zeros((len(rows), len(rows)))]])
        right = np.concatenate([-cotangent, np.zeros(len(rows))])
        d = np.linalg.lstsq(system, right, rcond=None)[0]
        dx, dy, dz = d[:n], d[n : n + p], np.zeros(len(z))
        dz[active] = d[n + p :]
        parts["Q"].append(0.5 * (np.outer(dx, x_i) + np.outer(x_i, dx)))
        parts["q"].append(dx)
        parts["A"].append(np.outer(dy, x_i) + np.outer(y, dx))
        parts["b"].append(-dy)
        parts["G"].append(np.outer(dz, x_i) + np.outer(z, dx))
        parts["h"].append(-dz)
    gradients = {name: np.stack(parts[name]) for name in batch.differentiate}
    return {name: as_given(batch, name, value) for name, value in gradients.items()}


def as_given(batch: Batch, name: str, gradient: Array) -> Array:
    """A gradient per member, summed over the batch if the batch shares the array."""
    given = getattr(batch, name)
    return gradient.sum(axis=0) if gradient.ndim > given.ndim else gradient


def gradient_error(gradients: Mapping[str, Array], reference: Mapping[str, Array]) -> float:
    """The largest difference, each array's relative to its largest entry; Q's made symmetric."""
    errors = []
    for name, expected in reference.items():
        if name not in gradients:
            return float("nan")
        difference = _symmetric(name, gradients[name]) - _symmetric(name, expected)
        errors.append(np.max(np.abs(difference)) / np.max(np.abs(expected)))
    return float(np.max(errors))  # which keeps a NaN, as max() would not


def _symmetric(name: str, gradient: Array) -> Array:
    """Solvers split the gradient of a symmetric Q between its halves in different ways."""
    if name != "Q":
        return gradient
    return 0.5 * (gradient + np.swapaxes(gradient, -1, -2))
