"""Wrong input is an error that names the argument, before anything is compiled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

import jaxopt_layers as jl
from tests.helpers.compilations import nothing_compiled

N, P, M = 3, 2, 4
GOOD = {
    "Q": np.eye(N),
    "q": np.ones(N),
    "A": np.ones((P, N)),
    "b": np.ones(P),
    "G": np.ones((M, N)),
    "h": np.ones(M),
    "lower": -np.ones(N),
    "upper": np.ones(N),
}
SOLUTION = jl.QPSolution(
    x=np.zeros(N), y=np.zeros(P), z=np.ones(M), s=np.ones(M), z_lower=np.ones(N),
    z_upper=np.ones(N), objective=0.0, dual_objective=0.0, status=np.int32(0),
    iterations=np.int32(1), primal_residual=0.0, dual_residual=0.0, gap=0.0,
)  # fmt: skip


def changed(**fields):
    return jl.QPSolution(**(vars(SOLUTION) | fields))


ASYMMETRIC = np.eye(N) + np.triu(np.ones((N, N)), 1)

# (what is wrong, what it is replaced by, the error, words that the message must have)
SHAPES = [
    ("Q too small", {"Q": np.eye(N - 1)}, ["`Q`", "(3, 3)", "(2, 2)"]),
    ("Q not square", {"Q": np.ones((N, P))}, ["`Q`", "(3, 3)", "(3, 2)"]),
    ("Q batched", {"Q": np.stack([np.eye(N)] * 5)}, ["`Q`", "(5, 3, 3)", "jax.vmap"]),
    ("Q a scalar", {"Q": np.array(2.0)}, ["`Q`", "()"]),
    ("Q diagonal too short", {"Q": np.ones(N - 1)}, ["`Q`", "(2,)"]),
    ("q batched", {"q": np.ones((5, N))}, ["`q`", "(5, 3)", "jax.vmap"]),
    ("q a scalar", {"q": np.array(1.0)}, ["`q`", "()"]),
    ("q empty", {"q": np.ones(0)}, ["`q`", "empty"]),
    ("A a vector", {"A": np.ones(N)}, ["`A`", "(3,)"]),
    ("A transposed", {"A": np.ones((N, P))}, ["`A`", "3)", "(3, 2)"]),
    ("A batched", {"A": np.ones((5, P, N))}, ["`A`", "(5, 2, 3)"]),
    ("A with a row too many", {"A": np.ones((P + 1, N))}, ["`b`", "(3,)", "(2,)"]),
    ("b too long", {"b": np.ones(P + 1)}, ["`b`", "(2,)", "(3,)"]),
    ("b a column", {"b": np.ones((P, 1))}, ["`b`", "(2,)", "(2, 1)"]),
    ("b a scalar", {"b": np.array(1.0)}, ["`b`", "(2,)", "()"]),
    ("b batched", {"b": np.ones((5, P))}, ["`b`", "(5, 2)", "jax.vmap"]),
    ("G a vector", {"G": np.ones(N)}, ["`G`", "(3,)"]),
    ("G with too many columns", {"G": np.ones((M, N + 1))}, ["`G`", "(4, 3)", "(4, 4)"]),
    ("h too short", {"h": np.ones(M - 1)}, ["`h`", "(4,)", "(3,)"]),
    ("h a matrix", {"h": np.ones((M, M))}, ["`h`", "(4,)", "(4, 4)"]),
    ("lower too long", {"lower": np.ones(N + 1)}, ["`lower`", "(3,)", "(4,)"]),
    ("upper a matrix", {"upper": np.ones((1, N))}, ["`upper`", "(3,)", "(1, 3)"]),
    ("A without b", {"b": None}, ["`A`", "`b`"]),
    ("b without A", {"A": None}, ["`A`", "`b`"]),
    ("G without h", {"h": None}, ["`G`", "`h`"]),
    ("h without G", {"G": None}, ["`G`", "`h`"]),
    ("init of other variables", {"init": changed(x=np.ones(N + 1))}, ["`init.x`", "(3,)", "(4,)"]),
    ("init of other equalities", {"init": changed(y=np.ones(0))}, ["`init.y`", "(2,)", "(0,)"]),
    ("init of other rows", {"init": changed(z=np.ones(M - 1))}, ["`init.z`", "(4,)", "(3,)"]),
    ("init without slacks", {"init": changed(s=np.ones(0))}, ["`init.s`", "(4,)", "(0,)"]),
    ("init without bounds", {"init": changed(z_upper=np.ones(0))}, ["`init.z_upper`", "(3,)"]),
    ("init a batch", {"init": jax.tree.map(lambda v: np.stack([v] * 5), SOLUTION)}, ["`init"]),
]  # fmt: skip
TYPES = [
    ("q absent", {"q": None}, ["`q`", "required"]),
    ("Q a string", {"Q": "identity"}, ["`Q`", "str"]),
    ("Q ragged", {"Q": [[1.0, 0.0], [1.0]]}, ["`Q`"]),
    ("Q sparse", {"Q": sparse.eye(N)}, ["`Q`", "SparseMatrix"]),
    ("q complex", {"q": np.ones(N, complex)}, ["`q`", "complex128"]),
    ("q of booleans", {"q": np.ones(N, bool)}, ["`q`", "bool"]),
    ("q of objects", {"q": np.array([None] * N)}, ["`q`", "object"]),
    ("A of strings", {"A": np.full((P, N), "a")}, ["`A`"]),
    ("A a function", {"A": np.sin}, ["`A`"]),
    ("G in half precision", {"G": np.ones((M, N), np.float16)}, ["`G`", "float16"]),
    ("h in bfloat16", {"h": jnp.ones(M, jnp.bfloat16)}, ["`h`", "bfloat16"]),
    ("lower complex", {"lower": 1j}, ["`lower`", "complex"]),
    ("upper a dictionary", {"upper": {"x": 1.0}}, ["`upper`"]),
    ("settings a dictionary", {"settings": {"tolerance": 1e-6}}, ["`settings`", "Settings"]),
    ("settings a Derivative", {"settings": jl.Derivative()}, ["`settings`", "Settings"]),
    ("settings absent", {"settings": None}, ["`settings`", "None"]),
    ("init a vector", {"init": np.zeros(N)}, ["`init`", "QPSolution"]),
    ("init complex", {"init": changed(x=np.zeros(N, complex))}, ["`init.x`", "complex"]),
]
VALUES = [
    ("Q not symmetric", {"Q": ASYMMETRIC}, ["`Q`", "symmetric", "[0, 1]"]),
    ("Q with a negative diagonal", {"Q": np.diag([1.0, -1.0, 1.0])}, ["`Q`", "semidefinite"]),
    ("Q a negative diagonal", {"Q": np.array([1.0, 1.0, -1e-3])}, ["`Q`", "semidefinite"]),
    ("Q indefinite in a JAX array", {"Q": -jnp.eye(N)}, ["`Q`", "semidefinite"]),
]
KINDS = ((SHAPES, ValueError), (TYPES, TypeError), (VALUES, ValueError))
MISTAKES = [(error, *case) for table, error in KINDS for case in table]

SETTINGS = [
    (jl.Settings, {"tolerance": -1.0}, ValueError),
    (jl.Settings, {"tolerance": jnp.array(1e-6)}, TypeError),
    (jl.Settings, {"max_iterations": 2.5}, TypeError),
    (jl.Settings, {"max_iterations": 0}, ValueError),
    (jl.Settings, {"regularization": "small"}, TypeError),
    (jl.Settings, {"failed_gradient": "ignore"}, ValueError),
    (jl.Settings, {"derivative": "forward"}, TypeError),
    (jl.Settings, {"tol": 1e-6}, TypeError),
    (jl.Derivative, {"method": "newton"}, ValueError),
    (jl.Derivative, {"solver": "qr"}, ValueError),
    (jl.Derivative, {"mode": "both"}, ValueError),
    (jl.Derivative, {"smoothing": -1e-3}, ValueError),
    (jl.Derivative, {"modes": "forward"}, TypeError),
]


def call(arguments):
    jl.solve_qp(arguments.pop("Q"), arguments.pop("q"), **arguments)


def test_the_table_is_long_and_the_arguments_are_otherwise_good():
    assert len(MISTAKES) + len(SETTINGS) >= 36
    jax.eval_shape(lambda: call(dict(GOOD)))
    jax.eval_shape(lambda: call(GOOD | {"init": SOLUTION}))


@pytest.mark.parametrize(
    ("error", "name", "arguments", "words"), MISTAKES, ids=[case[1] for case in MISTAKES]
)
def test_mistake(error, name, arguments, words):
    with nothing_compiled(), pytest.raises(error) as info:
        call(GOOD | arguments)
    message = str(info.value)
    assert type(info.value) is error
    assert message.startswith("solve_qp: ")
    assert not [word for word in words if word not in message], message


@pytest.mark.parametrize(("name", "arguments", "words"), SHAPES, ids=[case[0] for case in SHAPES])
@pytest.mark.parametrize("transform", [jax.jit, jax.grad, jax.make_jaxpr])
def test_shapes_are_checked_while_tracing(transform, name, arguments, words):
    """The same message under jit and grad, with nothing compiled."""
    data = {key: value for key, value in (GOOD | arguments).items() if value is not None}
    init = data.pop("init", None)

    def traced(data):
        data = dict(data)
        return jl.solve_qp(data.pop("Q"), data.pop("q"), init=init, **data).objective

    with nothing_compiled(), pytest.raises(ValueError, match="solve_qp: ") as info:
        transform(traced)(data)
    assert not [word for word in words if word not in str(info.value)]


@pytest.mark.parametrize(("cls", "arguments", "error"), SETTINGS, ids=str)
def test_settings(cls, arguments, error):
    with nothing_compiled(), pytest.raises(error) as info:
        cls(**arguments)
    (name,) = arguments
    assert name in str(info.value)
    assert cls.__name__ in str(info.value)


def test_symmetry_is_not_demanded_of_rounding():
    """Products such as M'M are symmetric up to rounding only."""
    half = np.random.default_rng(0).normal(size=(N, N))
    Q = half @ half.T
    Q[0, 1] *= 1 + 4e-16
    for dtype in (np.float64, np.float32):
        jax.eval_shape(lambda Q=Q, dtype=dtype: jl.solve_qp(Q.astype(dtype), np.ones(N, dtype)))


def test_an_unsymmetric_tracer_counts_by_its_symmetric_part():
    solve = jax.jit(lambda Q: jl.solve_qp(Q, np.ones(N)).x)
    expected = solve((ASYMMETRIC + ASYMMETRIC.T) / 2)
    np.testing.assert_array_equal(solve(ASYMMETRIC), expected)


def test_raise_if_failed_wants_a_solution():
    with pytest.raises((TypeError, AttributeError)):
        jl.raise_if_failed(np.zeros(3))
