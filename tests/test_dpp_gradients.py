"""Gradients of the table of expressions, through the layer, against differences of Clarabel's optima."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_layers as jl
from tests.helpers import convex_problems as problems
from tests.helpers.convex_expressions import table
from tests.test_dpp import cvxpy_problem

cp = pytest.importorskip("cvxpy")
TABLE = table(cp)
VALID = [name for name, (_, theirs) in TABLE.items() if cvxpy_problem(theirs)[1].is_dcp()]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"
    ),
]
STEP = 1e-4


def direction(rng):
    """A random change of every parameter; that of M is symmetric."""
    change = {name: rng.normal(size=np.shape(v)) for name, v in problems.PARAMETERS.items()}
    change["M"] = change["M"] + change["M"].T
    return change


@pytest.mark.parametrize("name", VALID)
def test_gradient_of_the_optimum(name, rng):
    ours, theirs = TABLE[name]
    function = problems.tilted(ours, cvxpy_problem(theirs)[0])
    layer = jl.convex_layer(function, **problems.SHAPES)
    gradient = jax.jit(jax.grad(lambda parameters: layer(**parameters).value))(
        jax.tree.map(jnp.asarray, problems.PARAMETERS)
    )
    change = direction(rng)
    ends = []
    for step in (STEP, -STEP):
        moved = {name: v + step * change[name] for name, v in problems.PARAMETERS.items()}
        ends.append(problems.optimum(function, problems.SHAPES, moved))
    expected = (ends[0] - ends[1]) / (2 * STEP)
    found = sum(float(jnp.sum(gradient[name] * change[name])) for name in change)
    assert found == pytest.approx(expected, rel=1e-5, abs=1e-5)
