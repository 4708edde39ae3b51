"""The cones that the constraints are built of: one cone a file, one interface (`cone.Cone`)."""

from jaxopt_layers.cones.cone import Cone as Cone
from jaxopt_layers.cones.nonnegative import step_to_zero as step_to_zero
from jaxopt_layers.cones.product import Product as Product
from jaxopt_layers.cones.product import orthant_product as orthant_product
from jaxopt_layers.cones.rotation import Rotation as Rotation
from jaxopt_layers.cones.sizes import Cones as Cones
