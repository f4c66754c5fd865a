from __future__ import annotations

import math
import threading

import pytest

from otelagent.loss import LossReport
from otelagent.waiting import left_s


def test_each_loss_is_told_of_by_the_flushes_under_way_and_by_no_later_one() -> None:
    lost = 0
    report = LossReport(lambda: lost)
    first = report.begin()
    assert report.end(first)

    slow = report.begin()
    lost = 5
    quick = report.begin()
    assert not report.end(quick)
    later = report.begin()
    assert report.end(later)
    assert not report.end(slow)

    lost = 6
    assert not report.end(report.begin())
    assert report.end(report.begin())


def test_a_child_starts_from_zero() -> None:
    lost = 5
    report = LossReport(lambda: lost)
    assert not report.end(report.begin())
    lost = 0
    report.after_fork_in_child()
    lost = 1
    assert not report.end(report.begin())


@pytest.mark.parametrize(
    ("deadline_s", "expected"),
    [(3.0, 2.0), (1.0, 0.0), (-math.inf, 0.0), (math.nan, 0.0), (math.inf, threading.TIMEOUT_MAX)],
)
def test_every_deadline_is_a_wait_that_locks_take(deadline_s: float, expected: float) -> None:
    assert left_s(deadline_s, 1.0) == expected
