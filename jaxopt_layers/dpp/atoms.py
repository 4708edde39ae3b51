"""The table of atoms: for each its curvature, monotonicity, sign, domain and graph implementation.

A new atom is one entry of `ATOMS`, and one function of `jaxopt_layers.atoms` if users call it. The rules
are those of CVXPY 1.9. `Atom.monotone` gives for each argument +1 (nondecreasing), -1 (nonincreasing) or 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxopt_layers.dpp import graphs, linear_graphs
from jaxopt_layers.dpp.affine import Affine
from jaxopt_layers.dpp.expression import Expression, Sign

Signs = Sequence[Sign]


@dataclass(frozen=True)
class Atom:
    """One function: how it bends, how it grows, its sign, and its epigraph.

    - `curvature`: "affine", "convex" or "concave"; or a function of the expression.
    - `constant`: arguments that must not depend on variables. `parameter_free`: arguments that under DPP
      must not depend on parameters. `product`: affine in one factor where the other is constant.
    - `graph(graph, expression, *arguments)`: the atom at affine arguments, as an affine expression in
      further variables, which the rows that it adds to `graph` tie down.
    """

    curvature: str | Callable[[Expression], str]
    monotone: Callable[[Expression, Signs], Sequence[int]]
    sign: Callable[[Expression, Signs], Sign]
    graph: Callable[..., Affine]
    domain: str = ""
    constant: tuple[int, ...] = ()
    product: bool = False
    parameter_free: tuple[int, ...] = ()

    def bends(self, expression: Expression) -> str:
        """Its curvature in this expression."""
        return self.curvature if isinstance(self.curvature, str) else self.curvature(expression)


def _increasing(e: Expression, signs: Signs) -> Sequence[int]:
    return [1] * len(signs)


def _neither(e: Expression, signs: Signs) -> Sequence[int]:
    return [0] * len(signs)


def _away_from_zero(e: Expression, signs: Signs) -> Sequence[int]:
    return [_by_sign(sign) for sign in signs]


def _by_sign(sign: Sign) -> int:
    return 1 if sign.is_nonnegative else -1 if sign.is_nonpositive else 0


def _unknown(e: Expression, signs: Signs) -> Sign:
    return Sign.UNKNOWN


def _nonnegative(e: Expression, signs: Signs) -> Sign:
    return Sign.NONNEGATIVE


def _nonnegative_if_all(e: Expression, signs: Signs) -> Sign:
    return Sign.of(all(s.is_nonnegative for s in signs), False)


def _same(e: Expression, signs: Signs) -> Sign:
    return signs[0]


def _all(e: Expression, signs: Signs) -> Sign:
    return Sign.of(all(s.is_nonnegative for s in signs), all(s.is_nonpositive for s in signs))


def _map_sign(e: Expression, signs: Signs) -> Sign:
    value = e.attributes["entries"][2]
    return Sign.of(bool((value >= 0).all()), bool((value <= 0).all())) * signs[0]


def _map_monotone(e: Expression, signs: Signs) -> Sequence[int]:
    return [_by_sign(_map_sign(e, [Sign.NONNEGATIVE]))]


def _times_monotone(e: Expression, signs: Signs) -> Sequence[int]:
    return [_by_sign(signs[1]), _by_sign(signs[0])]


def _power_curvature(e: Expression) -> str:
    p = e.attributes["p"]
    return "affine" if p in (0, 1) else "concave" if 0 < p < 1 else "convex"


def _power_monotone(e: Expression, signs: Signs) -> Sequence[int]:
    p = e.attributes["p"]
    if p < 0:
        return [-1]
    return [_by_sign(signs[0])] if p > 1 and p % 2 == 0 else [1]


def _power_sign(e: Expression, signs: Signs) -> Sign:
    return signs[0] if e.attributes["p"] == 1 else Sign.NONNEGATIVE


def _p_norm_monotone(e: Expression, signs: Signs) -> Sequence[int]:
    return [1 if e.attributes["p"] < 1 else _by_sign(signs[0])]


def _form_curvature(e: Expression) -> str:
    return {"psd": "convex", "nsd": "concave"}.get(e.attributes["definite"], "unknown")


def _form_sign(e: Expression, signs: Signs) -> Sign:
    return {"psd": Sign.NONNEGATIVE, "nsd": Sign.NONPOSITIVE}.get(
        e.attributes["definite"], Sign.UNKNOWN
    )


def _form_monotone(e: Expression, signs: Signs) -> Sequence[int]:
    return [_by_sign(signs[0]) if signs[1].is_nonnegative else 0, 0]


def _linear(
    graph: Callable[..., Affine],
    sign: Callable[[Expression, Signs], Sign],
    monotone: Callable[[Expression, Signs], Sequence[int]] = _increasing,
    **fields: Any,
) -> Atom:
    return Atom("affine", monotone, sign, graph, **fields)


def _curved(
    curvature: str,
    monotone: Callable[[Expression, Signs], Sequence[int]],
    sign: Callable[[Expression, Signs], Sign],
    graph: Callable[..., Affine],
    domain: str = "",
    **fields: Any,
) -> Atom:
    return Atom(curvature, monotone, sign, graph, domain, **fields)


ATOMS: dict[str, Atom] = {
    # affine
    "rearrange": _linear(linear_graphs.rearrange, _all),
    "linear map": _linear(linear_graphs.linear_map, _map_sign, _map_monotone),
    "add": _linear(linear_graphs.add, lambda e, s: s[0] + s[1]),
    "subtract": _linear(linear_graphs.subtract, lambda e, s: s[0] + -s[1], lambda e, s: [1, -1]),
    "negate": _linear(linear_graphs.negate, lambda e, s: -s[0], lambda e, s: [-1]),
    "multiply": _linear(
        linear_graphs.multiply, lambda e, s: s[0] * s[1], _times_monotone, product=True
    ),
    "matmul": _linear(
        linear_graphs.matmul, lambda e, s: s[0] * s[1], _times_monotone, product=True
    ),
    "bilinear": _linear(
        linear_graphs.bilinear, lambda e, s: s[0] * s[1], _times_monotone, product=True
    ),
    "divide": _linear(
        linear_graphs.divide,
        lambda e, s: s[0] * s[1],
        lambda e, s: [_by_sign(s[1]), 0],
        constant=(1,),
    ),
    "nonneg": _linear(linear_graphs.rearrange, lambda e, s: Sign.NONNEGATIVE),
    "nonpos": _linear(linear_graphs.rearrange, lambda e, s: Sign.NONPOSITIVE),
    "psd": _linear(linear_graphs.rearrange, _same),
    # elementwise
    "abs": _curved("convex", _away_from_zero, _nonnegative, graphs.absolute),
    "maximum": _curved(
        "convex",
        _increasing,
        lambda e, s: Sign.of(any(x.is_nonnegative for x in s), all(x.is_nonpositive for x in s)),
        graphs.maximum,
    ),
    "minimum": _curved(
        "concave",
        _increasing,
        lambda e, s: Sign.of(all(x.is_nonnegative for x in s), any(x.is_nonpositive for x in s)),
        graphs.minimum,
    ),
    "power": Atom(_power_curvature, _power_monotone, _power_sign, graphs.power, "x >= 0 or R"),
    "exp": _curved("convex", _increasing, _nonnegative, graphs.exponential),
    "log": _curved("concave", _increasing, _unknown, graphs.logarithm, "x > 0"),
    "log1p": _curved("concave", _increasing, _same, graphs.log1p, "x > -1"),
    "logaddexp": _curved("convex", _increasing, _nonnegative_if_all, graphs.logaddexp),
    "logistic": _curved("convex", _increasing, _nonnegative, graphs.logistic),
    "huber": _curved(
        "convex", lambda e, s: [_by_sign(s[0]), 0], _nonnegative, graphs.huber, constant=(1,)
    ),
    "entropy": _curved("concave", _neither, _unknown, graphs.entropy, "x >= 0"),
    "relative_entropy": _curved(
        "convex", lambda e, s: [0, -1], _unknown, graphs.relative_entropy, "x, y > 0"
    ),
    "kl_div": _curved("convex", _neither, _nonnegative, graphs.kl_div, "x, y > 0"),
    # of vectors, along the last axis
    "max": _curved("convex", _increasing, _same, graphs.largest),
    "min": _curved("concave", _increasing, _same, graphs.smallest),
    "norm1": _curved("convex", _away_from_zero, _nonnegative, graphs.norm1),
    "norm2": _curved("convex", _away_from_zero, _nonnegative, graphs.norm2),
    "norm_inf": _curved("convex", _away_from_zero, _nonnegative, graphs.norm_inf),
    "p_norm": Atom(
        lambda e: "convex" if e.attributes["p"] >= 1 else "concave",
        _p_norm_monotone,
        _nonnegative,
        graphs.p_norm,
    ),
    "sum_squares": _curved("convex", _away_from_zero, _nonnegative, graphs.sum_squares),
    "quad_over_lin": _curved(
        "convex",
        lambda e, s: [_by_sign(s[0]), -1],
        _nonnegative,
        graphs.quad_over_lin,
        "y > 0",
        parameter_free=(1,),
    ),
    "log_sum_exp": _curved("convex", _increasing, _nonnegative_if_all, graphs.log_sum_exp),
    "geo_mean": _curved("concave", _increasing, _nonnegative, graphs.geo_mean, "x >= 0"),
    "harmonic_mean": _curved("concave", _increasing, _nonnegative, graphs.harmonic_mean, "x > 0"),
    "sum_largest": _curved("convex", _increasing, _same, graphs.sum_largest),
    # of matrices
    "quad_form": Atom(_form_curvature, _form_monotone, _form_sign, graphs.quad_form, constant=(1,)),
    "matrix_frac": _curved("convex", _neither, _nonnegative, graphs.matrix_frac, "P > 0"),
    "lambda_max": _curved("convex", _neither, _unknown, graphs.lambda_max, "X symmetric"),
    "lambda_min": _curved("concave", _neither, _unknown, graphs.lambda_min, "X symmetric"),
    "nuclear_norm": _curved("convex", _neither, _nonnegative, graphs.nuclear_norm),
    "sigma_max": _curved("convex", _neither, _nonnegative, graphs.sigma_max),
    "log_det": _curved("concave", _neither, _unknown, graphs.log_det, "X > 0"),
    "perspective": Atom(
        lambda e: e.attributes["curvature"],
        _neither,
        lambda e, s: e.attributes["sign"],
        graphs.perspective,
        "s > 0",
    ),
}

CONSTRAINTS = (
    "eq",
    "le",
    "ge",
    "second_order",
    "positive_semidefinite",
    "exponential_cone",
    "power_cone",
)
"""What stands for a constraint; the arguments of the last four must be affine."""
