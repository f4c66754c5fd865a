from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from otelagent.delivery import Limits, RetryPolicy, Transport
from otelagent.delivery.worker import THREAD_NAME
from tests.delivery.harness import QUICK, Books

OpenBooks = Callable[..., Books]


@pytest.fixture
def open_books() -> Iterator[OpenBooks]:
    """Makes destinations; at the end of the test their books must balance, before and after they are shut down."""
    opened: list[Books] = []

    def open_(
        transport: Transport, policy: RetryPolicy = QUICK, limits: Limits | None = None, signal: str = "traces"
    ) -> Books:
        opened.append(Books(transport, policy, limits, signal=signal))
        return opened[-1]

    yield open_
    for books in opened:
        books.check()
        books.shutdown(0.2)
        books.check()
        assert books.ledger.snapshot().queued == 0
    assert not [thread for thread in threading.enumerate() if thread.name == THREAD_NAME]
