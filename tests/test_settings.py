"""Settings and Derivative: frozen, hashable, and checked as they are made."""

import dataclasses

import jax.numpy as jnp
import pytest

import jaxopt_layers as jl
from jaxopt_layers.settings import tolerances

BAD = [
    (jl.Settings, {"tolerance": 0.0}, ValueError),
    (jl.Settings, {"tolerance": -1e-8}, ValueError),
    (jl.Settings, {"tolerance": float("nan")}, ValueError),
    (jl.Settings, {"tolerance": "1e-8"}, TypeError),
    (jl.Settings, {"tolerance": True}, TypeError),
    (jl.Settings, {"infeasibility_tolerance": float("inf")}, ValueError),
    (jl.Settings, {"regularization": 0.0}, ValueError),
    (jl.Settings, {"regularization": jnp.ones(())}, TypeError),
    (jl.Settings, {"max_iterations": 0}, ValueError),
    (jl.Settings, {"max_iterations": 1e2}, TypeError),
    (jl.Settings, {"max_iterations": True}, TypeError),
    (jl.Settings, {"refinement_steps": -1}, ValueError),
    (jl.Settings, {"equilibration_passes": None}, TypeError),
    (jl.Settings, {"derivative": "kkt"}, TypeError),
    (jl.Settings, {"failed_gradient": "inf"}, ValueError),
    (jl.Derivative, {"method": "unrolled"}, ValueError),
    (jl.Derivative, {"solver": "cholesky"}, ValueError),
    (jl.Derivative, {"mode": "backward"}, ValueError),
    (jl.Derivative, {"smoothing": -1e-6}, ValueError),
    (jl.Derivative, {"smoothing": None}, TypeError),
]


@pytest.mark.parametrize(("cls", "arguments", "error"), BAD, ids=str)
def test_bad_values_name_the_field_and_what_was_given(cls, arguments, error):
    (name, value), *_ = arguments.items()
    with pytest.raises(error) as info:
        cls(**arguments)
    message = str(info.value)
    assert message.startswith(f"{cls.__name__}: `{name}` must be")
    assert repr(value) in message or type(value).__name__ in message


@pytest.mark.parametrize("cls", [jl.Settings, jl.Derivative])
def test_equal_by_value_and_hashable(cls):
    assert cls() == cls()
    assert hash(cls()) == hash(cls())


def test_every_field_takes_part_in_equality():
    changed = {
        "tolerance": 1e-3,
        "infeasibility_tolerance": 1e-3,
        "max_iterations": 7,
        "regularization": 1e-3,
        "refinement_steps": 0,
        "equilibration_passes": 0,
        "factorization": "dense",
        "derivative": jl.Derivative(mode="forward"),
        "failed_gradient": "nan",
    }
    assert set(changed) == {field.name for field in dataclasses.fields(jl.Settings)}
    variants = {jl.Settings(**{name: value}) for name, value in changed.items()}
    assert len(variants | {jl.Settings()}) == len(changed) + 1


@pytest.mark.parametrize(
    ("record", "name"), [(jl.Settings(), "tolerance"), (jl.Derivative(), "mode")]
)
def test_frozen(record, name):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, name, None)


def test_tolerances_follow_the_dtype():
    double = tolerances(jl.Settings(), jnp.float64)
    single = tolerances(jl.Settings(), jnp.float32)
    assert (double.tolerance, single.tolerance) == (1e-9, 1e-5)
    assert (double.infeasibility, single.infeasibility) == (1e-8, 1e-5)
    for limits in (double, single):
        assert limits.reduced_tolerance > limits.tolerance
        assert limits.regularization > 0


def test_no_tolerance_is_finer_than_rounding():
    for dtype in (jnp.float32, jnp.float64):
        finest = tolerances(jl.Settings(tolerance=1e-30), dtype).tolerance
        assert finest == 64 * jnp.finfo(dtype).eps


@pytest.mark.parametrize("tolerance", [1e-12, 1e-6, 1e-2])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_given_values_win_over_the_defaults(tolerance, dtype):
    settings = jl.Settings(
        tolerance=tolerance, infeasibility_tolerance=tolerance, regularization=tolerance
    )
    limits = tolerances(settings, dtype)
    assert limits.infeasibility == limits.regularization == tolerance
    assert limits.tolerance == max(tolerance, 64 * jnp.finfo(dtype).eps)
    assert limits.reduced_tolerance >= tolerance
