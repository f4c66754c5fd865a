"""A destination with a spool: what goes to disk and when, what comes back, and that the books balance throughout."""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from otelagent.delivery import Accepted, Limits, Payload, Rejected, Result, Retryable, RetryPolicy
from otelagent.delivery.spool.place import SpoolPlace
from otelagent.delivery.spool.spool import Spool
from otelagent.delivery.spooling import THREAD_NAME as SPOOL_THREAD
from otelagent.delivery.spooling import SpoolAt
from tests.delivery.harness import QUICK, Books, FakeTransport, payload
from tests.support import wait_until

DOWN = Retryable("connection")
PATIENT = RetryPolicy(initial_s=60, max_s=60, uniform=lambda: 1.0)

OpenSpooling = Callable[..., Books]


@pytest.fixture
def open_spooling(tmp_path: Path) -> Iterator[OpenSpooling]:
    """Opens destinations that share one spool directory, as processes do one after the other."""
    opened: list[Books] = []

    def open_(transport: FakeTransport, policy: RetryPolicy = QUICK, limits: Limits | None = None) -> Books:
        spool = Spool(SpoolPlace(str(tmp_path / "spool"), "key", {}))
        opened.append(Books(transport, policy, limits, spool))
        return opened[-1]

    yield open_
    for books in opened:
        books.check()
        books.shutdown(0.2)
        books.check()
        assert books.ledger.snapshot().queued == 0
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith("otelagent")]


class Switchable:
    """A server that can be taken down."""

    def __init__(self, down: bool = True) -> None:
        self.down = down

    def __call__(self) -> Result:
        return DOWN if self.down else Accepted()


def bodies(transport: FakeTransport) -> list[bytes]:
    return [one.body for one in transport.sent]


def test_in_an_outage_everything_goes_to_disk_and_comes_back_in_order(open_spooling: OpenSpooling) -> None:
    server = Switchable()
    transport = FakeTransport(server)
    books = open_spooling(transport)
    payloads = [payload(3, f"span {n}") for n in range(40)]
    for one in payloads[:20]:
        books.submit(one)
    wait_until(lambda: books.ledger.snapshot().spooled == 60)
    wait_until(lambda: books.destination.status()["breaker"] != "closed")
    books.submit(*payloads[20:])
    wait_until(lambda: books.ledger.snapshot().spooled == 120)
    assert books.ledger.snapshot().queued == 0
    server.down = False
    before = len(transport.sent)
    wait_until(lambda: books.ledger.snapshot().delivered == 120)
    # Those that failed were tried before; those that were accepted came once each and in order.
    accepted = bodies(transport)[before:]
    assert sorted(accepted)[-40:] == sorted(accepted[-40:])
    assert accepted[-40:] == [one.body for one in payloads]
    assert books.flush()
    assert books.destination.status()["breaker"] == "closed"
    assert books.ledger.snapshot().spooled == 0


def test_a_flush_tells_that_what_is_on_disk_is_not_delivered_and_does_not_wait_for_it(
    open_spooling: OpenSpooling,
) -> None:
    server = Switchable()
    books = open_spooling(FakeTransport(server), PATIENT)
    books.submit(*[payload() for _ in range(3)])
    for _ in range(6):
        assert not books.flush(0.3)
    wait_until(lambda: books.ledger.snapshot().spooled == 3)
    begun = time.monotonic()
    assert not books.flush(30)
    assert time.monotonic() - begun < 5
    server.down = False
    assert books.flush(10)
    assert books.ledger.snapshot().delivered == 3


def test_what_came_between_two_tries_comes_back_without_a_limit(open_spooling: OpenSpooling) -> None:
    transport = FakeTransport(DOWN, Accepted())
    books = open_spooling(transport, PATIENT, Limits(replay_bytes_per_s=1))
    payloads = [payload(1, f"span {n}") for n in range(20)]
    books.submit(*payloads)
    wait_until(lambda: books.ledger.snapshot().spooled == 20)
    assert books.flush(20)
    assert bodies(transport)[1:] == [one.body for one in payloads]


def test_what_an_outage_has_left_comes_back_at_a_limited_rate(open_spooling: OpenSpooling) -> None:
    server = Switchable()
    books = open_spooling(FakeTransport(server), limits=Limits(replay_bytes_per_s=20_000))
    books.submit(*[Payload("traces", bytes(10_000), 1) for _ in range(40)])
    wait_until(lambda: books.ledger.snapshot().spooled == 40)
    wait_until(lambda: books.destination.status()["breaker"] != "closed")
    server.down = False
    wait_until(lambda: books.destination.status()["breaker"] == "closed")
    assert not books.flush(0.5)
    assert 0 < books.ledger.snapshot().spooled < 40


def test_a_process_that_ends_between_two_tries_sends_what_is_on_disk(open_spooling: OpenSpooling) -> None:
    transport = FakeTransport(DOWN, Accepted())
    books = open_spooling(transport, PATIENT)
    books.submit(*[payload(1, f"span {n}") for n in range(5)])
    wait_until(lambda: books.ledger.snapshot().spooled == 5)
    assert books.shutdown(20)
    snapshot = books.ledger.snapshot()
    assert (snapshot.delivered, snapshot.spooled) == (5, 0)


def test_what_is_left_at_the_end_is_the_next_processes(open_spooling: OpenSpooling) -> None:
    books = open_spooling(FakeTransport(DOWN))
    payloads = [payload(2, f"span {n}") for n in range(5)]
    books.submit(*payloads)
    begun = time.monotonic()
    assert not books.shutdown(5)
    assert time.monotonic() - begun < 2
    snapshot = books.ledger.snapshot()
    assert (snapshot.ended, snapshot.spooled, dict(snapshot.dropped)) == (10, 10, {})

    transport = FakeTransport()
    restarted = open_spooling(transport)
    restarted.destination.start()
    wait_until(lambda: restarted.ledger.snapshot().delivered == 10)
    snapshot = restarted.ledger.snapshot()
    assert (snapshot.ended, snapshot.adopted, snapshot.spooled) == (0, 10, 0)
    assert bodies(transport) == [one.body for one in payloads]


def test_a_black_hole_costs_the_exit_its_budget_and_loses_nothing(open_spooling: OpenSpooling) -> None:
    leave = threading.Event()

    def hang() -> Result:
        leave.wait(10)
        return DOWN

    books = open_spooling(FakeTransport(hang))
    books.submit(payload(2), payload(3))
    begun = time.monotonic()
    assert not books.shutdown(1)
    assert time.monotonic() - begun < 1.5
    leave.set()
    snapshot = books.ledger.snapshot()
    assert (snapshot.spooled, dict(snapshot.dropped)) == (5, {})


def test_what_does_not_fit_into_memory_goes_to_disk(open_spooling: OpenSpooling) -> None:
    entered, leave = threading.Event(), threading.Event()

    def hang() -> Result:
        entered.set()
        leave.wait(10)
        return Accepted()

    books = open_spooling(FakeTransport(hang, Accepted()), limits=Limits(queue_max_bytes=10_000))
    books.submit(Payload("traces", bytes(4000), 1))
    assert entered.wait(5)
    for _ in range(20):
        books.submit(Payload("traces", bytes(4000), 1))
        wait_until(lambda: books.destination._queue.bytes <= 5000)
    assert books.ledger.snapshot().spooled == 20
    leave.set()
    assert books.flush()
    assert books.ledger.snapshot().delivered == 21


def test_without_a_disk_everything_is_as_without_a_spool(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    spool = Spool(SpoolPlace(str(tmp_path / "file" / "spool"), "key", {}))
    server = Switchable()
    books = Books(FakeTransport(server), QUICK, Limits(queue_max_bytes=2500), spool)
    books.submit(*[Payload("traces", bytes(1000), 1) for _ in range(3)])
    wait_until(lambda: bool(spool.problem))
    assert dict(books.ledger.snapshot().dropped) == {"queue_full": 1}
    status = books.destination.status()["spool"]
    assert isinstance(status, dict)
    assert status["problem"] == "Not a directory"
    server.down = False
    assert not books.flush()
    assert books.ledger.snapshot().delivered == 2
    [told] = [message for message in caplog.messages if "spool_enotdir" in message]
    assert f"{tmp_path}/file/spool: Not a directory (set spool_directory to another place)" in told
    assert books.shutdown()
    books.check()


@pytest.mark.parametrize("method", ["append", "next", "settle", "maintain", "close"])
def test_a_bug_in_the_spool_costs_neither_data_nor_the_books(
    method: str, open_spooling: OpenSpooling, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Switchable()
    books = open_spooling(FakeTransport(server))
    with monkeypatch.context() as patched:
        called, original = threading.Event(), getattr(Spool, method)

        def fail(*arguments: object, **options: object) -> object:
            if called.is_set():
                return original(*arguments, **options)
            called.set()
            if method == "settle":
                original(*arguments, **options)
            raise ValueError

        patched.setattr(Spool, method, fail)
        books.submit(*[payload() for _ in range(5)])
        if method == "append":
            assert called.wait(5)
        wait_until(lambda: books.ledger.snapshot().spooled == 5)
        server.down = False
        wait_until(lambda: books.ledger.snapshot().delivered == 5)
        books.check()
        books.shutdown(1)
        assert called.is_set()
    assert not dict(books.ledger.snapshot().dropped)


def test_a_spool_that_cannot_be_imported_is_as_a_disk_that_fails(
    open_spooling: OpenSpooling, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Switchable()
    books = open_spooling(FakeTransport(server))
    spooling = books.destination._spooling
    assert spooling is not None

    def fail() -> Spool:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patched:
        patched.setattr(spooling, "_at", SpoolAt(spooling._at.directory, fail))
        books.submit(*[payload() for _ in range(5)])
        wait_until(lambda: problem(books) == os.strerror(errno.EMFILE))
        assert books.ledger.snapshot().queued == 5
    wait_until(lambda: books.ledger.snapshot().spooled == 5)
    assert problem(books) == ""
    server.down = False
    assert books.flush()


def problem(books: Books) -> object:
    status = books.destination.status()["spool"]
    assert isinstance(status, dict)
    return status["problem"]


def test_new_data_does_not_wait_for_old(open_spooling: OpenSpooling) -> None:
    before = open_spooling(FakeTransport(DOWN))
    before.submit(*[Payload("traces", b"old" + bytes(20_000), 1) for _ in range(30)])
    before.shutdown(1)
    transport = FakeTransport()
    books = open_spooling(transport, limits=Limits(replay_bytes_per_s=40_000))
    books.destination.start()
    wait_until(lambda: len(transport.sent) >= 2)
    begun = time.monotonic()
    books.submit(*[Payload("traces", b"new", 1) for _ in range(50)])
    assert books.flush()
    assert time.monotonic() - begun < 1
    assert sum(one.body.startswith(b"old") for one in transport.sent) < 10
    books.shutdown(1)
    snapshot = books.ledger.snapshot()
    assert snapshot.adopted == 30
    assert 0 < snapshot.spooled < 30


def test_a_payload_from_disk_that_is_rejected_is_counted_and_gone(open_spooling: OpenSpooling) -> None:
    before = open_spooling(FakeTransport(DOWN))
    before.submit(payload(2), payload(3))
    before.shutdown(1)
    books = open_spooling(FakeTransport(Rejected("http_400"), Accepted(1)))
    books.destination.start()
    wait_until(lambda: books.ledger.snapshot().spooled == 0 and books.ledger.snapshot().adopted == 5)
    snapshot = books.ledger.snapshot()
    assert dict(snapshot.rejected) == {"http_400": 2, "partial_success": 1}
    assert snapshot.delivered == 2


def test_a_server_that_refuses_everything_opens_the_breaker(open_spooling: OpenSpooling) -> None:
    """Refusals are final, one by one. What comes after five of them in a row waits on disk for better days."""
    refusing = [Rejected("http_500") for _ in range(8)]
    books = open_spooling(FakeTransport(*refusing, Accepted()), RetryPolicy(0.2, 0.4))
    for _ in range(30):
        books.submit(payload())
    wait_until(lambda: books.ledger.snapshot().delivered == 22)
    assert dict(books.ledger.snapshot().rejected) == {"http_500": 8}


def test_the_limit_on_exports_holds(open_spooling: OpenSpooling) -> None:
    transport = FakeTransport()
    books = open_spooling(transport, limits=Limits(export_bytes_per_s=100_000))
    begun = time.monotonic()
    books.submit(*[Payload("traces", bytes(10_000), 1) for _ in range(20)])
    assert books.flush()
    assert 0.9 <= time.monotonic() - begun < 2
    assert len(transport.sent) == 20


def test_a_hanging_disk_delays_nothing(open_spooling: OpenSpooling, monkeypatch: pytest.MonkeyPatch) -> None:
    entered, leave = threading.Event(), threading.Event()
    server = Switchable()
    books = open_spooling(FakeTransport(server))
    books.submit(*[payload() for _ in range(3)])
    with monkeypatch.context() as patched:
        append = Spool.append

        def slow(self: Spool, one: Payload) -> object:
            entered.set()
            leave.wait(10)
            return append(self, one)

        patched.setattr(Spool, "append", slow)
        assert entered.wait(5)
        server.down = False
        begun = time.monotonic()
        books.submit(payload())
        assert time.monotonic() - begun < 0.1
        wait_until(lambda: books.ledger.snapshot().delivered >= 3)
        leave.set()
    assert books.flush()
    assert books.ledger.snapshot().delivered == 4


def test_the_equation_holds_at_every_moment_of_outages(open_spooling: OpenSpooling) -> None:
    server = Switchable(down=False)
    books = open_spooling(FakeTransport(server), limits=Limits(queue_max_bytes=20_000, replay_bytes_per_s=1e9))
    unbalanced: list[object] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            if not (snapshot := books.ledger.snapshot()).balanced:
                unbalanced.append(snapshot)

    def toggle() -> None:
        while not done.wait(0.03):
            server.down = not server.down

    threads = [threading.Thread(target=watch), threading.Thread(target=toggle)]
    for thread in threads:
        thread.start()
    for _ in range(300):
        books.submit(payload(3))
        time.sleep(0.003)
    done.set()
    for thread in threads:
        thread.join()
    server.down = False
    wait_until(lambda: (one := books.ledger.snapshot()).spooled + one.queued == 0)
    snapshot = books.ledger.snapshot()
    assert not unbalanced
    assert snapshot.delivered + sum(snapshot.dropped.values()) == 900
    assert not snapshot.rejected


def test_a_directory_that_hangs_holds_up_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_spooling: OpenSpooling
) -> None:
    directory = str(tmp_path / "spool")
    answered, asked_by, answer = threading.Event(), list[str](), os.path.isdir

    def hang(path: str) -> bool:
        if path == directory:
            asked_by.append(threading.current_thread().name)
            answered.wait(20)
        return answer(path)

    monkeypatch.setattr("os.path.isdir", hang)
    transport = FakeTransport()
    books = open_spooling(transport)
    begun = time.monotonic()
    try:
        books.destination.start()
        books.submit(payload())
        assert books.flush(5)
        books.destination.after_fork_in_child()
        books.submit(payload())
        assert books.flush(5)
        wait_until(lambda: len(asked_by) == 2)
        assert books.shutdown(10)
        took_s = time.monotonic() - begun
    finally:
        answered.set()
    assert asked_by == [SPOOL_THREAD, SPOOL_THREAD]
    assert took_s < 5
    assert len(transport.sent) == 2
    wait_until(lambda: SPOOL_THREAD not in [thread.name for thread in threading.enumerate()])


def test_with_nothing_on_disk_there_is_no_thread_for_it(open_spooling: OpenSpooling) -> None:
    books = open_spooling(FakeTransport())
    books.destination.start()
    books.submit(payload())
    assert books.flush()
    wait_until(lambda: SPOOL_THREAD not in [thread.name for thread in threading.enumerate()])
