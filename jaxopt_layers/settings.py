"""What can be chosen about a solve and its derivative: frozen, hashable, static under jit."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import jax.numpy as jnp
from jax.typing import DTypeLike

Method = Literal["kkt", "hsd"]
LinearSolver = Literal["direct", "least_squares", "lsmr"]
Mode = Literal["reverse", "forward"]
FailedGradient = Literal["zero", "nan"]
Factorization = Literal["auto", "dense", "sparse"]

# The finest tolerance, in units of rounding.
_ROUNDINGS = 64


@dataclass(frozen=True)
class Derivative:
    """How the solution map is differentiated.

    **Arguments:**

    - `method`: the equations that are differentiated. ``"kkt"``: the optimality (KKT) conditions
      (Amos & Kolter 2017, eq. 6-8), for a cone that is curved those of the central path at the
      barrier parameter where the solver stopped. ``"hsd"``: the homogeneous self-dual residual map,
      with the derivative of the projection on the cone (Agrawal et al. 2019, section 3). None: "kkt"
      for `solve_qp`, "hsd" for `solve_cone`.
    - `solver`: how their linear system is solved. ``"direct"``: the Cholesky factorization of the
      solver, refined. ``"least_squares"``: the minimum-norm least-squares solution by a dense
      decomposition; for degenerate points, where the system is singular. ``"lsmr"`` ("hsd" only): the
      same by the iterative method LSMR, which touches the data through products only; needs the
      package lineax (the extra ``lsmr``). [`derivative_quality`][] tells how well any of them did.
      Norms are those of the equilibrated problem.
    - `tolerance`, `max_iterations`: of LSMR. None: by the dtype, and 10 (n + m).
    - `smoothing`: a barrier parameter. 0 is exact; a positive one gives the derivative of the point
      of the central path where each slack times its dual equals it (in the user's units): smooth
      through degenerate points, and the exact one in the limit. The values stay exact. The objective's
      derivative is then that of the barrier problem's optimal value.
    - `mode`: ``"reverse"`` is a `jax.custom_vjp`; ``"forward"`` a `jax.custom_jvp`, under which
      `jax.jvp`, `jax.jacfwd`, `jax.linearize` and `jax.hessian` work as well as `jax.grad`.
    """

    method: Method | None = None
    solver: LinearSolver = "direct"
    smoothing: float = 0.0
    mode: Mode = "reverse"
    tolerance: float | None = None
    max_iterations: int | None = None

    def __post_init__(self) -> None:
        if self.method is not None:
            _check_choice("Derivative", "method", self.method, get_args(Method))
        _check_choice("Derivative", "solver", self.solver, get_args(LinearSolver))
        _check_choice("Derivative", "mode", self.mode, get_args(Mode))
        _check_number("Derivative", "smoothing", self.smoothing, low=0.0, inclusive=True)
        if self.tolerance is not None:
            _check_number("Derivative", "tolerance", self.tolerance, low=0.0, inclusive=False)
        if self.max_iterations is not None:
            _check_count("Derivative", "max_iterations", self.max_iterations, low=1)
        if self.solver == "lsmr" and self.method == "kkt":
            raise ValueError("Derivative: `solver` 'lsmr' needs `method` 'hsd'; got 'kkt'.")


@dataclass(frozen=True)
class Settings:
    """What the solver aims for and how it handles failure.

    **Arguments:**

    - `tolerance`: the largest primal residual, dual residual and duality gap of a solved problem,
      each in the user's units and relative to one plus the largest of what it compares.
      None: 1e-9 in float64, 1e-5 in float32. What is finer than the dtype can show counts as 64 units
      of its rounding: 1.4e-14, 7.6e-6.
    - `infeasibility_tolerance`: the largest violation of a certificate of infeasibility, relative
      to its objective. None: 1e-8 in float64, 1e-5 in float32.
    - `max_iterations`: the largest number of factorizations.
    - `regularization`: what is added to the diagonal of the scaled KKT system before it is factored
      (refinement takes it out again). None: the root of the rounding, 1e-8 in float64, 3e-4 in float32.
    - `refinement_steps`: the most refinement steps a linear solve may take; they are taken only
      when the residuals of the last step show that they are needed.
    - `factorization`: ``"auto"``: by the pattern where the matrices are given as [`SparseMatrix`][] and
      that is expected to be faster, dense otherwise; ``"dense"`` and ``"sparse"`` force one. Sparse
      ones need the package pymetis (the extra ``sparse``), but for programs whose variables are in curved
      cones themselves. [`factorization_cost`][] tells the choice.
    - `equilibration_passes`: the most passes of Ruiz equilibration; it stops early when balanced.
    - `derivative`: see [`Derivative`][].
    - `failed_gradient`: the gradient of a problem that was not solved: ``"zero"`` or ``"nan"``.
    """

    tolerance: float | None = None
    infeasibility_tolerance: float | None = None
    max_iterations: int = 100
    regularization: float | None = None
    refinement_steps: int = 8
    equilibration_passes: int = 12
    factorization: Factorization = "auto"
    derivative: Derivative = field(default_factory=Derivative)
    failed_gradient: FailedGradient = "zero"

    def with_method(self, method: Method) -> Settings:
        """The same, where `derivative.method` is None with that method."""
        if self.derivative.method is not None:
            return self
        solver_method: Method = "hsd" if self.derivative.solver == "lsmr" else method
        return replace(self, derivative=replace(self.derivative, method=solver_method))

    def __post_init__(self) -> None:
        for name in ("tolerance", "infeasibility_tolerance", "regularization"):
            if getattr(self, name) is not None:
                _check_number("Settings", name, getattr(self, name), low=0.0, inclusive=False)
        _check_count("Settings", "max_iterations", self.max_iterations, low=1)
        _check_count("Settings", "refinement_steps", self.refinement_steps, low=0)
        _check_count("Settings", "equilibration_passes", self.equilibration_passes, low=0)
        if not isinstance(self.derivative, Derivative):
            raise TypeError(
                "Settings: `derivative` must be a Derivative, for example"
                f" Derivative(mode='forward'); got {self.derivative!r}."
            )
        _check_choice("Settings", "factorization", self.factorization, get_args(Factorization))
        _check_choice("Settings", "failed_gradient", self.failed_gradient, get_args(FailedGradient))


@dataclass(frozen=True)
class Tolerances:
    """The numbers that `Settings` leaves to the dtype, filled in."""

    tolerance: float
    reduced_tolerance: float
    infeasibility: float
    regularization: float


def tolerances(settings: Settings, dtype: DTypeLike) -> Tolerances:
    """Fill in what `settings` leaves open by the precision of `dtype`."""
    limits = jnp.finfo(dtype)
    double = limits.bits >= 64
    tolerance = max(
        settings.tolerance or (1e-9 if double else 1e-5), _ROUNDINGS * float(limits.eps)
    )
    return Tolerances(
        tolerance=tolerance,
        reduced_tolerance=max(tolerance, min(1e3 * tolerance, 1e-5 if double else 1e-3)),
        infeasibility=settings.infeasibility_tolerance or (1e-8 if double else 1e-5),
        regularization=settings.regularization or (1e-8 if double else 3e-4),
    )


def _check_choice(owner: str, name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        wanted = " or ".join(repr(choice) for choice in choices)
        raise ValueError(f"{owner}: `{name}` must be {wanted}; got {value!r}.")


def _check_number(owner: str, name: str, value: object, *, low: float, inclusive: bool) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(
            f"{owner}: `{name}` must be a Python number (it is static under jit);"
            f" got {type(value).__name__}."
        )
    if not math.isfinite(value) or value < low or (value == low and not inclusive):
        bound = "at least" if inclusive else "greater than"
        raise ValueError(f"{owner}: `{name}` must be finite and {bound} {low:g}; got {value!r}.")


def _check_count(owner: str, name: str, value: object, *, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{owner}: `{name}` must be an int; got {value!r}.")
    if value < low:
        raise ValueError(f"{owner}: `{name}` must be at least {low}; got {value}.")
