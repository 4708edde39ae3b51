"""Wrong input to `solve_cone` is an error that names the argument, before anything is compiled."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

import jaxopt_layers as jl
from tests.helpers.compilations import nothing_compiled

N, M = 3, 5
CONES = jl.Cones(zero=1, nonnegative=1, second_order=(3,))
GOOD = {
    "A": np.ones((M, N)),
    "b": np.ones(M),
    "c": np.ones(N),
    "cones": CONES,
    "P": np.eye(N),
}
SOLUTION = jl.ConeSolution(
    x=np.zeros(N), y=np.ones(M), s=np.ones(M), objective=0.0, dual_objective=0.0,
    status=np.int32(0), iterations=np.int32(1), primal_residual=0.0, dual_residual=0.0, gap=0.0,
)  # fmt: skip
QP = jl.QPSolution(
    x=np.zeros(N), y=np.zeros(1), z=np.ones(M), s=np.ones(M), z_lower=np.ones(0),
    z_upper=np.ones(0), objective=0.0, dual_objective=0.0, status=np.int32(0),
    iterations=np.int32(1), primal_residual=0.0, dual_residual=0.0, gap=0.0,
)  # fmt: skip
ASYMMETRIC = np.eye(N) + np.triu(np.ones((N, N)), 1)
BATCH = jax.tree.map(lambda v: np.stack([v] * 5), SOLUTION)

# (what is wrong, what it is replaced by, words that the message must have)
SHAPES = [
    ("A a vector", {"A": np.ones(N)}, ["`A`", "(5, 3)", "(3,)"]),
    ("A transposed", {"A": np.ones((N, M))}, ["`A`", "(5, 3)", "(3, 5)"]),
    ("A batched", {"A": np.ones((2, M, N))}, ["`A`", "(2, 5, 3)", "jax.vmap"]),
    ("A a scalar", {"A": np.array(1.0)}, ["`A`", "()"]),
    ("A with a column too many", {"A": np.ones((M, N + 1))}, ["`A`", "(5, 4)"]),
    ("A with a row too many", {"A": np.ones((M + 1, N))}, ["`cones`", "`A`", "5 rows", "6"]),
    ("A without rows", {"A": np.ones((0, N))}, ["`cones`", "`A`", "0"]),
    ("b too long", {"b": np.ones(M + 1)}, ["`b`", "(5,)", "(6,)"]),
    ("b a column", {"b": np.ones((M, 1))}, ["`b`", "(5,)", "(5, 1)"]),
    ("b a scalar", {"b": np.array(1.0)}, ["`b`", "(5,)", "()"]),
    ("b batched", {"b": np.ones((2, M))}, ["`b`", "(2, 5)", "jax.vmap"]),
    ("c empty", {"c": np.ones(0)}, ["`c`", "n >= 1", "(0,)"]),
    ("c a scalar", {"c": np.array(1.0)}, ["`c`", "()"]),
    ("c batched", {"c": np.ones((2, N))}, ["`c`", "(2, 3)", "jax.vmap"]),
    ("c a row", {"c": np.ones((1, N))}, ["`c`", "(1, 3)"]),
    ("c of other variables", {"c": np.ones(N + 1)}, ["`A`", "(5, 4)", "(5, 3)"]),
    ("cones with too many rows", {"cones": replace(CONES, nonnegative=2)}, ["`cones`", "6 rows"]),
    ("cones empty", {"cones": jl.Cones()}, ["`cones`", "0 rows", "5"]),
    ("cones with a matrix's side for its rows", {"cones": jl.Cones(psd=(5,))}, ["`cones`", "15"]),
    ("P too small", {"P": np.eye(N - 1)}, ["`P`", "(3, 3)", "(2, 2)"]),
    ("P not square", {"P": np.ones((N, M))}, ["`P`", "(3, 3)", "(3, 5)"]),
    ("P a scalar", {"P": np.array(2.0)}, ["`P`", "()"]),
    ("P diagonal too short", {"P": np.ones(N - 1)}, ["`P`", "(3,)", "(2,)"]),
    ("P batched", {"P": np.stack([np.eye(N)] * 5)}, ["`P`", "(5, 3, 3)", "jax.vmap"]),
    ("init of other variables", {"init": replace(SOLUTION, x=np.ones(N + 1))}, ["`init.x`", "(3,)"]),
    ("init of other rows", {"init": replace(SOLUTION, y=np.ones(M - 1))}, ["`init.y`", "(4,)"]),
    ("init without slacks", {"init": replace(SOLUTION, s=np.ones(0))}, ["`init.s`", "(0,)"]),
    ("init a batch", {"init": BATCH}, ["`init.x`", "jax.vmap"]),
]  # fmt: skip
TYPES = [
    ("A absent", {"A": None}, ["`A`", "required"]),
    ("b absent", {"b": None}, ["`b`", "required"]),
    ("c absent", {"c": None}, ["`c`", "required"]),
    ("A a string", {"A": "identity"}, ["`A`", "str"]),
    ("A ragged", {"A": [[1.0, 0.0], [1.0]]}, ["`A`"]),
    ("A of booleans", {"A": np.ones((M, N), bool)}, ["`A`", "bool"]),
    ("A a function", {"A": np.sin}, ["`A`"]),
    ("b complex", {"b": np.ones(M, complex)}, ["`b`", "complex128"]),
    ("b of objects", {"b": np.array([None] * M)}, ["`b`", "object"]),
    ("c of strings", {"c": np.full(N, "a")}, ["`c`"]),
    ("c in half precision", {"c": np.ones(N, np.float16)}, ["`c`", "float16"]),
    ("c in bfloat16", {"c": jnp.ones(N, jnp.bfloat16)}, ["`c`", "bfloat16"]),
    ("P sparse", {"P": sparse.eye(N)}, ["`P`"]),
    ("P complex", {"P": 1j * np.eye(N)}, ["`P`", "complex"]),
    ("P a dictionary", {"P": {"x": 1.0}}, ["`P`"]),
    ("cones a dictionary", {"cones": {"nonnegative": 5}}, ["`cones`", "Cones", "dict"]),
    ("cones a number", {"cones": 5}, ["`cones`", "Cones", "int"]),
    ("cones absent", {"cones": None}, ["`cones`", "NoneType"]),
    ("cones the class", {"cones": jl.Cones}, ["`cones`", "type"]),
    ("settings a dictionary", {"settings": {"tolerance": 1e-6}}, ["`settings`", "Settings"]),
    ("settings a Derivative", {"settings": jl.Derivative()}, ["`settings`", "Settings"]),
    ("settings absent", {"settings": None}, ["`settings`", "None"]),
    ("init a vector", {"init": np.zeros(N)}, ["`init`", "ConeSolution"]),
    ("init of a QP", {"init": QP}, ["`init`", "ConeSolution", "QPSolution"]),
    ("init complex", {"init": replace(SOLUTION, x=np.zeros(N, complex))}, ["`init.x`", "complex"]),
]  # fmt: skip
VALUES = [
    ("P not symmetric", {"P": ASYMMETRIC}, ["`P`", "symmetric", "[0, 1]"]),
    ("P with a negative diagonal", {"P": np.diag([1.0, -1.0, 1.0])}, ["`P`", "semidefinite"]),
    ("P a negative diagonal", {"P": np.array([1.0, 1.0, -1e-3])}, ["`P`", "semidefinite"]),
    ("P indefinite in a JAX array", {"P": -jnp.eye(N)}, ["`P`", "semidefinite"]),
]
KINDS = ((SHAPES, ValueError), (TYPES, TypeError), (VALUES, ValueError))
MISTAKES = [(error, *case) for table, error in KINDS for case in table]


def call(arguments):
    return jl.solve_cone(**arguments)


def test_the_table_is_long_and_the_arguments_are_otherwise_good():
    assert len(MISTAKES) >= 50
    jax.eval_shape(lambda: call(GOOD))
    jax.eval_shape(lambda: call(GOOD | {"init": SOLUTION}))


@pytest.mark.parametrize(
    ("error", "name", "arguments", "words"), MISTAKES, ids=[case[1] for case in MISTAKES]
)
def test_mistake(error, name, arguments, words):
    with nothing_compiled(), pytest.raises(error) as info:
        call(GOOD | arguments)
    message = str(info.value)
    assert type(info.value) is error
    assert message.startswith("solve_cone: ")
    assert not [word for word in words if word not in message], message


@pytest.mark.parametrize(("name", "arguments", "words"), SHAPES, ids=[case[0] for case in SHAPES])
@pytest.mark.parametrize("transform", [jax.jit, jax.grad, jax.make_jaxpr])
def test_shapes_are_checked_while_tracing(transform, name, arguments, words):
    """The same message under jit and grad, with nothing compiled."""
    given = GOOD | arguments
    fixed = {key: given.pop(key) for key in ("cones", "init") if key in given}

    def traced(data):
        return call(data | fixed).objective

    with nothing_compiled(), pytest.raises(ValueError, match="solve_cone: ") as info:
        transform(traced)(given)
    assert not [word for word in words if word not in str(info.value)]


@pytest.mark.parametrize(
    "batch",
    [{"A": 0}, {"b": 0}, {"A": 0, "b": 0, "c": 0, "P": 0}],
    ids=lambda axes: "".join(axes),
)
def test_vmap_takes_the_batch_away(batch):
    """What the message advises works."""
    data = {name: GOOD[name] for name in ("A", "b", "c", "P")}
    axes = {name: batch.get(name) for name in data}
    data = {name: np.stack([v] * 2) if name in batch else v for name, v in data.items()}
    mapped = jax.vmap(lambda data: call(data | {"cones": CONES}), (axes,))
    assert jax.eval_shape(mapped, data).x.shape == (2, N)


def test_integers_are_converted_and_the_widest_float_wins():
    def result(**dtypes):
        data = {name: GOOD[name].astype(dtypes.get(name, np.float32)) for name in "Abc"}
        return jax.eval_shape(lambda: jl.solve_cone(**data, cones=CONES)).x.dtype

    assert result() == np.float32
    assert result(A=np.int32) == np.float32
    assert result(b=np.float64) == np.float64
    assert result(A=np.int32, b=np.int64, c=np.int8) == np.float64


def test_symmetry_is_not_demanded_of_rounding():
    """Products such as M'M are symmetric up to rounding only."""
    half = np.random.default_rng(0).normal(size=(N, N))
    P = half @ half.T
    P[0, 1] *= 1 + 4e-16
    for dtype in (np.float64, np.float32):
        jax.eval_shape(lambda P=P, dtype=dtype: call(GOOD | {"P": P.astype(dtype)}))
