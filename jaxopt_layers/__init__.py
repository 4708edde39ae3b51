"""Differentiable convex optimization for JAX: the whole public API."""

from importlib.metadata import version as _version

from jaxopt_layers.cone import solve_cone as solve_cone
from jaxopt_layers.cone_operators import derivative_quality as derivative_quality
from jaxopt_layers.cone_operators import solve_and_derivative as solve_and_derivative
from jaxopt_layers.cones import Cones as Cones
from jaxopt_layers.cones.vectorize import smat as smat
from jaxopt_layers.cones.vectorize import svec as svec
from jaxopt_layers.project import project as project
from jaxopt_layers.project import project_dual as project_dual
from jaxopt_layers.qp import solve_qp as solve_qp
from jaxopt_layers.settings import Derivative as Derivative
from jaxopt_layers.settings import Settings as Settings
from jaxopt_layers.solution import ConeSolution as ConeSolution
from jaxopt_layers.solution import QPSolution as QPSolution
from jaxopt_layers.solution import SolverError as SolverError
from jaxopt_layers.solution import raise_if_failed as raise_if_failed
from jaxopt_layers.sparse_matrix import SparseMatrix as SparseMatrix
from jaxopt_layers.status import Status as Status

__version__ = _version("jaxopt_layers")
