"""Room is made while others interrupt, submit, shut down and fork."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from typing import Any

import pytest

from otelagent.delivery import Accepted, Destination, Limits, Payload, Retryable
from otelagent.delivery import intake as intake_module
from tests.delivery.conftest import OpenBooks
from tests.delivery.harness import QUICK, FakeTransport
from tests.delivery.priorities import Filled, dropped, filled, statuses, traces

__all__ = ["filled"]

DOWN = Retryable("connection")


class TestInterrupted:
    """A caller that is interrupted submits the same body again: it is taken once, what made room is counted once."""

    @pytest.mark.parametrize("at", range(1, 6))
    def test_at_any_look(self, at: int, filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
        books, transport = filled(traces(0), 6_500)
        books.submit(traces(0, 2), traces(2, 0, 2))
        one = traces(0, 0, 2, 0, 2)
        books.ledger.ended(one.items)
        looks = 0
        partition = intake_module._partition

        def interrupt(waiting: Payload, least: int) -> Any:
            nonlocal looks
            looks += 1
            if looks == at:
                raise KeyboardInterrupt
            return partition(waiting, least)

        with monkeypatch.context() as patched:
            patched.setattr(intake_module, "_partition", interrupt)
            try:
                books.destination.submit(one)
                assert at > looks
                return
            except KeyboardInterrupt:
                pass
            finally:
                transport.go_on.set()
        books.destination.submit(Payload("traces", one.body, one.items))
        books.flush()
        snapshot = books.ledger.snapshot()
        assert snapshot.delivered + dropped(books).get("queue_full", 0) == 11

    def test_after_it_was_taken(self, filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
        books, transport = filled(traces(0), 4_200)
        books.submit(traces(0, 2))
        one = traces(0, 2)
        books.ledger.ended(2)

        def interrupt(_: Destination) -> None:
            raise KeyboardInterrupt

        for _ in range(2):
            with monkeypatch.context() as patched:
                patched.setattr(Destination, "_start_thread", interrupt)
                with pytest.raises(KeyboardInterrupt):
                    books.destination.submit(one)
        books.destination.submit(one)
        assert dropped(books) == {"queue_full": 1}
        transport.go_on.set()
        assert not books.flush()
        assert statuses(transport.sent) == [[0], [2], [0, 2]]


def test_a_shutdown_while_a_payload_is_looked_at(filled: Filled, monkeypatch: pytest.MonkeyPatch) -> None:
    books, transport = filled(traces(0), 3_500)
    books.submit(traces(0, 2))
    looking, go_on = threading.Event(), threading.Event()
    partition = intake_module._partition

    def look(one: Payload, least: int) -> Any:
        looking.set()
        assert go_on.wait(20)
        return partition(one, least)

    monkeypatch.setattr(intake_module, "_partition", look)
    submitting = threading.Thread(target=lambda: books.submit(traces(0, 2)))
    submitting.start()
    assert looking.wait(10)
    assert not books.shutdown(0.1)
    transport.go_on.set()
    go_on.set()
    submitting.join(10)
    assert dropped(books) == {"shutdown": 5}


def test_submits_from_everywhere(open_books: OpenBooks) -> None:
    transport = FakeTransport(DOWN)
    books = open_books(transport, QUICK, Limits(queue_max_bytes=50_000))
    unbalanced: list[object] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            if not (snapshot := books.ledger.snapshot()).balanced or books.destination._queue.bytes > 50_000:
                unbalanced.append(snapshot)

    def work() -> None:
        for number in range(100):
            books.submit(traces(0, 0, 2 if number % 10 == 0 else 0, 0))

    threads = [threading.Thread(target=work) for _ in range(4)]
    watcher = threading.Thread(target=watch)
    for thread in (watcher, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    watcher.join()
    books.check()
    assert not unbalanced
    waiting = statuses(one.payload for one in books.destination._queue._idle)
    assert sum(one.count(2) for one in waiting) >= 30
    transport._script[:] = [Accepted()]
    assert not books.flush()
    snapshot = books.ledger.snapshot()
    assert snapshot.delivered + snapshot.dropped["queue_full"] == 1600


IN_A_HANDLER = """
import os, signal, sys, time
from otelagent.delivery import Limits, Retryable
from tests.delivery.harness import QUICK, Books, FakeTransport
from tests.delivery.priorities import traces

books = Books(FakeTransport(Retryable("connection")), QUICK, Limits(queue_max_bytes=30_000))
made = [traces(0, 2 if number % 5 == 0 else 0, 0) for number in range(50)]
books.submit(*made)
inside = 0

def handler(*_):
    global inside
    if inside < 3:
        inside += 1
        books.submit(made[inside])
        inside -= 1

signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
begun = time.monotonic()
while time.monotonic() - begun < 2:
    books.submit(made[7])
    books.ledger.snapshot()
signal.setitimer(signal.ITIMER_REAL, 0)
books.check()
books.shutdown(0.2)
books.check()
snapshot = books.ledger.snapshot()
assert snapshot.ended > 1000, snapshot
assert snapshot.queued == 0, snapshot
"""


def test_a_signal_handler_submits_in_the_middle() -> None:
    done = subprocess.run([sys.executable, "-c", IN_A_HANDLER], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


FORKING = """
import json, os, sys, threading
from otelagent.delivery import Limits, Retryable
from tests.delivery.harness import QUICK, Books, FakeTransport
from tests.delivery.priorities import traces

books = Books(FakeTransport(Retryable("connection")), QUICK, Limits(queue_max_bytes=30_000))
os.register_at_fork(after_in_child=books.destination.after_fork_in_child)
made = [traces(0, 2 if number % 5 == 0 else 0, 0) for number in range(50)]
enough = threading.Event()

def submit_all_the_time():
    while not enough.is_set():
        for one in made:
            books.submit(one)

def end(who):
    books.check()
    books.shutdown(0.1)
    books.check()
    snapshot = books.ledger.snapshot()
    os.write(1, (json.dumps({"who": who, **snapshot.to_dict()}) + "\\n").encode())

threads = [threading.Thread(target=submit_all_the_time) for _ in range(2)]
for thread in threads:
    thread.start()
books.submit(*made)
for _ in range(10):
    child = os.fork()
    if not child:
        books.submit(*made)
        end("child")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
enough.set()
for thread in threads:
    thread.join()
end("parent")
"""


def test_forks_while_room_is_made() -> None:
    done = subprocess.run([sys.executable, "-c", FORKING], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["who"] for line in told] == ["child"] * 10 + ["parent"]
    assert all(line["ended"] == 150 and line["queued"] == 0 for line in told[:10])
    assert all(line["balanced"] for line in told)
