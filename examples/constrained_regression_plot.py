"""The figure of the constrained regression: a curve, its Jacobian, the noise learned, the errors."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, FAINT, BLUE, ORANGE = "#22262b", "#9aa2ab", "#2b6cb0", "#c05621"
LABORATORIES = (BLUE, "#63a4d8", "#dd9a5f", ORANGE)


class Shown(NamedTuple):
    """One curve at n doses: readings, who made them, truth, fits (n,), and the last one's Jacobian."""

    y: np.ndarray
    laboratory: np.ndarray
    truth: np.ndarray
    before: np.ndarray
    learned: np.ndarray
    jacobian: np.ndarray


def draw_curve(axes: Axes, curve: Shown) -> None:
    dose = np.linspace(0, 1, len(curve.y))
    axes.plot(dose, curve.truth, color=INK, ls="--", lw=1, label="truth")
    axes.plot(dose, curve.before, color=FAINT, label="fit, all alike")
    axes.plot(dose, curve.learned, color=BLUE, label="fit, learned")
    for k, color in enumerate(LABORATORIES):
        here = curve.laboratory == k
        axes.plot(dose[here], curve.y[here], "o", ms=5, color=color, label=f"laboratory {k + 1}")
    axes.set(xlabel="dose", ylabel="response", title="A curve never seen")
    axes.legend(frameon=False, fontsize=8)


def draw_jacobian(figure: Figure, axes: Axes, jacobian: np.ndarray) -> None:
    limit = float(np.abs(jacobian).max())
    image = axes.imshow(jacobian, cmap="RdBu_r", vmin=-limit, vmax=limit)
    figure.colorbar(image, ax=axes, shrink=0.8)
    axes.set(xlabel="reading", ylabel="fitted value")
    axes.set_title(f"Its Jacobian: {np.trace(jacobian):.1f} degrees of freedom")


def draw_noise(axes: Axes, deviations: np.ndarray, true: np.ndarray) -> None:
    for k, color in enumerate(LABORATORIES):
        axes.plot(deviations[:, k], color=color)
        axes.axhline(true[k], color=color, ls=":", lw=1)
    axes.set(xlabel="step", ylabel="standard deviation", yscale="log")
    axes.set_title("Each laboratory's noise (dotted: true)")


def draw_errors(axes: Axes, errors: dict[str, float]) -> None:
    bars = axes.barh(list(errors), list(errors.values()), color=(FAINT, ORANGE, BLUE, INK))
    axes.bar_label(bars, fmt="%.4f", padding=3)
    axes.invert_yaxis()
    axes.set(title="Mean squared error, other curves", xlim=(0, 1.25 * max(errors.values())))


def save_figure(
    path: Path, curve: Shown, deviations: np.ndarray, true: np.ndarray, errors: dict[str, float]
) -> None:
    """`deviations` (steps + 1, 4) are what was learned on the way, `true` (4,) what made the data."""
    figure = Figure(figsize=(16, 3.9), layout="constrained")
    first, second, third, fourth = figure.subplots(1, 4)
    draw_curve(first, curve)
    draw_jacobian(figure, second, curve.jacobian)
    draw_noise(third, deviations, true)
    draw_errors(fourth, errors)
    for axes in (first, third, fourth):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=140)
