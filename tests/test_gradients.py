"""Reverse-mode derivatives of every output in every input: central differences and closed forms."""

import numpy as np
import pytest

from tests.helpers import compiled
from tests.helpers.gradients import gradient_errors, random_cotangents
from tests.helpers.marks import marked
from tests.helpers.oracles import clarabel_qp
from tests.helpers.problems import CASES, OUTPUTS, random_qp, stack
from tests.helpers.tolerances import F64

# The first five have one shape and share a program. What needs yet another program is slow.
QUICK_CASES = {"full", "infinite", "coinciding", "redundant", "scaled"}
QUICK_CASES |= {"linear", "equalities", "unconstrained", "simplex", "bounds"}
# n, m, p, and what else random_qp is told.
SIZES = {
    "mixed": (10, 10, 3, {"bounds": True}),
    "small": (4, 3, 1, {}),
    "inequalities": (5, 8, 0, {}),
    "linear": (8, 10, 2, {"active": 6, "quadratic": None}),
    "box": (12, 0, 4, {"bounds": True, "quadratic": "diagonal"}),
}
QUICK_SIZES = ("mixed",)
BATCH = 20


def assert_gradients(rng, data, inputs, outputs, cotangents, gradients):
    """Every pair of output and input agrees with the differences."""
    gradients = {name: np.asarray(gradient) for name, gradient in gradients.items()}
    errors = gradient_errors(rng, data, inputs, outputs, cotangents, gradients)
    assert len(errors) == len(inputs) * len(outputs)
    wrong = {
        pair: f"{error:.1e} of {size:.1e}"
        for pair, (error, size) in errors.items()
        if not error <= F64.gradient * size + F64.zero
    }
    assert not wrong


@pytest.mark.parametrize("name", marked(CASES, QUICK_CASES))
def test_named_problem(name, rng):
    """Each problem of the table, wherever its solution map is smooth."""
    case = CASES[name]
    cotangents = random_cotangents(rng, compiled.shapes(case.data), case.units)
    _, gradients = compiled.pull(case.data, cotangents)
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients.values())
    assert_gradients(rng, case.data, case.inputs, case.outputs, cotangents, gradients)


@pytest.mark.parametrize("size", marked(SIZES, QUICK_SIZES))
def test_random_problems(size, rng):
    """Twenty well-posed random problems a size, as one batch; a hundred in all."""
    n, m, p, options = SIZES[size]
    problems = [random_qp(rng, n, m, p, **options) for _ in range(BATCH)]
    cotangents = random_cotangents(rng, compiled.shapes(problems[0].data))
    _, gradients = compiled.pull_batch(stack(problems).data, cotangents)
    for i, problem in enumerate(problems):
        member = {name: gradient[i] for name, gradient in gradients.items()}
        inputs = tuple(problem.data)
        assert_gradients(rng, problem.data, inputs, OUTPUTS, cotangents, member)


def test_objective_is_an_envelope(rng):
    """The optimal value's gradient is that of the Lagrangian at the solution."""
    data = CASES["full"].data
    want = clarabel_qp(**data)
    x, y, z = want["x"], want["y"], want["z"]
    envelope = {
        "Q": np.outer(x, x) / 2,
        "q": x,
        "A": np.outer(y, x),
        "b": -y,
        "G": np.outer(z, x),
        "h": -z,
        "lower": want["z_lower"],
        "upper": -want["z_upper"],
    }
    cotangents = random_cotangents(rng, compiled.shapes(data))
    _, gradients = compiled.pull(data, cotangents)
    for output in ("objective", "dual_objective"):
        row = int(np.flatnonzero(cotangents[output])[0])
        for name, expected in envelope.items():
            got = gradients[name][row] / cotangents[output][row]
            np.testing.assert_allclose(got, expected, rtol=0, atol=F64.exact)


def test_gradient_in_Q_is_symmetric(rng):
    """A perturbation of Q counts by its symmetric part, and so the gradient is symmetric."""
    data = CASES["full"].data
    _, gradients = compiled.pull(data, random_cotangents(rng, compiled.shapes(data)))
    transposed = np.swapaxes(gradients["Q"], 1, 2)
    np.testing.assert_allclose(gradients["Q"], transposed, rtol=1e-12, atol=1e-13)


def jacobians(rng, data, output="x"):
    """The Jacobians of one output by input, from the program that the other tests compiled."""
    cotangents = random_cotangents(rng, compiled.shapes(data))
    size = cotangents[output].shape[1]
    cotangents = {name: np.zeros_like(rows) for name, rows in cotangents.items()}
    cotangents[output][:size] = np.eye(size)
    _, gradients = compiled.pull(data, cotangents)
    return {name: np.asarray(gradient)[:size] for name, gradient in gradients.items()}


def test_unconstrained_closed_form(rng):
    """x = -Q^-1 q: its Jacobians are -Q^-1 and the symmetrized -Q^-1 dQ x."""
    data = CASES["unconstrained"].data
    inverse = np.linalg.inv(data["Q"])
    x = -inverse @ data["q"]
    got = jacobians(rng, data)
    np.testing.assert_allclose(got["q"], -inverse, rtol=1e-10, atol=1e-12)
    product = np.einsum("ij,k->ijk", inverse, x)
    want = -(product + np.swapaxes(product, 1, 2)) / 2
    np.testing.assert_allclose(got["Q"], want, rtol=1e-10, atol=1e-12)


def test_equality_constrained_closed_form(rng):
    """The Jacobian of (x, y) in (-q, b) is the inverse of the KKT matrix."""
    data = CASES["equalities"].data
    matrix = np.block([[data["Q"], data["A"].T], [data["A"], np.zeros((2, 2))]])
    of_x, of_y = jacobians(rng, data, "x"), jacobians(rng, data, "y")
    got = np.block([[-of_x["q"], of_x["b"]], [-of_y["q"], of_y["b"]]])
    np.testing.assert_allclose(got, np.linalg.inv(matrix), rtol=1e-9, atol=1e-11)


def test_simplex_projection_closed_form(rng):
    """On the support of k entries the Jacobian of the projection is I - 11'/k, elsewhere zero."""
    data = CASES["simplex"].data
    support = (clarabel_qp(**data)["x"] > 1e-6).astype(float)
    assert 1 < support.sum() < 5
    want = np.diag(support) - np.outer(support, support) / support.sum()
    got = jacobians(rng, data)
    np.testing.assert_allclose(-got["q"], want, rtol=0, atol=F64.exact)
    np.testing.assert_allclose(got["b"][:, 0], support / support.sum(), rtol=0, atol=F64.exact)


def test_box_projection_closed_form(rng):
    """Clipping: derivative one in the point inside, in the bound outside, and zero otherwise."""
    point = np.array([-1.0, 0.3, 2.0, 0.9, -0.2, 1.5])
    data = {"Q": np.eye(6), "q": -point, "lower": np.zeros(6), "upper": np.ones(6)}
    got = jacobians(rng, data)
    inside, below, above = (point > 0) & (point < 1), point < 0, point > 1
    for jacobian, where in ((-got["q"], inside), (got["lower"], below), (got["upper"], above)):
        np.testing.assert_allclose(jacobian, np.diag(1.0 * where), rtol=0, atol=F64.exact)
