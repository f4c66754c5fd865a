from __future__ import annotations

import errno
import threading
import time

import pytest

from otelagent.delivery import Accepted, Limits, Payload, Rejected, Result, Retryable, RetryPolicy
from otelagent.delivery.worker import THREAD_NAME
from otelagent.threads import Thread
from tests.delivery.conftest import OpenBooks
from tests.delivery.harness import FakeTransport, payload
from tests.support import wait_until

DOWN = Retryable("connection")
LATER = Retryable("http_503", 60.0)
SLOW_RETRY = RetryPolicy(initial_s=60, max_s=60, uniform=lambda: 1.0)


class Gate:
    """A send that lasts until it is opened."""

    def __init__(self, result: Result) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()
        self._result = result

    def __call__(self) -> Result:
        self.entered.set()
        assert self.opened.wait(10)
        return self._result


def test_everything_arrives_in_order(open_books: OpenBooks) -> None:
    transport = FakeTransport()
    books = open_books(transport)
    payloads = [payload(n) for n in range(1, 20)]
    books.submit(*payloads)
    assert books.flush()
    assert transport.sent == payloads
    assert books.ledger.snapshot().delivered == sum(range(1, 20))


def test_nothing_happens_before_the_first_payload(open_books: OpenBooks) -> None:
    books = open_books(FakeTransport())
    assert books.flush()
    assert THREAD_NAME not in [thread.name for thread in threading.enumerate()]


def test_submitting_never_waits_for_a_send(open_books: OpenBooks) -> None:
    gate = Gate(Accepted())
    books = open_books(FakeTransport(gate, Accepted()))
    books.submit(payload())
    assert gate.entered.wait(5)
    begun = time.monotonic()
    books.submit(*[payload() for _ in range(100)])
    assert time.monotonic() - begun < 0.5
    assert books.ledger.snapshot().queued == 101
    books.check()
    gate.opened.set()
    assert books.flush()


def test_a_destination_that_comes_back_gets_everything(open_books: OpenBooks) -> None:
    transport = FakeTransport(*[DOWN] * 20, Accepted())
    books = open_books(transport)
    payloads = [payload(5) for _ in range(10)]
    books.submit(*payloads)
    assert books.flush()
    assert transport.sent[20:] == payloads
    assert transport.sent[:20] == payloads[:1] * 20
    assert books.ledger.snapshot().delivered == 50


def test_a_rejected_payload_is_counted_and_not_repeated(open_books: OpenBooks) -> None:
    transport = FakeTransport(Rejected("http_400"), Accepted())
    books = open_books(transport)
    books.submit(payload(3), payload(4))
    assert not books.flush()
    assert len(transport.sent) == 2
    snapshot = books.ledger.snapshot()
    assert (dict(snapshot.rejected), snapshot.delivered) == ({"http_400": 3}, 4)


@pytest.mark.parametrize(
    ("claimed", "counted", "truth"), [(2, 2, False), (0, 0, True), (-1, 0, True), (99, 5, False), (5, 5, False)]
)
def test_partial_success_is_counted_and_not_repeated(
    open_books: OpenBooks, claimed: int, counted: int, truth: bool
) -> None:
    transport = FakeTransport(Accepted(claimed))
    books = open_books(transport)
    books.submit(payload(5))
    assert books.flush() is truth
    assert len(transport.sent) == 1
    snapshot = books.ledger.snapshot()
    assert snapshot.delivered == 5 - counted
    assert sum(snapshot.rejected.values()) == counted


def test_a_broken_transport_loses_its_payload_and_nothing_else(open_books: OpenBooks) -> None:
    def fail() -> Result:
        raise RuntimeError("with a secret")

    books = open_books(FakeTransport(fail, Accepted()))
    books.submit(payload(2), payload(3))
    assert not books.flush()
    snapshot = books.ledger.snapshot()
    assert (dict(snapshot.rejected), snapshot.delivered) == ({"internal_error": 2}, 3)


@pytest.mark.parametrize("error", [OSError(errno.EMFILE, "Too many open files"), ImportError("no module")], ids=repr)
def test_a_transport_without_what_it_needs_of_the_machine_has_it_later(open_books: OpenBooks, error: Exception) -> None:
    def fail() -> Result:
        raise error

    books = open_books(FakeTransport(fail, fail, Accepted()))
    books.submit(payload(2), payload(3))
    assert books.flush()
    last = books.destination.status()["last_error"]
    assert isinstance(last, dict)
    assert (last["reason"], last["message"]) == ("system_error", getattr(error, "strerror", None) or str(error))
    assert books.ledger.snapshot().delivered == 5


def test_a_full_queue_drops_the_new_payload_and_counts_it(open_books: OpenBooks) -> None:
    gate = Gate(Accepted())
    transport = FakeTransport(gate, Accepted())
    books = open_books(transport, limits=Limits(queue_max_bytes=250))
    first, second, third = (Payload("traces", bytes(100), n) for n in (1, 2, 4))
    books.submit(first)
    assert gate.entered.wait(5)
    books.submit(second, third)
    assert dict(books.ledger.snapshot().dropped) == {"queue_full": 4}
    books.check()
    gate.opened.set()
    assert not books.flush()
    assert books.flush()
    assert transport.sent == [first, second]
    books.submit(third)
    assert books.flush()


class TestFlush:
    def test_is_true_only_when_the_destination_has_taken_everything(self, open_books: OpenBooks) -> None:
        gate = Gate(Accepted())
        books = open_books(FakeTransport(gate, Accepted()))
        books.submit(payload(), payload())
        begun = time.monotonic()
        assert not books.flush(0.1)
        assert 0.1 <= time.monotonic() - begun < 0.5
        gate.opened.set()
        assert books.flush()

    def test_does_not_wait_for_what_comes_after_it(self, open_books: OpenBooks) -> None:
        first, second = Gate(Accepted()), Gate(Rejected("http_400"))
        books = open_books(FakeTransport(first, second, Accepted()))
        books.submit(payload())
        assert first.entered.wait(5)
        answers: list[bool] = []
        flush = threading.Thread(target=lambda: answers.append(books.flush()))
        flush.start()
        wait_until(lambda: books.destination._pace.hurried)
        books.submit(payload())
        first.opened.set()
        flush.join(5)
        assert answers == [True]
        second.opened.set()
        assert not books.flush()

    def test_reports_a_loss_since_the_last_one_and_only_once(self, open_books: OpenBooks) -> None:
        books = open_books(FakeTransport(Rejected("http_400"), Accepted()))
        books.submit(payload())
        wait_until(lambda: books.ledger.snapshot().queued == 0)
        assert not books.flush()
        books.submit(payload())
        assert books.flush()

    def test_tries_at_once_what_waits_for_its_backoff(self, open_books: OpenBooks) -> None:
        transport = FakeTransport(DOWN, Accepted())
        books = open_books(transport, SLOW_RETRY)
        books.submit(payload())
        wait_until(lambda: len(transport.sent) == 1)
        begun = time.monotonic()
        assert books.flush()
        assert time.monotonic() - begun < 1

    def test_cuts_short_the_backoff_of_a_try_under_way(self, open_books: OpenBooks) -> None:
        gate = Gate(DOWN)
        books = open_books(FakeTransport(gate, Accepted()), SLOW_RETRY)
        books.submit(payload())
        assert gate.entered.wait(5)
        threading.Timer(0.05, gate.opened.set).start()
        assert books.flush()

    def test_cuts_short_one_backoff_and_no_more(self, open_books: OpenBooks) -> None:
        transport = FakeTransport(DOWN)
        books = open_books(transport, SLOW_RETRY)
        books.submit(payload())
        wait_until(lambda: len(transport.sent) == 1)
        assert not books.flush(0.2)
        assert len(transport.sent) == 2

    def test_gives_up_at_once_when_the_server_wants_to_be_left_alone_for_longer(self, open_books: OpenBooks) -> None:
        transport = FakeTransport(LATER)
        books = open_books(transport)
        books.submit(payload())
        wait_until(lambda: len(transport.sent) == 1)
        begun = time.monotonic()
        assert not books.flush(30)
        assert time.monotonic() - begun < 1
        assert len(transport.sent) == 1

    def test_waits_as_long_as_the_server_wants_and_no_longer(self, open_books: OpenBooks) -> None:
        transport = FakeTransport(Retryable("http_503", 0.3), Accepted())
        books = open_books(transport, SLOW_RETRY)
        books.submit(payload())
        wait_until(lambda: len(transport.sent) == 1)
        assert books.flush()
        assert 0.3 <= transport.sent_at[1] - transport.sent_at[0] < 1

    def test_from_many_threads(self, open_books: OpenBooks) -> None:
        books = open_books(FakeTransport())
        answers: list[bool] = []

        def work() -> None:
            for _ in range(20):
                books.submit(payload(3))
                answers.append(books.flush())

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [True] * 160
        assert books.ledger.snapshot().delivered == 480


class TestShutdown:
    def test_delivers_what_waits_and_ends_the_thread(self, open_books: OpenBooks) -> None:
        transport = FakeTransport()
        books = open_books(transport)
        books.submit(payload(), payload())
        assert books.shutdown()
        assert len(transport.sent) == 2
        assert transport.closed == 1
        assert THREAD_NAME not in [thread.name for thread in threading.enumerate()]

    def test_drops_what_it_could_not_deliver_and_what_comes_later(self, open_books: OpenBooks) -> None:
        books = open_books(FakeTransport(DOWN))
        books.submit(payload(2), payload(3))
        begun = time.monotonic()
        assert not books.shutdown(0.2)
        assert 0.2 <= time.monotonic() - begun < 0.5
        books.submit(payload(4))
        assert dict(books.ledger.snapshot().dropped) == {"shutdown": 9}

    def test_does_not_wait_for_a_try_that_outlasts_it(self, open_books: OpenBooks) -> None:
        gate = Gate(Accepted())
        transport = FakeTransport(gate)
        books = open_books(transport)
        books.submit(payload(2))
        assert gate.entered.wait(5)
        assert not books.shutdown(0.1)
        gate.opened.set()
        wait_until(lambda: transport.closed == 1)
        snapshot = books.ledger.snapshot()
        assert (snapshot.delivered, dict(snapshot.dropped)) == (0, {"shutdown": 2})

    def test_starts_no_try_that_would_outlast_it(self, open_books: OpenBooks) -> None:
        gate = Gate(DOWN)
        transport = FakeTransport(gate, DOWN, Accepted())
        books = open_books(transport)
        books.submit(payload())
        assert gate.entered.wait(5)
        threading.Timer(0.05, gate.opened.set).start()
        assert books.shutdown(3)
        assert transport.timeouts[0] == 10
        assert all(timeout < 3 for timeout in transport.timeouts[1:])

    def test_of_an_unused_destination(self, open_books: OpenBooks) -> None:
        transport = FakeTransport()
        assert open_books(transport).shutdown(0)
        assert transport.closed == 1

    def test_twice(self, open_books: OpenBooks) -> None:
        books = open_books(FakeTransport())
        books.submit(payload())
        assert books.shutdown()
        assert books.shutdown()

    def test_does_not_make_another_flush_lie(self, open_books: OpenBooks) -> None:
        books = open_books(FakeTransport(DOWN))
        books.submit(payload())
        answers: list[bool] = []
        flush = threading.Thread(target=lambda: answers.append(books.flush(5)))
        flush.start()
        time.sleep(0.1)
        assert not books.shutdown(0.05)
        flush.join(5)
        assert answers == [False]


class TestWithoutThreads:
    """At the interpreter's end no thread can be started; whoever flushes sends."""

    @pytest.fixture(autouse=True)
    def no_threads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        start = Thread.start

        def refuse(thread: Thread) -> None:
            if thread.name == THREAD_NAME:
                raise RuntimeError("can't create new thread at interpreter shutdown")
            start(thread)

        monkeypatch.setattr(Thread, "start", refuse)

    def test_flush_sends(self, open_books: OpenBooks) -> None:
        transport = FakeTransport(DOWN, DOWN, Accepted())
        books = open_books(transport)
        books.submit(payload(2), payload(3))
        assert transport.sent == []
        assert books.flush()
        assert books.ledger.snapshot().delivered == 5

    def test_flush_ends_at_its_deadline(self, open_books: OpenBooks) -> None:
        transport = FakeTransport(DOWN)
        books = open_books(transport)
        books.submit(payload())
        begun = time.monotonic()
        assert not books.flush(0.2)
        assert 0.2 <= time.monotonic() - begun < 0.5
        assert max(transport.timeouts) <= 0.2

    def test_shutdown_sends_and_closes(self, open_books: OpenBooks) -> None:
        transport = FakeTransport()
        books = open_books(transport)
        books.submit(payload(2))
        assert books.shutdown()
        assert transport.closed == 1
        assert books.ledger.snapshot().delivered == 2

    def test_two_flushes_do_not_send_the_same_payload(self, open_books: OpenBooks) -> None:
        gate = Gate(Accepted())
        transport = FakeTransport(gate, Accepted())
        books = open_books(transport)
        books.submit(payload(), payload())
        answers: list[bool] = []
        threads = [threading.Thread(target=lambda: answers.append(books.flush())) for _ in range(2)]
        for thread in threads:
            thread.start()
        assert gate.entered.wait(5)
        gate.opened.set()
        for thread in threads:
            thread.join(5)
        assert answers == [True, True]
        assert len(transport.sent) == 2


def test_a_thread_that_dies_is_replaced(open_books: OpenBooks) -> None:
    def die() -> Result:
        raise SystemExit

    transport = FakeTransport(die, Accepted())
    books = open_books(transport)
    books.submit(payload(2))
    wait_until(lambda: len(transport.sent) == 1 and books.destination._thread is None)
    books.submit(payload(3))
    assert books.flush()
    assert books.ledger.snapshot().delivered == 5


@pytest.mark.parametrize("inline", [False, True])
def test_no_instrumentation_sees_a_send(open_books: OpenBooks, inline: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    from opentelemetry import context

    seen: list[object] = []

    def look() -> Result:
        seen.append(context.get_value(context._SUPPRESS_INSTRUMENTATION_KEY))
        seen.append(context.get_value(context._SUPPRESS_HTTP_INSTRUMENTATION_KEY))
        return Accepted()

    books = open_books(FakeTransport(look))
    if inline:
        monkeypatch.setattr(books.destination, "_start_thread", lambda: False)
    books.submit(payload())
    assert books.flush()
    assert seen == [True, True]
    assert context.get_value(context._SUPPRESS_INSTRUMENTATION_KEY) is None
