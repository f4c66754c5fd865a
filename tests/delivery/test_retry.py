from __future__ import annotations

import math
import random
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelagent.delivery import RetryPolicy
from otelagent.delivery.retry import MAX_RETRY_AFTER_S, parse_http_date, parse_retry_after

NOW = 1_800_000_000.0


@given(
    failures=st.integers(-5, 10**9),
    initial_s=st.floats(0.001, 10),
    factor=st.floats(1, 1000),
    chance=st.floats(0, 1, exclude_max=True),
)
def test_every_wait_is_within_its_bound(failures: int, initial_s: float, factor: float, chance: float) -> None:
    policy = RetryPolicy(initial_s=initial_s, max_s=initial_s * factor, uniform=lambda: chance)
    wait = policy.backoff_s(failures)
    assert 0 <= wait <= policy.max_s
    assert wait == pytest.approx(chance * min(policy.max_s, initial_s * 2.0 ** min(max(failures - 1, 0), 60)))


@given(st.integers(1, 100))
def test_the_bound_never_shrinks_and_reaches_the_maximum(failures: int) -> None:
    policy = RetryPolicy(initial_s=1, max_s=30, uniform=lambda: 1.0)
    assert policy.backoff_s(failures) <= policy.backoff_s(failures + 1)
    assert policy.backoff_s(6) == 30


def test_a_hundred_agents_that_failed_together_return_spread() -> None:
    policy = RetryPolicy()
    waits = sorted(policy.backoff_s(5) for _ in range(100))
    assert len(set(waits)) > 90
    assert waits[75] - waits[25] > 2


def test_the_applications_random_numbers_stay_its_own() -> None:
    random.seed(1)
    expected = [random.random() for _ in range(3)]
    random.seed(1)
    waits = [RetryPolicy().backoff_s(number) for number in range(1, 100)]
    assert [random.random() for _ in range(3)] == expected
    assert all(0 <= wait < 30 for wait in waits)


@given(st.none() | st.floats(allow_nan=True, allow_infinity=True))
def test_what_a_server_asks_for_is_bounded(after_s: float | None) -> None:
    assert 0 <= RetryPolicy().requested_s(after_s) <= MAX_RETRY_AFTER_S


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("30", 30.0),
        (" 30 ", 30.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("-1", None),
        ("nan", None),
        ("inf", math.inf),
        ("1e9", 1e9),
        ("9" * 400, math.inf),
        ("", None),
        ("soon", None),
        ("30 seconds", None),
        (formatdate(NOW + 90, usegmt=True), 90.0),
        (formatdate(NOW - 90, usegmt=True), 0.0),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0.0),
        ("Sun, 99 Nov 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 99999999 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 08:49:37 +9999", None),
    ],
)
def test_retry_after(value: str | None, expected: float | None) -> None:
    assert parse_retry_after(value, NOW) == expected


@given(st.text() | st.from_regex(r"\w{3}, \d{1,3} \w{3} \d{1,9} \d\d:\d\d:\d\d( GMT| [+-]\d{1,6})?", fullmatch=True))
def test_no_header_can_break_the_parser(value: str) -> None:
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or seconds >= 0
    date_s = parse_http_date(value)
    assert date_s is None or math.isfinite(date_s)
