"""Ids of the stock SDK's spans."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from weakref import WeakSet

from opentelemetry.sdk.trace.id_generator import IdGenerator

__all__ = ["ProcessIdGenerator"]

_generators: WeakSet[ProcessIdGenerator] = WeakSet()


class ProcessIdGenerator(IdGenerator):
    """Random ids from a generator of its own, seeded by the system.

    The stock one draws from the `random` module's shared state, so that an application which calls `random.seed(1)`
    makes the same trace ids in every process.
    """

    def __init__(self) -> None:
        self.reseed()
        _generators.add(self)

    def reseed(self) -> None:
        """Starts a new sequence from the system's entropy: a fork child must not repeat its parent's ids."""
        self._bits: Callable[[int], int] = random.Random().getrandbits

    def generate_span_id(self) -> int:
        """A random non-zero 64-bit integer."""
        return self._bits(64) or self.generate_span_id()

    def generate_trace_id(self) -> int:
        """A random non-zero 128-bit integer."""
        return self._bits(128) or self.generate_trace_id()

    def is_trace_id_random(self) -> bool:
        """True: the W3C random-trace-id flag may be set."""
        return True


def _reseed() -> None:
    for generator in list(_generators):
        generator.reseed()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reseed)
