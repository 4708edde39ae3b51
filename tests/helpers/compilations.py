"""What is compiled within a block, by the events that JAX reports."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import jax.monitoring

_EVENT = "/jax/core/compile/backend_compile_duration"
# Putting an argument on the device is a program of its own, made once per shape.
_TRANSFERS = {"jit(stage)", "jit(convert_element_type)", "jit(broadcast_in_dim)"}


class Compilation(NamedTuple):
    name: str
    seconds: float

    @property
    def is_transfer(self) -> bool:
        return self.name in _TRANSFERS


@contextmanager
def compilations() -> Iterator[list[Compilation]]:
    """The compilations within the block, as a list that fills as it goes."""
    found: list[Compilation] = []

    def record(event: str, duration: float, fun_name: str = "", **_: object) -> None:
        if event == _EVENT:
            found.append(Compilation(fun_name, duration))

    jax.monitoring.register_event_duration_secs_listener(record)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(record)


@contextmanager
def nothing_compiled() -> Iterator[None]:
    """Fails if the block compiles anything but transfers of its arguments."""
    with compilations() as found:
        yield
    assert not [compilation for compilation in found if not compilation.is_transfer]
