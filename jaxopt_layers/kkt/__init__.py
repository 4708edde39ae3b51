"""The linear systems of the solver and of its derivative: forms, factorization, refinement."""

from jaxopt_layers.kkt.choose import choose_form as choose_form
from jaxopt_layers.kkt.choose import choose_loop_form as choose_loop_form
from jaxopt_layers.kkt.choose import dense_operations as dense_operations
from jaxopt_layers.kkt.choose import form_by_pattern as form_by_pattern
from jaxopt_layers.kkt.choose import sparse_is_cheaper as sparse_is_cheaper
from jaxopt_layers.kkt.keep import restore as restore
from jaxopt_layers.kkt.projected import ProjectedSystem as ProjectedSystem
from jaxopt_layers.kkt.refine import refine as refine
from jaxopt_layers.kkt.refine import refined_solve as refined_solve
from jaxopt_layers.kkt.robust import robust_factor as robust_factor
from jaxopt_layers.kkt.system import Form as Form
from jaxopt_layers.kkt.system import System as System
from jaxopt_layers.kkt.system import rotated_system as rotated_system
