"""What a person reads in the log when delivery fails."""

from __future__ import annotations

import logging
from datetime import datetime, timezone

import pytest

from otelagent.delivery import Accepted, Rejected, Result, Retryable
from otelagent.delivery.accounts import Accounts
from otelagent.delivery.failures import FailureLog
from otelagent.delivery.transports.http import HttpTransport
from tests.delivery.conftest import OpenBooks
from tests.delivery.harness import FakeTransport, otlp, payload
from tests.support import wait_until

DOWN = Retryable("connection")


def test_an_outage_is_told_once_and_its_end_too(open_books: OpenBooks, caplog: pytest.LogCaptureFixture) -> None:
    down = Retryable("connection", None, "refused")
    books = open_books(FakeTransport(*[down] * 10, Accepted()))
    books.submit(payload())
    assert books.flush()
    wait_until(lambda: len(caplog.messages) == 2)
    kept = "it is kept in memory and tried again while the process runs"
    failed = f"otelagent: telemetry to the test failed: connection: refused; {kept}"
    assert caplog.messages == [failed, "otelagent: telemetry to the test is delivered again after 10 failed tries"]
    assert {record.name for record in caplog.records} == {"otelagent.delivery"}


def test_a_server_that_fails_and_works_in_turns_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    log = FailureLog("there", lambda: now)
    for _ in range(12):
        log.retried("http_503", "it is kept")
        log.retried("http_503", "it is kept")
        log.succeeded()
        now += 10
    failed, recovered = (
        "otelagent: telemetry to there failed: http_503; it is kept",
        "otelagent: telemetry to there is delivered again after 2 failed tries",
    )
    assert caplog.messages == [failed, recovered, f"{failed} (11 more since the last message)", recovered]


def test_news_are_told_once_a_minute_whatever_comes_in_between(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    log = FailureLog("there", lambda: now)
    for now in (0.0, 30.0, 59.9, 60.0):
        log.retried("connection", "it is kept")
        log.news("spooling", f"something new at {now}")
        log.succeeded()
    told = [message for message in caplog.messages if "new" in message]
    assert told == [f"otelagent: telemetry to there: something new at {at}" for at in (0.0, 60.0)]


def test_each_kind_is_told_once_a_minute_with_the_number_of_repeats(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    log = FailureLog("there", lambda: now)
    for _ in range(5):
        log.failed("http_400", "1 item is lost")
        log.failed("queue_full", "2 new items are dropped")
    now = 59.9
    log.failed("http_400", "1 item is lost")
    now = 60.0
    log.failed("http_400", "1 item is lost", "bad", logging.ERROR)
    assert caplog.messages == [
        "otelagent: telemetry to there failed: http_400; 1 item is lost",
        "otelagent: telemetry to there failed: queue_full; 2 new items are dropped",
        "otelagent: telemetry to there failed: http_400: bad; 1 item is lost (5 more since the last message)",
    ]
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING", "ERROR"]


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (Rejected("http_400", "bad"), "failed: http_400: bad; 5 items are lost"),
        (Accepted(2, "old"), "failed: partial_success: old; 2 of 5 items are lost"),
        (Accepted(1, "old"), "failed: partial_success: old; 1 of 5 items is lost"),
        (Accepted(0, "slow"), "failed: server_warning: slow; everything is delivered"),
    ],
)
def test_every_loss_is_told(
    open_books: OpenBooks, caplog: pytest.LogCaptureFixture, result: Result, message: str
) -> None:
    books = open_books(FakeTransport(result))
    books.submit(payload(5))
    books.flush()
    wait_until(lambda: bool(caplog.messages))
    assert caplog.messages == [f"otelagent: telemetry to the test {message}"]


def test_one_is_no_plural(caplog: pytest.LogCaptureFixture) -> None:
    accounts = Accounts({}, FailureLog("there"))
    for number in (1, 2):
        accounts.tell_dropped(number, "queue_full" if number == 1 else "too_large")
    accounts.tell_left(1)
    accounts.lost("traces", 1, "spool_missing")
    accounts.tell(payload(1), Rejected("http_400", "bad"))
    consequences = [message.rpartition("; ")[2] for message in caplog.messages]
    assert consequences == [
        "1 item is dropped",
        "2 items are dropped",
        "1 item is dropped",
        "1 item is lost",
        "1 item is lost",
    ]
    assert not [message for message in caplog.messages if "they" in message or "their" in message]


@pytest.mark.parametrize(
    ("result", "error"),
    [
        (DOWN, ("connection", "")),
        (Rejected("http_401", "no such token"), ("http_401", "no such token")),
        (Accepted(2, "old"), ("partial_success", "old")),
    ],
)
def test_the_last_try_that_failed_is_seen_in_the_status(
    open_books: OpenBooks, result: Result, error: tuple[str, str]
) -> None:
    books = open_books(FakeTransport(result, Accepted()))
    assert books.destination.status()["last_error"] is None
    begun = datetime.now(timezone.utc).replace(microsecond=0)
    books.submit(payload(5), payload(5))
    books.flush()
    last = books.destination.status()["last_error"]
    assert isinstance(last, dict)
    assert (last["reason"], last["message"]) == error
    assert begun <= datetime.strptime(last["when"], "%Y-%m-%dT%H:%M:%S%z") <= datetime.now(timezone.utc)
    assert books.ledger.snapshot().delivered >= 5


def test_a_refused_connection_is_seen_in_the_status(open_books: OpenBooks) -> None:
    books = open_books(HttpTransport(otlp("http://user:s3cr3t-pass@127.0.0.1:1/v1/traces"), "traces"))
    books.submit(payload())
    wait_until(lambda: books.destination.status()["last_error"] is not None)
    last = books.destination.status()["last_error"]
    assert isinstance(last, dict)
    assert last["reason"] == "connection"
    assert "refused" in last["message"]
    assert "s3cr3t" not in str(last)


def test_a_log_handler_that_raises_does_not_stop_delivery(open_books: OpenBooks) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError

    logger, broken = logging.getLogger("otelagent.delivery"), Broken()
    logger.addHandler(broken)
    try:
        books = open_books(FakeTransport(DOWN, Accepted()))
        books.submit(payload())
        assert books.flush()
    finally:
        logger.removeHandler(broken)
