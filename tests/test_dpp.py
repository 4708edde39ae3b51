"""The grammar: verdicts and optima against CVXPY, messages in full, trees, speed."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_layers as jl
from jaxopt_layers.dpp.program import build
from tests.helpers import convex_problems as problems
from tests.helpers.convex_expressions import table

cp = pytest.importorskip("cvxpy")
TABLE = table(cp)
pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning"
)


def cvxpy_problem(entry):
    """Whether the expression is minimized, and the problem that is made of it in CVXPY."""
    names = problems.cvxpy_names(cp)
    expression = entry(names)
    minimized = bool(expression.is_convex()) or not expression.is_concave()
    return minimized, problems.cvxpy_problem(cp, names, expression, minimized)


@pytest.mark.parametrize("name", TABLE)
def test_verdicts_and_optima_are_cvxpys(name):
    ours, theirs = TABLE[name]
    minimized, theirs = cvxpy_problem(theirs)
    ours = problems.tilted(ours, minimized)
    found, _ = problems.traced(ours, problems.SHAPES, problems.PARAMETERS)
    assert problems.verdicts(found) == (theirs.is_dcp(), theirs.is_dcp(dpp=True))
    if theirs.is_dcp():
        value = problems.optimum(ours, problems.SHAPES, problems.PARAMETERS)
        assert value == pytest.approx(problems.cvxpy_optimum(cp, theirs), rel=1e-6, abs=1e-6)


def test_table_is_large_enough():
    valid = sum(cvxpy_problem(theirs)[1].is_dcp() for _, theirs in TABLE.values())
    assert valid >= 60
    assert len(TABLE) - valid >= 60


MESSAGES = {
    "root of squares": (
        lambda x: jl.minimize(jnp.sqrt(jnp.sum(x**2))),
        {},
        False,
        """\
The objective of jl.minimize is not convex by the DCP rules: `jnp.sqrt(jnp.sum(x**2))` breaks them.
  File "FILE", line LINE
    lambda x: jl.minimize(jnp.sqrt(jnp.sum(x**2))),
                          ^^^^^^^^^^^^^^^^^^^^^^^
sqrt is concave and, at an argument of this sign, nondecreasing in argument 0, which must be concave; \
it is convex, nonnegative.
Instead: write the norm: jl.norm2(x) (or jnp.linalg.norm(x)) for sqrt(sum(x ** 2)).""",
    ),
    "two parameters": (
        lambda x, a, b: jl.minimize(jnp.sum(a * b * x)),
        {"a": 1.0, "b": 2.0},
        True,
        """\
The objective of jl.minimize is not convex by the DPP rules: `a * b` breaks them.
  File "FILE", line LINE
    lambda x, a, b: jl.minimize(jnp.sum(a * b * x)),
                                        ^^^^^
By the DPP rules one factor must be constant, or one affine in the parameters and without variables \
and the other without parameters (argument 0 is affine, unknown sign; argument 1 is affine, unknown sign).
Instead: pass the product of the parameters as one parameter, or leave out strict_dpp: products of \
parameters are then computed ahead of the solver.""",
    ),
    "x P x": (
        lambda x, P: jl.minimize(x.T @ P @ x),
        {"P": np.eye(3)},
        False,
        """\
The objective of jl.minimize is not convex by the DCP rules: `x.T @ P @ x` breaks them.
  File "FILE", line LINE
    lambda x, P: jl.minimize(x.T @ P @ x),
                             ^^^^^^^^^^^
The matrix of this quadratic form is not known to be semidefinite (argument 0 is affine, unknown sign; \
argument 1 is constant, unknown sign).
Instead: if the parameter P is positive semidefinite, say so: jl.quad_form(x, jl.psd(P)).""",
    ),
    "unknown sign": (
        lambda x, p: jl.minimize(p * jl.norm2(x)),
        {"p": 1.0},
        False,
        """\
The objective of jl.minimize is not convex by the DCP rules: `p * jl.norm2(x)` breaks them.
  File "FILE", line LINE
    lambda x, p: jl.minimize(p * jl.norm2(x)),
                             ^^^^^^^^^^^^^^^
A factor that is not affine needs another factor of known sign (argument 0 is constant, unknown sign; \
argument 1 is convex, nonnegative).
Instead: a product of variables is not convex; one factor must be a parameter or constant, and at a \
convex factor it must have a known sign: jl.nonneg(p).""",
    ),
    "strict": (
        lambda x: jl.minimize(jl.norm2(x), [x > 1]),
        {},
        False,
        """\
Constraint 0 is a strict inequality; the set it describes has no closed boundary, so an optimum need \
not exist.
  File "FILE", line LINE
    lambda x: jl.minimize(jl.norm2(x), [x > 1]),
                                        ^^^^^
Instead: write >= for >, with a margin if the boundary must be avoided.""",
    ),
    "not equal": (
        lambda x: jl.minimize(jl.norm2(x), [x != 0]),
        {},
        False,
        """\
Constraint 0 is `!=`, which is not a convex constraint.
  File "FILE", line LINE
    lambda x: jl.minimize(jl.norm2(x), [x != 0]),
                                        ^^^^^^
Instead: leave it out, or demand a side by <= or >=.""",
    ),
    "equality of a norm": (
        lambda x: jl.minimize(jnp.sum(x), [jl.norm2(x) == 1]),
        {},
        False,
        """\
The left side of constraint 0 must be affine, but it is convex (nonnegative).
  File "FILE", line LINE
    lambda x: jl.minimize(jnp.sum(x), [jl.norm2(x) == 1]),
                                       ^^^^^^^^^^^
Instead: an equality and a cone need affine sides; a convex one may only be bounded above by <=.""",
    ),
    "concave": (
        lambda x: jl.minimize(jnp.sum(jnp.log(x))),
        {},
        False,
        """\
The objective of jl.minimize must be convex, but it is concave (unknown sign).
  File "FILE", line LINE
    lambda x: jl.minimize(jnp.sum(jnp.log(x))),
                          ^^^^^^^^^^^^^^^^^^^
Instead: use jl.maximize, if that is what is meant, or change the sign.""",
    ),
    "unknown primitive": (
        lambda x: jl.minimize(jnp.sum(jnp.sin(x))),
        {},
        False,
        """\
The JAX primitive `sin` of an expression with variables is not a known convex or affine atom.
  File "FILE", line LINE
    lambda x: jl.minimize(jnp.sum(jnp.sin(x))),
                                  ^^^^^^^^^^
Instead: sin is neither convex nor concave.""",
    ),
    "chained": (
        lambda x: jl.minimize(jnp.sum(x), [0 <= x <= 1]),
        {},
        False,
        """\
convex_layer: the function asks for the truth of an expression that is not known when tracing, by `if`, \
`and`, `max`, or a chained comparison such as 0 <= x <= 1. Write two constraints for a chained one, and \
jnp.maximum for max.
  File "FILE", line LINE
    lambda x: jl.minimize(jnp.sum(x), [0 <= x <= 1]),""",
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_messages(name):
    function, parameters, strict, expected = MESSAGES[name]
    layer = jl.convex_layer(function, strict_dpp=strict, x=(3,))
    with pytest.raises(jl.DPPError if strict else jl.DCPError) as caught:
        layer(**parameters)
    line = function.__code__.co_firstlineno
    expected = expected.replace("FILE", __file__).replace("LINE", str(line))
    assert str(caught.value) == expected


def test_helpers_lines_are_quoted():
    @jax.jit
    def wrong(x):
        return jnp.sqrt(x**2)  # the line to quote

    layer = jl.convex_layer(lambda x: jl.minimize(jnp.sum(wrong(x))), x=(3,))
    with pytest.raises(jl.DCPError, match="the line to quote"):
        layer()


def test_explain(capsys):
    def portfolio(w, mean, risk):
        return jl.maximize(mean @ w - jl.nonneg(risk) * jl.sum_squares(w), [jnp.sum(w) == 1])

    text = jl.explain(portfolio, w=(4,), mean=np.ones(4), risk=1.0)
    assert capsys.readouterr().out == text + "\n"
    assert (
        text
        == """\
maximize
  sub: concave, unknown sign    mean @ w - jl.nonneg(risk) * jl.sum_squares(w)
  ├ matmul: affine, unknown sign    mean @ w
  │ ├ mean[4]: parameter, unknown sign
  │ └ w[4]: affine, unknown sign
  └ mul: convex, nonnegative    jl.nonneg(risk) * jl.sum_squares(w)
    ├ jl.nonneg: parameter, nonnegative    jl.nonneg(risk)
    └ sum_squares: convex, nonnegative    jl.sum_squares(w)
      └ w[4]: affine, unknown sign
subject to constraint 0: jnp.sum(w) == 1
  reduce_sum: affine, unknown sign    jnp.sum(w)
  └ w[4]: affine, unknown sign
  1: constant, nonnegative"""
    )


@pytest.mark.slow
def test_large_problems_are_traced_checked_and_canonicalized_in_two_seconds(rng):
    A = rng.normal(size=(2000, 1000))

    def function(x, b):
        return jl.minimize(jl.sum_squares(x - 1) + jl.norm1(x), [A @ x <= b])

    times = []
    for _ in range(3):
        start = time.process_time()
        problem, _ = problems.traced(function, {"x": (1000,)}, {"b": np.ones(2000)})
        problems.check(problem)
        build(problem)
        times.append(time.process_time() - start)
    assert min(times) < 2


def test_quadratic_objectives_and_bounds_stay():
    def function(x, y, weight):
        squares = jl.sum_squares(x - y) + jl.sum_squares(jnp.diff(x))
        return jl.minimize(squares + jl.nonneg(weight) * jl.huber(x[0]), [x >= 0, x <= 1])

    problem, _ = problems.traced(function, {"x": (5,)}, {"y": np.ones(5), "weight": 1.0})
    asa = build(problem).asa
    assert asa.cones.size == asa.cones.nonnegative
    assert asa.P is not None
    assert asa.variables == 5 + 2  # huber's two
    assert asa.qp is not None
    assert len(asa.qp.lower.rows) == 5
    assert len(asa.qp.inequality) == 2
