"""The one table of tolerances, by dtype. All are relative to the size of what is compared."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Tolerances:
    """How exact a result must be.

    - `kkt`: residual of the optimality conditions at a solution.
    - `value`: a solution against another solver's or a known one; the problem's conditioning
      stands between it and `kkt`.
    - `gradient`: first derivatives against central differences of another solver.
    - `second`: second derivatives.
    - `exact`: derivatives against a closed form, and between two ways to compute the same thing.
    - `zero`: what an entry that is zero in exact arithmetic may be, for data of size one.
    """

    kkt: float
    value: float
    gradient: float
    second: float
    exact: float
    zero: float


TOLERANCES = {
    np.dtype("float64"): Tolerances(
        kkt=1e-8, value=1e-6, gradient=1e-6, second=1e-6, exact=1e-7, zero=1e-7
    ),
    np.dtype("float32"): Tolerances(
        kkt=1e-4, value=1e-3, gradient=1e-2, second=5e-2, exact=1e-3, zero=1e-3
    ),
}

F64 = TOLERANCES[np.dtype("float64")]
F32 = TOLERANCES[np.dtype("float32")]
