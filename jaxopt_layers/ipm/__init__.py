"""The interior-point method on the homogeneous embedding: state, start, step, termination, loop."""

from jaxopt_layers.ipm.direct import equality_constrained as equality_constrained
from jaxopt_layers.ipm.loop import interior_point as interior_point
from jaxopt_layers.ipm.newton import central_path_point as central_path_point
from jaxopt_layers.ipm.newton import refined_point as refined_point
from jaxopt_layers.ipm.outcome import Outcome as Outcome
from jaxopt_layers.ipm.start import WarmStart as WarmStart
