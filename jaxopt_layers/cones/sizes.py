"""`Cones`: which cones the rows of a program belong to."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from jaxopt_layers.cones.cone import Cone
from jaxopt_layers.cones.exponential import DualExponential, Exponential
from jaxopt_layers.cones.nonnegative import Nonnegative
from jaxopt_layers.cones.padded import PaddedSecondOrder, grouped
from jaxopt_layers.cones.positive_semidefinite import PositiveSemidefinite
from jaxopt_layers.cones.power import DualPower, Power
from jaxopt_layers.cones.product import Product
from jaxopt_layers.cones.second_order import SecondOrder
from jaxopt_layers.cones.stack import Stack
from jaxopt_layers.cones.zero import Zero


@dataclass(frozen=True)
class Cones:
    """The product K of ``Ax + s = b, s in K``; its rows stand in the order of the fields.

    Frozen and hashable: static under `jax.jit`. The order is that of SCS and diffcp.

    - `zero`: number of rows with s = 0 (equalities).
    - `nonnegative`: number of rows with s >= 0.
    - `second_order`: dimension of each cone ``{(t, x): t >= |x|}``, t first.
    - `psd`: side length k of each cone of positive semidefinite matrices, k(k+1)/2 rows each: the lower
      triangle by columns, off-diagonal entries times sqrt 2 (see [`svec`][], [`smat`][]).
    - `exponential`: number of triples ``{(x, y, z): y exp(x / y) <= z, y > 0}`` (closed).
    - `dual_exponential`: number of triples of the dual cone ``{(u, v, w): -u exp(v / u) <= e w, u < 0}``.
    - `power`: exponent a in (0, 1) of each triple ``{(x, y, z): x^a y^(1-a) >= |z|, x, y >= 0}``; a
      negative one means the dual cone of that with |a|.

    **Raises:** ValueError or TypeError that names the field.

    ```python
    import jaxopt_layers as jl

    jl.Cones(zero=1, nonnegative=4, second_order=(3, 3)).size  # 11 rows
    ```
    """

    zero: int = 0
    nonnegative: int = 0
    second_order: tuple[int, ...] = ()
    psd: tuple[int, ...] = ()
    exponential: int = 0
    dual_exponential: int = 0
    power: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for name in ("zero", "nonnegative", "exponential", "dual_exponential"):
            object.__setattr__(self, name, _count(name, getattr(self, name), 0))
        for name in ("second_order", "psd"):
            values = [_count(name, value, 1) for value in _several(name, getattr(self, name))]
            object.__setattr__(self, name, tuple(values))
        exponents = tuple(_exponent(value) for value in _several("power", self.power))
        object.__setattr__(self, "power", exponents)

    @property
    def size(self) -> int:
        """Number of rows."""
        return sum(self._blocks[1])

    @cached_property
    def _blocks(self) -> tuple[list[Any], list[int]]:
        """The cones in the rows' order, as keys that are equal for what is mapped together, and sizes."""
        keys: list[Any] = [("zero",)] * bool(self.zero)
        sizes = [self.zero] * bool(self.zero)
        keys += [("nonnegative",)] * bool(self.nonnegative)
        sizes += [self.nonnegative] * bool(self.nonnegative)
        keys += [("second_order", size) for size in self.second_order]
        sizes += self.second_order
        keys += [("psd", side) for side in self.psd]
        sizes += [side * (side + 1) // 2 for side in self.psd]
        triples = [("exponential",)] * self.exponential
        triples += [("dual_exponential",)] * self.dual_exponential
        triples += [("power",) if a > 0 else ("dual_power",) for a in self.power]
        return keys + triples, sizes + [3] * len(triples)

    @cached_property
    def product(self) -> Product:
        """The product with equal cones stacked, so that its rows stand as `order` has them."""
        keys, sizes = self._blocks
        cones = []
        for key in dict.fromkeys(keys):
            size = sizes[keys.index(key)]
            cones.append(self._stack(key, size, keys.count(key)))
        return Product(tuple(cones))

    @cached_property
    def padded(self) -> Product:
        """The same rows, second-order cones of different sizes mapped together: faster to compile."""
        cones: list[Cone] = []
        sizes: list[int] = []
        for cone in self.product.cones:
            if isinstance(cone, Stack) and isinstance(cone.cone, SecondOrder):
                sizes += [cone.cone.size] * cone.count
            else:
                cones += _grouped_cones(sizes)
                sizes = []
                cones.append(cone)
        return Product((*cones, *_grouped_cones(sizes)))

    @cached_property
    def order(self) -> np.ndarray | None:
        """The user's row of each row of `product`; None where the two are the same."""
        keys, sizes = self._blocks
        ends = np.cumsum([0, *sizes])
        rows = [
            np.arange(ends[i], ends[i + 1])
            for key in dict.fromkeys(keys)
            for i, other in enumerate(keys)
            if other == key
        ]
        order = np.concatenate(rows) if rows else np.zeros(0, int)
        return None if np.array_equal(order, np.arange(len(order))) else order

    def _stack(self, key: tuple[Any, ...], size: int, count: int) -> Cone:
        kind = key[0]
        if kind == "zero":
            return Zero(size)
        if kind == "nonnegative":
            return Nonnegative(size)
        if kind in ("power", "dual_power"):
            exponents = tuple(abs(a) for a in self.power if (a > 0) == (kind == "power"))
            make = Power if kind == "power" else DualPower
            return Stack(make(exponents[0]), count, exponents)
        cones = {"exponential": Exponential, "dual_exponential": DualExponential}
        if kind in cones:
            return Stack(cones[kind](), count)
        return Stack(
            (SecondOrder if kind == "second_order" else PositiveSemidefinite)(key[1]), count
        )


def _grouped_cones(sizes: list[int]) -> list[Cone]:
    return [
        PaddedSecondOrder(group)
        if len(set(group)) > 1
        else Stack(SecondOrder(group[0]), len(group))
        for group in grouped(tuple(sizes))
    ]


def _several(name: str, value: Any) -> tuple[Any, ...]:
    if isinstance(value, Iterable) and not isinstance(value, str):
        return tuple(value)
    raise TypeError(f"Cones: `{name}` must be a tuple, for example ({value!r},); got {value!r}.")


def _count(name: str, value: Any, low: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"Cones: `{name}` must hold Python integers; got {value!r}.")
    if value < low:
        raise ValueError(f"Cones: `{name}` must be at least {low}; got {value}.")
    return int(value)


def _exponent(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating):
        raise TypeError(f"Cones: `power` must hold Python floats; got {value!r}.")
    if not (math.isfinite(value) and 0 < abs(value) < 1):
        raise ValueError(
            "Cones: `power` must hold exponents in (0, 1), or in (-1, 0) for the dual cone; got"
            f" {value!r}."
        )
    return float(value)
