"""Puzzles for the 4x4 Sudoku example: generated from a seed, or read from a file and checked.

A 4x4 grid holds the numbers 1..4 once in every row, every column and every 2x2 block. There are
exactly 288 such grids, so everything about them can be settled by looking at all of them: a puzzle
(a grid with blanks, written 0) has a unique solution exactly when one of the 288 grids agrees with
its clues.

Train and test puzzles come from different grids. As a generated puzzle has one solution only, no
puzzle can be in both.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

CELLS, NUMBERS = 16, 4
MIN_CLUES = 4  # no 4x4 puzzle with fewer clues has a unique solution


@dataclass(frozen=True)
class Puzzles:
    """Boards (N, 16), row by row: `puzzles` holds 0 for a blank, `solutions` holds 1..4."""

    puzzles: np.ndarray
    solutions: np.ndarray

    def __len__(self) -> int:
        return len(self.puzzles)

    def take(self, rows: np.ndarray | slice) -> Puzzles:
        return Puzzles(self.puzzles[rows], self.solutions[rows])


def one_hot(boards: np.ndarray) -> np.ndarray:
    """Boards (N, 16) as (N, 64): a one at the number of each cell, four zeros for a blank."""
    numbers = np.arange(1, NUMBERS + 1)
    return (boards[:, :, None] == numbers).reshape(len(boards), CELLS * NUMBERS).astype(float)


def is_grid(boards: np.ndarray) -> np.ndarray:
    """Which of the boards (N, 16) are full and legal: 1..4 in every row, column and block."""
    rows = boards.reshape(-1, 4, 4)
    columns = rows.transpose(0, 2, 1)
    blocks = rows.reshape(-1, 2, 2, 2, 2).transpose(0, 1, 3, 2, 4).reshape(-1, 4, 4)
    groups = np.concatenate([rows, columns, blocks], axis=1)
    return (np.sort(groups, axis=2) == np.arange(1, NUMBERS + 1)).all(axis=(1, 2))


@cache
def all_grids() -> np.ndarray:
    """All 288 grids, (288, 16), in a fixed order."""
    orders = np.array(list(permutations(range(1, NUMBERS + 1))), dtype=np.int8)
    # With 1 2 3 4 as the top row there are 24^3 boards to try; renaming the numbers gives the rest.
    choices = np.array([(0, *rest) for rest in np.ndindex(24, 24, 24)])
    boards = orders[choices].reshape(-1, CELLS)
    base = boards[is_grid(boards)]
    return np.concatenate([order[base - 1] for order in orders])


def solution_counts(puzzles: np.ndarray) -> np.ndarray:
    """How many grids agree with the clues of each puzzle, (N,)."""
    puzzles = puzzles.astype(np.int8)[:, None, :]
    return ((puzzles == 0) | (puzzles == all_grids())).all(axis=2).sum(axis=1)


def dig(grids: np.ndarray, clues: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blank cells of the grids (N, 16) in random order until `clues` (N,) are left.

    A cell whose removal would allow a second solution stays, so a puzzle may end with more clues
    than asked.
    """
    puzzles = grids.copy()
    everyone = np.arange(len(grids))
    for cell in np.argsort(rng.random(grids.shape), axis=1).T:
        candidate = puzzles.copy()
        candidate[everyone, cell] = 0
        remove = ((puzzles > 0).sum(axis=1) > clues) & (solution_counts(candidate) == 1)
        puzzles[remove] = candidate[remove]
    return puzzles


def generate(
    train_size: int, test_size: int, seed: int, clues: int = MIN_CLUES
) -> tuple[Puzzles, Puzzles]:
    """Distinct random puzzles for training and for testing, from disjoint sets of grids.

    Three quarters of the 288 grids are for training. `clues` is the least number of clues; at its
    default each puzzle is minimal, that is, it has no clue to spare, as in OptNet's data.
    """
    rng = np.random.default_rng(seed)
    grids = rng.permutation(all_grids())
    cut = len(grids) * 3 // 4
    return _draw(grids[:cut], train_size, clues, rng), _draw(grids[cut:], test_size, clues, rng)


def _draw(grids: np.ndarray, size: int, clues: int, rng: np.random.Generator) -> Puzzles:
    """`size` distinct puzzles, from all of the grids in turn."""
    found: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
    for _ in range(20):
        solutions = rng.permutation(np.resize(grids, (size - len(found), CELLS)))
        puzzles = dig(solutions, np.full(len(solutions), clues), rng)
        for puzzle, solution in zip(puzzles, solutions, strict=True):
            found.setdefault(puzzle.tobytes(), (puzzle, solution))
        if len(found) == size:
            return Puzzles(*(np.array(boards) for boards in zip(*found.values(), strict=True)))
    raise ValueError(f"there are too few puzzles with {clues} clues to draw {size} distinct ones")


def load(path: Path, seed: int, test_share: float = 0.1) -> tuple[Puzzles, Puzzles]:
    """Read `puzzles` and `solutions` from an .npz file, check them, split them into train and test.

    Shapes are (N, 16) or (N, 4, 4). Equal puzzles are kept once. The split is by solved grid, as
    for generated puzzles, or by puzzle where the file holds one grid only. Raises ValueError that
    says what is wrong with the file and where; warns of puzzles with several solutions.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("puzzles", "solutions")}
    except KeyError as error:
        raise ValueError(f"{path}: {error.args[0]}; it needs `puzzles` and `solutions`") from error
    except (OSError, EOFError, BadZipFile, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: not a readable .npz file of numbers ({error})") from error
    boards = [_boards(f"{path}: {name}", array) for name, array in arrays.items()]
    _check(path, *boards)
    _, first = np.unique(boards[0], axis=0, return_index=True)
    everything = Puzzles(*boards).take(np.sort(first))
    if len(everything) < 2:
        raise ValueError(f"{path}: needs 2 distinct puzzles or more (to train and to test)")

    _, group = np.unique(everything.solutions, axis=0, return_inverse=True)
    group = group.reshape(-1) if group.max() > 0 else np.arange(len(everything))
    groups = np.random.default_rng(seed).permutation(group.max() + 1)
    is_test = np.isin(group, groups[: max(1, round(test_share * len(groups)))])
    return everything.take(~is_test), everything.take(is_test)


def _boards(name: str, array: np.ndarray) -> np.ndarray:
    """The array as boards (N, 16) of small integers."""
    if array.shape[1:] not in ((CELLS,), (4, 4)):
        raise ValueError(f"{name} must have the shape (N, 16) or (N, 4, 4), got {array.shape}")
    if array.dtype.kind not in "iuf" or not (np.isin(array, np.arange(NUMBERS + 1))).all():
        raise ValueError(f"{name} must hold the numbers 0..4 only (0 for a blank)")
    return array.reshape(-1, CELLS).astype(np.int8)


def _check(path: Path, puzzles: np.ndarray, solutions: np.ndarray) -> None:
    """Raise ValueError if a board is wrong, naming the first."""

    def require(good: np.ndarray, what: str) -> None:
        if not good.all():
            bad = np.flatnonzero(~good)
            raise ValueError(f"{path}: {what}; not so in {len(bad)} of {len(good)}, first {bad[0]}")

    if len(puzzles) != len(solutions):
        raise ValueError(f"{path}: has {len(puzzles)} puzzles but {len(solutions)} solutions")
    require(is_grid(solutions), "a solution holds 1..4 once in every row, column and 2x2 block")
    require(((puzzles == 0) | (puzzles == solutions)).all(axis=1), "clues agree with the solution")
    if several := int(np.sum(solution_counts(puzzles) > 1)):
        message = f"{path}: {several} of {len(puzzles)} puzzles have more than one solution; which"
        warnings.warn(f"{message} one the file means can't be known from the clues", stacklevel=3)
