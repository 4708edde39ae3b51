"""The orthogonal change of coordinates in which a matrix that maps every cone's rows is diagonal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_layers.cones.cone import Cone


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Rotation:
    """U of ``U diag(values) U'``, block by block; the identity for cones whose matrices are diagonal."""

    cones: tuple[Cone, ...] = field(metadata={"static": True})
    parts: list[Any]

    @property
    def is_identity(self) -> bool:
        return not jax.tree.leaves(self.parts)

    def into(self, v: Array) -> Array:
        """U'v for v (rows,) or a stack (k, rows); the rows may end at any cone's end."""
        return self._map("rotate", v)

    def out(self, v: Array) -> Array:
        """U v."""
        return self._map("unrotate", v)

    def _map(self, name: str, v: Array) -> Array:
        if self.is_identity:
            return v
        results, start, length = [], 0, v.shape[-1]
        for cone, part in zip(self.cones, self.parts, strict=True):
            piece = v[..., start : min(start + cone.size, length)]
            start += cone.size
            if jax.tree.leaves(part) and piece.shape[-1]:
                function = getattr(cone, name)
                piece = (
                    function(part, piece)
                    if v.ndim == 1
                    else jax.vmap(lambda row, f=function, p=part: f(p, row))(piece)
                )
            results.append(piece)
        return jnp.concatenate(results, axis=-1)
