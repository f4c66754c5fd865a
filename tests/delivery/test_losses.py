"""What a destination tells of what it lost, and what it takes of the unusually large, late or interrupted."""

from __future__ import annotations

import math
import threading
import time

import pytest

from otelagent.delivery import Accepted, Destination, Limits, Payload, Result
from tests.delivery.conftest import OpenBooks
from tests.delivery.harness import FakeTransport, payload


def test_of_two_flushes_neither_takes_the_bad_news_from_the_other(open_books: OpenBooks) -> None:
    entered, leave = threading.Event(), threading.Event()

    def slow() -> Result:
        entered.set()
        leave.wait(10)
        return Accepted()

    one = payload()
    books = open_books(FakeTransport(slow), limits=Limits(queue_max_bytes=one.size))
    books.submit(one)
    assert entered.wait(5)
    answers: list[bool] = []
    flushing = threading.Thread(target=lambda: answers.append(books.flush(10)))
    books.submit(one)
    flushing.start()
    time.sleep(0.05)
    assert not books.flush(0.01)
    leave.set()
    flushing.join()
    assert answers == [False]
    assert books.flush()


def test_a_payload_larger_than_the_queue_is_taken_by_an_empty_one(open_books: OpenBooks) -> None:
    books = open_books(FakeTransport(), limits=Limits(queue_max_bytes=1))
    books.submit(payload(20))
    assert books.flush()
    assert books.ledger.snapshot().delivered == 20


def test_a_payload_that_no_request_can_hold_is_dropped_as_such(open_books: OpenBooks) -> None:
    books = open_books(FakeTransport(), limits=Limits(queue_max_bytes=2**40))
    books.submit(Payload("traces", bytes(64 * 1024 * 1024 + 1), 1))
    assert dict(books.ledger.snapshot().dropped) == {"too_large": 1}
    assert not books.flush()


def test_a_submit_that_is_interrupted_may_be_made_again(open_books: OpenBooks, monkeypatch: pytest.MonkeyPatch) -> None:
    books = open_books(FakeTransport())
    one = payload(3)
    books.ledger.ended(3)

    def interrupt(self: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Destination, "_start_thread", interrupt)
        with pytest.raises(KeyboardInterrupt):
            books.destination.submit(one)
    books.destination.submit(Payload("traces", one.body, 3))
    assert books.flush()
    assert books.ledger.snapshot().delivered == 3


@pytest.mark.parametrize("deadline_s", [math.inf, math.nan, -math.inf])
def test_any_deadline_is_one(open_books: OpenBooks, deadline_s: float) -> None:
    books = open_books(FakeTransport(Accepted()))
    books.submit(payload())
    if deadline_s > 0:
        assert books.destination.flush(deadline_s)
    else:
        books.destination.flush(deadline_s)
    books.destination.shutdown(deadline_s)
