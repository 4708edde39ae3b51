"""Implicit derivatives of the solution map: the linearized conditions, and the rules that use them."""

from jaxopt_layers.implicit.data import Data as Data
from jaxopt_layers.implicit.data import Layout as Layout
from jaxopt_layers.implicit.data import Marks as Marks
from jaxopt_layers.implicit.data import Vectors as Vectors
from jaxopt_layers.implicit.equations import Equations as Equations
from jaxopt_layers.implicit.rules import solve as solve
