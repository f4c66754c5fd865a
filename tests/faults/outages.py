"""Faults of the backend: it is away, or asks to be left alone."""

from __future__ import annotations

import sys
import time
from email.utils import formatdate
from typing import Any

from backends import wait_for
from tests.delivery.harness import status_details
from tests.faults.bench import OK, Bench, BlackHole
from tests.faults.registry import fault

OUTAGE_S = 20.0
"""The ten minutes of the fault, scaled; the longest wait between two tries is scaled with it."""

WORKING = """
most = 0
for _ in range(25):
    agent.spans(40, per_s=40)
    if agent.ours:
        most = max(most, agent.ledger()["spooled"])
agent.say(most_on_disk=most)
agent.settle(40)
"""
"""Works for longer than the outage."""


@fault(1, "503 / no collector, 10 min (scaled: 20 s)", cases={"503": "http", "gRPC": "grpc"}, idle=True)
def unavailable(bench: Bench, protocol: str) -> None:
    server = bench.server({"status": 503, "code": "UNAVAILABLE"}, protocol=protocol)
    application = bench.start(WORKING, to=server, protocol=protocol, retry_max_backoff_ms=4000)
    time.sleep(OUTAGE_S)
    server.begin(OK)
    expect_on_disk(bench, application.wait(90))


@fault(1, cases={"no collector": None}, idle=True)
def no_collector(bench: Bench, _: None) -> None:
    # Killed between its file and its answer it gets the same again.
    bench.twice = True
    collector = bench.collector()
    bench.run("agent.spans(1); agent.settle()", to=collector)
    collector.kill()
    application = bench.start(WORKING, to=collector, retry_max_backoff_ms=4000)
    time.sleep(OUTAGE_S)
    collector.start()
    expect_on_disk(bench, application.wait(90))


def expect_on_disk(bench: Bench, told: dict[str, Any]) -> None:
    """That the spool was used."""
    if bench.otelagent:
        bench.expect(told.get("most_on_disk"), "nothing goes to disk")


@fault(
    2,
    "429 with Retry-After 30, gRPC RetryInfo 30",
    cases={
        "HTTP": ("http", {"status": 429, "headers": {"retry-after": "30"}}),
        "gRPC": ("grpc", {"code": "UNAVAILABLE", "status_details": status_details(30)}),
    },
    idle=True,
)
def throttled(bench: Bench, case: tuple[str, dict[str, Any]]) -> None:
    protocol, action = case
    server = bench.server(action, OK, protocol=protocol)
    bench.run("agent.spans(1000); agent.settle(60)", to=server, protocol=protocol, timeout_s=90.0)
    first, second = server.requests[:2]
    waited_s = second["at"] - first["at"]
    bench.expect(waited_s >= 30, f"comes back after {waited_s:.1f} s")


@fault(
    3,
    "Retry-After as a date, negative, NaN, 1e9",
    cases={"date": "date", "past date": "past", "negative": "-7", "NaN": "NaN", "garbage": "soon", "1e9": "1e9"},
)
def odd_retry_after(bench: Bench, form: str) -> None:
    now_s, begun = time.time(), time.monotonic()
    later_s = int(now_s) + 6
    value = {"date": formatdate(later_s, usegmt=True), "past": formatdate(now_s - 60, usegmt=True)}.get(form, form)
    server = bench.server({"status": 503, "headers": {"retry-after": value}}, OK)
    not_before = begun + later_s - now_s if form == "date" else 0.0
    if form == "1e9":
        # Nobody waits for the cap, five minutes, here: the process ends and leaves its spans to the next one.
        begun = time.monotonic()
        bench.run("agent.spans(1000); agent.flush(2)", to=server)
        took_s = time.monotonic() - begun
        bench.expect(took_s < 10, f"holds up the end for {took_s:.0f} s")
        bench.run(
            "agent.wait_for(lambda: agent.ours and agent.ledger()['delivered'] == 1000, 20 if agent.ours else 0)",
            to=server,
        )
        return
    bench.run("agent.spans(1000); agent.settle()", to=server)
    first, second = server.requests[:2]
    waited_s = second["at"] - first["at"]
    bench.expect(second["at"] >= not_before - 0.1, f"comes back {not_before - second['at']:.1f} s early")
    if form != "date":
        bench.expect(waited_s < 3, f"comes back after {waited_s:.1f} s")


LOST_SIGHT = """
agent.spans(1000)
if agent.ours:
    agent.flush(1)
    agent.wait_for(lambda: agent.status()["delivery"]["traces"]["breaker"] != "closed", 30)
else:
    agent.settle(30)
"""


@fault(11, "black hole: the circuit breaker opens", cases={"no packet": "hole", "no answer": "stall"}, idle=True)
def black_hole(bench: Bench, form: str) -> None:
    hole = BlackHole() if form == "hole" else None
    server = None if hole is not None else bench.server({"do": "stall"})
    to = hole.endpoint if hole is not None else server
    assert to is not None
    told = bench.run(LOST_SIGHT, to=to, timeout_ms=1000, retry_max_backoff_ms=1000)
    if hole is not None:
        hole.close()
        server = bench.server(OK, port=hole.port)
    assert server is not None
    server.begin(OK)
    if bench.otelagent:
        bench.expect(told["delivery"]["breaker"] != "closed", "the breaker stays closed")
        bench.expect(told["ledger"]["spooled"] == 1000, "not all is on disk")
        bench.run("agent.wait_for(lambda: agent.ledger()['delivered'] == 1000)", to=server)


TWO = """
agent.spans(1000)
agent.say(arrived=agent.wait_for(lambda: not agent.ours or agent.ledger({living!r})["delivered"] == 1000, 10))
agent.settle(3)
"""
THEN = """
agent.wait_for(lambda: agent.ledger({dead!r})["adopted"] == 1000)
agent.wait_for(lambda: not agent.waiting())
"""


@fault(
    15,
    "two destinations, one dead",
    cases={"main": ("", False), "other": ("other", False), "other stalls": ("other", True)},
    idle=True,
)
def one_dead(bench: Bench, case: tuple[str, bool]) -> None:
    dead_one, stalls = case
    bench.destinations = 2
    living, dead = bench.server(OK), bench.server({"do": "stall"})
    if not stalls:
        dead.stop()
    main, other = (living, dead) if dead_one else (dead, living)
    settings: dict[str, Any] = {"to": main, "destinations": {"other": {"endpoint": other.endpoint}}}
    told = bench.run(TWO.format(living="" if dead_one else "other"), **settings)
    bench.expect(told.get("arrived"), "the living one has to wait")
    if dead.running:
        dead.begin(OK)
    else:
        bench.server(OK, port=dead.port)
    if bench.otelagent:
        bench.run(THEN.format(dead=dead_one), **settings)


FLEET = """
import os, sys
sys.path.insert(0, os.getcwd())
from tests.faults.application import prepare, start
prepare()
ready, go = os.pipe(), os.pipe()
children = []
for _ in range(100):
    pid = os.fork()
    if not pid:
        os.close(go[1])
        agent = start()
        os.write(ready[1], b"x")
        os.read(go[0], 1)  # Until the parent closes it.
        agent.spans(3)
        agent.settle(30)
        agent.end()
        os._exit(0)
    children.append(pid)
for _ in children:
    os.read(ready[0], 1)
os.close(go[1])
for pid in children:
    os.waitpid(pid, 0)
"""


@fault(16, "100 agents restart: retry times spread", cases={"503": {}, "Retry-After 2": {"retry-after": "2"}})
def fleet(bench: Bench, headers: dict[str, str]) -> None:
    server = bench.server({"status": 503, "headers": headers})
    path = bench.directory / "fleet.py"
    path.write_text(FLEET)
    application = bench.command([sys.executable, str(path)], to=server)
    wait_for(
        lambda: len({tuple(request["spans"]) for request in server.requests}) >= 100, 60, what="a first try of all"
    )
    server.begin(OK)
    application.wait(90)
    tries: dict[tuple[str, ...], list[float]] = {}
    for request in server.requests:
        tries.setdefault(tuple(request["spans"]), []).append(request["at"])
    waits_s = sorted(at[1] - at[0] for at in tries.values() if len(at) > 1)
    bench.expect(len(waits_s) == 100, f"only {len(waits_s)} come back")
    together = max((sum(one <= other < one + 0.1 for other in waits_s) for one in waits_s), default=0)
    bench.expect(together <= 30, f"{together} of {len(waits_s)} come back within 100 ms")
    if headers and waits_s:
        bench.expect(waits_s[0] >= 2, f"comes back after {waits_s[0]:.1f} s")
