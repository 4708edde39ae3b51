"""From a CVXPY problem to an `AffineSolverAffine` and the maps around it.

CVXPY reduces the problem to ``minimize 1/2 x'Px + q'x + d  subject to  Ax + b in K`` with data that are
linear in a vector of parameters extended by a one (its ``ParamConeProg``). What remains is bookkeeping,
done here once: which entries of the user's arrays stand in that vector (symmetric, diagonal and sparse
parameters are stored reduced; those of a geometric program as logarithms), and which entries of x and y
make the user's variables and dual variables. All of it becomes index arrays.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np
import scipy.sparse as sp
from cvxpy import settings as names
from cvxpy.constraints.exponential import ExpCone
from cvxpy.constraints.power import PowCone3D
from cvxpy.constraints.psd import SvecPSD
from cvxpy.constraints.second_order import SOC
from cvxpy.reductions.cvx_attr2constr import CvxAttr2Constr
from cvxpy.reductions.dgp2dcp.dgp2dcp import Dgp2Dcp
from cvxpy.reductions.solution import Solution
from cvxpy.reductions.solvers.conic_solvers.conic_solver import ConicSolver
from cvxpy.reductions.solvers.utilities import extract_dual_value, get_dual_values
from cvxpy.utilities.psd_utils import TriangleKind

from jaxopt_layers.asa import AffineSolverAffine
from jaxopt_layers.cones import Cones


class ConeTarget(ConicSolver):
    """The cone form of this package, as CVXPY's reductions ask for it.

    Rows stand in the order of [`Cones`][]; matrices by their lower triangle by columns with
    off-diagonals times sqrt 2; exponential triples as (x, y, z) with y exp(x/y) <= z.
    """

    SUPPORTED_CONSTRAINTS = [*ConicSolver.SUPPORTED_CONSTRAINTS, SOC, ExpCone, SvecPSD, PowCone3D]  # noqa: RUF012
    PSD_TRIANGLE_KIND = TriangleKind.LOWER
    PSD_SQRT2_SCALING = True
    EXP_CONE_ORDER = [0, 1, 2]  # noqa: RUF012 (as CVXPY declares it)

    def name(self) -> str:
        return "JAXOPT_LAYERS"

    def import_solver(self) -> None:
        pass

    def supports_quad_obj(self) -> bool:
        return True

    def apply(self, problem: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The parametrized program itself: no parameter has a value yet."""
        _, data, inverse = self._prepare_data_and_inv_data(problem)
        return data, inverse

    def invert(self, solution: tuple[np.ndarray, np.ndarray], inverse_data: Any) -> Solution:
        """A pair of x and y, handed back through CVXPY's reductions."""
        x, y = solution
        zero = inverse_data[self.DIMS].zero
        duals = get_dual_values(y[:zero], extract_dual_value, inverse_data[self.EQ_CONSTR])
        duals |= get_dual_values(y[zero:], extract_dual_value, inverse_data[self.NEQ_CONSTR])
        return Solution(names.OPTIMAL, 0.0, {inverse_data[self.VAR_ID]: x}, duals, {})

    def solve_via_data(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("this target only canonicalizes: call the layer")

    def cite(self, data: Any) -> str:
        return ""


@dataclass(frozen=True, eq=False)
class Piece:
    """A run of theta: entries of the user's parameter `parameter`, by their flat (C order) index.

    The mean of `index` and `mirror` is taken, which differ for a symmetric matrix only. `log`: the
    logarithm is what enters.
    """

    parameter: int
    index: np.ndarray
    mirror: np.ndarray
    log: bool


@dataclass(frozen=True, eq=False)
class Selection:
    """A user's array as entries of a vector: `index` has its shape, and len(vector) means zero."""

    index: np.ndarray
    factor: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Canonical:
    """What the layer needs of the problem, with nothing of CVXPY in it.

    `variables` and `duals` hold selections from x and from y by CVXPY's id; `constraints` the ids of
    the dual variables of each constraint.
    """

    program: AffineSolverAffine
    pieces: tuple[Piece, ...]
    variables: dict[int, Selection]
    duals: dict[int, Selection]
    constraints: tuple[tuple[int, ...], ...]
    maximize: bool


def canonicalize(problem: cp.Problem, parameters: list[cp.Parameter], gp: bool) -> Canonical:
    """Reduce a DPP problem by CVXPY and read off its maps."""
    with warnings.catch_warnings():
        # CVXPY warns of its own look at the (absent) values of sparse variables.
        warnings.filterwarnings(
            "ignore", message=".*sparse CVXPY expression", category=RuntimeWarning
        )
        data, chain, inverse = problem.get_problem_data(ConeTarget(), gp=gp, enforce_dpp=True)
    stuffed = data[names.PARAM_PROB]
    dims = stuffed.cone_dims
    cones = Cones(
        zero=dims.zero,
        nonnegative=dims.nonneg,
        second_order=tuple(dims.soc),
        psd=tuple(dims.psd),
        exponential=dims.exp,
        power=tuple(float(a) for a in dims.p3d),
    )
    n, p = stuffed.x.size, stuffed.total_param_size
    rows, parameter, values = _entries(stuffed.A, p)
    columns, rows = np.divmod(rows, max(cones.size, 1))
    linear = columns < n
    at, index, value = _entries(stuffed.q, p)
    costs = at < n
    quadratic = None
    if stuffed.P is not None:
        place, which, entry = _entries(stuffed.P, p)
        quadratic = (place % n, place // n, which, entry)
    program = AffineSolverAffine.from_coo(
        variables=n,
        parameters=p,
        cones=cones,
        A=(rows[linear], columns[linear], parameter[linear], -values[linear]),
        b=(rows[~linear], parameter[~linear], values[~linear]),
        c=(at[costs], index[costs], value[costs]),
        P=quadratic,
        constant=(index[~costs], value[~costs]),
    )
    return Canonical(
        program=program,
        pieces=_pieces(stuffed, chain, parameters),
        variables=_variables(problem, stuffed, chain),
        duals=_duals(problem, chain, inverse, n, cones.size),
        constraints=tuple(
            tuple(dual.id for dual in con.dual_variables) for con in problem.constraints
        ),
        maximize=isinstance(problem.objective, cp.Maximize),
    )


def _entries(matrix: Any, p: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, column and value of the entries of a sparse matrix of p + 1 columns."""
    coo: Any = sp.coo_array(matrix)
    assert coo.shape[1] == p + 1
    rows, columns = coo.coords
    return rows.astype(np.int64), columns.astype(np.int64), coo.data


def _pieces(stuffed: Any, chain: Any, parameters: list[cp.Parameter]) -> tuple[Piece, ...]:
    """The runs of theta, in its order."""
    origin: dict[int, tuple[cp.Parameter, bool]] = {
        param.id: (param, False) for param in parameters
    }
    for reduction in chain.reductions:
        for outer, inner in reduction.param_id_map.items():
            if outer in origin and isinstance(reduction, Dgp2Dcp | CvxAttr2Constr):
                param, log = origin[outer]
                for id_ in inner:
                    origin[id_] = (param, log or isinstance(reduction, Dgp2Dcp))
    position = {param.id: i for i, param in enumerate(parameters)}
    pieces = []
    for param in sorted(stuffed.parameters, key=lambda param: stuffed.param_id_to_col[param.id]):
        original, log = origin[param.id]
        flat = np.arange(original.size).reshape(original.shape)
        index, mirror = flat.ravel(order="F"), flat.ravel(order="F")
        if original._has_dim_reducing_attr:
            index = mirror = _reduced(original, flat)
            if _is_symmetric(original):
                mirror = _reduced(original, np.swapaxes(flat, -1, -2))
        pieces.append(Piece(position[original.id], index, mirror, log))
    return tuple(pieces)


def _reduced(leaf: Any, full: np.ndarray) -> np.ndarray:
    """The entries that CVXPY stores of a symmetric, diagonal or sparse leaf, in its order."""
    if leaf.attributes["diag"]:
        return np.diagonal(full)
    if _is_symmetric(leaf):
        upper = np.triu_indices(full.shape[-1])
        return full[..., upper[0], upper[1]].ravel(order="F")
    return full[leaf.sparse_idx]


def _is_symmetric(leaf: Any) -> bool:
    return any(leaf.attributes[name] for name in ("symmetric", "PSD", "NSD"))


def _variables(problem: cp.Problem, stuffed: Any, chain: Any) -> dict[int, Selection]:
    """Where the entries of each variable stand in x."""
    final = chain.compose_var_id_map()
    n = stuffed.x.size
    selections = {}
    variable: Any
    for variable in problem.variables():
        inner = final.get(variable.id, [variable.id])[-1]
        if inner not in stuffed.var_id_to_col:
            continue
        start = stuffed.var_id_to_col[inner]
        if not variable._has_dim_reducing_attr:
            index = np.arange(start, start + variable.size).reshape(variable.shape, order="F")
        else:
            index = np.full(variable.shape, n)
            if variable.attributes["diag"]:
                side = np.arange(variable.shape[0])
                index[side, side] = start + side
            elif _is_symmetric(variable):
                rows, columns = np.triu_indices(variable.shape[-1])
                batch = variable.shape[:-2]
                count = int(np.prod(batch)) * len(rows)
                entries = np.arange(start, start + count).reshape((*batch, len(rows)), order="F")
                index[..., rows, columns] = entries
                index[..., columns, rows] = entries
            else:
                index[variable.sparse_idx] = np.arange(start, start + len(variable.sparse_idx[0]))
        selections[variable.id] = Selection(index)
    return selections


def _duals(problem: cp.Problem, chain: Any, inverse: Any, n: int, m: int) -> dict[int, Selection]:
    """Where the entries of each dual variable stand in y, and by which factor.

    CVXPY recovers duals by linear maps with one entry in a row, whatever the constraint; sent through
    them, a vector of ones shows the factors and one of positions the places.
    """
    kept = {dual: dual.value for con in problem.constraints for dual in con.dual_variables}
    ones, places = (
        _recovered(problem, chain.invert((np.zeros(n), y), inverse).dual_vars)
        for y in (np.ones(m), np.arange(1.0, m + 1))
    )
    for dual, value in kept.items():
        dual.save_value(value)
    selections = {}
    for id_, factor in ones.items():
        used = factor != 0
        place = np.where(used, places[id_] / np.where(used, factor, 1), m + 1)
        index = np.rint(place).astype(int) - 1
        selections[id_] = Selection(index, None if np.all(factor == 1) else factor)
    return selections


def _recovered(problem: cp.Problem, values: dict[int, Any]) -> dict[int, np.ndarray]:
    found = {}
    for con in problem.constraints:
        if con.id in values:
            con.save_dual_value(values[con.id])
            for dual in con.dual_variables:
                found[dual.id] = np.asarray(dual.value, float).reshape(dual.shape)
    return found
