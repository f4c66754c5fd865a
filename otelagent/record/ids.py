"""Ids of the stock SDK's spans."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from weakref import WeakSet

from opentelemetry.sdk.trace.id_generator import IdGenerator

from otelagent.forks import at_fork
from otelagent.record.rate_limited_log import RateLimitedLog

__all__ = ["GuardedIdGenerator", "ProcessIdGenerator"]

_log = RateLimitedLog(logging.getLogger(__name__))

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


class GuardedIdGenerator(ProcessIdGenerator):
    """The ids of another generator; a random one where that fails or gives none that is valid.

    :param inner: the application's.
    """

    def __init__(self, inner: IdGenerator) -> None:
        super().__init__()
        self._inner = inner

    def generate_span_id(self) -> int:
        """The other generator's, a 64-bit integer."""
        return self._given(self._inner.generate_span_id, 64) or super().generate_span_id()

    def generate_trace_id(self) -> int:
        """The other generator's, a 128-bit integer."""
        return self._given(self._inner.generate_trace_id, 128) or super().generate_trace_id()

    def is_trace_id_random(self) -> bool:
        """What the other generator says."""
        try:
            return bool(self._inner.is_trace_id_random())
        except (Exception, SystemExit):
            _log.warning("ids", "The id generator failed", exc_info=True)
            return False

    def _given(self, generate: Callable[[], int], bits: int) -> int:
        try:
            value = generate()
            if 0 < value < 1 << bits:
                return value
            raise ValueError(f"{value!r} is no valid id")
        except (Exception, SystemExit):
            _log.warning("ids", "The id generator failed; otelagent's own gives the id", exc_info=True)
            return 0


def _reseed() -> None:
    for generator in list(_generators):
        generator.reseed()


at_fork(in_child=_reseed)
