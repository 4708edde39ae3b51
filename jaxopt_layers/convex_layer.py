"""`convex_layer`: a convex problem written as a JAX function, as a differentiable layer."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import Tracer as JaxTracer

from jaxopt_layers.checks import as_array, check_settings, common_dtype
from jaxopt_layers.convex_problem import Problem as Problem
from jaxopt_layers.convex_problem import Variable as Variable
from jaxopt_layers.convex_problem import maximize as maximize
from jaxopt_layers.convex_problem import minimize as minimize
from jaxopt_layers.convex_problem import variable as variable
from jaxopt_layers.dpp.check import Traced, check
from jaxopt_layers.dpp.errors import DCPError
from jaxopt_layers.dpp.explain import explain_problem
from jaxopt_layers.dpp.expression import Expression
from jaxopt_layers.dpp.program import Program, build
from jaxopt_layers.dpp.source import line_of_traceback
from jaxopt_layers.dpp.trace import Tracer
from jaxopt_layers.settings import Settings
from jaxopt_layers.solution import ConeSolution

_OWNER = "convex_layer"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LayerSolution:
    """What a layer returns.

    - `variables`: a dict, by the names given to [`convex_layer`][].
    - `value`: the objective's value, of a maximization as well.
    - `duals`: one for each constraint of `subject_to`, in its order and of its shape: nonnegative for
      ``<=`` and ``>=``, as CVXPY's; of `second_order` a pair, of `exponential` and `power` a triple, of
      `positive_semidefinite` a matrix. Those of a maximization are those of minimizing the negative.
    - `status`: see [`Status`][]. `record`: the cone solver's own solution.
    """

    variables: dict[str, Array]
    value: Array
    duals: list[Any]
    status: Array
    record: ConeSolution


class ConvexLayer:
    """Made by [`convex_layer`][]; call it with the parameters by name."""

    def __init__(
        self,
        function: Callable[..., Problem],
        variables: dict[str, Variable],
        strict_dpp: bool,
        settings: Settings,
    ):
        self._function = function
        self._variables = variables
        self._strict_dpp = strict_dpp
        self._settings = settings
        self._programs: dict[Any, tuple[Program, Callable[..., LayerSolution]]] = {}
        self._names = _parameter_names(function, variables)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name}={v.shape}" for name, v in self._variables.items())
        return f"<convex_layer {getattr(self._function, '__name__', 'function')}({shapes})>"

    def __call__(self, **parameters: Any) -> LayerSolution:
        """Solve at the parameters; see [`convex_layer`][]."""
        init = None
        if "init" in parameters and self._names is not None and "init" not in self._names:
            init = parameters.pop("init")
            init = init.record if isinstance(init, LayerSolution) else init
        leaves, tree, key, dtype = self._leaves(parameters)
        if key not in self._programs:
            problem = trace(self._function, self._variables, leaves, tree, dtype)
            check(problem, strict_dpp=self._strict_dpp)
            program = build(problem)
            settings = self._settings

            def run(leaves: list[Array], init: ConeSolution | None) -> LayerSolution:
                variables, value, duals, record = program.solve(leaves, dtype, settings, init)
                return LayerSolution(variables, value, duals, record.status, record)

            self._programs[key] = program, jax.jit(run)
        return self._programs[key][1](leaves, init)

    def explain(self, **parameters: Any) -> str:
        """The expression tree at parameters of these shapes; see [`explain`][]."""
        leaves, tree, _, dtype = self._leaves(parameters)
        return explain_problem(trace(self._function, self._variables, leaves, tree, dtype))

    def _leaves(self, parameters: dict[str, Any]) -> tuple[list[Array], Any, Any, Any]:
        if self._names is not None:
            wanted, got = set(self._names), set(parameters)
            if missing := [name for name in self._names if name not in got]:
                required = [n for n in missing if self._names[n] is inspect.Parameter.empty]
                if required:
                    raise TypeError(f"{_OWNER}: the parameter `{required[0]}` is missing.")
            if extra := sorted(got - wanted):
                raise TypeError(
                    f"{_OWNER}: the function has no parameter `{extra[0]}`; it has"
                    f" {', '.join(self._names) or 'none'}."
                )
        paths, tree = jax.tree_util.tree_flatten_with_path(parameters)
        leaves = []
        for path, leaf in paths:
            name = path[0].key + jax.tree_util.keystr(path[1:])
            if isinstance(leaf, bool) or str(getattr(leaf, "dtype", "")) == "bool":
                leaves.append(jnp.asarray(leaf))
            else:
                leaves.append(as_array(_OWNER, name, leaf))
        dtype = common_dtype([leaf for leaf in leaves if not leaf.weak_type])
        signature = tuple((leaf.shape, leaf.dtype, leaf.weak_type) for leaf in leaves)
        return leaves, tree, (tree, signature, str(dtype)), dtype


def convex_layer(
    function: Callable[..., Problem],
    *,
    strict_dpp: bool = False,
    settings: Settings = Settings(),  # noqa: B008 (frozen)
    **variables: Any,
) -> ConvexLayer:
    """A convex optimization problem, written as a JAX function, as a differentiable layer.

    The function is traced, its jaxpr is checked by the rules of disciplined convex programming (with
    CVXPY's decisions), canonicalized once for each set of shapes to a quadratic or cone program whose data
    are affine in what the parameters were made into, and solved by the package's own solver. The layer is
    pure: use it under `jax.jit`, `jax.vmap`, `jax.grad` and in `jax.lax.scan`.

    **Arguments:**

    - `function`: takes variables and parameters by name and returns [`minimize`][] or [`maximize`][].
      It uses jax.numpy and the atoms of this package; everything that doesn't depend on variables may use
      any JAX function. A product that needs a parameter's sign gets it by [`nonneg`][], [`nonpos`][] or
      [`psd`][]; a parameter that isn't what was declared gives the status INVALID_INPUT.
    - `strict_dpp`: refuse, as CVXPY does, what isn't a disciplined *parametrized* program. Else products
      of parameters and other functions of them are computed ahead of the solver, and differentiated.
    - `settings`: see [`Settings`][].
    - every other keyword: a variable's name, with its shape, or [`variable`][].

    **Returns:** a layer; ``layer(**parameters)`` returns a [`LayerSolution`][]. Parameters are arrays,
    numbers or pytrees of them; ``init`` may be a previous solution to start from.

    **Raises:** DCPError or DPPError, with the line, when called with parameters of a new shape; ValueError
    or TypeError for names and shapes that don't fit.

    ```python
    import jax, jax.numpy as jnp, jaxopt_layers as jl

    def total_variation(x, y, weight):
        return jl.minimize(0.5 * jl.sum_squares(y - x) + jl.nonneg(weight) * jl.norm1(jnp.diff(x)))

    denoise = jl.convex_layer(total_variation, x=(4,))
    y = jnp.array([0.0, 0.2, 1.0, 1.1])
    denoise(y=y, weight=0.1).variables["x"]  # [0.15, 0.15, 1, 1]
    jax.grad(lambda weight: denoise(y=y, weight=weight).value)(0.1)
    ```

    Grant, Boyd & Ye (2006, "Disciplined convex programming"); Agrawal et al. (2019, "Differentiable convex
    optimization layers").
    """
    check_settings(_OWNER, settings)
    if not callable(function):
        raise TypeError(f"{_OWNER}: `function` must be callable; got {type(function).__name__}.")
    if not variables:
        raise ValueError(
            f"{_OWNER}: name at least one variable, with its shape, for example x=(3,)."
        )
    made = {}
    for name, shape in variables.items():
        if not isinstance(shape, (Variable, tuple, list, int)) or isinstance(shape, bool):
            raise TypeError(
                f"{_OWNER}: the variable `{name}` needs a shape, for example {name}=(3,), or"
                f" jl.variable(...); got {shape!r}."
            )
        made[name] = shape if isinstance(shape, Variable) else variable(shape)  # type: ignore[arg-type]
    return ConvexLayer(function, made, strict_dpp, settings)


def explain(
    function: Callable[..., Problem], *, parameters: dict[str, Any] | None = None, **names: Any
) -> str:
    """Print the expression tree of a problem, with curvature and sign of every part; return it, too.

    - `function`: as of [`convex_layer`][].
    - every other keyword: a variable's name with its shape (a tuple, or [`variable`][]), or a parameter's
      with an array or number of the shape meant. `parameters` is a dict of further ones.

    **Raises:** as [`convex_layer`][], except for broken rules: the tree shows them.

    ```python
    import jaxopt_layers as jl

    jl.explain(lambda x, p: jl.minimize(p * jl.norm1(x)), x=(3,), p=1.0)
    ```
    """
    variables = {}
    values = dict(parameters or {})
    for name, value in names.items():
        is_shape = isinstance(value, tuple) and all(isinstance(d, int) for d in value)
        (variables if is_shape or isinstance(value, Variable) else values)[name] = value
    text = convex_layer(function, **variables).explain(**values)
    print(text)
    return text


def _parameter_names(function: Any, variables: dict[str, Variable]) -> dict[str, Any] | None:
    """Names and defaults of the function's parameters; None if it takes any."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    names = {}
    for name, parameter in signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            return None
        if parameter.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.VAR_POSITIONAL):
            raise TypeError(
                f"{_OWNER}: `function` must take its arguments by name: `{name}` can't."
            )
        names[name] = parameter.default
    for name in variables:
        if name not in names:
            raise TypeError(
                f"{_OWNER}: `function` has no argument `{name}`; it has {', '.join(names) or 'none'}."
            )
    return {name: default for name, default in names.items() if name not in variables}


def trace(
    function: Callable[..., Problem],
    variables: dict[str, Variable],
    leaves: list[Array],
    tree: Any,
    dtype: Any,
) -> Traced:
    """The function's jaxpr as expressions."""
    structs = [
        jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, weak_type=leaf.weak_type) for leaf in leaves
    ]
    unknowns = {name: jax.ShapeDtypeStruct(v.shape, dtype) for name, v in variables.items()}

    def flat(unknowns: dict[str, Array], leaves: list[Array]) -> Problem:
        problem = function(**unknowns, **jax.tree_util.tree_unflatten(tree, leaves))
        if not isinstance(problem, Problem):
            raise TypeError(
                f"{_OWNER}: `function` must return jl.minimize(...) or jl.maximize(...); got"
                f" {type(problem).__name__}."
            )
        return problem

    try:
        closed, out = jax.make_jaxpr(flat, return_shape=True)(unknowns, structs)
    except (jax.errors.TracerBoolConversionError, ValueError) as error:
        if isinstance(error, ValueError) and "truth value" not in str(error):
            raise
        line = line_of_traceback(error.__traceback__)
        raise DCPError(
            f"{_OWNER}: the function asks for the truth of an expression that is not known when"
            " tracing, by `if`, `and`, `max`, or a chained comparison such as 0 <= x <= 1. Write two"
            f" constraints for a chained one, and jnp.maximum for max.\n{line}"
        ) from error
    if any(isinstance(c, JaxTracer) for c in closed.consts):
        raise TypeError(
            f"{_OWNER}: `function` closes over a value that is being traced (by jit, grad or vmap);"
            " pass it as a parameter."
        )
    tracer = Tracer()
    named: dict[str, Expression] = {}
    for name in sorted(unknowns):  # the order in which JAX flattens a dict
        v = variables[name]
        attributes = {k: True for k in ("symmetric", "psd", "nonneg", "nonpos") if getattr(v, k)}
        named[name] = tracer.leaf("variable", v.shape, name, **attributes)
    labels = [
        path[0].key + jax.tree_util.keystr(path[1:])
        for path, _ in jax.tree_util.tree_flatten_with_path(
            jax.tree_util.tree_unflatten(tree, leaves)
        )[0]
    ]
    parameters = [
        tracer.leaf("parameter", leaf.shape, label)
        for leaf, label in zip(leaves, labels, strict=True)
    ]
    results = tracer.run(closed.jaxpr, closed.consts, [*named.values(), *parameters])
    for constraint, value in zip(out.constraints, results[1:], strict=True):
        if constraint.dtype != bool:
            raise TypeError(
                f"{_OWNER}: `subject_to` must hold comparisons; got an array of dtype"
                f" {constraint.dtype} ({value.label})."
            )
    return Traced(
        out.sense,
        results[0],
        tuple(results[1:]),
        {name: named[name] for name in variables},
        tuple(parameters),
    )
