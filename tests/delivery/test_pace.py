"""When tries may begin: token bucket, circuit breaker, and both with the retry policy. No clock but the tests' own."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelagent.delivery import Accepted, Rejected, Retryable, RetryPolicy
from otelagent.delivery.breaker import CircuitBreaker
from otelagent.delivery.pace import Pace
from otelagent.delivery.token_bucket import TokenBucket

DOWN = Retryable("connection")
FIXED = RetryPolicy(initial_s=1, max_s=8, uniform=lambda: 0.5)


class TestTokenBucket:
    def test_lets_a_burst_through_and_then_the_rate(self) -> None:
        bucket = TokenBucket(100)
        bucket.take(100, 0.0)
        assert bucket.ready_at_s(0.0) == pytest.approx(0, abs=1e-3)
        bucket.take(50, 0.0)
        assert bucket.ready_at_s(0.0) == pytest.approx(0.5, abs=1e-3)
        assert bucket.ready_at_s(0.6) == 0.6

    def test_an_amount_larger_than_the_bucket_passes_and_is_paid_for(self) -> None:
        bucket = TokenBucket(100)
        bucket.take(1000, 5.0)
        assert bucket.ready_at_s(5.0) == pytest.approx(14, abs=1e-3)

    def test_no_limit(self) -> None:
        bucket = TokenBucket(math.inf)
        bucket.take(1e12, 0.0)
        assert bucket.ready_at_s(0.0) == 0.0

    @given(st.lists(st.tuples(st.floats(0, 10), st.integers(1, 500)), min_size=1, max_size=50))
    def test_never_more_than_the_rate_and_one_burst(self, takes: list[tuple[float, int]]) -> None:
        bucket, now, taken = TokenBucket(100), 0.0, 0
        for pause_s, amount in takes:
            now = max(now + pause_s, bucket.ready_at_s(now))
            # Whoever is let in was not in debt.
            assert taken <= 100 + 100 * now + 0.1
            bucket.take(amount, now)
            taken += amount


class TestCircuitBreaker:
    def test_opens_at_failures_in_a_row_and_one_probe_closes_it(self) -> None:
        breaker = CircuitBreaker(consecutive=3)
        for _ in range(2):
            breaker.failed(0.0, 10)
        assert breaker.closed
        breaker.succeeded(0.0)
        for _ in range(3):
            assert breaker.admits(0.0)
            breaker.failed(0.0, 10)
        assert (breaker.state(9.9), breaker.admits(9.9)) == ("open", False)
        assert (breaker.state(10.0), breaker.admits(10.0)) == ("half-open", True)
        breaker.began()
        assert not breaker.admits(10.0)
        breaker.succeeded(10.0)
        assert breaker.state(10.0) == "closed"

    def test_a_probe_that_fails_opens_it_again_at_once(self) -> None:
        breaker = CircuitBreaker(consecutive=1)
        breaker.failed(0.0, 1)
        breaker.began()
        breaker.failed(1.0, 5)
        assert breaker.state(5.9) == "open"
        assert breaker.admits(6.0)

    def test_a_probe_that_says_nothing_leaves_it_to_the_next(self) -> None:
        breaker = CircuitBreaker(consecutive=1)
        breaker.failed(0.0, 1)
        breaker.began()
        breaker.told_nothing()
        assert not breaker.closed
        assert breaker.admits(1.0)

    def test_opens_above_half_of_the_tries_in_its_window(self) -> None:
        breaker = CircuitBreaker(consecutive=100)
        for second in range(10):
            (breaker.failed(second, 1) if second % 2 else breaker.succeeded(second))
        assert breaker.closed
        breaker.failed(10.0, 1)
        assert not breaker.closed

    def test_forgets_what_is_older_than_its_window(self) -> None:
        breaker = CircuitBreaker(consecutive=100, window_s=60)
        for _ in range(9):
            breaker.failed(0.0, 1)
        breaker.succeeded(61.0)
        breaker.failed(61.0, 1)
        assert breaker.closed

    def test_somebody_in_a_hurry_ends_the_wait(self) -> None:
        breaker = CircuitBreaker(consecutive=1)
        breaker.failed(0.0, 100)
        breaker.admit_now(1.0)
        assert breaker.admits(1.0)


class TestPace:
    def test_backs_off_and_opens(self) -> None:
        pace = Pace(FIXED)
        waits = []
        for _ in range(6):
            pace.ended(DOWN, 0.0)
            waits.append(pace.ready_at_s(0.0))
        assert waits == [0.5, 1, 2, 4, 4, 4]
        assert pace.breaker.state(0.0) == "open"
        pace.began(1, 4.0)
        pace.ended(Accepted(), 4.0)
        assert pace.breaker.closed
        assert pace.ready_at_s(4.0) <= 4.0

    def test_a_hurry_cuts_one_backoff_and_no_wait_of_the_server(self) -> None:
        pace = Pace(FIXED)
        pace.ended(Retryable("http_503", 30.0), 0.0)
        assert pace.ready_at_s(0.0) == 30.5
        pace.hurry()
        assert pace.ready_at_s(0.0) == 30.0
        pace.began(1, 30.0)
        pace.ended(DOWN, 30.0)
        assert not pace.hurried
        assert pace.ready_at_s(30.0) == 31.0

    @pytest.mark.parametrize("reason", ["http_500", "http_401", "redirect", "malformed_response"])
    def test_refusals_that_any_payload_would_meet_open_the_breaker(self, reason: str) -> None:
        pace = Pace(FIXED)
        for _ in range(4):
            pace.ended(Rejected(reason), 0.0)
        assert pace.ready_at_s(0.0) <= 0.0
        pace.ended(Rejected(reason), 0.0)
        assert not pace.breaker.closed
        assert pace.ready_at_s(0.0) > 0.0

    @pytest.mark.parametrize("reason", ["http_400", "http_413", "too_large", "encode_error", "grpc_invalid_argument"])
    def test_refusals_of_a_payload_do_not(self, reason: str) -> None:
        pace = Pace(FIXED)
        for _ in range(50):
            pace.ended(Rejected(reason), 0.0)
        assert pace.breaker.closed

    def test_limits_the_rate_of_replay_below_that_of_all(self) -> None:
        pace = Pace(FIXED, export_bytes_per_s=1000, replay_bytes_per_s=100)
        pace.began(200, 0.0, replay=True)
        assert pace.ready_at_s(0.0) == 0.0
        assert pace.ready_at_s(0.0, replay=True) == pytest.approx(1, abs=1e-3)
        pace.began(1000, 0.0)
        assert pace.ready_at_s(0.0) == pytest.approx(0.2, abs=1e-3)
