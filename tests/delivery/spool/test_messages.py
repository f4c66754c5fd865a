"""What a person reads of the spool: where data goes in an outage, what is left at the end, and who takes it over."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from otelagent.delivery import Accepted, Result, Retryable
from otelagent.delivery.spool.place import SpoolPlace
from otelagent.delivery.spool.spool import Spool
from tests.delivery.harness import QUICK, Books, FakeTransport, payload
from tests.support import wait_until

DOWN = Retryable("connection", None, "refused")
FAILED = "otelagent: telemetry to the test failed: connection: refused; it is kept and sent again"
NEWS = "otelagent: telemetry to the test: "


def open_books(directory: Path, *script: Result | Callable[[], Result]) -> Books:
    place = SpoolPlace(str(directory), "key", {"service.name": "shop"})
    return Books(FakeTransport(*script), QUICK, None, Spool(place))


def test_an_outage_tells_where_the_data_is_at_each_step(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "otelagent.delivery")
    books = open_books(tmp_path, DOWN)
    books.submit(*[payload(2, f"span {number}") for number in range(5)])
    wait_until(lambda: books.ledger.snapshot().spooled == 10)
    books.submit(payload())
    wait_until(lambda: books.ledger.snapshot().spooled == 11)
    books.shutdown(1)
    assert caplog.messages == [
        FAILED,
        f"{NEWS}what can't be sent now goes to {tmp_path}, and from there as soon as it can",
        f"{NEWS}11 spans wait in {tmp_path}; the next process of service 'shop' sends them to the same destination, "
        "`otelagent spool replay KEY` to another",
    ]
    assert {record.levelname for record in caplog.records} == {"WARNING"}

    caplog.clear()
    books = open_books(tmp_path)
    books.destination.start()
    wait_until(lambda: books.ledger.snapshot().delivered == 11)
    books.shutdown(1)
    assert caplog.messages == [f"{NEWS}this process takes over 11 spans that an earlier one left in {tmp_path}"]
    assert caplog.records[0].levelname == "INFO"


def test_a_second_outage_tells_again_where_the_data_goes_but_not_within_a_minute(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    down = True
    books = open_books(tmp_path, lambda: DOWN if down else Accepted())
    for _ in range(2):
        down = True
        books.submit(payload())
        wait_until(lambda: books.ledger.snapshot().spooled == 1)
        down = False
        assert books.flush()
    books.shutdown(1)
    assert len([message for message in caplog.messages if "can't be sent now" in message]) == 1
    assert not [message for message in caplog.messages if "wait" in message]


PROGRAM = """
import sys
import otelagent
otelagent.init(endpoint="http://127.0.0.1:1", quiet=True, spool=sys.argv[1] == "spool", spool_directory=sys.argv[2])
with otelagent.span("one"):
    pass
"""


def run_program(directory: Path, spool: str) -> list[str]:
    script = directory / "invoice.py"
    script.write_text(PROGRAM)
    command = [sys.executable, str(script), spool, str(directory / "spool")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    lines = done.stderr.splitlines()
    assert all(line.startswith("otelagent: telemetry to http://127.0.0.1:1") for line in lines), lines
    return lines


def test_a_program_says_at_its_end_what_waits_and_who_sends_it(tmp_path: Path) -> None:
    failed, left = run_program(tmp_path, "spool")
    assert failed.endswith("it is kept and sent again")
    assert left.endswith(
        f"1 span waits in {tmp_path}/spool; the next process of service 'invoice' sends it to the same destination, "
        "`otelagent spool replay KEY` to another"
    )


def test_without_a_spool_nothing_is_promised_that_the_end_breaks(tmp_path: Path) -> None:
    failed, dropped = run_program(tmp_path, "none")
    assert failed.endswith("it is kept in memory and tried again while the process runs")
    assert dropped.endswith("not delivered in time; 1 item is dropped")
