"""The figure of total-variation denoising: a signal, the weight, the operator, the errors."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, FAINT, BLUE, ORANGE, GREEN = "#22262b", "#9aa2ab", "#2b6cb0", "#c05621", "#2f855a"


class Shown(NamedTuple):
    """One signal (n,): as read, in truth, and denoised with the learned weight and the learned D."""

    noisy: np.ndarray
    clean: np.ndarray
    weight: np.ndarray
    learned: np.ndarray


def draw_signal(axes: Axes, signal: Shown) -> None:
    axes.plot(signal.noisy, "o", color=FAINT, ms=3, label="readings")
    axes.step(np.arange(len(signal.clean)), signal.clean, INK, where="mid", lw=1, label="truth")
    axes.plot(signal.weight, color=ORANGE, label="learned w")
    axes.plot(signal.learned, color=BLUE, label="learned D")
    axes.set(xlabel="place", title="A signal never seen")
    axes.legend(frameon=False, fontsize=8)


def draw_grid(
    axes: Axes, grid: dict[float, float], weight: tuple[float, float], learned: float
) -> None:
    axes.semilogx(list(grid), list(grid.values()), "o-", color=FAINT, ms=4, label="grid")
    axes.plot(*weight, "o", color=ORANGE, ms=8, label="learned w")
    axes.axhline(learned, color=BLUE, ls="--", lw=1, label="learned D")
    axes.set(xlabel="weight w", ylabel="mean squared error", title="The weight, test signals")
    axes.legend(frameon=False, fontsize=8)


def draw_operator(axes: Axes, size: np.ndarray, rate: np.ndarray) -> None:
    """The price of a jump between places i and i + 1, and the places where the machine switches."""
    axes.bar(np.arange(len(size)) + 0.5, size, width=0.9, color=BLUE)
    times = np.flatnonzero(rate > np.median(rate)) - 0.5
    axes.plot(times, np.full(len(times), -0.04 * size.max()), "^", color=INK, ms=5)
    axes.set(xlabel="place (triangles: the timetable)", ylabel="w times the norm of D's row")
    axes.set_title("What a jump costs, learned")


def draw_errors(axes: Axes, errors: dict[str, float]) -> None:
    colors = (FAINT, FAINT, INK, ORANGE, BLUE, GREEN)
    bars = axes.barh(list(errors), list(errors.values()), color=colors)
    axes.bar_label(bars, fmt="%.4f", padding=3)
    axes.invert_yaxis()
    axes.set(title="Mean squared error, test signals", xlim=(0, 1.25 * max(errors.values())))


def save_figure(
    path: Path,
    signal: Shown,
    grid: dict[float, float],
    weight: tuple[float, float],
    size: np.ndarray,
    rate: np.ndarray,
    errors: dict[str, float],
) -> None:
    """`grid` and `weight` hold errors by weight; `size` (n - 1,) and `rate` (n,) are as drawn."""
    figure = Figure(figsize=(16, 3.9), layout="constrained")
    first, second, third, fourth = figure.subplots(1, 4)
    draw_signal(first, signal)
    draw_grid(second, grid, weight, errors["learned D"])
    draw_operator(third, size, rate)
    draw_errors(fourth, errors)
    for axes in (first, second, third, fourth):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=140)
