"""Curvature and sign of every expression, by the rules of `expression` and the table of `atoms`.

Two readings of one graph: parameters as constants (DCP), or as affine unknowns of their own whose products
with variables alone are excepted (DPP; Agrawal et al. 2019, "Differentiable convex optimization layers").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jaxopt_layers.dpp.atoms import ATOMS, CONSTRAINTS, Atom
from jaxopt_layers.dpp.expression import Curvature, Expression, Sign


class Analysis:
    """Remembers what it found. `dpp`: read parameters as affine unknowns."""

    def __init__(self, dpp: bool = False):
        self.dpp = dpp
        self._curvatures: dict[int, Curvature] = {}
        self._signs: dict[int, Sign] = {}

    def sign(self, expression: Expression) -> Sign:
        """What is known of the sign of every entry."""
        return walk(expression, self._signs, self._sign)

    def curvature(self, expression: Expression) -> Curvature:
        """How it bends in the variables (and, for DPP, in the parameters)."""
        return walk(expression, self._curvatures, self._curvature)

    def is_constant(self, e: Expression) -> bool:
        """Without unknowns, in this reading."""
        return not e.has_variables and not (self.dpp and e.has_parameters)

    def _sign(self, e: Expression) -> Sign:
        if e.value is not None:
            return Sign.of_values(e.value)
        if e.atom not in ATOMS:
            return e.attributes.get("sign", Sign.UNKNOWN)
        signs = [self._signs[id(a)] for a in e.arguments]
        return ATOMS[e.atom].sign(e, signs)

    def _curvature(self, e: Expression) -> Curvature:
        if self.is_constant(e):
            return Curvature.CONSTANT
        if e.atom in ("variable", "parameter"):
            return Curvature.AFFINE
        atom = ATOMS.get(e.atom)
        if atom is None or (self.dpp and e.attributes.get("not_dpp")):
            return Curvature.UNKNOWN
        if atom.product and not self.product_is_affine(e):
            return Curvature.UNKNOWN
        if any(not self.is_constant(e.arguments[i]) for i in atom.constant if i < len(e.arguments)):
            return Curvature.UNKNOWN
        if self.dpp and any(e.arguments[i].has_parameters for i in atom.parameter_free):
            return Curvature.UNKNOWN
        if self.dpp and e.atom == "perspective" and e.attributes["root"].has_parameters:
            return Curvature.UNKNOWN
        bends = atom.bends(e)
        return Curvature.of(
            bends in ("affine", "convex") and self.composes(atom, e, 1),
            bends in ("affine", "concave") and self.composes(atom, e, -1),
        )

    def product_is_affine(self, e: Expression) -> bool:
        """Of two factors, one is constant; for DPP one may be parameters and the other variables."""
        x, y = e.arguments
        if self.is_constant(x) or self.is_constant(y):
            return True
        if not self.dpp or e.atom == "bilinear":
            return False
        return any(
            not p.has_variables and self._curvatures[id(p)].is_affine and not v.has_parameters
            for p, v in ((x, y), (y, x))
        )

    def composes(self, atom: Atom, e: Expression, direction: int) -> bool:
        """The composition rule: towards convex (direction 1) or concave (-1)."""
        return all(self.argument_fits(atom, e, i, direction) for i in range(len(e.arguments)))

    def argument_fits(self, atom: Atom, e: Expression, i: int, direction: int) -> bool:
        """Whether argument i has a curvature that the atom's monotonicity allows."""
        curvature = self._curvatures[id(e.arguments[i])]
        if curvature.is_affine:
            return True
        growth = atom.monotone(e, [self.sign(a) for a in e.arguments])[i] * direction
        return (growth > 0 and curvature.is_convex) or (growth < 0 and curvature.is_concave)


def walk(root: Expression, known: dict[int, Any], function: Callable[[Expression], Any]) -> Any:
    """`function` at every expression below the root, arguments first; not recursive."""
    stack = [root]
    while stack:
        top = stack[-1]
        if id(top) in known:
            stack.pop()
            continue
        missing = [a for a in top.arguments if id(a) not in known]
        if missing:
            stack.extend(missing)
            continue
        known[id(top)] = function(top)
        stack.pop()
    return known[id(root)]


def is_constraint(e: Expression) -> bool:
    """A comparison or a cone constraint."""
    return e.atom in (*CONSTRAINTS, "lt", "gt", "ne")
