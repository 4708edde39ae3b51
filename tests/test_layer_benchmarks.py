"""Every transformation of every problem that `benchmarks/layer_speed.py` times, at its small size."""

import sys
import warnings
from pathlib import Path

import cvxpy as cp
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_layers as jl
from jaxopt_layers.cvxpy_layer import CvxpyLayer

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))
from layer_problems import FAMILIES, find_family, make_batch

# Of differences of our gradients, and of the reference's solutions, which have fewer digits.
STEP, WIDE = 1e-4, 3e-3
FORWARD = jl.Settings(derivative=jl.Derivative(mode="forward"))

pytestmark = pytest.mark.slow


def reference(model, values):
    """The variables by CVXPY with Clarabel."""
    for parameter, value in zip(model.parameters, values, strict=True):
        parameter.value = np.asarray(value)
    accuracy = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas"), 1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that so much accuracy is not always reached
        model.problem.solve(solver=cp.CLARABEL, gp=model.gp, **accuracy)
    return [np.asarray(variable.value) for variable in model.variables]


def direction(model, values, rng):
    """A change of the parameters that keeps them what they are declared to be."""
    changes = []
    for parameter, value in zip(model.parameters, values, strict=True):
        change = 0.1 * rng.standard_normal(value.shape)
        if parameter.is_symmetric() and value.ndim == 2:
            change = change + change.T
        changes.append(change * np.abs(value) if parameter.is_nonneg() else change)
    return changes


@pytest.mark.parametrize("name", [family.name for family in FAMILIES])
def test_all_transformations(name):
    batch = make_batch(find_family(name), quick=True)
    model = batch.model
    rng = np.random.default_rng(7)
    layers = [
        CvxpyLayer(model.problem, model.parameters, model.variables, gp=model.gp, settings=settings)
        for settings in (jl.Settings(), FORWARD, jl.Settings(tolerance=1e-12))
    ]
    reverse, forward, precise = (jax.jit(lambda *v, layer=layer: layer(*v)) for layer in layers)

    values = [jnp.asarray(value[0]) for value in batch.values]
    found = reverse(*values)
    for ours, theirs in zip(found, reference(model, values), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)

    change = [jnp.asarray(part) for part in direction(model, values, rng)]
    cotangents = [jnp.asarray(value[0]) for value in batch.cotangents]

    def weighted(layer, *values):
        return sum(jnp.vdot(c, x) for c, x in zip(cotangents, layer(*values), strict=True))

    def along(layer):
        return lambda t: weighted(layer, *(v + t * d for v, d in zip(values, change, strict=True)))

    def by_reference(t):
        moved = [v + t * d for v, d in zip(values, change, strict=True)]
        return sum(np.vdot(c, x) for c, x in zip(cotangents, reference(model, moved), strict=True))

    # Five-point differences of an independent solver, in one direction.
    near, far = (by_reference(k * WIDE) - by_reference(-k * WIDE) for k in (1, 2))
    slope = (8 * near - far) / (12 * WIDE)
    scale = abs(slope) + 1e-2
    ends = [along(precise)(sign * STEP) for sign in (1, -1)]
    own_slope = (ends[0] - ends[1]) / (2 * STEP)

    gradient = jax.grad(lambda *v: weighted(reverse, *v), argnums=tuple(range(len(values))))
    batched = jax.jit(jax.vmap(gradient))(*(jnp.stack([v, v]) for v in values))
    for member in range(2):
        by_gradient = sum(jnp.vdot(g[member], d) for g, d in zip(batched, change, strict=True))
        assert abs(by_gradient - slope) < 5e-5 * scale  # what the reference's digits allow
        assert abs(by_gradient - own_slope) < 1e-6 * scale
    by_jacobian = jax.jacrev(along(reverse))(0.0)
    np.testing.assert_allclose(by_jacobian, by_gradient, rtol=1e-8, atol=1e-9)
    _, by_tangent = jax.jvp(along(forward), (0.0,), (1.0,))
    np.testing.assert_allclose(by_tangent, by_gradient, rtol=1e-6, atol=1e-8)

    second = jax.jit(jax.hessian(along(forward)))(0.0)
    slopes = [jax.grad(along(reverse))(sign * STEP) for sign in (1, -1)]
    differences = (slopes[0] - slopes[1]) / (2 * STEP)
    np.testing.assert_allclose(second, differences, rtol=1e-4, atol=1e-4 * scale)
