"""The stock SDK's queue against a model of plain lists: what it keeps, in which order, and every count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from otelagent.delivery.ledger import Ledger
from otelagent.record.span_queue import SpanQueue
from otelagent.record.weight import PRIORITIES


class Item(NamedTuple):
    number: int
    priority: int
    size: int
    good: bool = True


def encode(items: Sequence[Item]) -> bytes:
    if not all(item.good for item in items):
        raise ValueError("can't be encoded")
    return bytes(item.number % 256 for item in items)


class Interrupted(BaseException):
    pass


class QueueMachine(RuleBasedStateMachine):
    @initialize(max_items=st.integers(1, 8), max_bytes=st.integers(1, 200), max_batch_items=st.integers(1, 6))
    def start(self, max_items: int, max_bytes: int, max_batch_items: int) -> None:
        self.max_items, self.max_bytes, self.max_batch_items = max_items, max_bytes, min(max_batch_items, max_items)
        self.ledger = Ledger("traces")
        self.interrupt = False
        self.queue = SpanQueue(
            self.ledger,
            max_items=max_items,
            max_bytes=max_bytes,
            max_batch_items=max_batch_items,
            weigh=lambda item: (item.priority, item.size),
            encode=self.encode,
        )
        self.waiting: list[Item] = []
        self.dropped: Counter[str] = Counter()
        self.ended = 0
        self.marks: list[tuple[int, int]] = []

    def encode(self, items: Sequence[Item]) -> bytes:
        if self.interrupt:
            raise Interrupted
        return encode(items)

    def fits(self, item: Item, waiting: list[Item]) -> bool:
        return len(waiting) < self.max_items and sum(one.size for one in waiting) + item.size <= self.max_bytes

    @rule(
        priority=st.sampled_from(PRIORITIES), size=st.integers(0, 90), good=st.sampled_from([True, True, True, False])
    )
    def offer(self, priority: int, size: int, good: bool) -> None:
        item = Item(self.ended, priority, size, good)
        self.ended += 1
        self.ledger.ended(1)
        enough = self.queue.offer(item)
        taken = size <= self.max_bytes
        if not taken:
            self.dropped["too_large"] += 1
        else:
            lower = sorted((one for one in self.waiting if one.priority > priority), key=lambda one: -one.priority)
            gone = next((n for n in range(len(lower) + 1) if self.fits(item, self.without(lower[:n]))), None)
            taken = gone is not None
            self.dropped["queue_full"] += gone if gone is not None else 1
            if gone is not None:
                self.waiting = [*self.without(lower[:gone]), item]
        assert (enough is not None) == taken

    def without(self, gone: list[Item]) -> list[Item]:
        return [one for one in self.waiting if one not in gone]

    @rule()
    def mark(self) -> None:
        self.marks.append((self.queue.mark(), self.ended))

    @rule(data=st.data())
    def drain(self, data: st.DataObject) -> None:
        mark, until = data.draw(st.sampled_from([(None, self.ended), *self.marks]))
        if mark is not None:
            assert self.queue.waits(mark) == any(one.number < until for one in self.waiting)
        got = self.queue.drain(mark)
        while chosen := self.chosen(until):
            self.waiting = self.without(chosen)
            bad = sum(not one.good for one in chosen)
            if bad:
                self.dropped["encode_error"] += bad
            if good := [one for one in chosen if one.good]:
                assert got == (encode(sorted(good)), len(good))
                self.ledger.delivered(len(good))
                return
        assert got is None

    def chosen(self, until: int) -> list[Item]:
        before = [one for one in self.waiting if one.number < until]
        return sorted(before, key=lambda one: one.priority)[: self.max_batch_items]

    @rule()
    def drain_interrupted(self) -> None:
        self.interrupt = True
        try:
            assert self.queue.drain() is None
        except Interrupted:
            pass
        self.interrupt = False

    @rule()
    def discard(self) -> None:
        self.queue.discard("shutdown")
        self.dropped["shutdown"] += len(self.waiting)
        self.waiting = []

    @invariant()
    def as_the_model(self) -> None:
        if not hasattr(self, "queue"):
            return
        assert [entry[3] for lane in self.queue._lanes for entry in lane.entries] == sorted(
            self.waiting, key=lambda one: one.priority
        )
        assert self.queue.pending() == len(self.waiting) <= self.max_items
        assert self.queue._held() == sum(one.size for one in self.waiting) <= self.max_bytes
        assert self.queue.dropped() == {reason: count for reason, count in self.dropped.items() if count}
        snapshot = self.ledger.snapshot()
        assert snapshot.balanced
        assert (snapshot.ended, snapshot.queued) == (self.ended, len(self.waiting))
        assert dict(snapshot.dropped) == self.queue.dropped()


QueueMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40)
TestQueue = QueueMachine.TestCase
