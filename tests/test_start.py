"""Where the loop starts, and how many iterations that leaves."""

import jax.numpy as jnp
import numpy as np

from jaxopt_layers.cones import orthant_product
from jaxopt_layers.implicit.data import Data, Layout, Marks
from jaxopt_layers.ipm.start import least_squares_point
from tests.helpers.compiled import solve_batch
from tests.helpers.problems import random_qp, stack


def test_a_quadratic_program_starts_centred(rng):
    """All products are equal, s - z is what the least-squares solution says, and equalities have no slack."""
    n, p, m = 4, 2, 5
    layout = Layout(equalities=p, lower=False, upper=False, cone=orthant_product(p, m))
    data = Data(jnp.eye(n), jnp.ones(n), jnp.asarray(rng.normal(size=(p + m, n))), jnp.ones(p + m))
    program = layout.program(data, Marks(active=jnp.ones(p + m), valid=jnp.ones(())))
    solved = jnp.asarray(rng.normal(size=n + p + m))
    point = least_squares_point(program, layout.cone, solved, jnp.zeros_like(solved))
    x, z = program.split(point.u)
    np.testing.assert_array_equal(x, solved[:n])
    np.testing.assert_array_equal(point.s[:p], 0)
    np.testing.assert_allclose(z[:p], solved[n : n + p])
    inequalities = solved[n + p :]
    np.testing.assert_allclose(point.s[p:] - z[p:], -inequalities, rtol=1e-12)
    mean_square = np.mean(np.square(inequalities))
    np.testing.assert_allclose(point.s[p:] * z[p:], np.full(m, mean_square), rtol=1e-12)
    np.testing.assert_allclose(point.kappa, mean_square, rtol=1e-12)


def test_random_problems_take_few_iterations(rng):
    """Measured: 8.5 on the mean; 9.1 from a start that is pushed into the cone until all numbers are one."""
    problems = stack([random_qp(rng, 12, 14, 3) for _ in range(64)])
    iterations = np.asarray(solve_batch(problems.data).iterations)
    assert iterations.mean() < 8.8
