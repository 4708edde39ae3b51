"""What counts as proof that a problem has no solution, whatever the units of its data."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_layers import Settings, Status
from jaxopt_layers.cones import orthant_product
from jaxopt_layers.equilibrate import equilibrate, scale
from jaxopt_layers.implicit.data import Data, Layout, Marks
from jaxopt_layers.ipm.state import RUNNING, Iterate, evaluate
from jaxopt_layers.ipm.terminate import Measure, certificate, measure
from jaxopt_layers.settings import tolerances

UNITS = pytest.mark.parametrize("units", [1e-3, 1.0, 1e4, 1e8])


def judged(linear, entry, offset, x, z):
    """The status that (x, z), in user's units, proves of: minimize linear x subject to entry x <= offset."""
    cone = orthant_product(0, 1)
    layout = Layout(equalities=0, lower=False, upper=False, cone=cone)
    column = jnp.ones(1)
    data = Data(None, linear * column, entry * jnp.ones((1, 1)), offset * column)
    program = layout.program(data, Marks(active=column, valid=jnp.ones(())))
    scaling = equilibrate(program, cone, 12)
    scaled = scale(program, scaling)
    u = [scaling.scale_primal(x * column), scaling.scale_dual(z * column)]
    s = scaling.scale_slack(jnp.maximum(-entry * x, 0) * column)
    iterate = Iterate(u=jnp.concatenate(u), s=s, tau=jnp.zeros(()), kappa=jnp.ones(()))
    measured = Measure(*measure(scaled, scaling, iterate, evaluate(scaled, iterate)))
    limits = tolerances(Settings(), np.dtype(np.float64))
    return int(certificate(measured, iterate, limits))


@UNITS
def test_infeasible(units):
    """0 x <= -units."""
    assert (
        judged(linear=0.0, entry=0.0, offset=-units, x=0.0, z=1 / units) == Status.PRIMAL_INFEASIBLE
    )


@UNITS
def test_unbounded(units):
    """Minimize -units x."""
    assert judged(linear=-units, entry=-1.0, offset=0.0, x=1.0, z=0.0) == Status.DUAL_INFEASIBLE


@UNITS
def test_a_large_solution_in_large_units_is_no_proof(units):
    """-1e-5 x <= -units: z = 1 falls by units and leaves 1e-5, a billionth part; x = 1e5 units solves it."""
    assert judged(linear=0.0, entry=-1e-5, offset=-units, x=0.0, z=1.0) == RUNNING


@UNITS
def test_a_large_multiplier_in_large_units_is_no_proof(units):
    """Minimize -units x subject to 1e-5 x <= 0, which z = 1e5 units solves."""
    assert judged(linear=-units, entry=1e-5, offset=0.0, x=1.0, z=0.0) == RUNNING
