"""gevent, patched before and after the agent starts: the application's greenlets run, and everything is delivered."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.delivery.harness import FaultServer
from tests.support import run_program

pytest.importorskip("gevent")

# While it waits for what the agent sends, greenlets have to come to their turns.
PROGRAM = """
import os, time
{before}
import otelagent
otelagent.init(quiet=True)
from opentelemetry import trace
tracer = trace.get_tracer("test")
tracer.start_span("early").end()
{after}
import gevent

def work(number):
    for _ in range(20):
        with tracer.start_as_current_span("work"):
            gevent.sleep(0.01)

longest_s = 0.0

def tick():
    global longest_s
    last = time.monotonic()
    while True:
        gevent.sleep(0.01)
        longest_s, last = max(longest_s, time.monotonic() - last), time.monotonic()

ticking = gevent.spawn(tick)
gevent.joinall([gevent.spawn(work, number) for number in range(50)])
while otelagent.status()["ledger"]["traces"]["delivered"] < 512:
    gevent.sleep(0.01)
child = os.fork()
if not child:
    with tracer.start_as_current_span("child"):
        gevent.sleep(0.01)
    arrived = otelagent.flush()
    os._exit(0 if arrived and otelagent.status()["ledger"]["traces"]["delivered"] == 1 else 3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
ticking.kill()
assert otelagent.flush()
ledger = otelagent.status()["ledger"]["traces"]
assert ledger["balanced"] and ledger["delivered"] == ledger["ended"] == 1001, ledger
assert longest_s < 2, longest_s  # a thread of ours that became a greenlet stops all others for a batch's whole delay
"""
PATCH = "from gevent import monkey; monkey.patch_all()"


@pytest.mark.parametrize("protocol", ["http/protobuf", "grpc"])
@pytest.mark.parametrize(("before", "after"), [(PATCH, ""), ("", PATCH)], ids=["before", "after"])
def test_greenlets_go_on_and_all_is_delivered(protocol: str, before: str, after: str, tmp_path: Path) -> None:
    with FaultServer(protocol[:4], {"status": 200, "quiet": True, "delay_s": 0.3}) as server:
        outcome = run_program(
            tmp_path,
            PROGRAM.format(before=before, after=after),
            PYTHONWARNINGS="ignore",
            OTELAGENT_EXPORTER="otlp",
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{server.port}",
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
        )
    assert outcome.code == 0, outcome.err
