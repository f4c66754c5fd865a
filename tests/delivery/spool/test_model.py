"""The spool against a model: random appends, settlements, crashes, restarts and flipped bits."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from otelagent.delivery.spool import holdings
from otelagent.delivery.spool.spool import SpoolLimits
from tests.delivery.spool.disk import Disk, body, flip, number


class SpoolMachine(RuleBasedStateMachine):
    """The model is which payloads wait, with their items. Lost must be exactly what never comes back.

    At most one bit of a file is flipped: two may hit both frames of the last record, and if its process is dead by then
    nobody knows any more what it held.
    """

    def __init__(self) -> None:
        super().__init__()
        self._temporary = tempfile.TemporaryDirectory()
        self._waiting: dict[int, int] = {}
        self._flipped: set[str] = set()
        self._next = 0
        self._lost = 0

    @initialize()
    def start(self) -> None:
        self.disk = Disk(Path(self._temporary.name) / "spool", SpoolLimits(max_bytes=2**20))

    @rule(sizes=st.lists(st.sampled_from([0, 1, 300, 5000]), min_size=1, max_size=6), items=st.integers(0, 9))
    def append(self, sizes: list[int], items: int) -> None:
        for size in sizes:
            assert self.disk.append(body(self._next, size), items)
            self._waiting[self._next] = items
            self._next += 1

    @rule(times=st.integers(1, 6))
    def take(self, times: int) -> None:
        for _ in range(times):
            payload = self.disk.take()
            if payload is not None:
                self._arrived(number(payload), payload.items)

    def _arrived(self, which: int, items: int) -> None:
        if which in self._waiting:
            assert self._waiting.pop(which) == items
        else:
            assert self._flipped, "it came twice, though the cursor was whole"

    @rule()
    def release(self) -> None:
        payload = self.disk.spool.next()
        self.disk.spool.release()
        again = self.disk.spool.next()
        self.disk.spool.release()
        assert again == payload

    @rule(close=st.booleans())
    def restart(self, close: bool) -> None:
        self._end(close)
        self._begin()

    def _end(self, close: bool) -> None:
        assert not self.disk.failures
        self._lost += sum(self.disk.ledger.snapshot().dropped.values())
        if close:
            self.disk.spool.close()
        else:
            self.disk.die()

    def _begin(self) -> None:
        self.disk = Disk(self.disk.directory, self.disk.spool.limits)
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(holdings, "_MAX_ADOPTED", 1000)
            self.disk.adopt()
        waiting = sum(self._waiting.values()) - self._lost
        # A cursor that was flipped has gone back by one step, and what is sent again counts again.
        assert self.disk.ledger.snapshot().adopted >= waiting
        assert self._flipped or self.disk.ledger.snapshot().adopted == waiting

    @precondition(lambda self: self.disk.files())
    @rule(which=st.integers(0), where=st.integers(0))
    def flip_a_bit(self, which: int, where: int) -> None:
        files = self.disk.files()
        file = files[which % len(files)]
        if file.name not in self._flipped:
            self._flipped.add(file.name)
            flip(file, where % (file.stat().st_size * 8))

    @precondition(lambda self: self.disk.files())
    @rule(tail=st.binary(min_size=1, max_size=100))
    def torn_write(self, tail: bytes) -> None:
        """A process is killed in the middle of its last write."""
        last = self.disk.files()[-1]
        if last.name in self._flipped:
            return
        self._end(False)
        with last.open("ab") as file:
            file.write(tail)
        self._begin()

    @invariant()
    def the_books_balance(self) -> None:
        if hasattr(self, "disk"):
            self.disk.check()

    def teardown(self) -> None:
        with self._temporary:
            if hasattr(self, "disk"):
                self._deliver_all()

    def _deliver_all(self) -> None:
        for payload in [*self.disk.drain()]:
            self._arrived(number(payload), payload.items)
        self._end(True)
        assert self._lost == sum(self._waiting.values())
        assert not self.disk.files()


# Random programs; `make faults` runs more of them.
EXAMPLES = int(os.environ.get("SPOOL_MODEL_EXAMPLES", "150"))

SpoolMachine.TestCase.settings = settings(max_examples=EXAMPLES, stateful_step_count=40)
TestSpoolAgainstItsModel = SpoolMachine.TestCase
