"""How much the loop adds to the diagonals of the next KKT matrix."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_layers.ipm.regularization import next_regularization

FIRST = 1e-8


def following(last, *, refined=True, finite=True, inaccurate=False, diverged=False):
    flags = (jnp.asarray(flag) for flag in (refined, finite, inaccurate, diverged))
    return float(next_regularization(jnp.asarray(last), FIRST, *flags))


@pytest.mark.parametrize("last", [1e-12, FIRST, 1e-4])
def test_a_breakdown_asks_for_more_whatever_else_is_true(last):
    for flags in ({}, {"refined": False}, {"inaccurate": True}, {"diverged": True}):
        np.testing.assert_allclose(following(last, finite=False, **flags), 100 * last)


@pytest.mark.parametrize("refined", [False, True])
def test_accurate_steps_leave_it(refined):
    assert following(FIRST, refined=refined) == FIRST


def test_an_inaccurate_step_is_refined_before_anything_else():
    assert following(FIRST, refined=False, inaccurate=True, diverged=True) == FIRST


def test_where_refinement_does_not_help_it_shrinks_to_a_part():
    last = FIRST
    for _ in range(8):
        last = following(last, inaccurate=True)
    np.testing.assert_allclose(last, 1e-4 * FIRST)


def test_residuals_that_grow_bring_it_back_and_no_further():
    last = 1e-4 * FIRST
    for _ in range(4):
        last = following(last, inaccurate=True, diverged=True)
    np.testing.assert_allclose(last, FIRST)
    # What a breakdown asked for is not taken back.
    np.testing.assert_allclose(following(1e-4, inaccurate=True, diverged=True), 1e-4)
