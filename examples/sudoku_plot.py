"""The figure of the Sudoku example: loss, accuracy, and one board before and after training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

INK, FAINT, BLUE = "#22262b", "#9aa2ab", "#2b6cb0"
RIGHT, WRONG, CLUE = "#bfe5c3", "#f4b6b0", "#e9ecef"


def draw_board(axes: Axes, board: np.ndarray, puzzle: np.ndarray, solution: np.ndarray) -> None:
    """Draw a board (16,), 0 for a blank: clues grey in the puzzle itself, answers right or wrong.

    The puzzle is drawn with its clues on grey. Any other board is an answer: its cells are green
    where they equal the solution and red elsewhere, and the numbers of the clues are bold.
    """
    is_answer = not np.array_equal(board, puzzle)
    for cell, number in enumerate(board):
        row, column = divmod(cell, 4)
        if is_answer:
            color = RIGHT if number == solution[cell] else WRONG
        else:
            color = CLUE if number else "white"
        axes.add_patch(Rectangle((column, row), 1, 1, facecolor=color, edgecolor=FAINT, lw=0.8))
        if number:
            weight = "bold" if puzzle[cell] else "normal"
            style = {"ha": "center", "va": "center", "fontsize": 17, "color": INK}
            axes.text(column + 0.5, row + 0.52, str(number), weight=weight, **style)
    for line in (0, 2, 4):
        axes.plot([line, line], [0, 4], color=INK, lw=2.2, solid_capstyle="projecting")
        axes.plot([0, 4], [line, line], color=INK, lw=2.2, solid_capstyle="projecting")
    axes.set(xlim=(-0.05, 4.05), ylim=(4.05, -0.05), aspect="equal")
    axes.axis("off")


def draw_loss(axes: Axes, losses: np.ndarray, steps_per_epoch: int) -> None:
    """The loss of every batch, and its mean over each epoch."""
    epochs = np.arange(1, len(losses) + 1) / steps_per_epoch
    axes.semilogy(epochs, losses, color=BLUE, alpha=0.35, lw=1, label="one batch")
    whole = len(losses) // steps_per_epoch
    means = losses[: whole * steps_per_epoch].reshape(whole, steps_per_epoch).mean(axis=1)
    axes.semilogy(np.arange(whole) + 0.5, means, "o-", color=BLUE, ms=4, label="mean of the epoch")
    axes.set(xlabel="epoch", ylabel="mean squared error", title="Training loss")
    axes.legend(frameon=False)


def draw_accuracy(axes: Axes, tested: np.ndarray, accuracies: np.ndarray) -> None:
    """The share of the test boards solved after the epochs `tested` (0: before training)."""
    axes.plot(tested, 100 * accuracies, "o-", color="#2f855a", ms=4)
    axes.axhline(99, color=FAINT, lw=1, ls="--")
    axes.text(0, 98, "99 %", color=FAINT, va="top")
    axes.annotate(
        f"{100 * accuracies[-1]:.1f} %",
        (tested[-1], 100 * accuracies[-1]),
        xytext=(-4, -10),
        textcoords="offset points",
        ha="right",
        va="top",
    )
    axes.set(xlabel="epoch", ylabel="test boards solved, %", ylim=(-4, 104))
    axes.set_title("Boards with all 16 cells right")


def save_figure(
    path: Path,
    losses: np.ndarray,
    tested: np.ndarray,
    accuracies: np.ndarray,
    steps_per_epoch: int,
    puzzle: np.ndarray,
    solution: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
) -> None:
    """Write the figure; `before` and `after` are the untrained and trained answers (16,)."""
    figure = Figure(figsize=(10, 7.2), layout="constrained")  # no pyplot: no window, no backend
    top, bottom = figure.subfigures(2, 1, height_ratios=(1.15, 1))
    left, right = top.subplots(1, 2)
    draw_loss(left, losses, steps_per_epoch)
    draw_accuracy(right, tested, accuracies)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#eceff1")
        axes.set_axisbelow(True)
    titles = (
        "A test puzzle",
        f"Untrained layer: {np.sum(before == solution)} of 16 right",
        f"Trained layer: {np.sum(after == solution)} of 16 right",
    )
    for axes, board, title in zip(
        bottom.subplots(1, 3), (puzzle, before, after), titles, strict=True
    ):
        draw_board(axes, board, puzzle, solution)
        axes.set_title(title)
    figure.savefig(path, dpi=140)
