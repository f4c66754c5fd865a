"""What is told of items that were given up before they were encoded: how many, what to do, once a minute."""

from __future__ import annotations

import logging

import pytest

from otelagent.record.queue_losses import QueueLosses


class Told:
    def __init__(self, caplog: pytest.LogCaptureFixture, signal: str = "traces") -> None:
        self.caplog = caplog
        self.now_s = 1_000.0
        self.dropped: dict[str, int] = {}
        self.losses = QueueLosses(signal, lambda: self.dropped, lambda: self.now_s)

    def after(self, seconds: float, last: bool = False, **dropped: int) -> list[str]:
        self.now_s += seconds
        self.dropped |= dropped
        self.caplog.clear()
        with self.caplog.at_level(logging.ERROR):
            self.losses.tell(last=last)
        return [record.getMessage() for record in self.caplog.records]


def test_a_loss_is_told_once_a_minute_with_all_since_then(caplog: pytest.LogCaptureFixture) -> None:
    told = Told(caplog)
    advice = "(queue_full); too many at once: raise batch_max_queue_size or batch_queue_max_bytes"
    assert told.after(0) == []
    assert told.after(0, queue_full=1) == [f"otelagent: dropped before encoding: 1 span {advice}"]
    assert told.after(30, queue_full=1_000) == []
    assert told.after(29.9, queue_full=2_001) == []
    assert told.after(0.2) == [f"otelagent: dropped before encoding: 2,000 spans {advice}"]
    assert told.after(3_600) == []


def test_the_end_tells_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    told = Told(caplog, "logs")
    assert len(told.after(0, too_large=1)) == 1
    assert told.after(1, too_large=3, last=True) == [
        "otelagent: dropped before encoding: 2 log records (too_large); each alone has more than "
        "logs_batch_queue_max_bytes, which bounds all that wait"
    ]
    assert told.after(1, last=True) == []


def test_reasons_that_others_tell_are_left_to_them(caplog: pytest.LogCaptureFixture) -> None:
    assert Told(caplog).after(0, shutdown=3, encode_error=1, last=True) == []


def test_a_handler_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise ValueError("disk full")

    logger, handler = logging.getLogger("otelagent.record.queue_losses"), Broken()
    logger.addHandler(handler)
    try:
        Told(caplog).after(0, queue_full=1)
    finally:
        logger.removeHandler(handler)
