"""The sparse factorization: its symbolic phase on the host, its numbers in batches, on any device.

A pattern never changes while the values do. So the elimination order, the fronts and the schedule in
which they are factored are found once, when tracing. The numbers then take three stages: rounds of small
clusters of nodes without edges between them (`clusters` chooses them, `condense` eliminates them), which
come to most of a chain or a tree; a few loops over batches of fronts that are padded to one size (Duff &
Reid 1983, "The multifrontal solution of indefinite sparse symmetric linear equations"; Liu 1992); and one
dense root.
"""

from jaxopt_layers.multifrontal.factor import Factor as Factor
from jaxopt_layers.multifrontal.factor import factor as factor
from jaxopt_layers.multifrontal.members import members_last as members_last
from jaxopt_layers.multifrontal.ordering import is_available as is_available
from jaxopt_layers.multifrontal.plan import Plan as Plan
from jaxopt_layers.multifrontal.plan import make_plan as make_plan
from jaxopt_layers.multifrontal.solve import solve as solve
