"""The batch on a source of plain numbers: when it drains, and that nothing is lost on the way."""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Iterator

import pytest

from otelagent.delivery.ledger import Ledger
from otelagent.record.batch import Batch
from otelagent.threads import Thread


class Numbers:
    def __init__(self, ledger: Ledger, max_batch_items: int) -> None:
        self.ledger = ledger
        self.max_batch_items = max_batch_items
        self.taken = 0
        self.given_up: dict[str, int] = {}
        self.waiting: deque[int] = deque()
        self.sizes: list[int] = []
        self.encoding_s = 0.0
        self.entered = threading.Event()

    def pending(self) -> int:
        return len(self.waiting)

    def mark(self) -> int:
        return self.taken + len(self.waiting)

    def waits(self, until: int) -> bool:
        return bool(self.waiting) and self.taken < until

    def enough(self) -> bool:
        return len(self.waiting) >= self.max_batch_items

    def dropped(self) -> dict[str, int]:
        return self.given_up

    def drain(self, until: int | None = None) -> tuple[bytes, int] | None:
        left = len(self.waiting) if until is None else until - self.taken
        taken = [self.waiting.popleft() for _ in range(min(self.max_batch_items, left, len(self.waiting)))]
        self.taken += len(taken)
        self.entered.set()
        time.sleep(self.encoding_s)
        self.sizes.append(len(taken))
        return (bytes(taken), len(taken)) if taken else None

    def discard(self, reason: str) -> None:
        while self.waiting:
            self.waiting.popleft()
            self.ledger.dropped(1, reason)

    def forget(self) -> None:
        self.waiting = deque()


class Bench:
    def __init__(self, schedule_delay_s: float = 60.0, max_batch_items: int = 10) -> None:
        self.ledger = Ledger("traces")
        self.source = Numbers(self.ledger, max_batch_items)
        self.got: list[int] = []
        self.batch = Batch(
            self.source,
            self.ledger,
            self.deliver,
            schedule_delay_s=schedule_delay_s,
        )

    def deliver(self, signal: str, body: bytes, items: int) -> None:
        self.got.extend(body)
        self.ledger.delivered(items)

    def add(self, *numbers: int) -> None:
        for number in numbers:
            self.ledger.ended(1)
            self.source.waiting.append(number)
            self.batch.added(self.source.enough())

    def wait_for(self, count: int) -> None:
        deadline_s = time.monotonic() + 10
        while len(self.got) < count and time.monotonic() < deadline_s:
            time.sleep(0.005)
        assert len(self.got) == count


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.batch.shutdown(time.monotonic() + 5)
    assert bench.ledger.snapshot().balanced


def soon() -> float:
    return time.monotonic() + 10


def test_no_thread_before_the_first_item(bench: Bench) -> None:
    assert bench.batch._thread is None
    bench.add(1)
    thread = bench.batch._thread
    assert thread is not None
    assert thread.name == "otelagent-batch"
    bench.add(2)
    assert bench.batch._thread is thread


def test_a_full_batch_is_drained_at_once_and_the_rest_waits(bench: Bench) -> None:
    bench.add(*range(25))
    bench.wait_for(20)
    time.sleep(0.05)
    assert len(bench.got) == 20
    assert bench.batch.flush(soon())
    assert bench.got == list(range(25))


def test_the_schedule_drains_what_is_there() -> None:
    bench = Bench(schedule_delay_s=0.05)
    bench.add(1, 2)
    bench.wait_for(2)
    bench.batch.shutdown(soon())


def test_flush_waits_for_the_batch_that_the_thread_has_taken(bench: Bench) -> None:
    bench.source.encoding_s = 0.2
    bench.add(*range(10))
    assert bench.source.entered.wait(5)
    assert bench.source.pending() == 0
    assert bench.batch.flush(soon())
    assert len(bench.got) == 10


def test_flush_says_when_time_was_too_short(bench: Bench) -> None:
    bench.source.encoding_s = 0.3
    bench.add(*range(10))
    assert bench.source.entered.wait(5)
    before_s = time.monotonic()
    assert not bench.batch.flush(before_s + 0.05)
    assert time.monotonic() - before_s < 0.25
    assert bench.batch.flush(soon())


def test_flush_after_the_deadline_is_true_only_for_nothing(bench: Bench) -> None:
    assert bench.batch.flush(time.monotonic() - 1)
    bench.add(1)
    assert not bench.batch.flush(time.monotonic() - 1)
    assert bench.batch.flush(soon())


def test_flush_drains_without_a_thread(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    starts = []

    def cannot_start(self: Thread) -> None:
        starts.append(1)
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(Thread, "start", cannot_start)
    bench.add(1, 2, 3)
    assert len(starts) == 1  # Not once per span.
    assert bench.batch.flush(soon())
    assert bench.got == [1, 2, 3]


def test_a_flush_inside_a_drain_does_not_wait_for_itself(bench: Bench) -> None:
    answers: list[bool] = []

    def flushing(signal: str, body: bytes, items: int) -> None:
        answers.append(bench.batch.flush(soon()))
        bench.deliver(signal, body, items)

    bench.batch._deliver = flushing
    bench.add(1)
    assert bench.batch.flush(soon())
    assert answers == [False]


def test_deliver_that_raises_is_counted(bench: Bench) -> None:
    def refuse(signal: str, body: bytes, items: int) -> None:
        raise ValueError("full")

    bench.batch._deliver = refuse
    bench.add(1, 2)
    assert bench.batch.flush(soon())
    assert dict(bench.ledger.snapshot().dropped) == {"deliver_error": 2}


def test_an_item_that_slips_past_shutdown_is_swept_up(bench: Bench) -> None:
    assert not bench.batch.closed
    bench.batch.shutdown(soon())
    assert bench.batch.closed
    bench.add(1)
    assert dict(bench.ledger.snapshot().dropped) == {"shutdown": 1}


def test_shutdown_ends_the_thread(bench: Bench) -> None:
    bench.add(1)
    thread = bench.batch._thread
    assert thread is not None
    assert bench.batch.shutdown(soon())
    thread.join(5)
    assert not thread.is_alive()
    assert bench.got == [1]


def test_items_and_flushes_from_a_signal_handler_never_hang(bench: Bench) -> None:
    interrupted = 0
    inside = False

    def handler(*_: object) -> None:
        nonlocal interrupted, inside
        if inside:
            return
        inside = True
        interrupted += 1
        bench.add(interrupted % 256)
        bench.batch.flush(time.monotonic() + 0.0005)
        inside = False

    previous = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.002)
    try:
        end_s = time.monotonic() + 1
        while time.monotonic() < end_s:
            bench.add(0)
            bench.batch.flush(time.monotonic() + 0.01)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert interrupted > 10
    assert bench.batch.flush(soon())
    snapshot = bench.ledger.snapshot()
    assert snapshot.ended == snapshot.delivered == len(bench.got)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_request_whose_handing_on_is_interrupted_is_handed_on_again(bench: Bench, moment: str) -> None:
    bodies: list[bytes] = []

    def interrupted(signal: str, body: bytes, items: int) -> None:
        bodies.append(body)
        bench.batch._deliver = bench.deliver
        raise KeyboardInterrupt

    def again(signal: str, body: bytes, items: int) -> None:
        bodies.append(body)
        bench.deliver(signal, body, items)

    bench.add(1, 2)
    bench.batch._deliver = interrupted
    with pytest.raises(KeyboardInterrupt):
        bench.batch.flush(soon())
    bench.batch._deliver = again
    assert bench.batch.flush(soon() if moment == "before" else time.monotonic() - 1)
    assert bodies[0] is bodies[1]
    assert bench.got == [1, 2]


@pytest.mark.parametrize("deadline_s", [float("inf"), float("nan"), float("-inf")])
def test_any_deadline_is_one(bench: Bench, deadline_s: float) -> None:
    bench.add(1)
    assert bench.batch.flush(deadline_s) is (deadline_s > 0)
    bench.batch.shutdown(deadline_s)
