"""The figure of structured prediction: one digit and the numbers for each of the three layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, FAINT, BLUE, ORANGE = "#22262b", "#9aa2ab", "#2b6cb0", "#c05621"


class Shown(NamedTuple):
    """A doubtful digit with its probabilities, and one whose outputs were out of order."""

    doubtful: np.ndarray
    softmax: np.ndarray
    sparsemax: np.ndarray
    disordered: np.ndarray
    unordered: np.ndarray
    ordered: np.ndarray


def draw_digit(axes: Axes, pixels: np.ndarray, corner: tuple[float, float]) -> None:
    inset = axes.inset_axes((*corner, 0.26, 0.26))
    inset.imshow(pixels.reshape(8, 8), cmap="gray_r")
    inset.set(xticks=[], yticks=[])


def draw_probabilities(axes: Axes, shown: Shown) -> None:
    at = np.arange(len(shown.softmax))
    axes.bar(at - 0.2, shown.softmax, 0.4, color=ORANGE, label="softmax")
    axes.bar(at + 0.2, shown.sparsemax, 0.4, color=BLUE, label="sparsemax")
    axes.set(xlabel="label", ylabel="probability", xticks=at, title="The most doubtful digit")
    axes.set_ylim(0, 1.4 * max(shown.softmax.max(), shown.sparsemax.max()))
    axes.legend(frameon=False, loc="upper right")
    draw_digit(axes, shown.doubtful, (0.03, 0.71))


def draw_supports(axes: Axes, supports: Sequence[np.ndarray]) -> None:
    at = np.arange(1, 11)
    for counts, name, color, shift in zip(
        supports, ("softmax", "sparsemax"), (ORANGE, BLUE), (-0.2, 0.2), strict=True
    ):
        share = np.bincount(counts, minlength=11)[1:] / len(counts)
        axes.bar(at + shift, share, 0.4, color=color, label=name)
    axes.set(xlabel="labels above 1e-6", ylabel="share of the images", xticks=at)
    axes.set_title("Labels that stay possible")
    axes.legend(frameon=False)


def draw_order(axes: Axes, shown: Shown) -> None:
    at = np.arange(len(shown.ordered))
    axes.plot(at, shown.unordered, "o-", color=ORANGE, label="as they are")
    axes.plot(at, shown.ordered, "o-", color=BLUE, label="in order")
    axes.set(xlabel="j", ylabel="probability of at least j", xticks=at, title="The least ordered")
    low, high = min(0, shown.unordered.min()), max(1, shown.unordered.max())
    axes.set_ylim(low - 0.1, high + 0.4 * (high - low))
    axes.legend(frameon=False, loc="upper right")
    draw_digit(axes, shown.disordered, (0.03, 0.71))


def draw_tops(axes: Axes, tops: Sequence[Sequence[float]], labels: int) -> None:
    at = np.arange(1, len(tops[0]) + 1)
    axes.plot(at, 100 * np.array(tops[0]), "o-", color=ORANGE, label="softmax")
    axes.plot(at, 100 * np.array(tops[1]), "o-", color=BLUE, label=f"LML, k = {labels}")
    axes.axvline(labels, color=FAINT, ls=":", lw=1)
    axes.set(xlabel="labels named", ylabel="right one among them, %", xticks=at)
    axes.set_title("Half of the training labels wrong")
    axes.legend(frameon=False, loc="lower right")


def save_figure(
    path: Path,
    shown: Shown,
    supports: Sequence[np.ndarray],
    tops: Sequence[Sequence[float]],
    labels: int,
) -> None:
    """`supports`: counts for each image, softmax first; `tops`: accuracies by the number of labels."""
    figure = Figure(figsize=(16, 3.9), layout="constrained")
    first, second, third, fourth = figure.subplots(1, 4)
    draw_probabilities(first, shown)
    draw_supports(second, supports)
    draw_order(third, shown)
    draw_tops(fourth, tops, labels)
    for axes in (first, second, third, fourth):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=140)
