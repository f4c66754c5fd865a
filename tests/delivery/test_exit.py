"""The end of a process, and calls from where one is rarely made; in interpreters of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import pytest

from tests.delivery.harness import FaultServer

PROLOGUE = """
import atexit, json, os, signal, sys, threading, time
from otelagent.delivery import Ledger, Destination, RetryPolicy
from otelagent.delivery.transports.http import HttpTransport
from tests.delivery.harness import otlp, payload

ledger = Ledger("traces")
destination = Destination(HttpTransport(otlp(sys.argv[1])), {"traces": ledger}, RetryPolicy(0.01, 0.02))

PAYLOADS = [payload(items) for items in range(4)]  # No handler may interrupt the import that this needs.

def submit(items=1):
    ledger.ended(items)
    destination.submit(PAYLOADS[items])

def tell():
    print(json.dumps({**ledger.snapshot().to_dict(), "waiting": destination.queued_items}), flush=True)

def finish(seconds=30.0):
    destination.shutdown(time.monotonic() + seconds)
    tell()
"""

PROGRAMS = {
    "atexit": "atexit.register(finish); submit(2)",
    "first payload in atexit": "atexit.register(lambda: (submit(2), finish()))",
    "after an exception": "atexit.register(finish); submit(2); raise ValueError",
    "flush in a signal handler": """
def handle(*_):
    submit()
    destination.flush(time.monotonic() + 5)
    signal.setitimer(signal.ITIMER_REAL, 0.0005)  # Not sooner, or handlers interrupt handlers without end.

signal.signal(signal.SIGALRM, handle)
signal.setitimer(signal.ITIMER_REAL, 0.001)
end = time.monotonic() + 1
while time.monotonic() < end:
    submit()
    destination.flush(time.monotonic() + 5)
signal.signal(signal.SIGALRM, signal.SIG_IGN)
finish()
""",
    "submit in a finalizer": """
class Node:
    def __init__(self):
        self.me = self
    def __del__(self):
        submit()
import gc
gc.set_threshold(5)
for _ in range(2000):
    Node()
    submit()
gc.collect()
finish()
""",
}


def run(program: str, endpoint: str) -> tuple[dict[str, Any], float, subprocess.CompletedProcess[str]]:
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PROLOGUE + program, endpoint], capture_output=True, text=True, timeout=60, check=False
    )
    took_s = time.monotonic() - begun
    assert done.stdout, done.stderr
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["balanced"]
    assert counts["waiting"] == counts["queued"] == 0
    return counts, took_s, done


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=list(PROGRAMS))
def test_everything_arrives(program: str) -> None:
    with FaultServer("http", {"status": 200, "quiet": True}) as server:
        counts, _, done = run(program, server.endpoint)
    assert counts["delivered"] == counts["ended"] >= 2
    assert done.returncode == ("raise" in program)
    assert "Fatal" not in done.stderr


def test_a_dead_backend_costs_no_more_than_the_budget() -> None:
    counts, took_s, done = run("submit(3); finish(0.5)", "http://127.0.0.1:1/v1/traces")
    assert counts["dropped"] == {"shutdown": 3}
    assert took_s < 5
    assert (
        done.stderr.count("otelagent: telemetry to http://127.0.0.1:1/v1/traces failed: connection: Connection refused")
        == 1
    )


def test_a_black_hole_costs_no_more_than_the_budget() -> None:
    with FaultServer("http", {"do": "stall"}) as server:
        counts, took_s, _ = run("submit(3); finish(0.5)", server.endpoint)
    assert counts["dropped"] == {"shutdown": 3}
    assert took_s < 5
