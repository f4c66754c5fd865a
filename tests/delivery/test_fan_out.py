"""Fan-out: several destinations of one signal; real servers in processes of their own where one misbehaves."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from otelagent.delivery import (
    Accepted,
    Destination,
    FanOut,
    Ledger,
    Ledgers,
    Limits,
    Payload,
    Retryable,
    RetryPolicy,
    Transport,
    flush_all,
    shutdown_all,
)
from otelagent.delivery.transports.http import HttpTransport
from otelagent.delivery.worker import THREAD_NAME
from tests.delivery.harness import QUICK, FakeTransport, FaultServer, otlp, payload
from tests.support import native_or_skip, wait_until


class Fan:
    """Destinations of one signal, and what records it."""

    def __init__(self, *transports: Transport, policy: RetryPolicy = QUICK, limits: Limits | None = None) -> None:
        self.ledgers = [Ledger("traces") for _ in transports]
        self.recorded = Ledgers("traces", self.ledgers)
        self.destinations = [
            Destination(transport, {"traces": ledger}, policy, limits)
            for transport, ledger in zip(transports, self.ledgers, strict=True)
        ]
        self.fan_out = FanOut(list(zip(self.destinations, self.ledgers, strict=True)))

    def submit(self, *payloads: Payload) -> None:
        for one in payloads:
            self.recorded.ended(one.items)
            self.fan_out.submit(one)

    def delivered(self) -> list[int]:
        return [ledger.snapshot().delivered for ledger in self.ledgers]

    def check(self) -> None:
        for ledger, destination in zip(self.ledgers, self.destinations, strict=True):
            snapshot = ledger.snapshot()
            assert snapshot.balanced, snapshot
            assert snapshot.queued == destination.queued_items, snapshot


OpenFan = Callable[..., Fan]


@pytest.fixture
def open_fan() -> Iterator[OpenFan]:
    """Makes fans; at the end of the test the books of all their destinations must balance."""
    opened: list[Fan] = []

    def open_(*transports: Transport, **changes: Any) -> Fan:
        opened.append(Fan(*transports, **changes))
        return opened[-1]

    yield open_
    for fan in opened:
        fan.check()
        shutdown_all(fan.destinations, time.monotonic() + 0.2)
        fan.check()
        assert [ledger.snapshot().queued for ledger in fan.ledgers] == [0] * len(fan.ledgers)


def test_each_destination_gets_the_same_bytes(open_fan: OpenFan) -> None:
    transports = [FakeTransport(), FakeTransport(), FakeTransport()]
    fan = open_fan(*transports)
    one = payload(3)
    fan.recorded.sampled_out(2)
    fan.submit(one)
    assert flush_all(fan.destinations, time.monotonic() + 5)
    assert all(sent.sent[0].body is one.body for sent in transports)
    for ledger in fan.ledgers:
        counts = ledger.snapshot()
        assert (counts.ended, counts.sampled_out, counts.delivered, counts.filtered) == (5, 2, 3, 0)


def test_what_recording_counts_for_itself_is_in_each_ledger(open_fan: OpenFan) -> None:
    fan = open_fan(FakeTransport(), FakeTransport())
    fan.recorded.include(lambda: (7, 2, {"queue_full": 1}))
    fan.recorded.ended(1)
    fan.recorded.dropped(1, "encode_error")
    for ledger in fan.ledgers:
        counts = ledger.snapshot()
        assert (counts.ended, counts.sampled_out, counts.queued) == (8, 2, 4)
        assert dict(counts.dropped) == {"queue_full": 1, "encode_error": 1}
        assert counts.balanced
        ledger.delivered(4)
    assert fan.recorded.lost == 4  # of each destination


def test_a_loss_of_one_is_told_and_the_other_has_everything(open_fan: OpenFan) -> None:
    kept, full = FakeTransport(), FakeTransport(Retryable("http_503"))
    fan = open_fan(kept, full, limits=Limits(queue_max_bytes=payload(3).size))
    for _ in range(3):
        fan.submit(payload(3))
        fan.destinations[0].flush(time.monotonic() + 5)
    assert not flush_all(fan.destinations, time.monotonic() + 0.1)
    assert fan.delivered() == [9, 0]
    assert dict(fan.ledgers[1].snapshot().dropped) == {"queue_full": 6}
    assert fan.recorded.lost == 6


@pytest.mark.parametrize("where", [0, 1, 2])
@pytest.mark.parametrize("taken", [True, False])
def test_an_interrupted_submit_may_be_made_again_and_counts_once_in_each(
    open_fan: OpenFan, monkeypatch: pytest.MonkeyPatch, where: int, taken: bool
) -> None:
    fan = open_fan(FakeTransport(), FakeTransport(), FakeTransport())
    one = payload(3)
    fan.recorded.ended(3)

    def interrupt(*_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        # The one is called after the payload was taken, the other before.
        destination = fan.destinations[where]
        target = destination if taken else destination._intake
        patched.setattr(target, "_start_thread" if taken else "_take", interrupt)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                fan.fan_out.submit(Payload("traces", one.body, 3))
    fan.fan_out.submit(Payload("traces", one.body, 3))
    fan.submit(payload(2))
    assert flush_all(fan.destinations, time.monotonic() + 5)
    assert fan.delivered() == [5, 5, 5]


def test_a_submit_that_was_interrupted_on_its_way_back_counts_once(open_fan: OpenFan) -> None:
    fan = open_fan(FakeTransport(), FakeTransport())
    one = payload(3)
    fan.recorded.ended(3)
    for _ in range(2):
        fan.fan_out.submit(Payload("traces", one.body, 3))
    fan.submit(payload(2))
    assert flush_all(fan.destinations, time.monotonic() + 5)
    assert fan.delivered() == [5, 5]


def test_a_stalling_destination_delays_nothing_for_another(open_fan: OpenFan) -> None:
    with FaultServer("http", {"do": "stall"}) as dead, FaultServer("http", {"status": 200, "quiet": True}) as live:
        fan = open_fan(HttpTransport(otlp(dead.endpoint)), HttpTransport(otlp(live.endpoint)))
        for number in range(1, 101):
            fan.submit(payload(5))
            # Each is there before the next one is made, while the stalled one still waits for its first answer.
            wait_until(lambda number=number: fan.delivered()[1] == 5 * number)  # type: ignore[misc]
            assert fan.ledgers[0].snapshot().queued == 5 * number
        fan.check()
        begun_s = time.monotonic()
        assert not shutdown_all(fan.destinations, begun_s + 1.0)
        assert time.monotonic() - begun_s < 5
    assert fan.delivered() == [0, 500]
    assert dict(fan.ledgers[0].snapshot().dropped) == {"shutdown": 500}


@pytest.mark.parametrize("dead_first", [True, False])
@pytest.mark.parametrize("end", [flush_all, shutdown_all])
def test_where_no_thread_can_be_started_the_time_is_shared(
    open_fan: OpenFan,
    monkeypatch: pytest.MonkeyPatch,
    end: Callable[[list[Destination], float], bool],
    dead_first: bool,
) -> None:
    with FaultServer("http", {"do": "stall"}) as dead, FaultServer("http", {"status": 200}) as live:
        endpoints = [dead.endpoint, live.endpoint] if dead_first else [live.endpoint, dead.endpoint]
        fan = open_fan(*(HttpTransport(otlp(endpoint)) for endpoint in endpoints))
        for destination in fan.destinations:
            monkeypatch.setattr(destination, "_start_thread", lambda: False)
        fan.submit(payload(4))
        assert not end(fan.destinations, time.monotonic() + 4.0)
        assert len(live.stop()) == 1
    assert sorted(fan.delivered()) == [0, 4]


def test_a_destination_that_gets_nothing_starts_no_thread(open_fan: OpenFan) -> None:
    fan = open_fan(FakeTransport(), FakeTransport())
    fan.destinations[0].submit(payload(0))
    flush_all(fan.destinations, time.monotonic() + 5)
    assert len([thread for thread in threading.enumerate() if thread.name == THREAD_NAME]) == 1


def test_counts_are_exact_whoever_ends_and_delivers(open_fan: OpenFan) -> None:
    answers = iter(range(10**9))

    def sometimes() -> Accepted | Retryable:
        return Retryable("http_503", 0.0) if next(answers) % 3 == 0 else Accepted()

    fan = open_fan(FakeTransport(sometimes), FakeTransport())
    stop = threading.Event()

    def look() -> None:
        while not stop.is_set():
            assert all(ledger.snapshot().balanced for ledger in fan.ledgers)

    def record() -> None:
        for _ in range(500):
            fan.recorded.ended(1)
            fan.recorded.sampled_out(1)

    others = [threading.Thread(target=look), *(threading.Thread(target=record) for _ in range(3))]
    for thread in others:
        thread.start()
    for _ in range(100):
        fan.submit(payload(2))
    for thread in others[1:]:
        thread.join()
    stop.set()
    others[0].join()
    flush_all(fan.destinations, time.monotonic() + 20)
    assert fan.delivered() == [200, 200]
    for ledger in fan.ledgers:
        counts = ledger.snapshot()
        assert (counts.ended, counts.sampled_out, counts.queued) == (200 + 3000, 1500, 1500)
        ledger.delivered(1500)


PROGRAM = """
import atexit, json, os, signal, sys, time
import otelagent
settings, spans, end = json.loads(sys.argv[1]), int(sys.argv[2]), sys.argv[3]

def work(name):
    for number in range(spans):
        with otelagent.span(f"{name} {number}"):
            pass

def tell(who):
    os.write(1, (json.dumps({**otelagent.status(), "who": who}) + "\\n").encode())

if end == "exit":
    atexit.register(tell, "parent")  # Before the agent's own, which therefore runs first.
otelagent.init(service_name="shop", quiet=True, **settings)
if end == "one by one":
    for number in range(10):
        work("span")
        deadline = time.monotonic() + 20
        while otelagent.status()["ledger"]["traces:other"]["delivered"] < spans * (number + 1):
            assert time.monotonic() < deadline
            time.sleep(0.005)
    assert otelagent.status()["ledger"]["traces"]["delivered"] == 0
elif end == "fork":
    work("parent")
    child = os.fork()
    if not child:
        work("child")
        otelagent.shutdown()
        tell("child")
        os._exit(0)
    os.waitpid(child, 0)
else:
    work("span")
if end == "term":
    os.kill(os.getpid(), signal.SIGTERM)
if end != "exit":
    otelagent.shutdown()
    tell("parent")
"""


def run(engine: str, end: str, spans: int = 3, **settings: Any) -> tuple[int, list[dict[str, Any]], float]:
    if engine == "native":
        native_or_skip()
    settings = {"retry_initial_backoff_ms": 10, "retry_max_backoff_ms": 20, "engine": engine, **settings}
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(settings), str(spans), end],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    statuses = [json.loads(line) for line in done.stdout.splitlines()]
    for status in statuses:
        assert all(ledger["balanced"] for ledger in status["ledger"].values()), status["ledger"]
    return done.returncode, statuses, time.monotonic() - begun


def spans_of(requests: list[dict[str, Any]]) -> list[str]:
    return [span for request in requests for span in request["spans"]]


@pytest.mark.parametrize("engine", ["sdk", "native"])
@pytest.mark.parametrize("dead", ["main", "other"])
@pytest.mark.parametrize("how", ["refuses", "stalls"])
@pytest.mark.parametrize(("end", "code"), [("shutdown", 0), ("exit", 0), ("term", -15)])
def test_at_the_end_of_a_process_the_living_one_gets_all_and_the_dead_ones_share_goes_to_disk(
    engine: str, dead: str, how: str, end: str, code: int
) -> None:
    with FaultServer("http", {"do": "stall"}) as stalling, FaultServer("http", {"status": 200}, spans=True) as live:
        places = {"refuses": "http://127.0.0.1:1", "stalls": f"http://127.0.0.1:{stalling.port}"}
        main, other = places[how], f"http://127.0.0.1:{live.port}"
        if dead == "other":
            main, other = other, main
        returned, statuses, took_s = run(
            engine, end, endpoint=main, destinations={"other": {"endpoint": other}}, exit_timeout_ms=1000
        )
        requests = live.stop()
    assert returned == code
    assert took_s < 10
    assert len(spans_of(requests)) == 3
    for status in statuses:
        keys = ["traces", "traces:other"] if dead == "main" else ["traces:other", "traces"]
        lost, whole = (status["ledger"][key] for key in keys)
        assert (lost["spooled"], lost["delivered"], lost["dropped"], lost["queued"]) == (3, 0, {}, 0)
        assert (whole["spooled"], whole["delivered"], whole["ended"]) == (0, 3, 3)
    assert len(statuses) == (0 if end == "term" else 1)


@pytest.mark.parametrize("engine", ["sdk", "native"])
def test_while_one_destination_stalls_the_other_has_each_batch_before_the_next_is_made(engine: str) -> None:
    with FaultServer("http", {"do": "stall"}) as dead, FaultServer("grpc", {}, spans=True) as live:
        _, (status,), _ = run(
            engine,
            "one by one",
            endpoint=f"http://127.0.0.1:{dead.port}",
            destinations={"other": {"endpoint": f"http://127.0.0.1:{live.port}", "protocol": "grpc"}},
            batch_schedule_delay_ms=20,
            exit_timeout_ms=500,
        )
        requests = live.stop()
    assert len(set(spans_of(requests))) == 30
    assert status["destinations"]["traces:other"] == f"http://127.0.0.1:{live.port}"
    assert status["ledger"]["traces"]["spooled"] == 30
    assert status["ledger"]["traces:other"]["delivered"] == 30


@pytest.mark.parametrize("engine", ["sdk", "native"])
def test_a_fork_has_both_destinations_and_sends_to_each_only_its_own(engine: str) -> None:
    with (
        FaultServer("http", {"status": 200}, spans=True) as one,
        FaultServer("http", {"status": 200}, spans=True) as two,
    ):
        _, statuses, _ = run(
            engine,
            "fork",
            endpoint=f"http://127.0.0.1:{one.port}",
            destinations={"other": {"endpoint": f"http://127.0.0.1:{two.port}"}},
            exit_timeout_ms=20_000,
        )
        sent = [spans_of(server.stop()) for server in (one, two)]
    assert [len(spans) for spans in sent] == [6, 6]
    assert set(sent[0]) == set(sent[1])
    assert sorted(status["who"] for status in statuses) == ["child", "parent"]
    for status in statuses:
        for ledger in status["ledger"].values():
            assert (ledger["ended"], ledger["delivered"], ledger["queued"]) == (3, 3, 0)
