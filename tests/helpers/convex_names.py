"""The names of the modelling language, as `jaxopt_layers` exports them."""

from jaxopt_layers.atoms import *  # noqa: F403
from jaxopt_layers.cone_constraints import *  # noqa: F403
from jaxopt_layers.convex_layer import *  # noqa: F403
from jaxopt_layers.dpp.errors import DCPError as DCPError
from jaxopt_layers.dpp.errors import DPPError as DPPError
