"""The examples run from their own command lines, in their fast setting."""

import importlib
import sys
from pathlib import Path

import pytest

from tests.helpers.marks import marked

EXAMPLES = Path(__file__).parents[1] / "examples"
# The fast run of each example that returns an exit code: some that take seconds, and are part of the first
# test command, and others.
QUICK = {
    "hyperparameters": ["--steps", "10"],
    "resource_allocation": ["--steps", "8", "--seeds", "1"],
}
OTHERS = {
    "constrained_regression": ["--steps", "8"],
    "data_poisoning": ["--steps", "5", "--shifts", "5"],
    "expressivity": ["--points", "5", "--steps", "30"],
    "mpc": ["--steps", "5"],
    "optnet_in_cvxpy": ["--steps", "15"],
    "portfolio": ["--steps", "5"],
    "robust_control": ["--steps", "8"],
    "robust_least_squares": ["--steps", "8"],
    "structured_prediction": ["--steps", "20"],
    "tv_denoising": ["--steps", "15"],
}
ARGUMENTS = QUICK | OTHERS | {"max_cut": ["--steps", "5"], "sudoku": ["--epochs", "1"]}
WITH_MAIN = sorted(
    path.stem for path in EXAMPLES.glob("*.py") if "def main(" in path.read_text(encoding="utf-8")
)


@pytest.fixture
def load(monkeypatch):
    """Import an example as its own folder would: with its own folder first on the path."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    yield importlib.import_module
    for path in EXAMPLES.glob("*.py"):
        sys.modules.pop(path.stem, None)


def check_picture(path):
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 5_000


def test_every_example_with_a_command_line_is_run_here():
    assert WITH_MAIN == sorted(ARGUMENTS)


@pytest.mark.parametrize("name", marked(QUICK | OTHERS, QUICK))
def test_fast(load, name, tmp_path, capsys):
    output = tmp_path / "new" / "figure.png"
    assert load(name).main(["--fast", *ARGUMENTS[name], "--output", str(output)]) == 0
    printed = capsys.readouterr().out
    assert "ok" in printed
    assert "FAILED" not in printed
    check_picture(output)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*QUICK, *OTHERS])
def test_in_full(load, name, tmp_path):
    """Every example reaches the number that it promises."""
    assert load(name).main(["--output", str(tmp_path / "figure.png")]) == 0


def test_sudoku(load, tmp_path, capsys):
    """A few steps bring no skill, but everything runs, and twice the same."""
    output = tmp_path / "new" / "sudoku.png"
    example = load("sudoku")
    accuracy = example.main(["--fast", "--epochs", "1", "--output", str(output)])
    assert 0 <= accuracy <= 1
    assert "test boards fully solved" in capsys.readouterr().out
    check_picture(output)


@pytest.mark.slow
def test_max_cut(load, tmp_path, capsys):
    """A few steps bring some skill, and the bound's gradient is its closed form."""
    output = tmp_path / "new" / "max_cut.png"
    accuracy = load("max_cut").main(["--fast", *ARGUMENTS["max_cut"], "--output", str(output)])
    printed = capsys.readouterr().out
    assert 0.5 <= accuracy <= 1
    assert float(printed.split("largest error ")[1].split()[0]) <= 1e-8
    check_picture(output)


@pytest.mark.slow
def test_sudoku_learns(load, tmp_path):
    """The aim of the demonstration: nearly all boards of puzzles never seen."""
    accuracy = load("sudoku").main(["--output", str(tmp_path / "sudoku.png")])
    assert accuracy >= 0.99


@pytest.mark.slow
def test_max_cut_in_full(load, tmp_path):
    """The aim of the demonstration: nearly all nodes of graphs never seen on their right side."""
    assert load("max_cut").main(["--output", str(tmp_path / "max_cut.png")]) >= 0.97


@pytest.mark.parametrize("name", WITH_MAIN)
@pytest.mark.parametrize("arguments", [["--help"], ["--no-such-option"]])
def test_command_line(load, name, arguments, capsys):
    with pytest.raises(SystemExit) as info:
        load(name).main(arguments)
    assert info.value.code == (0 if arguments == ["--help"] else 2)
    printed = capsys.readouterr()
    assert "usage" in printed.out + printed.err


class TestPuzzles:
    """The data that the Sudoku layer is judged by."""

    @pytest.fixture
    def sets(self, load):
        return load("sudoku_puzzles").generate(200, 60, seed=3)

    def test_train_and_test_are_disjoint(self, sets):
        train, test = ({grid.tobytes() for grid in one.solutions} for one in sets)
        assert not train & test

    def test_clues_belong_to_the_solution(self, sets):
        for one in sets:
            given = one.puzzles > 0
            assert (one.puzzles == one.solutions * given).all()
            assert (~given).any(axis=tuple(range(1, given.ndim))).all()

    def test_solutions_are_sudokus(self, sets):
        for one in sets:
            grids = one.solutions.reshape(-1, 4, 4)
            boxes = grids.reshape(-1, 2, 2, 2, 2).swapaxes(2, 3).reshape(-1, 4, 4)
            for units in (grids, grids.swapaxes(1, 2), boxes):
                ordered = units.copy()
                ordered.sort(axis=2)
                assert (ordered == [[1, 2, 3, 4]]).all()

    def test_seeded(self, load):
        module = load("sudoku_puzzles")
        one, same, other = (module.generate(20, 5, seed=seed)[0] for seed in (1, 1, 2))
        assert (one.puzzles == same.puzzles).all()
        assert (one.puzzles != other.puzzles).any()
